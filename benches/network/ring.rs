//! Six grapes: what they take while nobody asks, and how long lookups take after one of them died.

use super::{
    figures::{Figures, Latencies, cpu_of, resident_mb},
    http::Connection,
    processes::{Ring, System},
};
use anyhow::{Context, Result, ensure};
use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const GRAPES: usize = 6;
/// Lookups on each grape at most.
const LOOKUPS_MAX: u32 = 500;
/// Between two lookups while the others get to know of the death.
const LOOKUP_EVERY: Duration = Duration::from_secs(1);

/// `wait`: how long they are idle, and then how long one is dead before it counts.
pub(super) fn idle_and_dead(
    system: &System,
    dir: &Path,
    wait: Duration,
    time: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let mut ring = Ring::start(system, GRAPES, &[], dir)?;
    idle(&ring, wait, figures)?;
    ring.kill_last()?;
    // The network is in use meanwhile, as one would be.
    lookups(&ring, "first minute", wait, LOOKUP_EVERY)?;
    let (mut latencies, errors) = lookups(&ring, "after it", time, Duration::ZERO)?;
    latencies.report("dead_node_lookup", figures);
    figures.insert("dead_node_lookup_errors".into(), errors as f64);
    ring.check()
}

/// The means of the six.
fn idle(ring: &Ring, time: Duration, figures: &mut Figures) -> Result<()> {
    let (cpu, began) = (cpu_of(&ring.processes)?, Instant::now());
    thread::sleep(time);
    let cpu = cpu_of(&ring.processes)?.saturating_sub(cpu).as_secs_f64() / GRAPES as f64;
    let memory: f64 = ring.processes.iter().map(|process| resident_mb(*process)).sum::<Result<f64>>()?;
    figures.insert("grape_idle_mb".into(), memory / GRAPES as f64);
    figures.insert("grape_idle_core_percent".into(), cpu * 100.0 / began.elapsed().as_secs_f64());
    ring.check()
}

/// Lookups of names that nobody has asked for, on each grape one after the other and on all of them at once.
fn lookups(ring: &Ring, names: &str, time: Duration, every: Duration) -> Result<(Latencies, u64)> {
    let ends = Instant::now() + time;
    let (mut all, mut errors) = (Latencies::default(), 0);
    let each = thread::scope(|scope| {
        let tasks: Vec<_> = ring
            .http
            .iter()
            .map(|grape| scope.spawn(move || lookups_on(*grape, names, ends, every)))
            .collect();
        tasks.into_iter().map(|task| task.join().ok().context("a thread failed")?).collect::<Result<Vec<_>>>()
    })?;
    for (latencies, wrong) in each {
        all.append(latencies);
        errors += wrong;
    }
    ensure!(all.len() > 0, "no lookup was answered");
    Ok((all, errors))
}

fn lookups_on(grape: SocketAddr, names: &str, ends: Instant, every: Duration) -> Result<(Latencies, u64)> {
    let mut connection = Connection::open(grape)?;
    let (mut latencies, mut wrong) = (Latencies::default(), 0);
    for n in 0..LOOKUPS_MAX {
        let began = Instant::now();
        let body = format!(r#"{{"rid":"1","data":"{names}:{grape}:{n}"}}"#);
        let answer = connection.ask("POST", "/lookup", &body)?;
        latencies.add(began.elapsed());
        // Nobody has announced it.
        wrong += u64::from(answer.status != 200 || answer.body != "[]");
        if began + every >= ends || Instant::now() >= ends {
            break;
        }
        thread::sleep(every.saturating_sub(began.elapsed()));
    }
    Ok((latencies, wrong))
}
