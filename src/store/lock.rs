//! One process a data directory.
//!
//! The operating system holds the lock and lets go of it when the process ends, however it ends. The number in the file is only
//! for the message to whoever comes second.

use super::StoreError;
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process,
};

/// The file in the data directory that is locked.
const LOCK_FILE: &str = "lock";
/// A process number and a newline are far shorter.
const PID_BYTES_MAX: u64 = 32;

/// The data directory, held by this process until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes `dir` if it is missing (readable by its owner only), and takes it.
    ///
    /// # Errors
    /// When another process has it, or the system refuses.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, path: dir.to_owned(), source };
        if !dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("make the directory"))?;
            // The name of the new directory must survive a power loss, too.
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(parent).map_err(io("sync the parent of"))?;
        }
        let path = dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::Io { doing: "open", path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { dir: dir.to_owned(), pid: read_pid(&file) });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io { doing: "lock", path, source });
            }
        }
        // A hint only: a lock without it is as good.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", process::id()).as_bytes()));
        Ok(Self { _file: file })
    }
}

/// A process that has a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, as far as it said it.
    pub pid: Option<u32>,
}

/// Who has `dir`, without taking it. Nobody has one that is not there.
///
/// # Errors
/// When its lock cannot be looked at.
pub fn holder(dir: &Path) -> Result<Option<Holder>, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { doing: "open", path, source }),
    };
    // Shared, so that two who look do not see each other; let go of when the file is closed, at once.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(Holder { pid: read_pid(&file) })),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { doing: "look at the lock", path, source }),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    // Our own number is that of a process elsewhere: containers that share a volume each count from one.
    text.trim().parse().ok().filter(|pid| *pid != process::id())
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
