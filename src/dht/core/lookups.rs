//! Iterative lookups. Those who want the same share one.
//!
//! An immutable value ends a lookup at once: its hash proves it. A mutable one does not, because a newer version may be one node
//! further; the whole shortlist is asked and the highest verified sequence wins. Items are looked for on two disjoint paths.

use super::{
    Contact, Core, DhtEvent, Found, GetMode, Item, NodeId, Now, OpId, Outcome, Target, Verdict, VerifyId,
    Verifying,
    audit::Audit,
    family::{ByFamily, Family},
    items::mutable_item,
    krpc::Reply,
    paths::Paths,
    peers::shuffle_cut,
    rpc::{Asking, Purpose},
    table::K,
};
use crate::bep44::MutableItem;
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

/// Names whose peers are remembered for a moment.
pub(super) const LOOKUP_CACHE_MAX: usize = 8192;
/// Peers in one answer to a caller, as grapes have it.
pub(super) const PEERS_FOUND_MAX: usize = 100;
/// Peers collected before the random choice among them.
const PEERS_COLLECTED_MAX: usize = 1000;
/// Nodes read from one reply. Stock grapes send their whole table, nearest first.
const NODES_READ_MAX: usize = 64;
/// For this long the peers found are returned again without asking: a busy name costs one lookup a second.
const FOUND_FRESH: Duration = Duration::from_secs(1);
/// ... but at most this part of a peer's life, so that short-lived ones are not seen longer than they live.
const FOUND_FRESH_PART: u32 = 8;

/// What a lookup brings home.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Want {
    /// The closest nodes.
    Nodes,
    /// The closest nodes with their write tokens.
    Tokens,
    /// Peers, and tokens.
    Peers,
    /// The item with this salt, and tokens.
    Item(Arc<[u8]>),
}

/// Lookups with equal keys are one.
pub(super) type LookupKey = (Want, Arc<[u8]>);

/// Who waits for a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiter {
    Call(OpId),
    Store(u64),
    Join,
    /// Nobody: it fills the table.
    Refresh,
}

pub(super) struct Traversal {
    want: Want,
    target: Arc<[u8]>,
    paths: ByFamily<Paths>,
    waiters: Vec<Waiter>,
    peers: BTreeSet<SocketAddr>,
    found: Option<Found>,
    /// Answers whose signatures are being checked.
    checking: Vec<(VerifyId, MutableItem)>,
    /// Signatures that turned out bad, so that a repeated forgery costs one check.
    bad: Vec<MutableItem>,
    /// Counts who holds an item, instead of looking for it.
    audit: Option<Audit>,
}

impl Traversal {
    fn new(want: Want, target: Arc<[u8]>, paths: ByFamily<Paths>, waiter: Waiter) -> Self {
        Self {
            want,
            target,
            paths,
            waiters: vec![waiter],
            peers: BTreeSet::new(),
            found: None,
            checking: Vec::new(),
            bad: Vec::new(),
            audit: None,
        }
    }

    /// One that looks at what the nearest nodes hold.
    pub(super) fn of_audit(target: Target, paths: ByFamily<Paths>, audit: Audit) -> Self {
        let want = Want::Item(Arc::default());
        Self { audit: Some(audit), ..Self::new(want, target.0[..].into(), paths, Waiter::Refresh) }
    }

    fn asking(&self) -> Asking {
        let target = Arc::clone(&self.target);
        match &self.want {
            Want::Nodes => Asking::FindNode(target),
            Want::Peers => Asking::GetPeers(target),
            Want::Tokens | Want::Item(_) => match target[..].try_into() {
                Ok(target) => Asking::Get(Target(target)),
                Err(_) => Asking::FindNode(target),
            },
        }
    }

    fn is_done(&self) -> bool {
        self.paths.each().all(Paths::is_done)
    }
}

