//! Can the data directory be written, and is what lies in it still what the node opened?
//!
//! The writer finds out by itself when somebody waits for a commit. Here it is found before anybody does, and, once the disk was full,
//! that there is room again: a look every two seconds, which asks the system for the free space and whose the names are, and lets the
//! writer try one small commit only while the disk is full.

use super::exchange::Exchange;
use crate::{
    identity::ClientId,
    store::keyfile::{self, KEY_FILE},
};
use rustix::fs::statvfs;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What a commit may need at once beside the room that the write-ahead log has already: pages of the database and of a log that grows.
const COMMIT_BYTES: u64 = 256 << 10;

/// What the writer and the looks have found. Shared by both.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// A commit found no room, and none has since.
    full: AtomicBool,
    /// Free bytes, while there are too few.
    scarce: Mutex<Option<u64>>,
    key_trouble: Mutex<Option<String>>,
}

impl Disk {
    /// What came of a commit: whether there was room. Says so when that has changed.
    pub(super) fn committed(&self, had_room: bool) {
        let was_full = self.full.swap(!had_room, Ordering::Relaxed);
        if was_full && had_room {
            tracing::info!("the disk of the data directory has room again: writes are taken");
        }
    }

    /// Why nothing can be written, if that is so.
    pub(super) fn cannot_write(&self) -> Option<String> {
        let scarce = *self.scarce.lock().unwrap_or_else(PoisonError::into_inner);
        let full = self.full.load(Ordering::Relaxed);
        match (scarce, full) {
            (Some(bytes), _) => {
                Some(format!("the disk of the data directory is full: {} KiB are free", bytes / 1024))
            }
            (None, true) => {
                Some("the disk of the data directory was full when something was to be stored".into())
            }
            (None, false) => None,
        }
    }

    /// What is wrong with the key's file, if something is.
    pub(super) fn key_trouble(&self) -> Option<String> {
        self.key_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// One look at the free space and the key's file.
    fn look(&self, dir: &Path, client: ClientId) {
        // What cannot be asked is not known; the next commit will tell.
        let free = statvfs(dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        *self.scarce.lock().unwrap_or_else(PoisonError::into_inner) =
            free.filter(|free| *free < COMMIT_BYTES);
        *self.key_trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            key_trouble(&dir.join(KEY_FILE), client);
    }
}

/// The key is in memory; its file counts at the next start.
fn key_trouble(path: &Path, client: ClientId) -> Option<String> {
    let shown = path.display();
    match keyfile::load(path) {
        Ok(Some(key)) if key.client_key().public() == client => None,
        Ok(Some(_)) => Some(format!("{shown} holds another client's key than the one in use")),
        Ok(None) => Some(format!("{shown} is missing")),
        Err(error) => Some(error.to_string()),
    }
}

/// Looks until the writer is gone.
pub(super) async fn watch(dir: PathBuf, exchange: Exchange) {
    let disk = exchange.disk();
    loop {
        let (looked, dir, client) = (Arc::clone(disk), dir.clone(), exchange.client_id());
        // A disk that hangs must not stop a thread that serves others.
        let look = tokio::task::spawn_blocking(move || looked.look(&dir, client));
        if look.await.is_err() || !exchange.check_store(disk.is_full()) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::MasterKey;
    use std::{fs, io};

    #[test]
    fn a_full_disk_is_told_until_a_commit_had_room() {
        let disk = Disk::default();
        disk.committed(true);
        assert_eq!(disk.cannot_write(), None);
        disk.committed(false);
        assert!(disk.is_full() && disk.cannot_write().is_some());
        disk.committed(true);
        assert_eq!(disk.cannot_write(), None);
    }

    #[test]
    fn a_key_that_is_gone_or_another_is_told_until_it_is_back() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(KEY_FILE);
        let key = keyfile::load_or_create(&path).unwrap();
        let (disk, client) = (Disk::default(), key.client_key().public());
        let trouble = || {
            disk.look(dir.path(), client);
            disk.key_trouble()
        };
        assert_eq!(trouble(), None);
        let kept = fs::read(&path)?;
        fs::remove_file(&path)?;
        assert!(trouble().is_some_and(|told| told.contains("is missing")));
        let other = MasterKey::from_bytes([9; 32]);
        keyfile::load_or_create(&path).unwrap();
        assert_ne!(other.client_key().public(), client);
        assert!(trouble().is_some_and(|told| told.contains("another client's")));
        fs::write(&path, kept)?;
        assert_eq!(trouble(), None);
        Ok(())
    }
}
