//! The routing table: one bucket for each number of bits that a node's id shares with ours, K nodes in each.
//!
//! A node enters when it has *answered* (a query from it is only a reason to ping it), and only nodes that answered when last
//! asked are handed out. A full bucket keeps newcomers aside; the first to fail a second time makes room for one. Of two nodes at
//! one address the one that answers now is real: a node that was restarted with a new id replaces its former self.

use super::{
    Now,
    diversity::Diversity,
    id::{Contact, ID_BYTES, NodeId, nearer},
    mainline::secure_id,
    source::Ranges,
};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

/// Kademlia's K, as grapes have it.
pub const K: usize = 20;
/// Newcomers that wait for room in a bucket.
const WAITING_MAX: usize = 8;
/// Failures in a row after which a node is removed.
const FAILURES_MAX: u8 = 2;

/// A node in the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    contact: Contact,
    /// When it last answered or asked.
    seen: Now,
    /// Queries in a row that it left unanswered.
    failures: u8,
}

#[derive(Default)]
struct Bucket {
    /// Oldest first.
    live: Vec<Entry>,
    waiting: VecDeque<Contact>,
}

/// What a table did with a node that answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inserted {
    /// It is new in the table.
    New,
    /// It was there, or is kept aside.
    Known,
    /// Its id is in use at another address, which must be asked whether it is still alive.
    Contested(SocketAddr),
    /// There are enough nodes of its network.
    Refused,
}

pub(super) struct Table {
    own: NodeId,
    buckets: Vec<Bucket>,
    by_addr: HashMap<SocketAddr, NodeId>,
    diversity: Diversity,
    /// Buckets from here on have never had anybody in them, as most have not.
    used: usize,
    len: usize,
    good: usize,
}

impl Table {
    pub(super) fn new(own: NodeId, ranges: Ranges) -> Self {
        let buckets = (0..=ID_BYTES * 8).map(|_| Bucket::default()).collect();
        let diversity = Diversity::new(ranges);
        Self { own, buckets, by_addr: HashMap::new(), diversity, used: 0, len: 0, good: 0 }
    }

    /// All nodes, answering or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nodes that answered when last asked.
    pub(super) fn good(&self) -> usize {
        self.good
    }

    fn bucket(&mut self, id: &NodeId) -> &mut Bucket {
        let at = self.own.shared_bits(id);
        &mut self.buckets[at]
    }

    /// Notes that a node sent a query. True when it deserves a ping because it could enter the table.
    pub(super) fn heard(&mut self, contact: Contact, now: Now) -> bool {
        if contact.id == self.own {
            return false;
        }
        let known_here = self.by_addr.get(&contact.addr).copied();
        let bucket = self.bucket(&contact.id);
        match bucket.live.iter_mut().find(|entry| entry.contact.id == contact.id) {
            Some(entry) if entry.contact.addr == contact.addr => {
                entry.seen = now;
                entry.failures > 0
            }
            Some(_) => true,
            None => {
                let room = bucket.live.len() < K || bucket.live.iter().any(|e| e.failures > 0);
                known_here.is_some() || (room && self.admits(&contact))
            }
        }
    }

    /// Whether its network has room left here.
    fn admits(&self, contact: &Contact) -> bool {
        let bucket = &self.buckets[self.own.shared_bits(&contact.id)];
        let ips = bucket.live.iter().map(|entry| entry.contact.addr.ip());
        self.diversity.admits(contact.addr.ip(), ips)
    }

