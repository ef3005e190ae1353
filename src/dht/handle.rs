//! The handle: what a program calls. Every call is one message to the driver's task; dropping the last handle stops it.

use super::{
    core::{
        DhtEvent, DhtStatus, Found, GetMode, Item, NAME_BYTES_MAX, NodeId, PEER_AGE, Put, PutOutcome,
        Refusal, Stored, Uncarried, Walk,
    },
    driver::{self, Command},
    names::Unresolved,
};
use crate::{
    address::{EndpointError, bind::advice},
    bep44::{SALT_BYTES_MAX, Target, V_BYTES_MAX},
    workers::Workers,
};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Calls that may wait for the driver's task. A caller beyond that waits for room.
const COMMANDS_MAX: usize = 1024;
/// Events that a slow listener may be behind before it loses the oldest, unless the owner says otherwise.
const EVENTS_MAX: usize = 8192;

/// How a DHT node is set up.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// Where to listen (UDP, IPv4); port 0 takes a free one.
    pub listen: SocketAddrV4,
    /// Take part in the IPv6 network too, with a socket bound there, on the same port (BEP32).
    pub ipv6: Option<Ipv6Addr>,
    /// Follow the rules of the public network, BitTorrent's Mainline: an id that belongs to the address (BEP42), read-only while
    /// strangers do not reach this node (BEP43), names of 20 bytes (others go as their SHA-1), a modest pace.
    pub mainline: bool,
    /// Whom to join: `host:port`, the host an address (an IPv6 one in brackets) or a DNS name, resolved each time it is used. May be
    /// empty. See [`crate::address::Endpoint`].
    pub bootstrap: Vec<String>,
    /// Nodes known from an earlier run ([`Dht::known_nodes`]), asked beside `bootstrap`.
    pub known_nodes: Vec<SocketAddr>,
    /// The node's id. Keep it for as long as the address stays the same; a random one when there is none.
    pub node_id: Option<NodeId>,
    /// 32 fresh random bytes at each start: transaction ids, write tokens and jitter come from them.
    pub seed: [u8; 32],
    /// The host that this node's own announcements are stored under here, so that it finds and hears itself (a grape's `-b`).
    pub host: Option<IpAddr>,
    /// Whether loopback and private ranges are limited as public ones are. Leave it off where they are this machine's or the
    /// owner's network: there, many honest nodes share an address.
    pub limit_private: bool,
    /// Items stored at most; who stored the most loses one first. About 1.5 KB each.
    pub items_max: usize,
    /// Peers stored at most, over all names; who announced the most loses one first. About 200 bytes each.
    pub peers_max: usize,
    /// How long an announced peer is known without being announced again. Zero: until it is pushed out.
    pub peer_max_age: Duration,
    /// How long a node may be silent before it is pinged.
    pub node_liveness: Duration,
    /// Whether the node has a thread of its own, or shares the runtime that it is started in. Where that runtime has several
    /// threads, each datagram would wake two of them.
    pub own_thread: bool,
    /// Which events listeners are told. Each wakes all of them, and a busy network makes many that nobody asked for.
    pub tells: fn(&DhtEvent) -> bool,
    /// Events that a slow listener may be behind before it loses the oldest; about 190 bytes each, taken at the start.
    pub events_max: usize,
}

impl DhtConfig {
    /// A node that listens on `listen`, joins `bootstrap`, and otherwise has the defaults of a grape.
    #[must_use]
    pub fn new(listen: SocketAddrV4, bootstrap: Vec<String>, seed: [u8; 32]) -> Self {
        Self {
            listen,
            ipv6: None,
            mainline: false,
            bootstrap,
            known_nodes: Vec::new(),
            node_id: None,
            seed,
            host: None,
            limit_private: false,
            items_max: 5000,
            peers_max: 20_000,
            peer_max_age: PEER_AGE,
            node_liveness: Duration::from_mins(5),
            own_thread: false,
            tells: |_| true,
            events_max: EVENTS_MAX,
        }
    }
}

