//! A model of the DHT: what is put or announced reaches the nodes closest to it, if it arrives; who hears of it looks for it there. Nothing
//! is renewed but by a restart, so that it hides nothing from replication. `ring.rs` is the real one.

use super::{
    plan::Plan,
    world::{What, World},
};
use rand::{RngExt, rngs::StdRng};
use std::{cmp::Ordering, sync::Arc, time::Duration};
use vintner::{bep44::Target, market::Offer};

/// What a lookup takes, at least.
const LOOKUP: Duration = Duration::from_millis(50);
/// Nodes that a lookup of the network's name finds.
const FOUND_MAX: usize = 8;

pub(crate) struct Mailbox {
    ids: Vec<[u8; 20]>,
    closest: usize,
}

impl Mailbox {
    pub(crate) fn new(plan: &Plan, rng: &mut StdRng) -> Self {
        Self { ids: (0..plan.nodes).map(|_| rng.random()).collect(), closest: plan.closest }
    }

    /// The nodes closest to a target, by the distance of Kademlia.
    fn closest(&self, target: &Target) -> Vec<usize> {
        let distance = |n: usize| -> [u8; 20] { std::array::from_fn(|i| self.ids[n][i] ^ target.0[i]) };
        let mut all: Vec<usize> = (0..self.ids.len()).collect();
        all.sort_by_key(|n| distance(*n));
        all.truncate(self.closest);
        all
    }
}

impl World {
    /// Puts an own record and announces it.
    pub(crate) fn put(&mut self, n: usize, offer: &Arc<Offer>) {
        if self.ring.is_some() {
            return self.put_ring(n, offer);
        }
        for to in self.mailbox.closest(&offer.target()) {
            if to != n {
                self.carry(n, to, &What::Stored(Arc::clone(offer)));
                self.carry(n, to, &What::Hint(offer.target()));
            }
        }
        self.after(2 * LOOKUP, n, What::Published(Arc::clone(offer)));
    }

    /// A node that stores things for others hears of what is put on it, if that is news.
    pub(crate) fn stored(&mut self, n: usize, offer: Arc<Offer>) {
        let held = self.peers[n].mailbox.get(&offer.target()).map(|held| held.sequence);
        if held.is_none_or(|held| held < offer.sequence) {
            self.peers[n].mailbox.insert(offer.target(), Arc::clone(&offer));
            self.found(n, offer);
        }
    }

    pub(crate) fn found(&mut self, n: usize, offer: Arc<Offer>) {
        self.after(Duration::from_micros(300), n, What::Found(offer));
    }

    /// Looks for a record on the nodes closest to it.
    pub(crate) fn look_up(&mut self, n: usize, target: Target) {
        if self.ring.is_some() {
            return self.get_ring(n, target);
        }
        let now = self.ms();
        let there = self.mailbox.closest(&target).into_iter();
        let there = there
            .filter(|m| self.is_up(*m) && self.links.is_open(n, *m, now) && self.links.is_open(*m, n, now));
        let newest = there
            .filter_map(|m| self.peers[m].mailbox.get(&target))
            .max_by(|a, b| a.sequence.cmp(&b.sequence).then(Ordering::Greater));
        if let Some(offer) = newest.cloned() {
            let held = self.nodes[n].core.as_ref().and_then(|core| core.state().market.records.get(&target));
            if held.is_none_or(|held| held.item().v != offer.item().v) {
                self.after(LOOKUP, n, What::Found(offer));
            }
        }
    }

    /// Looks for nodes of this network.
    pub(crate) fn seek(&mut self, n: usize) {
        if self.ring.is_some() {
            return self.seek_ring(n);
        }
        let now = self.ms();
        let mut found = Vec::new();
        for _ in 0..FOUND_MAX {
            let m = self.rng.random_range(0..self.nodes.len());
            if m != n && self.is_up(m) && self.links.is_open(n, m, now) && self.links.is_open(m, n, now) {
                found.push(m);
            }
        }
        self.after(LOOKUP, n, What::Met(found));
    }
}
