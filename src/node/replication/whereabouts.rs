//! Where this node is, by the word of those whom it has asked: one that listens on every address of a container knows none that
//! others can use.

use crate::identity::ClientId;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

/// Nodes whose word is remembered.
const VOTERS_MAX: usize = 64;

/// What others say. Most of them have it; a single liar is believed only while nobody else has said anything.
#[derive(Debug)]
pub(super) struct Whereabouts {
    rpc_port: u16,
    /// The owner has said it: nobody else is asked.
    is_known: bool,
    votes: HashMap<ClientId, IpAddr>,
    believed: Option<IpAddr>,
}

impl Whereabouts {
    pub(super) fn new(rpc_port: u16, is_known: bool) -> Self {
        Self { rpc_port, is_known, votes: HashMap::new(), believed: None }
    }

    /// `voter` says that it was asked from `ip`. Gives the node's addresses when they are others than before.
    pub(super) fn seen(&mut self, voter: ClientId, ip: IpAddr) -> Option<Vec<SocketAddr>> {
        if self.is_known || (self.votes.len() >= VOTERS_MAX && !self.votes.contains_key(&voter)) {
            return None;
        }
        self.votes.insert(voter, ip);
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for ip in self.votes.values() {
            *counts.entry(*ip).or_default() += 1;
        }
        let of = |ip: &IpAddr| counts.get(ip).copied().unwrap_or_default();
        let most = counts.keys().copied().max_by_key(of)?;
        // Who has as many as the one that is believed changes nothing.
        if self.believed.is_some_and(|believed| of(&believed) >= of(&most)) {
            return None;
        }
        self.believed = Some(most);
        Some(vec![SocketAddr::new(most, self.rpc_port)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;

    #[test]
    fn what_most_say_is_believed_and_nobody_changes_it_alone() {
        let mut whereabouts = Whereabouts::new(1337, false);
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        let voter = |n| PublicKey([n; 32]);
        assert_eq!(whereabouts.seen(voter(1), ip(9)), Some(vec!["10.0.0.9:1337".parse().unwrap()]));
        for _ in 0..3 {
            assert_eq!(whereabouts.seen(voter(2), ip(1)), None, "one against one");
        }
        assert_eq!(whereabouts.seen(voter(3), ip(1)), Some(vec!["10.0.0.1:1337".parse().unwrap()]));
        assert_eq!(whereabouts.seen(voter(1), ip(1)), None, "known");
        assert_eq!(Whereabouts::new(1337, true).seen(voter(1), ip(9)), None, "its owner has said it");
    }
}