/// Why a call of the DHT failed.
#[derive(Debug, thiserror::Error)]
pub enum DhtError {
    /// The UDP address could not be bound.
    #[error("cannot listen on UDP {addr}: {source}; {}", advice(source, "the address of the DHT"))]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was named as a bootstrap node is no `host:port`.
    #[error("bootstrap node {0}")]
    Bootstrap(#[from] EndpointError),
    /// The system gave no thread for the node.
    #[error("cannot start the DHT's thread: {0}; free some memory or threads and try again")]
    Thread(std::io::Error),
    /// No other node is known.
    #[error("no other DHT node is known; check the bootstrap addresses, or wait until one is up")]
    NoNodes,
    /// Nodes were asked, and none accepted or answered.
    #[error("none of {asked} DHT nodes accepted it; try again")]
    AllFailed {
        /// How many were asked.
        asked: usize,
    },
    /// No node accepted it, and one said why with a code of 300 to 399 (301: cas, 302: sequence).
    #[error("refused by the DHT: {0}")]
    Refused(Refusal),
    /// The name is over [`NAME_BYTES_MAX`].
    #[error("the name has {bytes} bytes; at most {NAME_BYTES_MAX} are possible")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value is over BEP44's limit (strings may have 1,000 bytes of content, as grapes allow).
    #[error("the value has {bytes} bytes when bencoded; at most {V_BYTES_MAX} are possible")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value is not canonical bencode.
    #[error("the value is not canonical bencode")]
    ValueMalformed,
    /// The value is one that stock grapes change or keep silent about, so that it would be stored by chance only.
    #[error("the value cannot be put: {why}")]
    ValueNotCarried {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The sequence is negative.
    #[error("the sequence {seq} is negative")]
    SequenceNegative {
        /// It.
        seq: i64,
    },
    /// The salt is over BEP44's limit.
    #[error("the salt has {bytes} bytes; at most {SALT_BYTES_MAX} are possible")]
    SaltTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Port 0 cannot be announced.
    #[error("port 0 cannot be announced")]
    PortZero,
    /// Too many operations are under way.
    #[error("too many DHT operations are under way; try again in a moment")]
    Busy,
    /// Too many items or announcements are renewed already.
    #[error("this node renews {max} items and announcements already; forget one first")]
    KeptFull {
        /// The limit.
        max: usize,
    },
    /// The node was shut down.
    #[error("the DHT node is stopped")]
    Stopped,
}

/// A running DHT node. Clones share it.
#[derive(Clone)]
pub struct Dht {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<DhtEvent>,
    status: watch::Receiver<DhtStatus>,
    unresolved: Unresolved,
    local_addr: SocketAddrV4,
    local_addr6: Option<SocketAddrV6>,
}

impl Dht {
    /// Binds the socket and starts the node. It joins by itself, and keeps trying while nobody answers.
    #[expect(clippy::unused_async, reason = "it must be called inside a runtime, as everything async")]
    pub async fn start(config: DhtConfig, workers: Workers) -> Result<Self, DhtError> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (events, _) = broadcast::channel(config.events_max.max(1));
        let unresolved = Unresolved::default();
        let status = driver::start(config, workers, inbox, events.clone(), unresolved.clone())?;
        // One look: two at once would wait for each other when the driver reports in between.
        let DhtStatus { local_addr, local_addr6, .. } = *status.borrow();
        Ok(Self { commands, events, status, unresolved, local_addr, local_addr6 })
    }

    /// The bootstrap nodes whose names could not be resolved when they were last tried, each with the reason. They are tried again.
    #[must_use]
    pub fn unresolved(&self) -> Arc<[String]> {
        self.unresolved.get()
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local_addr
    }

    /// Where it listens for IPv6, if it does.
    #[must_use]
    pub fn local_addr6(&self) -> Option<SocketAddrV6> {
        self.local_addr6
    }

    /// Its id: keep it, and hand it in again when starting on the same address. On the public network it changes when the
    /// address turns out to be another.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.status.borrow().node_id
    }

    /// Says once that a service of this name is on this host's `port`. Returns how many nodes took note.
    pub async fn announce(&self, name: &[u8], port: u16) -> Result<usize, DhtError> {
        let name = checked_name(name)?;
        if port == 0 {
            return Err(DhtError::PortZero);
        }
        self.call(|reply| Command::Announce { name, port, reply }).await?
    }

    /// Where services of this name are: at most 100, in random order. Nobody there is an empty list, not an error.
    pub async fn lookup(&self, name: &[u8]) -> Result<Vec<SocketAddr>, DhtError> {
        let name = checked_name(name)?;
        self.call(|reply| Command::Lookup { name, reply }).await?
    }

    /// Stores an item on the nodes closest to its target, and here.
    pub async fn put(&self, put: Put) -> Result<PutOutcome, DhtError> {
        checked_item(&put.item())?;
        self.call(|reply| Command::Put { put, reply }).await?
    }

    /// Finds an item. A salted one needs its salt (empty: none). The newest sequence among the answers wins.
    pub async fn get(&self, target: Target, salt: &[u8], mode: GetMode) -> Result<Option<Found>, DhtError> {
        if salt.len() > SALT_BYTES_MAX {
            return Err(DhtError::SaltTooLong { bytes: salt.len() });
        }
        let salt = salt.into();
        self.call(|reply| Command::Get { target, salt, mode, reply }).await?
    }

