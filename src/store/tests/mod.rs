//! The store as its owner uses it: opened, filled, closed, opened again, refused.

use super::*;
use crate::{exchange::State, identity::MasterKey};
use std::fs;

fn network() -> Network {
    "test".parse().unwrap()
}
fn client(seed: u8) -> ClientId {
    MasterKey::from_bytes([seed; 32]).client_key().public()
}
fn open(dir: &Path) -> Store {
    Store::open(dir, &network(), client(1)).unwrap()
}
/// What a store's events add up to.
fn state_of(store: &mut Store) -> State {
    let mut state = State::default();
    for event in store.load().unwrap() {
        state.apply(&event);
    }
    state
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Store::open(dir.path(), &network(), client(1)).unwrap_err();
    let expected = Some(std::process::id());
    assert!(
        matches!(&error, StoreError::Locked { dir: d, pid } if d == dir.path() && *pid == expected),
        "{error}"
    );
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
