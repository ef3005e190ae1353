//! Who makes room when every place is taken.
//!
//! A connection that is being answered keeps its place. One that waits (for its first request, or for the next one) gives it to a
//! newcomer once its patience is over, the one whose ended first: a crowd that comes at once is served in turn, and an answer that
//! is still being written is not cut. So whoever holds connections open and says nothing, or a byte now and then, holds nobody up; a
//! client that rests between two requests may have to connect again, which all of them can.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long a connection may wait before somebody else's need counts more. A request that is on its way is here by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long one from this machine may wait for its first request: a program that opens a thousand connections at once on a busy
/// machine takes more than a second until it writes to the last.
const PATIENCE_ON_LOOPBACK: Duration = Duration::from_secs(3);

/// The connections that wait. Never more than there are places.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<Mutex<Waiting>>);

/// Until when a connection may wait, and a number of its own.
type Until = (Instant, u64);

#[derive(Debug, Default)]
struct Waiting {
    soonest_first: BTreeMap<Until, Arc<Notify>>,
    began: u64,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    leave: Arc<Notify>,
    /// Until when it may wait, if it waits.
    until: Mutex<Option<Until>>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection from there, which waits for its first request.
    pub(super) fn enter(&self, from: IpAddr) -> Place {
        let place = Place { room: self.clone(), leave: Arc::default(), until: Mutex::default() };
        place.waits_for(if from.is_loopback() { PATIENCE_ON_LOOPBACK } else { PATIENCE });
        place
    }

    /// Asks the one whose patience ended first to leave; false when everybody's lasts.
    pub(super) fn make(&self, now: Instant) -> bool {
        let mut waiting = self.lock();
        let Some(first) = waiting.soonest_first.first_entry() else { return false };
        if now < first.key().0 {
            return false;
        }
        first.remove().notify_one();
        true
    }
}

impl Place {
    fn until(&self) -> MutexGuard<'_, Option<Until>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has been answered, and waits for its next request.
    pub(super) fn waits(&self) {
        self.waits_for(PATIENCE);
    }

    fn waits_for(&self, patience: Duration) {
        self.works();
        let mut waiting = self.room.lock();
        waiting.began += 1;
        let until = (Instant::now() + patience, waiting.began);
        waiting.soonest_first.insert(until, Arc::clone(&self.leave));
        *self.until() = Some(until);
    }

    /// A request has come.
    pub(super) fn works(&self) {
        if let Some(until) = self.until().take() {
            self.room.lock().soonest_first.remove(&until);
        }
    }

    /// Ends when somebody else needs the place, and no request has come meanwhile.
    pub(super) async fn needed(&self) {
        loop {
            self.leave.notified().await;
            if self.until().is_some_and(|until| !self.room.lock().soonest_first.contains_key(&until)) {
                return;
            }
        }
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

    fn asked(place: &Place) -> bool {
        let mut needed = std::pin::pin!(place.needed());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        needed.as_mut().poll(&mut cx).is_ready()
    }

    fn elsewhere() -> IpAddr {
        [10, 0, 0, 1].into()
    }

    #[test]
    fn the_one_that_waits_longest_leaves_and_nobody_who_is_answered() {
        let room = Room::default();
        let places: Vec<Place> = (0..3).map(|_| room.enter(elsewhere())).collect();
        places[0].works();
        places[1].works();
        places[1].waits();
        let now = Instant::now();
        assert!(!room.make(now), "nobody has waited for long");
        let now = now + PATIENCE;
        assert!(room.make(now) && asked(&places[2]) && !asked(&places[1]));
        assert!(room.make(now) && asked(&places[1]) && !asked(&places[0]));
        assert!(!room.make(now), "the last one is being answered");
        drop(places);
        assert!(room.lock().soonest_first.is_empty());
    }

    #[test]
    fn a_new_connection_of_this_machine_has_more_time_than_one_that_was_answered() {
        let room = Room::default();
        let [new, answered] = [(); 2].map(|()| room.enter([127, 0, 0, 1].into()));
        answered.waits();
        let now = Instant::now();
        assert!(room.make(now + PATIENCE) && asked(&answered) && !asked(&new));
        assert!(!room.make(now + PATIENCE) && room.make(now + PATIENCE_ON_LOOPBACK) && asked(&new));
    }

    #[test]
    fn whose_request_came_while_it_was_told_to_leave_stays_until_it_waits_again() {
        let room = Room::default();
        let place = room.enter(elsewhere());
        assert!(room.make(Instant::now() + PATIENCE));
        place.works();
        assert!(!asked(&place), "it is being answered");
        place.waits();
        assert!(!asked(&place), "it waits anew");
        assert!(room.make(Instant::now() + PATIENCE) && asked(&place));
    }
}
