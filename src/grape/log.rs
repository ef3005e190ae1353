//! The log: files `state-N.log` that are only ever appended to, and deleted as a whole.
//!
//! A start never appends to the file of an earlier run, whose end may be torn. Which files are still needed is the keeper's
//! decision; this file opens, writes, reads and deletes.

use super::{frame, record::Record};
use crate::store::StoreError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file is closed, and another begun, when it is this long. One of them is read at a time.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A longer file was not written by this program; the rest of it is not read.
const READ_BYTES_MAX: u64 = 4 * FILE_BYTES_MAX;

/// The files of a directory, and the one that is written.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    /// Their numbers and lengths, in order; the last one is written, if `file` is there.
    files: Vec<(u64, u64)>,
    file: Option<File>,
}

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Records with the time at which their lives began, in the order in which they were written.
    pub(super) records: Vec<(u64, Record)>,
    /// Bytes that belong to no record.
    pub(super) lost_bytes: u64,
}

impl Log {
    /// Looks for the files in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { doing: "read the directory", path: dir.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(number) = number(&entry.file_name().to_string_lossy()) {
                files.push((number, entry.metadata().map_or(0, |about| about.len())));
            }
        }
        files.sort_unstable();
        Ok(Self { dir: dir.to_owned(), files, file: None })
    }

    /// The files that there are now.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(number, _)| self.path(*number)).collect()
    }

    /// All their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("state-{number:010}.log"))
    }

    /// Appends frames, to a new file when the last one is full or an earlier run's.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.files.last().is_some_and(|(_, bytes)| *bytes >= FILE_BYTES_MAX) {
            self.close();
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let number = self.files.last().map_or(1, |(number, _)| number + 1);
                let path = self.dir.join(format!("state-{number:010}.log"));
                let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
                self.files.push((number, 0));
                none.insert(file)
            }
        };
        let written = file.write_all(frames);
        if let (Some((_, bytes)), Ok(about)) = (self.files.last_mut(), file.metadata()) {
            // Also of a write that failed half-way: its torn frame is passed over.
            *bytes = about.len();
        }
        written
    }

    /// The next append begins a new file; returns how many files there are before it.
    pub(super) fn close(&mut self) -> usize {
        self.file = None;
        self.files.len()
    }

    /// Writes to the disk what the system still holds of the last file.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Deletes the first `count` files.
    pub(super) fn delete(&mut self, count: usize) {
        for (number, _) in self.files.drain(..count.min(self.files.len())).collect::<Vec<_>>() {
            let path = self.path(number);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "an old file of the grape's state cannot be deleted");
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("state-")?.strip_suffix(".log")?.parse().ok()
}

/// Reads a file as far as it can be read.
pub(super) fn read(path: &Path) -> io::Result<Read> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    io::Read::read_to_end(&mut io::Read::take(file, READ_BYTES_MAX), &mut bytes)?;
    let mut found = Read::default();
    let lost = frame::read(&bytes, |payload| match Record::read(payload) {
        Some(record) => {
            found.records.push(record);
            true
        }
        None => false,
    });
    found.lost_bytes = lost as u64 + length.saturating_sub(bytes.len() as u64);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(port: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let record = Record::Own { name: b"name"[..].into(), port };
        frame::write(&mut out, |out| record.write(7, out));
        out
    }
    fn ports(log: &Log) -> Vec<u16> {
        let records = log.paths().into_iter().flat_map(|path| read(&path).unwrap().records);
        let port = |(_, record)| if let Record::Own { port, .. } = record { port } else { 0 };
        records.map(port).collect()
    }

    #[test]
    fn a_start_begins_a_file_of_its_own_and_reads_all() {
        let dir = tempfile::tempdir().unwrap();
        for port in 1..=3 {
            let mut log = Log::open(dir.path()).unwrap();
            assert_eq!(log.paths().len(), usize::from(port) - 1);
            log.append(&frames(port)).unwrap();
        }
        let mut log = Log::open(dir.path()).unwrap();
        assert_eq!(ports(&log), [1, 2, 3]);
        let before = log.close();
        log.append(&frames(4)).unwrap();
        log.delete(before);
        assert_eq!((ports(&log), ports(&Log::open(dir.path()).unwrap())), (vec![4], vec![4]));
        assert_eq!(log.bytes(), frames(4).len() as u64);
    }

    #[test]
    fn a_full_file_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        let many = frames(1).repeat(usize::try_from(FILE_BYTES_MAX).unwrap() / frames(1).len() + 1);
        log.append(&many).unwrap();
        log.append(&frames(2)).unwrap();
        assert_eq!((log.paths().len(), log.bytes()), (2, (many.len() + frames(2).len()) as u64));
        assert_eq!(ports(&log).last(), Some(&2));
    }

    #[test]
    fn what_is_torn_is_counted_and_what_stands_around_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        log.append(&frames(1)).unwrap();
        log.append(&frames(9)[..20]).unwrap();
        log.append(&frames(2)).unwrap();
        let path = log.paths().remove(0);
        assert_eq!(read(&path).unwrap().lost_bytes, 20);
        assert_eq!(ports(&log), [1, 2]);
    }
}
