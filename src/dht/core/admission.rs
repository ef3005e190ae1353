//! Which datagrams are looked at at all: token buckets by source, asked before anything is parsed.
//!
//! **Public sources** pay for each query, and more for what no honest node sends: each host and each prefix has a bucket.
//! **Exempt sources** (loopback and private ranges: a test network, a LAN, a load generator) pay for misdeeds alone, and each
//! by its own ip:port, because there one address stands for many nodes. So honest use has no limit there, and garbage from a
//! neighbour stops being parsed all the same. **Answers to own queries** are free and never dropped: a source whose bucket is
//! empty is still read while a query to exactly that address is under way, and then nothing but its answer counts.
//!
//! Memory is fixed. A bucket is one number, the time up to which it is spent, in one of two rows of cells found by a keyed hash; a
//! source is refused only if both of its cells are spent. Sources that share both cells share their rate: with 4,096 cells a row,
//! 1% of them only once 400 sources are at their limit, and nobody can choose with whom without knowing the key.

use super::{
    Now,
    source::{Host, Prefix, Ranges},
};
use std::net::SocketAddr;

/// Cells in a row, a power of two: 32 KB a row, 192 KB in all.
const CELLS: usize = 4096;
/// A public host's long-run rate. A query costs about 5 µs: a thousandth of a core for a host at its limit, while a node that
/// publishes 200 offers a second and asks every other node once for each stays below it.
const HOST: Rate = Rate { per_second: 200, burst: 1000 };
/// A prefix's: five busy hosts.
const PREFIX: Rate = Rate { per_second: 1000, burst: 4000 };
/// The misdeeds of an exempt source: late answers that are taken for unasked ones, and tokens from before a restart, are far below.
const EXEMPT: Rate = Rate { per_second: 1000, burst: 2000 };
/// How far below empty a bucket may be pressed: the longest that a source is shut out after its last misdeed.
const DEBT_US_MAX: u64 = 2_000_000;

/// What a bucket lets through.
#[derive(Clone, Copy)]
struct Rate {
    per_second: u64,
    burst: u64,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// A query.
    Query,
    /// An answer that belongs to no query: late, repeated, or forged.
    Unasked,
    /// No message.
    Malformed,
    /// A write with a token that was never given to its address.
    BadToken,
    /// A put with a signature that is not its key's: it cost about 60 µs to find out.
    BadSignature,
}

impl Deed {
    /// In queries.
    fn cost(self, exempt: bool) -> u64 {
        match self {
            Self::Query => u64::from(!exempt),
            Self::Unasked | Self::Malformed => 2 - u64::from(exempt),
            Self::BadToken => 4,
            Self::BadSignature => 20,
        }
    }
}

/// Buckets in cells. Each cell holds the microsecond up to which it is spent.
struct Sketch {
    cells: Box<[u64]>,
    key: u64,
    each_us: u64,
    burst_us: u64,
}

impl Sketch {
    fn new(rate: Rate, key: u64) -> Self {
        let each_us = 1_000_000 / rate.per_second;
        Self { cells: vec![0; 2 * CELLS].into(), key, each_us, burst_us: each_us * rate.burst }
    }

    fn cells_of(&self, source: u64) -> [usize; 2] {
        let hash = mix(source ^ self.key);
        [hash as usize % CELLS, CELLS + (hash >> 32) as usize % CELLS]
    }

    /// The emptier of a source's two cells is spoiled by others; the fuller one tells.
    fn spent_until(&self, [a, b]: [usize; 2]) -> u64 {
        self.cells[a].min(self.cells[b])
    }

    fn has_left(&self, source: u64, now_us: u64) -> bool {
        self.spent_until(self.cells_of(source)) <= now_us + self.burst_us
    }

    fn spend(&mut self, source: u64, now_us: u64, cost: u64) {
        let cells = self.cells_of(source);
        let spent = self.spent_until(cells).max(now_us) + cost * self.each_us;
        let spent = spent.min(now_us + self.burst_us + DEBT_US_MAX);
        for cell in cells {
            self.cells[cell] = self.cells[cell].max(spent);
        }
    }
}

/// Spreads every bit of the source over the whole number: multiplication alone would leave the low bits to the low bits.
fn mix(source: u64) -> u64 {
    let wide = u128::from(source ^ 0x9e37_79b9_7f4a_7c15) * 0xe703_7ed1_a0b4_28db_u128;
    let folded = (wide >> 64) as u64 ^ wide as u64;
    (folded ^ (folded >> 29)).wrapping_mul(0x8ebc_6af0_9c88_c6e3).rotate_left(32)
}

/// All buckets.
pub(super) struct Admission {
    ranges: Ranges,
    hosts: Sketch,
    prefixes: Sketch,
    exempt: Sketch,
}

impl Admission {
    /// With keys that no stranger knows.
    pub(super) fn new(ranges: Ranges, keys: [u64; 3]) -> Self {
        Self {
            ranges,
            hosts: Sketch::new(HOST, keys[0]),
            prefixes: Sketch::new(PREFIX, keys[1]),
            exempt: Sketch::new(EXEMPT, keys[2]),
        }
    }

    /// Whether a datagram is worth parsing.
    pub(super) fn admits(&self, from: SocketAddr, now: Now) -> bool {
        let now_us = micros(now);
        if self.ranges.exempt(from.ip()) {
            return self.exempt.has_left(Ranges::socket_key(from), now_us);
        }
        self.hosts.has_left(Host::of(from.ip()).0, now_us)
            && self.prefixes.has_left(Prefix::of(from.ip()).0, now_us)
    }

