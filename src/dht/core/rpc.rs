//! Queries under way: numbered, matched by number and address, first late, then failed.
//!
//! *Late* is when whoever waits should go on without (a few round trips of that node); *failed* is when the number is given up.
//! Between the two an answer still counts. A late query is sent once more: all of ours may be repeated without harm. With it goes a
//! ping, because there are queries that a node keeps silent about and goes on talking (a value that it cannot read, a method that it
//! does not know): whoever answers the ping has failed one query, and is no more dead than before.

use super::{
    Contact, Core, Item, NodeId, Now, Refusal, Target,
    family::Family,
    items::mutable_item,
    krpc::{self, Ask, Reply, SignedArgs, TRANSACTION_BYTES},
    proof::AMPLIFICATION_MAX,
};
use rand::RngExt;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Queries under way at once: more than a home router's table likes, far fewer than the transaction ids.
const IN_FLIGHT_MAX: usize = 1024;
/// Queries that wait for one of the others to end. Beyond that they fail at once.
const WAITING_MAX: usize = 16_384;
/// Pings under way to nodes that asked us something. Beside them there may be one for each query that is late.
const CHECKING_MAX: usize = 64;
/// A ping of ours.
const PING_BYTES: usize = 58;
/// What it is longer by when it says that this node is read-only.
const READ_ONLY_BYTES: usize = 7;
/// The shortest answer, with a transaction id of eight bytes.
const ANSWER_BYTES_MIN: usize = 53;
/// When a query is given up, as grapes and the mainline crate do.
const FAILED_AFTER: Duration = Duration::from_secs(2);

/// What a query asks, held until it is answered.
#[derive(Clone)]
pub(super) enum Asking {
    Ping,
    FindNode(Arc<[u8]>),
    GetPeers(Arc<[u8]>),
    Get(Target),
    /// Again, with the token of an answer that was cut short.
    GetPeersAgain {
        name: Arc<[u8]>,
        token: Arc<[u8]>,
    },
    GetAgain {
        target: Target,
        token: Arc<[u8]>,
    },
    Announce {
        name: Arc<[u8]>,
        port: u16,
        token: Arc<[u8]>,
    },
    Put {
        target: Target,
        item: Item,
        cas: Option<i64>,
        token: Arc<[u8]>,
    },
}

impl Asking {
    /// `both`: nodes of both families are of use.
    fn ask(&self, both: bool) -> Ask<'_> {
        match self {
            Self::Ping => Ask::Ping,
            Self::FindNode(target) => Ask::FindNode { target, both },
            Self::GetPeers(name) => Ask::GetPeers { name },
            Self::Get(target) => Ask::Get { target: &target.0 },
            Self::GetPeersAgain { name, token } => Ask::GetPeersAgain { name, token },
            Self::GetAgain { target, token } => Ask::GetAgain { target: &target.0, token },
            Self::Announce { name, port, token } => Ask::Announce { name, port: *port, token },
            Self::Put { target, item, cas, token } => {
                let signed = match item {
                    Item::Immutable(_) => None,
                    Item::Mutable(item) => {
                        Some(SignedArgs { k: item.k.0, sig: item.sig.0, seq: item.seq, salt: &item.salt })
                    }
                };
                Ask::Put { target: &target.0, token, v: item.v(), signed, cas: *cas }
            }
        }
    }
}

impl Asking {
    /// What to ask after an answer that was cut short, once.
    fn again(&self, token: &[u8]) -> Option<Self> {
        match self {
            Self::GetPeers(name) => Some(Self::GetPeersAgain { name: Arc::clone(name), token: token.into() }),
            Self::Get(target) => Some(Self::GetAgain { target: *target, token: token.into() }),
            _ => None,
        }
    }
}

/// Who waits for the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Nobody: the table learns from it.
    Check,
    /// A lookup.
    Traverse(u64),
    /// A store that needs a write token.
    Token(u64),
    /// A store.
    Write(u64),
    /// A store that was refused with 302 and reads what is there.
    ReadBack(u64),
}