    /// Enters a node that has just answered.
    pub(super) fn answered(&mut self, contact: Contact, now: Now) -> Inserted {
        if contact.id == self.own {
            return Inserted::Known;
        }
        if let Some(former) = self.by_addr.get(&contact.addr).copied()
            && former != contact.id
        {
            self.remove(&former);
        }
        let bucket = self.bucket(&contact.id);
        if let Some(entry) = bucket.live.iter_mut().find(|entry| entry.contact.id == contact.id) {
            if entry.contact.addr != contact.addr {
                let elsewhere = entry.contact.addr;
                keep_aside(bucket, contact);
                return Inserted::Contested(elsewhere);
            }
            entry.seen = now;
            if std::mem::take(&mut entry.failures) > 0 {
                self.good += 1;
            }
            return Inserted::Known;
        }
        if !self.admits(&contact) {
            return Inserted::Refused;
        }
        let bucket = self.bucket(&contact.id);
        if bucket.live.len() >= K {
            let failed = |entry: &&Entry| entry.failures > 0;
            // On the public network a node whose id belongs to its address is the better neighbour (BEP42).
            let belongs = |contact: &Contact| secure_id::belongs(&contact.id, contact.addr.ip());
            let worse = |entry: &&Entry| !belongs(&entry.contact) && belongs(&contact);
            let live = &bucket.live;
            let Some(failed) =
                live.iter().find(failed).or_else(|| live.iter().find(worse)).map(|e| e.contact.id)
            else {
                keep_aside(bucket, contact);
                return Inserted::Known;
            };
            self.remove(&failed);
        }
        self.used = self.used.max(self.own.shared_bits(&contact.id) + 1);
        self.bucket(&contact.id).live.push(Entry { contact, seen: now, failures: 0 });
        self.by_addr.insert(contact.addr, contact.id);
        self.diversity.add(contact.addr.ip());
        self.len += 1;
        self.good += 1;
        Inserted::New
    }

    /// Whoever is at this address answered, without an id.
    pub(super) fn spoke(&mut self, addr: SocketAddr, now: Now) {
        let Some(id) = self.by_addr.get(&addr).copied() else { return };
        let Some(entry) = self.bucket(&id).live.iter_mut().find(|entry| entry.contact.id == id) else {
            return;
        };
        entry.seen = now;
        if std::mem::take(&mut entry.failures) > 0 {
            self.good += 1;
        }
    }

    /// Goes on with the same nodes under another id.
    pub(super) fn rebase(&mut self, own: NodeId, now: Now) {
        let old = std::mem::replace(self, Self::new(own, self.diversity.ranges()));
        let entries = old.buckets.into_iter().flat_map(|bucket| bucket.live);
        for entry in entries.filter(|entry| entry.failures == 0) {
            self.answered(entry.contact, now);
        }
    }

    /// Notes that a query to this address was not answered. Returns a newcomer to ping when that made room for one.
    pub(super) fn failed(&mut self, addr: SocketAddr) -> Option<Contact> {
        let id = self.by_addr.get(&addr).copied()?;
        let entry = self.bucket(&id).live.iter_mut().find(|entry| entry.contact.id == id)?;
        entry.failures += 1;
        let failures = entry.failures;
        if failures == 1 {
            self.good -= 1;
        }
        if failures < FAILURES_MAX {
            return None;
        }
        self.remove(&id);
        self.bucket(&id).waiting.pop_back()
    }

    fn remove(&mut self, id: &NodeId) {
        let bucket = self.bucket(id);
        let Some(at) = bucket.live.iter().position(|entry| entry.contact.id == *id) else { return };
        let entry = bucket.live.remove(at);
        self.by_addr.remove(&entry.contact.addr);
        self.diversity.remove(entry.contact.addr.ip());
        self.len -= 1;
        self.good -= usize::from(entry.failures == 0);
    }

    /// The nodes to hand out for a target, at most `max`, nearest first, into a buffer that is cleared first.
    ///
    /// Buckets come in groups, each farther from the target than the one before: first the bucket of nodes that share as many
    /// bits with us as the target does, then all nodes nearer to us than that, then bucket by bucket outwards.
    pub(super) fn closest(&self, target: &[u8], max: usize, into: &mut Vec<Contact>) {
        into.clear();
        let shared = self.own.shared_bits(&NodeId::of_target(target));
        let group = |buckets: &[Bucket], into: &mut Vec<Contact>| {
            let from = into.len();
            let good = buckets.iter().flat_map(|b| &b.live).filter(|entry| entry.failures == 0);
            into.extend(good.map(|entry| entry.contact));
            into[from..].sort_by(|a, b| nearer(target, &a.id, &b.id));
        };
        group(&self.buckets[shared..=shared], into);
        if into.len() < max {
            group(&self.buckets[(shared + 1).min(self.used)..self.used], into);
        }
        for at in (0..shared.min(self.used)).rev() {
            if into.len() >= max {
                break;
            }
            group(&self.buckets[at..=at], into);
        }
        // Ids that agree in all the bytes of a short target tie across groups too; the order of the groups stands for them.
        into.truncate(max);
    }

