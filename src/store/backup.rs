//! A copy of the database, made while the node runs or not.
//!
//! SQLite's own online backup copies the pages in one read transaction: the copy is the store as it was at one moment, all of
//! every commit or nothing, and the node goes on writing meanwhile. Rows keep their numbers, which say in which order trades
//! came. Before the copy gets its name it is read as the node would read it at start, every row with its checksum, and synced.
//!
//! The master key is not in it: it never changes, it is worth more than every copy of the store together, and a copy that is
//! made each night and carried elsewhere must not carry it along.

use super::{DATABASE_FILE, StoreError, load, lock::sync_dir, schema};
use crate::time::UnixMillis;
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// How often a database that is just being recovered by another process is tried again, and the pause between: 30 s at most.
const TRIES_MAX: usize = 300;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Copies that [`save`] makes at most of one database: whoever does not look at the first needs no tenth.
const SAVED_MAX: u32 = 9;

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the copy.
    pub bytes: u64,
    /// Facts in it, each read back and checked. `None` for a store of an older schema, whose pages were checked instead.
    pub facts: Option<usize>,
    /// Whose store it is.
    pub client_id: String,
    /// Its market.
    pub network: String,
}

/// Why there is no copy. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No database there.
    #[error(
        "{0} is not there; name the node's data directory with --data-dir, as the node itself is given it"
    )]
    NoStore(PathBuf),
    /// The copy's name is taken.
    #[error("{0} exists, and a backup overwrites nothing; choose another name, or move it away")]
    Exists(PathBuf),
    /// The store cannot be read, or the copy is not whole.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy cannot be written.
    #[error("cannot {doing} {path}: {reason}; check that its directory exists, is yours and has space")]
    Write {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system or SQLite said.
        reason: String,
    },
}

/// Copies the store in the data directory `dir` to the new file `to`, for its owner only (mode 0600). When this returns, the
/// copy is complete, checked, and on the disk.
pub fn backup(dir: &Path, to: &Path) -> Result<Copied, BackupError> {
    let from = dir.join(DATABASE_FILE);
    if !from.exists() {
        return Err(BackupError::NoStore(from));
    }
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let source = open_to_read(&from)?;
    let version = schema::recognise(&source, &from)?;
    if version == 0 {
        // A first start that was killed between making the file and filling it.
        return Err(BackupError::NoStore(from));
    }
    let part = Part::create(to)?;
    let write = |source: rusqlite::Error| BackupError::Write {
        doing: "write the copy",
        path: to.to_owned(),
        reason: source.to_string(),
    };
    let mut copy = Connection::open_with_flags(&part.0, WRITE).map_err(write)?;
    // The copy is synced once, when it is whole.
    copy.pragma_update(None, "synchronous", "OFF").map_err(write)?;
    copy_pages(&source, &mut copy).map_err(write)?;
    drop(source);
    // One file, that can be opened by itself: the log beside it is the running store's alone.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(write)?;
    let copied = check(&copy, version, &from)?;
    copy.close().map_err(|(_, source)| write(source))?;
    part.finish(to)?;
    let bytes = fs::metadata(to).map_or(0, |file| file.len());
    Ok(Copied { bytes, ..copied })
}

/// Saves what an open connection holds, whose file has lost its name, beside where it was. Gives the copy's name.
pub(super) fn save(conn: &Connection, path: &Path) -> Option<PathBuf> {
    (1..=SAVED_MAX).find_map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".saved-{n}"));
        let to = PathBuf::from(name);
        match save_as(conn, &to) {
            Ok(()) => Some(to),
            Err(error) => {
                tracing::warn!(%error, "what the database held could not be saved under this name");
                None
            }
        }
    })
}

fn save_as(conn: &Connection, to: &Path) -> Result<(), BackupError> {
    let write = |source: rusqlite::Error| BackupError::Write {
        doing: "write the copy",
        path: to.to_owned(),
        reason: source.to_string(),
    };
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let part = Part::create(to)?;
    let mut copy = Connection::open_with_flags(&part.0, WRITE).map_err(write)?;
    copy_pages(conn, &mut copy).map_err(write)?;
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(write)?;
    copy.close().map_err(|(_, source)| write(source))?;
    part.finish(to)
}

/// Opens a database that a node may be writing.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, READ)
        .and_then(|conn| conn.busy_timeout(schema::BUSY_WAIT_MAX).map(|()| conn))
        .map_err(|source| StoreError::Sqlite { doing: "open", path: path.to_owned(), source })
}

/// All pages in one step: one read transaction, so no writer can make it begin anew.
fn copy_pages(source: &Connection, copy: &mut Connection) -> rusqlite::Result<()> {
    const ALL: i32 = -1;
    let backup = Backup::new(source, copy)?;
    for _ in 0..TRIES_MAX {
        match backup.step(ALL)? {
            StepResult::Done => return Ok(()),
            // Another process is just recovering the log of a node that was killed.
            _ => thread::sleep(TRY_AGAIN_AFTER),
        }
    }
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None))
}

/// Reads the copy as a node would at its start. `from` is for the message: what is damaged here is damaged there.
fn check(copy: &Connection, version: i64, from: &Path) -> Result<Copied, StoreError> {
    let failed = |source| StoreError::Sqlite { doing: "read the copy of", path: from.to_owned(), source };
    let (network, client_id): (String, String) = copy
        .query_row("SELECT network, client_id FROM owner", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(failed)?;
    let facts = match network.parse() {
        // As of the beginning of time: nothing is dead.
        Ok(parsed) if version == schema::SCHEMA => {
            Some(load::all(copy, from, &parsed, UnixMillis(0))?.events.len())
        }
        _ => {
            let found: String =
                copy.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(failed)?;
            if found != "ok" {
                let (table, row) = ("sqlite_schema", String::new());
                return Err(StoreError::Damaged { path: from.to_owned(), table, row, problem: found });
            }
            None
        }
    };
    Ok(Copied { bytes: 0, facts, client_id, network })
}

/// The copy under a name of its own, until it is whole. Removed when dropped.
struct Part(PathBuf);

impl Part {
    fn create(to: &Path) -> Result<Self, BackupError> {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        made.map_err(|error| failed("make", to, error))?;
        Ok(Self(part))
    }

    /// Syncs it and gives it its name. One that appeared in the meantime is not overwritten.
    fn finish(self, to: &Path) -> Result<(), BackupError> {
        File::open(&self.0).and_then(|file| file.sync_all()).map_err(|error| failed("sync", to, error))?;
        fs::hard_link(&self.0, to).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
            _ => failed("name", to, error),
        })?;
        drop(self);
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(dir).map_err(|error| failed("sync the directory of", to, error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Its journal is there only if SQLite was interrupted.
        let mut journal = self.0.clone().into_os_string();
        journal.push("-journal");
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_file(journal);
    }
}

fn failed(doing: &'static str, path: &Path, error: io::Error) -> BackupError {
    BackupError::Write { doing, path: path.to_owned(), reason: error.to_string() }
}

/// No URI names, no mutex, nothing made.
const READ: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
const WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
