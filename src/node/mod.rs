//! One running node: the drivers wired to the cores.
//!
//! ```text
//!  REST, CLI ──► Exchange (inbox) ──► writer: core + store ──► effects ──► Publisher ──► DHT
//!                     ▲   snapshot ◄──────┘                        └─────► Asker ──────► other nodes' RPC
//!  DHT events ──► Ears ┘   ▲
//!  RPC server ─────────────┘
//! ```
//!
//! What is decided lives in `exchange`; what is here moves things between it, the disk, the DHT and other nodes.

pub mod anchors;
pub mod clock;
mod config;
mod contacts;
mod diary;
mod disk;
mod exchange;
pub mod greeting;
mod listener;
mod meter;
mod metrics;
mod others;
mod publisher;
mod reach;
mod recovery;
mod replication;
mod rpc;
mod standing;
mod status;
mod writer;

pub use config::NodeConfig;
pub use contacts::ADDRESSES_MAX;
pub use exchange::{Exchange, Snapshot};
pub use recovery::Recovered;
pub use standing::replica_facts;
pub use status::{DhtInfo, HeardInfo, NodeStatus, OffersInfo, OutboxInfo, PeerInfo, ReplicaView, StoreInfo};
pub use writer::{Journal, JournalError, StartError};

use crate::{
    address::bind::advice,
    dht::{Dht, DhtConfig, DhtError, Item, NodeId},
    grenache::{
        address::AddressPolicy,
        caller::{CALL_TIMEOUT, SetupError},
        client::{Client, ClientConfig},
        clocks::Clocks,
        meter::Meter,
        server::{self, ServerConfig},
        service::{KnownSources, LIMITS, RATE},
    },
    identity::KeyPair,
    listener::{Limits, Serving, Traffic},
    metrics::Counter,
    reach::{Notice, Place, Reach, unheard},
    replication::core::SignedHead,
    store::{CommitError, Dropped, Store, StoreError, keyfile},
    time::{Now, UnixMillis},
    workers::Workers,
};
use arc_swap::ArcSwap;
use contacts::{Card, Contacts};
use listener::{Ears, Heard, Listener};
pub use others::ConfirmError;
use others::{Known, META_OTHERS, Others};
use publisher::{Attempts, Publisher};
use reach::{DIAL_TIMEOUT, Dialer, Private, ReachView, Whereabouts};
use recovery::Recovery;
use replication::{CONNECTIONS_PER_IP_MAX, Replication, TALK_TIMEOUT};
use standing::Standing;
use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Items that a node's DHT part stores for the network: about 30 MB when full, four times a stock grape's most.
const DHT_ITEMS_MAX: usize = 20_000;
/// How long other nodes' requests may go on when this node stops: they are asked again with the same ids, and the API's own
/// callers are told only after them.
const RPC_DRAIN: Duration = Duration::from_millis(500);
/// The store's note of the DHT node id and the address it belongs to: `ID ADDR:PORT`.
pub const META_DHT_NODE: &str = "dht_node";

/// A running node. Clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: NodeConfig,
    exchange: Exchange,
    dht: Dht,
    contacts: Contacts,
    heard: Arc<Heard>,
    published: Arc<Attempts>,
    replication: Replication,
    recovery: Recovery,
    /// How replication stands; its driver says so.
    replica: Arc<ArcSwap<ReplicaView>>,
    workers: Workers,
    rpc_served: Arc<Meter>,
    rpc_called: Arc<Meter>,
    rpc_traffic: Arc<Traffic>,
    started_at: UnixMillis,
    rpc: SocketAddr,
    /// Where it is by its settings, and by the word of others.
    place: Place,
    /// The port under which its names are announced in the DHT.
    announced_port: u16,
    reach: Arc<ArcSwap<ReachView>>,
    dial_backs_refused: Arc<Counter>,
    store_path: PathBuf,
    dropped: Arc<Dropped>,
    schema_version: i64,
    writer: Arc<writer::WriterThread>,
    /// How the writer ended, once it has.
    ended: watch::Receiver<Option<Result<(), NodeFailure>>>,
    standing: Standing,
    others: Arc<Others>,
    /// Other nodes' clocks.
    clocks: Arc<Clocks>,
    running: Mutex<Option<Running>>,
}