    /// Lets a source pay for what its datagram was.
    pub(super) fn charge(&mut self, from: SocketAddr, deed: Deed, now: Now) {
        let now_us = micros(now);
        let exempt = self.ranges.exempt(from.ip());
        let cost = deed.cost(exempt);
        if cost == 0 {
        } else if exempt {
            self.exempt.spend(Ranges::socket_key(from), now_us, cost);
        } else {
            self.hosts.spend(Host::of(from.ip()).0, now_us, cost);
            self.prefixes.spend(Prefix::of(from.ip()).0, now_us, cost);
        }
    }
}

fn micros(now: Now) -> u64 {
    now.since_start().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::IpAddr, time::Duration};

    const KEYS: [u64; 3] = [0x1234_5678_9abc_def1, 77, 99];

    fn admission() -> Admission {
        Admission::new(Ranges { limit_private: false }, KEYS)
    }
    fn at(ms: u64) -> Now {
        Now::from_start(Duration::from_millis(ms))
    }
    fn from(ip: [u8; 4], port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from(ip), port)
    }

    /// How many of `count` datagrams of one source at one time are let in.
    fn let_in(
        admission: &mut Admission,
        who: impl Fn(u64) -> SocketAddr,
        deed: Deed,
        count: u64,
        now: Now,
    ) -> u64 {
        let mut taken = 0;
        for n in 0..count {
            if admission.admits(who(n), now) {
                taken += 1;
                admission.charge(who(n), deed, now);
            }
        }
        taken
    }

    #[test]
    fn a_public_host_has_its_burst_and_then_its_rate_whatever_port_it_sends_from() {
        let mut admission = admission();
        let who = |n: u64| from([8, 8, 8, 8], n as u16 + 1);
        let burst = let_in(&mut admission, who, Deed::Query, 5000, at(1000));
        assert!(burst.abs_diff(HOST.burst) <= 1, "{burst}");
        let later = let_in(&mut admission, who, Deed::Query, 5000, at(2000));
        assert!(later.abs_diff(HOST.per_second) <= 1, "{later}");
        assert!(admission.admits(from([8, 8, 9, 8], 1), at(2000)), "another host");
    }

    #[test]
    fn a_prefix_has_a_limit_above_its_hosts() {
        let mut admission = admission();
        let many = |n: u64| from([8, 8, 8, n as u8], 1);
        let taken = let_in(&mut admission, many, Deed::Query, 50_000, at(1000));
        assert!(taken.abs_diff(PREFIX.burst) <= 1, "{taken}");
        assert!(!admission.admits(from([8, 8, 8, 77], 9), at(1000)));
        assert!(admission.admits(from([8, 8, 7, 77], 9), at(1000)));
    }

    #[test]
    fn an_exempt_source_pays_for_misdeeds_only_and_its_neighbours_do_not() {
        let mut admission = admission();
        let (good, bad) = (from([127, 0, 0, 1], 1), from([127, 0, 0, 1], 2));
        assert_eq!(let_in(&mut admission, |_| good, Deed::Query, 200_000, at(1000)), 200_000);
        let garbage = let_in(&mut admission, |_| bad, Deed::Malformed, 50_000, at(1000));
        assert!(garbage.abs_diff(EXEMPT.burst) <= 1, "{garbage}");
        assert!(admission.admits(good, at(1000)));
        // It is heard again once it has been quiet for a moment.
        assert!(admission.admits(bad, at(1100)));
    }

    #[test]
    fn limits_for_private_ranges_are_those_of_public_ones() {
        let mut admission = Admission::new(Ranges { limit_private: true }, KEYS);
        let who = |n: u64| from([10, 0, 0, 1], n as u16 + 1);
        let burst = let_in(&mut admission, who, Deed::Query, 5000, at(1000));
        assert!(burst.abs_diff(HOST.burst) <= 1, "{burst}");
    }

    #[test]
    fn bad_signatures_use_a_bucket_up_sooner_and_debt_is_bounded() {
        let mut admission = admission();
        let who = from([8, 8, 8, 8], 1);
        let checked = let_in(&mut admission, |_| who, Deed::BadSignature, 5000, at(1000));
        assert!(checked <= HOST.burst / 20 + 1, "{checked}");
        for _ in 0..10_000 {
            admission.charge(who, Deed::BadSignature, at(1000));
        }
        assert!(!admission.admits(who, at(2900)));
        assert!(admission.admits(who, at(3100)));
    }

    #[test]
    fn a_crowd_at_its_limit_leaves_a_newcomer_his_bucket() {
        let mut admission = admission();
        let crowd = |n: u32| SocketAddr::new(IpAddr::from((n | 0x2000_0000).to_be_bytes()), 1);
        for n in 0..400 {
            let one = crowd(n << 8);
            let_in(&mut admission, |_| one, Deed::Query, HOST.burst + 1, at(1000));
            assert!(!admission.admits(one, at(1000)));
        }
        let shut_out =
            (0..10_000).filter(|n| !admission.admits(crowd((n << 8) | 0x1000_0000), at(1000))).count();
        assert!(shut_out < 200, "{shut_out} of 10,000");
    }

    #[test]
    fn an_ipv6_subscriber_cannot_make_himself_many() {
        let mut admission = admission();
        let who = |n: u64| {
            let ip = std::net::Ipv6Addr::from(0x2a00_0001_0002_0003_0000_0000_0000_0000_u128 + u128::from(n));
            SocketAddr::new(ip.into(), 1)
        };
        let burst = let_in(&mut admission, who, Deed::Query, 5000, at(1000));
        assert!(burst.abs_diff(HOST.burst) <= 1, "{burst}");
    }
}
