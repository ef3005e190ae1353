//! Between each two nodes: how long, how often, whether at all. What happens to a message follows from the seed, its link and its number
//! on it, not from what happens elsewhere.

use super::plan::{Latency, Plan};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::time::Duration;

pub(crate) struct Links {
    seed: u64,
    nodes: usize,
    latency: Latency,
    loss: f64,
    twice: f64,
    sent: Vec<u32>,
    blocked_until_ms: Vec<u64>,
    far_us: Vec<u64>,
}

impl Links {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut rng = SmallRng::seed_from_u64(plan.seed ^ 0x11_4b);
        let far_us = (0..plan.nodes).map(|_| rng.random_range(1_000..30_000)).collect();
        Self {
            seed: plan.seed,
            nodes: plan.nodes,
            latency: plan.latency,
            loss: plan.loss,
            twice: plan.twice,
            sent: vec![0; plan.nodes * plan.nodes],
            blocked_until_ms: vec![0; plan.nodes * plan.nodes],
            far_us,
        }
    }

    /// Nothing is lost any more, and nobody is cut off.
    pub(crate) fn heal(&mut self) {
        (self.loss, self.twice) = (0.0, 0.0);
        self.blocked_until_ms.fill(0);
    }

    /// From now on nothing gets from the nodes of `from` to the others, and the other way if `both`.
    pub(crate) fn block(&mut self, from: u64, both: bool, until_ms: u64) {
        let is_in = |n: usize| from >> (n % 64) & 1 == 1;
        for a in 0..self.nodes {
            for b in 0..self.nodes {
                if is_in(a) && !is_in(b) || both && !is_in(a) && is_in(b) {
                    let until = &mut self.blocked_until_ms[a * self.nodes + b];
                    *until = until_ms.max(*until);
                }
            }
        }
    }

    pub(crate) fn is_open(&self, from: usize, to: usize, now_ms: u64) -> bool {
        self.blocked_until_ms[from * self.nodes + to] <= now_ms
    }

    /// After how long each copy of the next message arrives: none, one or two.
    pub(crate) fn carry(&mut self, from: usize, to: usize, now_ms: u64) -> impl Iterator<Item = Duration> {
        let link = from * self.nodes + to;
        self.sent[link] += 1;
        let number = (link as u64) << 32 | u64::from(self.sent[link]);
        let mut rng = SmallRng::seed_from_u64(self.seed.rotate_left(40) ^ number);
        let copies = match () {
            () if !self.is_open(from, to, now_ms) || rng.random_bool(self.loss) => 0,
            () if rng.random_bool(self.twice) => 2,
            () => 1,
        };
        let way = self.far_us[from] + self.far_us[to];
        let latency = self.latency;
        (0..copies).map(move |_| {
            Duration::from_micros(match latency {
                Latency::House => rng.random_range(200..2_000),
                Latency::World => way + rng.random_range(0..=way / 3),
                Latency::Tail if rng.random_bool(0.1) => rng.random_range(5_000..3_000_000),
                Latency::Tail => 5_000,
            })
        })
    }
}
