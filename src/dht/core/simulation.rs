//! Networks of cores in virtual time: a seed gives the same run each time.

mod tests;

use super::*;
use crate::{bep44::bencode_bytes, identity::KeyPair};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

/// A datagram on its way: when it arrives, in which order, to and from whom.
type Flight = Reverse<(Now, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct Node {
    core: Core,
    /// When it wants to be woken, as the network knows it.
    wakes: Option<Now>,
    bootstrap: Vec<SocketAddr>,
}

pub(super) struct Net {
    pub(super) now: Now,
    nodes: BTreeMap<SocketAddr, Node>,
    flights: BinaryHeap<Flight>,
    timers: BTreeSet<(Now, SocketAddr)>,
    rng: StdRng,
    sent: u64,
    ops: u64,
    loss_percent: u32,
    latency_us: std::ops::Range<u64>,
    /// Datagrams that hold this are not heard by these nodes.
    deaf: Option<(&'static [u8], Vec<SocketAddr>)>,
    done: HashMap<OpId, (Now, Outcome)>,
    pub(super) events: Vec<(SocketAddr, DhtEvent)>,
}

pub(super) fn addr(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, a, b), 20_000))
}

fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => unreachable!("addr() gives IPv4 addresses only"),
    }
}

pub(super) fn config(local_addr: SocketAddr, bootstrap: &[SocketAddr]) -> CoreConfig {
    CoreConfig {
        node_id: None,
        local_addr: v4(local_addr),
        local_addr6: None,
        mainline: false,
        host: None,
        has_bootstrap: !bootstrap.is_empty(),
        known_nodes: Vec::new(),
        limit_private: false,
        items_max: 1000,
        peers_max: 1000,
        peer_max_age: Duration::from_mins(2),
        node_liveness: Duration::from_mins(5),
    }
}

pub(super) fn signed(seed: u8, seq: i64, text: &str) -> crate::bep44::VerifiedItem {
    let key = KeyPair::from_seed(&[seed; 32]);
    crate::bep44::VerifiedItem::sign(&key, b"", seq, bencode_bytes(text.as_bytes())).unwrap()
}

impl Net {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            now: Now::ZERO,
            nodes: BTreeMap::new(),
            flights: BinaryHeap::new(),
            timers: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
            sent: 0,
            ops: 0,
            loss_percent: 0,
            latency_us: 100..300,
            deaf: None,
            done: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// `size` nodes that join through the first, given ten seconds.
    fn joined(seed: u64, size: u16) -> Self {
        let mut net = Self::new(seed);
        net.add(0, &[]);
        for n in 1..size {
            net.add(n, &[addr(0)]);
        }
        net.run(Duration::from_secs(10));
        net
    }

    fn add(&mut self, n: u16, bootstrap: &[SocketAddr]) {
        self.add_as(n, bootstrap, None);
    }

    fn add_as(&mut self, n: u16, bootstrap: &[SocketAddr], node_id: Option<NodeId>) {
        let config = CoreConfig { node_id, ..config(addr(n), bootstrap) };
        let core = Core::new(config, self.rng.random(), self.now);
        self.nodes.insert(addr(n), Node { core, wakes: None, bootstrap: bootstrap.to_vec() });
        self.input(addr(n), Input::Timeout);
    }

    fn remove(&mut self, n: u16) -> Core {
        let node = self.nodes.remove(&addr(n)).unwrap();
        self.timers.retain(|(_, at)| *at != addr(n));
        node.core
    }

    fn core(&mut self, n: u16) -> &mut Core {
        &mut self.nodes.get_mut(&addr(n)).unwrap().core
    }

    fn input(&mut self, at: SocketAddr, input: Input<'_>) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&at) else { return };
        node.core.handle(now, input);
        self.work_off(at);
    }

