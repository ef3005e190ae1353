//! Whole DHT networks on real sockets in one process.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};
use tokio::time::sleep;
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    dht::{Dht, DhtConfig, DhtError, DhtEvent, GetMode, Item, Put},
    identity::KeyPair,
    workers::Workers,
};

const LOOPBACK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

fn workers() -> Workers {
    Workers::start(1).unwrap()
}

fn config(listen: SocketAddrV4, bootstrap: &[SocketAddrV4]) -> DhtConfig {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    DhtConfig::new(listen, bootstrap.iter().map(ToString::to_string).collect(), seed)
}

async fn node(bootstrap: &[SocketAddrV4]) -> Dht {
    Dht::start(config(LOOPBACK, bootstrap), workers()).await.unwrap()
}

/// Waits until it holds, and fails after a time that no healthy network needs.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A network in which everybody knows as many others as there are, or a bucket full.
async fn network(size: usize) -> Vec<Dht> {
    let first = node(&[]).await;
    let bootstrap = [first.local_addr()];
    let mut all = vec![first];
    for _ in 1..size {
        all.push(node(&bootstrap).await);
    }
    for dht in &all {
        until("the network is joined", async || dht.status().nodes_good >= (size - 1).min(15)).await;
    }
    all
}

fn item(seed: u8, seq: i64, text: &str) -> VerifiedItem {
    VerifiedItem::sign(&KeyPair::from_seed(&[seed; 32]), b"", seq, bencode_bytes(text.as_bytes())).unwrap()
}

fn mutable(item: &VerifiedItem) -> Put {
    Put::Mutable { item: item.clone(), cas: None }
}

#[tokio::test]
async fn what_one_announces_the_others_find_and_hear() {
    let all = network(6).await;
    let mut events: Vec<_> = all.iter().map(Dht::events).collect();
    assert_eq!(all[1].announce(b"rest:util:net", 1337).await.unwrap(), 5);
    for dht in &all {
        assert_eq!(dht.lookup(b"rest:util:net").await.unwrap(), ["127.0.0.1:1337".parse().unwrap()]);
        assert_eq!(dht.lookup(b"rest:util:ne").await.unwrap(), []);
    }
    for (n, events) in events.iter_mut().enumerate().filter(|(n, _)| *n != 1) {
        let heard = async {
            loop {
                if let DhtEvent::Announce { name, from } = events.recv().await.unwrap() {
                    return (name, from);
                }
            }
        };
        let (name, from) = tokio::time::timeout(Duration::from_secs(1), heard).await.unwrap();
        assert_eq!((&name[..], from.port()), (&b"rest:util:net"[..], 1337), "{n}");
    }
}

#[tokio::test]
async fn fifty_nodes_find_what_one_announced_and_put() {
    let all = network(50).await;
    let named = b"NEW_OFFER:4a533d47ec9c7d95b1ad75f576cffc641853b750";
    assert!(all[7].announce(named, 4000).await.unwrap() >= 15);
    let put = item(1, 1, "an offer");
    assert!(all[9].put(mutable(&put)).await.unwrap().acked >= 15);
    for dht in &all {
        assert_eq!(dht.lookup(named).await.unwrap(), ["127.0.0.1:4000".parse().unwrap()]);
        let found = dht.get(put.target(), b"", GetMode::Network).await.unwrap().unwrap();
        assert_eq!(found.item, Item::Mutable(put.clone()));
    }
}

#[tokio::test]
async fn a_lone_node_says_that_it_is_alone_and_keeps_what_it_put() {
    let dht = node(&[]).await;
    until("ready", async || dht.status().bootstrapped).await;
    assert!(matches!(dht.announce(b"x", 1).await, Err(DhtError::NoNodes)));
    assert_eq!(dht.lookup(b"x").await.unwrap(), []);
    let put = item(1, 1, "mine");
    assert!(matches!(dht.put(mutable(&put)).await, Err(DhtError::NoNodes)));
    assert_eq!(dht.local(put.target()).await, Some(Item::Mutable(put)));
}
