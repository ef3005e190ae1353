//! Closest nodes of targets that were looked up lately.
//!
//! A neighbourhood is good for every target that lies within it: if two targets agree in more leading bits than the nearest node
//! shares with either, all its nodes are in the same order for both. Names such as `NEW_OFFER:<hash>` share so many bits that
//! one lookup serves them all.

use super::{
    Now,
    id::{Contact, NodeId, nearer},
    table::K,
};
use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

/// How long it is trusted: nodes come and go, and a store that fails looks again anyway.
const AGE_MAX: Duration = Duration::from_mins(3);
/// Neighbourhoods kept, about 1 KB each.
const NEIGHBOURHOODS_MAX: usize = 1024;

struct Neighbourhood {
    nodes: Vec<Contact>,
    /// The most bits that a node shares with the target.
    shared_bits: usize,
    until: Now,
}

#[derive(Default)]
pub(super) struct Neighbourhoods {
    by_target: BTreeMap<NodeId, Neighbourhood>,
}

impl Neighbourhoods {
    /// Remembers who is closest. Nobody is nothing to remember.
    pub(super) fn insert(&mut self, target: &[u8], nodes: Vec<Contact>, now: Now) {
        let target = NodeId::of_target(target);
        let Some(shared_bits) = nodes.iter().map(|node| node.id.shared_bits(&target)).max() else { return };
        if self.by_target.len() >= NEIGHBOURHOODS_MAX {
            self.by_target.retain(|_, old| now < old.until);
        }
        if self.by_target.len() >= NEIGHBOURHOODS_MAX {
            self.by_target.pop_first();
        }
        self.by_target.insert(target, Neighbourhood { nodes, shared_bits, until: now.plus(AGE_MAX) });
    }

    /// Who is closest to a target, when that is known.
    pub(super) fn find(&self, target: &[u8], now: Now) -> Option<&[Contact]> {
        let target = NodeId::of_target(target);
        // Of all known targets, one of the two beside it in order shares the most bits with it.
        let below = self.by_target.range(..=target).next_back();
        let above = self.by_target.range(target..).next();
        let good = |(at, known): &(&NodeId, &Neighbourhood)| {
            now < known.until && at.shared_bits(&target) > known.shared_bits
        };
        below.filter(good).or(above.filter(good)).map(|(_, known)| &known.nodes[..])
    }

    /// Forgets every neighbourhood that a node which was just met belongs to: those that are not full, and those of which it is
    /// nearer to the target than the farthest. In a network that is forming, a node would otherwise go on writing to the few that
    /// it met first.
    pub(super) fn grew(&mut self, newcomer: &Contact) {
        self.by_target.retain(|target, known| {
            let is_outside = |node: &Contact| nearer(&target.0, &node.id, &newcomer.id) == Ordering::Less;
            known.nodes.len() >= K && known.nodes.iter().all(is_outside)
        });
    }

    /// Forgets what turned out wrong.
    pub(super) fn forget(&mut self, target: &[u8]) {
        let target = NodeId::of_target(target);
        self.by_target.retain(|at, known| at.shared_bits(&target) <= known.shared_bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn contact(first: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = first;
        Contact { id: NodeId(id), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) }
    }

    #[test]
    fn one_lookup_serves_all_names_with_the_same_beginning() {
        let mut known = Neighbourhoods::default();
        let nodes = vec![contact(b'N'), contact(b'M')];
        known.insert(b"NEW_OFFER:aaaaaaaaaaaaaaaa", nodes.clone(), Now::ZERO);
        assert_eq!(known.find(b"NEW_OFFER:bbbbbbbbbbbb", Now::ZERO), Some(&nodes[..]));
        assert_eq!(known.find(b"MEW_OFFER:bbbbbbbbbbbb", Now::ZERO), None);
        assert_eq!(known.find(b"NEW_OFFER:bbbbbbbbbbbb", Now::ZERO.plus(AGE_MAX)), None);
        known.forget(b"NEW_OFFER:cccccccc");
        assert_eq!(known.find(b"NEW_OFFER:bbbbbbbbbbbb", Now::ZERO), None);
    }

    #[test]
    fn a_newcomer_ends_the_neighbourhoods_that_it_belongs_to() {
        let mut known = Neighbourhoods::default();
        known.insert(b"a", vec![contact(b'b')], Now::ZERO);
        known.grew(&contact(0));
        assert_eq!(known.find(b"a", Now::ZERO), None, "fewer than K: the newcomer is among the closest");

        known.insert(b"a", vec![contact(b'b'); K], Now::ZERO);
        known.grew(&contact(0));
        assert!(known.find(b"a", Now::ZERO).is_some(), "it is farther than all of them");
        known.grew(&contact(b'a'));
        assert_eq!(known.find(b"a", Now::ZERO), None);
    }

    #[test]
    fn nobody_is_not_remembered_and_the_number_is_bounded() {
        let mut known = Neighbourhoods::default();
        known.insert(b"a", Vec::new(), Now::ZERO);
        assert_eq!(known.find(b"a", Now::ZERO), None);
        for n in 0..3000u16 {
            known.insert(&n.to_be_bytes(), vec![contact(1)], Now::ZERO);
        }
        assert_eq!(known.by_target.len(), NEIGHBOURHOODS_MAX);
    }
}
