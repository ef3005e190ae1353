//! One running node: the drivers wired to the cores.

pub mod clock;
mod config;
mod exchange;
mod status;
mod writer;

pub use config::NodeConfig;
pub use exchange::{Exchange, Snapshot};
pub use status::{DhtInfo, NodeStatus, OffersInfo, OutboxInfo, PeerInfo, StoreInfo};
pub use writer::{Journal, JournalError, StartError};

use crate::{exchange::Event, identity::MasterKey, time::UnixMillis};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::mpsc;

/// A running node. Clones share it.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NodeConfig,
    exchange: Exchange,
    started_at: UnixMillis,
    writer: writer::WriterThread,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The exchange core.
    #[error(transparent)]
    Writer(#[from] StartError),
}

#[derive(Default)]
struct Memory(Vec<Event>);

impl Journal for Memory {
    fn load(&mut self) -> Result<Vec<Event>, JournalError> {
        Ok(self.0.clone())
    }
    fn commit(&mut self, events: &[Event]) -> Result<(), JournalError> {
        self.0.extend_from_slice(events);
        Ok(())
    }
}

impl Node {
    /// Starts a node.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let (asks, _) = mpsc::unbounded_channel();
        let (publications, _) = mpsc::unbounded_channel();
        let (fetches, _) = mpsc::unbounded_channel();
        let outlets = writer::Outlets { asks, publications, fetches };
        let mut key = [0; 32];
        let _ = getrandom::fill(&mut key);
        let master = MasterKey::from_bytes(key);
        let (exchange, writer) = writer::start(master, config.network.clone(), Memory::default(), outlets)?;
        Ok(Self { inner: Arc::new(Inner { config, exchange, started_at: clock::now(), writer }) })
    }

    /// The exchange core: commands and snapshots.
    pub fn exchange(&self) -> &Exchange {
        &self.inner.exchange
    }

    /// How the node stands.
    pub fn status(&self) -> NodeStatus {
        let state = &self.inner.exchange.snapshot().state;
        NodeStatus {
            version: env!("CARGO_PKG_VERSION"),
            client_id: self.inner.exchange.client_id(),
            network: self.inner.config.network.clone(),
            started_at: self.inner.started_at,
            rpc: self.inner.config.rpc,
            advertised: self.inner.config.advertise.clone(),
            dht: DhtInfo {
                node_id: String::new(),
                address: SocketAddr::V4(self.inner.config.dht),
                nodes: 1,
                items: 0,
                peers: 0,
            },
            peers: Vec::new(),
            offers: OffersInfo {
                listed: state.market.available.len(),
                records: state.market.records.len(),
                own: state.own.len(),
                trades: state.trades.len(),
            },
            store: StoreInfo { path: self.inner.config.data_dir.clone(), bytes: 0, schema_version: 1 },
            outbox: OutboxInfo { bids_in_doubt: state.bids_in_doubt, unpublished: 0 },
            store_behind: state.is_behind(),
        }
    }

    /// Stops everything, after what was begun is durable.
    pub async fn stop(&self) {
        self.inner.writer.stop();
    }
}
