//! A node that joins late, and one that starts again, in a network with many offers.

use super::{
    figures::{Figures, cpu_of, resident_mb},
    http::Connection,
    offers::fill,
    processes::{Joined, Network},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(10);
/// Until logs are written and garbage is given back, as far as it will be.
const SETTLES: Duration = Duration::from_secs(5);

/// Fills the network with so many offers of one maker, then measures how long a newcomer takes to hold them all, what it needs for one,
/// and how long it takes to list them after a restart.
pub(super) fn late(network: &Network, offers: u32, figures: &mut Figures) -> Result<()> {
    let wrong = fill(network, u64::from(offers))?;
    figures.insert("join_errors".into(), wrong as f64);
    let published = |node: &Value| node["outbox"]["unpublished"] == 0;
    until(network, network.apis[0], "the offers to be in the DHT", published)?;
    std::thread::sleep(SETTLES);

    let cpu = cpu_of(&network.processes)?;
    let started = Instant::now();
    let Joined { api, process } = network.join()?;
    let idle = until_answered(network, api)?;
    let before = resident_mb(process)?;
    let holds_all = |node: &Value| node["offers"]["listed"].as_u64() >= Some(u64::from(offers));
    let joined = until(network, api, "the newcomer to list everything", holds_all)?;
    figures.insert("join_s".into(), joined.duration_since(started).as_secs_f64());
    figures.insert("join_fetch_s".into(), joined.duration_since(idle).as_secs_f64());
    let others = cpu_of(&network.processes)?.saturating_sub(cpu);
    let own = cpu_of(&[process])?;
    figures.insert("join_own_cpu_us".into(), own.as_secs_f64() * 1e6 / f64::from(offers));
    figures.insert("join_others_cpu_us".into(), others.as_secs_f64() * 1e6 / f64::from(offers));
    std::thread::sleep(SETTLES);
    figures.insert("join_record_kb".into(), (resident_mb(process)? - before) * 1e3 / f64::from(offers));

    network.leave(process)?;
    let started = Instant::now();
    let Joined { api, .. } = network.join()?;
    let listed = until(network, api, "the newcomer to list everything again", holds_all)?;
    figures.insert("restart_s".into(), listed.duration_since(started).as_secs_f64());
    Ok(())
}

fn node(api: SocketAddr) -> Result<Value> {
    let answer = Connection::open(api)?.ask("GET", "/api/v1/node", "")?;
    ensure!(answer.status == 200, "a node was answered {}", answer.status);
    serde_json::from_str(&answer.body).context("a node that is no JSON")
}

/// When the node answers for the first time.
fn until_answered(network: &Network, api: SocketAddr) -> Result<Instant> {
    until(network, api, "the newcomer to answer", |_| true)
}

/// When the node says so for the first time.
fn until(network: &Network, api: SocketAddr, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Instant> {
    let started = Instant::now();
    loop {
        if node(api).is_ok_and(|node| is_so(&node)) {
            return Ok(Instant::now());
        }
        network.check()?;
        ensure!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
