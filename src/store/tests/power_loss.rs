//! The power goes off: on a disk in memory that forgets what was never synced, in whole or in part.
//!
//! SIGKILL does not test this, since the operating system keeps what a dead process wrote. Here SQLite runs on a file layer of
//! our own. At a random write or sync the power is cut; of what was written since the last sync of a file nothing survives,
//! or a beginning, or any of its 512-byte sectors in any combination. What was acknowledged must be there afterwards, and
//! nothing but at most the commit that was under way besides. The same harness with `synchronous = OFF` must lose something.
//!
//! The layer assumes what ext4, XFS and APFS give: a name is durable once its file was synced, a deletion at once.

use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlite_vfs::{
    DatabaseHandle, LockKind, OpenAccess, OpenOptions as VfsOptions, Vfs,
    wip::{WalIndex, WalIndexLock},
};
use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The unit that a disk writes in whole or not at all.
const SECTOR: usize = 512;

/// One file: what is on the platter, what programs see, and the changes between the two.
#[derive(Clone, Default)]
struct FileImage {
    on_disk: Option<Vec<u8>>,
    seen: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    fn sectors(self) -> Vec<Self> {
        match self {
            Self::Write(at, data) => data
                .chunks(SECTOR)
                .enumerate()
                .map(|(n, part)| Self::Write(at + n * SECTOR, part.to_vec()))
                .collect(),
            Self::SetLen(_) => vec![self],
        }
    }
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, FileImage>,
    /// Changes and syncs until the power goes off.
    power_left: Option<u32>,
    /// Bytes that still fit, when space is short.
    space_left: Option<usize>,
}

impl Disk {
    fn draw_power(&mut self) -> io::Result<()> {
        match &mut self.power_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(io::Error::other("the power went off")) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// What the platter holds when the power is back.
    fn reboot(&mut self, rng: &mut StdRng) {
        let mode = rng.random_range(0..4);
        for file in self.files.values_mut() {
            let unsynced: Vec<Change> =
                std::mem::take(&mut file.unsynced).into_iter().flat_map(Change::sectors).collect();
            let first = rng.random_range(0..=unsynced.len());
            for (n, change) in unsynced.into_iter().enumerate() {
                let survives = match mode {
                    0 => false,
                    1 => n < first,
                    2 => rng.random(),
                    // Later ones reached the platter, earlier ones did not.
                    _ => n >= first,
                };
                if survives {
                    change.apply(file.on_disk.get_or_insert_default());
                }
            }
            file.seen = file.on_disk.clone().unwrap_or_default();
        }
        self.files.retain(|_, file| file.on_disk.is_some());
        self.power_left = None;
    }
}

#[derive(Clone, Default)]
struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Handle {
    disk: SharedDisk,
    name: String,
    lock: LockKind,
}

impl Handle {
    fn change(&mut self, change: Change) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.draw_power()?;
        if let (Change::Write(at, data), Some(left)) = (&change, disk.space_left) {
            let grows = (at + data.len()).saturating_sub(disk.files[&self.name].seen.len());
            disk.space_left = Some(left.checked_sub(grows).ok_or(io::ErrorKind::WriteZero)?);
        }
        let file = disk.files.entry(self.name.clone()).or_default();
        change.apply(&mut file.seen);
        file.unsynced.push(change);
        Ok(())
    }
}

impl DatabaseHandle for Handle {
    type WalIndex = Index;

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.disk().files.get(&self.name).map_or(0, |file| file.seen.len() as u64))
    }

    fn read_exact_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.disk.disk();
        let seen = disk.files.get(&self.name).map_or(&[][..], |file| &file.seen);
        let rest = seen.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        buf[len..].fill(0);
        if len == buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset as usize, buf.to_vec()))
    }

    fn sync(&mut self, _data_only: bool) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.draw_power()?;
        let file = disk.files.entry(self.name.clone()).or_default();
        file.on_disk = Some(file.seen.clone());
        file.unsynced.clear();
        Ok(())
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        self.change(Change::SetLen(size as usize))
    }

    /// One connection at a time: it always gets its lock.
    fn lock(&mut self, lock: LockKind) -> io::Result<bool> {
        self.lock = lock;
        Ok(true)
    }

    fn reserved(&mut self) -> io::Result<bool> {
        Ok(self.lock >= LockKind::Reserved)
    }

    fn current_lock(&self) -> io::Result<LockKind> {
        Ok(self.lock)
    }

    fn wal_index(&self, _readonly: bool) -> io::Result<Index> {
        Ok(Index)
    }
}

/// The log's index is memory, and lost with it: SQLite makes it anew from the log.
struct Index;

impl WalIndex for Index {
    #[allow(clippy::large_stack_arrays, reason = "the trait asks for an array")]
    fn map(&mut self, _region: u32) -> io::Result<[u8; 32768]> {
        Ok([0; 32768])
    }
    fn lock(&mut self, _locks: Range<u8>, _lock: WalIndexLock) -> io::Result<bool> {
        Ok(true)
    }
    fn delete(self) -> io::Result<()> {
        Ok(())
    }
}

impl Vfs for SharedDisk {
    type Handle = Handle;

