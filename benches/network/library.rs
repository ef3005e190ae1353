//! The DHT as a library, in this process: ours against the `mainline` crate, each in a ring of six of its own kind.

use super::{
    figures::{Figures, Latencies},
    processes::System,
};
use anyhow::{Context, Result, ensure};
use mainline::{Dht as Mainline, Id, Testnet};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    thread,
    time::{Duration, Instant},
};
use tokio::task::{JoinSet, spawn_blocking};
use vintner::{
    bep44::{Target, bencode_bytes},
    dht::{Dht, DhtConfig, GetMode, Put},
    workers::Workers,
};

const NODES: usize = 6;
/// Names that are looked up and values that are read, each once at each number of calls: a node of the mainline crate keeps no more.
const READS: u64 = 500;
/// Writes in one load: more than there is time for.
const WRITES_MAX: u64 = 10_000_000;
/// Calls under way.
const AT_ONCE: [usize; 2] = [1, 32];
/// Calls under way while the reads' names and values are stored.
const FILLING: usize = 4;
const PORT: u16 = 1337;
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
const JOIN_POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Announce,
    Lookup,
    Put,
    Get,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Lookup => "lookup",
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// The node that is called.
#[derive(Clone)]
enum Node {
    Ours(Dht),
    Mainline(Mainline),
}

fn name(n: u64) -> [u8; 20] {
    let mut name = *b"library:000000000000";
    name[8..].copy_from_slice(format!("{n:012}").as_bytes());
    name
}

fn value(n: u64) -> Vec<u8> {
    format!("the value of number {n}").into_bytes()
}

impl Node {
    /// Whether it did what it should.
    async fn call(&self, call: Call, n: u64) -> bool {
        match self {
            Self::Ours(node) => match call {
                Call::Announce => node.announce(&name(n), PORT).await.is_ok_and(|nodes| nodes > 0),
                Call::Lookup => node
                    .lookup(&name(n))
                    .await
                    .is_ok_and(|peers| peers.iter().any(|peer| peer.port() == PORT)),
                Call::Put => node.put(Put::Immutable(bencode_bytes(&value(n)))).await.is_ok(),
                Call::Get => {
                    let v = bencode_bytes(&value(n));
                    let found = node.get(Target::of_value(&v), b"", GetMode::Network).await;
                    found.is_ok_and(|found| found.is_some_and(|found| found.item.v()[..] == v[..]))
                }
            },
            Self::Mainline(node) => call_mainline(node.clone(), call, n).await,
        }
    }
}

async fn call_mainline(node: Mainline, call: Call, n: u64) -> bool {
    match call {
        Call::Announce => node.as_async().announce_peer(Id::from(name(n)), Some(PORT)).await.is_ok(),
        Call::Lookup => spawn_blocking(move || lookup_mainline(&node, n)).await.unwrap_or(false),
        Call::Put => node.as_async().put_immutable(&value(n)).await.is_ok(),
        Call::Get => {
            let target = Target::of_value(&bencode_bytes(&value(n)));
            node.as_async().get_immutable(Id::from(target.0)).await.is_some_and(|v| *v == value(n)[..])
        }
    }
}

/// Takes what all nodes say, as ours does.
#[expect(
    deprecated,
    reason = "its other form needs a crate for streams; both are the same message to the same thread"
)]
fn lookup_mainline(node: &Mainline, n: u64) -> bool {
    node.get_peers(Id::from(name(n))).flatten().filter(|peer| peer.port() == PORT).count() > 0
}

/// A ring, and the one of its nodes that is called. It ends when it is dropped.
struct Ring {
    called: Node,
    /// The others.
    _ours: Vec<Dht>,
    _mainline: Option<Testnet>,
}

