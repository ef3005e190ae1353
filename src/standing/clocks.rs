//! This machine's clock beside others', by the times that they sign. Most network prefixes decide, so that nobody who has many nodes in
//! one place does.

use super::facts::ClockVote;
use crate::address::{Prefix, is_private};
use std::collections::BTreeMap;

/// How this machine's clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Most others' clocks less this machine's, in milliseconds: the middle one.
    pub ahead_ms: i64,
    /// How many voices were counted.
    pub voices: usize,
}

/// The middle of all voices; `None` where there is none.
#[must_use]
pub fn compare(votes: &[ClockVote]) -> Option<Clock> {
    let mut places: BTreeMap<(bool, u64, u16), Vec<i64>> = BTreeMap::new();
    for vote in votes {
        let Prefix(prefix) = Prefix::of(vote.ip);
        let place = if is_private(vote.ip) { (true, prefix, vote.port) } else { (false, prefix, 0) };
        places.entry(place).or_default().push(vote.ahead_ms);
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
