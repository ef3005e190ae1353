//! Storing on other nodes: `put` and `announce_peer`.
//!
//! Where the closest nodes are known no lookup comes first: in a network that was seen to be smaller than one bucket they are
//! the whole table, otherwise a neighbourhood may be remembered. A node whose token is known is written to at once; the others are asked for one.
//! A refused token is fetched anew and the write repeated once (libtorrent binds tokens to the target). When nobody at all
//! accepts, a lookup is made after all. The end does not wait for nodes that are late once one has accepted.

use super::{
    Contact, Core, DhtEvent, Item, Now, OpError, OpId, Outcome, Payer, Put, PutOutcome, Refusal, Target,
    krpc::code,
    lookups::{Waiter, Want},
    renewal::KeptKey,
    rpc::{Asking, Purpose},
    table::K,
};
use crate::bep44::MutableItem;
use std::{net::SocketAddr, sync::Arc};

/// What is stored.
#[derive(Clone)]
pub(super) enum What {
    Announcement { name: Arc<[u8]>, port: u16 },
    Item { target: Target, item: Item, cas: Option<i64> },
}

/// Who wanted it.
#[derive(Clone)]
pub(super) enum Origin {
    Call(OpId),
    Kept(KeptKey),
    /// Nobody: an audit found that too few hold it.
    Repair,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A token was asked for.
    Token,
    /// The write was sent.
    Write,
    /// What it holds was asked for, because it refused with 302.
    ReadBack,
    Done,
}

struct Ask {
    addr: SocketAddr,
    state: State,
    late: bool,
    retried: bool,
    /// It kept silent about the write, and goes on answering others.
    mute: bool,
}

pub(super) struct Store {
    what: What,
    origin: Origin,
    asks: Vec<Ask>,
    looked_up: bool,
    accepted: usize,
    read_back: usize,
    refused_301: usize,
    refused_302: usize,
    refusal: Option<Refusal>,
}

impl Store {
    fn new(what: What, origin: Origin) -> Self {
        Self {
            what,
            origin,
            asks: Vec::new(),
            looked_up: false,
            accepted: 0,
            read_back: 0,
            refused_301: 0,
            refused_302: 0,
            refusal: None,
        }
    }

    fn ask(&mut self, addr: SocketAddr) -> Option<&mut Ask> {
        self.asks.iter_mut().find(|ask| ask.addr == addr && ask.state != State::Done)
    }

    /// Keeps the error that tells the caller most: one of 300 to 399.
    fn refused(&mut self, refusal: Refusal) {
        match refusal.code {
            code::CAS_MISMATCH => self.refused_301 += 1,
            code::SEQ_TOO_LOW => self.refused_302 += 1,
            _ => {}
        }
        if self.refusal.as_ref().is_none_or(|held| !is_final(held)) {
            self.refusal = Some(refusal);
        }
    }

    fn target(&self) -> Arc<[u8]> {
        match &self.what {
            What::Announcement { name, .. } => Arc::clone(name),
            What::Item { target, .. } => target.0[..].into(),
        }
    }
}

/// BEP44's errors about the item itself: asking others changes nothing.
fn is_final(refusal: &Refusal) -> bool {
    (300..400).contains(&refusal.code)
}

impl Core {
    pub(super) fn announce(&mut self, now: Now, op: OpId, name: Arc<[u8]>, port: u16) {
        let name = self.wire_name(name);
        self.store(now, What::Announcement { name, port }, Origin::Call(op));
    }

    pub(super) fn put(&mut self, now: Now, op: OpId, put: Put) {
        let (item, cas) = (put.item(), if let Put::Mutable { cas, .. } = put { cas } else { None });
        let target = item.target();
        self.store(now, What::Item { target, item, cas }, Origin::Call(op));
    }

    /// Starts a store.
    pub(super) fn store(&mut self, now: Now, what: What, origin: Origin) {
        match &what {
            What::Announcement { name, port } => {
                if let Some(host) = self.config.host {
                    self.peer_announced(now, name, SocketAddr::from((host, *port)));
                }
                self.found_peers.remove(name);
            }
            // With a cas the network decides first whether this is the next version.
            What::Item { item, cas: None, .. } => self.store_own(now, item.clone()),
            What::Item { .. } => {}
        }
        let id = self.next_serial();
        let store = Store::new(what, origin);
        let target = store.target();
        self.stores.insert(id, store);
        let mut known = std::mem::take(&mut self.contacts_buffer);
        self.closest_known(now, &target, &mut known);
        if known.is_empty() {
            self.look_up_and_store(now, id);
        } else {
            self.store_on(now, id, &known);
        }
        self.contacts_buffer = known;
    }

