//! The DHT's core in virtual time, by the hundred and by the thousand, on a network that loses a tenth of the datagrams and while
//! a tenth of the nodes crash each minute. `make test` runs a small network for a few minutes, `make sim-dht` a large one for an
//! hour, and prints what it found. A run is its seed: the same one gives the same run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod cost;
mod life;
#[allow(dead_code, reason = "the simulator of whole nodes uses more of it")]
mod net;
mod report;
#[path = "../support/seeds.rs"]
mod seeds;

use life::Life;
use report::{Plan, churn_and_part};
use seeds::setting;
use std::time::Duration;

#[test]
fn a_churning_network_finds_what_is_kept_alive_and_grows_together_after_a_partition() {
    let seed = setting("VINTNER_SIM_DHT_SEED").unwrap_or(1);
    let plan = match (setting("VINTNER_SIM_DHT_NODES"), setting("VINTNER_SIM_DHT_MINUTES")) {
        (None, None) => Plan::small(),
        (nodes, minutes) => Plan::large(nodes.unwrap_or(1000) as u32, minutes.unwrap_or(60)),
    };
    churn_and_part(seed, &plan);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut life = Life::begin(seed, 20);
        (life.net.loss_percent, life.churn_permille, life.asked_a_second) = (10, 500, 2);
        life.run(Duration::from_secs(20));
        (life.net.trace(), life.net.sent.datagrams)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_calm_network_that_was_parted_grows_together_without_anybody_to_join_through() {
    let mut life = Life::begin(7, 50);
    life.run(Duration::from_mins(2));
    // From here on nobody can be joined through: only who was lost can tell of the other side.
    (0..life::BOOTSTRAP).for_each(|who| life.leave(who));
    life.net.parted = true;
    life.run(Duration::from_mins(8));
    assert!(life.tables(50).near_known < 0.6, "it was not parted");
    life.net.parted = false;
    life.run(Duration::from_mins(3));
    let healed = life.tables(50);
    assert!(healed.near_known > 0.97, "{:.3} of the neighbours are known", healed.near_known);
}
