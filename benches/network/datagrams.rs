//! Datagrams a second that one node answers on one core, and what it takes for one.
//!
//! The node is a grape of its own, alone in its network but for the sockets of the [`Flood`], who are other nodes to it. All its
//! threads are kept on one core and the flood on another, so that neither takes from the other.

use super::{
    figures::{Figures, cpu_of, resident_mb},
    flood::{Answered, Flood, PEERS, Queries},
    processes::{Ring, System},
};
use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{
    net::{SocketAddrV4, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    dht::{
        NodeId,
        core::krpc::{self, Ask, Message, Reply, SignedArgs},
    },
    identity::KeyPair,
};

/// Names that peers are announced under, and items that are read.
const HELD: u64 = 100;
/// Peers of each of the names.
const PEERS_OF_A_NAME: u64 = 10;
/// Puts that are signed before the measurement, for each of its seconds; more than any node verifies.
const PUTS_A_SECOND: u64 = 24_000;
/// Peers that put. A put is ten times as much work as the others, and its datagram takes twice the room in the node's buffer.
const PUTTING: usize = 64;
/// Nothing counts before a node has met its peers and grown its buffers.
const WARM_UP: Duration = Duration::from_millis(300);
/// Keys that sign the items.
const KEYS: u64 = 64;
/// Bytes of a value: about what an offer of the exchange has.
const VALUE_BYTES: usize = 300;
/// Values that the node stores at most: none is pushed out meanwhile.
const VALUES_MAX: u64 = 1_000_000;
/// The largest values there are: a byte string of 996 bytes has 1,000 when bencoded.
const LARGE_VALUE_BYTES: usize = 996;
/// Storing many items takes a few seconds.
const FILL_TIMEOUT: Duration = Duration::from_mins(2);
const TOKEN_TIMEOUT: Duration = Duration::from_secs(1);
const TOKEN_ATTEMPTS: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ping,
    /// Of a name that nobody has.
    PeersOfNobody,
    Peers,
    /// Of an item that is held.
    Get,
    /// Of a new item, whose signature the node has to verify.
    Put,
    /// What the others read.
    Announce,
}

const MEASURED: [(Kind, &str); 5] = [
    (Kind::Ping, "ping"),
    (Kind::PeersOfNobody, "peers_of_nobody"),
    (Kind::Peers, "peers"),
    (Kind::Get, "get"),
    (Kind::Put, "put"),
];

struct Work {
    kind: Kind,
    n: u64,
    left: u64,
    token: Vec<u8>,
    items: Arc<[VerifiedItem]>,
}

fn name(n: u64) -> [u8; 20] {
    let mut name = *b"bench:name:000000000";
    name[11..].copy_from_slice(format!("{n:09}").as_bytes());
    name
}

/// New items, none of which has a target of another.
fn items(first: u64, count: u64, value_bytes: usize) -> Result<Arc<[VerifiedItem]>> {
    let keys: Vec<KeyPair> = (0..KEYS).map(|n| KeyPair::from_seed(&[n as u8; 32])).collect();
    let value = bencode_bytes(&vec![b'v'; value_bytes]);
    let sign = |n: u64| {
        let salt = n.to_be_bytes();
        VerifiedItem::sign(&keys[(n % KEYS) as usize], &salt, 1, Arc::clone(&value)).context("an item")
    };
    (first..first + count).map(sign).collect()
}

impl Queries for Work {
    fn write_next(&mut self, t: [u8; 4], own: &NodeId, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        let n = self.n;
        (self.n, self.left) = (n + 1, self.left - 1);
        let mut write = |ask: &Ask<'_>| krpc::write_query(out, t, own, ask);
        match self.kind {
            Kind::Ping => write(&Ask::Ping),
            Kind::PeersOfNobody => write(&Ask::GetPeers { name: &name(HELD + n) }),
            Kind::Peers => write(&Ask::GetPeers { name: &name(n % HELD) }),
            Kind::Announce => {
                let port = 1000 + (n / HELD) as u16;
                write(&Ask::Announce { name: &name(n % HELD), port, token: &self.token });
            }
            Kind::Get => write(&Ask::Get { target: &self.items[(n % HELD) as usize].target().0 }),
            Kind::Put => {
                let Some(item) = self.items.get(n as usize) else { return false };
                let signed = SignedArgs { k: item.k.0, sig: item.sig.0, seq: item.seq, salt: &item.salt };
                let (target, token) = (item.target(), &self.token[..]);
                write(&Ask::Put { target: &target.0, token, v: &item.v, signed: Some(signed), cas: None });
            }
        }
        true
    }

    fn is_right(&self, reply: &Reply<'_>) -> bool {
        reply.id.is_some()
            && match self.kind {
                Kind::Ping | Kind::Put | Kind::Announce => true,
                Kind::PeersOfNobody => reply.values.is_none() && !reply.nodes.is_empty(),
                Kind::Peers => reply.peers().count() == PEERS_OF_A_NAME as usize,
                Kind::Get => reply.v.is_some() && reply.signed.is_some(),
            }
    }
}

