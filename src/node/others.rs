//! Whether there is anybody else: when another node of the network was heard of last, and whether the owner said that there is none.
//!
//! It stands in the store's note [`META_OTHERS`], so that a node that starts while the others cannot be reached knows that there are some.

use super::{Node, anchors::Anchor, clock, writer::JournalError};
use crate::{replication::core::SignedHead, time::UnixMillis};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The store's note of it: two times in milliseconds, 0 for never.
pub(super) const META_OTHERS: &str = "others";
/// How much older the note may be than what it says: it is compared with 30 days.
const NOTED_EVERY: Duration = Duration::from_hours(1);
/// How much older what is remembered may be: frames come a hundred times a second.
const REMEMBERED_EVERY: Duration = Duration::from_secs(1);

/// What is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// When somebody signed something that was heard; nothing since the owner said that there is nobody.
    pub heard_at: Option<UnixMillis>,
    /// When the owner said that there is nobody else; nothing since somebody was heard.
    pub alone_since: Option<UnixMillis>,
}

impl Known {
    /// Reads a note; what cannot be read says nothing.
    pub(super) fn noted(note: &str) -> Self {
        let mut times = note.split(' ').map(|word| word.parse().ok().filter(|ms| *ms > 0).map(UnixMillis));
        Self { heard_at: times.next().flatten(), alone_since: times.next().flatten() }
    }

    /// What [`Self::noted`] reads.
    pub(super) fn note(self) -> String {
        let ms = |at: Option<UnixMillis>| at.unwrap_or_default().0;
        format!("{} {}", ms(self.heard_at), ms(self.alone_since))
    }
}

/// What is known, shared by whoever hears somebody.
#[derive(Debug)]
pub(super) struct Others {
    /// When somebody was heard, in milliseconds: looked at without the lock.
    heard: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: Known,
    noted: Known,
}

impl Others {
    pub(super) fn new(known: Known) -> Self {
        let heard = known.heard_at.unwrap_or_default().0;
        Self { heard: AtomicU64::new(heard), state: Mutex::new(State { known, noted: known }) }
    }

    pub(super) fn known(&self) -> Known {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).known
    }

    /// Another node of the network signed something at this time. Gives the note that the store should have now, if it is another.
    pub(super) fn heard(&self, at: UnixMillis) -> Option<String> {
        if at.since(UnixMillis(self.heard.load(Relaxed))) < REMEMBERED_EVERY {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.heard.store(at.0, Relaxed);
        state.known = Known { heard_at: Some(at), alone_since: None };
        let is_old = state.noted.heard_at.is_none_or(|noted| at.since(noted) >= NOTED_EVERY);
        (is_old || state.noted.alone_since.is_some()).then(|| {
            state.noted = state.known;
            state.noted.note()
        })
    }

    /// It is stored that there is nobody. From the next that is heard on there is somebody again.
    pub(super) fn is_alone(&self, known: Known) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.heard.store(0, Relaxed);
        *state = State { known, noted: known };
    }
}

/// Of a store that an earlier version wrote: whoever it knows was there when it was written last.
pub(super) fn of_old_store(heads: &[SignedHead], anchors: &[Anchor], now: UnixMillis) -> Known {
    let of_heads = heads.iter().map(|head| head.at.min(now)).max();
    // When there were neighbours is not said: lately, as far as one can tell.
    Known { heard_at: of_heads.or((!anchors.is_empty()).then_some(now)), alone_since: None }
}

/// Why it was not confirmed that there is nobody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// There is somebody.
    #[error("{0} other nodes are connected; there is nothing to confirm")]
    NotAlone(usize),
    /// The store did not take it.
    #[error("it was not stored: {0}; look at the disk and try again")]
    NotStored(JournalError),
    /// More waits than the writer takes at a time, or it has ended.
    #[error("the node is busy, or is stopping; try again in a moment")]
    Busy,
}

impl Node {
    /// The owner says that there is no other node any more: this one is a network of one until somebody is heard. Durable when it
    /// returns, with the time from which on it is so.
    ///
    /// # Errors
    /// Others are connected, or it could not be stored.
    pub async fn confirm_alone(&self) -> Result<UnixMillis, ConfirmError> {
        let inner = &*self.inner;
        let neighbours = inner.replica.load().status.neighbours.len();
        if neighbours > 0 {
            return Err(ConfirmError::NotAlone(neighbours));
        }
        let now = clock::now();
        let known = Known { heard_at: None, alone_since: Some(now) };
        inner.exchange.note_surely(META_OTHERS, known.note()).await?;
        inner.others.is_alone(known);
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nonsense_says_nothing() {
        let (one, two) = (Some(UnixMillis(17)), Some(UnixMillis(23)));
        for known in [(None, None), (one, None), (None, two), (one, two)] {
            let known = Known { heard_at: known.0, alone_since: known.1 };
            assert_eq!(Known::noted(&known.note()), known);
        }
        for text in ["", "x", "-1 -2", "0 0", "99999999999999999999 1e3", "a b c d"] {
            assert_eq!(Known::noted(text), Known::default(), "{text:?}");
        }
    }

    #[test]
    fn it_is_noted_seldom_that_somebody_was_heard_and_at_once_when_there_was_nobody() {
        let others = Others::new(Known::default());
        let at = |seconds| UnixMillis(1_795_262_400_000).plus(Duration::from_secs(seconds));
        assert!(others.heard(at(0)).is_some(), "the first");
        assert_eq!((others.heard(at(1)), others.heard(at(3_599))), (None, None));
        assert_eq!(others.known().heard_at, Some(at(3_599)));
        assert!(others.heard(at(3_600)).is_some(), "an hour later");
        let alone = Known { heard_at: None, alone_since: Some(at(4_000)) };
        others.is_alone(alone);
        assert_eq!(others.known(), Known { heard_at: None, alone_since: Some(at(4_000)) });
        // Whatever the clock was set to meanwhile.
        assert!(others.heard(at(10)).is_some(), "somebody is there after all");
        assert_eq!(others.known(), Known { heard_at: Some(at(10)), alone_since: None });
    }
}
