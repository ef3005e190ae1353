//! How a node stands, for its owner.

use crate::{
    identity::{ClientId, Network},
    replication::core::{Counters, Status},
    standing::{self, Level, Reason},
    time::UnixMillis,
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

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
    /// How complete its copy of what is on offer is.
    pub replication: Arc<ReplicaView>,
    /// Its market.
    pub offers: OffersInfo,
    /// Its store.
    pub store: StoreInfo,
    /// What waits to be sent.
    pub outbox: OutboxInfo,
    /// What it heard from the network.
    pub heard: HeardInfo,
    /// The account of how it stands: everything that its owner should know, the gravest first.
    pub reasons: Vec<Reason>,
    /// Whether the network knows newer versions of its own records than it does.
    pub store_behind: bool,
}

impl NodeStatus {
    /// Whether it can trade.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        standing::is_well(&self.reasons, Level::Fail)
    }

    /// Whether it holds everything that is on offer.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        standing::is_synced(&self.reasons)
    }
}

/// How replication stands, as its task last saw it.
#[derive(Clone, Debug, Default)]
pub struct ReplicaView {
    /// Neighbours, makers, what is lacking.
    pub status: Status,
    /// What happened so far.
    pub counters: Counters,
    /// Other nodes were looked for since the start, to the end, and the first that were met have said whether they become neighbours.
    pub looked: bool,
    /// The same, and there was a DHT to ask for them.
    pub looked_in_dht: bool,
    /// The addresses under the network's name at which nobody answered in the last search, this node's own left out, and what was tried.
    pub silent: Arc<[(SocketAddr, String)]>,
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
