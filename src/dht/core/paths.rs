//! The paths of one lookup: shortlists that share no node, so that who owns one does not own the lookup.
//!
//! A node that lies about who is nearest draws the shortlist that it is on towards its friends, and a full shortlist of friends
//! ends the lookup. A second path, which starts from other nodes and never asks one that the first asks or was told of, is out of
//! their reach (S/Kademlia, section 4.2). K is split between the two: together they ask as many nodes as one would, in a network of
//! less than K exactly the same, so that nobody pays for it but a lookup in a large network that ends a little less near.

use super::{
    id::{Contact, nearer},
    shortlist::{ALPHA, Shortlist},
    table::K,
};
use std::{net::SocketAddr, sync::Arc};

/// Paths of a lookup that has to withstand lies.
pub(super) const DISJOINT: usize = 2;

/// One path, or [`DISJOINT`] ones.
pub(super) struct Paths {
    target: Arc<[u8]>,
    lists: Vec<Shortlist>,
    /// Who was asked, and by which path.
    asked: Vec<(SocketAddr, usize)>,
    /// Seeds that were dealt out.
    dealt: usize,
    /// Whose nodes are dealt out too, because there was no seed for every path: the first to answer.
    dealer: Option<SocketAddr>,
    /// Which path asks next.
    turn: usize,
}

impl Paths {
    pub(super) fn new(target: Arc<[u8]>, count: usize) -> Self {
        let list = |_| Shortlist::new(Arc::clone(&target), K / count, ALPHA / count);
        let lists = (0..count).map(list).collect();
        Self { lists, target, asked: Vec::new(), dealt: 0, dealer: None, turn: 0 }
    }

    fn deal(&mut self) -> usize {
        self.dealt += 1;
        (self.dealt - 1) % self.lists.len()
    }

    /// Whether the nodes that answered stand for the nearest that there are: on one path they do.
    pub(super) fn is_one(&self) -> bool {
        self.lists.len() == 1
    }

    /// Adds a node to begin with: each path gets its share.
    pub(super) fn seed(&mut self, contact: Contact, avoid: bool) {
        let at = self.deal();
        self.lists[at].add(contact, avoid);
    }

    /// Adds an address to begin with whose id is not known.
    pub(super) fn seed_unnamed(&mut self, addr: SocketAddr) {
        let at = self.deal();
        self.lists[at].add_unnamed(addr);
    }

    /// The path that asked a node.
    pub(super) fn asker(&self, addr: SocketAddr) -> Option<usize> {
        self.asked.iter().find(|(asked, _)| *asked == addr).map(|(_, path)| *path)
    }

    /// Adds a node that `by` named, to the path that asked it (perhaps over the other family).
    pub(super) fn named(&mut self, mut at: usize, by: SocketAddr, contact: Contact, avoid: bool) {
        if self.dealer.is_none() && self.lists.iter().any(Shortlist::is_empty) {
            self.dealer = Some(by);
        }
        if self.dealer == Some(by) {
            at = self.deal();
        }
        let elsewhere = |(other, list): (usize, &Shortlist)| other != at && list.holds(&contact);
        if !self.lists.iter().enumerate().any(elsewhere) {
            self.lists[at].add(contact, avoid);
        }
    }

