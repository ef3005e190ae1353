//! Twelve node processes on a bad network: 50 ms one way, give or take 20, and every twentieth packet lost. What they list is equal
//! soon after a partition, a frozen node and a killed one; nothing acknowledged is lost, and nothing is sold twice.
//!
//! `make netem` runs it; `make test` does not, because it needs root and takes five minutes. `VINTNER_NETEM_SEED` replays a run's
//! choices (the machine's timing is its own).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod links;
mod world;

#[path = "../testnet/mod.rs"]
mod testnet;

use std::time::{Duration, Instant};
use world::{NODES, World};

/// How many seconds both sides of the partition go on without each other, unless `VINTNER_NETEM_PARTED` says another number.
const PARTED: u64 = 60;
/// How long a process is stopped: long enough for its neighbours to give it up.
const FROZEN: Duration = Duration::from_secs(30);
/// How long the others go on without the one that was killed.
const DOWN: Duration = Duration::from_secs(15);
/// A head interval, after which everybody knows what it lacks, and as long again to find the others and to fetch it.
const EQUAL_WITHIN: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and five minutes: make netem"]
async fn twelve_nodes_on_a_bad_network_end_with_equal_lists() {
    let seed = variable("VINTNER_NETEM_SEED", uuid::Uuid::now_v7().as_u64_pair().1);
    let parted = Duration::from_secs(variable("VINTNER_NETEM_PARTED", PARTED));
    println!("VINTNER_NETEM_SEED={seed}");
    let mut world = World::start(seed).await;
    let all: Vec<usize> = (0..NODES).collect();

    println!("{}", world.at_rest(Duration::from_secs(10)).await);
    let mut times = world.announce(48).await;
    times.sort();
    let of = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    println!("a new offer is on all {NODES} nodes: p50 {:.2?}, p99 {:.2?}", of(50), of(99));

    world.trade(&all, Duration::from_secs(20)).await;
    println!("after 20 s of trading: equal after {:.1?}", world.equal(EQUAL_WITHIN).await);

    // The last grape goes with the smaller side, so that it has a DHT of its own.
    world.links.part(&[0, 1, 2, 3, NODES]);
    let started = Instant::now();
    world.doubtful_bid(0, 4).await;
    tokio::join!(world.trade(&all[..4], parted), world.trade(&all[4..], parted));
    println!("parted for {:.0?}, {}", started.elapsed(), world.difference().await);
    world.links.heal();
    println!("after the partition: equal after {:.1?}", world.equal(EQUAL_WITHIN).await);

    let frozen = 6;
    world.nodes[frozen].process.signal("STOP");
    let others: Vec<usize> = (0..NODES).filter(|n| *n != frozen).collect();
    world.trade(&others, FROZEN).await;
    world.nodes[frozen].process.signal("CONT");
    println!("after {FROZEN:.0?} of SIGSTOP: equal after {:.1?}", world.equal(EQUAL_WITHIN).await);

    let killed = 2;
    world.nodes[killed].process.kill_9();
    let others: Vec<usize> = (0..NODES).filter(|n| *n != killed).collect();
    world.trade(&others, DOWN).await;
    world.nodes[killed].restart();
    println!("after kill -9 and a restart: equal after {:.1?}", world.equal(EQUAL_WITHIN).await);

    world.check().await;
    println!("{}", world.summary());
}

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
