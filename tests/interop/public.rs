//! The rules of the public network, and IPv6, with libtorrent, which is what most of that network runs.

use crate::peers::Peer;
use serde_json::json;
use sha1::{Digest, Sha1};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    dht::{Dht, DhtConfig, GetMode, Item, Put},
    identity::{KeyPair, encode_hex},
    workers::Workers,
};

async fn node(change: impl Fn(&mut DhtConfig)) -> Dht {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut config = DhtConfig::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), Vec::new(), seed);
    change(&mut config);
    Dht::start(config, Workers::start(1).unwrap()).await.unwrap()
}

/// A lookup until it finds what it should.
async fn finds(dht: &Dht, name: &[u8], expected: &[SocketAddr]) {
    let look = async {
        loop {
            let mut found = dht.lookup(name).await.unwrap();
            found.sort();
            if found == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("never found");
}

#[tokio::test]
async fn by_the_rules_of_the_public_network_any_name_is_found_by_libtorrent_and_the_other_way_round() {
    let first = node(|config| config.mainline = true).await;
    let bootstrap = first.local_addr().to_string();
    let second = node(|config| (config.mainline, config.bootstrap) = (true, vec![bootstrap.clone()])).await;
    let mut libtorrent = Peer::libtorrent(&[bootstrap.clone()]).await;

    let name = b"rest:util:net";
    let hash = encode_hex(&Sha1::digest(name));
    second.keep_announced(name, 1337).await.unwrap();
    let lookup = json!({"do": "lookup", "hash": hash});
    libtorrent.until(lookup, |answer| answer["peers"] == json!(["127.0.0.1:1337"])).await;

    let other = b"a much longer name than twenty bytes";
    libtorrent.ask(json!({"do": "announce", "hash": encode_hex(&Sha1::digest(other)), "port": 1338})).await;
    for dht in [&first, &second] {
        finds(dht, other, &["127.0.0.1:1338".parse().unwrap()]).await;
    }
}

#[tokio::test]
async fn over_ipv6_libtorrent_and_ours_find_what_the_other_announced_and_put() {
    let first = node(|config| config.ipv6 = Some(Ipv6Addr::LOCALHOST)).await;
    let over_v6 = first.local_addr6().unwrap().to_string();
    let join = |config: &mut DhtConfig| {
        (config.ipv6, config.bootstrap) = (Some(Ipv6Addr::LOCALHOST), vec![over_v6.clone()]);
    };
    let second = node(join).await;
    let mut libtorrent = Peer::libtorrent(&[over_v6.clone()]).await;

    let (name, other) = (b"exactly:twenty:bytes", b"other:twenty:bytes:x");
    second.keep_announced(name, 1337).await.unwrap();
    let lookup = json!({"do": "lookup", "hash": encode_hex(name)});
    libtorrent.until(lookup, |answer| answer["peers"] == json!(["::1:1337"])).await;
    libtorrent.ask(json!({"do": "announce", "hash": encode_hex(other), "port": 1338})).await;
    finds(&second, other, &["[::1]:1338".parse().unwrap()]).await;

    let item = VerifiedItem::sign(&KeyPair::from_seed(&[7; 32]), b"", 1, bencode_bytes(b"ours")).unwrap();
    second.put(Put::Mutable { item: item.clone(), cas: None }).await.unwrap();
    let get = json!({"do": "get_signed", "key": item.k.to_string()});
    libtorrent.until(get, |got| got["text"] == "ours").await;
    let put = libtorrent.until(json!({"do": "put", "text": "theirs"}), |put| put["stored_on"] != 0).await;
    let target = put["target"].as_str().unwrap().parse().unwrap();
    let found = second.get(target, b"", GetMode::Network).await.unwrap().unwrap();
    assert_eq!(found.item, Item::Immutable(bencode_bytes(b"theirs")));
}
