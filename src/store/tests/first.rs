//! Stores of schema 2, from before a closed record said `closed`: the rows of two are in `first_maker.sql` and `first_taker.sql`. The
//! first node sold one of its offers to the second, withdrew one, and has one open.

use super::*;
use crate::market::{Offer, Via};
use std::sync::Arc;

const ROWS: [&str; 2] = [include_str!("first_maker.sql"), include_str!("first_taker.sql")];
const SCHEMA_2: [&str; 3] = [
    include_str!("../migrations/0001_offers_bids_trades.sql"),
    include_str!("../migrations/0002_heads.sql"),
    "PRAGMA application_id = 0x56494e54; PRAGMA user_version = 2;",
];

/// What the node with such a store holds, as this program reads it.
fn events(n: u8) -> Vec<Event> {
    let dir = tempfile::tempdir().unwrap();
    let conn = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    for sql in SCHEMA_2.into_iter().chain([ROWS[usize::from(n) - 1]]) {
        conn.execute_batch(sql).unwrap();
    }
    drop(conn);
    let mut store = Store::open(dir.path(), &network(), client(n)).unwrap();
    assert_eq!(store.status().schema_version, schema::SCHEMA);
    store.load(NOBODY_DEAD).unwrap()
}

fn records(core: &Core) -> Vec<Arc<Offer>> {
    core.state().market.records.values().cloned().collect()
}

#[test]
fn a_store_from_before_closed_was_said_opens_and_what_was_closed_stays_so_without_any_fraud() {
    let held = [1, 2].map(events);
    let sequences = held[0].iter().filter_map(|event| match event {
        Event::Own(own) => Some(UnixMillis(own.offer.sequence)),
        _ => None,
    });
    let then = sequences.max().unwrap();
    let mut n = 0;
    let [mut maker, mut taker] = held.map(|events| {
        n += 1;
        Core::restore(MasterKey::from_bytes([n; 32]), network(), [0; 32], events, then).0
    });
    let stand = |core: &Core| {
        let stands = |offer: &Arc<Offer>| core.state().status(offer, then).as_str();
        let mut stand: Vec<_> = records(core).iter().map(stands).collect();
        stand.sort_unstable();
        stand
    };
    assert_eq!(
        (stand(&maker), stand(&taker)),
        (vec!["open", "sold", "withdrawn"], vec!["closed", "open", "sold"])
    );
    for core in [&maker, &taker] {
        assert_eq!((core.state().trades.len(), core.state().market.available.len()), (1, 1));
        assert!(records(core).iter().all(|offer| !offer.closed && offer.is_closed() != offer.availability));
    }
    // Everything comes back by gossip, and the open one is closed as records are closed now.
    let (all, mut output) = (records(&maker), Output::default());
    for offer in &all {
        maker.handle(then, Input::Record(Arc::clone(offer), Via::Dht), &mut output);
        taker.handle(then, Input::Record(Arc::clone(offer), Via::Dht), &mut output);
    }
    let open = all.iter().find(|offer| offer.availability).unwrap();
    let closed = Arc::new(open.close(&MasterKey::from_bytes([1; 32]), then).unwrap());
    assert!(closed.closed);
    taker.handle(then, Input::Record(closed, Via::Dht), &mut output);
    assert_eq!(stand(&taker), ["closed", "closed", "sold"]);
    for core in [&maker, &taker] {
        assert_eq!((core.counters().equivocations, core.state().market.unlisted.len()), (0, 0));
        assert!(!core.state().is_behind());
    }
}