impl Core {
    /// Starts a lookup, or joins one that is under way for the same.
    pub(super) fn look_up(
        &mut self,
        now: Now,
        want: Want,
        target: Arc<[u8]>,
        waiter: Waiter,
        through: &[SocketAddr],
    ) {
        let key = (want, target);
        if let Some(under_way) = self.shared_lookups.get(&key).and_then(|id| self.traversals.get_mut(id)) {
            return under_way.waiters.push(waiter);
        }
        let (want, target) = key.clone();
        let id = self.next_serial();
        let count = if matches!(want, Want::Item(_)) { self.item_paths } else { 1 };
        let mut paths =
            ByFamily::new(self.tables.get(Family::V6).is_some(), |_| Paths::new(Arc::clone(&target), count));
        let mut near = std::mem::take(&mut self.contacts_buffer);
        for (family, table) in self.tables.iter() {
            let Some(paths) = paths.get_mut(family) else { continue };
            let avoided = |addr| self.contacts.is_avoided(addr, now);
            table.closest(&target, K, &mut near);
            let mut hope = false;
            for &contact in &near {
                let avoided = avoided(contact.addr);
                hope |= !avoided;
                paths.seed(contact, avoided);
            }
            let known = !near.is_empty();
            if !hope {
                // Who failed lately is asked rather than nobody.
                table.closest_failed(&target, K, &mut near);
                for &contact in &near {
                    paths.seed(contact, true);
                }
            }
            // With nobody in the table the bootstrap addresses are all there is.
            let fallback = if !known && through.is_empty() { self.join.addrs() } else { through };
            let fallback = || fallback.iter().copied().filter(|addr| Family::of(addr) == family);
            let nobody = near.is_empty() && fallback().all(avoided);
            for addr in fallback() {
                if !through.is_empty() || nobody || !avoided(addr) {
                    paths.seed_unnamed(addr);
                }
            }
        }
        self.contacts_buffer = near;
        let mut traversal = Traversal::new(want, target, paths, waiter);
        traversal.found = self.own_copy(now, &traversal.want, &traversal.target);
        self.traversals.insert(id, traversal);
        self.shared_lookups.insert(key, id);
        self.advance(now, id);
    }

    /// Starts a lookup that nobody joins.
    pub(super) fn look_up_alone(&mut self, now: Now, traversal: Traversal) {
        let id = self.next_serial();
        self.traversals.insert(id, traversal);
        self.advance(now, id);
    }

    fn own_copy(&mut self, now: Now, want: &Want, target: &[u8]) -> Option<Found> {
        let target = Target(target.try_into().ok()?);
        if !matches!(want, Want::Item(_)) {
            return None;
        }
        self.items.expire(now);
        let item = self.items.get(&target)?.clone();
        Some(Found { from: self.node_id(), token: None, item })
    }

    pub(super) fn lookup(&mut self, now: Now, op: OpId, name: Arc<[u8]>) {
        let name = self.wire_name(name);
        if let Some((at, peers)) = self.found_peers.get(&name)
            && now.since(*at) < self.found_fresh()
        {
            let peers = peers.iter().copied().collect();
            return self.peers_found(now, op, &name, peers);
        }
        self.look_up(now, Want::Peers, name, Waiter::Call(op), &[]);
    }

    fn found_fresh(&self) -> Duration {
        let age_max = self.config.peer_max_age;
        if age_max.is_zero() { FOUND_FRESH } else { FOUND_FRESH.min(age_max / FOUND_FRESH_PART) }
    }

    /// Answers a caller with what others said and what was announced here.
    fn peers_found(&mut self, now: Now, op: OpId, name: &[u8], mut peers: BTreeSet<SocketAddr>) {
        self.peers.expire(now);
        let mut own = std::mem::take(&mut self.peers_buffer);
        self.peers.pick(name, None, PEERS_FOUND_MAX, &mut self.rng, &mut own);
        peers.extend(own.drain(..));
        self.peers_buffer = own;
        let mut peers: Vec<_> = peers.into_iter().collect();
        shuffle_cut(&mut peers, PEERS_FOUND_MAX, &mut self.rng);
        self.done(op, Outcome::Peers(Ok(peers)));
    }

