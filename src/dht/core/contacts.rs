//! What is remembered about addresses: how fast they answer, whether they answer at all, and the write token that they gave.
//!
//! A token belongs to the node that gave it (stock grapes and ours bind it to the requester's address only), so that one serves
//! every name and target. A node that left a query unanswered is *avoided* for a while: lookups pass it by instead of waiting.
//! Silence about one query is not that: whoever answered another one meanwhile, or says anything, is alive.

use super::Now;
use std::{collections::HashMap, hash::Hash, net::SocketAddr, sync::Arc, time::Duration};

/// Addresses remembered. About 120 bytes each; a large network's working set is far smaller.
const CONTACTS_MAX: usize = 8192;
/// A token is used for this long: its giver accepts it for at least five minutes.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(270);
/// How long an address is avoided after its first failure; doubled with each further one.
const AVOID_FIRST: Duration = Duration::from_secs(5);
/// Doublings of [`AVOID_FIRST`] at most: 320 s.
const AVOID_DOUBLINGS_MAX: u32 = 6;
/// An answer is late after at least this time: below it, a busy host would look like a dead one.
const LATE_MIN: Duration = Duration::from_millis(50);
/// An answer is late after at most this time: two in a row, as a lookup may meet, are to stay below a second.
const LATE_MAX: Duration = Duration::from_millis(400);
/// What is assumed while nobody has answered yet.
const LATE_UNKNOWN: Duration = LATE_MAX;

/// A map that forgets what was not used lately, in constant time: it fills one generation, and drops the one before.
pub(super) struct Recent<K, V> {
    fresh: HashMap<K, V>,
    stale: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Holds at most `max` entries.
    pub(super) fn new(max: usize) -> Self {
        Self { fresh: HashMap::new(), stale: HashMap::new(), half: max / 2 }
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.stale.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.fresh.get(key).or_else(|| self.stale.get(key))
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.stale.remove(&key);
        if self.fresh.len() >= self.half && !self.fresh.contains_key(&key) {
            self.stale = std::mem::take(&mut self.fresh);
        }
        self.fresh.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.fresh.remove(key).or_else(|| self.stale.remove(key))
    }
}

/// A smoothed round-trip time and its variation, as TCP keeps them (RFC 6298).
#[derive(Clone, Copy)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    fn next(earlier: Option<Self>, sample: Duration) -> Self {
        match earlier {
            None => Self { smoothed: sample, variation: sample / 2 },
            Some(Self { smoothed, variation }) => Self {
                smoothed: (smoothed * 7 + sample) / 8,
                variation: (variation * 3 + smoothed.abs_diff(sample)) / 4,
            },
        }
    }

    fn late_after(self) -> Duration {
        self.smoothed + self.variation * 4
    }
}

#[derive(Clone, Default)]
struct Known {
    rtt: Option<Rtt>,
    failures: u32,
    failed_at: Option<Now>,
    avoid_until: Now,
    /// When it was last heard to be alive.
    alive_at: Option<Now>,
    token: Option<(Arc<[u8]>, Now)>,
}

impl Known {
    fn is_alive(&mut self, now: Now) {
        (self.failures, self.avoid_until, self.alive_at) = (0, Now::ZERO, Some(now));
    }
}

/// All that is remembered about addresses.
pub(super) struct Contacts {
    known: Recent<SocketAddr, Known>,
    rtt: Option<Rtt>,
}

impl Contacts {
    pub(super) fn new() -> Self {
        Self { known: Recent::new(CONTACTS_MAX), rtt: None }
    }

    fn change(&mut self, addr: SocketAddr, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.remove(&addr).unwrap_or_default();
        change(&mut known);
        self.known.insert(addr, known);
    }

    /// How long to wait for this address before going on without it.
    pub(super) fn late_after(&self, addr: SocketAddr) -> Duration {
        let own = self.known.get(&addr).and_then(|known| known.rtt).map(Rtt::late_after);
        // A stranger may be farther away than those who answered so far.
        let others = || self.rtt.map(|rtt| rtt.late_after() * 2);
        own.or_else(others).unwrap_or(LATE_UNKNOWN).clamp(LATE_MIN, LATE_MAX)
    }

    /// It answered.
    pub(super) fn answered(&mut self, addr: SocketAddr, took: Duration, now: Now) {
        self.rtt = Some(Rtt::next(self.rtt, took));
        self.change(addr, |known| {
            known.rtt = Some(Rtt::next(known.rtt, took));
            known.is_alive(now);
        });
    }

    /// It showed that it is there, without an answer whose time is known.
    pub(super) fn is_alive(&mut self, addr: SocketAddr, now: Now) {
        self.change(addr, |known| known.is_alive(now));
    }

    /// Whether it was heard since then.
    pub(super) fn was_alive_since(&self, addr: SocketAddr, then: Now) -> bool {
        self.known.get(&addr).and_then(|known| known.alive_at).is_some_and(|at| at >= then)
    }

    /// Its answer is late: it is avoided until `until`, when it has either answered or failed.
    pub(super) fn late(&mut self, addr: SocketAddr, until: Now) {
        self.change(addr, |known| known.avoid_until = known.avoid_until.max(until));
    }

