//! What is known of a node at one moment, in groups by who gathers it. Plain data: nothing here decides.

use crate::{reach::Reachability, time::UnixMillis};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of the store, from the writer.
    pub store: StoreFacts,
    /// Of the DHT, from its part.
    pub dht: DhtFacts,
    /// Of replication, from its core.
    pub replica: ReplicaFacts,
    /// Of other nodes, connected or not.
    pub others: OtherFacts,
    /// Of addresses: whether this node can be reached, and whom it may not connect to.
    pub reach: ReachFacts,
    /// Other nodes' clocks beside this one, by what they signed.
    pub clocks: Vec<ClockVote>,
    /// Networks other than this node's whose records were heard a moment ago, the one heard most first.
    pub other_networks: Vec<OtherNetwork>,
    /// Of what waits to be told to others.
    pub outbox: OutboxFacts,
}

/// The store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The network knows newer versions of own records than it does.
    pub behind: bool,
    /// Why nothing can be written, such as `the disk is full`.
    pub cannot_write: Option<String>,
    /// What is wrong with the key's file, such as `master.key is missing`.
    pub key: Option<String>,
}

/// The DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtFacts {
    /// Nodes that answer.
    pub nodes: usize,
    /// Bootstrap nodes as they were named.
    pub bootstrap: Vec<String>,
    /// Those of them whose names cannot be resolved, each with the reason.
    pub unresolved: Vec<String>,
}

/// Replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// A search for other nodes came to its end since the start.
    pub looked: bool,
    /// One of them found a DHT that it could ask.
    pub looked_in_dht: bool,
    /// Nodes that pass records on to this one.
    pub neighbours: usize,
    /// Nodes that the core would have as neighbours, as far as there are such.
    pub neighbours_wanted: usize,
    /// Since it was last without neighbours, one of them has told all that it holds, and all of it is held here.
    pub caught_up: bool,
    /// Makers of whom less is held than their heads say.
    pub behind: usize,
    /// For how long something of one of them has been lacking.
    pub behind_for: Duration,
    /// Other makers that are known.
    pub makers: usize,
    /// Those of them that have fallen silent.
    pub stale: usize,
    /// Those of them that have fallen silent within the last minutes.
    pub stale_lately: usize,
    /// Heads whose time is refused.
    pub heads: HeadFacts,
}

/// Heads that nodes signed with a time that does not fit this machine's clock, brought by the very nodes that signed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadFacts {
    /// Neighbours whose last head lies too far in the future.
    pub future: usize,
    /// Neighbours whose last head counted as long silent when it came.
    pub past: usize,
}

/// Other nodes of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherFacts {
    /// When something that another node of the network signed was heard last, remembered over restarts; nothing since the owner said
    /// that there is nobody.
    pub heard_at: Option<UnixMillis>,
    /// When the owner said that there is nobody else; nothing since somebody was heard.
    pub alone_since: Option<UnixMillis>,
    /// Addresses under the network's name at which nobody answered in the last search, and that are not this node's own.
    pub unreachable: usize,
    /// One of them, and what was tried in vain, such as `10.0.0.7:1337 refuses the connection`.
    pub example: Option<String>,
}

/// Addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReachFacts {
    /// Whether others reach this node.
    pub reachability: Reachability,
    /// Where nodes were found in the last search that this node does not connect to.
    pub not_connected_to: Vec<SocketAddr>,
    /// Nobody beyond this machine is connected to, because everything of this node listens on loopback.
    pub this_machine_only: bool,
}

/// What one other node's clock showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockVote {
    /// Where the node answered: nodes of one network prefix have one voice together, in private ranges those of one host.
    pub ip: IpAddr,
    /// Its port: on loopback, where many nodes share an address, each has a voice.
    pub port: u16,
    /// Its clock less this machine's, in milliseconds.
    pub ahead_ms: i64,
}

/// A network whose records were heard though this node is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherNetwork {
    /// Its name.
    pub name: String,
    /// How many of its records were heard.
    pub records: u64,
}

/// What waits to be told to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxFacts {
    /// Own records whose newest version the DHT lacks.
    pub unpublished: usize,
    /// For how long it has lacked the one that waits longest.
    pub unpublished_for: Duration,
    /// Own bids without an answer.
    pub in_doubt: usize,
    /// For how long the one that waits longest has been without one.
    pub in_doubt_for: Duration,
}
