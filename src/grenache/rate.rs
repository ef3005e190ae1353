//! How often one source may ask: a token bucket for each address, checked before any signature is looked at.
//!
//! Pure: time is an argument. The table is bounded; when it is full of sources that are all busy, those that have no place in
//! it share one bucket, so that a crowd of addresses cannot buy more work than a single one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Sources that are remembered; at about 50 bytes each under one megabyte.
pub const SOURCES_MAX: usize = 16_384;
/// The shortest time between two sweeps of a full table, so that a flood of new addresses does not pay for one each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How much more often than others a known source may ask.
pub const KNOWN_FACTOR: u32 = 8;
/// What a request costs, in thousandths of one.
const REQUEST: u64 = 1000;

/// What a source may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// Counts requests by source address; an IPv6 host counts as its /64, which is what one subscriber holds.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    buckets: HashMap<IpAddr, Bucket>,
    crowd: Bucket,
    swept: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In thousandths of a request.
    tokens: u64,
    filled: Duration,
}

impl RateLimiter {
    /// An empty table.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let crowd = Bucket::full(rate, Duration::ZERO);
        Self { rate, buckets: HashMap::new(), crowd, swept: Duration::ZERO }
    }

    /// Takes one request of `source` at `now` (a monotonic time since any fixed start); false when it asks too often.
    pub fn admit(&mut self, source: IpAddr, now: Duration) -> bool {
        self.admit_at(source, now, REQUEST)
    }

    /// The same, of a source that is known to have reason to ask: it may ask [`KNOWN_FACTOR`] times as often.
    pub fn admit_known(&mut self, source: IpAddr, now: Duration) -> bool {
        self.admit_at(source, now, REQUEST / u64::from(KNOWN_FACTOR))
    }

    fn admit_at(&mut self, source: IpAddr, now: Duration, price: u64) -> bool {
        let source = subscriber(source);
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&source) {
            self.sweep(now);
            if self.buckets.len() >= SOURCES_MAX {
                return self.crowd.take(self.rate, now, price);
            }
        }
        let rate = self.rate;
        self.buckets.entry(source).or_insert_with(|| Bucket::full(rate, now)).take(rate, now, price)
    }

    /// Forgets those whose bucket is full again: to them nothing changes.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        let rate = self.rate;
        self.buckets.retain(|_, bucket| bucket.refilled(rate, now) < capacity(rate));
    }
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: capacity(rate), filled: now }
    }

    fn refilled(self, rate: Rate, now: Duration) -> u64 {
        let elapsed_ms = u64::try_from(now.saturating_sub(self.filled).as_millis()).unwrap_or(u64::MAX);
        // A request a second is a thousandth of one a millisecond.
        self.tokens.saturating_add(elapsed_ms.saturating_mul(rate.per_second.into())).min(capacity(rate))
    }

    fn take(&mut self, rate: Rate, now: Duration, price: u64) -> bool {
        let tokens = self.refilled(rate, now);
        // Whole milliseconds only, so that many calls within one do not lose the fraction.
        self.filled =
            self.filled.max(Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)));
        self.tokens = tokens.checked_sub(price).unwrap_or(tokens);
        tokens >= price
    }
}

fn capacity(rate: Rate) -> u64 {
    u64::from(rate.burst.max(1)) * REQUEST
}

fn subscriber(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_others_are_not_touched() {
        let mut limiter = RateLimiter::new(RATE);
        let (one, other) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        assert_eq!((0..20).filter(|_| limiter.admit(one, at(0))).count(), 5);
        assert_eq!((0..20).filter(|_| limiter.admit(one, at(300))).count(), 3);
        assert!(limiter.admit(other, at(300)));
    }

    #[test]
    fn a_known_source_may_ask_more_often() {
        let (mut limiter, one) = (RateLimiter::new(RATE), IpAddr::from([1, 1, 1, 1]));
        let asks =
            |limiter: &mut RateLimiter, ms| (0..999).filter(|_| limiter.admit_known(one, at(ms))).count();
        assert_eq!((asks(&mut limiter, 0), asks(&mut limiter, 300)), (5 * 8, 3 * 8));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source() {
        let mut limiter = RateLimiter::new(RATE);
        let host = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2600, 1, 2, 3, 0, 0, 0, n));
        assert_eq!((0..20).filter(|&n| limiter.admit(host(n), at(0))).count(), 5);
    }

    #[test]
    fn a_crowd_shares_one_bucket_and_the_table_stays_bounded() {
        let mut limiter = RateLimiter::new(RATE);
        let source = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0100_0000 + n));
        let all = (0..SOURCES_MAX as u32 + 100).filter(|&n| limiter.admit(source(n), at(0))).count();
        assert_eq!((all, limiter.buckets.len()), (SOURCES_MAX + 5, SOURCES_MAX));
        // Two seconds later all of them are forgotten again and a newcomer has a bucket of its own.
        assert!(limiter.admit(source(99_999), at(2000)));
        assert_eq!(limiter.buckets.len(), 1);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_burst_and_the_rate(steps in prop::collection::vec(0u64..400, 1..200)) {
            let mut limiter = RateLimiter::new(RATE);
            let (mut now, mut admitted) = (0, 0u64);
            for step in steps {
                now += step;
                admitted += u64::from(limiter.admit(IpAddr::from([1, 1, 1, 1]), at(now)));
                prop_assert!(admitted <= 5 + now * 10 / 1000);
            }
        }
    }
}
