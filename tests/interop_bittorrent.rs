//! With other BitTorrent DHT nodes that we did not write: libtorrent (PyPI) and the `mainline` crate, in one DHT with grapes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use ed25519_dalek::SigningKey;
use mainline::{Dht, Id, MutableItem};
use serde_json::{Value, json};
use std::{net::SocketAddrV4, path::Path, time::Duration};
use support::{Grape, Process, eventually, grape, stock_grape, vintner_grape};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

/// Names that this DHT has in common with BitTorrent's have twenty bytes.
const NAME: &str = "exactly:twenty:bytes";

/// Three of our grapes that know each other.
async fn ring() -> [Grape; 3] {
    let first = vintner_grape(&[], &["-b", "127.0.0.1"]).await;
    let second = vintner_grape(&[first.bootstrap()], &["-b", "127.0.0.1"]).await;
    let third = vintner_grape(&[first.bootstrap(), second.bootstrap()], &["-b", "127.0.0.1"]).await;
    [first, second, third]
}

/// A libtorrent session; see `tests/peers/libtorrent_peer.py`.
struct Libtorrent {
    process: Process,
    commands: u64,
}

impl Libtorrent {
    async fn start(bootstrap: &[String]) -> Self {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        let python = peers.join(".venv/bin/python");
        assert!(
            python.is_file(),
            "libtorrent is not installed: run tests/peers/install.sh (make test does it by itself)"
        );
        let mut command = tokio::process::Command::new(python);
        let mut process =
            Process::start("libtorrent", command.arg(peers.join("libtorrent_peer.py")).args(bootstrap));
        process.event("ready").await;
        let mut session = Self { process, commands: 0 };
        // It answers for others only once it knows somebody.
        while session.ask(json!({"do": "nodes"})).await["nodes"] == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        session
    }

    async fn ask(&mut self, mut command: Value) -> Value {
        self.commands += 1;
        command["n"] = self.commands.into();
        self.process.write_line(&command.to_string()).await;
        let answer: Value = serde_json::from_str(&self.process.line().await).unwrap();
        assert_eq!(answer["n"], command["n"]);
        answer
    }

    /// Asks until `good` says so: what the DHT knows takes a moment to arrive.
    async fn until(&mut self, command: Value, good: impl Fn(&Value) -> bool) -> Value {
        let started = std::time::Instant::now();
        loop {
            let answer = self.ask(command.clone()).await;
            if good(&answer) {
                return answer;
            }
            assert!(started.elapsed() < support::PATIENCE, "{command} still answers {answer}");
        }
    }
}

/// The `data` of a put, signed by a key of this test.
fn signed(seed: u8, seq: i64, text: &str, salt: &str) -> Value {
    let key = KeyPair::from_seed(&[seed; 32]);
    let item = VerifiedItem::sign(&key, salt.as_bytes(), seq, bencode_bytes(text.as_bytes())).unwrap();
    let mut data = json!({"v": text, "k": item.k.to_string(), "sig": encode_hex(&item.sig.0), "seq": seq});
    if !salt.is_empty() {
        data["salt"] = salt.into();
    }
    data
}

/// Asks a grape until it has a value under `data`, and gives it.
async fn value(grape: &Grape, data: Value) -> Value {
    eventually(grape.http, "get", data, |answer| answer.status == 200 && !answer.body.is_empty()).await.json()
}

