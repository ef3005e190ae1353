//! Time as the market counts it: whole milliseconds since the Unix epoch.
//!
//! And as the cores measure it: [`Now`]. Nothing here reads a clock. The pure layers are handed `now`; only drivers ask the
//! operating system.

mod now;

pub use now::Now;

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, time::Duration};

/// Milliseconds since 1970-01-01T00:00:00Z. On the wire and in records a plain integer, in the REST API RFC 3339 text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// The last instant that a record may name: 2^53 - 1, so that JavaScript readers see the same integer (about the year 287396).
pub const UNIX_MILLIS_MAX: UnixMillis = UnixMillis((1 << 53) - 1);

impl UnixMillis {
    /// This instant, `later` afterwards; stays at [`UNIX_MILLIS_MAX`] instead of passing it.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        let later_ms = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(later_ms)).min(UNIX_MILLIS_MAX)
    }

    /// This instant, `earlier` before; stays at the epoch instead of passing it.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this instant is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 date-time with an offset, such as `2026-11-21T12:00:00Z`; fractions below a millisecond are cut. A time before
    /// 1970 is read as the beginning of 1970: nothing here is older.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at: jiff::Timestamp = of_rfc3339(text)?.parse().ok()?;
        let at = Self(u64::try_from(at.as_millisecond()).unwrap_or(0));
        (at <= UNIX_MILLIS_MAX).then_some(at)
    }
}

/// The text, when it has the form of `date-time` in RFC 3339, section 5.6; of a fraction what comes after nanoseconds is cut. What
/// reads it takes more than that form (offsets of more than a day, hours without minutes, spaces, names of zones), and fewer digits.
fn of_rfc3339(text: &str) -> Option<Cow<'_, str>> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let fits = |given: &u8, form: &u8| match form {
        b'0' => given.is_ascii_digit(),
        form => given.eq_ignore_ascii_case(form),
    };
    let (start, rest) = text.split_at_checked(FORM.len())?;
    if !start.as_bytes().iter().zip(FORM).all(|(given, form)| fits(given, form)) {
        return None;
    }
    let (fraction, offset) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_digit).count())?,
    };
    let has_offset = match offset.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', hour @ .., b':', b'0'..=b'5', ones] => {
            ones.is_ascii_digit() && matches!(hour, [b'0' | b'1', b'0'..=b'9'] | [b'2', b'0'..=b'3'])
        }
        _ => false,
    };
    if !has_offset || rest.starts_with('.') && fraction.is_empty() {
        return None;
    }
    match fraction.get(..9) {
        Some(nanoseconds) => Some(format!("{start}.{nanoseconds}{offset}").into()),
        None => Some(text.into()),
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T12:00:00.000Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
            Some(at) => write!(f, "{at:.3}"),
            // Beyond the year 9999, which RFC 3339 cannot write.
            None => write!(f, "9999-12-31T23:59:59.999Z"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_to_the_millisecond() {
        let at = UnixMillis(1_795_262_400_123);
        assert_eq!(at.to_string(), "2026-11-21T12:00:00.123Z");
        assert_eq!(UnixMillis::parse_rfc3339(&at.to_string()), Some(at));
        assert_eq!(UnixMillis::parse_rfc3339("2026-11-21T13:00:00.123+01:00"), Some(at));
        assert_eq!(
            UnixMillis::parse_rfc3339("1969-12-31T23:59:59Z"),
            Some(UnixMillis(0)),
            "before all that is here"
        );
        assert_eq!(UnixMillis::parse_rfc3339("0000-01-01T00:00:00+23:59"), Some(UnixMillis(0)));
    }

    #[test]
    fn every_form_of_rfc3339_is_read() {
        for text in [
            "2026-11-21T12:00:00Z",
            "2026-11-21t12:00:00z",
            "2026-11-21T12:00:00.0Z",
            "2026-11-21T12:00:00.000999999999Z",
            "2026-11-21T12:00:00.000000000000000Z",
            "2026-11-21T12:00:00-00:00",
            "2026-11-22T11:59:00+23:59",
            "2026-11-20T12:01:00-23:59",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), Some(UnixMillis(1_795_262_400_000)), "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(UNIX_MILLIS_MAX.plus(Duration::from_secs(1)), UNIX_MILLIS_MAX);
        assert_eq!(UnixMillis(5).minus(Duration::from_secs(1)), UnixMillis(0));
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
    }

    #[test]
    fn what_is_not_rfc3339_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-11-21T12:00:00",
            "2026-11-21T12:00:00+25:00",
            "2026-11-21T12:00:00+24:00",
            "2026-11-21T12:00:00-01:60",
            "2026-11-21T12:00:00+01",
            "2026-11-21T12:00:00+0100",
            "2026-11-21T12:00:00+01:00:00",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00,5Z",
            "2026-11-21T12:00Z",
            "2026-11-21T12Z",
            "2026-11-21 12:00:00Z",
            "20261121T120000Z",
            "+002026-11-21T12:00:00Z",
            "2026-11-21T12:00:00Z[UTC]",
            "2026-02-30T12:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:00:00Z ",
            "2026-11-21T12:00:0\u{0660}Z",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(text), None, "{text}");
        }
    }
}
