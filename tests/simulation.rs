//! A simulator of the exchange core: whole networks in one thread and in virtual time, from one seed each.
//!
//! Two to six nodes run the real [`vintner::exchange::Core`] through [`vintner::exchange::run_batch`], the real signatures and
//! the real RPC envelope. Everything around them is a model that is as hostile as the world may be:
//!
//! - **The store** (`sim/node.rs`) is a list of committed events. What was not committed when the node stops is gone. A batch
//!   with nothing that must be durable may be committed late, and is then lost by a crash. The disk may be full: then the
//!   batch is refused, replies turn into `StorageFull`, and the core is rebuilt from the store. A store may be replaced by an
//!   old backup of itself; in the end every node asks the others for its trades with them, and both sides hold the same.
//! - **Crashes** fall before a commit, after it and before its effects, and between one effect and the next.
//! - **The network** (`sim/world.rs`) loses, repeats, delays and so reorders bids, answers and records; it replays old records.
//! - **Clocks** differ by seconds and step back.
//! - **Other people** (`sim/people.rs`): *Mallory* forges replies to bids of others; *strangers* sign bids by hand (too cheap,
//!   too late, with other terms, with a used id); a *crook* makes offers, answers with trades about other bids, and signs two
//!   values of one sequence, or values from the future.
//!
//! `sim/ledger.rs` watches from outside and knows the rules: nothing is sold twice or after it was withdrawn; what was
//! acknowledged is in the store, for ever; who trades holds what the other side holds; one bid has one answer. After a while
//! the world *heals* (no more faults, everybody is up, records are passed on every minute) and hours pass: then no bid may be
//! in doubt, replicas agree, every caller has had a reply, and replaying each store gives the very state of its node. Weeks
//! later everything that may be forgotten is.
//!
//! The same seed gives the same run. `VINTNER_SIM_SEEDS=5000` runs more of them, `VINTNER_SIM_SEED=17` replays one and
//! prints what happened. `tests/mutants.sh` plants bugs (`cfg(mutant = "...")`) and demands that this simulator finds each.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "nobody imports a test, and one that cannot go on says so and stops"
)]

#[path = "support/seeds.rs"]
mod seeds;
mod sim;

use seeds::{run_all, setting};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many seeds `make test` runs.
const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = setting("VINTNER_SIM_SEED") {
        match sim::run(seed, true) {
            Ok(report) => println!("seed {seed}: {report:?}"),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
        return;
    }
    let seeds = setting("VINTNER_SIM_SEEDS").unwrap_or(SEEDS);
    let given_up = AtomicU64::new(0);
    let run = |seed| {
        let report = sim::run(seed, false)?;
        given_up.fetch_add(report.given_up, Ordering::Relaxed);
        Ok::<_, String>(report.trades)
    };
    let trades = run_all(seeds, run).unwrap_or_else(|seed: u64| {
        let failure = sim::run(seed, true).err().unwrap_or_else(|| "it did not fail again".into());
        panic!(
            "seed {seed}: {failure}\nreplay: VINTNER_SIM_SEED={seed} cargo test --test simulation every_seed -- --nocapture"
        )
    });
    assert!(trades >= seeds, "only {trades} trades in {seeds} seeds: the workload proves nothing");
    let given_up = given_up.into_inner();
    println!("{trades} trades, {given_up} bids given up");
    assert!(
        given_up >= seeds / 50,
        "only {given_up} bids were given up in {seeds} seeds: the workload proves nothing"
    );
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for seed in 0..5 {
        let first = sim::run(seed, false).unwrap();
        assert_eq!(first, sim::run(seed, false).unwrap());
        assert_ne!(first.trace_hash, sim::run(seed + 1000, false).unwrap().trace_hash);
    }
}
