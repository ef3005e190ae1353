//! How a node stands, for its owner.

use crate::{
    identity::{ClientId, Network},
    replication,
    time::UnixMillis,
};
use std::{net::SocketAddr, path::PathBuf};

/// How a node stands.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The program's version.
    pub version: &'static str,
    /// Who this node is.
    pub client_id: ClientId,
    /// The market.
    pub network: Network,
    /// When it was started.
    pub started_at: UnixMillis,
    /// Where its RPC listens.
    pub rpc: SocketAddr,
    /// Where it tells others to reach its RPC.
    pub advertised: Vec<SocketAddr>,
    /// Its DHT node.
    pub dht: DhtInfo,
    /// Other trading nodes whose address was checked by a hello.
    pub peers: Vec<PeerInfo>,
    /// Its market.
    pub offers: OffersInfo,
    /// Its store.
    pub store: StoreInfo,
    /// What waits to be sent.
    pub outbox: OutboxInfo,
    /// What it heard from the network.
    pub heard: HeardInfo,
    /// Whether the network knows newer versions of its own records than it does.
    pub store_behind: bool,
}

impl NodeStatus {
    /// Whether it can trade: it has found the DHT and its store is not behind. Otherwise the sentence that says what is missing.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.store_behind {
            return Err(
                "the store is behind the network; restore the newest data directory or run `vintner recover`",
            );
        }
        if self.dht.nodes == 0 {
            return Err("no DHT node answers; check that one of the bootstrap nodes runs");
        }
        Ok(())
    }
}

/// How replication stands, as its task last saw it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaView {
    /// Neighbours, makers, what is lacking.
    pub status: replication::core::Status,
    /// What happened so far.
    pub counters: replication::core::Counters,
}

/// The DHT node in numbers.
#[derive(Clone, Debug)]
pub struct DhtInfo {
    /// Its id, 40 hex digits.
    pub node_id: String,
    /// Its UDP address.
    pub address: SocketAddr,
    /// Nodes in the routing table.
    pub nodes: usize,
    /// Items stored for others and itself.
    pub items: usize,
    /// Announced peers stored for others.
    pub peers: usize,
}

/// A trading node that was reached.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who it is.
    pub client_id: ClientId,
    /// Where it answered.
    pub address: SocketAddr,
    /// When it answered last.
    pub seen_at: UnixMillis,
}

/// The market in numbers.
#[derive(Clone, Copy, Debug)]
pub struct OffersInfo {
    /// Offers that can be taken.
    pub listed: usize,
    /// All records held, closed ones included.
    pub records: usize,
    /// Own offers that are not dead.
    pub own: usize,
    /// Trades.
    pub trades: usize,
}

/// The store in numbers.
#[derive(Clone, Debug)]
pub struct StoreInfo {
    /// The data directory.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// The schema's number.
    pub schema_version: i64,
}

/// What waits.
#[derive(Clone, Copy, Debug)]
pub struct OutboxInfo {
    /// Own bids whose maker has not answered.
    pub bids_in_doubt: usize,
    /// Own records whose newest version has not reached the DHT.
    pub unpublished: usize,
}

/// What was heard since the start.
#[derive(Clone, Copy, Debug)]
pub struct HeardInfo {
    /// Announcements of offers.
    pub announcements: u64,
    /// Hints dropped because a bound was reached.
    pub dropped: u64,
    /// Records refused: forged, malformed, of another network.
    pub refused: u64,
}
