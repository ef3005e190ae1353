//! What is due, earliest first. Bounded by what the timers are about.

use super::talk::News;
use crate::{identity::ClientId, time::Now};
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// Sign a head.
    Beat,
    /// Look after the neighbours.
    Upkeep,
    /// Compare everything with somebody.
    Compare,
    /// Forget the dead.
    Bury,
    /// Tell the lazy neighbours what there is.
    Have,
    /// Ask for what others have and nobody sent.
    Want(News),
    /// See whether a maker has been silent for too long.
    Stale(ClientId),
    /// See whether gossip has brought what a maker's head names.
    Settled(ClientId),
    /// See whether a comparison makes progress.
    JobLate(ClientId),
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Now, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Now, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: Now, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<Now> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Now) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
