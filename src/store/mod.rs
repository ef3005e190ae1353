//! Everything durable of a node: one SQLite database in a directory that one process holds.
//!
//! The store keeps facts, not decisions: an [`Event`] of `exchange` is one row written or one row forgotten, and [`Store::load`]
//! gives back the events that make the same [`crate::exchange::State`] again. Signatures are not checked here: what is stored
//! was verified before, and each row carries a checksum. A row of this node's own doings that was changed behind our back stops it
//! at start with its name, instead of trading on it. Others' records, and the heads of makers beside them, are a cache of what the
//! network tells again: of these a damaged row is dropped, with a warning.
//!
//! - [`Store::commit`] is one transaction with one sync of the disk (WAL, `synchronous = FULL`): when it returns, the events
//!   survive a power loss, all of them or none (`tests/power_loss.rs` cuts the power at every write to see it). Hints alone, which
//!   the network tells again, are not waited for.
//! - There is no `PRAGMA quick_check` at start: it reads the whole file once more, seconds a gigabyte, to find what loading
//!   finds anyway, since that reads every row of every table and checks it.
//! - `schema` opens and migrates, `tables`, `write`, `load`, `heads` and `row` are the mapping, `lock` holds the directory and
//!   `guard` the database, which must stay the file that has the name,
//!   [`keyfile`] keeps the secrets that are *not* in the database. [`backup()`] copies a store that is in use, [`inspect()`]
//!   looks at one without touching it.
//! - The readers of the market never come here: they read snapshots of the state in memory. Users may: there are views
//!   made to be read with the `sqlite3` shell, also while the node runs.

mod backup;
mod error;
mod guard;
mod heads;
mod inspect;
pub mod keyfile;
mod load;
mod lock;
mod row;
mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod write;

pub use backup::{BackupError, Copied, backup};
pub use error::{CommitError, StoreError};
pub use inspect::{Inspected, InspectedDatabase, inspect};
pub use lock::{DirLock, Holder, holder};

use crate::{
    exchange::Event,
    identity::{ClientId, Network},
    metrics::Counter,
    time::UnixMillis,
};
use guard::{Guard, Trouble};
use load::Loaded;
use row::{LeftOut, Row, read_all};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    fs::{self, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "vintner.db";
/// The note that is written to see whether there is room for one.
const META_ROOM: &str = "room";
/// What the write-ahead log is extended to: the pages after which it starts over, and room for a large batch.
const LOG_BYTES_READY: u64 = (schema::CHECKPOINT_PAGES as u64 + 200) * 4120;
/// The longest name or value of a [`Store::set_meta`] row: a few hundred addresses of DHT nodes.
pub const META_BYTES_MAX: usize = 64 << 10;

/// The open store. It belongs to the one thread that writes: it can be sent, not shared.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    network: Network,
    dropped: Arc<Dropped>,
    /// SQLite's number of what other connections have written, when it was opened.
    data_version: i64,
    /// How many heads are stored, once it was asked.
    heads: Option<usize>,
    /// After the connection, which must be closed before it; `None` where the database is in no file of its own.
    guard: Option<Guard>,
    /// Last: the directory is let go only when the database is closed.
    _lock: DirLock,
}

/// Rows of caches that were damaged and dropped, by their table.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Others' records.
    pub records: Counter,
    /// Heads of makers.
    pub heads: Counter,
}

impl Dropped {
    fn of(&self, table: &str) -> &Counter {
        if table == tables::HEADS.name { &self.heads } else { &self.records }
    }
}

/// How the store stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The database.
    pub path: PathBuf,
    /// The number of its schema.
    pub schema_version: i64,
    /// Its size on disk.
    pub bytes: u64,
    /// The size of the write-ahead log beside it.
    pub log_bytes: u64,
}

impl Store {
    /// Locks `dir` (made if it is missing, for its owner only), and opens the database in it, or makes a new one for `client_id`
    /// on `network`.
    pub fn open(dir: &Path, network: &Network, client_id: ClientId) -> Result<Self, StoreError> {
        Self::open_or_begin(dir, network, client_id, true)
    }

