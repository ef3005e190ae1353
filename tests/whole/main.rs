//! A simulator of whole nodes: many of them in one thread and in virtual time, from one seed each.
//!
//! Each node is a real [`vintner::exchange::Core`] and a real [`vintner::replication::core::Core`], wired as the node's drivers wire them:
//! what the one stores the other tells its neighbours, what neighbours tell is checked and judged by the one before the other believes it,
//! and all that nodes say to each other goes as bytes. Signatures are real. Around them:
//!
//! - **The store** (`../sim/node.rs`) is a list of committed events. What was not committed when a node crashes is gone; the disk may be
//!   full; an old copy may take its place, after which the owner waits until the network has told what the node forgot, and the others what
//!   they traded with it.
//! - **The network** (`links.rs`) is as fast as a house or as slow as the world, loses, repeats and reorders, is parted, also in one
//!   direction only. Nodes stand still and go on. Clocks differ by up to a minute; in one seed of eight by ten, and then only the rules
//!   of trading are watched.
//! - **The DHT** is a model (`mailbox.rs`); in one seed of forty it is a ring of real DHT cores (`ring.rs`).
//! - **Those who cheat** (`malice.rs`), up to an eighth of the nodes, forge, replay, sign twice, withhold, flood, and answer with what
//!   belongs to others.
//!
//! `plan.rs` makes the list of all that happens from the seed. All along `../sim/ledger.rs` watches: no offer has two trades, both sides of
//! a trade agree, what was acknowledged is not lost, nobody holds what nobody signed, bounds hold. Then the world heals, and within
//! three head intervals (`verdict.rs`) all honest nodes hold the same, list what is open and nothing else, know that they hold all, tell
//! their owners of nothing that hinders them, and take nobody for gone who is there. A node whose store is behind knows it soon after its
//! next head. When a seed fails, `shrink.rs` looks for the few happenings that are enough.
//!
//! The same seed gives the same run. `VINTNER_SIM_SEEDS=5000` runs more of them, `VINTNER_SIM_NODES=60` larger networks,
//! `VINTNER_SIM_SEED=17` replays one aloud, `VINTNER_SIM_SHRINK=0` does not look for a shorter one. `tests/mutants.sh` plants bugs and demands that this finds them.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "nobody imports a test, and one that cannot go on says so and stops"
)]

mod fate;
mod gossip;
#[allow(dead_code, reason = "the simulator of the exchange uses more of it")]
#[path = "../sim/ledger.rs"]
mod ledger;
mod links;
mod mailbox;
mod malice;
#[allow(dead_code, reason = "the simulator of the DHT uses more of it")]
#[path = "../dht_simulation/net.rs"]
mod net;
#[path = "../sim/node.rs"]
mod node;
#[allow(dead_code, reason = "the simulator of the exchange uses more of it")]
#[path = "../sim/people.rs"]
mod people;
mod plan;
mod ring;
#[path = "../support/seeds.rs"]
mod seeds;
mod shrink;
mod trade;
mod verdict;
mod world;

use plan::{Broken, Plan};
use seeds::{run_all, setting};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How many seeds `make test` runs.
const SEEDS: u64 = 200;
/// Nodes in each.
const NODES: u64 = 20;
/// Runs that are spent on making a failure short.
const SHRINK: u64 = 60;

/// What a run that broke no rule amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    trace: u64,
    happenings: u64,
    trades: u64,
    refusals: u64,
    records: u64,
}

/// How much of a run is told in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// What happened last, when it fails.
    Last,
    /// Everything, as it happens.
    Aloud,
}

/// The rule that a run broke, and what happened last.
type Failure = (String, VecDeque<String>);

/// Runs a plan. A panic inside a core is a broken rule like any other.
fn run(plan: Plan, told: Told) -> Result<Report, Failure> {
    catch_unwind(AssertUnwindSafe(|| world::World::new(plan, told).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err((format!("panic: {}", text.unwrap_or_default()), VecDeque::new()))
    })
}