    fn work_off(&mut self, at: SocketAddr) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&at) else { return };
        while let Some(output) = node.core.next_output() {
            match output {
                Output::Event(event) => self.events.push((at, event)),
                Output::Done(op, outcome) => {
                    assert!(self.done.insert(op, (now, outcome)).is_none(), "ended twice");
                }
                Output::Verify { id, item } => {
                    let verdict = item.verify().map_or(Verdict::Bad, Verdict::Good);
                    node.core.handle(now, Input::Verified { id, verdict });
                }
                Output::Resolve => node.core.handle(now, Input::Bootstrap(node.bootstrap.clone())),
            }
        }
        for (to, bytes) in node.core.datagrams() {
            assert!(bytes.len() <= 1400, "{} bytes", bytes.len());
            self.sent += 1;
            if self.rng.random_range(0..100) >= self.loss_percent {
                let arrives = now.plus(Duration::from_micros(self.rng.random_range(self.latency_us.clone())));
                self.flights.push(Reverse((arrives, self.sent, to, at, bytes.to_vec())));
            }
        }
        node.core.clear_datagrams();
        let wakes = node.core.next_timeout();
        if let Some(earlier) = std::mem::replace(&mut node.wakes, wakes) {
            self.timers.remove(&(earlier, at));
        }
        self.timers.extend(wakes.map(|wakes| (wakes, at)));
    }

    /// Goes to the next thing that happens, at most until then. False when that is now.
    fn step(&mut self, until: Now) -> bool {
        let flight = self.flights.peek().map(|Reverse((at, ..))| *at);
        let timer = self.timers.first().copied();
        match (flight, timer) {
            (Some(arrives), timer) if arrives <= until && timer.is_none_or(|(at, _)| arrives <= at) => {
                let Some(Reverse((at, _, to, from, bytes))) = self.flights.pop() else { return false };
                self.now = self.now.max(at);
                let deaf = |(part, nodes): &(&[u8], Vec<SocketAddr>)| {
                    nodes.contains(&to) && bytes.windows(part.len()).any(|window| window == *part)
                };
                if !self.deaf.as_ref().is_some_and(deaf) {
                    self.input(to, Input::Datagram { from, bytes: &bytes });
                }
                true
            }
            (_, Some((at, who))) if at <= until => {
                self.now = self.now.max(at);
                self.input(who, Input::Timeout);
                let next = self.nodes[&who].core.next_timeout();
                assert!(next.is_none_or(|next| next > at), "the timeout at {at:?} did not pass");
                true
            }
            _ => {
                self.now = until;
                false
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while self.step(until) {}
    }

    fn start(&mut self, n: u16, request: Request) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        self.input(addr(n), Input::Start { op, request });
        op
    }

    /// Runs an operation to its end: what came of it, and how long it took.
    fn ask(&mut self, n: u16, request: Request) -> (Outcome, Duration) {
        let (started, op) = (self.now, self.start(n, request));
        let until = self.now.plus(Duration::from_mins(1));
        while !self.done.contains_key(&op) {
            assert!(self.step(until), "it never ended");
        }
        let (at, outcome) = self.done.remove(&op).unwrap();
        (outcome, at.since(started))
    }

    fn announce(&mut self, n: u16, name: &str) -> usize {
        match self.ask(n, Request::Announce { name: name.as_bytes().into(), port: 1000 + n }) {
            (Outcome::Announced(Ok(nodes)), _) => nodes,
            other => panic!("{other:?}"),
        }
    }

    fn lookup(&mut self, n: u16, name: &str) -> (Vec<SocketAddr>, Duration) {
        match self.ask(n, Request::Lookup { name: name.as_bytes().into() }) {
            (Outcome::Peers(Ok(mut peers)), took) => {
                peers.sort();
                (peers, took)
            }
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, n: u16, put: Put) -> Result<PutOutcome, OpError> {
        match self.ask(n, Request::Put(put)).0 {
            Outcome::Put(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, n: u16, target: Target) -> Option<Item> {
        match self.ask(n, Request::Get { target, salt: Arc::default(), mode: GetMode::Network }).0 {
            Outcome::Item(Ok(found)) => found.map(|found| found.item),
            other => panic!("{other:?}"),
        }
    }
}