/// What [`Node::stop`] takes down.
struct Running {
    rpc: Serving,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a running node cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store failed, so the node stops rather than forget: {reason}{}",
    if *needs_a_person { "" } else { "; look at the disk, then start the node again" }
)]
pub struct NodeFailure {
    /// What the store said.
    pub reason: String,
    /// A next start would meet the same.
    pub needs_a_person: bool,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The key file.
    #[error(transparent)]
    Key(#[from] keyfile::KeyFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store refused its first write.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The exchange core.
    #[error(transparent)]
    Writer(#[from] StartError),
    /// The DHT.
    #[error(transparent)]
    Dht(#[from] DhtError),
    /// The DHT's port.
    #[error("cannot listen on UDP {address} for the DHT: {source}; {}", advice(source, "--dht"))]
    DhtPort {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The RPC client.
    #[error(transparent)]
    Client(#[from] SetupError),
    /// The RPC port.
    #[error("cannot listen on TCP {address} for other nodes' RPC: {source}; {}", advice(source, "--rpc"))]
    Rpc {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Something else of the operating system.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

impl Journal for Store {
    fn load(&mut self, now: UnixMillis) -> Result<Vec<crate::exchange::Event>, JournalError> {
        Self::load(self, now).map_err(|error| {
            let kind = if error.needs_a_person() { JournalError::Unusable } else { JournalError::Failed };
            kind(error.to_string())
        })
    }

    fn commit(&mut self, events: &[crate::exchange::Event]) -> Result<(), JournalError> {
        Self::commit(self, events).map_err(journal_error)
    }

    fn keep_heads(&mut self, heads: &[SignedHead]) -> Result<(), JournalError> {
        Self::keep_heads(self, heads).map_err(journal_error)
    }

    fn note(&mut self, name: &'static str, value: &str) -> Result<(), JournalError> {
        self.set_meta(name, value).map_err(journal_error)
    }

    fn check(&mut self, probes: bool) -> Result<(), JournalError> {
        Self::check(self, probes).map_err(journal_error)
    }
}

fn journal_error(error: CommitError) -> JournalError {
    match error {
        CommitError::Full { .. } => JournalError::Full,
        failed if failed.needs_a_person() => JournalError::Unusable(failed.to_string()),
        failed => JournalError::Failed(failed.to_string()),
    }
}

impl Node {
    /// Starts a node: its keys and store first, then its sockets, then everything it left unfinished.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let master = keyfile::for_data_dir(&config.data_dir)?;
        let key = master.client_key();
        let may_begin = config.new_store || keyfile::is_unused(&config.data_dir);
        let mut store = Store::open_or_begin(&config.data_dir, &config.network, key.public(), may_begin)?;
        keyfile::is_used_now(&config.data_dir)?;
        let (store_status, dropped) = (store.status(), store.dropped());
        let heads = store.heads()?;
        let noted_others = store.get_meta(META_OTHERS)?;
        let anchors = anchors::noted(&store.get_meta(anchors::META_ANCHORS)?.unwrap_or_default());

        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // A record comes from its maker, from neighbours and through the DHT.
        let workers = Workers::start(threads)?.remembering();
        let dht = start_dht(&config, &mut store, workers.clone()).await?;
        let rpc_error = |source| NodeError::Rpc { address: config.rpc, source };
        let tcp = TcpListener::bind(config.rpc).await.map_err(rpc_error)?;
        let rpc = tcp.local_addr()?;
        let place = place(&config, rpc);
        let reach = Reach::new(place.clone(), rpc.port());
        let advertised = reach.addresses().to_vec();
        let (whereabouts, notes) = Whereabouts::new(&reach);

        let (asks, asks_queue) = mpsc::unbounded_channel();
        let (publications, publications_queue) = mpsc::unbounded_channel();
        let (fetches, fetches_queue) = mpsc::unbounded_channel();
        let (news, news_queue) = mpsc::unbounded_channel();
        let outlets = writer::Outlets { asks, publications, fetches, news };
        let owner = (master, config.network.clone(), config.max_notional.clone());
        let (exchange, mut writer) = writer::start(owner, store, outlets)?;

        let policy = AddressPolicy { allow_private: config.allow_private };
        let client_config = ClientConfig { network: config.network.clone(), policy, timeout: CALL_TIMEOUT };
        let rpc_called = Arc::new(Meter::of_client(&rpc::COMMANDS));
        let client = Client::new(client_config.clone(), workers.clone())?.counted(Arc::clone(&rpc_called));
        let clocks = Arc::<Clocks>::default();
        let client = client.noting(Arc::clone(&clocks));
        let dial_config = ClientConfig { timeout: DIAL_TIMEOUT, ..client_config.clone() };
        let dialing = Client::new(dial_config, workers.clone())?.counted(Arc::clone(&rpc_called));
        let talk_config = ClientConfig { timeout: TALK_TIMEOUT, ..client_config };
        let talker = Client::new(talk_config, workers.clone())?.counted(Arc::clone(&rpc_called));
        let talker = talker.noting(Arc::clone(&clocks));
        let private = Private::new(policy, place.is_for_this_machine_only(), reach.dialed_port());
        let contacts = Contacts::new(
            dht.clone(),
            client.clone(),
            key.clone(),
            config.network.clone(),
            private,
            whereabouts.clone(),
        );
        let known = Arc::<KnownSources>::default();
        let server_config = ServerConfig {
            network: config.network.clone(),
            key: key.clone(),
            clock: Arc::new(clock::now),
            rate: RATE,
            known: Arc::clone(&known),
            limits: Limits { connections_per_ip_max: CONNECTIONS_PER_IP_MAX, ..LIMITS },
        };
        let (rpc_served, rpc_traffic) =
            (Arc::new(Meter::of_server(&rpc::COMMANDS)), Arc::<Traffic>::default());
        let replica = Arc::<ArcSwap<ReplicaView>>::default();
        let (replication, replication_inbox) = Replication::new(Arc::clone(&replica));
        let addresses = Arc::new(RwLock::new(advertised.clone()));
        let dialer = Dialer::new(dialing, key.clone(), config.network.clone(), policy, contacts.clone());
        let dial_backs_refused = Arc::clone(&dialer.refused);
        let commands = (&exchange, &replication, &workers, &dht);
        let commands = rpc::commands(commands, Arc::clone(&addresses), dialer, whereabouts.clone())
            .counted(Arc::clone(&rpc_served), Arc::clone(&rpc_traffic));
        let serving = server::serve(tcp, server_config, commands, workers.clone())?;

        let recovery = Recovery {
            exchange: exchange.clone(),
            dht: dht.clone(),
            client: talker.clone(),
            contacts: contacts.clone(),
            workers: workers.clone(),
            key: key.clone(),
            network: config.network.clone(),
            replica: Arc::clone(&replica),
            turn: Arc::default(),
        };
        let (listener, wanted) = Listener::new();
        let heard = Arc::clone(&listener.heard);
        let ears = Ears {
            dht: dht.clone(),
            exchange: exchange.clone(),
            contacts: contacts.clone(),
            workers: workers.clone(),
            heard: Arc::clone(&heard),
        };
        let known_others = noted_others
            .map_or_else(|| others::of_old_store(&heads, &anchors, clock::now()), |note| Known::noted(&note));
        let others = Arc::new(Others::new(known_others));
        let setup = replication::Setup {
            exchange: exchange.clone(),
            dht: dht.clone(),
            client: talker.clone(),
            contacts: contacts.clone(),
            workers: workers.clone(),
            heard: Arc::clone(&heard),
            key: key.clone(),
            network: config.network.clone(),
            addresses: advertised.clone(),
            seed: writer::seed()?,
            heads,
            anchors,
            known,
            view: Arc::clone(&replica),
            others: Arc::clone(&others),
            rpc_port: rpc.port(),
        };
        let asker = rpc::Asker {
            exchange: exchange.clone(),
            contacts: contacts.clone(),
            client,
            workers: workers.clone(),
        };
        let announced_port = reach.dialed_port();
        let publisher =
            Publisher::new(dht.clone(), exchange.clone(), listener, Arc::clone(&replica), announced_port);
        let reach_view = Arc::new(ArcSwap::from_pointee(ReachView {
            reachability: reach.reachability(Now::ZERO),
            addresses: advertised,
        }));
        let reach = reach::Task {
            reach,
            whereabouts,
            client: talker,
            contacts: contacts.clone(),
            replication: replication.clone(),
            exchange: exchange.clone(),
            dht: dht.clone(),
            key: key.clone(),
            addresses,
            view: Arc::clone(&reach_view),
        };
        let published = Arc::clone(&publisher.counted);
        let (report, ended) = watch::channel(None);
        let writer_ended = std::mem::replace(&mut writer.ended, tokio::sync::oneshot::channel().1);
        let tasks = vec![
            tokio::spawn(ears.run(wanted, fetches_queue)),
            tokio::spawn(asker.run(asks_queue)),
            tokio::spawn(replication::Task::run(setup, replication_inbox, news_queue)),
            tokio::spawn(publisher.run(publications_queue)),
            tokio::spawn(reach.run(notes)),
            tokio::spawn(disk::watch(config.data_dir.clone(), exchange.clone())),
            tokio::spawn(async move {
                let ended = writer_ended
                    .await
                    .unwrap_or_else(|_| Err(JournalError::Failed("the writer panicked".into())));
                report.send_replace(Some(ended.map_err(|error| NodeFailure {
                    needs_a_person: error.needs_a_person(),
                    reason: error.to_string(),
                })));
            }),
        ];
        let inner = Inner {
            exchange,
            dht,
            contacts,
            heard,
            published,
            replication,
            recovery,
            replica,
            workers,
            rpc_served,
            rpc_called,
            rpc_traffic,
            started_at: clock::now(),
            rpc,
            place,
            announced_port,
            reach: reach_view,
            dial_backs_refused,
            store_path: store_status.path,
            dropped,
            schema_version: store_status.schema_version,
            writer: Arc::new(writer),
            ended,
            standing: Standing::new(),
            others,
            clocks,
            running: Mutex::new(Some(Running { rpc: serving, tasks })),
            config,
        };
        let node = Self { inner: Arc::new(inner) };
        let watch = tokio::spawn(Self::watch_standing(Arc::downgrade(&node.inner)));
        if let Some(running) = &mut *node.inner.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.tasks.push(watch);
        }
        if let Err(error) = node.say_where(&key).await {
            // Its tasks would hold the data directory for as long as the process lives.
            node.stop().await;
            return Err(error.into());
        }
        Ok(node)
    }

    /// Lets others find this node: the signed item under its client key, and its id and its network's name as Grenache services.
    async fn say_where(&self, key: &KeyPair) -> Result<(), DhtError> {
        let Inner { exchange, dht, place, announced_port, .. } = &*self.inner;
        let card = Card::new(exchange.network(), exchange.client_id(), place.addresses());
        if let Some(item) = card.item(key, clock::now()).filter(|_| !place.addresses().is_empty()) {
            dht.keep_item(Item::Mutable(item)).await?;
        }
        if *place == Place::Nowhere {
            // Whoever read it would find nobody.
            return Ok(());
        }
        dht.keep_announced(exchange.network().as_str().as_bytes(), *announced_port).await?;
        dht.keep_announced(exchange.client_id().to_string().as_bytes(), *announced_port).await
    }

    /// The exchange core: commands and snapshots.
    pub fn exchange(&self) -> &Exchange {
        &self.inner.exchange
    }

    /// Asks every node that is known for trades with this one that it lacks, takes them over, and closes what the network knows
    /// better of its own offers. Repeated, it asks again, and finds what could not be reached before.
    pub async fn recover(&self) -> Result<Recovered, crate::exchange::CommandError> {
        self.inner.recovery.run().await
    }

    /// This node's part of the DHT.
    pub fn dht(&self) -> &Dht {
        &self.inner.dht
    }

    /// How replication stands.
    pub fn replica(&self) -> Arc<ReplicaView> {
        self.inner.replica.load_full()
    }

    /// How the node stands.
    pub fn status(&self) -> NodeStatus {
        let inner = &*self.inner;
        let snapshot = inner.exchange.snapshot();
        let state = &snapshot.state;
        let dht = inner.dht.status();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION"),
            client_id: inner.exchange.client_id(),
            network: inner.config.network.clone(),
            started_at: inner.started_at,
            rpc: inner.rpc,
            advertised: inner.reach.load().addresses.clone(),
            dht: DhtInfo {
                node_id: dht.node_id.to_string(),
                address: SocketAddr::V4(dht.local_addr),
                nodes: dht.nodes_good,
                items: dht.items,
                peers: dht.peers,
            },
            peers: inner
                .contacts
                .all()
                .into_iter()
                .map(|(client_id, contact)| PeerInfo {
                    client_id,
                    address: contact.address,
                    seen_at: contact.seen_at,
                })
                .collect(),
            replication: inner.replica.load_full(),
            offers: OffersInfo {
                listed: state.market.available.len(),
                records: state.market.records.len(),
                own: state.own.len(),
                trades: state.trades.len(),
            },
            store: StoreInfo {
                path: inner.config.data_dir.clone(),
                bytes: std::fs::metadata(&inner.store_path).map_or(0, |file| file.len()),
                schema_version: inner.schema_version,
            },
            outbox: OutboxInfo {
                bids_in_doubt: state.bids_in_doubt,
                unpublished: state.own.values().filter(|own| !standing::is_out(own)).count(),
            },
            heard: HeardInfo {
                announcements: inner.heard.announcements.get(),
                dropped: inner.heard.dropped(),
                refused: inner.heard.refused().iter().map(|(_, count)| count).sum(),
            },
            reasons: inner.reasons(),
            store_behind: state.is_behind(),
        }
    }

    /// Resolves when the node cannot go on, with the reason: a commit failed for good, and memory must not run ahead of disk.
    pub async fn failed(&self) -> NodeFailure {
        let stopped = || NodeFailure { reason: "it was stopped".into(), needs_a_person: false };
        let mut ended = self.inner.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => match &*ended {
                Some(Err(failure)) => failure.clone(),
                _ => stopped(),
            },
            Err(_) => stopped(),
        }
    }

    /// Why the node could not go on, if it has come to that: also in its last commit, after [`Node::stop`].
    #[must_use]
    pub fn failure(&self) -> Option<NodeFailure> {
        self.inner.ended.borrow().as_ref().and_then(|ended| ended.as_ref().err().cloned())
    }

    /// Stops everything, after what was begun is durable: no more questions from others, the last commit, the sockets.
    pub async fn stop(&self) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { rpc, tasks }) = running else { return };
        rpc.shutdown_within(RPC_DRAIN).await;
        let writer = Arc::clone(&self.inner.writer);
        // The inbox may be full, and this thread must go on serving it.
        let _ = tokio::task::spawn_blocking(move || writer.stop()).await;
        let mut ended = self.inner.ended.clone();
        let _ = ended.wait_for(Option::is_some).await;
        for task in tasks {
            task.abort();
        }
        self.inner.dht.clone().shutdown().await;
    }
}

/// Where the node is by its settings; the log says what follows.
fn place(config: &NodeConfig, rpc: SocketAddr) -> Place {
    let dht: Vec<IpAddr> =
        std::iter::once((*config.dht.ip()).into()).chain(config.dht_ipv6.map(IpAddr::from)).collect();
    let (place, notices) = Place::of(rpc, &dht, &config.advertise);
    for notice in notices.into_iter().chain(unheard(&dht, &config.bootstrap)) {
        match notice {
            Notice::Fine(text) => tracing::info!("{text}"),
            Notice::Trouble(text) => tracing::warn!("{text}"),
        }
    }
    if !config.allow_private {
        tracing::info!(
            "loopback and private addresses of other nodes are not connected to; --allow-private changes that"
        );
    }
    place
}

/// The DHT node id in a note under [`META_DHT_NODE`], if it is for this address: another must have another id.
#[must_use]
pub fn noted_dht_id(note: &str, address: SocketAddrV4) -> Option<NodeId> {
    let (id, of) = note.split_once(' ')?;
    (of == address.to_string()).then(|| id.parse().ok())?
}

/// What [`noted_dht_id`] reads.
fn dht_note(id: NodeId, address: SocketAddrV4) -> String {
    format!("{id} {address}")
}

/// Starts the DHT under the id that belongs to its address.
async fn start_dht(config: &NodeConfig, store: &mut Store, workers: Workers) -> Result<Dht, NodeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let note = store.get_meta(META_DHT_NODE)?;
    let node_id = note.as_deref().and_then(|note| noted_dht_id(note, config.dht));
    let dht_config = DhtConfig {
        node_id,
        ipv6: config.dht_ipv6,
        mainline: config.mainline,
        items_max: DHT_ITEMS_MAX,
        own_thread: true,
        tells: listener::is_heard,
        ..DhtConfig::new(config.dht, config.bootstrap.clone(), seed)
    };
    let dht = Dht::start(dht_config, workers).await.map_err(|error| match error {
        DhtError::Bind { addr: address, source } => NodeError::DhtPort { address, source },
        error => error.into(),
    })?;
    if node_id != Some(dht.node_id()) {
        store.set_meta(META_DHT_NODE, &dht_note(dht.node_id(), dht.local_addr()))?;
    }
    Ok(dht)
}
