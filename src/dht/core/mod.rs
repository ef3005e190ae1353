//! The protocol as a state machine without IO.
//!
//! The contract: call [`Core::handle`] with the time and one [`Input`]; after any number of these, send what
//! [`Core::datagrams`] holds and clear it, take every [`Output`] by [`Core::next_output`], and sleep until
//! [`Core::next_timeout`] or the next input. Time comes in with each call, randomness from a seed: the same inputs give the same
//! outputs.
//!
//! Inside, from the wire inwards:
//!
//! | file | decides |
//! |---|---|
//! | `source`, `admission` | who a datagram counts for, and whether it is looked at |
//! | [`bencode`], [`krpc`] | what a datagram says, and how ours are written |
//! | `proof` | who may be sent more than twice what came from them |
//! | `rpc` | queries under way: transaction ids, lateness, time-outs, the queue beyond the bound |
//! | `family` | IPv4 and IPv6: a table and a lookup for each |
//! | `contacts` | what is remembered of addresses: round-trip times, failures, write tokens |
//! | `table`, `diversity` | the routing table, and how many nodes of one network it takes |
//! | `server` | answers to other nodes' queries |
//! | `shortlist`, `paths`, `lookups` | iterative lookups, one for all who want the same |
//! | `neighbourhood` | closest nodes of targets looked up lately, so that a store needs no lookup |
//! | `stores`, `audit` | putting and announcing; whether it can be found, and repair |
//! | `items`, `peers`, `token`, `quota` | what is stored for others, who may write, and who makes room |
//! | `stored` | what is stored, handed out and taken back, for a caller that keeps it |
//! | `upkeep` | joining, liveness |
//! | `lost` | who fell out of the table, and is asked again now and then |
//! | `turnover` | how fast neighbours change, and how often upkeep is due |
//! | `renewal` | renewing what this node keeps alive |
//! | `mainline` | the rules of the public network: ids that belong to addresses, read-only nodes, pace |
//!
//! Signatures are not checked here: [`Output::Verify`] hands them out and [`Input::Verified`] brings the verdict.

mod admission;
mod audit;
pub mod bencode;
#[cfg(test)]
mod conformance;
mod contacts;
mod diversity;
mod family;
mod id;
mod io;
mod items;
pub mod krpc;
mod lookups;
mod lost;
mod mainline;
mod neighbourhood;
mod paths;
mod peers;
mod proof;
#[cfg(test)]
mod public;
mod quota;
mod renewal;
mod rpc;
mod server;
mod shortlist;
#[cfg(test)]
mod simulation;
mod source;
mod stored;
mod stores;
mod table;
mod token;
mod turnover;
mod types;
mod upkeep;

pub(in crate::dht) use self::{
    family::ByFamily,
    items::{Uncarried, is_carried, value_fits},
};
pub use crate::time::Now;

pub use self::{
    family::Family,
    id::{Contact, ID_BYTES, NodeId, NodeIdError},
    io::{CoreConfig, Input, OpError, OpId, Outcome, Output, Request, Verdict, VerifyId},
    renewal::KEPT_MAX,
    stored::{Stored, StoredWhat, Walk},
    table::K,
    types::{
        DhtEvent, DhtStatus, Dropped, ErrorsOut, Found, GetMode, Item, NAME_BYTES_MAX, PEER_AGE, Put,
        PutOutcome, Refusal,
    },
};

use self::{
    admission::{Admission, Deed},
    audit::Audits,
    contacts::{Contacts, Recent},
    items::Items,
    lookups::{LOOKUP_CACHE_MAX, LookupKey, Traversal},
    lost::Lost,
    mainline::Mainline,
    neighbourhood::Neighbourhoods,
    peers::Peers,
    proof::Proofs,
    renewal::Kept,
    rpc::Rpc,
    server::{PendingPut, REPLY_BYTES_MAX},
    source::{Payer, Ranges},
    stores::Store,
    table::{Inserted, Table},
    token::Tokens,
    turnover::Turnover,
    upkeep::Join,
};
use crate::bep44::{MutableItem, Target};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

/// Lookups and stores under way, the node's own included. Each may have [`K`] queries waiting; more would only wait longer.
pub const OPERATIONS_MAX: usize = 4096;
/// Signatures handed out and not back yet: about 40 ms of one worker's time.
const VERIFYING_MAX: usize = 1024;