    /// Whom to ask now, if anybody; it counts as asked from here on.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        let nobody = !self.lists.iter().any(Shortlist::has_hope);
        for _ in 0..self.lists.len() {
            let at = self.turn % self.lists.len();
            self.turn += 1;
            while let Some(addr) = self.lists[at].next(nobody) {
                if self.asker(addr).is_none() {
                    self.asked.push((addr, at));
                    return Some(addr);
                }
                self.lists[at].failed(addr);
            }
        }
        None
    }

    /// It answered, under this id.
    pub(super) fn answered(&mut self, contact: Contact) {
        if let Some(at) = self.asker(contact.addr) {
            self.lists[at].answered(contact);
        }
    }

    /// Its answer is late.
    pub(super) fn late(&mut self, addr: SocketAddr) {
        if let Some(at) = self.asker(addr) {
            self.lists[at].late(addr);
        }
    }

    /// It will not answer, or not usefully.
    pub(super) fn failed(&mut self, addr: SocketAddr) {
        if let Some(at) = self.asker(addr) {
            self.lists[at].failed(addr);
        }
    }

    /// Whether every path has ended. Call after [`Self::next`] gave nobody.
    pub(super) fn is_done(&self) -> bool {
        let answered = self.lists.iter().any(Shortlist::has_answer);
        self.lists.iter().all(|list| list.is_done(answered))
    }

    /// The nearest that answered, at most K.
    pub(super) fn nearest(&self) -> Vec<Contact> {
        let mut all: Vec<Contact> = self.lists.iter().flat_map(Shortlist::nearest).collect();
        all.sort_by(|a, b| nearer(&self.target, &a.id, &b.id));
        all.truncate(K);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::core::id::NodeId;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::{collections::BTreeSet, net::Ipv4Addr};

    fn contact(n: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = n;
        Contact { id: NodeId(id), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(n))) }
    }

    fn paths(seeds: impl Iterator<Item = u8>) -> Paths {
        let mut paths = Paths::new([0; 20][..].into(), DISJOINT);
        seeds.for_each(|n| paths.seed(contact(n), false));
        paths
    }

    #[test]
    fn a_small_network_is_asked_once_each_and_a_large_one_as_often_as_on_one_path() {
        for (size, asked) in [(1, 1), (2, 2), (7, 7), (19, 19), (60, K)] {
            let mut paths = paths(1..=size);
            let mut all = Vec::new();
            while let Some(addr) = paths.next() {
                all.push(addr);
                paths.answered(contact((addr.port() - 1000) as u8));
            }
            assert!(paths.is_done());
            assert_eq!((all.len(), paths.nearest().len()), (asked, asked), "{size}");
        }
    }

    #[test]
    fn liars_on_one_path_leave_the_other_alone() {
        let mut paths = paths([100, 101].into_iter());
        let (liar, honest) = (paths.next().unwrap(), paths.next().unwrap());
        for n in 1..=K as u8 {
            paths.named(0, liar, contact(n), false);
        }
        for n in 0..60 {
            paths.named(1, honest, contact(if n < 30 { n + 1 } else { 100 + n }), false);
        }
        paths.answered(contact(100));
        paths.answered(contact(101));
        let asked: Vec<u16> = std::iter::from_fn(|| {
            let addr = paths.next()?;
            paths.answered(contact((addr.port() - 1000) as u8));
            Some(addr.port() - 1000)
        })
        .collect();
        assert_eq!(asked.iter().filter(|n| **n <= K as u16).count(), K / 2);
        assert!(asked.iter().filter(|n| **n > K as u16).count() >= K / 2 - 1, "{asked:?}");
    }

    #[test]
    fn a_single_seed_deals_out_whom_it_names() {
        let mut paths = paths([9].into_iter());
        let first = paths.next().unwrap();
        (1..=8).for_each(|n| paths.named(0, first, contact(n), false));
        paths.answered(contact(9));
        assert!(paths.lists.iter().all(|list| !list.is_empty()));
        assert_eq!(std::iter::from_fn(|| paths.next()).count(), 8);
    }

    #[test]
    fn a_late_node_on_a_path_of_its_own_is_not_waited_for_once_the_other_has_an_answer() {
        let mut paths = paths([1, 2].into_iter());
        let (dead, alive) = (paths.next().unwrap(), paths.next().unwrap());
        paths.late(dead);
        assert!(!paths.is_done());
        paths.answered(contact((alive.port() - 1000) as u8));
        assert!(paths.is_done());
    }

    /// A network of which the last fifth are friends: to every question they answer with each other, under ids beside the target.
    struct Liars {
        ids: Vec<NodeId>,
        knows: Vec<Vec<usize>>,
        target: NodeId,
    }

    impl Liars {
        const SIZE: usize = 250;
        const HONEST: usize = 200;

        /// Everybody knows some nodes at random, and those next to it.
        fn new(rng: &mut StdRng) -> Self {
            let ids: Vec<NodeId> = (0..Self::SIZE).map(|_| NodeId(rng.random())).collect();
            let knows = (0..Self::SIZE).map(|of| {
                let mut near: Vec<usize> = (0..Self::SIZE).filter(|at| *at != of).collect();
                near.sort_by(|a, b| nearer(&ids[of].0, &ids[*a], &ids[*b]));
                near.truncate(8);
                near.extend((0..8).map(|_| rng.random_range(0..Self::SIZE)));
                near
            });
            Self { knows: knows.collect(), ids, target: NodeId(rng.random()) }
        }

        fn addr(at: usize) -> SocketAddr {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + at as u16))
        }

        fn answer(&self, at: usize) -> Vec<Contact> {
            if at < Self::HONEST {
                let real = |at: &usize| Contact { id: self.ids[*at], addr: Self::addr(*at) };
                return self.knows[at].iter().map(real).collect();
            }
            (Self::HONEST..Self::SIZE).map(|at| self.alias(at)).collect()
        }

        fn alias(&self, at: usize) -> Contact {
            let mut id = self.target;
            id.0[19] ^= at as u8;
            Contact { id, addr: Self::addr(at) }
        }

        /// Whether a lookup from six nodes meets one of the three honest nodes nearest to the target.
        fn is_found(&self, count: usize, rng: &mut StdRng) -> bool {
            let mut near: Vec<usize> = (0..Self::HONEST).collect();
            near.sort_by(|a, b| nearer(&self.target.0, &self.ids[*a], &self.ids[*b]));
            let (holders, far) = near.split_at(3);
            let mut paths = Paths::new(self.target.0[..].into(), count);
            for _ in 0..6 {
                let at = far[rng.random_range(100..far.len())];
                paths.seed(Contact { id: self.ids[at], addr: Self::addr(at) }, false);
            }
            while let Some(addr) = paths.next() {
                let at = usize::from(addr.port() - 1000);
                if holders.contains(&at) {
                    return true;
                }
                let path = paths.asker(addr).unwrap();
                for contact in self.answer(at) {
                    paths.named(path, addr, contact, false);
                }
                let id = if at < Self::HONEST { self.ids[at] } else { self.alias(at).id };
                paths.answered(Contact { id, addr });
            }
            false
        }
    }

    #[test]
    fn two_paths_find_what_one_path_misses_among_a_fifth_of_liars() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut found = [0; 2];
        let mut network = Liars::new(&mut rng);
        for _ in 0..100 {
            network.target = NodeId(rng.random());
            for count in [1, DISJOINT] {
                found[count - 1] += usize::from(network.is_found(count, &mut rng));
            }
        }
        let [one, two] = found;
        println!("of 100: one path found {one}, two paths {two}");
        assert!(two > one + 20 && two > 75, "of 100: one path found {one}, two paths {two}");
    }

    proptest! {
        #[test]
        fn no_node_is_asked_twice_and_every_lookup_ends(
            seeds in prop::collection::vec(any::<u8>(), 0..30),
            names in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>()), 0..20), 1..40),
            fates in prop::collection::vec(0u8..4, 1..40),
        ) {
            let mut paths = paths(seeds.into_iter());
            let mut asked = BTreeSet::new();
            for round in 0.. {
                let Some(addr) = paths.next() else { break };
                prop_assert!(asked.insert(addr), "{addr} was asked twice");
                let n = (addr.port() - 1000) as u8;
                match fates[round % fates.len()] {
                    0 => paths.failed(addr),
                    1 => { paths.late(addr); paths.failed(addr); }
                    _ => {
                        // Some name others under ids that are not theirs.
                        for &(id, at) in &names[round % names.len()] {
                            paths.named(paths.asker(addr).unwrap(), addr, Contact { addr: contact(at).addr, ..contact(id) }, false);
                        }
                        paths.answered(contact(n));
                    }
                }
            }
            prop_assert!(paths.is_done());
        }
    }
}
