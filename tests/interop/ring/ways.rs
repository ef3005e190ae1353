//! How each kind of member does its deeds, and sees those of the others.

use super::{Deed, Kind, Maker, PATIENCE, RETRY};
use crate::{peers::Peer, support::grape};
use ed25519_dalek::SigningKey;
use mainline::{Dht, Id, MutableItem};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use vintner::identity::{KeyPair, encode_hex};

/// What a grape answers, and how much longer it took than a request beside it that needs nobody else: a busy machine delays both.
async fn asked(http: SocketAddr, operation: &str, data: Value) -> (Value, Duration) {
    let timed = async |operation: &str, data| {
        let started = Instant::now();
        (grape(http, operation, data).await, started.elapsed())
    };
    let ((answer, took), (_, idle)) = tokio::join!(timed(operation, data), timed("nothing", Value::Null));
    (if answer.body.is_empty() { Value::Null } else { answer.json() }, took.saturating_sub(idle))
}

/// What a grape sees of a deed: the only address, or the text; nothing when it sees none. And how long it took.
pub(super) async fn http_sees(
    http: SocketAddr,
    reader: Kind,
    maker: Maker,
    deed: Deed,
) -> (Option<String>, Duration) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match deed {
        Deed::Announced | Deed::AnnouncedShort => {
            let (found, took) = asked(http, "lookup", json!(maker.name(deed))).await;
            assert!(found.as_array().is_some_and(|peers| peers.len() <= 1), "{found}");
            (text(&found[0]), took)
        }
        Deed::Put | Deed::Signed => {
            // Ours is to ask the others, although it has a copy; `cache: false` would spoil the copy of a stock grape.
            let data = json!({"hash": maker.target(deed).to_string(), "cache": reader != Kind::Ours});
            let (found, took) = asked(http, "get", data).await;
            (text(&found["v"]), took)
        }
    }
}

/// Fails once it has taken longer than anything here may.
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn check(&self, what: impl FnOnce() -> String) {
        assert!(self.0.elapsed() < PATIENCE, "not in time: {}", what());
    }
}

/// How long a question took, and after what.
pub(super) type Took = (Duration, String);

/// Asks a grape until it sees what a member did. Returns the slowest question.
pub(super) async fn http_finds(http: SocketAddr, reader: Kind, maker: Maker, deed: Deed) -> Took {
    let (deadline, mut slowest) = (Deadline::start(), Took::default());
    loop {
        let (seen, took) = http_sees(http, reader, maker, deed).await;
        slowest = slowest.max((took, format!("{deed:?} by {maker:?}")));
        if seen == Some(maker.trace(deed)) {
            return slowest;
        }
        deadline.check(|| format!("{reader:?} sees {seen:?} instead of what {maker:?} {deed:?}"));
        tokio::time::sleep(RETRY).await;
    }
}

/// Does a deed through a grape until somebody took note.
pub(super) async fn http_does(http: SocketAddr, maker: Maker, deed: Deed) {
    let deadline = Deadline::start();
    loop {
        let done = match deed {
            Deed::Announced | Deed::AnnouncedShort => {
                let (count, _) = asked(http, "announce", json!([maker.name(deed), maker.port()])).await;
                count.as_u64().is_some_and(|count| count >= 1)
            }
            Deed::Put => {
                let (target, _) = asked(http, "put", json!({"v": maker.text(deed)})).await;
                target == maker.target(deed).to_string()
            }
            Deed::Signed => {
                let item = maker.item();
                let (k, sig) = (item.k.to_string(), encode_hex(&item.sig.0));
                let data = json!({"v": maker.text(deed), "k": k, "sig": sig, "seq": item.seq});
                asked(http, "put", data).await.0 == item.target().to_string()
            }
        };
        if done {
            return;
        }
        deadline.check(|| format!("{maker:?} {deed:?}"));
        tokio::time::sleep(RETRY).await;
    }
}

/// Announces, puts and signs. A put ends when the last mute node is given up, so both are under way at once.
pub(super) async fn libtorrent_does_all(peer: &mut Peer, maker: Maker) {
    let hash = encode_hex(maker.name(Deed::Announced).as_bytes());
    peer.ask(json!({"do": "announce", "hash": hash, "port": maker.port()})).await;
    let key = KeyPair::from_seed(&maker.seed()).public().to_string();
    let both = json!({
        "do": "put_both",
        "text": maker.text(Deed::Put),
        "signed_text": maker.text(Deed::Signed),
        "seed": encode_hex(&maker.seed()),
        "key": key,
    });
    let stored = |on: &Value| on.as_u64() >= Some(1);
    peer.until(both, |put| stored(&put["stored_on"]) && stored(&put["signed_stored_on"])).await;
}

pub(super) async fn libtorrent_finds(peer: &mut Peer, maker: Maker, deed: Deed) {
    let command = match deed {
        Deed::Announced | Deed::AnnouncedShort => {
            json!({"do": "lookup", "hash": encode_hex(maker.name(deed).as_bytes())})
        }
        Deed::Put => json!({"do": "get", "target": maker.target(deed).to_string()}),
        Deed::Signed => {
            json!({"do": "get_signed", "key": KeyPair::from_seed(&maker.seed()).public().to_string()})
        }
    };
    let deadline = Deadline::start();
    loop {
        let answer = peer.ask(command.clone()).await;
        if answer["text"] == maker.trace(deed) || answer["peers"] == json!([maker.trace(deed)]) {
            return;
        }
        deadline.check(|| format!("libtorrent sees {answer} instead of what {maker:?} {deed:?}"));
        tokio::time::sleep(RETRY).await;
    }
}

fn mainline_id(bytes: &[u8]) -> Id {
    Id::from_bytes(bytes).unwrap()
}

#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
pub(super) fn mainline_does(dht: &Dht, maker: Maker, deed: Deed) {
    let deadline = Deadline::start();
    loop {
        let done = match deed {
            Deed::Announced | Deed::AnnouncedShort => {
                dht.announce_peer(mainline_id(maker.name(deed).as_bytes()), Some(maker.port())).is_ok()
            }
            Deed::Put => dht.put_immutable(maker.text(deed).as_bytes()).is_ok(),
            Deed::Signed => {
                let key = SigningKey::from_bytes(&maker.seed());
                let item = MutableItem::new(key, maker.text(deed).as_bytes(), maker.item().seq, None);
                dht.put_mutable(item, None).is_ok()
            }
        };
        if done {
            return;
        }
        deadline.check(|| format!("{maker:?} {deed:?}"));
        std::thread::sleep(RETRY);
    }
}

#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
pub(super) fn mainline_finds(dht: &Dht, maker: Maker, deed: Deed) {
    let deadline = Deadline::start();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    loop {
        let seen = match deed {
            Deed::Announced | Deed::AnnouncedShort => {
                let peers = dht.get_peers(mainline_id(maker.name(deed).as_bytes())).flatten();
                peers.map(|peer| peer.to_string()).next()
            }
            Deed::Put => dht.get_immutable(mainline_id(&maker.target(deed).0)).as_deref().map(text),
            Deed::Signed => {
                let key = SigningKey::from_bytes(&maker.seed()).verifying_key().to_bytes();
                dht.get_mutable_most_recent(&key, None).map(|item| text(item.value()))
            }
        };
        if seen == Some(maker.trace(deed)) {
            return;
        }
        deadline.check(|| format!("mainline sees {seen:?} instead of what {maker:?} {deed:?}"));
        std::thread::sleep(RETRY);
    }
}
