//! The task that owns the socket and the core.

use super::{
    core::{DhtEvent, DhtStatus, Found, GetMode, Item, Put, PutOutcome},
    handle::{DhtConfig, DhtError},
};
use crate::{bep44::Target, workers::Workers};
use std::{net::SocketAddrV4, sync::Arc};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// A call of the handle.
pub(super) enum Command {
    Announce {
        name: Arc<[u8]>,
        port: u16,
        reply: oneshot::Sender<Result<usize, DhtError>>,
    },
    Lookup {
        name: Arc<[u8]>,
        reply: oneshot::Sender<Result<Vec<SocketAddrV4>, DhtError>>,
    },
    Put {
        put: Put,
        reply: oneshot::Sender<Result<PutOutcome, DhtError>>,
    },
    Get {
        target: Target,
        salt: Arc<[u8]>,
        mode: GetMode,
        reply: oneshot::Sender<Result<Option<Found>, DhtError>>,
    },
    Local {
        target: Target,
        reply: oneshot::Sender<Option<Item>>,
    },
    KeepAnnounced {
        name: Arc<[u8]>,
        port: u16,
        reply: oneshot::Sender<Result<(), DhtError>>,
    },
    ForgetAnnounced {
        name: Arc<[u8]>,
        reply: oneshot::Sender<()>,
    },
    KeepItem {
        item: Item,
        reply: oneshot::Sender<Result<(), DhtError>>,
    },
    ForgetItem {
        target: Target,
        reply: oneshot::Sender<()>,
    },
    KnownNodes {
        reply: oneshot::Sender<Vec<SocketAddrV4>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

#[allow(clippy::unused_async, unused)]
pub(super) async fn start(
    _config: DhtConfig,
    _workers: Workers,
    _inbox: mpsc::Receiver<Command>,
    _events: broadcast::Sender<DhtEvent>,
) -> Result<watch::Receiver<DhtStatus>, DhtError> {
    Err(DhtError::Stopped)
}
