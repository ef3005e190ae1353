//! One ring of twelve: four stock grapes (two of them verify signatures), four of ours, two libtorrent sessions and two mainline
//! servers. Everybody announces a name and puts a value and a signed value; everybody finds what each of the others did.
//!
//! What the protocols do not allow, and what the test expects there instead, is [`barrier`]. Two more things keep
//! nobody from anything, because what one node lacks another has:
//!
//! - A mainline server answers transaction ids of four bytes only, and grapes and libtorrent send two. So these store nothing on
//!   it and read nothing from it; ours does both. A stock grape waits two seconds for it at each new target.
//! - A stock grape without `verify` stores no signed value. It passes one on to the others all the same.

use crate::{
    peers::{Peer, mainline_server},
    support::{Grape, exchange, grape, stock_grape, stock_grape_with, vintner_grape},
};
use ed25519_dalek::SigningKey;
use mainline::{Dht, Id, MutableItem};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::{JoinSet, block_in_place};
use vintner::{
    bep44::{Target, VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

/// The longest that one of our grapes may take to look something up, whoever else is mute.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// How long what one did may take to be seen by all: a stock grape waits two seconds for each mute node, libtorrent up to 15.
const PATIENCE: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Verifying,
    Plain,
    Libtorrent,
    Mainline,
}

/// What a member did, or another looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// It announced a service under a name of twenty bytes.
    Announced,
    /// The same, under a shorter name.
    AnnouncedShort,
    Put,
    Signed,
}

const DEEDS: [Deed; 4] = [Deed::Announced, Deed::AnnouncedShort, Deed::Put, Deed::Signed];

/// What the protocols keep from a member, as maker or as reader.
fn barrier(deed: Deed, kind: Kind, reads: bool) -> Option<&'static str> {
    match (deed, kind) {
        (Deed::AnnouncedShort, Kind::Libtorrent | Kind::Mainline) => {
            Some("to BitTorrent an info hash has twenty bytes: there are no other names")
        }
        (Deed::Signed, Kind::Plain) if reads => Some("a stock grape without `verify` believes no signature"),
        _ => None,
    }
}

enum Access {
    Http(Grape),
    Lines(Peer),
    Crate(Dht),
}

struct Member {
    n: u8,
    kind: Kind,
    access: Access,
}

/// Member `n`, as the others speak of it.
#[derive(Clone, Copy, Debug)]
struct Maker {
    n: u8,
    kind: Kind,
}

impl Maker {
    fn name(self, deed: Deed) -> String {
        if deed == Deed::Announced {
            format!("ring:of:twelve:{:05}", self.n)
        } else {
            format!("short:{}", self.n)
        }
    }

    fn port(self) -> u16 {
        5000 + u16::from(self.n)
    }

    fn text(self, deed: Deed) -> String {
        format!("{deed:?} by {:?} {}", self.kind, self.n)
    }

    fn seed(self) -> [u8; 32] {
        [100 + self.n; 32]
    }

    fn item(self) -> VerifiedItem {
        let v = bencode_bytes(self.text(Deed::Signed).as_bytes());
        VerifiedItem::sign(&KeyPair::from_seed(&self.seed()), b"", 1, v).unwrap()
    }

    /// Where what it put lives.
    fn target(self, deed: Deed) -> Target {
        match deed {
            Deed::Signed => self.item().target(),
            _ => Target::of_value(&bencode_bytes(self.text(deed).as_bytes())),
        }
    }

