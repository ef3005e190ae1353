//! Keeping and taking back, with real DHT nodes on loopback.

use super::*;
use crate::{
    bep44::{VerifiedItem, bencode_bytes},
    dht::{DhtConfig, GetMode, Item, Put},
    identity::KeyPair,
    workers::Workers,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

const AGE: Duration = Duration::from_mins(2);

/// A grape without HTTP.
struct Running {
    dht: Dht,
    keeper: Keeper,
}

async fn start(dir: &Path, more: impl FnOnce(&mut DhtConfig)) -> Running {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let state = State::open(dir, address.into(), AGE).unwrap();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut config = DhtConfig::new(address, Vec::new(), seed);
    config.node_id = state.node_id();
    config.host = Some(Ipv4Addr::LOCALHOST.into());
    more(&mut config);
    let dht = Dht::start(config, Workers::start(1).unwrap()).await.unwrap();
    let keeper = state.restore(&dht, address.into()).await.unwrap();
    Running { dht, keeper }
}

impl Running {
    async fn stop(self) {
        self.keeper.stop().await;
        self.dht.shutdown().await;
    }

    async fn holds(&self, item: &Item) -> bool {
        self.dht.local(item.target()).await.as_ref() == Some(item)
    }
}

fn value(n: usize) -> Item {
    Item::Immutable(bencode_bytes(&[&n.to_be_bytes()[..], &[b'x'; 900]].concat()))
}
fn signed(seq: i64) -> VerifiedItem {
    VerifiedItem::sign(&KeyPair::from_seed(&[1; 32]), b"salt", seq, bencode_bytes(b"value")).unwrap()
}
fn now_of(items: impl IntoIterator<Item = Item>) -> Vec<Stored> {
    items.into_iter().map(|item| Stored { what: StoredWhat::Item(item), age: Duration::ZERO }).collect()
}

#[tokio::test]
async fn a_grape_that_is_started_again_knows_what_it_knew() {
    let dir = tempfile::tempdir().unwrap();
    let grape = start(dir.path(), |_| {}).await;
    // Nobody is there to take note; the grape itself does.
    assert!(grape.dht.put(Put::Mutable { item: signed(3), cas: None }).await.is_err());
    assert!(grape.dht.announce(b"rest:util:net", 1337).await.is_err());
    grape.dht.restore_stored(now_of([value(1)])).await.unwrap();
    grape.stop().await;

    let grape = start(dir.path(), |_| {}).await;
    assert_eq!(grape.keeper.meter.restored.get(), 3);
    let found = grape.dht.get(signed(3).target(), b"salt", GetMode::LocalFirst).await.unwrap().unwrap();
    assert_eq!(found.item, Item::Mutable(signed(3)));
    assert!(grape.holds(&value(1)).await);
    assert_eq!(grape.dht.lookup(b"rest:util:net").await.unwrap(), ["127.0.0.1:1337".parse().unwrap()]);
    let (stored, _) = grape.dht.walk_stored(Walk::default(), 9).await.unwrap();
    assert!(stored.iter().all(|stored| stored.age < Duration::from_mins(1)), "{stored:?}");
    // What was taken back is not written again.
    assert_eq!(grape.keeper.meter.written.get(), 0);
    grape.stop().await;
}

#[tokio::test]
async fn two_grapes_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let grape = start(dir.path(), |_| {}).await;
    let second = State::open(dir.path(), ([0, 0, 0, 0], 1).into(), AGE);
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    grape.stop().await;
    assert!(State::open(dir.path(), ([0, 0, 0, 0], 1).into(), AGE).is_ok());
}

#[tokio::test]
async fn damage_costs_what_it_touches() {
    let dir = tempfile::tempdir().unwrap();
    let grape = start(dir.path(), |_| {}).await;
    grape.dht.restore_stored(now_of((0..100).map(value))).await.unwrap();
    grape.stop().await;
    let log = dir.path().join("state-0000000001.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[50_000..50_300].fill(0);
    bytes.truncate(90_000);
    fs::write(&log, bytes).unwrap();
    fs::write(dir.path().join("node"), "id nonsense").unwrap();

    let grape = start(dir.path(), |_| {}).await;
    let back = grape.keeper.meter.restored.get();
    assert!((92..=97).contains(&back), "{back} of the 98 that were not cut off are back");
    assert!(grape.keeper.meter.lost_bytes.get() > 900);
    grape.stop().await;
}

#[tokio::test]
async fn what_changes_often_is_written_in_bounds_and_the_log_anew_when_it_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let grape = start(dir.path(), |config| config.items_max = 10_000).await;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into();
    let elsewhere = tempfile::tempdir().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let mut writer = Writer {
        dht: grape.dht.clone(),
        dir: elsewhere.path().to_owned(),
        address,
        identity: Identity::default(),
        log: Some(Log::open(elsewhere.path()).unwrap()),
        walk: Walk::default(),
        anew: None,
        live_bytes: 0,
        anew_at: Instant::now(),
        own: Own::new(AGE),
        meter: Arc::default(),
        failing: false,
        stopped,
        _lock: DirLock::take(elsewhere.path()).unwrap(),
    };
    writer.own.announced(b"name", 5, unix_ms());
    let all = || now_of((0..2000).map(value));
    for _ in 0..12 {
        grape.dht.restore_stored(all()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        writer.round().await.unwrap();
    }
    let (rewritten, bytes) = (writer.meter.rewritten.get(), writer.meter.bytes.get());
    assert!(rewritten == 1, "{rewritten} times anew, {bytes} bytes");
    assert!(bytes < LOG_BYTES_FREE, "{bytes}");
    let records =
        writer.log.as_ref().unwrap().paths().into_iter().flat_map(|path| log::read(&path).unwrap().records);
    let (items, others): (Vec<_>, Vec<_>) =
        records.map(|(_, r)| r).partition(|r| matches!(r, Record::Item(_)));
    let distinct: std::collections::HashSet<_> = items
        .iter()
        .map(|r| if let Record::Item(item) = r { item.target() } else { unreachable!() })
        .collect();
    assert_eq!(
        (distinct.len(), others.len()),
        (2000, 1),
        "nothing that lives was lost, own announcements neither"
    );
    grape.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_does_not_stop_the_grape() {
    let dir = tempfile::tempdir().unwrap();
    let grape = start(dir.path(), |_| {}).await;
    // The next file's name is taken by something that is no file.
    fs::create_dir(dir.path().join("state-0000000001.log")).unwrap();
    grape.dht.restore_stored(now_of([value(1)])).await.unwrap();
    let meter = Arc::clone(&grape.keeper.meter);
    while meter.failures.get() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::remove_dir(dir.path().join("state-0000000001.log")).unwrap();
    grape.stop().await;
    let grape = start(dir.path(), |_| {}).await;
    assert!(grape.holds(&value(1)).await, "it was written once it could be");
    grape.stop().await;
}

#[tokio::test]
async fn own_announcements_are_told_again_to_whoever_is_there() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let grape = start(dir.path(), |config| config.host = None).await;
    grape.keeper.notes().announced(b"rest:util:net", 1337);
    grape.stop().await;
    let other = start(empty.path(), |_| {}).await;
    let there = other.dht.local_addr().to_string();
    let grape = start(dir.path(), |config| (config.host, config.bootstrap) = (None, vec![there])).await;
    let started = Instant::now();
    while other.dht.status().peers == 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "nobody was told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(other.dht.lookup(b"rest:util:net").await.unwrap(), ["127.0.0.1:1337".parse().unwrap()]);
    grape.stop().await;
    other.stop().await;
}
