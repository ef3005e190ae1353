//! Whose terms changed a moment ago: a bid on such a record must say what its owner saw.

use super::limits::{CHANGE_IS_NEWS_FOR, CHANGES_A_MAKER_MAX, CHANGES_MAX};
use crate::{bep44::Target, identity::ClientId, time::UnixMillis};
use std::collections::{HashMap, VecDeque};

/// A record of a maker, or all of them.
type Of = (ClientId, Option<Target>);

/// Those who change more than their share are remembered in steps of this many milliseconds.
const STEP_MS: u64 = 100;

/// The changes of the last [`CHANGE_IS_NEWS_FOR`]: at most [`CHANGES_MAX`] of them, and [`CHANGES_A_MAKER_MAX`] records of one maker.
/// Whoever changes more is remembered as one whose every record may have changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    latest: HashMap<Of, UnixMillis>,
    in_order: VecDeque<(UnixMillis, Of)>,
    /// How many of these are of a maker.
    of_maker: HashMap<ClientId, usize>,
    /// When there was no room for one: until that is old, any record may be it.
    overflowed: Option<UnixMillis>,
}

impl Changes {
    /// The terms of this record are others from `now` on.
    pub(super) fn note(&mut self, maker: ClientId, target: Target, now: UnixMillis) {
        while let Some((at, of)) = self.in_order.pop_front_if(|(at, _)| !is_news(*at, now)) {
            if self.latest.get(&of) == Some(&at) {
                self.latest.remove(&of);
            }
            match self.of_maker.get_mut(&of.0) {
                Some(held) if *held > 1 => *held -= 1,
                _ => _ = self.of_maker.remove(&of.0),
            }
        }
        if self.in_order.len() >= CHANGES_MAX {
            self.overflowed = Some(now);
            return;
        }
        let has_room = self.of_maker.get(&maker).is_none_or(|held| *held < CHANGES_A_MAKER_MAX);
        let (of, at) = if has_room {
            ((maker, Some(target)), now)
        } else {
            ((maker, None), UnixMillis(now.0.next_multiple_of(STEP_MS)))
        };
        if self.latest.insert(of, at) != Some(at) {
            self.in_order.push_back((at, of));
            *self.of_maker.entry(maker).or_default() += 1;
        }
    }

    /// Whether somebody who decides at `now` may have read other terms.
    pub(super) fn are_news(&self, maker: ClientId, target: Target, now: UnixMillis) -> bool {
        let noted = [Some(target), None].map(|target| self.latest.get(&(maker, target)).copied());
        noted.into_iter().chain([self.overflowed]).flatten().any(|at| is_news(at, now))
    }
}

fn is_news(at: UnixMillis, now: UnixMillis) -> bool {
    now < at.plus(CHANGE_IS_NEWS_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;
    use std::time::Duration;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn maker(n: usize) -> ClientId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey(bytes)
    }

    fn target(n: usize) -> Target {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Target(bytes)
    }

    fn sizes(changes: &Changes) -> [usize; 3] {
        [changes.latest.len(), changes.in_order.len(), changes.of_maker.len()]
    }

    #[test]
    fn a_change_is_news_for_a_while_and_what_is_old_makes_room() {
        let (mut changes, one) = (Changes::default(), maker(1));
        let after = |time| NOW.plus(time);
        let news = |changes: &Changes, n, at| changes.are_news(one, target(n), at);
        changes.note(one, target(1), NOW);
        let just = CHANGE_IS_NEWS_FOR.saturating_sub(Duration::from_millis(1));
        assert!(news(&changes, 1, after(just)) && !news(&changes, 2, after(just)));
        assert!(!news(&changes, 1, after(CHANGE_IS_NEWS_FOR)));
        // Once more: the later one counts.
        changes.note(one, target(1), after(just));
        changes.note(one, target(2), after(CHANGE_IS_NEWS_FOR));
        assert!(news(&changes, 1, after(CHANGE_IS_NEWS_FOR)));
        changes.note(one, target(3), after(3 * CHANGE_IS_NEWS_FOR));
        assert_eq!(sizes(&changes), [1, 1, 1]);
    }

    #[test]
    fn a_maker_that_changes_without_end_is_doubted_and_nobody_else_is() {
        let (mut changes, [busy, other]) = (Changes::default(), [1, 2].map(maker));
        (0..CHANGES_A_MAKER_MAX).for_each(|n| changes.note(busy, target(n), NOW));
        assert!(!changes.are_news(busy, target(CHANGES_A_MAKER_MAX), NOW));
        let end = 2 * CHANGES_MAX;
        for n in CHANGES_A_MAKER_MAX..end {
            changes.note(busy, target(n), NOW.plus(Duration::from_millis(9_000 * n as u64 / end as u64)));
        }
        let now = NOW.plus(Duration::from_secs(9));
        assert!(changes.are_news(busy, target(end), now) && !changes.are_news(other, target(end), now));
        assert!(changes.in_order.len() <= CHANGES_A_MAKER_MAX + 100, "{:?}", sizes(&changes));
        changes.note(other, target(end), now.plus(2 * CHANGE_IS_NEWS_FOR));
        assert_eq!(sizes(&changes), [1, 1, 1]);
    }

    #[test]
    fn when_there_are_too_many_every_record_may_have_changed() {
        let mut changes = Changes::default();
        (0..CHANGES_MAX).for_each(|n| changes.note(maker(n), target(n), NOW));
        assert!(!changes.are_news(maker(CHANGES_MAX), target(CHANGES_MAX), NOW));
        changes.note(maker(CHANGES_MAX), target(CHANGES_MAX), NOW);
        assert!(changes.are_news(maker(CHANGES_MAX + 1), target(CHANGES_MAX + 1), NOW));
        assert_eq!(sizes(&changes), [CHANGES_MAX; 3]);
        let later = NOW.plus(CHANGE_IS_NEWS_FOR);
        assert!(!changes.are_news(maker(1), target(1), later));
    }
}