    /// The same. Unless it `may_begin` a new store, one that is missing or empty is an error: what was in it is lost.
    pub fn open_or_begin(
        dir: &Path,
        network: &Network,
        client_id: ClientId,
        may_begin: bool,
    ) -> Result<Self, StoreError> {
        let lock = DirLock::take(dir)?;
        let path = dir.join(DATABASE_FILE);
        // SQLite, too, would begin anew, and delete the log of an empty database with what is in it.
        if !may_begin && fs::metadata(&path).map_or(0, |file| file.len()) == 0 && is_readable(&path)? {
            return Err(StoreError::Missing { path, client_id });
        }
        let guard = Guard::take(&path)?;
        lock::sync_dir(dir).map_err(|source| StoreError::Io { doing: "sync", path: dir.into(), source })?;
        let conn = Connection::open_with_flags(&path, FLAGS).map_err(|source| StoreError::Sqlite {
            doing: "open",
            path: path.clone(),
            source,
        })?;
        let begins = schema::recognise(&conn, &path)? == 0;
        if begins && !may_begin {
            return Err(StoreError::Missing { path, client_id });
        }
        let mut store = Self::on(conn, path, lock, network, client_id)?;
        let mut guard = guard;
        guard.note().map_err(|source| StoreError::Io {
            doing: "find the files of",
            path: store.path.clone(),
            source,
        })?;
        if let Err(error) = extend_log(guard.log()) {
            // A commit is slower without it, and says so itself when the disk is full.
            tracing::debug!(%error, "the write-ahead log could not be extended");
        }
        store.guard = Some(guard);
        Ok(store)
    }

    /// Takes an open connection, in whatever file layer it is.
    fn on(
        mut conn: Connection,
        path: PathBuf,
        lock: DirLock,
        network: &Network,
        client_id: ClientId,
    ) -> Result<Self, StoreError> {
        schema::prepare(&mut conn, &path, network, client_id)?;
        let data_version =
            conn.pragma_query_value(None, "data_version", |row| row.get(0)).unwrap_or_default();
        let (network, dropped) = (network.clone(), Arc::default());
        Ok(Self { conn, path, network, dropped, data_version, heads: None, guard: None, _lock: lock })
    }

    /// All facts, as events. Applied in this order they rebuild the state from which they came.
    ///
    /// What others made is a cache. What is dead of it at `now` is left out and deleted, and so is, with a warning, a row that is
    /// damaged: the network tells it again.
    ///
    /// # Errors
    /// When the database cannot be read, or a row of this node's own facts is damaged.
    pub fn load(&mut self, now: UnixMillis) -> Result<Vec<Event>, StoreError> {
        // One transaction: somebody with a shell may be writing.
        let snapshot = self.conn.transaction().map_err(|source| StoreError::Sqlite {
            doing: "read",
            path: self.path.clone(),
            source,
        })?;
        let Loaded { events, left_out } = load::all(&snapshot, &self.path, &self.network, now)?;
        drop(snapshot);
        self.leave_out(&left_out);
        Ok(events)
    }

    /// Deletes rows of a cache that were not taken, and says which of them are damaged. When they cannot be deleted now, the next
    /// start finds them again.
    fn leave_out(&mut self, rows: &LeftOut) {
        if let Some((row, problem)) = &rows.first_damaged {
            self.dropped.of(rows.table.name).add(rows.damaged as u64);
            tracing::warn!(
                path = %self.path.display(),
                table = rows.table.name,
                rows = rows.damaged,
                first = row,
                problem,
                "damaged rows of others' records or heads were dropped; the network tells them again"
            );
        }
        if !rows.rows.is_empty()
            && let Err(error) = self.unwaited(|conn| rows.delete(conn))
        {
            tracing::debug!(%error, "what nobody needs any more could not be deleted");
        }
    }

    /// How many damaged rows were dropped. To be had before the store goes to the thread that writes.
    pub fn dropped(&self) -> Arc<Dropped> {
        Arc::clone(&self.dropped)
    }

    /// Makes `events` durable, all of them or none, in one transaction that is on the disk when this returns.
    ///
    /// When all of them are hints ([`Event::must_be_durable`] says no), nothing waits for the disk: they outlive the process, and a
    /// power loss takes the last of them.
    ///
    /// A database that somebody else has locked is waited for, 30 seconds at most.
    pub fn commit(&mut self, events: &[Event]) -> Result<(), CommitError> {
        if events.is_empty() {
            return Ok(());
        }
        let write = |conn: &Connection| events.iter().try_for_each(|event| write::apply(conn, event));
        if events.iter().any(Event::must_be_durable) {
            self.in_transaction(write)
        } else {
            self.unwaited(write)
        }
    }

    /// A transaction for whose sync nobody waits.
    fn unwaited(
        &mut self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), CommitError> {
        self.sync_commits("NORMAL")?;
        let done = self.in_transaction(write);
        self.sync_commits("FULL")?;
        done
    }

