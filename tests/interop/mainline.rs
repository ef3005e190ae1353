//! With the `mainline` crate, as client and as server, in one DHT with grapes.

#![allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]

use crate::{
    bittorrent::{NAME, ring},
    peers::{announced, found, krpc, mainline_client, mainline_server, puts, signed, socket, value},
    support::{eventually, exchange, stock_grape, vintner_grape},
};
use ed25519_dalek::SigningKey;
use mainline::{Id, MutableItem};
use serde_json::json;
use std::net::SocketAddrV4;
use vintner::identity::decode_hex;

/// Statement 14, 18, 21, 23, 25, 26: a mainline client announces, finds, puts and gets through ours; it is told 205, 302 and 301
/// where BEP44 says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_mainline_client_works_through_ours() {
    let ours = ring().await;
    let dht = mainline_client(&[ours[0].bootstrap()]);

    // Values without a key, both ways.
    let id = dht.put_immutable(b"from mainline").unwrap();
    assert_eq!(value(&ours[1], json!(id.to_string())).await["v"], "from mainline");
    let target: Id = puts(&ours[2], json!({"v": "from ours"})).await.parse().unwrap();
    assert_eq!(dht.get_immutable(target).as_deref(), Some(&b"from ours"[..]));
    let longest = dht.put_immutable(&[b'x'; 1000]).unwrap();
    assert_eq!(value(&ours[1], json!(longest.to_string())).await["v"], "x".repeat(1000));
    assert!(dht.put_immutable(&[b'x'; 1001]).is_err(), "a longer one is refused");

    // With a key: the newest version wins, an older one is refused, and `cas` decides between equal ones.
    for (n, salt) in [None, Some(&b"salt"[..])].into_iter().enumerate() {
        let key = SigningKey::from_bytes(&[n as u8 + 10; 32]);
        let item = MutableItem::new(key.clone(), b"v1", 1, salt);
        dht.put_mutable(item.clone(), None).unwrap();
        let salt_text = String::from_utf8(salt.unwrap_or_default().to_vec()).unwrap();
        let hash = json!({"hash": item.target().to_string(), "salt": salt_text});
        assert_eq!(value(&ours[1], hash).await["seq"], 1);
        puts(&ours[2], signed(n as u8 + 10, 7, "v7", &salt_text).0).await;
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
    announced(&ours[2], other, 1338).await;
    let peers: Vec<SocketAddrV4> = dht.get_peers(Id::from_bytes(other).unwrap()).flatten().collect();
    assert!(peers.contains(&"127.0.0.1:1338".parse().unwrap()), "{peers:?}");
}

/// Statement 14: a stock grape finds what a mainline client announced and put, because ours answers both.
#[tokio::test(flavor = "multi_thread")]
async fn a_mainline_client_and_a_stock_grape_meet_through_ours() {
    let ours = ring().await;
    let stock = stock_grape(&[ours[0].bootstrap()]).await;
    let id = Id::from_bytes(NAME).unwrap();
    mainline_client(&[ours[1].bootstrap()]).announce_peer(id, Some(1337)).unwrap();
    eventually(stock.http, "lookup", json!(NAME), |answer| answer.json() == json!(["127.0.0.1:1337"])).await;
    let item = MutableItem::new(SigningKey::from_bytes(&[20; 32]), b"from mainline", 1, None);
    mainline_client(&[ours[2].bootstrap()]).put_mutable(item.clone(), None).unwrap();
    assert_eq!(value(&stock, json!(item.target().to_string())).await["v"], "from mainline");
}

/// Statement 3, 27: ours joins through a mainline server, which answers transaction ids of four bytes only, and stores there,
/// because our puts name their target.
#[tokio::test(flavor = "multi_thread")]
async fn a_mainline_server_keeps_what_ours_announces_and_puts() {
    let server = mainline_server(&[]);
    let port = server.info().local_addr().port();
    let ours = vintner_grape(&[format!("127.0.0.1:{port}")], &["-b", "127.0.0.1"]).await;
    announced(&ours, NAME, 1337).await;
    let target = puts(&ours, json!({"v": "from ours"})).await;
    let (data, signed_target) = signed(30, 4, "signed by ours", "salt");
    assert_eq!(puts(&ours, data).await, signed_target);

    let socket = socket();
    let ask = |method: &str, key: &str, value: &[u8]| {
        let mut query = b"d1:ad2:id20:iiiiiiiiiiiiiiiiiiii".to_vec();
        query.extend_from_slice(format!("{}:{key}{}:", key.len(), value.len()).as_bytes());
        query.extend_from_slice(value);
        query.extend_from_slice(format!("e1:q{}:{method}2:roi1e1:t4:abcd1:y1:qe", method.len()).as_bytes());
        String::from_utf8_lossy(&krpc(&socket, port, &query)).into_owned()
    };
    let peers = ask("get_peers", "info_hash", NAME.as_bytes());
    assert!(peers.contains("6:valuesl6:"), "{peers}");
    let hash = |text: &str| decode_hex::<20>(text).unwrap();
    assert!(ask("get", "target", &hash(&target)).contains("1:v9:from ours"));
    assert!(ask("get", "target", &hash(&signed_target)).contains("1:v14:signed by ours"));
    // And what the server itself announces is found by ours.
    server.announce_peer(Id::from_bytes("theirs:twenty:bytes!").unwrap(), Some(1338)).unwrap();
    found(&ours, "theirs:twenty:bytes!", 1338).await;
}

/// Statement 29: a mainline client, which says `ro: 1`, is served and never counted among the nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_mainline_client_does_not_enter_the_table() {
    let ours = ring().await;
    let dht = mainline_client(&[ours[0].bootstrap()]);
    for n in 0..20u8 {
        dht.put_immutable(&[n]).unwrap();
    }
    for grape in &ours {
        let page = exchange(grape.http, "GET /metrics HTTP/1.1", "").await.body;
        let nodes = page.lines().find_map(|line| line.strip_prefix("vintner_dht_nodes{state=\"good\"} "));
        assert_eq!(nodes, Some("2"), "{page}");
    }
}
