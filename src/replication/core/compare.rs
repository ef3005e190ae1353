//! Comparing everything with one other node.
//!
//! A maker's head says what there is while the maker lives. Of one that is gone, of one that signed two values, and of records that only
//! the DHT brought, nobody says it: there, two replicas are the same when they hold the same. The one that asks takes what it lacks, and
//! names what the other lacks: what only one node holds spreads when it asks somebody, not only when somebody asks it. A node does so
//! with a new neighbour, and every minute with one node at random: as often with one that has fallen silent as with a neighbour, so
//! that two networks that lost each other become one again.

use super::{
    Asked, Core, Timer,
    limits::{ADDRESS_WITHIN, COMPARE_AS_OF, COMPARE_EVERY, ROOT_PAGES_MAX, ROOTS_AN_ANSWER_MAX},
    neighbours::NewNeighbour,
    talk::{Answer, Carried, Question},
};
use crate::{
    identity::ClientId,
    time::{Now, UnixMillis},
};
use rand::RngExt;
use std::collections::BTreeMap;

/// A comparison that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compare {
    with: ClientId,
    at: UnixMillis,
    /// Neighbours since then need no comparison of their own once this one is at its end: news came from them all the while.
    covers: Now,
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
            self.compare_with(with, self.wall.minus(COMPARE_AS_OF), self.now.minus(COMPARE_AS_OF));
        }
    }

    /// Asks neighbours that are new and whose address is known: each for the heads that it knows, and the latest for what it holds, as
    /// soon as no other comparison is under way. From now on it brings the news, and of what came before nobody else may tell for a
    /// minute.
    pub(super) fn ask_new_neighbours(&mut self) {
        let mut new = self.neighbours.not_yet_asked();
        new.retain(|new| self.addresses_of(&new.peer).is_some());
        if cfg!(mutant = "replica_asks_guests_once_only") {
            new.retain(|new| new.since == self.now);
        }
        for NewNeighbour { peer, .. } in new.iter().filter(|new| !new.asked_for_heads) {
            self.neighbours.want_heads(*peer, None);
            self.neighbours.asked_for_heads(peer);
        }
        let latest = new.iter().filter(|new| !new.compared).max_by_key(|new| new.since);
        if let Some(NewNeighbour { peer, .. }) = latest {
            self.compare_with(*peer, self.wall, self.now);
            if cfg!(mutant = "replica_skips_a_comparison") {
                self.neighbours.was_compared(peer, self.now);
            }
        }
    }

    /// Whether the neighbours all are nodes that can call and cannot be called: then what they bring, and the heads, are all there is.
    pub(super) fn can_ask_no_neighbour(&self) -> bool {
        let is_mute = |new: &NewNeighbour| {
            self.now.since(new.since) >= ADDRESS_WITHIN && self.addresses_of(&new.peer).is_none()
        };
        let new = self.neighbours.not_yet_asked();
        new.len() == self.neighbours.ids().count() && new.iter().all(is_mute)
    }

    /// Compares what both held at that time, unless another comparison is under way.
    fn compare_with(&mut self, with: ClientId, at: UnixMillis, covers: Now) {
        if self.compare.is_none() && self.ask(with, Question::Overall(at), Asked::Overall).is_some() {
            self.compare = Some(Compare { with, at, covers, after: None, pages: 0 });
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
                    self.has_compared(compare);
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
                let (ours, _) = self.index.roots(compare.after, compare.at, ROOTS_AN_ANSWER_MAX);
                let ours =
                    ours.into_iter().map(|(maker, _)| maker).filter(|maker| !theirs.contains_key(maker));
                let unlisted: Vec<ClientId> = ours.filter(|maker| !more || Some(*maker) <= last).collect();
                self.name_unlisted(unlisted.into_iter(), compare.at);
                for (maker, root) in theirs {
                    if !self.holds_all(&maker, compare.at, root) {
                        self.queue_hint(maker, from, compare.at, root);
                    }
                }
                if more && compare.pages >= ROOT_PAGES_MAX {
                    self.counters.over_jobs += 1;
                    self.neighbours.was_compared(&from, compare.covers);
                } else if more && last.is_some() {
                    self.compare_on(Compare { after: last, pages: compare.pages + 1, ..compare });
                } else {
                    self.has_compared(compare);
                }
            }
            // Others are asked; this one may be, in a minute.
            Some(Answer::NotTold) | None => self.neighbours.was_compared(&from, compare.covers),
            Some(_) => self.punish(from),
        }
    }

    fn has_compared(&mut self, Compare { with, covers, .. }: Compare) {
        self.compared = true;
        if self.neighbours.contains(&with) {
            self.compared_beside = true;
            self.neighbours.were_compared(covers);
        }
    }

    fn compare_on(&mut self, compare: Compare) {
        let question = Question::Roots(compare.at, compare.after);
        if self.ask(compare.with, question, Asked::Roots).is_some() {
            self.compare = Some(compare);
        }
    }
}