    /// Those who did not answer when last asked, nearest first, at most `max`, into a buffer that is cleared first.
    pub(super) fn closest_failed(&self, target: &[u8], max: usize, into: &mut Vec<Contact>) {
        into.clear();
        if self.good < self.len {
            let live = self.buckets[..self.used].iter().flat_map(|bucket| &bucket.live);
            into.extend(live.filter(|entry| entry.failures > 0).map(|entry| entry.contact));
            into.sort_by(|a, b| nearer(target, &a.id, &b.id));
            into.truncate(max);
        }
    }

    /// The K nearest to ourselves, those too that left one query unanswered: it may have been lost.
    pub(super) fn neighbours(&self) -> Vec<NodeId> {
        let mut near: Vec<NodeId> = Vec::new();
        for bucket in self.buckets.iter().rev() {
            let from = near.len();
            near.extend(bucket.live.iter().map(|entry| entry.contact.id));
            near[from..].sort_by(|a, b| nearer(&self.own.0, a, b));
            if near.len() >= K {
                break;
            }
        }
        near.truncate(K);
        near
    }

    /// Who has been silent for longer than `liveness`, or did not answer when last asked.
    pub(super) fn to_ping(&self, now: Now, liveness: Duration) -> Vec<Contact> {
        let entries = self.buckets.iter().flat_map(|bucket| &bucket.live);
        let due = entries.filter(|entry| entry.failures > 0 || now.since(entry.seen) >= liveness);
        due.map(|entry| entry.contact).collect()
    }

    /// The first bucket that holds nobody although a nearer one does, or the farthest but not full: where to look for more.
    pub(super) fn thin_bucket(&self, skip: usize) -> Option<usize> {
        let deepest = self.buckets.iter().rposition(|bucket| !bucket.live.is_empty())?;
        (0..=deepest).filter(|&at| self.buckets[at].live.len() < K).nth(skip)
    }
}

