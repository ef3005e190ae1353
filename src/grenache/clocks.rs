//! What other nodes' clocks show, by the times that they sign with their answers.
//!
//! A time is kept beside this machine's monotonic clock, so that what is told is right also a moment after its wall clock was set.

use crate::time::UnixMillis;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Nodes whose clocks are remembered: neighbours and whoever was asked for something.
const CLOCKS_MAX: usize = 256;
/// How long: neighbours answer several times a minute.
const KEPT_FOR: Duration = Duration::from_mins(2);
/// An answer that took longer says too little about its moment.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Shown {
    /// What it showed, and when, by the monotonic clock.
    at: UnixMillis,
    then: Instant,
}

/// Clocks of other nodes. Shared by those who call them.
#[derive(Debug, Default)]
pub struct Clocks {
    shown: Mutex<HashMap<SocketAddr, Shown>>,
}

impl Clocks {
    /// The node at `address` signed `at` with its answer to what it was asked at `asked`.
    pub fn note(&self, address: SocketAddr, at: UnixMillis, asked: Instant) {
        let took = asked.elapsed();
        if took > ROUND_TRIP_MAX {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() >= CLOCKS_MAX && !shown.contains_key(&address) {
            let oldest = shown.iter().min_by_key(|(_, shown)| shown.then).map(|(address, _)| *address);
            oldest.and_then(|oldest| shown.remove(&oldest));
        }
        shown.insert(address, Shown { at, then: asked + took / 2 });
    }

    /// Of each node that answered lately: where, and its clock less this machine's, which shows `now`, in milliseconds.
    #[must_use]
    pub fn ahead_ms(&self, now: UnixMillis) -> Vec<(SocketAddr, i64)> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, shown| shown.then.elapsed() < KEPT_FOR);
        let ahead = |shown: &Shown| {
            let theirs = i128::from(shown.at.plus(shown.then.elapsed()).0);
            i64::try_from(theirs - i128::from(now.0)).unwrap_or(i64::MAX)
        };
        shown.iter().map(|(address, shown)| (*address, ahead(shown))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_what_this_one_shows_now() {
        let clocks = Clocks::default();
        let (here, now) = (Instant::now(), UnixMillis(1_795_262_400_000));
        let address = "203.0.113.7:1337".parse().unwrap();
        clocks.note(address, now.plus(Duration::from_hours(2)), here);
        let near = |ahead: i64, wanted: i64| (ahead - wanted).abs() < 5_000;
        let ahead = clocks.ahead_ms(now);
        assert!(matches!(ahead[..], [(at, ahead)] if at == address && near(ahead, 7_200_000)), "{ahead:?}");
        let set = clocks.ahead_ms(now.plus(Duration::from_hours(2)));
        assert!(near(set[0].1, 0), "this machine's clock was set meanwhile: {set:?}");
        clocks.note(address, now, here);
        assert!(near(clocks.ahead_ms(now)[0].1, 0), "what it showed last counts");
    }

    #[test]
    fn no_more_clocks_are_remembered_than_there_is_room_for() {
        let clocks = Clocks::default();
        for port in 1..1_000 {
            clocks.note(([203, 0, 113, 7], port).into(), UnixMillis(1), Instant::now());
        }
        let kept = clocks.ahead_ms(UnixMillis(1));
        assert_eq!(kept.len(), CLOCKS_MAX);
        assert!(kept.iter().any(|(address, _)| address.port() == 999), "the last ones");
    }
}
