//! The node as the REST API shows it.

use super::{Time, TradeView, text};
use crate::{
    identity::{ClientId, Network},
    market::{OfferId, TradeId, TradeReceipt},
    node::{NodeStatus, Recovered},
    standing::Reason,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use utoipa::ToSchema;

/// The DHT node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhtView {
    /// Its id, 40 hex digits.
    #[schema(value_type = text::Hash)]
    pub node_id: String,
    /// Its UDP address.
    #[schema(value_type = text::Address)]
    pub address: SocketAddr,
    /// Nodes in the routing table.
    pub nodes: usize,
    /// Items stored, for others and itself.
    pub items: usize,
    /// Announced peers stored for others.
    pub peers: usize,
}

/// Another trading node that answered a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Who it is.
    #[schema(value_type = text::ClientKey)]
    pub client_id: ClientId,
    /// Where it answered.
    #[schema(value_type = text::Address)]
    pub address: SocketAddr,
    /// When it answered last.
    pub seen_at: Time,
}

/// How far this node's copy of what is on offer is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationView {
    /// `true`: everything is held that is on offer. `false`: `reasons` say why not, at level `sync`.
    pub synced: bool,
    /// Makers of whom less is held than their heads say.
    pub behind: usize,
    /// Other makers that are known.
    pub makers: usize,
    /// Makers that have been silent for three minutes and more.
    pub stale: usize,
    /// Nodes that pass records on to this one, by their client ids.
    #[schema(value_type = Vec<text::ClientKey>)]
    pub neighbours: Vec<ClientId>,
    /// Records that are held, and the dead that are still known.
    pub records: usize,
}

/// The market in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OffersView {
    /// Offers that can be taken.
    pub listed: usize,
    /// All records held, closed ones included.
    pub records: usize,
    /// Own offers that are not dead.
    pub own: usize,
    /// Trades.
    pub trades: usize,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// The data directory.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// The number of its schema.
    pub schema_version: i64,
    /// Whether the network knows newer versions of own records than it does: then the node neither offers nor bids.
    pub behind: bool,
}

/// What waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutboxView {
    /// Own bids whose maker has not answered.
    pub bids_in_doubt: usize,
    /// Own records whose newest version has not reached the DHT.
    pub unpublished: usize,
}

/// What was heard from the network since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeardView {
    /// Announcements of offers.
    pub announcements: u64,
    /// Hints dropped because a bound was reached.
    pub dropped: u64,
    /// Records refused: forged, malformed, of another network.
    pub refused: u64,
}

/// One thing about the node that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// Which. A code never changes its meaning; newer versions may have more.
    #[schema(example = "clock_behind")]
    pub code: String,
    /// `fail`: the node cannot trade. `sync`: its list may lack something. `warn`: shown, and nothing else.
    #[schema(example = "warn")]
    pub level: String,
    /// Since when, by this machine's clock.
    pub since: Time,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub advice: String,
    /// What was found here.
    pub detail: String,
}

impl From<Reason> for ReasonView {
    fn from(reason: Reason) -> Self {
        let Reason { code, since, detail } = reason;
        Self {
            code: code.as_str().into(),
            level: code.level().as_str().into(),
            since: Time(since),
            meaning: code.meaning().into(),
            advice: code.advice().into(),
            detail,
        }
    }
}

/// How this node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// The program's version.
    pub version: String,
    /// Who this node is: its public key, 64 hex digits.
    #[schema(value_type = text::ClientKey)]
    pub client_id: ClientId,
    /// The market.
    #[schema(value_type = text::NetworkName)]
    pub network: Network,
    /// `true`: it can trade. `false`: `reasons` say why not, at level `fail`.
    pub ready: bool,
    /// Everything that its owner should know of how it stands, the gravest first; empty when all is well.
    pub reasons: Vec<ReasonView>,
    /// When it was started.
    pub started_at: Time,
    /// Where its RPC listens.
    #[schema(value_type = text::Address)]
    pub rpc: SocketAddr,
    /// Where it tells others to reach its RPC.
    #[schema(value_type = Vec<text::Address>)]
    pub advertised: Vec<SocketAddr>,
    /// The DHT node.
    pub dht: DhtView,
    /// Other trading nodes that were reached.
    pub peers: Vec<PeerView>,
    /// How complete this node's copy of what is on offer is.
    pub replication: ReplicationView,
    /// The market in numbers.
    pub offers: OffersView,
    /// The store.
    pub store: StoreView,
    /// What waits to be sent.
    pub outbox: OutboxView,
    /// What was heard from the network.
    pub heard: HeardView,
}

