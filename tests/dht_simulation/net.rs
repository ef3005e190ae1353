//! Cores, their datagrams and their timers on one virtual clock. Everything comes from a seed: the same seed gives the same run,
//! and [`Net::trace`] says so.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use vintner::{
    bep44::VerifiedItem,
    dht::core::{Core, CoreConfig, DhtEvent, Input, NodeId, Now, OpId, Outcome, Output, Request, Verdict},
    identity::Signature,
};

/// A node's number for its whole life, restarts included. Its address follows from it.
pub type Who = u32;

/// UDP's and IP's own bytes, which a datagram takes besides what it says.
const HEADER_BYTES: u64 = 28;

/// Nodes have private addresses, one after the other.
const FIRST: u32 = 0x0a00_0000;
const PORT: u16 = 20_000;

pub fn addr(who: Who) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(FIRST + who).into(), PORT)
}

pub fn who(addr: SocketAddr) -> Who {
    match addr.ip() {
        IpAddr::V4(ip) => u32::from(ip) - FIRST,
        IpAddr::V6(ip) => panic!("nobody has {ip}"),
    }
}

/// One direction of what a network carries.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub datagrams: u64,
    pub bytes: u64,
}

impl Traffic {
    fn count(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64 + HEADER_BYTES;
    }

    pub fn since(self, earlier: Self) -> Self {
        Self { datagrams: self.datagrams - earlier.datagrams, bytes: self.bytes - earlier.bytes }
    }
}

struct Node {
    core: Core,
    /// The timer that stands in the queue for it.
    wakes: Option<Now>,
}

struct Slot {
    /// None while it is down.
    node: Option<Box<Node>>,
    /// Microseconds from this node to the middle of the network.
    distance_us: u64,
    /// Which side of a partition it is on.
    side: bool,
    sent: Traffic,
    received: Traffic,
}

enum Event {
    Timer(Who),
    Datagram { to: Who, from: Who, bytes: Vec<u8> },
}