    fn open(&self, name: &str, options: VfsOptions) -> io::Result<Handle> {
        let mut disk = self.disk();
        let creates = matches!(options.access, OpenAccess::Create | OpenAccess::CreateNew);
        if !creates && !disk.files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.files.entry(name.to_owned()).or_default();
        Ok(Handle { disk: self.clone(), name: name.to_owned(), lock: LockKind::None })
    }
    fn delete(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.draw_power()?;
        disk.files.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.disk().files.contains_key(name))
    }
    fn temporary_name(&self) -> String {
        "temporary".to_owned()
    }
    fn random(&self, buffer: &mut [i8]) {
        buffer.iter_mut().enumerate().for_each(|(n, byte)| *byte = n as i8);
    }
    fn sleep(&self, duration: std::time::Duration) -> std::time::Duration {
        duration
    }
}

/// A store on the disk in memory; only the directory's lock is on a real one.
fn open_on(vfs: &str, dir: &Path) -> Result<Store, StoreError> {
    let lock = DirLock::take(dir)?;
    let path = PathBuf::from("/vintner.db");
    let conn = Connection::open_with_flags_and_vfs(&path, FLAGS, vfs)
        .map_err(|source| StoreError::Sqlite { doing: "open", path: path.clone(), source })?;
    Store::on(conn, path, lock, &network(), client(1))
}

/// Whether a commit is acknowledged to somebody. Hints alone are not: the network tells them again.
fn is_durable(batch: &[Event]) -> bool {
    batch.iter().any(Event::must_be_durable)
}

/// Cuts the power five times at random points of one history; says what was lost, if anything was.
fn live_through(seed: u64, vfs: &str, disk: &SharedDisk, synchronous: &str) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (batches, states) = Pair::history(seed % 8, 150);
    let dir = tempfile::tempdir().unwrap();
    *disk.disk() = Disk::default();
    let (mut committed, mut durable) = (0, 0);
    for cut in 0..6 {
        let last = cut == 5;
        disk.disk().power_left = (!last).then(|| rng.random_range(1..if cut == 0 { 300 } else { 150 }));
        let mut trying = committed;
        if let Ok(mut store) = open_on(vfs, dir.path()) {
            store.conn.pragma_update(None, "synchronous", synchronous).unwrap();
            // Often, so that the power also goes off while the log is being moved to the database.
            store.conn.pragma_update(None, "wal_autocheckpoint", rng.random_range(2..40)).unwrap();
            while let Some(batch) = batches.get(committed).filter(|_| !last) {
                trying = committed + 1;
                if store.commit(batch).is_err() {
                    break;
                }
                committed += 1;
                durable = if is_durable(batch) { committed } else { durable };
            }
        }
        disk.disk().reboot(&mut rng);
        let mut store = open_on(vfs, dir.path()).map_err(|e| format!("cut {cut}: {e}"))?;
        let sound: String = store
            .conn
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .map_err(|e| e.to_string())?;
        if sound != "ok" {
            return Err(format!("cut {cut}: {sound}"));
        }
        let mut state = State::default();
        store
            .load(NOBODY_DEAD)
            .map_err(|e| format!("cut {cut}: {e}"))?
            .iter()
            .for_each(|event| state.apply(event));
        committed = match (durable..=trying).find(|n| states[*n] == state) {
            Some(found) => found,
            None => {
                return Err(format!("cut {cut}: {durable} commits were acknowledged and are not there"));
            }
        };
        durable = committed;
    }
    Ok(())
}

#[test]
fn a_power_loss_takes_nothing_that_was_acknowledged() {
    let disk = SharedDisk::default();
    sqlite_vfs::register("power-loss", disk.clone(), false).unwrap();
    for seed in 0..200 {
        if let Err(lost) = live_through(seed, "power-loss", &disk, "FULL") {
            panic!("seed {seed}: {lost}");
        }
    }
}

#[test]
fn the_same_disk_takes_acknowledged_commits_when_sqlite_does_not_sync() {
    for synchronous in ["OFF", "NORMAL"] {
        let disk = SharedDisk::default();
        let vfs = format!("power-loss-{synchronous}");
        sqlite_vfs::register(&vfs, disk.clone(), false).unwrap();
        let mut lost = (0..50).filter_map(|seed| live_through(seed, &vfs, &disk, synchronous).err());
        assert!(lost.any(|lost| lost.contains("acknowledged")), "synchronous = {synchronous} lost nothing");
    }
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_commit_loses_nothing() {
    let disk = SharedDisk::default();
    sqlite_vfs::register("disk-full", disk.clone(), false).unwrap();
    let (batches, states) = Pair::history(5, 150);
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        *disk.disk() = Disk::default();
        let mut store = open_on("disk-full", dir.path()).unwrap();
        let (mut committed, mut durable) = (0, 0);
        for _ in 0..4 {
            disk.disk().space_left = Some(rng.random_range(0..200_000));
            while let Some(batch) = batches.get(committed) {
                match store.commit(batch) {
                    Ok(()) => {
                        committed += 1;
                        durable = if is_durable(batch) { committed } else { durable };
                    }
                    Err(CommitError::Full { .. }) => break,
                    Err(other) => panic!("seed {seed}: {other}"),
                }
            }
            assert!(state_of(&mut store) == states[committed], "seed {seed}");
            disk.disk().space_left = None;
            if rng.random() {
                disk.disk().power_left = Some(0);
                drop(store);
                disk.disk().reboot(&mut rng);
                store = open_on("disk-full", dir.path()).unwrap();
                let state = state_of(&mut store);
                let found = (durable..=committed).find(|n| states[*n] == state);
                durable = found.unwrap_or_else(|| panic!("seed {seed}, after a power loss"));
                committed = durable;
            }
        }
        batches[committed..].iter().for_each(|batch| store.commit(batch).unwrap());
        assert!(state_of(&mut store) == *states.last().unwrap(), "seed {seed}");
    }
}
