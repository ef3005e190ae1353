//! Backups: whole, consistent while the store is written, refused where they would hide a loss. And looks that change nothing.

use super::*;
use crate::store::keyfile;
use std::os::unix::fs::PermissionsExt;

/// A store with a history, open as a running node has it.
fn filled(dir: &Path) -> (Store, State) {
    let mut store = open(dir);
    let (batches, states) = Pair::history(11, 300);
    for batch in &batches {
        store.commit(batch).unwrap();
    }
    (store, states.last().unwrap().clone())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_a_store_in_use_restores_the_very_same_state() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, state) = filled(dir.path());
    let file = to.path().join("copy.db");
    let copied = backup(dir.path(), &file).unwrap();
    assert!(copied.facts.unwrap() > 0 && copied.bytes > 0, "{copied:?}");
    assert_eq!((copied.network.as_str(), copied.client_id), ("test", client(1).to_string()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(to.path()), ["copy.db"], "nothing half made is left");

    let restored = tempfile::tempdir().unwrap();
    fs::copy(&file, restored.path().join(DATABASE_FILE)).unwrap();
    assert!(state_of(&mut open(restored.path())) == state);
    drop(store);
    // Of a stopped node, too.
    let again = to.path().join("again.db");
    assert_eq!(backup(dir.path(), &again).unwrap().facts, copied.facts);
}

#[test]
fn a_copy_made_during_commits_is_a_state_that_was() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (batches, states) = Pair::history(13, 300);
    let mut store = open(dir.path());
    let writer = std::thread::spawn(move || {
        for batch in &batches {
            store.commit(batch).unwrap();
        }
    });
    let mut copies = Vec::new();
    while !writer.is_finished() || copies.is_empty() {
        let file = to.path().join(format!("{}.db", copies.len()));
        backup(dir.path(), &file).unwrap();
        copies.push(file);
    }
    writer.join().unwrap();
    let mut last = 0;
    for file in copies {
        let restored = tempfile::tempdir().unwrap();
        fs::copy(&file, restored.path().join(DATABASE_FILE)).unwrap();
        let state = state_of(&mut open(restored.path()));
        let at = states.iter().rposition(|then| *then == state).expect("a state between two commits");
        assert!(at >= last, "a later copy is not older");
        last = at;
    }
}

#[test]
fn nothing_is_overwritten_and_a_damaged_store_gives_no_copy() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = to.path().join("copy.db");
    let error = backup(dir.path(), &file).unwrap_err();
    assert!(matches!(error, BackupError::NoStore(_)), "{error}");
    let (store, _) = filled(dir.path());
    fs::write(&file, "mine").unwrap();
    let error = backup(dir.path(), &file).unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let error = backup(dir.path(), &to.path().join("no/such/dir.db")).unwrap_err();
    assert!(matches!(error, BackupError::Write { .. }), "{error}");

    store.conn.execute("UPDATE own_offers SET seq = seq + 1", ()).unwrap();
    let error = backup(dir.path(), &to.path().join("other.db")).unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::Damaged { .. })), "{error}");
    assert_eq!(names(to.path()), ["copy.db"], "nothing half made is left");
}

#[test]
fn a_look_tells_who_has_the_directory_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Inspected { held_by: None, database: None };
    assert_eq!(inspect(dir.path()).unwrap(), empty);
    assert!(names(dir.path()).is_empty() && keyfile::load(&dir.path().join("k")).unwrap().is_none());
    let mut store = open(dir.path());
    store.set_meta("a", "b").unwrap();
    let seen = inspect(dir.path()).unwrap();
    // By this very process, so its number says nothing (each container counts from 1).
    assert_eq!(seen.held_by, Some(Holder { pid: None }));
    let database = seen.database.unwrap();
    assert_eq!((database.schema_version, database.schema_known), (schema::SCHEMA, schema::SCHEMA));
    assert_eq!((database.network.as_str(), database.client_id), ("test", client(1).to_string()));
    assert_eq!(database.notes, [("a".to_owned(), "b".to_owned())]);
    drop(store);
    assert_eq!(inspect(dir.path()).unwrap().held_by, None);
    open(dir.path());
}
