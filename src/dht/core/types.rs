//! What callers of the DHT hand in and get back.

use super::{id::NodeId, krpc::code};
use crate::bep44::{Target, VerifiedItem};
use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

/// The longest service name. Grapes accept any length that fits a datagram; 1,024 leaves room for the rest of a reply.
pub const NAME_BYTES_MAX: usize = 1024;

/// How long an announced peer is known without being announced again, unless the owner says otherwise: a stock link announces anew
/// 60 to 180 s after its last announcement ended, well or not, and one of these may be lost.
pub const PEER_AGE: Duration = Duration::from_mins(7);

/// A stored value of either kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A value (bencoded) that lives where its own hash says.
    Immutable(Arc<[u8]>),
    /// A signed, versioned value that lives where its key says.
    Mutable(VerifiedItem),
}

impl Item {
    /// The bencoded value.
    #[must_use]
    pub fn v(&self) -> &Arc<[u8]> {
        match self {
            Self::Immutable(v) => v,
            Self::Mutable(item) => &item.v,
        }
    }

    /// Where it lives.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Immutable(v) => Target::of_value(v),
            Self::Mutable(item) => item.target(),
        }
    }
}

/// What to put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Put {
    /// A bencoded value.
    Immutable(Arc<[u8]>),
    /// A signed value.
    Mutable {
        /// The item.
        item: VerifiedItem,
        /// Accept it only where this version is stored now (BEP44's compare and swap); ignored where nothing is stored.
        cas: Option<i64>,
    },
}

impl Put {
    /// The item itself.
    #[must_use]
    pub fn item(&self) -> Item {
        match self {
            Self::Immutable(v) => Item::Immutable(Arc::clone(v)),
            Self::Mutable { item, .. } => Item::Mutable(item.clone()),
        }
    }
}

/// How a put ended that at least one other node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutOutcome {
    /// Where the item lives.
    pub target: Target,
    /// How many nodes were asked.
    pub asked: usize,
    /// How many hold exactly these bytes now: they said so, or refused an equal sequence (302) and returned it when read back.
    pub acked: usize,
    /// How many of `acked` were read back because a stock grape answers 302 to a renewal.
    pub read_back: usize,
    /// How many refused with 301 because another version than `cas` is stored there.
    pub refused_301: usize,
    /// How many refused with 302 because they hold a newer version, or this one with another value.
    pub refused_302: usize,
}

/// An error that other nodes answered, when none accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The KRPC code: 301 and 302 are BEP44's cas and sequence errors.
    pub code: i64,
    /// What the node said.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// Whether a get may be answered from this node's own store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GetMode {
    /// An item held here is returned at once, without a datagram; it may not be the newest.
    LocalFirst,
    /// The network is asked in any case, and the newest of its answers and of the own copy is returned.
    Network,
}

/// An item that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Who answered with it; the own id when it was held here.
    pub from: NodeId,
    /// The write token that came with it; none when it was held here.
    pub token: Option<Arc<[u8]>>,
    /// The item.
    pub item: Item,
}

/// What happens in the DHT and may interest somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DhtEvent {
    /// An `announce_peer` was accepted here, each time it is repeated too.
    Announce {
        /// The service name.
        name: Arc<[u8]>,
        /// Where the service says it is.
        from: SocketAddr,
    },
    /// Another node put a signed item here that was not stored here before. Its signature was checked.
    Stored(VerifiedItem),
    /// A lookup of this node learned a peer.
    Peer {
        /// The service name.
        name: Arc<[u8]>,
        /// Where the service is.
        addr: SocketAddr,
    },
    /// A node entered the routing table.
    Node {
        /// Who.
        id: NodeId,
        /// Where.
        addr: SocketAddr,
    },
    /// The nodes of the public network agree on what this node's address is, and its id belongs to that address from now on.
    Address {
        /// The address.
        ip: IpAddr,
        /// The id.
        node_id: NodeId,
    },
    /// The first attempt to join ended (well or not), or there is nobody to join.
    Ready,
    /// Something that a person may have to look at.
    Warning(String),
}