    /// It did not answer at all.
    pub(super) fn failed(&mut self, addr: SocketAddr, now: Now) {
        self.change(addr, |known| {
            let avoid = AVOID_FIRST * 2u32.pow(known.failures.min(AVOID_DOUBLINGS_MAX));
            (known.failures, known.failed_at) = (known.failures.saturating_add(1), Some(now));
            known.avoid_until = now.plus(avoid);
            known.token = None;
        });
    }

    /// Whether its silence since then has been counted already.
    pub(super) fn has_failed_since(&self, addr: SocketAddr, then: Now) -> bool {
        self.known.get(&addr).and_then(|known| known.failed_at).is_some_and(|at| at >= then)
    }

    /// Whether nothing was ever sent there, as far as is remembered.
    pub(super) fn is_stranger(&self, addr: SocketAddr) -> bool {
        self.known.get(&addr).is_none()
    }

    /// Whether lookups pass it by.
    pub(super) fn is_avoided(&self, addr: SocketAddr, now: Now) -> bool {
        self.known.get(&addr).is_some_and(|known| now < known.avoid_until)
    }

    /// Whether it left a query unanswered and has not been heard since.
    pub(super) fn is_given_up(&self, addr: SocketAddr, now: Now) -> bool {
        self.known.get(&addr).is_some_and(|known| known.failures > 0 && now < known.avoid_until)
    }

    /// Keeps the token that it gave. There is nothing to keep when it gave none.
    pub(super) fn keep_token(&mut self, addr: SocketAddr, token: &[u8], now: Now) {
        self.change(addr, |known| known.token = Some((token.into(), now)));
    }

    /// Forgets the token that it refused.
    pub(super) fn drop_token(&mut self, addr: SocketAddr) {
        self.change(addr, |known| known.token = None);
    }

    /// The token that it gave, while it is surely good.
    pub(super) fn token(&self, addr: SocketAddr, now: Now) -> Option<Arc<[u8]>> {
        let (token, at) = self.known.get(&addr)?.token.as_ref()?;
        (now.since(*at) < TOKEN_AGE_MAX).then(|| Arc::clone(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_dead_address_is_avoided_longer_each_time_and_forgiven_at_its_first_answer() {
        let mut contacts = Contacts::new();
        contacts.failed(ADDR, at(0));
        assert!(contacts.is_avoided(ADDR, at(4)) && !contacts.is_avoided(ADDR, at(5)));
        contacts.failed(ADDR, at(5));
        assert!(contacts.is_avoided(ADDR, at(14)) && !contacts.is_avoided(ADDR, at(15)));
        assert!(!contacts.was_alive_since(ADDR, at(0)));
        contacts.answered(ADDR, Duration::from_millis(1), at(6));
        assert!(!contacts.is_avoided(ADDR, at(6)));
        assert!(contacts.was_alive_since(ADDR, at(6)) && !contacts.was_alive_since(ADDR, at(7)));
        contacts.failed(ADDR, at(7));
        assert!(contacts.has_failed_since(ADDR, at(7)) && !contacts.has_failed_since(ADDR, at(8)));
        contacts.is_alive(ADDR, at(8));
        assert!(!contacts.is_avoided(ADDR, at(8)) && !contacts.is_given_up(ADDR, at(8)));
    }

    #[test]
    fn a_token_serves_until_it_is_old_or_refused_or_its_node_fails() {
        let mut contacts = Contacts::new();
        contacts.keep_token(ADDR, b"abcd", at(0));
        assert_eq!(contacts.token(ADDR, at(269)).as_deref(), Some(&b"abcd"[..]));
        assert_eq!(contacts.token(ADDR, at(270)), None);
        contacts.drop_token(ADDR);
        assert_eq!(contacts.token(ADDR, at(1)), None);
        contacts.keep_token(ADDR, b"abcd", at(1));
        contacts.failed(ADDR, at(2));
        assert_eq!(contacts.token(ADDR, at(2)), None);
    }

    #[test]
    fn waiting_adapts_to_the_address_and_stays_within_bounds() {
        let mut contacts = Contacts::new();
        assert_eq!(contacts.late_after(ADDR), LATE_UNKNOWN);
        contacts.answered(ADDR, Duration::from_micros(200), at(0));
        assert_eq!(contacts.late_after(ADDR), LATE_MIN);
        for _ in 0..50 {
            contacts.answered(ADDR, Duration::from_millis(300), at(0));
        }
        let late = contacts.late_after(ADDR);
        assert!(late > Duration::from_millis(290) && late < Duration::from_millis(500), "{late:?}");
    }

    #[test]
    fn recent_entries_stay_and_their_number_is_bounded() {
        let mut recent = Recent::new(100);
        for key in 0..1000 {
            recent.insert(key, key);
            assert!(recent.fresh.len() + recent.stale.len() <= 100);
            assert_eq!(recent.get(&key), Some(&key));
        }
        assert_eq!(recent.get(&960), Some(&960));
        assert_eq!(recent.get(&0), None);
    }
}
