//! This machine's clock beside others', by the times that they sign. Most places decide, so that nobody who has many nodes in one place
//! does: a place is a network prefix, in private ranges a host, and on loopback a port.

use super::facts::ClockVote;
use crate::address::{Host, Prefix, is_private};
use std::collections::BTreeMap;

/// How this machine's clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Most others' clocks less this machine's, in milliseconds: the middle one.
    pub ahead_ms: i64,
    /// How many voices were counted.
    pub voices: usize,
}

/// What has one voice, however many nodes it has.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Public(Prefix),
    Private(Host),
    /// Here nodes of many owners share a host: in tests and devnets.
    Loopback(Host, u16),
}

impl Place {
    fn of(vote: &ClockVote) -> Self {
        let (ip, host) = (vote.ip.to_canonical(), Host::of(vote.ip));
        match () {
            () if ip.is_loopback() => Self::Loopback(host, vote.port),
            () if is_private(ip) => Self::Private(host),
            () => Self::Public(Prefix::of(ip)),
        }
    }
}

/// The middle of all voices; `None` where there is none.
#[must_use]
pub fn compare(votes: &[ClockVote]) -> Option<Clock> {
    let mut places: BTreeMap<Place, Vec<i64>> = BTreeMap::new();
    for vote in votes {
        places.entry(Place::of(vote)).or_default().push(vote.ahead_ms);
    }
    let voices: Vec<i64> = places.into_values().filter_map(middle).collect();
    let count = voices.len();
    middle(voices).map(|ahead_ms| Clock { ahead_ms, voices: count })
}

/// Of an even number, the one of the two in the middle that is nearer to zero: in doubt a clock is right.
fn middle(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    let upper = *values.get(values.len() / 2)?;
    let lower = if values.len().is_multiple_of(2) { *values.get(values.len() / 2 - 1)? } else { upper };
    Some(if lower.unsigned_abs() <= upper.unsigned_abs() { lower } else { upper })
}
