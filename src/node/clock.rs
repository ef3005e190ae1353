//! The only place that asks the operating system what time it is, and it does not believe every answer.
//!
//! A clock that jumps is most often wrong for a moment: a machine that wakes, a time server that errs, somebody who typed the
//! wrong day. Offers would expire and die of it, and new records would be of a future that no other node believes. So beside the
//! wall clock runs the one that only counts, and a jump of more than [`STEP_MAX`] is believed when it has lasted for
//! [`BELIEVED_AFTER`]; until then time goes on as it went. Smaller steps, and whatever a time server does slowly, are followed at
//! once. What was believed and is taken back, the exchange core follows (`exchange/timers.rs`).

use crate::time::{UNIX_MILLIS_MAX, UnixMillis};
use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The longest step that is no jump: as far as clocks of nodes may be apart without anybody noticing.
const STEP_MAX: Duration = Duration::from_mins(1);
/// How long a jump must last.
const BELIEVED_AFTER: Duration = Duration::from_mins(1);

/// Counts from the machine's start on, also while it sleeps: a machine that wakes has not jumped.
#[cfg(target_os = "linux")]
const COUNTS: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const COUNTS: ClockId = ClockId::Monotonic;

static CLOCK: Mutex<Option<Steady>> = Mutex::new(None);

/// Now. A clock set before 1970 reads as 1970.
#[must_use]
pub fn now() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX).min(UNIX_MILLIS_MAX.0);
    let counted = clock_gettime(COUNTS);
    let counted_ms = counted.tv_sec as u64 * 1000 + counted.tv_nsec as u64 / 1_000_000;
    let (now_ms, news) = {
        let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        clock.get_or_insert_with(|| Steady::new(wall_ms, counted_ms)).read(wall_ms, counted_ms)
    };
    match news {
        None => {}
        Some(News::Jumped { by_ms }) => tracing::warn!(
            by_ms,
            "this machine's clock jumped; it is not believed unless it stays so for {} s",
            BELIEVED_AFTER.as_secs()
        ),
        Some(News::Back) => tracing::info!("this machine's clock is again where it was"),
        Some(News::Believed { by_ms }) => {
            tracing::warn!(by_ms, "this machine's clock stays where it jumped to, and is believed");
        }
    }
    UnixMillis(now_ms).min(UNIX_MILLIS_MAX)
}

/// What the log should tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Jumped { by_ms: i64 },
    Back,
    Believed { by_ms: i64 },
}

/// A wall clock, held to one that only counts. All in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// What is added to the count.
    offset: i64,
    /// The count at which the wall clock jumped, while it is not believed.
    strayed_at: Option<u64>,
}

impl Steady {
    fn new(wall: u64, counted: u64) -> Self {
        Self { offset: offset(wall, counted), strayed_at: None }
    }

    fn read(&mut self, wall: u64, counted: u64) -> (u64, Option<News>) {
        let found = offset(wall, counted);
        let by_ms = found.saturating_sub(self.offset);
        let is_step = Duration::from_millis(by_ms.unsigned_abs()) <= STEP_MAX;
        let (is_believed, news) = match self.strayed_at {
            None if is_step => (true, None),
            Some(_) if is_step => (true, Some(News::Back)),
            Some(since) if Duration::from_millis(counted.saturating_sub(since)) >= BELIEVED_AFTER => {
                (true, Some(News::Believed { by_ms }))
            }
            Some(_) => (false, None),
            None => {
                self.strayed_at = Some(counted);
                (false, Some(News::Jumped { by_ms }))
            }
        };
        if is_believed {
            (self.offset, self.strayed_at) = (found, None);
            return (wall, news);
        }
        (counted.saturating_add_signed(self.offset), news)
    }
}

fn offset(wall: u64, counted: u64) -> i64 {
    // Both are below 2^53.
    (wall as i64).saturating_sub(counted as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const WALL: u64 = 1_795_262_400_000;

    #[test]
    fn a_jump_of_two_days_for_five_seconds_does_not_happen() {
        for [ahead, back] in [[2 * DAY, 0], [0, 2 * DAY]] {
            let mut clock = Steady::new(WALL, 1_000);
            let mut told = Vec::new();
            for second in 0..20_u64 {
                let (wall, counted) = (WALL + second * 1000, 1_000 + second * 1000);
                let jumps = (5..10).contains(&second);
                let (now, news) = clock.read(if jumps { wall + ahead - back } else { wall }, counted);
                assert_eq!(now, wall, "second {second}");
                told.extend(news);
            }
            let by_ms = ahead as i64 - back as i64;
            assert_eq!(told, [News::Jumped { by_ms }, News::Back]);
        }
    }

    #[test]
    fn a_jump_that_lasts_is_believed_after_a_minute() {
        let mut clock = Steady::new(WALL, 0);
        for second in 0..60 {
            let (now, _) = clock.read(WALL + DAY + second * 1000, second * 1000);
            assert_eq!(now, WALL + second * 1000);
        }
        let (now, news) = clock.read(WALL + DAY + 60_000, 60_000);
        assert_eq!((now, news), (WALL + DAY + 60_000, Some(News::Believed { by_ms: DAY as i64 })));
        assert_eq!(clock.read(WALL + DAY + 61_000, 61_000), (WALL + DAY + 61_000, None));
    }

    #[test]
    fn small_steps_are_followed_at_once_and_do_not_add_up_to_a_jump() {
        let (mut clock, mut wall) = (Steady::new(WALL, 0), WALL);
        for minute in 1..100_u64 {
            wall += 60_000 + if minute % 3 == 0 { 59_000 } else { 0 };
            assert_eq!(clock.read(wall, minute * 60_000), (wall, None));
        }
        assert_eq!(clock.read(wall - 30_000, 100 * 60_000 - 60_000), (wall - 30_000, None));
    }

    #[test]
    fn the_machines_clock_goes_on() {
        let first = now();
        assert!(first > UnixMillis(WALL / 2) && now() >= first);
    }
}