struct Call {
    to: SocketAddr,
    asking: Asking,
    purpose: Purpose,
    sent: Now,
    deadline: Now,
    late: bool,
}

#[derive(Default)]
pub(super) struct Rpc {
    calls: HashMap<u32, Call>,
    /// Calls under way to each address.
    awaited: HashMap<SocketAddr, u32>,
    deadlines: BTreeSet<(Now, u32)>,
    waiting: VecDeque<(SocketAddr, Asking, Purpose)>,
    checking: HashSet<SocketAddr>,
}

impl Rpc {
    pub(super) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether queries wait to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Now> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Whether a query to exactly this address is under way.
    pub(super) fn awaits(&self, addr: &SocketAddr) -> bool {
        self.awaited.contains_key(addr)
    }

    fn insert(&mut self, tid: u32, call: Call) {
        *self.awaited.entry(call.to).or_default() += 1;
        self.deadlines.insert((call.deadline, tid));
        self.calls.insert(tid, call);
    }

    /// Takes a call out; its deadline is left to the caller.
    fn remove(&mut self, tid: u32) -> Option<Call> {
        let call = self.calls.remove(&tid)?;
        if let Entry::Occupied(mut awaited) = self.awaited.entry(call.to) {
            *awaited.get_mut() -= 1;
            if *awaited.get() == 0 {
                awaited.remove();
            }
        }
        Some(call)
    }

    fn take(&mut self, t: &[u8], from: SocketAddr) -> Option<Call> {
        let tid = u32::from_be_bytes(<[u8; TRANSACTION_BYTES]>::try_from(t).ok()?);
        if self.calls.get(&tid)?.to != from {
            return None;
        }
        let call = self.remove(tid)?;
        self.deadlines.remove(&(call.deadline, tid));
        Some(call)
    }
}

impl Core {
    /// Sends a query, or queues it. False when the queue is full: it has failed.
    pub(super) fn ask(&mut self, now: Now, to: SocketAddr, asking: Asking, purpose: Purpose) -> bool {
        if !self.may_ask(now, to) {
            self.counters.dropped.queries += 1;
            return false;
        }
        if self.may_send(now) {
            self.call(now, to, asking, purpose);
        } else if self.rpc.waiting.len() < WAITING_MAX {
            self.rpc.waiting.push_back((to, asking, purpose));
        } else {
            self.counters.dropped.queries += 1;
            return false;
        }
        true
    }

    /// Whether a query may leave now.
    fn may_send(&self, now: Now) -> bool {
        self.rpc.calls.len() < IN_FLIGHT_MAX && self.next_query().is_none_or(|at| at <= now)
    }

    fn call(&mut self, now: Now, to: SocketAddr, asking: Asking, purpose: Purpose) {
        let mut tid = self.rng.random::<u32>();
        while self.rpc.calls.contains_key(&tid) {
            tid = tid.wrapping_add(1);
        }
        let deadline = now.plus(self.contacts.late_after(to));
        let call = Call { to, asking, purpose, sent: now, deadline, late: false };
        self.transmit(now, tid, &call);
        self.rpc.insert(tid, call);
    }

    fn transmit(&mut self, now: Now, tid: u32, call: &Call) {
        self.counters.queries_out += 1;
        self.note_query(now, call.to);
        let (own, read_only) = (self.own_at(&call.to), self.is_read_only(&call.to));
        let ask = call.asking.ask(self.tables.get(Family::V6).is_some());
        self.outbox.write(call.to, |out| krpc::write_query_of(out, tid.to_be_bytes(), &own, read_only, &ask));
    }

    pub(super) fn send_waiting(&mut self, now: Now) {
        while self.may_send(now) {
            let Some((to, asking, purpose)) = self.rpc.waiting.pop_front() else { return };
            self.call(now, to, asking, purpose);
        }
    }

    /// Pings a node to see whether it is (still) there.
    pub(super) fn check(&mut self, now: Now, addr: SocketAddr) {
        if self.rpc.checking.len() < CHECKING_MAX {
            self.ask_whether_alive(now, addr);
        }
    }

