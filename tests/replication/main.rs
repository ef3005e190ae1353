//! Networks of [`vintner::replication::core`] in virtual time: does everybody come to hold the same, and soon?
//!
//! `world.rs` moves what the cores say between them; what a check of a signature would show it knows from a table. In
//! `after_hard_times` makers create, change and cheat, nodes crash and return with what they stored, the network is parted again and
//! again, messages are lost, clocks differ by a minute, and up to a sixth of the nodes lie: forged copies, old versions, names of
//! nothing, lists that lack something or add up to nothing. Three head intervals after all that ends the honest ones must hold the same,
//! know that they do, and take nobody for gone who is there.
//!
//! The same seed gives the same run. `VINTNER_SIM_SEEDS=5000` runs more of them, `VINTNER_SIM_NODES=60` larger networks,
//! `VINTNER_SIM_SEED=17` replays one. `tests/mutants.sh` plants bugs and demands that this finds each.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "nobody imports a test, and one that cannot go on says so and stops"
)]

#[path = "../support/seeds.rs"]
mod seeds;
mod synced;
mod world;

use rand::RngExt;
use seeds::{run_all, setting};
use std::time::Duration;
use vintner::{replication::core::Core, time::Now};
use world::{Weather, World};

const HOUR: Duration = Duration::from_hours(1);
const CALM: Weather = Weather { latency: (Duration::from_millis(30), Duration::from_millis(30)), loss: 0.0 };

fn network(seed: u64, count: usize, weather: Weather) -> World {
    let mut world = World::new(seed, weather);
    for _ in 0..count {
        let n = world.add();
        world.start(n);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(20));
    world
}

#[test]
fn a_record_reaches_everybody_soon_and_in_few_copies() {
    let count = setting("VINTNER_SIM_NODES").unwrap_or(100) as usize;
    let mut world = network(1, count, CALM);
    // A maker's tree grows with its second head, when everybody is there, and with the first records.
    world.run(Duration::from_mins(1));
    for _ in 0..20 {
        let n = world.rng.random_range(0..count);
        world.make(n, None, HOUR);
        world.run(Duration::from_millis(500));
    }
    let received = |world: &World| -> (u64, u64) {
        let counters = world.nodes.iter().filter_map(|node| node.core.as_ref()).map(Core::counters);
        counters.fold((0, 0), |(all, wanted), c| (all + c.records_received, wanted + c.wanted))
    };
    let before = received(&world);
    let mut times: Vec<Duration> = Vec::new();
    let mut slowest: Duration = Duration::ZERO;
    // Each minute each node hears a head of each: at 1,000 nodes that is most of the work.
    let (records, idle_minutes) = if count > 300 { (20, 1) } else { (50, 3) };
    for _ in 0..records {
        let n = world.rng.random_range(0..count);
        let made_at = world.now;
        let key = world.make(n, None, HOUR);
        world.run(Duration::from_secs(2));
        let target = vintner::bep44::Target::of_key(&key, b"");
        let mut held: Vec<Now> =
            world.held_at.iter().filter(|((t, _), _)| *t == target).flat_map(|(_, at)| at.clone()).collect();
        held.sort();
        assert_eq!(held.len(), count, "everybody holds it");
        times.push(held[count * 99 / 100 - 1].since(made_at));
        slowest = slowest.max(held[count - 1].since(made_at));
    }
    times.sort();
    let after = received(&world);
    let copies = (after.0 - before.0) as f64 / (records * count) as f64;
    // Then nobody makes anything any more: what is left is heads.
    let sent = |world: &World| world.nodes.iter().map(|node| node.bytes_sent).sum::<u64>();
    let busy = sent(&world);
    world.run(Duration::from_mins(idle_minutes));
    let idle = (sent(&world) - busy) as f64 / count as f64 / (idle_minutes * 60) as f64;
    println!(
        "{count} nodes: 99% in {:?} (median), {:?} (worst); all in {slowest:?}; {copies:.2} copies a node, {} asked for; {idle:.0} bytes of heads and comparisons a second and node",
        times[times.len() / 2],
        times[times.len() - 1],
        after.1 - before.1,
    );
    assert!(times[times.len() - 1] <= Duration::from_millis(300), "{times:?}");
    assert!(copies <= 2.0, "{copies}");
    assert_eq!(world.difference(), None);
}