    /// Stores on these nodes and no others.
    pub(super) fn store_at(&mut self, now: Now, what: What, origin: Origin, nodes: &[Contact]) {
        let id = self.next_serial();
        self.stores.insert(id, Store { looked_up: true, ..Store::new(what, origin) });
        self.store_on(now, id, nodes);
    }

    /// A node's own put is stored here too, unless something newer is.
    pub(super) fn store_own(&mut self, now: Now, item: Item) {
        let newer_held = match &item {
            Item::Immutable(_) => false,
            Item::Mutable(item) => self.items.admits(item, &item.target(), None).is_err(),
        };
        if !newer_held {
            self.store_item(now, item, Payer::Own);
        }
    }

    /// The closest nodes, where they are known without a lookup; nobody where they are not.
    fn closest_known(&self, now: Now, target: &[u8], into: &mut Vec<Contact>) {
        into.clear();
        let mut of_one = Vec::new();
        for (family, table) in self.tables.iter() {
            let near = self.neighbourhoods.get(family).and_then(|near| near.find(target, now));
            if self.knows_all(family) {
                table.closest(target, K, &mut of_one);
                into.extend_from_slice(&of_one);
            } else if let Some(near) = near {
                into.extend_from_slice(near);
            } else if table.len() > 0 {
                return into.clear();
            }
        }
        // One that is only late is written to all the same, and not waited for: a busy host is not a dead one.
        into.retain(|node| !self.contacts.is_given_up(node.addr, now));
    }

