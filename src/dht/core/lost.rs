//! Nodes that fell out of the table. Most are gone for good; but when a network was parted, they are the other part, and nobody
//! else tells of them where all bootstrap nodes are on one side. So they are asked again now and then, a few a minute, and the
//! first to answer is a bridge.

use std::{collections::VecDeque, net::SocketAddr};

/// Addresses remembered.
const LOST_MAX: usize = 64;
/// How many are asked at each count of the neighbours, which is once a minute.
const ASKED_AT_ONCE: usize = 2;
/// How often one is asked before it is forgotten: for ten minutes when it is the only one, for hours when there are many.
const TRIES_MAX: u8 = 10;

/// Who was lost, whose turn it is first, and how often each was asked.
#[derive(Default)]
pub(super) struct Lost(VecDeque<(SocketAddr, u8)>);

impl Lost {
    pub(super) fn insert(&mut self, addr: SocketAddr) {
        if self.0.iter().any(|(other, _)| *other == addr) {
            return;
        }
        if self.0.len() >= LOST_MAX {
            self.0.pop_front();
        }
        self.0.push_back((addr, 0));
    }

    /// It answered. True when it was lost.
    pub(super) fn remove(&mut self, addr: &SocketAddr) -> bool {
        let at = self.0.iter().position(|(other, _)| other == addr);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Whom to ask now.
    pub(super) fn next(&mut self) -> Vec<SocketAddr> {
        let mut asked = Vec::new();
        for _ in 0..ASKED_AT_ONCE.min(self.0.len()) {
            let Some((addr, tries)) = self.0.pop_front() else { break };
            asked.push(addr);
            if tries + 1 < TRIES_MAX {
                self.0.push_back((addr, tries + 1));
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn addr(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn each_is_asked_in_turn_and_forgotten_after_some_attempts() {
        let mut lost = Lost::default();
        (1..=3).for_each(|port| lost.insert(addr(port)));
        lost.insert(addr(2));
        assert_eq!(lost.next(), [addr(1), addr(2)]);
        assert_eq!(lost.next(), [addr(3), addr(1)]);
        assert!(lost.remove(&addr(3)) && !lost.remove(&addr(3)));
        let asked: usize = std::iter::repeat_with(|| lost.next().len()).take(100).sum();
        assert_eq!(asked + 3, 2 * usize::from(TRIES_MAX));
    }

    #[test]
    fn their_number_is_bounded_and_the_newest_stay() {
        let mut lost = Lost::default();
        (1..=100).for_each(|port| lost.insert(addr(port)));
        assert_eq!(lost.0.len(), LOST_MAX);
        assert!(!lost.remove(&addr(36)) && lost.remove(&addr(37)) && lost.remove(&addr(100)));
    }
}