    /// The item that this node itself stores, without a datagram.
    pub async fn local(&self, target: Target) -> Option<Item> {
        self.call(|reply| Command::Local { target, reply }).await.ok().flatten()
    }

    /// Announces now and again every minute until [`Self::forget_announced`].
    pub async fn keep_announced(&self, name: &[u8], port: u16) -> Result<(), DhtError> {
        let name = checked_name(name)?;
        if port == 0 {
            return Err(DhtError::PortZero);
        }
        self.call(|reply| Command::KeepAnnounced { name, port, reply }).await?
    }

    /// Stops renewing an announcement; it is forgotten by others when their peers expire.
    pub async fn forget_announced(&self, name: &[u8]) -> Result<(), DhtError> {
        let name = checked_name(name)?;
        self.call(|reply| Command::ForgetAnnounced { name, reply }).await
    }

    /// Puts an item now and again every hour, more often where nodes vanish faster, until [`Self::forget_item`]. A newer version
    /// takes the older one's place.
    pub async fn keep_item(&self, item: Item) -> Result<(), DhtError> {
        checked_item(&item)?;
        self.call(|reply| Command::KeepItem { item, reply }).await?
    }

    /// Stops renewing an item.
    pub async fn forget_item(&self, target: Target) -> Result<(), DhtError> {
        self.call(|reply| Command::ForgetItem { target, reply }).await
    }

    /// The addresses of nodes that answer, nearest first: hand them in as [`DhtConfig::known_nodes`] at the next start.
    pub async fn known_nodes(&self) -> Result<Vec<SocketAddr>, DhtError> {
        self.call(|reply| Command::KnownNodes { reply }).await
    }

    /// A walk over what is stored that meets only what is put from now on; [`Walk::default`] meets everything.
    pub async fn walk_from_now(&self) -> Result<Walk, DhtError> {
        self.call(|reply| Command::WalkFromNow { reply }).await
    }

    /// The next of what this node stores, the oldest first, and where to go on; fewer than `max` are the last for now. To keep
    /// it over restarts, together with [`Self::restore_stored`].
    pub async fn walk_stored(&self, walk: Walk, max: usize) -> Result<(Vec<Stored>, Walk), DhtError> {
        self.call(|reply| Command::WalkStored { walk, max, reply }).await
    }

    /// Takes back what an earlier run stored; signatures are not checked again. Peers must come in the order of their age, the
    /// oldest first. Returns how many were taken that were not here before.
    pub async fn restore_stored(&self, stored: Vec<Stored>) -> Result<usize, DhtError> {
        self.call(|reply| Command::RestoreStored { stored, reply }).await
    }

    /// What happens from now on. A listener that falls behind loses the oldest events and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<DhtEvent> {
        self.events.subscribe()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> DhtStatus {
        *self.status.borrow()
    }

    /// Stops the node: the socket is closed when this returns.
    pub async fn shutdown(self) {
        // Nothing to tell when it has stopped already.
        let _ = self.call(|reply| Command::Shutdown { reply }).await;
    }

    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, DhtError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| DhtError::Stopped)?;
        answer.await.map_err(|_| DhtError::Stopped)
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dht({} on {})", self.node_id(), self.local_addr)
    }
}

fn checked_name(name: &[u8]) -> Result<Arc<[u8]>, DhtError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(DhtError::NameTooLong { bytes: name.len() });
    }
    Ok(name.into())
}

fn checked_item(item: &Item) -> Result<(), DhtError> {
    if !super::core::value_fits(item.v()) {
        return Err(DhtError::ValueTooLong { bytes: item.v().len() });
    }
    if !super::core::bencode::is_canonical(item.v()) {
        return Err(DhtError::ValueMalformed);
    }
    super::core::is_carried(item.v()).map_err(|why| {
        let why = match why {
            Uncarried::Zero => "to other grapes the number 0 (and false) is no value; put it into a list, or as a string",
            Uncarried::Number => "other grapes hold numbers beyond 2^53 as others; put them as strings",
            Uncarried::Key => {
                "other grapes read one of its keys as another, or sort its keys in another order; use keys of plain letters"
            }
        };
        DhtError::ValueNotCarried { why }
    })?;
    match item {
        Item::Mutable(item) if item.seq < 0 => Err(DhtError::SequenceNegative { seq: item.seq }),
        Item::Mutable(item) if item.salt.len() > SALT_BYTES_MAX => {
            Err(DhtError::SaltTooLong { bytes: item.salt.len() })
        }
        _ => Ok(()),
    }
}
