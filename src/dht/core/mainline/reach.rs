//! Whether strangers reach this node (BEP43).
//!
//! Behind a firewall or an address translation a node hears only those whom it asked. It should not stand in other nodes' tables,
//! and says so by `ro` in its queries. A query from an address that it never sent anything to proves the contrary. As nobody asks a
//! node that is read-only, it shows itself again for a while now and then.

use crate::dht::core::Now;
use std::time::Duration;

/// How long a node that started shows itself, waiting for the first stranger.
const FIRST_LOOK: Duration = Duration::from_mins(15);
/// How long it shows itself when it tries again.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// How long it stays read-only between two tries.
const HIDE: Duration = Duration::from_hours(1);
/// How long the last stranger proves something.
const PROOF_AGE_MAX: Duration = Duration::from_mins(30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It shows itself and waits for a stranger.
    Looking {
        until: Now,
    },
    Reached {
        last: Now,
    },
    ReadOnly {
        until: Now,
    },
}

#[derive(Debug)]
pub(in crate::dht::core) struct Reach {
    state: State,
}

impl Reach {
    pub(in crate::dht::core) fn new(now: Now) -> Self {
        Self { state: State::Looking { until: now.plus(FIRST_LOOK) } }
    }

    /// Whether queries say that this node is read-only.
    pub(in crate::dht::core) fn is_read_only(&self) -> bool {
        matches!(self.state, State::ReadOnly { .. })
    }

    /// Whether a stranger's query would be news: whoever calls need not find out who is a stranger all the time.
    pub(in crate::dht::core) fn wants_proof(&self, now: Now) -> bool {
        match self.state {
            State::Reached { last } => now.since(last) >= PROOF_AGE_MAX / 2,
            State::Looking { .. } | State::ReadOnly { .. } => true,
        }
    }

    /// Somebody asked whom this node never sent anything.
    pub(in crate::dht::core) fn stranger_asked(&mut self, now: Now) {
        self.state = State::Reached { last: now };
    }

    /// When something changes by itself.
    pub(in crate::dht::core) fn next(&self) -> Now {
        match self.state {
            State::Looking { until } | State::ReadOnly { until } => until,
            State::Reached { last } => last.plus(PROOF_AGE_MAX),
        }
    }

    pub(in crate::dht::core) fn pass(&mut self, now: Now) {
        if now < self.next() {
            return;
        }
        self.state = match self.state {
            State::Looking { .. } => State::ReadOnly { until: now.plus(HIDE) },
            State::Reached { .. } | State::ReadOnly { .. } => State::Looking { until: now.plus(LOOK_AGAIN) },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Now {
        Now::from_start(Duration::from_mins(minutes))
    }

    #[test]
    fn a_node_that_no_stranger_reaches_becomes_read_only_and_tries_again() {
        let mut reach = Reach::new(at(0));
        reach.pass(at(14));
        assert!(!reach.is_read_only());
        reach.pass(at(15));
        assert!(reach.is_read_only());
        reach.pass(at(74));
        assert!(reach.is_read_only());
        reach.pass(at(75));
        assert!(!reach.is_read_only());
        reach.pass(at(80));
        assert!(reach.is_read_only());
    }

    #[test]
    fn a_stranger_proves_it_for_half_an_hour() {
        let mut reach = Reach::new(at(0));
        reach.pass(at(15));
        reach.stranger_asked(at(16));
        assert!(!reach.is_read_only() && !reach.wants_proof(at(17)) && reach.wants_proof(at(31)));
        reach.pass(at(46));
        assert!(!reach.is_read_only(), "it looks for a newer proof first");
        reach.pass(at(51));
        assert!(reach.is_read_only());
    }
}