    fn look_up_and_store(&mut self, now: Now, id: u64) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        store.looked_up = true;
        store.asks.clear();
        let want = match &store.what {
            What::Announcement { .. } => Want::Peers,
            What::Item { .. } => Want::Tokens,
        };
        let target = store.target();
        self.look_up(now, want, target, Waiter::Store(id), &[]);
    }

    /// Stores on these nodes.
    pub(super) fn store_on(&mut self, now: Now, id: u64, nodes: &[Contact]) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        let asks = nodes.iter().map(|node| Ask {
            addr: node.addr,
            state: State::Token,
            late: false,
            retried: false,
            mute: false,
        });
        store.asks = asks.collect();
        for node in nodes {
            if self.contacts.token(node.addr, now).is_some() {
                self.write(now, id, node.addr);
            } else {
                self.ask_token(now, id, node.addr);
            }
        }
        self.conclude(now, id);
    }

    fn ask_token(&mut self, now: Now, id: u64, addr: SocketAddr) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        let asking = match &store.what {
            What::Announcement { name, .. } => Asking::GetPeers(Arc::clone(name)),
            What::Item { target, .. } => Asking::Get(*target),
        };
        self.ask_for_store(now, id, addr, asking, State::Token);
    }

    fn write(&mut self, now: Now, id: u64, addr: SocketAddr) {
        let Some(store) = self.stores.get(&id) else { return };
        let Some(token) = self.contacts.token(addr, now) else {
            return self.set_done(id, addr);
        };
        let asking = match store.what.clone() {
            What::Announcement { name, port } => Asking::Announce { name, port, token },
            What::Item { target, item, cas } => Asking::Put { target, item, cas, token },
        };
        self.ask_for_store(now, id, addr, asking, State::Write);
    }

    fn ask_for_store(&mut self, now: Now, id: u64, addr: SocketAddr, asking: Asking, state: State) {
        let late = self.contacts.is_avoided(addr, now);
        let Some(ask) = self.stores.get_mut(&id).and_then(|store| store.ask(addr)) else { return };
        (ask.state, ask.late) = (state, late);
        let purpose = match state {
            State::Token => Purpose::Token(id),
            State::ReadBack => Purpose::ReadBack(id),
            State::Write | State::Done => Purpose::Write(id),
        };
        if !self.ask(now, addr, asking, purpose) {
            self.set_done(id, addr);
        }
    }

    fn set_done(&mut self, id: u64, addr: SocketAddr) {
        if let Some(ask) = self.stores.get_mut(&id).and_then(|store| store.ask(addr)) {
            ask.state = State::Done;
        }
    }

    /// A node answered the question for a token (and kept with its address is the token, if there was one).
    pub(super) fn store_has_token(&mut self, now: Now, id: u64, addr: SocketAddr) {
        self.write(now, id, addr);
        self.conclude(now, id);
    }

    pub(super) fn store_accepted(&mut self, now: Now, id: u64, addr: SocketAddr) {
        if let Some(store) = self.stores.get_mut(&id)
            && let Some(ask) = store.ask(addr)
        {
            ask.state = State::Done;
            store.accepted += 1;
        }
        self.conclude(now, id);
    }

    /// A node answered with an error, to the write or to the question for a token.
    pub(super) fn store_refused(
        &mut self,
        now: Now,
        id: u64,
        addr: SocketAddr,
        refusal: Refusal,
        write: bool,
    ) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        let Some(ask) = store.ask(addr) else { return };
        let bad_token = write && refusal.code == code::PROTOCOL;
        if bad_token && !ask.retried {
            ask.retried = true;
            self.contacts.drop_token(addr);
            self.ask_token(now, id, addr);
            // Where the queue was full the question has failed, and it may have been the last that was waited for.
            return self.conclude(now, id);
        }
        let signed_target = match &store.what {
            What::Item { target, item: Item::Mutable(_), .. } => Some(*target),
            _ => None,
        };
        store.refused(refusal.clone());
        match signed_target {
            // A stock grape refuses to renew an equal sequence: perhaps it holds just this.
            Some(target) if write && refusal.code == code::SEQ_TOO_LOW => {
                self.ask_for_store(now, id, addr, Asking::Get(target), State::ReadBack);
            }
            _ => self.set_done(id, addr),
        }
        self.conclude(now, id);
    }

    /// What a node holds that refused with 302.
    pub(super) fn store_read_back(&mut self, now: Now, id: u64, addr: SocketAddr, held: Option<MutableItem>) {
        let Some(store) = self.stores.get_mut(&id) else { return };
        let same = match (&store.what, held) {
            (What::Item { item: Item::Mutable(ours), .. }, Some(held)) => {
                (held.k, held.sig, held.seq, &held.v) == (ours.k, ours.sig, ours.seq, &ours.v)
            }
            _ => false,
        };
        if let Some(ask) = store.ask(addr) {
            ask.state = State::Done;
            if same {
                store.read_back += 1;
                store.refused_302 = store.refused_302.saturating_sub(1);
            }
        }
        self.conclude(now, id);
    }

    pub(super) fn store_late(&mut self, now: Now, id: u64, addr: SocketAddr) {
        if let Some(ask) = self.stores.get_mut(&id).and_then(|store| store.ask(addr)) {
            ask.late = true;
        }
        self.conclude(now, id);
    }

    /// A node did not answer. `mute`: it answers other things.
    pub(super) fn store_failed(&mut self, now: Now, id: u64, addr: SocketAddr, mute: bool) {
        if let Some(ask) = self.stores.get_mut(&id).and_then(|store| store.ask(addr)) {
            ask.mute = mute && ask.state == State::Write;
            ask.state = State::Done;
        }
        self.conclude(now, id);
    }

    /// Ends a store when nothing is left to wait for.
    fn conclude(&mut self, now: Now, id: u64) {
        let Some(store) = self.stores.get(&id) else { return };
        let held = store.accepted + store.read_back;
        let waiting = |ask: &Ask| ask.state != State::Done && (!ask.late || held == 0);
        if store.asks.iter().any(waiting) {
            return;
        }
        let is_final = store.refusal.as_ref().is_some_and(is_final);
        // Nobody who answers wants to know of it: others will not either, nor the same ones when they are asked again.
        let is_ignored = !store.asks.is_empty() && store.asks.iter().all(|ask| ask.mute);
        if held == 0 && !is_final && !is_ignored && !store.looked_up {
            let target = store.target();
            self.neighbourhoods.each_mut().for_each(|near| near.forget(&target));
            return self.look_up_and_store(now, id);
        }
        let Some(store) = self.stores.remove(&id) else { return };
        self.end_store(now, store);
    }

    fn end_store(&mut self, now: Now, store: Store) {
        let (asked, held) = (store.asks.len(), store.accepted + store.read_back);
        let error = match store.refusal {
            _ if held > 0 => None,
            _ if asked == 0 => Some(OpError::NoNodes),
            Some(refusal) if is_final(&refusal) => Some(OpError::Refused(refusal)),
            _ => Some(OpError::AllFailed { asked }),
        };
        if let What::Item { item, cas: Some(_), .. } = &store.what
            && error.is_none()
        {
            self.store_own(now, item.clone());
        }
        if let What::Item { item, .. } = &store.what
            && error.is_none()
            && !matches!(store.origin, Origin::Repair)
        {
            self.audit_later(now, item, asked);
        }
        match store.origin {
            Origin::Repair => {}
            Origin::Kept(key) => self.kept_stored(now, &key, error.is_none()),
            Origin::Call(op) => {
                let outcome = match store.what {
                    What::Announcement { .. } => Outcome::Announced(error.map_or(Ok(held), Err)),
                    What::Item { target, .. } => Outcome::Put(error.map_or_else(
                        || {
                            Ok(PutOutcome {
                                target,
                                asked,
                                acked: held,
                                read_back: store.read_back,
                                refused_301: store.refused_301,
                                refused_302: store.refused_302,
                            })
                        },
                        Err,
                    )),
                };
                self.done(op, outcome);
            }
        }
    }

    /// Warns of something that a person may have to look at.
    pub(super) fn warn(&mut self, text: String) {
        self.event(DhtEvent::Warning(text));
    }
}