/// What a signature is checked for.
enum Verifying {
    Put(PendingPut),
    Get { traversal: u64, from: NodeId, token: Option<Arc<[u8]>> },
}

#[derive(Default)]
struct Counters {
    queries_in: u64,
    queries_out: u64,
    answers_in: u64,
    answers_cut: u64,
    unasked_in: u64,
    audits: u64,
    repairs: u64,
    timeouts: u64,
    malformed_in: u64,
    verifications: u64,
    bad_signatures: u64,
    errors_out: ErrorsOut,
    dropped: Dropped,
}

/// Datagrams to send, in one buffer that is used again and again.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// To whom, and where each ends.
    ends: Vec<(SocketAddr, usize)>,
}

impl Outbox {
    fn write(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((to, self.bytes.len()));
    }

    /// Writes a datagram unless it is longer than `bytes_max`; false when it was.
    fn write_within(&mut self, bytes_max: usize, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() - start > bytes_max {
            self.bytes.truncate(start);
            return false;
        }
        self.ends.push((to, self.bytes.len()));
        true
    }
}

/// One DHT node's state and decisions. See the module's page for how to drive it.
pub struct Core {
    config: CoreConfig,
    /// One id in each network: on the public one it belongs to the address.
    own: ByFamily<NodeId>,
    rng: StdRng,
    ranges: Ranges,
    admission: Admission,
    proofs: Proofs,
    /// The most bytes of the answer to the query at hand.
    answer_bytes_max: usize,
    tables: ByFamily<Table>,
    tokens: Tokens,
    contacts: Contacts,
    items: Items,
    peers: Peers,
    rpc: Rpc,
    /// Disjoint paths of a lookup for an item.
    item_paths: usize,
    traversals: BTreeMap<u64, Traversal>,
    shared_lookups: HashMap<LookupKey, u64>,
    found_peers: Recent<Arc<[u8]>, (Now, Vec<SocketAddr>)>,
    stores: BTreeMap<u64, Store>,
    audits: Audits,
    neighbourhoods: ByFamily<Neighbourhoods>,
    verifying: HashMap<VerifyId, Verifying>,
    mainline: Option<Mainline>,
    join: Join,
    turnover: Turnover,
    lost: Lost,
    kept: Kept,
    /// Numbers traversals, stores and signature checks.
    serial: u64,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    counters: Counters,
    contacts_buffer: Vec<Contact>,
    answer_buffers: ByFamily<Vec<Contact>>,
    peers_buffer: Vec<SocketAddr>,
}

