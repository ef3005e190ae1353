//! What happens when somebody deletes, replaces, copies or links the files of a store in use, or takes them away between two starts.

use super::*;
use std::os::unix::fs::symlink;

/// A store with something in it, and what is in it.
fn filled(dir: &Path) -> (Store, State) {
    let mut store = open(dir);
    let (batches, mut states) = Pair::history(5, 120);
    for batch in &batches {
        store.commit(batch).unwrap();
    }
    (store, states.pop().unwrap())
}

fn log(dir: &Path) -> PathBuf {
    dir.join("vintner.db-wal")
}

/// What the next commit says of the files.
fn gone(store: &mut Store) -> (&'static str, Option<PathBuf>) {
    match store.set_meta("a", "b") {
        Err(CommitError::Gone { what, saved, .. }) => (what, saved),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_that_lost_its_name_takes_no_commit_and_is_saved() {
    type Change<'a> = &'a dyn Fn(&Path);
    let someone = tempfile::tempdir().unwrap();
    drop(open(someone.path()));
    let cases: [(&str, Change<'_>); 3] = [
        ("deleted or moved", &|path| fs::remove_file(path).unwrap()),
        ("deleted or moved", &|path| fs::rename(path, path.with_extension("old")).unwrap()),
        ("replaced by another file", &|path| {
            let new = path.with_extension("new");
            fs::copy(someone.path().join(DATABASE_FILE), &new).unwrap();
            fs::rename(&new, path).unwrap();
        }),
    ];
    for (expected, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, state) = filled(dir.path());
        store.set_meta("a", "a").unwrap();
        change(&dir.path().join(DATABASE_FILE));
        let (what, saved) = gone(&mut store);
        assert!(what.contains(expected), "{what}");
        drop(store);
        // As the message says.
        let saved = saved.expect("a copy");
        let _ = fs::remove_file(log(dir.path()));
        fs::rename(saved, dir.path().join(DATABASE_FILE)).unwrap();
        assert!(state_of(&mut open(dir.path())) == state, "{expected}");
    }
}

#[test]
fn a_database_that_something_shorter_was_copied_over_takes_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = filled(dir.path());
    store.conn.query_row("PRAGMA wal_checkpoint(FULL)", (), |_| Ok(())).unwrap();
    store.set_meta("a", "a").unwrap();
    fs::write(dir.path().join(DATABASE_FILE), [0; 4096]).unwrap();
    assert!(gone(&mut store).0.contains("overwritten"));
}

#[test]
fn a_directory_that_was_moved_away_takes_no_commit() {
    let above = tempfile::tempdir().unwrap();
    let (dir, moved) = (above.path().join("data"), above.path().join("moved"));
    let (mut store, state) = filled(&dir);
    fs::rename(&dir, &moved).unwrap();
    assert_eq!(gone(&mut store), ("was deleted or moved", None), "there is no place to save it");
    drop(store);
    assert!(state_of(&mut open(&moved)) == state, "all of it is where it was moved to");
}

#[test]
fn a_log_that_was_deleted_takes_no_commit_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, state) = filled(dir.path());
    for n in 0..2 {
        if n == 0 {
            fs::remove_file(log(dir.path())).unwrap();
        } else {
            fs::write(log(dir.path()), "not a log").unwrap();
        }
        let (what, saved) = gone(&mut store);
        assert!(what.contains("write-ahead log") && saved.is_none(), "{what}");
    }
    drop(store);
    assert!(state_of(&mut open(dir.path())) == state);
}

#[test]
fn what_other_connections_do_by_right_is_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, state) = filled(dir.path());
    let others = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    others.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (zeroblob(1000000))").unwrap();
    store.set_meta("a", "a").unwrap();
    others.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    store.set_meta("a", "b").unwrap();
    others.execute_batch("DROP TABLE more; VACUUM").unwrap();
    others.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    drop(others);
    store.set_meta("a", "c").unwrap();
    assert!(state_of(&mut store) == state);
}

#[cfg(target_os = "linux")]
#[test]
fn one_database_has_one_process_whatever_its_name() {
    let above = tempfile::tempdir().unwrap();
    let first = above.path().join("first");
    let store = open(&first);
    let database = first.join(DATABASE_FILE);
    for (n, name) in ["linked", "copied"].into_iter().enumerate() {
        let other = above.path().join(name);
        fs::create_dir(&other).unwrap();
        match n {
            0 => symlink(&database, other.join(DATABASE_FILE)).unwrap(),
            _ => fs::hard_link(&database, other.join(DATABASE_FILE)).unwrap(),
        }
        let error = Store::open(&other, &network(), client(1)).unwrap_err();
        assert!(matches!(error, StoreError::DatabaseLocked { .. }), "{name}: {error}");
    }
    fs::remove_file(first.join("lock")).unwrap();
    let error = Store::open(&first, &network(), client(1)).unwrap_err();
    assert!(matches!(error, StoreError::DatabaseLocked { .. }), "{error}");
    drop(store);
    open(&first);
}

#[test]
fn a_store_that_is_missing_or_empty_is_not_begun_unless_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    let refused = || match Store::open_or_begin(dir.path(), &network(), client(1), false) {
        Err(error @ StoreError::Missing { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused().contains("--new-store") && !path.exists(), "nothing is made");
    drop(filled(dir.path()));
    Store::open_or_begin(dir.path(), &network(), client(1), false).unwrap();
    // Emptied while its log still held all of it: SQLite would delete the log.
    fs::write(&path, "").unwrap();
    fs::write(log(dir.path()), "what is left").unwrap();
    refused();
    assert_eq!(fs::read(log(dir.path())).unwrap(), b"what is left");
    // A database without a table is as empty.
    fs::remove_file(log(dir.path())).unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL; VACUUM").unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 0);
    refused();
    drop(Store::open_or_begin(dir.path(), &network(), client(1), true).unwrap());
    Store::open_or_begin(dir.path(), &network(), client(1), false).unwrap();
}
