//! What a node counts, and the page that Prometheus reads.
//!
//! A [`Counter`] is one atomic and a [`Histogram`] a fixed row of them: counting takes no lock and no memory, so it may stand in
//! the paths that have to be quick. Each part of the program owns its own, writes them into a [`Page`] when somebody asks, and
//! whatever a part knows anyway (its state, its own counters) is read only then. Nothing is global: two nodes in one process
//! keep apart.
//!
//! Labels are words that are written down in this program: never an id, an address, a path or anything else that a stranger
//! chooses, so a page has as many lines after a year as after a minute.
//!
//! Refused here: what the numbers mean (their owners know), and HTTP.

mod page;
mod process;
mod repeated;

pub use page::{CONTENT_TYPE, Family, Page};
pub use process::write as write_process;
pub use repeated::Repeated;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts up from 0 at the start of its owner.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Whoever owns the thing sets it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// What it is now.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Relaxed);
    }

    /// What it was last set to.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of buckets, and what one unit of them is in the unit that is shown.
#[derive(Debug)]
pub struct Buckets {
    bounds: &'static [u64],
    per_unit: u64,
}

/// From a request that a snapshot answers to one that waits for another node: 50 µs to 10 s, in nanoseconds.
pub static LATENCY: Buckets = Buckets {
    bounds: &[
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        100_000_000,
        500_000_000,
        2_500_000_000,
        10_000_000_000,
    ],
    per_unit: 1_000_000_000,
};

/// How many were done at once.
pub static SIZE: Buckets = Buckets { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], per_unit: 1 };

/// How often values fell into each of a few fixed buckets, and their sum.
#[derive(Debug)]
pub struct Histogram {
    buckets: &'static Buckets,
    /// One a bound, and a last one for what is above them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(buckets: &'static Buckets) -> Self {
        let counts = (0..=buckets.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, counts, sum: AtomicU64::new(0) }
    }

    /// Adds a value, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        let at = self.buckets.bounds.iter().position(|bound| value <= *bound);
        self.counts[at.unwrap_or(self.buckets.bounds.len())].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Adds a time to a histogram of [`LATENCY`].
    pub fn took(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1));
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it_and_one_above_all_is_not_lost() {
        let sizes = Histogram::new(&SIZE);
        for value in [0, 1, 2, 3, 1024, 1025, u64::MAX >> 1] {
            sizes.observe(value);
        }
        let counts: Vec<u64> = sizes.counts.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn every_value_is_counted_once(values in prop::collection::vec(0u64..20_000_000_000, 0..100)) {
            let histogram = Histogram::new(&LATENCY);
            for value in &values {
                histogram.observe(*value);
            }
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.sum.load(Relaxed), values.iter().sum::<u64>());
        }
    }
}