    /// Pings a node, unless a ping is under way to it. There are as many as the caller has reasons.
    fn ask_whether_alive(&mut self, now: Now, addr: SocketAddr) {
        if self.rpc.checking.insert(addr) && !self.ask(now, addr, Asking::Ping, Purpose::Check) {
            self.rpc.checking.remove(&addr);
        }
    }

    /// A node asked us something: if it could enter the table, or counts as dead, it has to show that it answers.
    pub(super) fn heard(&mut self, now: Now, contact: Contact) {
        let Some(table) = self.tables.of_mut(&contact.addr) else { return };
        if table.heard(contact, now) || self.contacts.is_given_up(contact.addr, now) {
            self.check(now, contact.addr);
        }
    }

    /// Something came that is no answer (any more): whoever counts as dead there is asked at once whether it is.
    pub(super) fn noise(&mut self, now: Now, from: SocketAddr) {
        if self.contacts.is_given_up(from, now) {
            self.check(now, from);
        }
    }

    /// Asks an address that is not proven to show that it is there, if that leaves room for an answer within what it may be sent
    /// for a query of `bytes`. Returns that room. Nothing is kept: its answer brings the number back.
    pub(super) fn ask_for_proof(
        &mut self,
        now: Now,
        from: SocketAddr,
        bytes: usize,
        asker: Option<NodeId>,
    ) -> usize {
        let room = bytes * AMPLIFICATION_MAX;
        let own = self.own_at(&from);
        let read_only = self.is_read_only(&from);
        let ping_bytes = PING_BYTES + if read_only { READ_ONLY_BYTES } else { 0 };
        if asker.is_none_or(|id| id == own) || room < ping_bytes + ANSWER_BYTES_MIN {
            return room;
        }
        self.counters.queries_out += 1;
        let t = self.proofs.cookie(from.ip(), now);
        self.outbox.write(from, |out| krpc::write_query_of(out, t, &own, read_only, &Ask::Ping));
        room - ping_bytes
    }

    /// An answer to the ping that asked for proof.
    fn proof_given(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: &[u8],
        ip: Option<IpAddr>,
        reply: &Reply<'_>,
    ) -> bool {
        if !self.proofs.accepts(t, from.ip(), now) {
            return false;
        }
        self.counters.answers_in += 1;
        self.proofs.prove(from.ip(), now);
        self.told_address(now, from, ip);
        if self.contacts.is_avoided(from, now) {
            self.contacts.is_alive(from, now);
        }
        if let Some(id) = reply.id {
            self.node_answered(now, Contact { id, addr: from });
        }
        true
    }

    /// False when it belongs to no query.
    pub(super) fn reply(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: &[u8],
        ip: Option<IpAddr>,
        reply: &Reply<'_>,
    ) -> bool {
        let Some(call) = self.rpc.take(t, from) else { return self.proof_given(now, from, t, ip, reply) };
        self.answered(now, &call, ip);
        self.answered_with(now, from, &call, reply);
        true
    }

    fn answered_with(&mut self, now: Now, from: SocketAddr, call: &Call, reply: &Reply<'_>) {
        if let Some(token) = reply.token.filter(|token| !token.is_empty()) {
            self.contacts.keep_token(from, token, now);
        }
        let contact = reply.id.map(|id| Contact { id, addr: from });
        match contact {
            Some(contact) => self.node_answered(now, contact),
            None => self.node_spoke(now, from),
        }
        // Whoever only wanted the token has it.
        let wants_all = matches!(call.purpose, Purpose::Traverse(_) | Purpose::ReadBack(_));
        if reply.cut
            && wants_all
            && let Some(again) = reply.token.and_then(|token| call.asking.again(token))
            && self.ask(now, from, again, call.purpose)
        {
            return;
        }
        match call.purpose {
            Purpose::Check => {}
            Purpose::Traverse(id) => self.traversal_answered(now, id, from, contact, reply),
            Purpose::Token(id) => self.store_has_token(now, id, from),
            Purpose::Write(id) => self.store_accepted(now, id, from),
            Purpose::ReadBack(id) => {
                let held = reply.v.zip(reply.signed);
                let held = held.map(|(v, (k, sig, seq))| mutable_item(k, sig, seq, Arc::default(), v));
                self.store_read_back(now, id, from, held);
            }
        }
    }

