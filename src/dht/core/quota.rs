//! Who has to make room when a store is full: the source that holds the most, so that one source cannot wash out the rest.
//!
//! What it loses is what it holds farthest from this node's id, among equals the least recently used. Who puts more than its
//! fair share therefore only pushes out its own. A store that one source alone filled (a test network on one machine) is a
//! plain "least recently used". Everything is charged to whom [`Payer`] says; own items are the last to go while they are less
//! than half.

use super::source::Payer;
use std::collections::{BTreeMap, BTreeSet};

/// How dear an entry is to this node: the lowest goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rank {
    /// Bits that its target shares with the own id; 0 where distance does not count.
    pub(super) shared_bits: u8,
    /// Grows with each use.
    pub(super) used: u64,
}

/// What each source holds.
pub(super) struct Quota<T> {
    held: BTreeMap<Payer, BTreeSet<(Rank, T)>>,
    by_size: BTreeSet<(usize, Payer)>,
}

impl<T: Ord + Copy> Quota<T> {
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), by_size: BTreeSet::new() }
    }

    /// How many entries are charged to a source.
    pub(super) fn size(&self, payer: Payer) -> usize {
        self.held.get(&payer).map_or(0, BTreeSet::len)
    }

    pub(super) fn add(&mut self, payer: Payer, rank: Rank, entry: T) {
        let held = self.held.entry(payer).or_default();
        let before = held.len();
        held.insert((rank, entry));
        self.by_size.remove(&(before, payer));
        self.by_size.insert((held.len(), payer));
    }

    pub(super) fn remove(&mut self, payer: Payer, rank: Rank, entry: T) {
        let Some(held) = self.held.get_mut(&payer) else { return };
        let before = held.len();
        held.remove(&(rank, entry));
        let after = held.len();
        self.by_size.remove(&(before, payer));
        if after == 0 {
            self.held.remove(&payer);
        } else {
            self.by_size.insert((after, payer));
        }
    }

    /// An entry was used.
    pub(super) fn touch(&mut self, payer: Payer, before: Rank, after: Rank, entry: T) {
        if let Some(held) = self.held.get_mut(&payer)
            && held.remove(&(before, entry))
        {
            held.insert((after, entry));
        }
    }

    /// What has to go, so that `payer` can store one more among `max`.
    pub(super) fn victim(&self, payer: Payer, max: usize) -> Option<T> {
        let largest = |&&(size, payer): &&(usize, Payer)| payer != Payer::Own || size > max / 2;
        let &(size, mut loser) = self.by_size.iter().rev().find(largest).or(self.by_size.last())?;
        // Of sources that hold the same, the one that wants more gives way.
        if self.size(payer) >= size && (payer != Payer::Own || self.size(payer) > max / 2) {
            loser = payer;
        }
        self.held.get(&loser)?.first().map(|(_, entry)| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::core::source::Prefix;
    use proptest::prelude::*;

    const A: Payer = Payer::Prefix(Prefix(1));
    const B: Payer = Payer::Prefix(Prefix(2));

    fn rank(shared_bits: u8, used: u64) -> Rank {
        Rank { shared_bits, used }
    }

    #[test]
    fn the_largest_holder_loses_its_farthest_and_then_its_oldest() {
        let mut quota = Quota::new();
        for (n, payer) in [A, A, A, B].into_iter().enumerate() {
            quota.add(payer, rank(u8::from(n == 0), n as u64), n);
        }
        assert_eq!(quota.victim(B, 9), Some(1), "0 is older, but nearer");
        quota.touch(A, rank(0, 1), rank(0, 9), 1);
        assert_eq!(quota.victim(B, 9), Some(2));
        quota.remove(A, rank(0, 2), 2);
        quota.remove(A, rank(0, 9), 1);
        assert_eq!(quota.victim(B, 9), Some(3), "both hold one: who wants more gives way");
        assert_eq!(quota.victim(A, 9), Some(0));
    }

    #[test]
    fn own_entries_go_last_while_they_are_less_than_half() {
        let mut quota = Quota::new();
        for n in 0..5u64 {
            quota.add(Payer::Own, rank(0, n), n);
        }
        assert_eq!(quota.victim(A, 10), Some(0), "there is nobody else");
        quota.add(A, rank(0, 5), 5);
        assert_eq!(quota.victim(B, 10), Some(5));
        quota.add(Payer::Own, rank(0, 6), 6);
        assert_eq!(quota.victim(B, 10), Some(0));
    }

    proptest! {
        #[test]
        fn sizes_stay_true_and_nobody_loses_below_its_fair_share(steps in prop::collection::vec((0u64..6, 0u8..3), 1..400)) {
            let (mut quota, mut held, max) = (Quota::new(), Vec::new(), 30);
            for (n, (payer, shared)) in steps.into_iter().enumerate() {
                let (payer, rank) = (Payer::Prefix(Prefix(payer)), rank(shared, n as u64));
                if held.len() >= max {
                    let out = quota.victim(payer, max).unwrap();
                    let at = held.iter().position(|(_, _, entry)| *entry == out).unwrap();
                    let (loser, rank, entry) = held.swap_remove(at);
                    let sources: BTreeSet<Payer> = held.iter().map(|(p, _, _)| *p).chain([loser]).collect();
                    prop_assert!(quota.size(loser) * sources.len() >= max || loser == payer);
                    quota.remove(loser, rank, entry);
                }
                quota.add(payer, rank, n);
                held.push((payer, rank, n));
                for (payer, ..) in &held {
                    prop_assert_eq!(quota.size(*payer), held.iter().filter(|(p, ..)| p == payer).count());
                }
            }
        }
    }
}
