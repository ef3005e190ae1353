//! Who makes room when every place is taken.
//!
//! A connection that is being answered keeps its place. One that waits (for its first request, or for the next one) gives it to a
//! newcomer, the one that has waited longest first, once it has waited for [`PATIENCE`]: a crowd that comes at once is served in
//! turn, and an answer that is still being written is not cut. So whoever holds connections open and says nothing, or a byte now and then,
//! holds nobody up; a client that rests between two requests may have to connect again, which all of them can.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long a connection may wait before somebody else's need counts more. A request that is on its way is here by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The connections that wait. Never more than there are places.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// By how many waits began before theirs.
    oldest_first: BTreeMap<u64, (Instant, Arc<Notify>)>,
    began: u64,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    leave: Arc<Notify>,
    /// Since when it waits, if it does.
    since: Mutex<Option<u64>>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, which waits for its first request.
    pub(super) fn enter(&self) -> Place {
        let place = Place { room: self.clone(), leave: Arc::default(), since: Mutex::default() };
        place.waits();
        place
    }

    /// Asks the one that has waited longest to leave; false when nobody has waited for long.
    pub(super) fn make(&self, now: Instant) -> bool {
        let mut waiting = self.lock();
        let Some(oldest) = waiting.oldest_first.first_entry() else { return false };
        if now.saturating_duration_since(oldest.get().0) < PATIENCE {
            return false;
        }
        oldest.remove().1.notify_one();
        true
    }
}

impl Place {
    fn since(&self) -> MutexGuard<'_, Option<u64>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has been answered, and waits for its next request.
    pub(super) fn waits(&self) {
        self.works();
        let mut waiting = self.room.lock();
        waiting.began += 1;
        let now = waiting.began;
        waiting.oldest_first.insert(now, (Instant::now(), Arc::clone(&self.leave)));
        *self.since() = Some(now);
    }

    /// A request has come.
    pub(super) fn works(&self) {
        if let Some(since) = self.since().take() {
            self.room.lock().oldest_first.remove(&since);
        }
    }

    /// Ends when somebody else needs the place.
    pub(super) async fn needed(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_waits_longest_leaves_and_nobody_who_is_answered() {
        let room = Room::default();
        let places: Vec<Place> = (0..3).map(|_| room.enter()).collect();
        places[0].works();
        places[1].works();
        places[1].waits();
        let asked = |place: &Place| {
            let mut needed = std::pin::pin!(place.needed());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            needed.as_mut().poll(&mut cx).is_ready()
        };
        let now = Instant::now();
        assert!(!room.make(now), "nobody has waited for long");
        let now = now + PATIENCE;
        assert!(room.make(now) && asked(&places[2]) && !asked(&places[1]));
        assert!(room.make(now) && asked(&places[1]) && !asked(&places[0]));
        assert!(!room.make(now), "the last one is being answered");
        drop(places);
        assert!(room.lock().oldest_first.is_empty());
    }
}
