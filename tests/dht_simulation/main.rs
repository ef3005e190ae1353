//! The DHT's core in virtual time, by the hundred and by the thousand, on a network that loses a tenth of the datagrams and while
//! a tenth of the nodes crash each minute. `make test` runs a small network for a few minutes; `make sim-dht` a large one for an
//! hour. A run is its seed: the same one gives the same run, which `the_same_seed_gives_the_same_run` holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod life;
mod net;

use life::{Found, Life, Tables};
use net::Traffic;
use std::{
    env,
    time::{Duration, Instant},
};
use vintner::dht::core::{GetMode, OpId, Request};

/// Of what was announced or put and is kept alive, this much must be found.
const FOUND_GOAL: f64 = 0.999;
/// A tenth of the nodes a minute.
const CHURN_PERMILLE: u32 = 100;
const LOSS_PERCENT: u32 = 10;
/// A network that has grown from nothing in a minute has put its records anew by then.
const SETTLES: Duration = Duration::from_mins(4);
/// How long the network is parted.
const PARTED: Duration = Duration::from_mins(5);
/// By then tables are whole again, and everybody finds what the other side has.
const WHOLE_WITHIN: Duration = Duration::from_mins(5);
/// So much of the own neighbourhood may still be missing in a table, against before.
const WHOLE_LESS_BY: f64 = 0.03;
const SAMPLE: usize = 200;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

struct Rates {
    sent: f64,
    sent_bytes: f64,
    received: f64,
    received_bytes: f64,
}

fn rates(life: &Life, before: (Traffic, Traffic), nodes: f64, time: Duration) -> Rates {
    let per = nodes * time.as_secs_f64();
    let (sent, received) = (life.net.sent.since(before.0), life.net.received.since(before.1));
    Rates {
        sent: sent.datagrams as f64 / per,
        sent_bytes: sent.bytes as f64 / per,
        received: received.datagrams as f64 / per,
        received_bytes: received.bytes as f64 / per,
    }
}

fn print_found(what: &str, found: Found) {
    println!("{what:<34} {:>9.4}%   {} of {}", found.share() * 100.0, found.found, found.asked);
}

fn print_tables(when: &str, tables: Tables) {
    println!(
        "{when:<34} {:>9.2}%   of {:.0} nodes in it {:.1}% are down",
        tables.near_known * 100.0,
        tables.size,
        tables.dead * 100.0
    );
}

fn print_rates(rates: &Rates) {
    println!("{:<34} {:>10.2}   {:.0} bytes", "sent by a node in a second", rates.sent, rates.sent_bytes);
    println!(
        "{:<34} {:>10.2}   {:.0} bytes",
        "received by a node in a second", rates.received, rates.received_bytes
    );
}

