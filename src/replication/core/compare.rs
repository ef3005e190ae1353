//! Comparing everything with one other node.
//!
//! A maker's head says what there is while the maker lives. Of one that is gone, of one that signed two values, and of records that only
//! the DHT brought, nobody says it: there, two replicas are the same when they hold the same, and each takes what it lacks. A node does
//! so with a new neighbour, and every minute with one node at random: as often with one that has fallen silent as with a neighbour, so
//! that two networks that lost each other become one again.

use super::{
    Asked, Core, Timer,
    limits::{COMPARE_AS_OF, COMPARE_EVERY, ROOT_PAGES_MAX},
    talk::{Answer, Carried, Question},
};
use crate::{identity::ClientId, time::UnixMillis};
use rand::RngExt;
use std::collections::BTreeMap;

/// A comparison that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compare {
    with: ClientId,
    at: UnixMillis,
    after: Option<ClientId>,
    pages: usize,
}

impl Core {
    pub(super) fn start_compare(&mut self) {
        self.timers.set(self.now.plus(COMPARE_EVERY), Timer::Compare);
        self.compare = None;
        // What nobody could show may be there now, or come from somebody else.
        let behind: Vec<ClientId> = self.behind().map(|head| head.maker).collect();
        for maker in behind.into_iter().filter(|_| !cfg!(mutant = "replica_never_asks_again")) {
            self.settled(maker);
        }
        let neighbours: Vec<ClientId> = self.neighbours.ids().collect();
        let known: Vec<ClientId> = [false, true]
            .into_iter()
            .flat_map(|stale| self.makers.heads(stale))
            .map(|head| head.maker)
            .filter(|maker| !self.neighbours.contains(maker))
            .collect();
        let far = !known.is_empty()
            && !cfg!(mutant = "replica_compares_with_neighbours_only")
            && (neighbours.is_empty() || self.rng.random_bool(0.5));
        let some = if far { known } else { neighbours };
        if !some.is_empty() {
            let with = some[self.rng.random_range(0..some.len())];
            self.compare_with(with, self.wall.minus(COMPARE_AS_OF));
        }
    }

    /// Compares with the latest new neighbour, as soon as no other comparison is under way: from now on it brings the news, and of what
    /// came before nobody else may tell for a minute.
    pub(super) fn compare_with_new(&mut self) {
        if self.compare.is_none() || cfg!(mutant = "replica_skips_a_comparison") {
            let new = self.new_neighbour.take().filter(|peer| self.neighbours.contains(peer));
            if let Some(peer) = new {
                self.compare_with(peer, self.wall);
            }
        }
    }

    /// Compares what both held at that time, unless another comparison is under way.
    fn compare_with(&mut self, with: ClientId, at: UnixMillis) {
        if self.compare.is_none() && self.ask(with, Question::Overall(at), Asked::Overall).is_some() {
            self.compare = Some(Compare { with, at, after: None, pages: 0 });
        }
    }

    pub(super) fn compare_answered(&mut self, from: ClientId, answer: Option<Answer<Carried>>) {
        let Some(compare) = self.compare.take_if(|compare| compare.with == from) else { return };
        match answer {
            Some(Answer::Overall(root)) => {
                let differs = self.index.overall(compare.at).root != root;
                if !self.neighbours.contains(&from) && (differs || self.makers.is_stale(&from)) {
                    self.neighbours.want_heads(from, None);
                }
                if differs {
                    self.compare_on(compare);
                } else {
                    self.has_compared(from);
                }
            }
            Some(Answer::Roots(roots, more)) => {
                let ordered = roots.is_sorted_by(|(a, _), (b, _)| a < b)
                    && roots
                        .first()
                        .is_none_or(|(first, _)| compare.after.is_none_or(|after| after < *first));
                if !ordered {
                    return self.punish(from);
                }
                let theirs: BTreeMap<_, _> = roots.into_iter().collect();
                let last = theirs.last_key_value().map(|(maker, _)| *maker);
                for (maker, root) in theirs {
                    if !self.holds_all(&maker, compare.at, root) {
                        self.queue_hint(maker, from, compare.at, root);
                    }
                }
                if more && compare.pages >= ROOT_PAGES_MAX {
                    self.counters.over_jobs += 1;
                } else if more && last.is_some() {
                    self.compare_on(Compare { after: last, pages: compare.pages + 1, ..compare });
                } else {
                    self.has_compared(from);
                }
            }
            Some(Answer::NotTold) | None => {}
            Some(_) => self.punish(from),
        }
    }

    fn has_compared(&mut self, with: ClientId) {
        self.compared = true;
        self.compared_beside |= self.neighbours.contains(&with);
    }

    fn compare_on(&mut self, compare: Compare) {
        let question = Question::Roots(compare.at, compare.after);
        if self.ask(compare.with, question, Asked::Roots).is_some() {
            self.compare = Some(compare);
        }
    }
}