/// Asks for a write token, which is good for every socket of this host.
fn token(node: SocketAddrV4) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(TOKEN_TIMEOUT))?;
    let mut query = Vec::new();
    krpc::write_query(&mut query, *b"tokn", &NodeId([1; 20]), &Ask::GetPeers { name: &name(0) });
    let mut buffer = [0; 2048];
    // Its buffer may still be full of what was asked before.
    for _ in 0..TOKEN_ATTEMPTS {
        socket.send_to(&query, node)?;
        while let Ok(bytes) = socket.recv(&mut buffer) {
            if let Some(Message::Reply { reply, .. }) = krpc::decode(&buffer[..bytes]) {
                return Ok(reply.token.context("an answer without a write token")?.to_vec());
            }
        }
    }
    bail!("the node gives no write token")
}

/// The core of the node, and that of the flood.
struct Cores {
    before: CpuSet,
    node: CpuSet,
    flood: CpuSet,
}

impl Cores {
    /// Two of those that this program may use; where there is one only, both share it, and the figures are lower.
    fn choose() -> Result<Self> {
        let before =
            sched_getaffinity(None).context("the system does not say on which cores this may run")?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&core| before.is_set(core));
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        let node = allowed.next().context("this may run on no core")?;
        let flood = allowed.next();
        if flood.is_none() {
            eprintln!(
                "  there is one core only: the node shares it with what asks it, and answers less than it could"
            );
        }
        Ok(Self { before, node: only(node), flood: only(flood.unwrap_or(node)) })
    }

    /// Keeps this thread to some cores, and all threads and processes that it starts from now on.
    fn keep_to(cores: &CpuSet) -> Result<()> {
        sched_setaffinity(None, cores).context("the system does not let a thread be kept on a core")
    }
}

/// Starts a node and measures each kind of query.
pub(super) fn answered(system: &System, dir: &Path, time: Duration, figures: &mut Figures) -> Result<()> {
    let cores = Cores::choose()?;
    Cores::keep_to(&cores.node)?;
    let ring = Ring::start(system, 1, &[format!("--dht_maxValues={VALUES_MAX}")], dir);
    Cores::keep_to(&cores.flood)?;
    let outcome = ring.and_then(|ring| {
        loads(ring.dht[0], ring.processes[0], time, figures)?;
        ring.check()
    });
    Cores::keep_to(&cores.before)?;
    outcome
}

fn loads(node: SocketAddrV4, process: u32, time: Duration, figures: &mut Figures) -> Result<()> {
    let puts = PUTS_A_SECOND * (time + WARM_UP).as_secs_f64().ceil() as u64;
    let items = items(0, HELD + puts, VALUE_BYTES)?;
    let work = |kind, first, count| -> Result<Work> {
        Ok(Work { kind, n: first, left: count, token: token(node)?, items: Arc::clone(&items) })
    };
    let mut flood = Flood::new(node)?;
    // So that it knows its peers before it is asked for them.
    flood.run(&mut work(Kind::Ping, 0, u64::MAX)?, PEERS, WARM_UP)?;
    for (kind, count) in [(Kind::Announce, HELD * PEERS_OF_A_NAME), (Kind::Put, HELD)] {
        let stored = flood.run(&mut work(kind, 0, count)?, PUTTING, FILL_TIMEOUT)?;
        ensure!(stored.right == count, "of {count} datagrams of {kind:?} the node took {}", stored.right);
    }
    for (kind, name) in MEASURED {
        let mut work = work(kind, if kind == Kind::Put { HELD } else { 0 }, u64::MAX)?;
        let asking = if kind == Kind::Put { PUTTING } else { PEERS };
        flood.run(&mut work, asking, WARM_UP)?;
        let (cpu, began) = (cpu_of(&[process])?, Instant::now());
        let Answered { right, wrong, lost, elapsed } = flood.run(&mut work, asking, time)?;
        let cpu = cpu_of(&[process])?.saturating_sub(cpu);
        let name = format!("datagrams_{name}");
        figures.insert(format!("{name}_per_s"), right as f64 / elapsed.as_secs_f64());
        figures.insert(format!("{name}_cpu_us"), cpu.as_secs_f64() * 1e6 / right.max(1) as f64);
        figures.insert(
            format!("{name}_core_percent"),
            cpu.as_secs_f64() * 100.0 / began.elapsed().as_secs_f64(),
        );
        figures.insert(format!("{name}_errors"), wrong as f64);
        figures.insert(format!("{name}_lost"), lost as f64);
    }
    Ok(())
}

/// Resident memory of a grape that stores many of the largest items.
pub(super) fn memory(system: &System, dir: &Path, count: u64, figures: &mut Figures) -> Result<()> {
    let ring = Ring::start(system, 1, &[format!("--dht_maxValues={count}")], dir)?;
    let node = ring.dht[0];
    let items = items(0, count, LARGE_VALUE_BYTES)?;
    let mut puts = Work { kind: Kind::Put, n: 0, left: count, token: token(node)?, items };
    let stored = Flood::new(node)?.run(&mut puts, PUTTING, FILL_TIMEOUT)?;
    ensure!(stored.right == count, "of {count} items the node stored {}", stored.right);
    figures.insert("grape_full_mb".into(), resident_mb(ring.processes[0])?);
    ring.check()
}