/// The whole story of one network; what it found is printed, and what it missed fails.
fn churn_and_part(seed: u64, nodes: u32, minutes: u64) -> u64 {
    println!("{nodes} nodes, {minutes} min, {LOSS_PERCENT}% loss, seed {seed}");
    let started = Instant::now();
    let mut life = Life::begin(seed, nodes);
    life.net.loss_percent = LOSS_PERCENT;
    life.run(SETTLES);
    if env::var_os("VINTNER_SIM_DHT_TRACE").is_some() { life.debug(); }
    print_tables("near nodes known before any crash", life.tables(SAMPLE));

    life.churn_permille = CHURN_PERMILLE;
    life.tally = life::Tally::default();
    let (before, mut population) = ((life.net.sent, life.net.received), 0.0);
    for minute in 1..=minutes {
        life.run(Duration::from_mins(1));
        population += life.nodes() as f64 / minutes as f64;
        if minute.is_multiple_of(10) {
            println!(
                "  {minute} min: {} asked, {:.0} s",
                life.tally.took.len(),
                started.elapsed().as_secs_f64()
            );
        }
    }
    let tally = std::mem::take(&mut life.tally);
    println!(
        "{:<34} {:>10}   joined {}, returned {}, {population:.0} nodes up on average",
        "crashed", tally.crashed, tally.joined, tally.returned
    );
    print_found("announcements found", tally.announcements);
    print_found("records found", tally.records);
    print_found("records of steady owners found", tally.steady_records);
    let mut took = tally.took;
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_millis();
    println!("{:<34} {:>7} ms   p90 {} ms, p99 {} ms", "a lookup took", at(0.5), at(0.9), at(0.99));
    print_rates(&rates(&life, before, population, Duration::from_mins(minutes)));
    let whole = life.tables(SAMPLE);
    print_tables("near nodes known", whole);

    life.net.parted = true;
    life.run(PARTED);
    print_tables("when it was parted for 5 min", life.tables(SAMPLE));
    life.net.parted = false;
    life.across = true;
    life.run(WHOLE_WITHIN);
    let healed = life.tables(SAMPLE);
    print_tables("5 min after it healed", healed);
    life.tally = life::Tally::default();
    life.run(Duration::from_mins(2));
    print_found("of the other side's found then", life.tally.announcements);
    print_found("... records", life.tally.records);
    println!(
        "{:<34} {:>10.1} s  of one core, trace {:016x}",
        "that took",
        started.elapsed().as_secs_f64(),
        life.net.trace()
    );

    let goals = [
        ("announcements", tally.announcements.share()),
        ("records", tally.records.share()),
        ("records of steady owners", tally.steady_records.share()),
        ("announcements across the healed partition", life.tally.announcements.share()),
        ("records across the healed partition", life.tally.records.share()),
    ];
    for (what, share) in goals {
        assert!(share >= FOUND_GOAL, "seed {seed}: {:.4}% of the {what} were found", share * 100.0);
    }
    assert!(
        healed.near_known >= whole.near_known - WHOLE_LESS_BY,
        "seed {seed}: tables have not converged: {:.3} then, {:.3} before",
        healed.near_known,
        whole.near_known
    );
    life.net.trace()
}

#[test]
fn a_churning_network_finds_what_is_kept_alive_and_grows_together_after_a_partition() {
    let nodes = setting("VINTNER_SIM_DHT_NODES", 120) as u32;
    churn_and_part(setting("VINTNER_SIM_DHT_SEED", 1), nodes, setting("VINTNER_SIM_DHT_MINUTES", 3));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut life = Life::begin(seed, 40);
        (life.net.loss_percent, life.churn_permille) = (LOSS_PERCENT, 500);
        life.run(Duration::from_secs(20));
        (life.net.trace(), life.net.sent.datagrams)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// What one lookup costs in a calm ring, which `make bench` shows beside a stock grape's.
#[test]
fn a_lookup_in_a_ring_of_a_hundred_costs_little_more_than_asking_the_nearest() {
    let mut life = Life::begin(3, 100);
    life.run(Duration::from_mins(2));
    let lookups = 200u64;
    let mut life_cost = |record: bool| {
        let (mut queries, mut bytes, mut datagrams) = (0, 0, 0);
        for n in 0..lookups {
            let (asker, target) = (life.somebody(), life.nowhere());
            let request = if record {
                Request::Get { target, salt: std::sync::Arc::default(), mode: GetMode::Network }
            } else {
                Request::Lookup { name: target.0[..].into() }
            };
            let asked = |life: &Life| life.net.core(asker).unwrap().status().queries_out;
            let (before, sent) = (asked(&life), life.net.sent);
            life.net.start_op(asker, OpId(1_000_000 + n), request);
            // A second without anybody else: what is sent meanwhile is little, and is counted too.
            life.net.run(life.net.now.plus(Duration::from_secs(1)));
            queries += asked(&life) - before;
            let sent = life.net.sent.since(sent);
            bytes += sent.bytes;
            datagrams += sent.datagrams;
        }
        let of = |sum: u64| sum as f64 / lookups as f64;
        println!(
            "{} at 100 nodes: {:.1} queries, {:.1} datagrams, {:.0} bytes with UDP and IP headers",
            if record { "get" } else { "get_peers" },
            of(queries),
            of(datagrams),
            of(bytes)
        );
        of(queries)
    };
    let (lookup, get) = (life_cost(false), life_cost(true));
    assert!(lookup <= 31.0 && get <= 31.0, "a stock grape asks 27 to 31");
}
