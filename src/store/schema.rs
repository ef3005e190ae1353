//! How a database is opened, recognised, and brought to the newest schema.

use super::StoreError;
use crate::identity::{ClientId, Network};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::{path::Path, time::Duration};

/// The schema changes, oldest first. One that was ever released is never edited: a later one follows it.
const MIGRATIONS: [&str; 4] = [
    include_str!("migrations/0001_offers_bids_trades.sql"),
    include_str!("migrations/0002_heads.sql"),
    include_str!("migrations/0003_bids_given_up.sql"),
    include_str!("migrations/0004_contradictions.sql"),
];
/// The schema that this program writes, kept in SQLite's `user_version`.
pub(super) const SCHEMA: i64 = MIGRATIONS.len() as i64;
/// `VINT`, in SQLite's `application_id`: tells our databases from others.
const APPLICATION_ID: i64 = 0x5649_4e54;

/// How long a commit waits for whoever else holds the database, such as somebody's `sqlite3` shell with an open transaction.
/// Long enough for a copy or a `VACUUM`; a node that cannot write for longer is better stopped than silently stuck.
pub(super) const BUSY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pages in the write-ahead log after which a commit also moves them to the database: SQLite's own default, 4 MiB. Larger
/// ones make commits rarer that take 5 to 20 ms, and recovery after a crash longer.
pub(super) const CHECKPOINT_PAGES: i64 = 1000;
/// A log that grew beyond it, because somebody read for long, is cut back to it.
const LOG_BYTES_KEPT_MAX: i64 = 64 << 20;
/// Different statements, about thirty of them, that stay prepared.
const STATEMENTS_CACHED: usize = 64;

/// Prepares a connection, and the schema, of the store of `client_id` on `network`.
pub(super) fn prepare(
    conn: &mut Connection,
    path: &Path,
    network: &Network,
    client_id: ClientId,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Sqlite { doing: "open", path: path.to_owned(), source };
    conn.busy_timeout(BUSY_WAIT_MAX).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    let found = recognise(conn, path)?;
    durably(conn).map_err(failed)?;
    if found < SCHEMA {
        migrate(conn, found, network, client_id).map_err(|source| StoreError::Sqlite {
            doing: "bring to its newest schema",
            path: path.to_owned(),
            source,
        })?;
    }
    let owner: Option<(String, String)> = conn
        .query_row("SELECT network, client_id FROM owner", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed)?;
    let path = path.to_owned();
    match owner {
        None => Err(StoreError::NotAStore { path }),
        Some((stored, _)) if stored != network.as_str() => {
            Err(StoreError::WrongNetwork { path, stored, given: network.clone() })
        }
        Some((_, stored)) if stored != client_id.to_string() => {
            Err(StoreError::WrongClient { path, stored, given: client_id })
        }
        Some(_) => Ok(()),
    }
}

/// The schema's number; nothing is changed before it is known to be ours and not from the future.
pub(super) fn recognise(conn: &Connection, path: &Path) -> Result<i64, StoreError> {
    let read = |sql| conn.query_row(sql, (), |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<_> {
        let version = read("PRAGMA user_version")?;
        Ok((version, read("PRAGMA application_id")?, read("SELECT count(*) FROM sqlite_schema")?))
    };
    let path = path.to_owned();
    match read() {
        Ok((0, 0, 0)) => Ok(0),
        Ok((found, APPLICATION_ID, _)) if found > SCHEMA => {
            Err(StoreError::NewerSchema { path, found, known: SCHEMA })
        }
        Ok((found, APPLICATION_ID, _)) if found >= 1 => Ok(found),
        Ok(_) => Err(StoreError::NotAStore { path }),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(StoreError::NotAStore { path })
        }
        Err(source) => Err(StoreError::Sqlite { doing: "open", path, source }),
    }
}

/// Every commit is on the disk when it returns: write-ahead log, synced by each commit (`fullfsync`: also on macOS, where a
/// plain sync leaves it in the drive).
fn durably(conn: &Connection) -> rusqlite::Result<()> {
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let problem = format!("its file system allows journal mode {mode} only, not a write-ahead log");
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(problem),
        ));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT_MAX)
}

/// All missing steps in one transaction, and with the first whose store it is: a crash leaves the old schema or the new one.
fn migrate(
    conn: &mut Connection,
    found: i64,
    network: &Network,
    client_id: ClientId,
) -> rusqlite::Result<()> {
    let change = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for sql in MIGRATIONS.iter().skip(found as usize) {
        change.execute_batch(sql)?;
    }
    if found == 0 {
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.execute(
            "INSERT INTO owner (one, network, client_id) VALUES (1, ?1, ?2)",
            (network.as_str(), client_id.to_string()),
        )?;
    }
    change.pragma_update(None, "user_version", SCHEMA)?;
    change.commit()
}
