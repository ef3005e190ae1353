//! Heads of makers that wait to be stored.
//!
//! They are hints: at the next start they say where others are and what is lacking, and the network tells them again within a
//! minute. So they are stored only after a batch in which nothing had to be durable, and one that cannot be stored is let go.

use super::Journal;
use crate::{identity::ClientId, replication::core::SignedHead};
use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

/// How long a head waits for others: each maker signs one a minute, and a transaction of many costs each of them less.
const KEEP_AFTER: Duration = Duration::from_secs(1);
/// Heads in one transaction: less than the 2 ms of as many offers, which whoever comes meanwhile has to wait.
const KEPT_AT_ONCE: usize = 256;
/// Heads that may wait: more than arrive in the two seconds in which 100,000 makers sign 3,300. Beyond it they are dropped.
const WAITING_MAX: usize = 8_192;

/// The newest head of each maker that is not stored yet.
#[derive(Default)]
pub(super) struct WaitingHeads {
    by_maker: HashMap<ClientId, SignedHead>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// Whether the last try failed: a disk that is full is told of once.
    failing: bool,
}

impl WaitingHeads {
    pub(super) fn add(&mut self, heads: Vec<SignedHead>) {
        for head in heads {
            if self.by_maker.len() < WAITING_MAX || self.by_maker.contains_key(&head.maker) {
                self.by_maker.insert(head.maker, head);
            }
        }
        if !self.by_maker.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// When there is something to do, if there is.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| KEEP_AFTER.saturating_sub(since.elapsed()))
    }

    /// Stores some, if they have waited for long enough.
    pub(super) fn keep_due(&mut self, journal: &mut impl Journal) {
        if self.due_in() != Some(Duration::ZERO) {
            return;
        }
        let makers: Vec<ClientId> = self.by_maker.keys().take(KEPT_AT_ONCE).copied().collect();
        let heads: Vec<SignedHead> = makers.iter().filter_map(|maker| self.by_maker.remove(maker)).collect();
        if self.by_maker.is_empty() {
            self.since = None;
        }
        self.keep(&heads, journal);
    }

    /// Stores all: the node stops.
    pub(super) fn keep_all(&mut self, journal: &mut impl Journal) {
        let heads: Vec<SignedHead> = mem::take(&mut self.by_maker).into_values().collect();
        self.since = None;
        self.keep(&heads, journal);
    }

    fn keep(&mut self, heads: &[SignedHead], journal: &mut impl Journal) {
        if heads.is_empty() {
            return;
        }
        let result = journal.keep_heads(heads);
        match &result {
            Err(error) if !self.failing => {
                tracing::warn!(%error, "heads of makers are not stored; the next start asks the network for them");
            }
            Err(_) | Ok(()) => {}
        }
        self.failing = result.is_err();
    }
}
