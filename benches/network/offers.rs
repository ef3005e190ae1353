//! The market as its users see it: one offer at a time, then as many as go.

use super::{
    figures::{Figures, Latencies, cpu_of, resident_mb},
    http::{Connection, quoted_after},
    load::{Load, Until, Work, drive},
    processes::Network,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

const OFFER: &str = r#"{"btc_quantity":"1","offer_price":"100"}"#;
const BID: &str = r#"{"price":"100"}"#;
/// Rounds before anything counts: connections are opened, code is compiled, nodes find each other.
const WARM_UP: usize = 10;
/// Between two looks at a list. Half of it is what a figure is late by on average; without it the looks would take the time of
/// what they look for.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// An offer or a bid that takes longer to arrive is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// After the last answer, when the lists are counted.
const LISTED_WITHIN: Duration = Duration::from_secs(1);
/// What one page of a list may hold, in ours.
const PAGE: usize = 1000;
/// Until garbage is collected and logs are written, as far as they will be.
const SETTLES: Duration = Duration::from_secs(3);
/// Connections that fill the network for the memory's sake.
const FILL_CONNECTIONS: usize = 64;

/// A kept connection to each node.
struct Nodes {
    connections: Vec<Connection>,
    list: String,
}

impl Nodes {
    fn open(network: &Network) -> Result<Self> {
        let connections = network.apis.iter().map(|api| Connection::open(*api)).collect::<Result<_>>()?;
        Ok(Self { connections, list: format!("{}/offers", network.system.prefix()) })
    }

    /// Waits until each of `nodes` lists the offer, or does not, and says when the last one was seen to. The requests to all leave
    /// before any answer is read, so that none waits for another's.
    fn until(&mut self, nodes: &[usize], id: &str, listed: bool, since: Instant) -> Result<Duration> {
        let mut waiting = nodes.to_vec();
        loop {
            for n in &waiting {
                self.connections[*n].send("GET", &self.list, "")?;
            }
            let mut still = Vec::new();
            for n in waiting {
                let answer = self.connections[n].receive()?;
                ensure!(answer.status == 200, "a list was answered {}: {:.300}", answer.status, answer.body);
                if answer.body.contains(id) != listed {
                    still.push(n);
                }
            }
            let elapsed = since.elapsed();
            if still.is_empty() {
                return Ok(elapsed);
            }
            ensure!(
                elapsed < LOST_AFTER,
                "an offer was not {} after {LOST_AFTER:?}",
                if listed { "listed" } else { "gone" }
            );
            waiting = still;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Create, visible on every other node, bid from another one, gone everywhere: `runs` times, one after the other.
pub(super) fn latency(network: &Network, runs: usize, figures: &mut Figures) -> Result<()> {
    let mut nodes = Nodes::open(network)?;
    let [mut create, mut visible, mut bid, mut gone] = [(); 4].map(|()| Latencies::default());
    let mut lost = 0;
    let path = format!("{}/offers", network.system.prefix());
    for run in 0..WARM_UP + runs {
        let posted = Instant::now();
        let made = nodes.connections[0].ask("POST", &path, OFFER)?;
        let created = posted.elapsed();
        ensure!(made.status == 201, "an offer was answered {}: {:.300}", made.status, made.body);
        let id = quoted_after(&made.body, "\"id\":\"").context("an offer without an id")?.to_owned();
        let seen = nodes.until(&[1, 2], &id, true, posted);
        let asked = Instant::now();
        let outcome = seen.and_then(|seen| {
            let answer = nodes.connections[1 + run % 2].ask("POST", &format!("{path}/{id}/bids"), BID)?;
            let answered = asked.elapsed();
            let sold =
                answer.status == 201 || (answer.status == 200 && answer.body.contains("\"accepted\":true"));
            ensure!(sold, "a bid was answered {}: {:.300}", answer.status, answer.body);
            Ok((seen, answered, nodes.until(&[0, 1, 2], &id, false, asked)?))
        });
        match outcome {
            _ if run < WARM_UP => {}
            Ok((was_seen, answered, was_gone)) => {
                create.add(created);
                visible.add(was_seen);
                bid.add(answered);
                gone.add(was_gone);
            }
            Err(error) => {
                eprintln!("  lost: {error:#}");
                network.check()?;
                nodes = Nodes::open(network)?;
                lost += 1;
            }
        }
    }
    create.report("create", figures);
    visible.report("visible", figures);
    bid.report("bid", figures);
    gone.report("gone", figures);
    figures.insert("latency_errors".into(), f64::from(lost));
    Ok(())
}

struct Creates {
    path: String,
    ids: Vec<String>,
}

impl Work for Creates {
    fn next(&mut self, body: &mut String) -> &str {
        body.push_str(OFFER);
        &self.path
    }

    fn is_right(&mut self, status: u16, body: &str) -> bool {
        let id = quoted_after(body, "\"id\":\"").filter(|_| status == 201);
        self.ids.extend(id.map(str::to_owned));
        id.is_some()
    }
}

fn drive_creates(network: &Network, connections: usize, until: Until) -> Result<(Vec<String>, Load)> {
    let creates = Creates { path: format!("{}/offers", network.system.prefix()), ids: Vec::new() };
    let (creates, load) = drive(network.apis[0], connections, until, creates)?;
    for sample in &load.samples {
        eprintln!("  wrong: {sample}");
    }
    Ok((creates.ids, load))
}

/// Creates on the first node; one counts when both others list it a second after the last answer.
pub(super) fn creates(
    network: &Network,
    connections: usize,
    time: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let cpu = cpu_of(&network.processes)?;
    let (ids, mut load) = drive_creates(network, connections, Until::Elapsed(time))?;
    std::thread::sleep(LISTED_WITHIN);
    let lists = listed_by_both(network)?;
    let cpu = cpu_of(&network.processes)?.saturating_sub(cpu);
    let counted = ids.iter().filter(|id| lists.iter().all(|list| list.contains(*id))).count();
    let name = format!("creates_{connections}");
    figures.insert(format!("{name}_per_s"), counted as f64 / load.elapsed.as_secs_f64());
    figures.insert(format!("{name}_answered_per_s"), load.per_second());
    figures.insert(format!("{name}_unlisted"), (ids.len() - counted) as f64);
    figures.insert(format!("{name}_errors"), load.wrong as f64);
    figures.insert(format!("{name}_servers_cpu_us"), per_request_us(cpu, &load));
    figures.insert(format!("{name}_client_cpu_us"), per_request_us(load.client_cpu, &load));
    load.latencies.report(&name, figures);
    Ok(())
}

/// Processor time for one request, in microseconds.
pub(super) fn per_request_us(cpu: Duration, load: &Load) -> f64 {
    cpu.as_secs_f64() * 1e6 / (load.right + load.wrong).max(1) as f64
}

/// What the other two nodes list, read at the same time: a list takes a moment, in which more would arrive.
fn listed_by_both(network: &Network) -> Result<[HashSet<String>; 2]> {
    let [_, second, third] = network.apis;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| listed(network, third));
        let second = listed(network, second)?;
        let third = other.join().map_err(|_| anyhow!("the reader of a list has died"))??;
        Ok([second, third])
    })
}

/// Every id that a node lists. A stock node answers with all at once, ours in pages.
fn listed(network: &Network, api: SocketAddr) -> Result<HashSet<String>> {
    let mut node = Connection::open(api)?;
    let mut path = format!("{}/offers", network.system.prefix());
    let base = format!("{path}?limit={PAGE}");
    if !network.system.prefix().is_empty() {
        path.clone_from(&base);
    }
    let mut ids = HashSet::new();
    loop {
        let answer = node.ask("GET", &path, "")?;
        if answer.status != 200 {
            bail!("a list was answered {}: {:.300}", answer.status, answer.body);
        }
        let items = answer.body.split("{\"id\":\"").skip(1);
        ids.extend(items.filter_map(|item| item.split_once('"')).map(|(id, _)| id.to_owned()));
        match quoted_after(&answer.body, "\"next_cursor\":\"") {
            Some(cursor) => path = format!("{base}&cursor={cursor}"),
            None => return Ok(ids),
        }
    }
}

/// Makes so many offers on the first node. Gives how many answers were wrong.
pub(super) fn fill(network: &Network, offers: u64) -> Result<u64> {
    let (_, load) = drive_creates(network, FILL_CONNECTIONS, Until::Requests(offers))?;
    Ok(load.wrong)
}

/// Resident memory of nodes that have done nothing yet, the mean of the three; and once the first has made `offers`, of itself and
/// of the two that list them.
pub(super) fn memory(network: &Network, offers: u64, figures: &mut Figures) -> Result<()> {
    let resident = |nodes: &[u32]| -> Result<f64> {
        let total: f64 = nodes.iter().map(|process| resident_mb(*process)).sum::<Result<f64>>()?;
        Ok(total / nodes.len() as f64)
    };
    std::thread::sleep(SETTLES);
    figures.insert("idle_mb".into(), resident(&network.node_processes)?);
    let (_, load) = drive_creates(network, FILL_CONNECTIONS, Until::Requests(offers))?;
    std::thread::sleep(SETTLES);
    figures.insert("full_maker_mb".into(), resident(&network.node_processes[..1])?);
    figures.insert("full_reader_mb".into(), resident(&network.node_processes[1..])?);
    // After the memory: the list itself takes some.
    let listed = listed(network, network.apis[1])?.len() as f64;
    figures.insert("full_reader_unlisted".into(), offers as f64 - listed);
    figures.insert("full_errors".into(), load.wrong as f64);
    Ok(())
}