    /// False when it belongs to no query.
    pub(super) fn error_reply(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: &[u8],
        ip: Option<IpAddr>,
        refusal: Refusal,
    ) -> bool {
        let Some(call) = self.rpc.take(t, from) else { return false };
        self.answered(now, &call, ip);
        self.node_spoke(now, from);
        match call.purpose {
            Purpose::Check => {}
            Purpose::Traverse(id) => self.traversal_failed(now, id, from),
            Purpose::Token(id) => self.store_refused(now, id, from, refusal, false),
            Purpose::Write(id) => self.store_refused(now, id, from, refusal, true),
            Purpose::ReadBack(id) => self.store_read_back(now, id, from, None),
        }
        true
    }

    fn answered(&mut self, now: Now, call: &Call, ip: Option<IpAddr>) {
        self.counters.answers_in += 1;
        self.proofs.prove(call.to.ip(), now);
        self.told_address(now, call.to, ip);
        self.contacts.answered(call.to, now.since(call.sent), now);
        if call.purpose == Purpose::Check {
            self.rpc.checking.remove(&call.to);
        }
    }

    /// Deals with every query whose answer is late or given up by now.
    pub(super) fn expire_calls(&mut self, now: Now) {
        while let Some(&(deadline, tid)) = self.rpc.deadlines.first()
            && deadline <= now
        {
            self.rpc.deadlines.remove(&(deadline, tid));
            let Some(mut call) = self.rpc.remove(tid) else { continue };
            if call.late {
                self.call_failed(now, &call);
            } else {
                call.late = true;
                call.deadline = call.sent.plus(FAILED_AFTER).max(now);
                self.contacts.late(call.to, call.deadline);
                // Perhaps it was lost. To a dead node it is one datagram more, the first time only.
                self.transmit(now, tid, &call);
                let (to, purpose) = (call.to, call.purpose);
                let is_ping = matches!(call.asking, Asking::Ping);
                self.rpc.insert(tid, call);
                if !is_ping {
                    self.ask_whether_alive(now, to);
                }
                match purpose {
                    Purpose::Check => {}
                    Purpose::Traverse(id) => self.traversal_late(now, id, to),
                    Purpose::Token(id) | Purpose::Write(id) | Purpose::ReadBack(id) => {
                        self.store_late(now, id, to);
                    }
                }
            }
        }
    }

    fn call_failed(&mut self, now: Now, call: &Call) {
        self.counters.timeouts += 1;
        if call.purpose == Purpose::Check {
            self.rpc.checking.remove(&call.to);
        }
        // Who answered something else meanwhile is silent about this one.
        let mute = self.contacts.was_alive_since(call.to, call.sent);
        // One silence is one failure, however many queries it left unanswered.
        if !mute && !self.contacts.has_failed_since(call.to, call.sent) {
            self.node_failed(now, call.to);
        }
        match call.purpose {
            Purpose::Check => {}
            Purpose::Traverse(id) => self.traversal_failed(now, id, call.to),
            Purpose::Token(id) | Purpose::Write(id) | Purpose::ReadBack(id) => {
                self.store_failed(now, id, call.to, mute);
            }
        }
    }

    fn node_failed(&mut self, now: Now, addr: SocketAddr) {
        self.contacts.failed(addr, now);
        if let Some(table) = self.tables.of_mut(&addr) {
            let before = table.len();
            let newcomer = table.failed(addr);
            if table.len() < before {
                self.lost.insert(addr);
            }
            if before > 0 && table.len() == 0 {
                self.join_again(now);
            }
            if let Some(newcomer) = newcomer {
                self.check(now, newcomer.addr);
            }
        }
    }
}