impl Ring {
    async fn ours() -> Result<Self> {
        let workers = Workers::start(thread::available_parallelism().map_or(1, usize::from))?;
        let mut nodes: Vec<Dht> = Vec::new();
        for n in 0..NODES {
            let bootstrap = nodes.iter().map(|node| node.local_addr().to_string()).collect();
            let mut seed = [0; 32];
            seed[0] = n as u8 + 1;
            let mut config = DhtConfig::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), bootstrap, seed);
            config.own_thread = true;
            config.tells = |_| false;
            nodes.push(Dht::start(config, workers.clone()).await?);
        }
        let began = Instant::now();
        while nodes.iter().any(|node| node.status().nodes_good < NODES - 1) {
            ensure!(began.elapsed() < JOIN_TIMEOUT, "the nodes in this process do not find each other");
            tokio::time::sleep(JOIN_POLL).await;
        }
        let called = nodes.pop().context("a ring without nodes")?;
        Ok(Self { called: Node::Ours(called), _ours: nodes, _mainline: None })
    }

    fn mainline() -> Result<Self> {
        let ring = Testnet::builder(NODES).build().context("the ring of the mainline crate")?;
        let called = ring.nodes.last().context("a ring without nodes")?.clone();
        Ok(Self { called: Node::Mainline(called), _ours: Vec::new(), _mainline: Some(ring) })
    }
}

/// So many calls at once, each of another of the numbers, until there is none left or the time is over.
async fn load(
    node: &Node,
    call: Call,
    at_once: usize,
    mut numbers: Range<u64>,
    time: Duration,
) -> Result<(Latencies, u64, Duration)> {
    let (mut latencies, mut wrong, mut tasks) = (Latencies::default(), 0, JoinSet::new());
    let began = Instant::now();
    loop {
        while tasks.len() < at_once && began.elapsed() < time {
            let Some(n) = numbers.next() else { break };
            let node = node.clone();
            tasks.spawn(async move {
                let began = Instant::now();
                (node.call(call, n).await, began.elapsed())
            });
        }
        let Some(ended) = tasks.join_next().await else { break };
        let (is_right, took) = ended.context("a call's task failed")?;
        wrong += u64::from(!is_right);
        latencies.add(took);
    }
    Ok((latencies, wrong, began.elapsed()))
}

/// Writes that may fail before the reads: the mainline crate's sometimes do on a busy machine.
fn wrong_max(node: &Node) -> u64 {
    match node {
        Node::Ours(_) => 0,
        Node::Mainline(_) => READS / 10,
    }
}

async fn loads(node: &Node, time: Duration, figures: &mut Figures) -> Result<()> {
    let stored = READS * AT_ONCE.len() as u64;
    for call in [Call::Announce, Call::Put] {
        let (_, wrong, _) = load(node, call, FILLING, 0..stored, Duration::MAX).await?;
        ensure!(wrong <= wrong_max(node), "{wrong} of {stored} calls of {} failed", call.name());
    }
    // Reads go through what was stored just now, writes on from there.
    for (call, first, count) in [
        (Call::Get, 0, READS),
        (Call::Lookup, 0, READS),
        (Call::Put, stored, WRITES_MAX),
        (Call::Announce, stored, WRITES_MAX),
    ] {
        for (n, at_once) in AT_ONCE.into_iter().enumerate() {
            let first = first + n as u64 * count;
            let (mut latencies, wrong, elapsed) =
                load(node, call, at_once, first..first + count, time).await?;
            let name = format!("library_{}_{at_once}", call.name());
            let right = latencies.len() as u64 - wrong;
            figures.insert(format!("{name}_per_s"), right as f64 / elapsed.as_secs_f64());
            // Calls of the other side that fail are not ours to answer for; they do not count in its rate.
            let kind = if matches!(node, Node::Ours(_)) { "errors" } else { "failed" };
            figures.insert(format!("{name}_{kind}"), wrong as f64);
            latencies.report(&name, figures);
        }
    }
    Ok(())
}

/// Measures ours, or in stock's turn the mainline crate; another build of ours cannot be called from here.
pub(super) fn calls(system: &System, time: Duration, figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let ring = match system {
            System::Ours(_) => Ring::ours().await?,
            System::Stock => Ring::mainline()?,
            System::Other(_) => return Ok(()),
        };
        loads(&ring.called, time, figures).await
    })
}
