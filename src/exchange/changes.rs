//! Whose terms changed a moment ago: a bid on such a record must say what its owner saw.

use super::limits::{CHANGE_IS_NEWS_FOR, CHANGES_MAX};
use crate::{bep44::Target, time::UnixMillis};
use std::collections::{HashMap, VecDeque};

/// The changes of the last [`CHANGE_IS_NEWS_FOR`], at most [`CHANGES_MAX`] of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    latest: HashMap<Target, UnixMillis>,
    in_order: VecDeque<(UnixMillis, Target)>,
    /// When there was no room for one: until that is old, any record may be it.
    overflowed: Option<UnixMillis>,
}

impl Changes {
    /// The terms of this record are others from `now` on.
    pub(super) fn note(&mut self, target: Target, now: UnixMillis) {
        while let Some((at, first)) = self.in_order.pop_front_if(|(at, _)| !is_news(*at, now)) {
            if self.latest.get(&first) == Some(&at) {
                self.latest.remove(&first);
            }
        }
        if self.in_order.len() >= CHANGES_MAX {
            self.overflowed = Some(now);
        } else if self.latest.insert(target, now) != Some(now) {
            self.in_order.push_back((now, target));
        }
    }

    /// Whether somebody who decides at `now` may have read other terms.
    pub(super) fn are_news(&self, target: &Target, now: UnixMillis) -> bool {
        let lately = |at: &UnixMillis| is_news(*at, now);
        self.latest.get(target).is_some_and(lately) || self.overflowed.as_ref().is_some_and(lately)
    }
}

fn is_news(at: UnixMillis, now: UnixMillis) -> bool {
    now < at.plus(CHANGE_IS_NEWS_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn target(n: usize) -> Target {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Target(bytes)
    }

    #[test]
    fn a_change_is_news_for_a_while_and_what_is_old_makes_room() {
        let (start, mut changes) = (UnixMillis(1_000_000), Changes::default());
        let after = |time| start.plus(time);
        changes.note(target(1), start);
        let just = CHANGE_IS_NEWS_FOR.saturating_sub(Duration::from_millis(1));
        assert!(changes.are_news(&target(1), after(just)) && !changes.are_news(&target(2), after(just)));
        assert!(!changes.are_news(&target(1), after(CHANGE_IS_NEWS_FOR)));
        // Once more: the later one counts.
        changes.note(target(1), after(just));
        changes.note(target(2), after(CHANGE_IS_NEWS_FOR));
        assert!(changes.are_news(&target(1), after(CHANGE_IS_NEWS_FOR)));
        changes.note(target(3), after(3 * CHANGE_IS_NEWS_FOR));
        assert_eq!((changes.latest.len(), changes.in_order.len()), (1, 1));
    }

    #[test]
    fn when_there_are_too_many_every_record_may_have_changed() {
        let (now, mut changes) = (UnixMillis(1_000_000), Changes::default());
        (0..CHANGES_MAX).for_each(|n| changes.note(target(n), now));
        assert!(!changes.are_news(&target(CHANGES_MAX), now));
        changes.note(target(CHANGES_MAX), now);
        assert!(changes.are_news(&target(CHANGES_MAX + 1), now));
        assert_eq!((changes.latest.len(), changes.in_order.len()), (CHANGES_MAX, CHANGES_MAX));
        let later = now.plus(CHANGE_IS_NEWS_FOR);
        assert!(!changes.are_news(&target(1), later));
    }
}
