//! The story of one network: it grows, lives through an hour of crashes, is parted and heals. What was found is printed; what is
//! less than it should be fails.

use crate::{
    life::{Found, Life, Tables, Tally},
    net::Traffic,
};
use std::time::{Duration, Instant};

/// Of what is announced or put and kept alive, this much must be found.
const FOUND_GOAL: f64 = 0.999;
/// A tenth of the nodes a minute.
const CHURN_PERMILLE: u32 = 100;
const LOSS_PERCENT: u32 = 10;
/// So much less of the own neighbourhood may be known after a partition than before.
const WHOLE_LESS_BY: f64 = 0.03;
/// Nodes whose tables are looked at.
const SAMPLE: usize = 200;

/// How large, and how long.
pub struct Plan {
    nodes: u32,
    asked_a_second: u32,
    /// A network that has grown from nothing in a minute has put its records anew by then.
    settles: Duration,
    minutes: u64,
    parted: Duration,
    heals: Duration,
    /// Both sides look up what the other has.
    across: Duration,
}

impl Plan {
    /// For every day: some seconds.
    pub fn small() -> Self {
        Self {
            nodes: 60,
            asked_a_second: 2,
            settles: Duration::from_mins(4),
            minutes: 3,
            parted: Duration::from_mins(2),
            heals: Duration::from_mins(3),
            across: Duration::from_mins(1),
        }
    }

    pub fn large(nodes: u32, minutes: u64) -> Self {
        Self {
            nodes,
            asked_a_second: 10,
            settles: Duration::from_mins(4),
            minutes,
            parted: Duration::from_mins(5),
            heals: Duration::from_mins(5),
            across: Duration::from_mins(2),
        }
    }
}

fn print_found(what: &str, found: Found) {
    println!("{what:<34} {:>9.4}%   {} of {}", found.share() * 100.0, found.found, found.asked);
}

fn print_tables(when: &str, tables: Tables) {
    let (known, down) = (tables.near_known * 100.0, tables.dead * 100.0);
    println!("{when:<34} {known:>9.2}%   of {:.0} nodes in a table {down:.1}% are down", tables.size);
}

fn print_took(took: &mut [Duration]) {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_millis();
    println!("{:<34} {:>7} ms   p90 {} ms, p99 {} ms", "a lookup took", at(0.5), at(0.9), at(0.99));
}

fn print_rate(what: &str, traffic: Traffic, node_seconds: f64) {
    let (datagrams, bytes) = (traffic.datagrams as f64 / node_seconds, traffic.bytes as f64 / node_seconds);
    println!("{what:<34} {datagrams:>10.2}   {bytes:.0} bytes with IP and UDP headers");
}

/// See the module's page.
pub fn churn_and_part(seed: u64, plan: &Plan) {
    let Plan { nodes, minutes, .. } = *plan;
    println!("{nodes} nodes, {minutes} min, {LOSS_PERCENT}% loss, a tenth crash a minute, seed {seed}");
    let started = Instant::now();
    let mut life = Life::begin(seed, nodes);
    life.net.loss_percent = LOSS_PERCENT;
    life.run(plan.settles);
    print_tables("near nodes known before any crash", life.tables(SAMPLE));
    life.asked_a_second = plan.asked_a_second;

    let tally = live_through_crashes(&mut life, minutes, started);
    let whole = life.tables(SAMPLE);
    print_tables("near nodes known", whole);
    let (healed, across) = part_and_heal(&mut life, plan);
    let seconds = started.elapsed().as_secs_f64();
    println!("{:<34} {seconds:>8.1} s   trace {:016x}", "that took", life.net.trace());

    let goals = [
        ("announcements", tally.announcements),
        ("records", tally.records),
        ("records of steady owners", tally.steady_records),
        ("announcements across the healed partition", across.announcements),
        ("records across the healed partition", across.records),
    ];
    for (what, found) in goals {
        let percent = found.share() * 100.0;
        assert!(found.share() >= FOUND_GOAL, "seed {seed}: {percent:.4}% of the {what} were found");
    }
    let (then, before) = (healed.near_known, whole.near_known);
    assert!(
        then >= before - WHOLE_LESS_BY,
        "seed {seed}: {then:.3} of the neighbours known, {before:.3} before"
    );
}

fn live_through_crashes(life: &mut Life, minutes: u64, started: Instant) -> Tally {
    life.churn_permille = CHURN_PERMILLE;
    life.tally = Tally::default();
    let (sent, received) = (life.net.sent, life.net.received);
    let mut node_seconds = 0.0;
    for minute in 1..=minutes {
        life.run(Duration::from_mins(1));
        node_seconds += 60.0 * life.nodes() as f64;
        if minute.is_multiple_of(10) {
            let (asked, seconds) = (life.tally.took.len(), started.elapsed().as_secs_f64());
            println!("  after {minute} min: {asked} lookups, {seconds:.0} s");
        }
    }
    let mut tally = std::mem::take(&mut life.tally);
    let Tally { crashed, joined, returned, .. } = tally;
    println!("{:<34} {crashed:>10}   joined {joined}, returned {returned}, {} up", "crashed", life.nodes());
    print_found("announcements found", tally.announcements);
    print_found("records found", tally.records);
    print_found("records of steady owners found", tally.steady_records);
    print_took(&mut tally.took);
    print_rate("sent by a node in a second", life.net.sent.since(sent), node_seconds);
    print_rate("received by a node in a second", life.net.received.since(received), node_seconds);
    tally
}

fn part_and_heal(life: &mut Life, plan: &Plan) -> (Tables, Tally) {
    life.net.parted = true;
    life.run(plan.parted);
    print_tables(&format!("parted for {} s", plan.parted.as_secs()), life.tables(SAMPLE));
    life.net.parted = false;
    life.across = true;
    life.run(plan.heals);
    let healed = life.tables(SAMPLE);
    print_tables(&format!("{} s after it healed", plan.heals.as_secs()), healed);
    life.tally = Tally::default();
    life.run(plan.across);
    let across = std::mem::take(&mut life.tally);
    print_found("of the other side: announcements", across.announcements);
    print_found("of the other side: records", across.records);
    (healed, across)
}
