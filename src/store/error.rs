//! What can go wrong with a store, said so that its owner knows what to do.

use crate::identity::{ClientId, Network};
use std::path::PathBuf;

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
    /// The operating system refused something.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
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

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space: nothing was written. The store works again once there is some.
    #[error("the disk of the store {path} is full; nothing was written, free some space")]
    Full {
        /// The database.
        path: PathBuf,
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