struct Queued(Now, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub struct Net {
    pub now: Now,
    pub rng: StdRng,
    pub sent: Traffic,
    pub received: Traffic,
    /// Lost on the way, to nobody, or stopped by the partition.
    pub lost: u64,
    /// Operations that ended, until somebody takes them.
    pub done: Vec<(OpId, Now, Outcome)>,
    pub loss_percent: u32,
    pub parted: bool,
    /// What nodes heard, for those who want it: `None` for those who do not.
    pub heard: Option<Vec<(Who, DhtEvent)>>,
    /// Links that carry nothing, one way.
    pub blocked: HashSet<(Who, Who)>,
    slots: Vec<Slot>,
    queue: BinaryHeap<Reverse<Queued>>,
    serial: u64,
    trace: u64,
    spare: Vec<Vec<u8>>,
    bootstrap: Vec<Who>,
    /// Signatures that were checked: the same record reaches twenty nodes every few minutes.
    checked: HashMap<Signature, VerifiedItem>,
}

impl Net {
    /// An empty network whose first nodes are the ones to join through.
    pub fn new(seed: u64, bootstrap: Vec<Who>) -> Self {
        Self {
            now: Now::ZERO,
            rng: StdRng::seed_from_u64(seed),
            sent: Traffic::default(),
            received: Traffic::default(),
            lost: 0,
            done: Vec::new(),
            loss_percent: 0,
            parted: false,
            heard: None,
            blocked: HashSet::new(),
            slots: Vec::new(),
            queue: BinaryHeap::new(),
            serial: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            spare: Vec::new(),
            bootstrap,
            checked: HashMap::new(),
        }
    }

    /// What happened so far, in one number.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// A new node, up at once.
    pub fn add(&mut self) -> Who {
        let who = self.add_down();
        self.start(who, None, Vec::new());
        who
    }

    /// A new node that is not up yet.
    pub fn add_down(&mut self) -> Who {
        let who = self.slots.len() as Who;
        // Most are near, some are far: 3 to 60 ms, half of them below 18.
        let part = self.rng.random_range(0.0..1.0_f64);
        let distance_us = 3_000 + (part * part * 57_000.0) as u64;
        let (sent, received) = (Traffic::default(), Traffic::default());
        self.slots.push(Slot { node: None, distance_us, side: who.is_multiple_of(2), sent, received });
        who
    }

    /// Starts a node, with what it kept from an earlier run.
    pub fn start(&mut self, who: Who, node_id: Option<NodeId>, known_nodes: Vec<SocketAddr>) {
        let config = CoreConfig {
            node_id,
            local_addr: SocketAddrV4::new(Ipv4Addr::from(FIRST + who), PORT),
            local_addr6: None,
            mainline: false,
            limit_private: false,
            host: None,
            has_bootstrap: self.bootstrap.iter().any(|node| *node != who),
            known_nodes,
            items_max: 1000,
            peers_max: 1000,
            peer_max_age: Duration::from_mins(2),
            node_liveness: Duration::from_mins(5),
        };
        let core = Core::new(config, self.rng.random(), self.now);
        self.slots[who as usize].node = Some(Box::new(Node { core, wakes: None }));
        self.input(who, Input::Timeout);
    }

    /// Stops a node without a word: what it would need to start again with its id.
    pub fn crash(&mut self, who: Who) -> Option<(NodeId, Vec<SocketAddr>)> {
        let node = self.slots[who as usize].node.take()?;
        let mut known = node.core.known_nodes();
        known.truncate(20);
        Some((node.core.node_id(), known))
    }

    pub fn core(&self, who: Who) -> Option<&Core> {
        Some(&self.slots[who as usize].node.as_ref()?.core)
    }

    /// What one node sent and received, both together.
    pub fn traffic(&self, who: Who) -> Traffic {
        let Slot { sent, received, .. } = &self.slots[who as usize];
        Traffic { datagrams: sent.datagrams + received.datagrams, bytes: sent.bytes + received.bytes }
    }

    pub fn side(&self, who: Who) -> bool {
        self.slots[who as usize].side
    }

    pub fn start_op(&mut self, who: Who, op: OpId, request: Request) {
        self.input(who, Input::Start { op, request });
    }

    /// Does something with a core that is up, and carries out what it wants.
    pub fn with(&mut self, who: Who, act: impl FnOnce(&mut Core, Now)) {
        let now = self.now;
        if let Some(node) = &mut self.slots[who as usize].node {
            act(&mut node.core, now);
            self.work_off(who);
        }
    }

    fn input(&mut self, who: Who, input: Input<'_>) {
        let now = self.now;
        if let Some(node) = &mut self.slots[who as usize].node {
            node.core.handle(now, input);
            self.work_off(who);
        }
    }

    fn work_off(&mut self, from: Who) {
        let now = self.now;
        let Some(mut node) = self.slots[from as usize].node.take() else { return };
        while let Some(output) = node.core.next_output() {
            match output {
                Output::Event(event) => {
                    if let Some(heard) = &mut self.heard {
                        heard.push((from, event));
                    }
                }
                Output::Done(op, outcome) => self.done.push((op, now, outcome)),
                Output::Verify { id, item } => {
                    let known = self.checked.get(&item.sig).filter(|known| ***known == item).cloned();
                    let verdict = match known {
                        Some(item) => Verdict::Good(item),
                        None => item.verify().map_or(Verdict::Bad, |item| {
                            self.checked.insert(item.sig, item.clone());
                            Verdict::Good(item)
                        }),
                    };
                    node.core.handle(now, Input::Verified { id, verdict });
                }
                Output::Resolve => {
                    let addrs = self.bootstrap.iter().filter(|node| **node != from).map(|node| addr(*node));
                    node.core.handle(now, Input::Bootstrap(addrs.collect()));
                }
            }
        }
        for (to, bytes) in node.core.datagrams() {
            self.send(from, who(to), bytes);
        }
        node.core.clear_datagrams();
        let wakes = node.core.next_timeout();
        if let Some(at) = wakes
            && node.wakes.is_none_or(|queued| at < queued)
        {
            node.wakes = Some(at);
            self.enqueue(at, Event::Timer(from));
        }
        self.slots[from as usize].node = Some(node);
    }

    fn enqueue(&mut self, at: Now, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Queued(at, self.serial, event)));
    }

    fn send(&mut self, from: Who, to: Who, bytes: &[u8]) {
        assert!(bytes.len() <= 1400, "{} bytes", bytes.len());
        self.sent.count(bytes.len());
        self.slots[from as usize].sent.count(bytes.len());
        // Whom everybody joins through may not have begun yet.
        let (a, Some(b)) = (&self.slots[from as usize], self.slots.get(to as usize)) else {
            self.lost += 1;
            return;
        };
        let stopped = self.parted && a.side != b.side || self.blocked.contains(&(from, to));
        let way = a.distance_us + b.distance_us;
        if stopped || self.rng.random_range(0..100) < self.loss_percent {
            self.lost += 1;
            return;
        }
        // A queue on the way adds up to a third.
        let arrives = self.now.plus(Duration::from_micros(way + self.rng.random_range(0..=way / 3)));
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.enqueue(arrives, Event::Datagram { to, from, bytes: copy });
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<Now> {
        self.queue.peek().map(|Reverse(next)| next.0)
    }

    /// Lets time pass.
    pub fn run(&mut self, until: Now) {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.0 > until {
                break;
            }
            let Some(Reverse(Queued(at, _, event))) = self.queue.pop() else { break };
            self.now = at;
            match event {
                Event::Timer(who) => self.wake(who, at),
                Event::Datagram { to, from, bytes } => self.deliver(to, from, bytes),
            }
        }
        self.now = until;
    }

    fn wake(&mut self, who: Who, at: Now) {
        let Some(node) = &mut self.slots[who as usize].node else { return };
        // A timer of an earlier life, or one that an earlier timer has overtaken.
        if node.wakes != Some(at) {
            return;
        }
        node.wakes = None;
        if node.core.next_timeout().is_some_and(|wanted| wanted > at) {
            return self.work_off(who);
        }
        self.note(&[u64::from(who), at.since_start().as_micros() as u64]);
        self.input(who, Input::Timeout);
        let next = self.core(who).and_then(Core::next_timeout);
        assert!(next.is_none_or(|next| next > at), "the timeout at {at:?} did not pass");
    }

    fn deliver(&mut self, to: Who, from: Who, bytes: Vec<u8>) {
        if self.core(to).is_some() {
            self.received.count(bytes.len());
            self.slots[to as usize].received.count(bytes.len());
            let at = self.now.since_start().as_micros() as u64;
            self.note(&[at, u64::from(to), u64::from(from), bytes.len() as u64]);
            self.input(to, Input::Datagram { from: addr(from), bytes: &bytes });
        } else {
            self.lost += 1;
        }
        self.spare.push(bytes);
    }

    fn note(&mut self, words: &[u64]) {
        for word in words {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }
}
