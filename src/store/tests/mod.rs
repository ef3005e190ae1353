//! The store as its owner uses it: opened, filled, closed, opened again, refused.

mod cache;
mod copies;
mod driven;
mod files;
mod first;
mod power_loss;

use super::*;
use crate::{
    exchange::{Core, Input, Output, State},
    identity::MasterKey,
};
use driven::Pair;
use proptest::prelude::*;
use std::{fs, mem::discriminant, time::Instant};

fn network() -> Network {
    "test".parse().unwrap()
}
fn client(seed: u8) -> ClientId {
    MasterKey::from_bytes([seed; 32]).client_key().public()
}
/// A time at which nothing is dead.
const NOBODY_DEAD: UnixMillis = UnixMillis(0);
fn open(dir: &Path) -> Store {
    Store::open(dir, &network(), client(1)).unwrap()
}
/// What a store's events add up to.
fn state_of(store: &mut Store) -> State {
    let mut state = State::default();
    for event in store.load(NOBODY_DEAD).unwrap() {
        state.apply(&event);
    }
    state
}

#[test]
fn one_store_at_a_time_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Store::open(dir.path(), &network(), client(1)).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { dir: d, pid: None } if d == dir.path()), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_store_of_another_network_or_client_is_refused_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let error = Store::open(dir.path(), &"other".parse().unwrap(), client(1)).unwrap_err().to_string();
    assert!(error.contains("network test, not other"), "{error}");
    let error = Store::open(dir.path(), &network(), client(2)).unwrap_err().to_string();
    assert!(error.contains(&client(1).to_string()) && error.contains(&client(2).to_string()), "{error}");
    open(dir.path());
}

#[test]
fn a_newer_schema_a_strange_database_and_a_strange_file_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.conn.pragma_update(None, "user_version", schema::SCHEMA + 1).unwrap();
    drop(store);
    let path = dir.path().join(DATABASE_FILE);
    let before = fs::read(&path).unwrap();
    let error = Store::open(dir.path(), &network(), client(1)).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found, known, .. } if found == known + 1), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let strange = tempfile::tempdir().unwrap();
    let path = strange.path().join(DATABASE_FILE);
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = Store::open(strange.path(), &network(), client(1)).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    fs::write(&path, "hello, I am no database\n".repeat(100)).unwrap();
    let error = Store::open(strange.path(), &network(), client(1)).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

#[test]
fn small_things_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.get_meta("dht.node_id").unwrap(), None);
    store.set_meta("dht.node_id", "abc").unwrap();
    store.set_meta("dht.node_id", "def").unwrap();
    store.set_meta("dht.nodes", "").unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.get_meta("dht.node_id").unwrap().as_deref(), Some("def"));
    assert_eq!(store.get_meta("dht.nodes").unwrap().as_deref(), Some(""));
    assert_eq!(store.get_meta("dht").unwrap(), None);
}

#[test]
fn an_empty_store_is_an_empty_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.commit(&[]).unwrap();
    assert_eq!(state_of(&mut store), State::default());
    let status = store.status();
    assert_eq!((status.path, status.schema_version), (dir.path().join(DATABASE_FILE), schema::SCHEMA));
    assert!(status.bytes + status.log_bytes > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_two_nodes_do_a_restart_continues_exactly_there(seed: u64, batch_max in 1_usize..40) {
        let mut pair = Pair::new(seed);
        let mut nodes = [Recorded::new(client(1)), Recorded::new(client(2))];
        for step in 0..300 {
            for (node, events) in nodes.iter_mut().zip(pair.step()) {
                node.hear(events, batch_max);
            }
            if step % 100 < 99 {
                continue;
            }
            for (n, node) in nodes.iter_mut().enumerate() {
                prop_assert!(node.state_after_restart() == node.model, "node {n}, step {step}");
                // And with what time alone did since: a core that restarts is the core that went on.
                let mut went_on = Output::default();
                pair.cores[n].handle(pair.now, Input::Tick, &mut went_on);
                node.hear(went_on.events, 1);
                let (key, events) = (MasterKey::from_bytes([n as u8 + 1; 32]), node.store().load(pair.now).unwrap());
                let (core, _) = Core::restore(key, network(), [0; 32], events, pair.now);
                prop_assert!(core.state() == pair.cores[n].state(), "node {n}, step {step}: restored");
            }
        }
    }
}

/// What one node was told to make durable: in a store, and beside it in memory.
struct Recorded {
    dir: tempfile::TempDir,
    client_id: ClientId,
    store: Option<Store>,
    waiting: Vec<Event>,
    model: State,
}

impl Recorded {
    fn new(client_id: ClientId) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, client_id, store: None, waiting: Vec::new(), model: State::default() }
    }

    fn store(&mut self) -> &mut Store {
        let open = || Store::open(self.dir.path(), &network(), self.client_id).unwrap();
        self.store.get_or_insert_with(open)
    }

    fn hear(&mut self, events: Vec<Event>, batch_max: usize) {
        for event in &events {
            self.model.apply(event);
        }
        self.waiting.extend(events);
        if self.waiting.len() >= batch_max {
            let batch = crate::exchange::take_due(&mut self.waiting);
            self.store().commit(&batch).unwrap();
        }
    }

    fn state_after_restart(&mut self) -> State {
        // What must be durable, and then the hints.
        self.hear(Vec::new(), 0);
        self.hear(Vec::new(), 0);
        assert!(self.waiting.is_empty());
        self.store = None;
        state_of(self.store())
    }
}

