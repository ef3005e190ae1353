//! What can go wrong with a store, said so that its owner knows what to do.

use crate::identity::{ClientId, Network};
use rusqlite::ErrorCode;
use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

/// Why a store cannot be opened or read. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory.
    #[error(
        "the data directory {dir} is in use by {}; stop it, or give this node a directory of its own",
        .pid.map_or("another process, or another container".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who has it, when it said so.
        pid: Option<u32>,
    },
    /// Another process has the database, by another way than this data directory.
    #[error(
        "the database {path} is in use by another process, through another name or directory; \
         stop that process, or give this node a directory of its own"
    )]
    DatabaseLocked {
        /// The database, as it was named here.
        path: PathBuf,
    },
    /// There is a key that has been used, and no store.
    #[error(
        "the store {path} is missing or empty, but the key beside it has been used: client {client_id} may have open offers, \
         bids without an answer and trades. Restore it from a backup (`vintner backup` makes them); if there is none, start once \
         with --new-store, then `vintner recover` asks the other nodes for what they know"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Whose it was.
        client_id: ClientId,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {path}: {source}{}", advice(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Written by a newer program.
    #[error(
        "the store {path} has schema {found}, this program knows up to {known}; run the newer version that wrote it"
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A database, but not of this program.
    #[error("{path} is not a store of this program; move it away, or choose another data directory")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The store is of another market.
    #[error(
        "the store {path} belongs to network {stored}, not {given}; choose another data directory, or network"
    )]
    WrongNetwork {
        /// The database.
        path: PathBuf,
        /// The network it was made for.
        stored: String,
        /// The network it was opened for.
        given: Network,
    },
    /// The store is of another node.
    #[error(
        "the store {path} belongs to client {stored}, but the key in use is client {given}'s; \
         put back the key file that was beside it"
    )]
    WrongClient {
        /// The database.
        path: PathBuf,
        /// The client it was made for.
        stored: String,
        /// The client it was opened for.
        given: ClientId,
    },
    /// A row is not what this program wrote.
    #[error("the store {path} is damaged: table {table}, row {row}: {problem}; restore it from a backup")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong.
        problem: String,
    },
    /// SQLite refused something.
    #[error("cannot {doing} the store {path}: {source}")]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether starting again as it is will meet the same: only a person can mend it.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::NewerSchema { .. }
            | Self::NotAStore { .. }
            | Self::WrongNetwork { .. }
            | Self::WrongClient { .. }
            | Self::Damaged { .. } => true,
            Self::Io { source, .. } => io_needs_a_person(source),
            Self::Sqlite { source, .. } => sqlite_needs_a_person(source),
            Self::Locked { .. } | Self::DatabaseLocked { .. } => false,
        }
    }
}

/// Whether the system will say the same to whoever asks again with the same rights.
pub(super) fn io_needs_a_person(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
    )
}

fn sqlite_needs_a_person(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
        )
    )
}

/// What to do about it, as the rest of a sentence.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "; run as the user whose it is, make it that user's with chown, or choose another --data-dir"
        }
        ErrorKind::ReadOnlyFilesystem => "; mount it writable, or choose another --data-dir",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => "; move it away, or choose another --data-dir",
        _ => "",
    }
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space: nothing was written. The store works again once there is some.
    #[error("the disk of the store {path} is full; nothing was written, free some space")]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The files are not those that were opened. What was written may be lost with the process.
    #[error(
        "the database {path} {what} while the node ran; nothing is acknowledged any more{}",
        .saved.as_ref().map_or(String::new(), |saved| format!(
            ". All that it held was saved as {}: to go on with it, move it to {} while no node runs",
            saved.display(), path.display()
        ))
    )]
    Gone {
        /// The database.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
        /// Where a copy of all that was committed is.
        saved: Option<PathBuf>,
    },
    /// Anything else. Whether the events are on disk is not known: only reading the store again tells, so the node must stop.
    #[error("cannot write to the store {path}: {source}")]
    Failed {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl CommitError {
    /// Whether a next start will meet the same: only a person can mend it.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Full { .. } => false,
            Self::Failed { source, .. } => sqlite_needs_a_person(source),
        }
    }
}