/// Says how little is enough for a failure, and how to see it again.
fn explain(seed: u64, nodes: u64) -> String {
    let plan = Plan::of(seed, nodes as usize);
    let Err((rule, _)) = run(plan.clone(), Told::Nothing) else {
        return format!("seed {seed}: it did not fail again");
    };
    let steps = shrink::shrink(&plan, setting("VINTNER_SIM_SHRINK").unwrap_or(SHRINK), |plan| {
        run(plan.clone(), Told::Nothing).is_err()
    });
    let (rule_of_few, lines) = run(plan.only(&steps), Told::Last).err().unwrap_or_default();
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let lines: Vec<String> = lines.into_iter().rev().collect();
    let Plan { evil, latency, loss, twice, heals_ms, ring, .. } = plan;
    format!(
        "seed {seed}: {rule}\n\
         {nodes} nodes, {evil} of them cheat, {latency:?}, {loss} lost, {twice} twice, heals at {heals_ms} ms, real DHT: {ring}\n\
         of {} happenings these are enough for: {rule_of_few}\n{}\n\
         the last lines of that:\n{}\n\
         replay: VINTNER_SIM_SEED={seed} VINTNER_SIM_NODES={nodes} cargo test --test whole every_seed -- --nocapture",
        plan.steps.len(),
        steps.join("\n"),
        lines.join("\n")
    )
}

#[test]
fn every_seed_keeps_every_promise() {
    let nodes = setting("VINTNER_SIM_NODES").unwrap_or(NODES);
    if let Some(seed) = setting("VINTNER_SIM_SEED") {
        let report = run(Plan::of(seed, nodes as usize), Told::Aloud);
        assert!(report.is_ok(), "{}", explain(seed, nodes));
        return println!("seed {seed}: {report:?}");
    }
    let seeds = setting("VINTNER_SIM_SEEDS").unwrap_or(SEEDS);
    let trades_of = |seed| run(Plan::of(seed, nodes as usize), Told::Nothing).map(|report| report.trades);
    let trades = run_all(seeds, trades_of).unwrap_or_else(|bad| panic!("{}", explain(bad, nodes)));
    println!("{seeds} seeds of {nodes} nodes: {trades} trades");
    assert!(trades >= seeds, "only {trades} trades in {seeds} seeds: the workload proves nothing");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    // The second has the real DHT under it.
    for seed in [1, 3] {
        let first = run(Plan::of(seed, 8), Told::Nothing).unwrap();
        assert_eq!(first, run(Plan::of(seed, 8), Told::Nothing).unwrap());
        assert_ne!(first.trace, run(Plan::of(seed + 40, 8), Told::Nothing).unwrap().trace);
    }
}

#[test]
fn broken_nodes_are_noticed_and_the_way_there_is_made_short() {
    let rules = [
        (Broken::Stores, ["lost ", "before it was stored"]),
        (Broken::Links, ["holds", "listed by"]),
        (Broken::Checks, ["which nobody signed", "panic"]),
        (Broken::Closings, ["holds", "listed by"]),
    ];
    for (broken, rules) in rules {
        let mut plans = (0..20).map(|seed| Plan { broken: Some(broken), ..Plan::of(seed, 8) });
        let failure =
            plans.find_map(|plan| run(plan.clone(), Told::Nothing).err().map(|(rule, _)| (rule, plan)));
        let (rule, plan) = failure.unwrap_or_else(|| panic!("{broken:?} is not noticed"));
        assert!(rules.iter().any(|part| rule.contains(part)), "{broken:?}: {rule}");
        let few = shrink::shrink(&plan, 200, |plan| run(plan.clone(), Told::Nothing).is_err());
        assert!(few.len() <= plan.steps.len() / 2, "{broken:?}: {} of {}", few.len(), plan.steps.len());
    }
}
