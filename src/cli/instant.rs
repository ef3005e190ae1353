//! Times as people give them: RFC 3339, or how long ago.

use super::client::duration;
use crate::{node::clock, time::UnixMillis};
use std::{fmt, str::FromStr};

/// An instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(UnixMillis);

impl FromStr for Instant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ago = || duration(text).ok().map(|ago| clock::now().minus(ago));
        let wrong =
            "is neither a time, such as 2026-11-21T12:00:00Z, nor how long ago, such as 90s, 24h or 7d";
        UnixMillis::parse_rfc3339(text).or_else(ago).map(Self).ok_or_else(|| wrong.into())
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        let read = |text: &str| text.parse::<Instant>();
        assert_eq!(read("2026-11-21T12:00:00+01:00").unwrap().to_string(), "2026-11-21T11:00:00.000Z");
        let ago = read("2h").unwrap().0;
        let off = clock::now().minus(Duration::from_hours(2)).since(ago);
        assert!(off < Duration::from_secs(10), "{off:?}");
        for bad in ["", "yesterday", "2", "2026-11-21"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
