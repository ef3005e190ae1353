//! What this node's address is outside, by the votes of those who answer it (the `ip` of BEP42).
//!
//! One vote for each network of voters, the latest; an address counts when most of a fair number name it. So no single liar, and no
//! single network of liars, moves a node.

use crate::dht::core::source::Prefix;
use std::{collections::VecDeque, net::IpAddr};

/// Votes that are kept: the latest of so many networks.
const VOTES_MAX: usize = 32;
/// Votes for one address before it is believed.
const VOTES_MIN: usize = 5;

#[derive(Debug, Default)]
pub(in crate::dht::core) struct Votes {
    /// Oldest first.
    votes: VecDeque<(Prefix, IpAddr)>,
    elected: Option<IpAddr>,
}

impl Votes {
    /// The address that is believed in.
    pub(in crate::dht::core) fn elected(&self) -> Option<IpAddr> {
        self.elected
    }

    /// Takes a vote. Returns the address when it is a new one that is believed in from now on.
    pub(in crate::dht::core) fn vote(&mut self, voter: IpAddr, address: IpAddr) -> Option<IpAddr> {
        let network = Prefix::of(voter);
        self.votes.retain(|(other, _)| *other != network);
        if self.votes.len() >= VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((network, address));
        if self.elected == Some(address) {
            return None;
        }
        let same = self.votes.iter().filter(|(_, other)| *other == address).count();
        if same < VOTES_MIN || same * 2 <= self.votes.len() {
            return None;
        }
        self.elected = Some(address);
        self.elected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(network: u8, host: u8) -> IpAddr {
        IpAddr::from([80, 1, network, host])
    }
    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(5, 6, 7, 8));
    const LIE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(9, 9, 9, 9));

    #[test]
    fn most_networks_decide_and_one_network_has_one_vote() {
        let mut votes = Votes::default();
        for host in 0..200 {
            assert_eq!(votes.vote(voter(0, host), LIE), None);
        }
        for network in 1..VOTES_MIN as u8 {
            assert_eq!(votes.vote(voter(network, 1), OURS), None);
        }
        assert_eq!(votes.vote(voter(9, 1), OURS), Some(OURS));
        assert_eq!(votes.vote(voter(10, 1), OURS), None, "nothing new");
        assert_eq!(votes.elected(), Some(OURS));
    }

    #[test]
    fn a_node_that_moved_learns_it_when_most_say_so() {
        let mut votes = Votes::default();
        (0..20).for_each(|network| _ = votes.vote(voter(network, 1), OURS));
        let moved: Vec<_> = (0..20).filter(|network| votes.vote(voter(*network, 1), LIE).is_some()).collect();
        assert_eq!((moved, votes.elected()), (vec![10], Some(LIE)));
    }

    #[test]
    fn the_number_of_votes_is_bounded() {
        let mut votes = Votes::default();
        (0..=255).for_each(|network| _ = votes.vote(voter(network, 1), OURS));
        assert_eq!(votes.votes.len(), VOTES_MAX);
    }
}
