//! What a seed means: the network, its weather, and everything that people and bad luck will do, as a list made up front, so that parts
//! of it can be left out when a short way to a failure is looked for.

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// The first thing happens then: the nodes have met.
const BEGIN_MS: u64 = 12_000;
/// One seed in so many lets clocks differ by ten minutes, and promises no convergence.
const SAFETY_EVERY: u64 = 8;
/// One seed in so many waits for all three head intervals before it looks, instead of looking as soon as all agree.
const PATIENT_EVERY: u64 = 5;
/// One seed in so many has the real DHT under it.
const RING_EVERY: u64 = 40;
/// More nodes than this have the model of the DHT only: the real one would take hours.
const RING_NODES_MAX: usize = 24;

/// How long a message is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Latency {
    /// A house: 0.2 to 2 ms.
    House,
    /// The world: each node 2 to 60 ms away from everything, and a third more when it is unlucky.
    World,
    /// 5 ms as a rule; one message in ten takes up to 3 s.
    Tail,
}

/// When a node crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Now,
    /// In its next batch that stores something.
    BeforeCommit,
    /// In its next batch that stores something, after so many effects.
    AfterEffects(usize),
}

/// What somebody who cheats does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// Copies with other sequences and signatures, heads with other counters.
    Forge,
    /// Versions that there are newer ones of, to neighbours and into the DHT.
    Replay,
    /// Two values of one sequence, each told to some; the other one dies sooner now and then.
    Equivocate,
    /// Versions and records that no honest maker signs, each told to some.
    BreakWord,
    /// A record from the future.
    Future,
    /// Names of nothing, noise, and questions without end.
    Flood,
    /// Bids that are too cheap, too late, or for other terms, each more than once.
    StrangeBids,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Lists an offer; a short one dies while the world is still bad.
    Create {
        short: bool,
    },
    /// So many nodes bid on one offer at once; the maker may change its mind in this moment.
    Bid {
        bidders: usize,
        maker_withdraws: bool,
    },
    Withdraw,
    /// Crashes and comes back.
    Crash {
        when: Moment,
        down_ms: u64,
    },
    /// Stands still, and goes on as if nothing had been.
    Pause {
        ms: u64,
    },
    DiskFull {
        ms: u64,
    },
    /// Its clock is set.
    Clock {
        by_ms: i64,
    },
    /// Keeps a copy of its store.
    Backup,
    /// The copy takes the store's place.
    LoseStore,
    /// The nodes of a set and the others do not reach each other.
    Part {
        set: u64,
        ms: u64,
    },
    /// What the nodes of a set send does not reach the others; what the others send arrives.
    Mute {
        set: u64,
        ms: u64,
    },
    Cheat(Mischief),
}

/// What is wrong with the nodes themselves, to see that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Who crashes loses the half of its store.
    Stores,
    /// Half of the nodes are not reached any more, also when the world has healed.
    Links,
    /// Nobody checks signatures.
    Checks,
    /// Nobody hears that others closed their offers.
    Closings,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub at_ms: u64,
    /// To whom, or by whom.
    pub node: usize,
    /// For what the deed leaves open, so that it stays the same deed when others are left out.
    pub dice: u64,
    pub deed: Deed,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>7} ms  node {:>2}  {:?}", self.at_ms, self.node, self.deed)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// The first so many cheat.
    pub evil: usize,
    /// How far each node's clock is from the world's.
    pub skew_ms: Vec<i64>,
    pub latency: Latency,
    pub loss: f64,
    pub twice: f64,
    /// Nodes that the model of the DHT stores a record on.
    pub closest: usize,
    /// Whether all replicas must become equal; otherwise only the rules of trading are watched.
    pub converges: bool,
    pub patient: bool,
    /// Whether the DHT is the real one.
    pub ring: bool,
    pub heals_ms: u64,
    pub steps: Vec<Step>,
    pub broken: Option<Broken>,
}

impl Plan {
    pub(crate) fn of(seed: u64, nodes: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let converges = seed % SAFETY_EVERY != SAFETY_EVERY - 1;
        let skew_max = if converges { [0, 2_000, 30_000, 60_000][rng.random_range(0..4)] } else { 600_000 };
        let skew_ms = (0..nodes).map(|_| rng.random_range(-skew_max..=skew_max)).collect();
        let mut plan = Self {
            seed,
            nodes,
            evil: rng.random_range(0..3) * nodes / 16,
            skew_ms,
            latency: [Latency::House, Latency::World, Latency::Tail][rng.random_range(0..3)],
            loss: f64::from(rng.random_range(0..=10)) / 100.0,
            twice: f64::from(rng.random_range(0..=10)) / 100.0,
            closest: rng.random_range(0..=6),
            converges,
            patient: seed.is_multiple_of(PATIENT_EVERY),
            ring: seed % RING_EVERY == 3 && nodes <= RING_NODES_MAX,
            heals_ms: rng.random_range(60_000..100_000),
            broken: None,
            steps: Vec::new(),
        };
        let count = 40 + 3 * nodes;
        plan.steps = (0..count).map(|_| plan.step(&mut rng)).collect();
        plan.steps.sort_by_key(|step| step.at_ms);
        plan
    }

    fn step(&self, rng: &mut StdRng) -> Step {
        let at_ms = rng.random_range(BEGIN_MS..self.heals_ms);
        let mut node = rng.random_range(0..self.nodes);
        let long = |rng: &mut StdRng| rng.random_range(1_000..40_000);
        let deed = match rng.random_range(0..100) {
            0..30 => Deed::Create { short: at_ms < 40_000 && rng.random_bool(0.15) },
            30..55 => Deed::Bid { bidders: rng.random_range(1..=3), maker_withdraws: rng.random_bool(0.15) },
            55..64 => Deed::Withdraw,
            64..75 => {
                let when = match rng.random_range(0..3) {
                    0 => Moment::Now,
                    1 => Moment::BeforeCommit,
                    _ => Moment::AfterEffects(rng.random_range(0..4)),
                };
                Deed::Crash { when, down_ms: rng.random_range(100..30_000) }
            }
            75..79 => Deed::Pause { ms: rng.random_range(100..20_000) },
            79..82 => Deed::DiskFull { ms: rng.random_range(100..10_000) },
            82..84 => Deed::Clock { by_ms: rng.random_range(-3_000..3_000) },
            84..86 => Deed::Backup,
            86 => Deed::LoseStore,
            87..90 => Deed::Part { set: rng.next_u64(), ms: long(rng) },
            90..93 => Deed::Mute { set: rng.next_u64() & rng.next_u64(), ms: long(rng) },
            _ if self.evil == 0 => Deed::Create { short: false },
            _ => {
                node = rng.random_range(0..self.evil);
                Deed::Cheat(match rng.random_range(0..8) {
                    0 => Mischief::Forge,
                    1 => Mischief::Replay,
                    2 => Mischief::Equivocate,
                    3 => Mischief::Future,
                    4 => Mischief::Flood,
                    5 | 6 => Mischief::BreakWord,
                    _ => Mischief::StrangeBids,
                })
            }
        };
        Step { at_ms, node, dice: rng.next_u64(), deed }
    }

    /// The same with only these steps.
    pub(crate) fn only(&self, steps: &[Step]) -> Self {
        Self { steps: steps.to_vec(), ..self.clone() }
    }
}