#[test]
fn the_driven_nodes_make_every_kind_of_event() {
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for event in (0..60).flat_map(|seed| Pair::history(seed, 300).0).flatten() {
        let kind = discriminant(&event);
        if !seen.contains(&kind) {
            seen.push(kind);
            names.push(format!("{event:?}").split(['(', ' ']).next().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(names.len(), 15, "kinds of events that were seen: {names:?}");
    let outcome = |event: &Event| match event {
        Event::BidOut(bid) => Some(bid.outcome.state()),
        _ => None,
    };
    let outcomes = |seed| Pair::history(seed, 300).0.into_iter().flatten().filter_map(|e| outcome(&e));
    let seen: std::collections::BTreeSet<_> = (0..20).flat_map(outcomes).collect();
    assert_eq!(seen, crate::exchange::BidState::ALL.into(), "what became of bids");
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_works_again_with_more_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (batches, states) = Pair::history(7, 400);
    let pages: i64 = store.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.conn.pragma_update(None, "max_page_count", pages + 4).unwrap();
    let full = batches.iter().position(|batch| match store.commit(batch) {
        Ok(()) => false,
        Err(CommitError::Full { .. }) => true,
        Err(other) => panic!("{other}"),
    });
    let full = full.expect("four pages hold no four hundred steps");
    assert!(matches!(store.commit(&batches[full]), Err(CommitError::Full { .. })), "refused again");
    assert!(state_of(&mut store) == states[full]);
    store.conn.pragma_update(None, "max_page_count", 1 << 20).unwrap();
    batches[full..].iter().for_each(|batch| store.commit(batch).unwrap());
    drop(store);
    assert!(state_of(&mut open(dir.path())) == *states.last().unwrap());
}

/// A store with something in each of these tables.
fn filled(dir: &Path, tables: &[&str]) -> Store {
    for seed in 3..60 {
        let mut store = open(&dir.join(seed.to_string()));
        Pair::history(seed, 300).0.iter().for_each(|batch| store.commit(batch).unwrap());
        let rows = |table: &&str| -> i64 {
            store.conn.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
        };
        if tables.iter().all(|table| rows(table) > 0) {
            return store;
        }
    }
    panic!("no history leaves something in each of {tables:?}");
}

/// Changes the newest row of a table, as a disk that fails or a person with a shell would.
fn damage(store: &Store, table: &str, change: &str) {
    let sql = format!("UPDATE {table} SET {change} WHERE rowid = (SELECT max(rowid) FROM {table})");
    assert_eq!(store.conn.execute(&sql, ()), Ok(1), "{table}");
}

#[test]
fn a_row_of_own_doings_that_was_changed_behind_our_back_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let changes = [
        ("own_offers", "sig = replace(sig, substr(sig, 5, 1), '-')"),
        ("published", "stored_on = stored_on + 1"),
        ("trades", "bid_text = replace(bid_text, '1', '2')"),
        ("bids_out", "refusal_detail = 'x'"),
        ("bids_in", "answered_at = 5"),
        ("idempotency_keys", "made_id = upper(made_id)"),
        ("bids_given_up", "at = at + 1"),
    ];
    let mut store = filled(dir.path(), &changes.map(|(table, _)| table));
    for (table, change) in changes {
        store.conn.execute_batch("SAVEPOINT s").unwrap();
        damage(&store, table, change);
        let error = load::all(&store.conn, &store.path, &store.network, NOBODY_DEAD).err().unwrap();
        assert!(matches!(&error, StoreError::Damaged { table: t, .. } if *t == table), "{table}: {error}");
        store.conn.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
    }
    store.conn.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM trades").unwrap();
    let error = store.load(NOBODY_DEAD).unwrap_err().to_string();
    assert!(error.contains("the row of trades that belongs to it is missing"), "{error}");
}

#[test]
fn people_can_read_it_with_sql_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let tables = ["own_offers", "records", "trades", "bids_out", "bids_in"];
    let store = filled(dir.path(), &tables);
    let shell = Connection::open(&store.path).unwrap();
    for (table, columns) in [
        ("own_offers", "id, side, btc_quantity, offer_price, currency, availability, dies_at"),
        ("records", "id, client_id, side, btc_quantity, offer_price, currency, availability, dies_at"),
        ("trades", "maker, taker, offer_id, btc_quantity, price, currency, executed_at"),
        ("bids_out", "id, maker, offer_id, price, valid_until"),
        ("bids_in", "id, bidder, offer_id, price, valid_until"),
    ] {
        let missing = columns.split(", ").map(|c| format!("{c} IS NULL")).collect::<Vec<_>>().join(" OR ");
        let (rows, bad): (i64, i64) = shell
            .query_row(&format!("SELECT count(*), ifnull(sum({missing}), 0) FROM {table}_view"), (), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert!(rows > 0 && bad == 0, "{table}: {bad} of {rows}");
    }
}

#[test]
fn somebody_elses_transaction_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let shell = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let pause = std::time::Duration::from_millis(200);
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(pause);
        shell.execute_batch("COMMIT").unwrap();
    });
    let began = Instant::now();
    store.commit(&Pair::history(1, 20).0[0]).unwrap();
    assert!(began.elapsed() >= pause / 2);
    letting_go.join().unwrap();
    // And not for ever.
    let shell = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.conn.busy_timeout(pause).unwrap();
    assert!(matches!(store.set_meta("a", "b"), Err(CommitError::Failed { .. })));
}