    /// What another should see of it: an address, or a text.
    fn trace(self, deed: Deed) -> String {
        match deed {
            Deed::Announced | Deed::AnnouncedShort => format!("127.0.0.1:{}", self.port()),
            Deed::Put | Deed::Signed => self.text(deed),
        }
    }
}

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
async fn http_sees(http: SocketAddr, reader: Kind, maker: Maker, deed: Deed) -> (Option<String>, Duration) {
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
struct Deadline(Instant);

impl Deadline {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn check(&self, what: impl FnOnce() -> String) {
        assert!(self.0.elapsed() < PATIENCE, "not in time: {}", what());
    }
}

/// How long a question took, and after what.
type Took = (Duration, String);

/// Asks a grape until it sees what a member did. Returns the slowest question.
async fn http_finds(http: SocketAddr, reader: Kind, maker: Maker, deed: Deed) -> Took {
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
async fn http_does(http: SocketAddr, maker: Maker, deed: Deed) {
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
async fn libtorrent_does_all(peer: &mut Peer, maker: Maker) {
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

async fn libtorrent_finds(peer: &mut Peer, maker: Maker, deed: Deed) {
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
fn mainline_does(dht: &Dht, maker: Maker, deed: Deed) {
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
fn mainline_finds(dht: &Dht, maker: Maker, deed: Deed) {
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

impl Member {
    fn maker(&self) -> Maker {
        Maker { n: self.n, kind: self.kind }
    }

    /// Announces, puts and signs, each until somebody took it.
    async fn act(mut self) -> Self {
        let me = self.maker();
        let deeds = DEEDS.into_iter().filter(|&deed| barrier(deed, me.kind, false).is_none());
        match &mut self.access {
            Access::Http(grape) => {
                for deed in deeds {
                    http_does(grape.http, me, deed).await;
                }
            }
            Access::Lines(peer) => libtorrent_does_all(peer, me).await,
            Access::Crate(dht) => block_in_place(|| deeds.for_each(|deed| mainline_does(dht, me, deed))),
        }
        self
    }

    /// Finds what all the others did, and not what it cannot see. Returns the slowest question of one of ours.
    async fn find_all(mut self, makers: Vec<Maker>) -> (Self, Took) {
        let me = self.kind;
        let others = makers.iter().filter(|maker| maker.n != self.n);
        let done = others.flat_map(|maker| DEEDS.map(|deed| (*maker, deed)));
        let done = done.filter(|(maker, deed)| barrier(*deed, maker.kind, false).is_none());
        let (visible, barred): (Vec<_>, Vec<_>) =
            done.partition(|(_, deed)| barrier(*deed, me, true).is_none());
        let mut slowest = Took::default();
        match &mut self.access {
            Access::Http(grape) => {
                let mut asking = JoinSet::new();
                for (maker, deed) in visible {
                    asking.spawn(http_finds(grape.http, me, maker, deed));
                    // A stock grape waits for the mute ones each time; it may do so for all of them at once.
                    if me == Kind::Ours {
                        slowest = slowest.max(asking.join_next().await.unwrap().unwrap());
                    }
                }
                asking.join_all().await;
                let blind: JoinSet<_> =
                    barred.into_iter().map(|(maker, deed)| http_sees(grape.http, me, maker, deed)).collect();
                assert!(blind.join_all().await.into_iter().all(|(seen, _)| seen.is_none()), "{me:?}");
            }
            Access::Lines(peer) => {
                for (maker, deed) in visible {
                    libtorrent_finds(peer, maker, deed).await;
                }
            }
            Access::Crate(dht) => block_in_place(|| {
                for (maker, deed) in visible {
                    mainline_finds(dht, maker, deed);
                }
            }),
        }
        (self, slowest)
    }
}

/// Starts the twelve; each of ours knows all the others when this returns.
async fn twelve() -> Vec<Member> {
    let loopback = ["-b", "127.0.0.1"];
    let first = vintner_grape(&[], &loopback).await;
    let second = vintner_grape(&[first.bootstrap()], &loopback).await;
    let known = [first.bootstrap(), second.bootstrap()];
    let mut all = vec![(Kind::Ours, Access::Http(first)), (Kind::Ours, Access::Http(second))];
    for _ in 0..2 {
        all.push((Kind::Ours, Access::Http(vintner_grape(&known, &loopback).await)));
        all.push((Kind::Verifying, Access::Http(stock_grape(&known).await)));
        all.push((Kind::Plain, Access::Http(stock_grape_with(&known, json!({})).await)));
        all.push((Kind::Libtorrent, Access::Lines(Peer::libtorrent(&known).await)));
        all.push((Kind::Mainline, Access::Crate(block_in_place(|| mainline_server(&known)))));
    }
    for (kind, access) in &all {
        let (Kind::Ours, Access::Http(grape)) = (kind, access) else { continue };
        let deadline = Deadline::start();
        loop {
            let page = exchange(grape.http, "GET /metrics HTTP/1.1", "").await.body;
            if page.contains("vintner_dht_nodes{state=\"good\"} 11\n") {
                break;
            }
            deadline.check(|| format!("one of ours knows everybody: {page}"));
            tokio::time::sleep(RETRY).await;
        }
    }
    all.into_iter().enumerate().map(|(n, (kind, access))| Member { n: n as u8, kind, access }).collect()
}

/// Statement 3, 12, 13, 14, 27, 37: in a ring of four stock grapes, four of ours, two libtorrent sessions and two mainline servers
/// everybody finds what each of the others announced, put and signed, as far as the protocols allow it, and no lookup of ours takes
/// a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_ring_of_twelve_everybody_finds_what_everybody_did() {
    let started = Instant::now();
    let members = twelve().await;
    let makers: Vec<Maker> = members.iter().map(Member::maker).collect();
    println!("{:?}: the ring is joined", started.elapsed());
    let acting: JoinSet<Member> = members.into_iter().map(Member::act).collect();
    let members = acting.join_all().await;
    println!("{:?}: all have announced and put", started.elapsed());
    let finding: JoinSet<_> = members.into_iter().map(|member| member.find_all(makers.clone())).collect();
    let (members, slowest): (Vec<Member>, Vec<Took>) = finding.join_all().await.into_iter().unzip();
    let (slowest, what) = slowest.into_iter().max().unwrap();
    println!(
        "{:?}: all have found all; the slowest lookup of ours took {slowest:?}: {what}",
        started.elapsed()
    );
    assert_eq!(members.len(), 12);
    assert!(slowest < LOOKUP_MAX, "a lookup of ours took {slowest:?}: {what}");
}