impl From<NodeStatus> for NodeView {
    fn from(status: NodeStatus) -> Self {
        let (ready, synced) = (status.is_ready(), status.is_synced());
        let peer = |peer: crate::node::PeerInfo| PeerView {
            client_id: peer.client_id,
            address: peer.address,
            seen_at: Time(peer.seen_at),
        };
        Self {
            version: status.version.into(),
            client_id: status.client_id,
            network: status.network,
            ready,
            reasons: status.reasons.into_iter().map(Into::into).collect(),
            started_at: Time(status.started_at),
            rpc: status.rpc,
            advertised: status.advertised,
            dht: DhtView {
                node_id: status.dht.node_id,
                address: status.dht.address,
                nodes: status.dht.nodes,
                items: status.dht.items,
                peers: status.dht.peers,
            },
            peers: status.peers.into_iter().map(peer).collect(),
            replication: ReplicationView {
                synced,
                behind: status.replication.status.behind,
                makers: status.replication.status.makers,
                stale: status.replication.status.stale,
                neighbours: status.replication.status.neighbours.clone(),
                records: status.replication.status.records,
            },
            offers: OffersView {
                listed: status.offers.listed,
                records: status.offers.records,
                own: status.offers.own,
                trades: status.offers.trades,
            },
            store: StoreView {
                path: status.store.path,
                bytes: status.store.bytes,
                schema_version: status.store.schema_version,
                behind: status.store_behind,
            },
            outbox: OutboxView {
                bids_in_doubt: status.outbox.bids_in_doubt,
                unpublished: status.outbox.unpublished,
            },
            heard: HeardView {
                announcements: status.heard.announcements,
                dropped: status.heard.dropped,
                refused: status.heard.refused,
            },
        }
    }
}

/// That the process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`.
    pub status: String,
}

/// That the node can trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// `ready`.
    pub status: String,
    /// What its owner should know all the same, the gravest first; empty when all is well.
    pub reasons: Vec<ReasonView>,
}

/// That there is no other node, by the owner's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AloneView {
    /// From when on it is so.
    pub alone_since: Time,
}

/// An own offer that the network knew better than the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveredOfferView {
    /// The offer.
    #[schema(value_type = text::Id)]
    pub offer_id: OfferId,
    /// `sold`, or `closed` when nobody told what became of it.
    pub status: String,
    /// The trade that took it, where it is sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Id>)]
    pub trade_id: Option<TradeId>,
}

/// What a recovery did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveredView {
    /// Own records that were taken over from the network, all closed.
    pub recovered: usize,
    /// What became of each.
    pub offers: Vec<RecoveredOfferView>,
    /// Trades that this node lacked and has taken over from the other side of each, 1,000 at most; `GET /trades` has them all.
    pub trades: Vec<TradeView>,
    /// Trades that were taken over.
    pub trades_recovered: usize,
    /// Trades that other nodes show and that contradict what is stored here: they were left, the log tells more.
    pub trades_contradicting: usize,
    /// Nodes that told of all their trades with this one.
    pub nodes_asked: usize,
    /// Known nodes that could not be reached; repeat the recovery when they are back. 1,000 at most.
    #[schema(value_type = Vec<text::ClientKey>)]
    pub nodes_not_reached: Vec<ClientId>,
}

/// Trades in one answer to a recovery.
const RECOVERED_TRADES_SHOWN_MAX: usize = 1_000;

impl RecoveredView {
    /// `recovered` as the node `me` sees it.
    pub fn of(recovered: Recovered, me: ClientId) -> Self {
        let offer = |(offer_id, sold): &(OfferId, Option<Arc<TradeReceipt>>)| RecoveredOfferView {
            offer_id: *offer_id,
            status: if sold.is_some() { "sold" } else { "closed" }.into(),
            trade_id: sold.as_ref().map(|receipt| receipt.trade().id),
        };
        let shown = recovered.trades.iter().take(RECOVERED_TRADES_SHOWN_MAX);
        Self {
            recovered: recovered.offers.len(),
            offers: recovered.offers.iter().map(offer).collect(),
            trades: shown.map(|receipt| TradeView::of(receipt, me)).collect(),
            trades_recovered: recovered.trades.len(),
            trades_contradicting: recovered.contradicting,
            nodes_asked: recovered.told,
            nodes_not_reached: recovered.not_reached,
        }
    }
}
