//! What waits to be looked at, each record once.

use crate::bep44::{Target, VerifiedItem};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// Records that wait to be looked at. An announcement beyond it is dropped: it comes again within a minute.
pub(super) const QUEUE_MAX: usize = 16_384;
/// How often the network is asked at most about a record that is held already and whose own copy is no news.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Records of which that is remembered.
const RECENT_MAX: usize = 100_000;
/// Records put here that wait to be judged, about 1 KB each. One beyond it is looked at when it is announced.
const BROUGHT_MAX: usize = 8192;

/// Whether only the network may answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// An announcement: the own store's copy will do when it is news.
    Hint,
    /// Somebody has reason to think that what we hold is old.
    Network,
}

/// What happened to records less than [`ASK_AGAIN_AFTER`] ago.
#[derive(Default)]
struct Recent(HashMap<Target, Instant>);

impl Recent {
    fn note(&mut self, target: Target, now: Instant) {
        if self.0.len() >= RECENT_MAX {
            self.0.retain(|_, at| now.duration_since(*at) < ASK_AGAIN_AFTER);
        }
        if self.0.len() < RECENT_MAX {
            self.0.insert(target, now);
        }
    }

    fn at(&self, target: &Target, now: Instant) -> Option<Instant> {
        self.0.get(target).copied().filter(|at| now.duration_since(*at) < ASK_AGAIN_AFTER)
    }
}

/// What waits, each record once.
#[derive(Default)]
pub(super) struct Queue {
    order: VecDeque<Target>,
    waiting: HashMap<Target, Look>,
    in_flight: HashSet<Target>,
    asked: Recent,
    /// Announced again too soon to ask again: asked then.
    later: BTreeSet<(Instant, Target)>,
    /// Records that were put here and wait to be judged.
    brought: Vec<VerifiedItem>,
    /// ... or are being judged; and whether they were announced meanwhile.
    judged: HashMap<Target, bool>,
    /// ... or were.
    settled: Recent,
}

impl Queue {
    /// False when it is full.
    pub(super) fn add(&mut self, target: Target, look: Look) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&target) {
            if look == Look::Network {
                *waiting = look;
            }
            return true;
        }
        if self.waiting.len() >= QUEUE_MAX {
            return false;
        }
        self.waiting.insert(target, look);
        self.order.push_back(target);
        true
    }

    /// An announcement: nothing to do for a record that was put here just now. False when the queue is full.
    pub(super) fn announced(&mut self, target: Target, now: Instant) -> bool {
        if let Some(announced) = self.judged.get_mut(&target) {
            *announced = true;
            return true;
        }
        self.settled.at(&target, now).is_some() || self.add(target, Look::Hint)
    }

    /// The next record that is not being looked at already.
    pub(super) fn next(&mut self) -> Option<(Target, Look)> {
        for _ in 0..self.order.len() {
            let target = self.order.pop_front()?;
            if self.in_flight.contains(&target) {
                self.order.push_back(target);
                continue;
            }
            self.in_flight.insert(target);
            return self.waiting.remove(&target).map(|look| (target, look));
        }
        None
    }

    /// It was looked at.
    pub(super) fn looked(&mut self, target: &Target) {
        self.in_flight.remove(target);
    }

    /// Whether the network was asked about this record a moment ago; notes that it is now.
    pub(super) fn asked_recently(&mut self, target: Target, now: Instant) -> bool {
        let recently = self.asked.at(&target, now).is_some();
        if !recently {
            self.asked.note(target, now);
        }
        recently
    }

    /// Has a record that was asked for a moment ago looked at when it may be asked for again: its announcement may have told of
    /// what happened since, such as a sale. False when too many wait.
    pub(super) fn look_later(&mut self, target: Target, now: Instant) -> bool {
        let at = self.asked.at(&target, now).unwrap_or(now) + ASK_AGAIN_AFTER;
        if self.later.len() >= QUEUE_MAX {
            return false;
        }
        self.later.insert((at, target));
        true
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.later.len() + self.judged.len()
    }

    /// When something that was put off is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Queues what was put off until `now`; gives how many found no room.
    pub(super) fn take_due(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some(&(at, target)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, target));
            dropped += u64::from(!self.add(target, Look::Hint));
        }
        dropped
    }

    /// A record was put here. False when too many wait: its announcement will tell of it.
    pub(super) fn bring(&mut self, item: VerifiedItem) -> bool {
        if self.brought.len() >= BROUGHT_MAX {
            return false;
        }
        self.judged.entry(item.target()).or_default();
        self.brought.push(item);
        true
    }

    /// What was brought, at most `max` of it, to be judged now.
    pub(super) fn take_brought(&mut self, max: usize) -> Vec<VerifiedItem> {
        self.brought.drain(..max.min(self.brought.len())).collect()
    }

    /// A record that was brought has been judged. What turned out to be no record at all is looked at once more if it was
    /// announced as one, to be counted. False when the queue is full.
    pub(super) fn settle(&mut self, target: Target, is_record: bool, now: Instant) -> bool {
        let announced = self.judged.remove(&target).unwrap_or_default();
        if is_record {
            self.settled.note(target, now);
        }
        is_record || !announced || self.add(target, Look::Hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;

    #[test]
    fn a_record_waits_once_and_the_stronger_reason_wins() {
        let mut queue = Queue::default();
        let target = Target([1; 20]);
        assert!(
            queue.add(target, Look::Hint)
                && queue.add(target, Look::Network)
                && queue.add(target, Look::Hint)
        );
        assert!(queue.next().is_some_and(|next| next == (target, Look::Network)));
        assert!(queue.next().is_none());
        // While it is looked at, a new announcement waits.
        assert!(queue.add(target, Look::Hint));
        assert!(queue.next().is_none());
        queue.looked(&target);
        assert!(queue.next().is_some());
    }

    #[test]
    fn what_is_announced_too_soon_to_ask_again_is_asked_later() {
        let (mut queue, target, asked) = (Queue::default(), Target([1; 20]), Instant::now());
        assert!(!queue.asked_recently(target, asked) && queue.asked_recently(target, asked));
        assert!(queue.look_later(target, asked) && queue.look_later(target, asked));
        assert_eq!(queue.later.len(), 1, "once, however often it was announced");
        assert_eq!(queue.take_due(asked), 0);
        assert!(queue.next().is_none());
        assert_eq!(queue.take_due(asked + ASK_AGAIN_AFTER), 0);
        assert!(queue.next().is_some_and(|next| next == (target, Look::Hint)));
    }

    #[test]
    fn the_announcement_of_a_record_that_was_just_put_here_is_no_news() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let key = KeyPair::from_seed(&[1; 32]);
        let item = VerifiedItem::sign(&key, b"", 1, b"1:x"[..].into()).unwrap();
        let target = item.target();
        for (is_record, looks) in [(true, 0), (false, 1)] {
            assert!(queue.bring(item.clone()) && queue.announced(target, now));
            assert!(queue.next().is_none(), "it is being judged");
            assert_eq!(queue.take_brought(9).len(), 1);
            assert!(queue.settle(target, is_record, now));
            assert_eq!(queue.next().iter().count(), looks);
            queue.looked(&target);
        }
        assert!(queue.announced(target, now) && queue.next().is_none());
        assert!(queue.announced(target, now + ASK_AGAIN_AFTER) && queue.next().is_some());
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = Queue::default();
        for n in 0..QUEUE_MAX as u64 {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            assert!(queue.add(Target(bytes), Look::Hint));
        }
        assert!(!queue.add(Target([255; 20]), Look::Hint));
    }
}
