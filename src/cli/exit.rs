//! What a command tells the shell, and which failure is told how.

use crate::{
    http::api::ApiError,
    node::{NodeError, NodeFailure, StartError},
    store::{StoreError, keyfile::KeyFileError},
};
use std::{io, process::ExitCode};

/// What a command tells the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    InDoubt,
    /// A port that it was told to listen on is taken.
    PortTaken,
    /// Another process has its data directory.
    DataInUse,
    /// The data directory is not one that this program, as it was started, can use: no use in starting it again as it is.
    DataUnusable,
}

/// What is wrong with how the command was called, with its settings: no use in calling it again as it was.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct WrongUsage(anyhow::Error);

impl WrongUsage {
    /// Marks an error as one of the settings.
    pub(crate) fn of(error: anyhow::Error) -> anyhow::Error {
        Self(error).into()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::InDoubt => 3,
            Exit::PortTaken => 4,
            Exit::DataInUse => 5,
            Exit::DataUnusable => 6,
        })
    }
}

impl Exit {
    /// How an error is told.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failed)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<WrongUsage>() {
            return Some(Self::Usage);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return (error.kind() == io::ErrorKind::AddrInUse).then_some(Self::PortTaken);
        }
        match cause.downcast_ref::<ApiError>() {
            Some(ApiError::Bind { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => {
                return Some(Self::PortTaken);
            }
            _ => {}
        }
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return Self::of_store(error);
        }
        // Transparent errors are not in the chain themselves, only what holds them.
        if let Some(error) = cause.downcast_ref::<KeyFileError>() {
            return Self::of_key(error);
        }
        if let Some(failure) = cause.downcast_ref::<NodeFailure>() {
            return failure.needs_a_person.then_some(Self::DataUnusable);
        }
        match cause.downcast_ref::<NodeError>()? {
            NodeError::Store(error) => Self::of_store(error),
            NodeError::Key(error) => Self::of_key(error),
            NodeError::Commit(error) => error.needs_a_person().then_some(Self::DataUnusable),
            NodeError::Writer(StartError::Journal(error)) => {
                error.needs_a_person().then_some(Self::DataUnusable)
            }
            _ => None,
        }
    }

    fn of_store(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::Locked { .. } | StoreError::DatabaseLocked { .. } => Some(Self::DataInUse),
            error => error.needs_a_person().then_some(Self::DataUnusable),
        }
    }

    fn of_key(error: &KeyFileError) -> Option<Self> {
        match error {
            KeyFileError::Directory(error) => Self::of_store(error),
            error => error.needs_a_person().then_some(Self::DataUnusable),
        }
    }
}