impl Core {
    /// A new node. It starts to join at the first [`Input::Timeout`].
    #[must_use]
    pub fn new(config: CoreConfig, seed: [u8; 32], now: Now) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let own = config.node_id.unwrap_or_else(|| NodeId(rng.random()));
        let v6 = config.local_addr6.is_some();
        let ranges = Ranges { limit_private: config.limit_private };
        Self {
            own: ByFamily::new(v6, |_| own),
            ranges,
            admission: Admission::new(ranges, rng.random()),
            proofs: Proofs::new(ranges, rng.random()),
            answer_bytes_max: REPLY_BYTES_MAX,
            tables: ByFamily::new(v6, |_| Table::new(own, ranges)),
            tokens: Tokens::new(rng.random()),
            contacts: Contacts::new(),
            items: Items::new(config.items_max, own),
            peers: Peers::new(config.peers_max, config.peer_max_age, own, ranges),
            rpc: Rpc::default(),
            item_paths: paths::DISJOINT,
            traversals: BTreeMap::new(),
            shared_lookups: HashMap::new(),
            found_peers: Recent::new(LOOKUP_CACHE_MAX),
            stores: BTreeMap::new(),
            audits: Audits::default(),
            neighbourhoods: ByFamily::new(v6, |_| Neighbourhoods::default()),
            verifying: HashMap::new(),
            mainline: config.mainline.then(|| Mainline::new(v6, now)),
            join: Join::new(now, &config),
            turnover: Turnover::new(now),
            lost: Lost::default(),
            kept: Kept::default(),
            serial: 0,
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            contacts_buffer: Vec::new(),
            answer_buffers: ByFamily::new(v6, |_| Vec::new()),
            peers_buffer: Vec::new(),
            rng,
            config,
        }
    }

    /// Takes in what happened. Afterwards there may be datagrams, outputs and another timeout.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Datagram { from, bytes } => self.datagram(now, from, bytes),
            Input::Timeout => {}
            Input::Start { op, request } => self.start(now, op, request),
            Input::Verified { id, verdict } => self.verified(now, id, verdict),
            Input::Bootstrap(addrs) => self.join_through(now, addrs),
        }
        self.expire_calls(now);
        self.upkeep(now);
        self.audit(now);
        self.send_waiting(now);
    }

    /// The datagrams to send, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut start = 0;
        self.outbox.ends.iter().map(move |&(to, end)| {
            let bytes = &self.outbox.bytes[start..end];
            start = end;
            (to, bytes)
        })
    }

    /// Forgets the datagrams: they were sent.
    pub fn clear_datagrams(&mut self) {
        self.outbox.bytes.clear();
        self.outbox.ends.clear();
    }

    /// The next thing to do, until there is none.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Now> {
        let times = [
            self.rpc.next_deadline(),
            self.next_query().filter(|_| self.rpc.is_waiting()),
            self.next_upkeep(),
            self.audits.next(),
            self.items.next_expiry(),
            self.next_reach(),
            self.peers.next_expiry(),
        ];
        times.into_iter().flatten().min()
    }

    /// Its id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.own.get(Family::V4).copied().unwrap_or(NodeId([0; ID_BYTES]))
    }

    /// The item that is stored here.
    pub fn local(&mut self, target: &Target) -> Option<Item> {
        self.items.get(target).cloned()
    }

    /// The addresses of nodes that answer, nearest first.
    #[must_use]
    pub fn known_nodes(&self) -> Vec<SocketAddr> {
        let mut nodes = Vec::new();
        let mut of_one = Vec::new();
        for table in self.tables.each() {
            table.closest(&self.node_id().0, usize::MAX, &mut of_one);
            nodes.extend(of_one.iter().map(|node| node.addr));
        }
        nodes
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> DhtStatus {
        let (external_ip, read_only) = self.outside();
        DhtStatus {
            node_id: self.node_id(),
            local_addr: self.config.local_addr,
            bootstrapped: self.is_joined(),
            ready: self.is_ready(),
            external_ip,
            read_only,
            local_addr6: self.config.local_addr6,
            nodes: self.tables.each().map(Table::len).sum(),
            nodes_good: self.good_nodes(),
            nodes6: self.tables.get(Family::V6).map_or(0, Table::len),
            nodes6_good: self.tables.get(Family::V6).map_or(0, Table::good),
            items: self.items.len(),
            peers: self.peers.len(),
            kept: self.kept.len(),
            operations: self.operations(),
            queries_in_flight: self.rpc.in_flight(),
            queries_in: self.counters.queries_in,
            queries_out: self.counters.queries_out,
            answers_in: self.counters.answers_in,
            answers_cut: self.counters.answers_cut,
            unasked_in: self.counters.unasked_in,
            audits: self.counters.audits,
            repairs: self.counters.repairs,
            proven: self.proofs.len(),
            timeouts: self.counters.timeouts,
            malformed_in: self.counters.malformed_in,
            verifications: self.counters.verifications,
            bad_signatures: self.counters.bad_signatures,
            errors_out: self.counters.errors_out,
            dropped: self.counters.dropped,
        }
    }

    /// Nodes that answered when last asked, of both families.
    fn good_nodes(&self) -> usize {
        self.tables.each().map(Table::good).sum()
    }

    fn operations(&self) -> usize {
        self.traversals.len() + self.stores.len()
    }

    fn start(&mut self, now: Now, op: OpId, request: Request) {
        if self.operations() >= OPERATIONS_MAX {
            self.counters.dropped.operations += 1;
            let outcome = match request {
                Request::Announce { .. } => Outcome::Announced(Err(OpError::Busy)),
                Request::Lookup { .. } => Outcome::Peers(Err(OpError::Busy)),
                Request::Put(_) => Outcome::Put(Err(OpError::Busy)),
                Request::Get { .. } => Outcome::Item(Err(OpError::Busy)),
            };
            return self.outputs.push_back(Output::Done(op, outcome));
        }
        match request {
            Request::Announce { name, port } => self.announce(now, op, name, port),
            Request::Lookup { name } => self.lookup(now, op, name),
            Request::Put(put) => self.put(now, op, put),
            Request::Get { target, salt, mode } => self.get(now, op, target, salt, mode),
        }
    }

    fn datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        // Nothing can be sent to port 0.
        if from.port() == 0 {
            return;
        }
        let admitted = self.admission.admits(from, now);
        if !admitted && !self.rpc.awaits(&from) {
            self.counters.dropped.datagrams += 1;
            return;
        }
        let deed = match krpc::decode(bytes) {
            None => {
                self.counters.malformed_in += 1;
                Some(Deed::Malformed)
            }
            Some(krpc::Message::Query { t, id, read_only, query }) if admitted => {
                self.counters.queries_in += 1;
                if self.may_answer(now, from) {
                    self.queried(now, from, bytes.len(), id.filter(|_| !read_only), t, query);
                }
                Some(Deed::Query)
            }
            Some(krpc::Message::Query { .. }) => {
                self.counters.dropped.datagrams += 1;
                None
            }
            Some(krpc::Message::Reply { t, ip, reply }) => {
                (!self.reply(now, from, t, ip, &reply)).then_some(Deed::Unasked)
            }
            Some(krpc::Message::Error { t, ip, code, text }) => {
                (!self.error_reply(now, from, t, ip, Refusal { code, text })).then_some(Deed::Unasked)
            }
        };
        self.counters.unasked_in += u64::from(deed == Some(Deed::Unasked));
        if matches!(deed, Some(Deed::Unasked | Deed::Malformed)) {
            self.noise(now, from);
        }
        if let Some(deed) = deed {
            self.admission.charge(from, deed, now);
        }
    }

    /// Answers a query, in full only where its sender has shown that it is there. `asker`: who would like to be known.
    fn queried(
        &mut self,
        now: Now,
        from: SocketAddr,
        bytes: usize,
        asker: Option<NodeId>,
        t: Option<&[u8]>,
        query: Result<krpc::Query<'_>, krpc::Problem>,
    ) {
        let proven = self.proofs.is_proven(from.ip(), now);
        if !proven {
            self.answer_bytes_max = self.ask_for_proof(now, from, bytes, asker).min(REPLY_BYTES_MAX);
        }
        self.answer(now, from, t, query);
        self.answer_bytes_max = REPLY_BYTES_MAX;
        if let Some(id) = asker.filter(|_| proven) {
            self.heard(now, Contact { id, addr: from });
        }
    }

    /// A node answered from this address under this id.
    fn node_answered(&mut self, now: Now, contact: Contact) {
        let Some(table) = self.tables.of_mut(&contact.addr) else { return };
        match table.answered(contact, now) {
            Inserted::New => {
                if let Some(near) = self.neighbourhoods.of_mut(&contact.addr) {
                    near.grew(&contact);
                }
                self.outputs.push_back(Output::Event(DhtEvent::Node { id: contact.id, addr: contact.addr }));
                self.join_grew(now, Family::of(&contact.addr));
                if self.lost.remove(&contact.addr) {
                    self.found_again(now, contact.addr);
                }
            }
            Inserted::Known => {}
            Inserted::Refused => self.counters.dropped.nodes += 1,
            Inserted::Contested(elsewhere) => self.check(now, elsewhere),
        }
    }

    /// A node answered from this address, with an error or without saying who it is.
    fn node_spoke(&mut self, now: Now, addr: SocketAddr) {
        if let Some(table) = self.tables.of_mut(&addr) {
            table.spoke(addr, now);
        }
    }

    /// Hands a signature out to be checked; false when too many are out.
    fn verify(&mut self, item: MutableItem, what: Verifying) -> Option<VerifyId> {
        if self.verifying.len() >= VERIFYING_MAX {
            self.counters.dropped.checks += 1;
            return None;
        }
        let id = VerifyId(self.next_serial());
        self.verifying.insert(id, what);
        self.counters.verifications += 1;
        self.outputs.push_back(Output::Verify { id, item });
        Some(id)
    }

    fn verified(&mut self, now: Now, id: VerifyId, verdict: Verdict) {
        self.counters.bad_signatures += u64::from(matches!(verdict, Verdict::Bad));
        match self.verifying.remove(&id) {
            Some(Verifying::Put(pending)) => {
                if matches!(verdict, Verdict::Bad) {
                    self.admission.charge(pending.from, Deed::BadSignature, now);
                }
                self.put_verified(now, pending, verdict);
            }
            Some(Verifying::Get { traversal, from, token }) => {
                self.value_verified(now, traversal, id, from, token, verdict);
            }
            None => {}
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn event(&mut self, event: DhtEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn done(&mut self, op: OpId, outcome: Outcome) {
        self.outputs.push_back(Output::Done(op, outcome));
    }
}