fn keep_aside(bucket: &mut Bucket, contact: Contact) {
    bucket.waiting.retain(|other| other.id != contact.id && other.addr != contact.addr);
    if bucket.waiting.len() >= WAITING_MAX {
        bucket.waiting.pop_front();
    }
    bucket.waiting.push_back(contact);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::net::Ipv4Addr;

    fn table(own: NodeId) -> Table {
        Table::new(own, Ranges { limit_private: false })
    }

    fn contact(rng: &mut StdRng, port: u16) -> Contact {
        Contact { id: NodeId(rng.random()), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    fn closest(table: &Table, target: &[u8], max: usize) -> Vec<Contact> {
        let mut found = Vec::new();
        table.closest(target, max, &mut found);
        found
    }

    #[test]
    fn the_closest_are_the_true_closest_for_targets_of_any_length() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut table = table(NodeId(rng.random()));
        let mut all = Vec::new();
        for port in 1..200 {
            let new = contact(&mut rng, port);
            if table.answered(new, Now::ZERO) == Inserted::New {
                all.push(new);
            }
        }
        for len in [0usize, 1, 8, 20, 40] {
            for _ in 0..50 {
                let target: Vec<u8> = (0..len).map(|_| rng.random()).collect();
                all.sort_by(|a, b| nearer(&target, &a.id, &b.id));
                let found = closest(&table, &target, K);
                assert_eq!(found.len(), K);
                for (found, best) in found.iter().zip(&all) {
                    assert!(nearer(&target, &found.id, &best.id).is_eq(), "{len}");
                }
            }
        }
    }

    #[test]
    fn a_node_that_fails_is_not_handed_out_and_then_makes_room() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut table = table(NodeId([0; 20]));
        let far = |rng: &mut StdRng, port| {
            let mut new = contact(rng, port);
            new.id.0[0] |= 128;
            new
        };
        let first = far(&mut rng, 1);
        table.answered(first, Now::ZERO);
        for port in 2..=20 {
            table.answered(far(&mut rng, port), Now::ZERO);
        }
        let newcomer = far(&mut rng, 21);
        assert_eq!(table.answered(newcomer, Now::ZERO), Inserted::Known);
        assert_eq!(table.len(), 20);
        assert_eq!(table.failed(first.addr), None);
        assert!(!closest(&table, b"", 30).contains(&first));
        assert_eq!((table.len(), table.good()), (20, 19));
        assert_eq!(table.failed(first.addr), Some(newcomer));
        assert_eq!(table.answered(newcomer, Now::ZERO), Inserted::New);
        assert_eq!((table.len(), table.good()), (20, 20));
    }

    #[test]
    fn a_new_id_at_an_old_address_replaces_it_and_an_old_id_elsewhere_is_contested() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut table = table(NodeId([0; 20]));
        let old = contact(&mut rng, 1);
        table.answered(old, Now::ZERO);
        let restarted = contact(&mut rng, 1);
        assert!(table.heard(restarted, Now::ZERO));
        assert_eq!(table.answered(restarted, Now::ZERO), Inserted::New);
        assert_eq!(closest(&table, b"", 9), [restarted]);
        let moved = Contact { addr: contact(&mut rng, 2).addr, ..restarted };
        assert_eq!(table.answered(moved, Now::ZERO), Inserted::Contested(restarted.addr));
        table.failed(restarted.addr);
        assert_eq!(table.failed(restarted.addr), Some(moved));
    }

    #[test]
    fn the_own_id_never_enters() {
        let mut table = table(NodeId([7; 20]));
        let own = Contact { id: NodeId([7; 20]), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) };
        assert!(!table.heard(own, Now::ZERO));
        assert_eq!(table.answered(own, Now::ZERO), Inserted::Known);
        assert_eq!(table.len(), 0);
    }

    fn public(rng: &mut StdRng, ip: [u8; 4], port: u16) -> Contact {
        Contact { id: NodeId(rng.random()), addr: SocketAddr::from((Ipv4Addr::from(ip), port)) }
    }

    #[test]
    fn a_public_address_is_one_node_until_that_node_is_gone() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut table = table(NodeId([0; 20]));
        let first = public(&mut rng, [8, 8, 8, 8], 1);
        assert_eq!(table.answered(first, Now::ZERO), Inserted::New);
        for port in 2..100 {
            let other = public(&mut rng, [8, 8, 8, 8], port);
            assert!(!table.heard(other, Now::ZERO));
            assert_eq!(table.answered(other, Now::ZERO), Inserted::Refused);
        }
        let restarted = public(&mut rng, [8, 8, 8, 8], 1);
        assert_eq!(table.answered(restarted, Now::ZERO), Inserted::New);
        assert_eq!(table.len(), 1);
        table.failed(restarted.addr);
        table.failed(restarted.addr);
        assert_eq!(table.answered(public(&mut rng, [8, 8, 8, 8], 9), Now::ZERO), Inserted::New);
    }

    #[test]
    fn a_public_prefix_fills_neither_a_bucket_nor_the_table() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut table = table(NodeId([0; 20]));
        let entered = |table: &mut Table, rng: &mut StdRng, far: bool, net: u8| {
            let mut entered = 0;
            for host in 0..200 {
                let mut node = public(rng, [8, 8, net, host], 1);
                node.id.0[0] = if far { 255 } else { 1 << (host % 8) };
                entered += usize::from(table.answered(node, Now::ZERO) == Inserted::New);
            }
            entered
        };
        assert_eq!(entered(&mut table, &mut rng, true, 1), 2);
        assert_eq!(entered(&mut table, &mut rng, false, 2), 8);
        assert_eq!(table.len(), 10);
    }

    #[test]
    fn whoever_is_handed_out_has_answered_last_time() {
        let mut rng = StdRng::seed_from_u64(6);
        let mut table = table(NodeId([0; 20]));
        for port in 1..100 {
            table.heard(contact(&mut rng, port), Now::ZERO);
        }
        assert_eq!(closest(&table, b"", 100), [], "who only asks is not handed out");
        let mut good = 0;
        for port in 1..100 {
            let node = contact(&mut rng, port);
            let new = table.answered(node, Now::ZERO) == Inserted::New;
            if port % 2 == 0 {
                table.failed(node.addr);
            } else {
                good += usize::from(new);
            }
        }
        let handed_out = closest(&table, b"", 200);
        assert!(handed_out.iter().all(|node| node.addr.port() % 2 == 1));
        assert_eq!((handed_out.len(), table.good()), (good, good));
    }
}