#[test]
fn a_late_joiner_and_one_that_was_cut_off_hold_what_the_others_hold() {
    let mut world = network(2, 3, CALM);
    for n in 0..1000 {
        world.make(n % 3, None, HOUR);
    }
    world.run(Duration::from_secs(3));
    let late = world.add();
    world.start(late);
    world.run(Duration::from_secs(2));
    assert_eq!(world.difference(), None);
    world.nodes[late].side = 1;
    let keys: Vec<[u8; 32]> = (0..100).map(|n| world.make(n % 3, None, HOUR)).collect();
    world.run(Duration::from_secs(30));
    for (n, key) in keys.iter().enumerate().take(50) {
        world.make(n % 3, Some(*key), HOUR);
    }
    world.run(Duration::from_secs(30));
    assert!(world.difference().is_some());
    world.nodes[late].side = 0;
    world.run(Duration::from_mins(1));
    assert_eq!(world.difference(), None);
}

#[test]
fn a_maker_that_falls_silent_becomes_stale_everywhere_and_comes_back() {
    let mut world = network(3, 6, CALM);
    world.make(0, None, HOUR);
    world.run(Duration::from_secs(70));
    let maker = world.nodes[0].id;
    let stale = |world: &World| (1..6).filter(|n| world.nodes[*n].stale.contains(&maker)).count();
    assert_eq!(stale(&world), 0);
    world.stop(0);
    world.run(Duration::from_secs(110));
    assert_eq!(stale(&world), 0, "two heads may be lost");
    world.run(Duration::from_secs(90));
    assert_eq!(stale(&world), 5);
    world.start(0);
    world.run(Duration::from_secs(10));
    assert_eq!(stale(&world), 0);
}

#[test]
fn the_heads_of_a_busy_maker_make_nobody_ask() {
    // News overtakes heads, and heads overtake news.
    let weather = Weather { latency: (Duration::from_millis(1), Duration::from_millis(100)), loss: 0.0 };
    let mut world = network(4, 6, weather);
    let keys: Vec<[u8; 32]> = (0..1000).map(|_| world.make(0, None, HOUR)).collect();
    world.run(Duration::from_mins(2));
    let jobs = |world: &World| -> u64 {
        world.nodes.iter().filter_map(|node| node.core.as_ref()).map(|core| core.counters().jobs).sum()
    };
    let before = jobs(&world);
    for key in keys {
        world.make(0, Some(key), HOUR);
        world.run(Duration::from_millis(200));
    }
    assert_eq!(jobs(&world) - before, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.difference(), None);
}

#[test]
fn nobody_stays_the_neighbour_of_a_liar() {
    let mut world = network(5, 6, CALM);
    for n in 0..6 {
        world.make(n, None, HOUR);
    }
    world.run(Duration::from_secs(5));
    world.nodes[5].is_evil = true;
    let liar = world.nodes[5].id;
    for _ in 0..10 {
        world.pester(5);
        world.run(Duration::from_secs(2));
    }
    for n in 0..5 {
        let core = world.nodes[n].core.as_ref().unwrap();
        assert!(!core.status().neighbours.contains(&liar), "node {n}");
        assert!(!core.status().neighbours.is_empty(), "node {n}");
    }
    assert_eq!(world.difference(), None);
}

#[test]
fn two_halves_that_lost_each_other_become_one() {
    for seed in 0..10 {
        let mut world = network(100 + seed, 12, CALM);
        for n in 0..12 {
            world.make(n, None, HOUR);
        }
        world.run(Duration::from_secs(10));
        (0..6).for_each(|n| world.nodes[n].side = 1);
        world.run(Duration::from_secs(400));
        let key = world.make(0, None, HOUR);
        world.make(7, None, HOUR);
        // Its maker is gone before the halves meet.
        world.run(Duration::from_secs(5));
        world.stop(0);
        world.run(Duration::from_secs(200));
        (0..6).for_each(|n| world.nodes[n].side = 0);
        world.run(Duration::from_mins(3));
        assert_eq!(world.difference(), None, "seed {seed}");
        let target = vintner::bep44::Target::of_key(&key, b"");
        assert!(world.nodes[9].replica.contains_key(&target), "seed {seed}");
    }
}

/// What happened in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    trace: u64,
    handled: u64,
    records: usize,
}