    pub(super) fn get(&mut self, now: Now, op: OpId, target: Target, salt: Arc<[u8]>, mode: GetMode) {
        if mode == GetMode::LocalFirst {
            let want = Want::Item(Arc::clone(&salt));
            if let Some(found) = self.own_copy(now, &want, &target.0) {
                return self.done(op, Outcome::Item(Ok(Some(found))));
            }
        }
        self.look_up(now, Want::Item(salt), target.0[..].into(), Waiter::Call(op), &[]);
    }

    /// Asks whoever is next, or ends the lookup when there is nobody left to wait for.
    fn advance(&mut self, now: Now, id: u64) {
        while let Some(traversal) = self.traversals.get_mut(&id) {
            let Some(addr) = traversal.paths.each_mut().find_map(Paths::next) else {
                if traversal.is_done() && traversal.checking.is_empty() {
                    self.finish(now, id);
                }
                return;
            };
            let asking = traversal.asking();
            if !self.ask(now, addr, asking, Purpose::Traverse(id))
                && let Some(paths) = self.paths(id, addr)
            {
                paths.failed(addr);
            }
        }
    }

    /// The paths of a lookup that an address belongs to.
    fn paths(&mut self, id: u64, addr: SocketAddr) -> Option<&mut Paths> {
        self.traversals.get_mut(&id)?.paths.of_mut(&addr)
    }

    pub(super) fn traversal_answered(
        &mut self,
        now: Now,
        id: u64,
        from: SocketAddr,
        contact: Option<Contact>,
        reply: &Reply<'_>,
    ) {
        let own = self.own_at(&from);
        let fit = |node: &Contact| node.id != self.own_at(&node.addr) && self.is_fit_node(node.addr, from);
        let named: Vec<Contact> = reply.contacts().take(NODES_READ_MAX).filter(fit).collect();
        let Some(traversal) = self.traversals.get_mut(&id) else { return };
        let Some(contact) = contact.filter(|contact| contact.id != own) else {
            return self.traversal_failed(now, id, from);
        };
        let Some(paths) = traversal.paths.of_mut(&from) else { return };
        let Some(at) = paths.asker(from) else { return };
        paths.answered(contact);
        for node in named {
            if let Some(paths) = traversal.paths.of_mut(&node.addr) {
                paths.named(at, from, node, self.contacts.is_avoided(node.addr, now));
            }
        }
        match &traversal.want {
            Want::Nodes | Want::Tokens => {}
            Want::Peers => {
                let name = Arc::clone(&traversal.target);
                for addr in reply.peers().take(PEERS_COLLECTED_MAX) {
                    if traversal.peers.len() < PEERS_COLLECTED_MAX {
                        traversal.peers.insert(addr);
                    }
                    let name = Arc::clone(&name);
                    self.outputs.push_back(super::Output::Event(DhtEvent::Peer { name, addr }));
                }
            }
            Want::Item(_) if let Some(audit) = &mut traversal.audit => audit.answered(from, reply),
            Want::Item(salt) => {
                let salt = Arc::clone(salt);
                if self.value_answered(id, contact.id, reply, salt) {
                    return self.finish(now, id);
                }
            }
        }
        self.advance(now, id);
    }

    pub(super) fn traversal_failed(&mut self, now: Now, id: u64, addr: SocketAddr) {
        if let Some(paths) = self.paths(id, addr) {
            paths.failed(addr);
            self.advance(now, id);
        }
    }

    pub(super) fn traversal_late(&mut self, now: Now, id: u64, addr: SocketAddr) {
        if let Some(paths) = self.paths(id, addr) {
            paths.late(addr);
            self.advance(now, id);
        }
    }

