//! A warning whose cause would have it said many times a second.

use std::time::{Duration, Instant};

/// How often it is said again while it goes on.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// Decides when something that keeps happening is said: at once when it begins, then once a minute, each time with how often it has
/// happened since.
#[derive(Debug, Default)]
pub struct Repeated {
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Repeated {
    /// It happened. `Some` when it should be said now, with how often it has happened since it was said last, this time included.
    pub fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.said_at.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_once_a_minute_as_a_number() {
        let (start, mut repeated) = (Instant::now(), Repeated::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeated.happened(at(0)), Some(1));
        assert!((1..60).all(|second| repeated.happened(at(second)).is_none()));
        assert_eq!(repeated.happened(at(60)), Some(60));
        assert_eq!(repeated.happened(at(61)), None);
        assert_eq!(repeated.happened(at(1000)), Some(2));
    }
}