    /// Whether commits wait for the disk. Without that, the log is still written in order and synced by the next that does.
    fn sync_commits(&self, synchronous: &str) -> Result<(), CommitError> {
        let failed = |source| CommitError::Failed { path: self.path.clone(), source };
        self.conn.pragma_update(None, "synchronous", synchronous).map_err(failed)
    }

    /// What was last set under `name`.
    pub fn get_meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut found = None;
        read_all((&self.conn, &self.path), &tables::META, |row| {
            if row.text()? == name {
                found = Some(row.text()?.to_owned());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Remembers `value` under `name`, durably: a few small things that drivers want back after a restart.
    pub fn set_meta(&mut self, name: &str, value: &str) -> Result<(), CommitError> {
        if name.len().max(value.len()) > META_BYTES_MAX {
            let source = rusqlite::Error::ToSqlConversionFailure(
                format!("{name:.40} is longer than {META_BYTES_MAX} bytes").into(),
            );
            return Err(CommitError::Failed { path: self.path.clone(), source });
        }
        self.in_transaction(|conn| Row::default().text(name).text(value).upsert(conn, &tables::META))
    }

    /// Whether it is still itself, and, when `probes`, whether a small commit finds room.
    pub fn check(&mut self, probes: bool) -> Result<(), CommitError> {
        if probes { self.set_meta(META_ROOM, "") } else { self.is_still_itself() }
    }

    /// How it stands. What cannot be read counts as empty.
    pub fn status(&self) -> StoreStatus {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        StoreStatus {
            path: self.path.clone(),
            schema_version: schema::SCHEMA,
            bytes: size(&self.path),
            log_bytes: self.guard.as_ref().map_or(0, |guard| size(guard.log())),
        }
    }

    /// Whether what is written goes to the files that a next start will find.
    ///
    /// # Errors
    /// When it does not. Nothing of what was written since the last commit may be acknowledged, and the store must not be used any
    /// more. What it holds is saved beside it, where that is possible.
    pub fn is_still_itself(&mut self) -> Result<(), CommitError> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let trouble = match guard.look() {
            Ok(None) => return Ok(()),
            Ok(Some(trouble)) => trouble,
            Err(source) => {
                let source = rusqlite::Error::ToSqlConversionFailure(Box::new(source));
                return Err(CommitError::Failed { path: self.path.clone(), source });
            }
        };
        // Only another connection's work changes this number.
        if trouble == Trouble::Shorter && others_have_written(&self.conn, self.data_version) {
            guard.is_shorter_now();
            return Ok(());
        }
        let saved = match trouble {
            // SQLite moves what is in the log to the database when it closes it.
            Trouble::LogGone => None,
            Trouble::Missing | Trouble::Replaced | Trouble::Shorter => {
                // Closing would delete a log that belongs to whatever has the name now.
                let off = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                if let Err(error) = off {
                    tracing::debug!(%error, "the database's log cannot be left as it is");
                }
                backup::save(&self.conn, &self.path)
            }
        };
        Err(CommitError::Gone { path: self.path.clone(), what: trouble.told(), saved })
    }

    fn in_transaction(
        &mut self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), CommitError> {
        let done = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|change| {
            write(&change)?;
            change.commit()
        });
        self.is_still_itself()?;
        done.map_err(|source| {
            let path = self.path.clone();
            // A full disk is met before the commit's last frame is written, and the transaction is undone.
            if source.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.conn.is_autocommit() {
                CommitError::Full { path }
            } else {
                CommitError::Failed { path, source }
            }
        })
    }
}

fn others_have_written(conn: &Connection, since: i64) -> bool {
    let version = conn.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
    version.is_ok_and(|version| version != since)
}

/// Gives the write-ahead log at once the size that it will have for most of its life. A sync of a file that grows waits for the
/// file system's journal, too: twice as long on a quiet disk, ten times as long beside other writers. SQLite takes the zeros for
/// what a log that starts over leaves behind: frames without a valid checksum.
fn extend_log(log: &Path) -> std::io::Result<()> {
    let mut log = OpenOptions::new().append(true).open(log)?;
    let missing = LOG_BYTES_READY.saturating_sub(log.metadata()?.len());
    std::io::copy(&mut std::io::repeat(0).take(missing), &mut log)?;
    log.sync_all()
}

/// Whether a database of no length is one that can be looked at, and not one of another user.
fn is_readable(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Io { doing: "open", path: path.to_owned(), source })
        }
        _ => Ok(true),
    }
}

/// No URI names: a path is a path. No mutex: one thread has it.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_CREATE)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