async fn puts(grape_: &Grape, data: Value) -> String {
    let answer = grape(grape_.http, "put", data).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn libtorrent_and_ours_find_what_the_other_announced() {
    let ours = ring().await;
    let mut libtorrent = Libtorrent::start(&[ours[0].bootstrap()]).await;
    let hash = encode_hex(NAME.as_bytes());
    libtorrent.ask(json!({"do": "announce", "hash": hash, "port": 1337})).await;
    for grape in &ours {
        eventually(grape.http, "lookup", json!(NAME), |answer| answer.json() == json!(["127.0.0.1:1337"]))
            .await;
    }
    let other = "ours:twenty:bytes:20";
    eventually(ours[2].http, "announce", json!([other, 1338]), |answer| {
        answer.json().as_u64().is_some_and(|n| n >= 1)
    })
    .await;
    let lookup = json!({"do": "lookup", "hash": encode_hex(other.as_bytes())});
    libtorrent.until(lookup, |answer| answer["peers"] == json!(["127.0.0.1:1338"])).await;
}

#[tokio::test]
async fn libtorrent_and_ours_read_what_the_other_put() {
    let ours = ring().await;
    let mut libtorrent = Libtorrent::start(&[ours[0].bootstrap()]).await;

    let put =
        libtorrent.until(json!({"do": "put", "text": "from libtorrent"}), |put| put["stored_on"] != 0).await;
    assert_eq!(value(&ours[1], put["target"].clone()).await["v"], "from libtorrent");
    let target = puts(&ours[2], json!({"v": "from ours"})).await;
    libtorrent.until(json!({"do": "get", "target": target}), |got| got["text"] == "from ours").await;
}

#[tokio::test]
async fn libtorrent_and_ours_verify_what_the_other_signed_with_salt_and_without() {
    let ours = ring().await;
    let mut libtorrent = Libtorrent::start(&[ours[0].bootstrap()]).await;
    for (n, salt) in ["", "salt"].into_iter().enumerate() {
        let seed = [n as u8 + 1; 32];
        let key = KeyPair::from_seed(&seed).public().to_string();
        let put = json!({"do": "put_signed", "seed": encode_hex(&seed), "key": key, "text": "theirs", "salt": salt});
        let put = libtorrent.until(put, |put| put["stored_on"] != 0).await;
        let item =
            VerifiedItem::sign(&KeyPair::from_seed(&seed), salt.as_bytes(), 0, bencode_bytes(b"")).unwrap();
        let hash = item.target();
        let got = value(&ours[1], json!({"hash": hash.to_string(), "salt": salt})).await;
        assert_eq!(
            (&got["v"], &got["k"], &got["seq"]),
            (&json!("theirs"), &json!(key), &put["seq"]),
            "{salt:?}"
        );

        // A later version of ours, by the same key, is the one that libtorrent reads.
        let seq = got["seq"].as_i64().unwrap() + 5;
        puts(&ours[2], signed(n as u8 + 1, seq, "ours", salt)).await;
        let get = json!({"do": "get_signed", "key": key, "salt": salt});
        let got = libtorrent.until(get, |got| got["seq"] == json!(seq)).await;
        assert_eq!(got["text"], "ours");
    }
}

/// A `mainline` client that has joined through a grape. It blocks; the grapes are processes of their own.
#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
fn mainline(bootstrap: &Grape) -> Dht {
    let dht = Dht::builder().bootstrap(&[bootstrap.bootstrap()]).build().unwrap();
    assert!(dht.bootstrapped(), "a mainline client joins through ours");
    dht
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
async fn a_mainline_client_works_through_ours() {
    let ours = ring().await;
    let dht = mainline(&ours[0]);

    // Values without a key, both ways.
    let id = dht.put_immutable(b"from mainline").unwrap();
    assert_eq!(value(&ours[1], json!(id.to_string())).await["v"], "from mainline");
    let target: Id = puts(&ours[2], json!({"v": "from ours"})).await.parse().unwrap();
    assert_eq!(dht.get_immutable(target).as_deref(), Some(&b"from ours"[..]));

    // With a key: the newest version wins, an older one is refused, and `cas` decides between equal ones.
    for (n, salt) in [None, Some(&b"salt"[..])].into_iter().enumerate() {
        let key = SigningKey::from_bytes(&[n as u8 + 10; 32]);
        let item = MutableItem::new(key.clone(), b"v1", 1, salt);
        dht.put_mutable(item.clone(), None).unwrap();
        let salt_text = String::from_utf8(salt.unwrap_or_default().to_vec()).unwrap();
        let hash = json!({"hash": item.target().to_string(), "salt": salt_text});
        assert_eq!(value(&ours[1], hash).await["seq"], 1);
        puts(&ours[2], signed(n as u8 + 10, 7, "v7", &salt_text)).await;
        let public = key.verifying_key().to_bytes();
        let newest = dht.get_mutable_most_recent(&public, salt).unwrap();
        assert_eq!((newest.seq(), newest.value()), (7, &b"v7"[..]));
        let stale = MutableItem::new(key.clone(), b"v5", 5, salt);
        assert!(dht.put_mutable(stale, None).is_err(), "an older version is refused");
        let next = MutableItem::new(key, b"v8", 8, salt);
        assert!(dht.put_mutable(next.clone(), Some(3)).is_err(), "another cas is refused");
        dht.put_mutable(next, Some(7)).unwrap();
    }

    // Names, both ways.
    let id = Id::from_bytes(NAME).unwrap();
    dht.announce_peer(id, Some(1337)).unwrap();
    eventually(ours[1].http, "lookup", json!(NAME), |answer| answer.json() == json!(["127.0.0.1:1337"]))
        .await;
    let other = "ours:twenty:bytes:20";
    eventually(ours[2].http, "announce", json!([other, 1338]), |answer| {
        answer.json().as_u64().is_some_and(|n| n >= 1)
    })
    .await;
    let peers: Vec<SocketAddrV4> = dht.get_peers(Id::from_bytes(other).unwrap()).flatten().collect();
    assert!(peers.contains(&"127.0.0.1:1338".parse().unwrap()), "{peers:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
async fn a_mainline_client_and_a_stock_grape_meet_through_ours() {
    let ours = ring().await;
    let stock = stock_grape(&[ours[0].bootstrap()]).await;
    let id = Id::from_bytes(NAME).unwrap();
    mainline(&ours[1]).announce_peer(id, Some(1337)).unwrap();
    eventually(stock.http, "lookup", json!(NAME), |answer| answer.json() == json!(["127.0.0.1:1337"])).await;
    let item = MutableItem::new(SigningKey::from_bytes(&[20; 32]), b"from mainline", 1, None);
    mainline(&ours[2]).put_mutable(item.clone(), None).unwrap();
    assert_eq!(value(&stock, json!(item.target().to_string())).await["v"], "from mainline");
}
