//! How a node stands, for its owner.

use crate::{
    identity::{ClientId, Network},
    replication::core::{Counters, Status},
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
    pub status: Status,
    /// What happened so far.
    pub counters: Counters,
    /// Whether other nodes were looked for since the start, to the end.
    pub looked: bool,
}

impl ReplicaView {
    /// Whether everything is held that is on offer; otherwise the sentence that says what is missing.
    ///
    /// Nothing that is known to be missing is not enough: a node that nobody passes records on to does not hear what is missing.
    /// Only one that knows no other maker has nothing to miss: a network of one.
    pub fn synced(&self) -> Result<(), String> {
        let Status { neighbours, makers, behind, .. } = &self.status;
        let count = |count| if count == 1 { "1 maker".to_owned() } else { format!("{count} makers") };
        if *behind > 0 {
            return Err(format!(
                "the node is behind {}: it holds less than their heads say, and is fetching the rest",
                count(*behind)
            ));
        }
        if neighbours.is_empty() && !self.looked {
            return Err("the node has just started and is looking for other nodes".into());
        }
        if neighbours.is_empty() && *makers > 0 {
            return Err(format!(
                "no other node passes records on to this one, so it cannot tell what it lacks of the {} that it knows; check \
                 that other nodes can be reached",
                count(*makers)
            ));
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::MasterKey;

    #[test]
    fn whoever_hears_nobody_is_synced_only_in_a_network_of_one() {
        let one = vec![MasterKey::from_bytes([1; 32]).client_key().public()];
        let says = |neighbours: &[ClientId], makers, behind| {
            let status = Status { neighbours: neighbours.to_vec(), makers, behind, ..Status::default() };
            let view = ReplicaView { status, looked: true, ..ReplicaView::default() };
            view.synced().err().unwrap_or_default()
        };
        let just_started = ReplicaView::default().synced();
        assert!(just_started.unwrap_err().contains("just started"));
        assert_eq!(says(&[], 0, 0), "", "alone");
        assert_eq!(says(&one, 0, 0), "", "beside one that offers nothing");
        assert_eq!(says(&one, 3, 0), "");
        assert!(says(&one, 3, 2).contains("behind 2 makers:"));
        assert!(says(&one, 3, 1).contains("behind 1 maker:"));
        assert!(says(&[], 3, 0).contains("of the 3 makers that it knows;"), "parted from the others");
        assert!(says(&[], 3, 3).contains("behind 3 makers:"));
    }
}
