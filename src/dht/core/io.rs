//! What goes into the core and what comes out.

use super::{
    id::NodeId,
    types::{DhtEvent, Found, GetMode, Put, PutOutcome, Refusal},
};
use crate::bep44::{MutableItem, Target, VerifiedItem};
use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

/// How a core is set up. The driver's configuration says what each costs.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Its id; a random one when there is none.
    pub node_id: Option<NodeId>,
    /// Where its socket is bound.
    pub local_addr: SocketAddrV4,
    /// Where its IPv6 socket is bound, if it takes part in that network too.
    pub local_addr6: Option<SocketAddrV6>,
    /// Whether it follows the rules of the public network.
    pub mainline: bool,
    /// The host that its own announcements are stored under here.
    pub host: Option<IpAddr>,
    /// Whether the driver has bootstrap addresses to offer when [`Output::Resolve`] asks.
    pub has_bootstrap: bool,
    /// Nodes of an earlier run.
    pub known_nodes: Vec<SocketAddr>,
    /// Whether loopback and private ranges are limited as public ones are.
    pub limit_private: bool,
    /// Items stored at most.
    pub items_max: usize,
    /// Peers stored at most.
    pub peers_max: usize,
    /// How long a peer lives from its last announcement; zero: for ever.
    pub peer_max_age: Duration,
    /// How long a node may be silent before it is pinged.
    pub node_liveness: Duration,
}

/// The caller's number of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// The number of a signature check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VerifyId(pub(super) u64);

/// What a caller wants done over the network.
#[derive(Clone, Debug)]
pub enum Request {
    /// Announce a service.
    Announce {
        /// Its name.
        name: Arc<[u8]>,
        /// Its port.
        port: u16,
    },
    /// Find services.
    Lookup {
        /// Their name.
        name: Arc<[u8]>,
    },
    /// Store an item.
    Put(Put),
    /// Find an item.
    Get {
        /// Where.
        target: Target,
        /// Its salt; empty: none.
        salt: Arc<[u8]>,
        /// Whether the own copy will do.
        mode: GetMode,
    },
}

/// What became of a signature check.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The signature is the key's.
    Good(VerifiedItem),
    /// It is not.
    Bad,
    /// Nobody had time to look.
    Busy,
}

/// What happens to a core.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram arrived.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What it says.
        bytes: &'a [u8],
    },
    /// [`Core::next_timeout`](super::Core::next_timeout) has come (or anything else: it does no harm).
    Timeout,
    /// A caller wants something; [`Output::Done`] answers.
    Start {
        /// The caller's number for it.
        op: OpId,
        /// What.
        request: Request,
    },
    /// A signature was checked.
    Verified {
        /// Which.
        id: VerifyId,
        /// The verdict.
        verdict: Verdict,
    },
    /// The answer to [`Output::Resolve`]: what the bootstrap names stand for now.
    Bootstrap(Vec<SocketAddr>),
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpError {
    /// Nobody to ask.
    NoNodes,
    /// Nobody accepted.
    AllFailed {
        /// How many were asked.
        asked: usize,
    },
    /// Nobody accepted, and somebody said why with a code of 300 to 399.
    Refused(Refusal),
    /// [`OPERATIONS_MAX`](super::OPERATIONS_MAX) are under way.
    Busy,
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An announcement: how many nodes took note.
    Announced(Result<usize, OpError>),
    /// A lookup: where the services are.
    Peers(Result<Vec<SocketAddr>, OpError>),
    /// A put.
    Put(Result<PutOutcome, OpError>),
    /// A get.
    Item(Result<Option<Found>, OpError>),
}

/// What a core wants done, besides datagrams.
#[derive(Debug)]
pub enum Output {
    /// Tell whoever listens.
    Event(DhtEvent),
    /// An operation ended.
    Done(OpId, Outcome),
    /// Check this signature, and bring [`Input::Verified`].
    Verify {
        /// The number of the check.
        id: VerifyId,
        /// What to check.
        item: MutableItem,
    },
    /// Resolve the bootstrap names, and bring [`Input::Bootstrap`].
    Resolve,
}