/// Counters and sizes of a DHT node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DhtStatus {
    /// Its id.
    pub node_id: NodeId,
    /// Where it listens.
    pub local_addr: SocketAddrV4,
    /// Where it listens for IPv6, if it does.
    pub local_addr6: Option<SocketAddrV6>,
    /// Whether it has joined: other nodes are known, or it was told of none.
    pub bootstrapped: bool,
    /// Whether [`DhtEvent::Ready`] was told.
    pub ready: bool,
    /// Its address as the public network sees it, once enough nodes agree.
    pub external_ip: Option<IpAddr>,
    /// Whether it keeps out of others' tables because strangers do not reach it (BEP43).
    pub read_only: bool,
    /// Nodes in the routing tables.
    pub nodes: usize,
    /// Of these, the ones that answered when last asked.
    pub nodes_good: usize,
    /// Of `nodes`, those of IPv6.
    pub nodes6: usize,
    /// Of `nodes_good`, those of IPv6.
    pub nodes6_good: usize,
    /// Items stored for others and for itself.
    pub items: usize,
    /// Peers stored, over all names.
    pub peers: usize,
    /// Own items and announcements that are renewed.
    pub kept: usize,
    /// Operations under way.
    pub operations: usize,
    /// Queries that wait for an answer.
    pub queries_in_flight: usize,
    /// Queries received.
    pub queries_in: u64,
    /// Queries sent.
    pub queries_out: u64,
    /// Answers received that belonged to a query.
    pub answers_in: u64,
    /// Answers that were cut short because their receiver had not shown yet that it is there.
    pub answers_cut: u64,
    /// Items that were looked for some time after they were put.
    pub audits: u64,
    /// Of these, the ones that too few nodes held, so that they were put again.
    pub repairs: u64,
    /// Public hosts that have shown that they are there.
    pub proven: usize,
    /// Queries that nobody answered.
    pub timeouts: u64,
    /// Answers that belonged to no query: too late, repeated, or forged.
    pub unasked_in: u64,
    /// Datagrams that were no KRPC message.
    pub malformed_in: u64,
    /// Signatures handed out to be checked.
    pub verifications: u64,
    /// Items whose signature is not their key's, in puts and in answers.
    pub bad_signatures: u64,
    /// Errors sent to other nodes.
    pub errors_out: ErrorsOut,
    /// What was refused or forgotten because a bound was reached.
    pub dropped: Dropped,
}

/// Errors sent to other nodes, by their KRPC code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ErrorsOut([u64; Self::CODES.len()]);

impl ErrorsOut {
    /// Every code that is sent.
    pub const CODES: [i64; 8] = [
        code::SERVER,
        code::PROTOCOL,
        code::METHOD_UNKNOWN,
        code::VALUE_TOO_BIG,
        code::BAD_SIGNATURE,
        code::SALT_TOO_BIG,
        code::CAS_MISMATCH,
        code::SEQ_TOO_LOW,
    ];

    pub(super) fn count(&mut self, code: i64) {
        if let Some(at) = Self::CODES.iter().position(|known| *known == code) {
            self.0[at] += 1;
        }
    }

    /// How often `code` was sent.
    #[must_use]
    pub fn of(&self, code: i64) -> u64 {
        Self::CODES.iter().position(|known| *known == code).map_or(0, |at| self.0[at])
    }
}

/// What was refused or forgotten, by the bound that was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Operations refused: too many were under way.
    pub operations: u64,
    /// Queries not sent: too many waited already.
    pub queries: u64,
    /// Signatures not checked: too many checks were out, or the workers were busy.
    pub checks: u64,
    /// Datagrams not looked at: their source sends too many, or too much of what no honest node sends.
    pub datagrams: u64,
    /// Answers not sent: longer than their receiver may be sent.
    pub answers: u64,
    /// Nodes not taken into the table: there are enough of their network.
    pub nodes: u64,
    /// Items pushed out by newer ones.
    pub items: u64,
    /// Peers pushed out by newer ones.
    pub peers: u64,
    /// Own items and announcements that were not taken on for renewal.
    pub kept: u64,
}
