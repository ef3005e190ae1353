//! With bittorrent-dht from npm, the library under a stock grape, as a node of its own.

use crate::{
    bittorrent::{NAME, ring},
    peers::{Peer, announced, found, puts, value},
};
use serde_json::json;
use vintner::identity::encode_hex;

/// Statement 1: the library's pings are answered, always under one id.
#[tokio::test]
async fn its_pings_are_answered_under_one_id() {
    let ours = ring().await;
    let mut library = Peer::library(&[ours[0].bootstrap()]).await;
    let mut ids = Vec::new();
    for grape in &ours {
        let ping = json!({"do": "ping", "node": grape.bootstrap()});
        let id = library.ask(ping.clone()).await["id"].clone();
        assert_eq!(id.as_str().map(str::len), Some(40));
        for _ in 0..3 {
            assert_eq!(library.ask(ping.clone()).await["id"], id);
        }
        assert!(!ids.contains(&id), "each has its own");
        ids.push(id);
    }
}

/// Statement 12: the library and ours find what the other announced, whatever the length of the name.
#[tokio::test]
async fn it_and_ours_find_what_the_other_announced() {
    let ours = ring().await;
    let mut library = Peer::library(&[ours[0].bootstrap()]).await;
    for (n, name) in ["B", "rest:util:net", NAME, &"long:".repeat(60)].into_iter().enumerate() {
        let (port, hash) = (2000 + n as u16, encode_hex(name.as_bytes()));
        let announcement = json!({"do": "announce", "hash": hash, "port": port});
        library.until(announcement, |answer| answer["nodes"] == 3).await;
        found(&ours[1], name, port).await;
        let name = format!("{name}:back");
        announced(&ours[2], &name, port).await;
        let lookup = json!({"do": "lookup", "hash": encode_hex(name.as_bytes())});
        library.until(lookup, |answer| answer["peers"] == json!([format!("127.0.0.1:{port}")])).await;
    }
}

/// Statement 17, 26: values of every type go from one library node to another over ours, and to our own readers.
#[tokio::test]
async fn its_values_of_every_type_are_kept_by_ours() {
    let ours = ring().await;
    let mut putter = Peer::library(&[ours[0].bootstrap()]).await;
    let mut reader = Peer::library(&[ours[2].bootstrap()]).await;
    for (v, shown) in [
        (json!("text"), "text"),
        (json!(""), ""),
        (json!(7), "7"),
        (json!(["a", 1, ["b"]]), "a,1,b"),
        (json!({"b": "x", "a": [1]}), "[object Object]"),
        (json!("x".repeat(999)), &*"x".repeat(999)),
    ] {
        let put =
            putter.until(json!({"do": "put", "v": v}), |put| put["stored_on"].as_u64() >= Some(3)).await;
        assert_eq!(reader.ask(json!({"do": "get", "target": put["target"]})).await["v"], v);
        assert_eq!(value(&ours[1], put["target"].clone()).await["v"], shown);
    }
}

/// Statement 19: the signed test vectors of BEP44, put through ours, are where it says, and the library verifies them.
#[tokio::test]
async fn it_verifies_the_test_vectors_that_ours_put() {
    let ours = ring().await;
    let mut library = Peer::library(&[ours[0].bootstrap()]).await;
    let k = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    let sig = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";
    let salted_sig = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";
    let v = "Hello World!";
    let vectors = [
        (json!({"v": v, "k": k, "sig": sig, "seq": 1}), "4a533d47ec9c7d95b1ad75f576cffc641853b750", ""),
        (
            json!({"v": v, "k": k, "sig": salted_sig, "seq": 1, "salt": "foobar"}),
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            "foobar",
        ),
        (json!({"v": v}), "e5f96f6f38320f0f33959cb4d3d656452117aadb", ""),
    ];
    for (data, target, salt) in vectors {
        assert_eq!(puts(&ours[1], data).await, target);
        let get = json!({"do": "get", "target": target, "salt": salt});
        library.until(get, |got| got["v"] == v).await;
    }
}

/// Statement 20, 21, 22, 23, 25: what the library signed is stored and found, and may be put again; a forged, an older and a contested
/// version are refused by all of ours with 206, 302 and 301.
#[tokio::test]
async fn its_signed_values_are_stored_and_its_bad_ones_refused() {
    let ours = ring().await;
    let mut library = Peer::library(&[ours[0].bootstrap()]).await;
    let put = |seq: i64, text: &str, more: serde_json::Value| {
        let mut command = json!({"do": "put", "seed": "33".repeat(32), "v": text, "seq": seq});
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    let stored = library.until(put(5, "five", json!({})), |put| put["stored_on"].as_u64() >= Some(3)).await;
    let again = library.ask(put(5, "five", json!({}))).await;
    assert_eq!(
        (&again["target"], &again["stored_on"]),
        (&stored["target"], &stored["stored_on"]),
        "a renewal"
    );
    for (command, code) in [
        (put(9, "nine", json!({"forged": true})), 206),
        (put(4, "four", json!({})), 302),
        (put(5, "other", json!({})), 302),
        (put(6, "six", json!({"cas": 3})), 301),
    ] {
        let refused = library.ask(command.clone()).await;
        assert!(refused["error"].is_string(), "{command}: {refused}");
        if (300..400).contains(&code) {
            assert_eq!(refused["code"], code, "{command}: {refused}");
        }
        for grape in &ours {
            let got = value(grape, json!({"hash": stored["target"], "cache": false})).await;
            assert_eq!((&got["v"], &got["seq"]), (&json!("five"), &json!(5)), "after {command}");
        }
    }
    library.until(put(6, "six", json!({"cas": 5})), |put| put["stored_on"].as_u64() >= Some(3)).await;
    let got = value(&ours[2], json!({"hash": stored["target"], "cache": false})).await;
    assert_eq!((&got["v"], &got["seq"]), (&json!("six"), &json!(6)));
}
