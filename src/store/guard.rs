//! Is the database that is written still the one that has the name?
//!
//! A file that is deleted or renamed lives on for the process that has it open: commits go on, nothing fails, and all of it is
//! gone when the process ends. So after each commit, before anybody hears of it, the names are looked up again: two calls of
//! `stat`, a microsecond beside the sync of a commit.
//!
//! The lock of the directory (`lock`) is a file beside the database. Two ways lead around it: the same database under another name
//! (a link, a second mount), and a lock file that somebody deleted. So the database itself is locked, too.

use super::StoreError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Which file it is, whatever its name: the device's two numbers, and the file's on it.
type Identity = (u32, u32, u64);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    identity: Identity,
    bytes: u64,
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Guard {
    /// Locked. Closing any handle of a file lets go of what SQLite has locked in it, so this one is closed after SQLite's.
    _database: File,
    path: PathBuf,
    /// The write-ahead log; SQLite keeps it beside the file itself, not beside a link to it.
    log: PathBuf,
    identities: Option<[Identity; 2]>,
    bytes: u64,
}

/// What is wrong with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no file of this name any more: deleted, renamed, or its directory moved or unmounted.
    Missing,
    /// Another file has the name.
    Replaced,
    /// The log is missing, or another file has its name. The database is still the same.
    LogGone,
    /// The database is shorter than it was: something was copied over it.
    Shorter,
}

impl Trouble {
    /// As the end of a sentence that begins with the database's name.
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Missing => "was deleted or moved",
            Self::Replaced => "was replaced by another file",
            Self::LogGone => "lost its write-ahead log, which was deleted or replaced",
            Self::Shorter => "was overwritten",
        }
    }
}

impl Guard {
    /// Makes the database's file if it is missing, for its owner only, and locks it. Before SQLite opens it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, path: path.to_owned(), source };
        // SQLite would make it readable for others, and gives the log the database's mode.
        let database = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io("open"))?;
        lock(&database, path)?;
        let path = fs::canonicalize(path).map_err(io("open"))?;
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        Ok(Self { _database: database, path, log: log.into(), identities: None, bytes: 0 })
    }

    /// The write-ahead log.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Notes which files they are, once SQLite has both open.
    pub(super) fn note(&mut self) -> io::Result<()> {
        let missing = || io::Error::from(ErrorKind::NotFound);
        let database = look_up(&self.path)?.ok_or_else(missing)?;
        let log = look_up(&self.log)?.ok_or_else(missing)?;
        self.identities = Some([database.identity, log.identity]);
        self.bytes = database.bytes;
        Ok(())
    }

    /// Whether the names still are those of the files that were noted.
    pub(super) fn look(&mut self) -> io::Result<Option<Trouble>> {
        let Some([database, log]) = self.identities else { return Ok(None) };
        let Some(found) = look_up(&self.path)? else { return Ok(Some(Trouble::Missing)) };
        if found.identity != database {
            return Ok(Some(Trouble::Replaced));
        }
        if look_up(&self.log)?.is_none_or(|found| found.identity != log) {
            return Ok(Some(Trouble::LogGone));
        }
        if found.bytes < self.bytes {
            return Ok(Some(Trouble::Shorter));
        }
        self.bytes = found.bytes;
        Ok(None)
    }

    /// Somebody else has made it smaller by right, such as by `VACUUM`.
    pub(super) fn is_shorter_now(&mut self) {
        self.bytes = 0;
    }
}

fn look_up(path: &Path) -> io::Result<Option<Found>> {
    let found = match without_times(path) {
        Err(error) if error.kind() == ErrorKind::Unsupported => with_times(path),
        found => found,
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn with_times(path: &Path) -> io::Result<Found> {
    let found = fs::metadata(path)?;
    let identity = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()), found.ino());
    Ok(Found { identity, bytes: found.len() })
}

/// The same, but for the times: since Linux 6.13 the first write after somebody asked for a file's times gives it new ones,
/// and that takes the file system's journal. Asked after each commit, it made a create a tenth slower.
#[cfg(target_os = "linux")]
fn without_times(path: &Path) -> io::Result<Found> {
    use rustix::{
        fs::{AtFlags, CWD, StatxFlags, statx},
        io::Errno,
    };
    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::SIZE) {
        Ok(found) => Ok(Found {
            identity: (found.stx_dev_major, found.stx_dev_minor, found.stx_ino),
            bytes: found.stx_size,
        }),
        // An old kernel, or a sandbox that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => Err(ErrorKind::Unsupported.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn without_times(_path: &Path) -> io::Result<Found> {
    Err(ErrorKind::Unsupported.into())
}

/// On Linux `flock` and SQLite's own locks do not know of each other; elsewhere they would stand in each other's way, and the
/// directory's lock has to do.
#[cfg(target_os = "linux")]
fn lock(database: &File, path: &Path) -> Result<(), StoreError> {
    use std::fs::TryLockError;
    match database.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::DatabaseLocked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => {
            Err(StoreError::Io { doing: "lock", path: path.to_owned(), source })
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
fn lock(_database: &File, _path: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_with_its_times_and_without() {
        let dir = tempfile::tempdir().unwrap();
        let (file, none) = (dir.path().join("file"), dir.path().join("none"));
        fs::write(&file, "12345").unwrap();
        let found = without_times(&file).unwrap();
        assert_eq!((found, found.bytes), (with_times(&file).unwrap(), 5));
        assert_ne!(found.identity, without_times(dir.path()).unwrap().identity);
        assert_eq!(look_up(&none).unwrap(), None);
        assert_eq!(look_up(&file.join("below")).unwrap(), None);
    }
}