/// A network of `count` nodes lives through minutes of loss, partitions, crashes and fraud, and then heals.
fn hard_times(seed: u64, count: usize) -> Result<Report, String> {
    let slow = Duration::from_millis(10 + 10 * (seed % 10));
    let weather = Weather { latency: (Duration::from_millis(1), slow), loss: 0.01 * (seed % 11) as f64 };
    let mut world = network(seed, count, weather);
    for n in 0..count {
        world.nodes[n].ahead_ms = world.rng.random_range(-30_000..=30_000);
    }
    let evil = (seed % 3) as usize * count / 12;
    (0..evil).for_each(|n| world.nodes[n].is_evil = true);
    let mut keys: Vec<(usize, [u8; 32])> = Vec::new();
    for _ in 0..300 {
        let n = world.rng.random_range(0..count);
        let is_up = world.nodes[n].core.is_some();
        match world.rng.random_range(0..100) {
            0..40 if is_up => keys.push((n, world.make(n, None, HOUR))),
            // Some live for less than the run.
            40..45 if is_up => keys.push((n, world.make(n, None, Duration::from_secs(100)))),
            45..65 if !keys.is_empty() => {
                let (maker, key) = keys[world.rng.random_range(0..keys.len())];
                if world.nodes[maker].core.is_some() && !world.is_dead(maker, key) {
                    world.make(maker, Some(key), HOUR);
                }
            }
            65..68 if !keys.is_empty() => {
                // Two values of one sequence, told to two nodes.
                let (maker, key) = keys[world.rng.random_range(0..keys.len())];
                world.cheat(maker, key);
            }
            68..73 => world.stop(n),
            97..100 if evil > 0 => (0..evil).for_each(|n| world.pester(n)),
            73..85 if !is_up => world.start(n),
            85..90 => {
                for n in 0..count {
                    world.nodes[n].side = world.rng.random_range(0..2);
                }
            }
            90..97 => world.nodes.iter_mut().for_each(|node| node.side = 0),
            _ => {}
        }
        let pause = Duration::from_millis(world.rng.random_range(0..2000));
        world.run(pause);
    }
    world.nodes.iter_mut().for_each(|node| node.side = 0);
    for n in 0..count {
        if world.nodes[n].core.is_none() && world.rng.random_bool(0.8) {
            world.start(n);
        }
    }
    world.weather.loss = 0.0;
    world.run(Duration::from_secs(185));
    if let Some(difference) = world.difference() {
        return Err(difference);
    }
    for n in world.up() {
        let core = world.nodes[n].core.as_ref().unwrap();
        let status = core.status();
        let live: Vec<_> = world.up().into_iter().map(|n| world.nodes[n].id).collect();
        if let Some(stale) = world.nodes[n].stale.iter().find(|maker| live.contains(maker)) {
            let who = (0..count).find(|n| world.nodes[*n].id == *stale).unwrap();
            let core = world.nodes[who].core.as_ref().unwrap();
            return Err(format!(
                "node {n} takes node {who} for stale, which lives: {:?} {:?}; {:?}; {:?}",
                core.status().neighbours.len(),
                core.counters(),
                status,
                world.nodes[n].core.as_ref().unwrap().counters()
            ));
        }
        if status.neighbours.is_empty() && live.len() > 1 {
            return Err(format!("node {n} has no neighbours"));
        }
        if let Some(why) = synced::lacks(&world, n).filter(|_| world.cheats() == 0) {
            return Err(why);
        }
        if status.behind > world.cheats() {
            let heads: Vec<_> = core.behind().cloned().collect();
            let wall = world.wall(n);
            let core = world.nodes[n].core.as_mut().unwrap();
            let held: Vec<_> = heads
                .iter()
                .map(|head| {
                    (
                        core.index().summary(&head.maker, head.at),
                        core.index().summary(&head.maker, wall),
                        wall.since(head.at),
                    )
                })
                .collect();
            return Err(format!(
                "node {n} is behind {} makers, {} cheated: {heads:?}, holds {held:?}",
                status.behind,
                world.cheats()
            ));
        }
    }
    Ok(Report { trace: world.trace, handled: world.handled, records: world.listed(world.up()[0]).len() })
}

#[test]
fn after_hard_times_all_replicas_are_equal() {
    let count = setting("VINTNER_SIM_NODES").unwrap_or(12) as usize;
    let run = |seed| hard_times(seed, count).map(|report| report.records as u64);
    let records = match setting("VINTNER_SIM_SEED") {
        Some(seed) => run(seed).map_err(|_| seed),
        None => run_all(setting("VINTNER_SIM_SEEDS").unwrap_or(40), run),
    };
    let records = records.unwrap_or_else(|seed| {
        let wrong = run(seed).err().unwrap_or_else(|| "it did not fail again".into());
        panic!(
            "seed {seed}: {wrong}\nreplay: VINTNER_SIM_SEED={seed} VINTNER_SIM_NODES={count} cargo test --test replication after_hard_times"
        )
    });
    assert!(records > 0);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let report = hard_times(1, 8).unwrap();
    assert_eq!(hard_times(1, 8).unwrap(), report);
    assert_ne!(hard_times(2, 8).unwrap().trace, report.trace);
}
