//! Read-back: whether what was put can be found, and repair where it cannot.
//!
//! A put is acknowledged by the nodes that its own path met. Whether those are the ones that everybody else meets shows only from
//! elsewhere: some time after a put, the item is looked for from random nodes, far from its target. All that answer are counted;
//! if fewer than half of the K nearest hold this version, it is put on those of them that do not. Nobody waits for it, few run at a
//! time, and in a network smaller than K, where a put goes to everybody, there is nothing to find out.

use super::{
    Contact, Core, Item, Now, Target,
    family::{ByFamily, Family},
    krpc::Reply,
    lookups::Traversal,
    paths::Paths,
    peers::shuffle_cut,
    stores::{Origin, What},
    table::K,
};
use std::{collections::VecDeque, net::SocketAddr, time::Duration};

/// How long after its put an item is looked for: the writes that were late have arrived.
const AUDIT_AFTER: Duration = Duration::from_secs(10);
/// The time between two audits. Each costs about as many queries as a get: 40 a second at most.
const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// Audits under way.
const UNDER_WAY_MAX: usize = 2;
/// Items that wait. Beyond that a put is not audited; the next renewal may be.
const WAITING_MAX: usize = 64;
/// Nodes to start from.
const STARTS: usize = 4;
/// Of the K nearest, so many have to hold the newest version.
const HOLDERS_MIN: usize = K / 2;

/// Items that were put and not looked for yet.
#[derive(Default)]
pub(super) struct Audits {
    waiting: VecDeque<(Now, Item)>,
    under_way: usize,
    next_at: Now,
}

impl Audits {
    pub(super) fn next(&self) -> Option<Now> {
        let (due, _) = self.waiting.front().filter(|_| self.under_way < UNDER_WAY_MAX)?;
        Some(self.next_at.max(*due))
    }
}

/// What one audit has seen.
pub(super) struct Audit {
    item: Item,
    holders: Vec<SocketAddr>,
    /// Somebody has a newer version: then this one needs no help.
    newer: bool,
}

impl Audit {
    /// Counts an answer. A newer version need not be verified: to believe a forged one costs this audit only.
    pub(super) fn answered(&mut self, from: SocketAddr, reply: &Reply<'_>) {
        let Some(v) = reply.v else { return };
        let holds = match (&self.item, reply.signed) {
            (Item::Immutable(ours), _) => v == &**ours,
            (Item::Mutable(ours), Some((k, sig, seq))) => {
                self.newer |= k == ours.k.0 && seq > ours.seq;
                (k, sig, seq, v) == (ours.k.0, ours.sig.0, ours.seq, &*ours.v)
            }
            (Item::Mutable(_), None) => false,
        };
        if holds {
            self.holders.push(from);
        }
    }
}

impl Core {
    /// An item was put on `asked` nodes.
    pub(super) fn audit_later(&mut self, now: Now, item: &Item, asked: usize) {
        if asked >= K && self.audits.waiting.len() < WAITING_MAX {
            self.audits.waiting.push_back((now.plus(AUDIT_AFTER), item.clone()));
        }
    }

    /// Starts what is due.
    pub(super) fn audit(&mut self, now: Now) {
        while self.audits.next().is_some_and(|at| at <= now) {
            let Some((_, item)) = self.audits.waiting.pop_front() else { return };
            if self.is_outdated(&item) {
                continue;
            }
            self.audits.next_at = now.plus(AUDIT_EVERY);
            self.audits.under_way += 1;
            let target = item.target();
            let audit = Audit { item, holders: Vec::new(), newer: false };
            let mut paths =
                ByFamily::new(self.tables.get(Family::V6).is_some(), |_| Paths::new(target.0[..].into(), 1));
            for (family, table) in self.tables.iter() {
                let mut starts = Vec::new();
                table.closest(&target.0, usize::MAX, &mut starts);
                // The nearest are where the put went.
                let mut far = starts.split_off(starts.len().min(K));
                shuffle_cut(&mut far, STARTS, &mut self.rng);
                let Some(paths) = paths.get_mut(family) else { continue };
                for contact in far {
                    paths.seed(contact, self.contacts.is_avoided(contact.addr, now));
                }
            }
            self.look_up_alone(now, Traversal::of_audit(target, paths, audit));
        }
    }

    /// Whether a newer version is known here.
    fn is_outdated(&self, item: &Item) -> bool {
        match item {
            Item::Immutable(_) => false,
            Item::Mutable(item) => self.items.mutable(&item.target()).is_some_and(|held| held.seq > item.seq),
        }
    }

    /// An audit ended; these nodes answered it, at most K of each family.
    pub(super) fn audited(&mut self, now: Now, audit: Audit, nearest: &[Contact]) {
        self.audits.under_way -= 1;
        self.counters.audits += 1;
        let Audit { item, holders, newer } = audit;
        if newer || self.is_outdated(&item) {
            return;
        }
        let mut lacking: Vec<Contact> = Vec::new();
        for family in [Family::V4, Family::V6] {
            let near = nearest.iter().filter(|node| Family::of(&node.addr) == family);
            let (hold, lack): (Vec<&Contact>, Vec<&Contact>) =
                near.partition(|node| holders.contains(&node.addr));
            if hold.len() + lack.len() >= K && hold.len() < HOLDERS_MIN {
                lacking.extend(lack);
            }
        }
        if lacking.is_empty() {
            return;
        }
        self.counters.repairs += 1;
        let target: Target = item.target();
        self.store_at(now, What::Item { target, item, cas: None }, Origin::Repair, &lacking);
    }
}
