//! With libtorrent (PyPI), in one DHT with grapes.

use crate::{
    peers::{Peer, announced, found, puts, signed, value},
    support::{Grape, eventually, vintner_grape},
};
use serde_json::json;
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

/// Names that this DHT has in common with BitTorrent's have twenty bytes.
pub const NAME: &str = "exactly:twenty:bytes";

/// Three of our grapes that know each other.
pub async fn ring() -> [Grape; 3] {
    let first = vintner_grape(&[], &["-b", "127.0.0.1"]).await;
    let second = vintner_grape(&[first.bootstrap()], &["-b", "127.0.0.1"]).await;
    let third = vintner_grape(&[first.bootstrap(), second.bootstrap()], &["-b", "127.0.0.1"]).await;
    [first, second, third]
}

/// Statement 1, 5, 6, 7, 13: a libtorrent session joins through ours by its pings and `find_node`, and each finds what the other
/// announced under a name of twenty bytes.
#[tokio::test]
async fn libtorrent_and_ours_find_what_the_other_announced() {
    let ours = ring().await;
    let mut libtorrent = Peer::libtorrent(&[ours[0].bootstrap()]).await;
    let hash = encode_hex(NAME.as_bytes());
    libtorrent.ask(json!({"do": "announce", "hash": hash, "port": 1337})).await;
    for grape in &ours {
        eventually(grape.http, "lookup", json!(NAME), |answer| answer.json() == json!(["127.0.0.1:1337"]))
            .await;
    }
    let other = "ours:twenty:bytes:20";
    announced(&ours[2], other, 1338).await;
    let lookup = json!({"do": "lookup", "hash": encode_hex(other.as_bytes())});
    libtorrent.until(lookup, |answer| answer["peers"] == json!(["127.0.0.1:1338"])).await;
}

/// Statement 17, 26: libtorrent and ours read each other's values, with nodes beside them.
#[tokio::test]
async fn libtorrent_and_ours_read_what_the_other_put() {
    let ours = ring().await;
    let mut libtorrent = Peer::libtorrent(&[ours[0].bootstrap()]).await;

    let put =
        libtorrent.until(json!({"do": "put", "text": "from libtorrent"}), |put| put["stored_on"] != 0).await;
    assert_eq!(value(&ours[1], put["target"].clone()).await["v"], "from libtorrent");
    let target = puts(&ours[2], json!({"v": "from ours"})).await;
    libtorrent.until(json!({"do": "get", "target": target}), |got| got["text"] == "from ours").await;
}

/// Statement 20, 24, 25, 26: libtorrent and ours verify each other's signed values, salted or not, and each reads the newest.
#[tokio::test]
async fn libtorrent_and_ours_verify_what_the_other_signed_with_salt_and_without() {
    let ours = ring().await;
    let mut libtorrent = Peer::libtorrent(&[ours[0].bootstrap()]).await;
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
        puts(&ours[2], signed(n as u8 + 1, seq, "ours", salt).0).await;
        let get = json!({"do": "get_signed", "key": key, "salt": salt});
        let got = libtorrent.until(get, |got| got["seq"] == json!(seq)).await;
        assert_eq!(got["text"], "ours");
    }
}

/// Statement 3, 13, 27: ours joins through a libtorrent session and stores on it alone; another of ours, which knows nobody else,
/// finds it all there.
#[tokio::test]
async fn libtorrent_keeps_what_ours_announced_and_put_when_ours_is_gone() {
    let others = ring().await;
    let libtorrent = Peer::libtorrent(&[others[0].bootstrap()]).await;
    drop(others);
    let through = [format!("127.0.0.1:{}", libtorrent.dht)];

    let writer = vintner_grape(&through, &[]).await;
    announced(&writer, NAME, 1337).await;
    let target = puts(&writer, json!({"v": "kept by libtorrent"})).await;
    let (data, signed_target) = signed(9, 3, "signed, and kept by libtorrent", "salt");
    assert_eq!(puts(&writer, data).await, signed_target);
    assert!(writer.process.terminate().await.success());

    let reader = vintner_grape(&through, &[]).await;
    found(&reader, NAME, 1337).await;
    assert_eq!(value(&reader, json!(target)).await["v"], "kept by libtorrent");
    let got = value(&reader, json!({"hash": signed_target, "salt": "salt"})).await;
    assert_eq!((&got["v"], &got["seq"]), (&json!("signed, and kept by libtorrent"), &json!(3)));
}