    /// Looks at the value of an answer. True when it ends the lookup.
    fn value_answered(&mut self, id: u64, from: NodeId, reply: &Reply<'_>, salt: Arc<[u8]>) -> bool {
        let Some(traversal) = self.traversals.get(&id) else { return false };
        let Ok(target) = traversal.target[..].try_into().map(Target) else { return false };
        // Of any size: stock grapes hold larger ones than may be put here.
        let Some(v) = reply.v else { return false };
        let token = reply.token.map(Arc::from);
        let Some((k, sig, seq)) = reply.signed else {
            if Target::of_value(v) != target {
                return false;
            }
            self.take_found(id, Found { from, token, item: Item::Immutable(v.into()) });
            return true;
        };
        let item = mutable_item(k, sig, seq, salt, v);
        let known =
            traversal.checking.iter().any(|(_, other)| *other == item) || traversal.bad.contains(&item);
        if known || item.target() != target || !self.is_newer(id, seq) {
            return false;
        }
        if self.items.holds(&item, &target) {
            if let Some(held) = self.items.mutable(&target).cloned() {
                self.take_found(id, Found { from, token, item: Item::Mutable(held) });
            }
            return false;
        }
        if let Some(check) = self.verify(item.clone(), Verifying::Get { traversal: id, from, token })
            && let Some(traversal) = self.traversals.get_mut(&id)
        {
            traversal.checking.push((check, item));
        }
        false
    }

    /// Whether a sequence is above what was found so far. The own copy gives way to an equal one from the network.
    fn is_newer(&self, id: u64, seq: i64) -> bool {
        let Some(found) = self.traversals.get(&id).and_then(|t| t.found.as_ref()) else { return true };
        match &found.item {
            Item::Immutable(_) => false,
            Item::Mutable(held) => seq > held.seq || (seq == held.seq && found.from == self.node_id()),
        }
    }

    fn take_found(&mut self, id: u64, found: Found) {
        if let Some(traversal) = self.traversals.get_mut(&id) {
            traversal.found = Some(found);
        }
    }

    /// A signature that was read in a lookup was checked.
    pub(super) fn value_verified(
        &mut self,
        now: Now,
        id: u64,
        check: VerifyId,
        from: NodeId,
        token: Option<Arc<[u8]>>,
        verdict: Verdict,
    ) {
        let Some(traversal) = self.traversals.get_mut(&id) else { return };
        if let Some(at) = traversal.checking.iter().position(|(other, _)| *other == check) {
            let (_, item) = traversal.checking.swap_remove(at);
            if matches!(verdict, Verdict::Bad) {
                traversal.bad.push(item);
            }
        }
        if let Verdict::Good(item) = verdict
            && self.is_newer(id, item.seq)
        {
            self.take_found(id, Found { from, token, item: Item::Mutable(item) });
        }
        self.advance(now, id);
    }

    fn finish(&mut self, now: Now, id: u64) {
        let Some(traversal) = self.traversals.remove(&id) else { return };
        let is_done = traversal.is_done();
        let Traversal { want, target, paths, waiters, peers, found, audit, .. } = traversal;
        let mut nearest = Vec::new();
        for (family, paths) in paths.iter() {
            let near = paths.nearest();
            nearest.extend_from_slice(&near);
            // A lookup that a value ended early has not met the closest nodes yet, nor have two paths that each met K/2.
            let met_them = is_done && (paths.is_one() || near.len() < K);
            if let Some(known) = self.neighbourhoods.get_mut(family).filter(|_| met_them) {
                known.insert(&target, near, now);
            }
        }
        if !peers.is_empty() {
            self.found_peers.insert(Arc::clone(&target), (now, peers.iter().copied().collect()));
        }
        if let Some(audit) = audit {
            return self.audited(now, audit, &nearest);
        }
        self.shared_lookups.remove(&(want.clone(), Arc::clone(&target)));
        for waiter in waiters {
            match waiter {
                Waiter::Call(op) if want == Want::Peers => self.peers_found(now, op, &target, peers.clone()),
                Waiter::Call(op) => self.done(op, Outcome::Item(Ok(found.clone()))),
                Waiter::Store(store) => self.store_on(now, store, &nearest),
                Waiter::Join => self.join_ended(now, &nearest),
                Waiter::Refresh => {}
            }
        }
    }
}
