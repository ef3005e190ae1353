//! What a lookup costs a network of 100 nodes: counted, datagram by datagram, in virtual time. No socket, no clock, no chance: each run
//! gives the same numbers.

use super::figures::Figures;
use anyhow::{Result, ensure};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use vintner::dht::core::{
    Core, CoreConfig, Input, Now, OpId, Output, Request,
    krpc::{self, Message, Query},
};

const NODES: u16 = 100;
const LOOKUPS: u16 = 500;
/// From one node to another.
const LATENCY: Duration = Duration::from_millis(1);
/// The network has formed by then.
const FORMED: Duration = Duration::from_mins(10);
/// The longest that a lookup takes without loss.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

/// A datagram on its way: when it arrives, in which order, to and from whom.
type Flight = Reverse<(Now, u64, SocketAddr, SocketAddr, Vec<u8>)>;

struct Net {
    now: Now,
    nodes: Vec<Core>,
    by_addr: HashMap<SocketAddr, usize>,
    flights: BinaryHeap<Flight>,
    sent: u64,
    done: HashSet<OpId>,
    /// Questions for peers that wait for their answer, by number and asker.
    asked: HashSet<(Vec<u8>, SocketAddr)>,
    queries: u64,
    answers: u64,
    bytes: u64,
}

fn addr(n: u16) -> SocketAddrV4 {
    let [a, b] = n.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, a, b), 20_000)
}

impl Net {
    fn new() -> Self {
        let core = |n: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&(n + 1).to_be_bytes());
            let config = CoreConfig {
                node_id: None,
                local_addr: addr(n),
                local_addr6: None,
                mainline: false,
                host: None,
                has_bootstrap: n > 0,
                known_nodes: Vec::new(),
                limit_private: false,
                items_max: 5000,
                peers_max: 20_000,
                peer_max_age: Duration::from_mins(2),
                node_liveness: Duration::from_mins(5),
            };
            Core::new(config, seed, Now::ZERO)
        };
        Self {
            now: Now::ZERO,
            nodes: (0..NODES).map(core).collect(),
            by_addr: (0..NODES).map(|n| (addr(n).into(), usize::from(n))).collect(),
            flights: BinaryHeap::new(),
            sent: 0,
            done: HashSet::new(),
            asked: HashSet::new(),
            queries: 0,
            answers: 0,
            bytes: 0,
        }
    }

    fn handle(&mut self, n: usize, input: Input<'_>) {
        self.nodes[n].handle(self.now, input);
        loop {
            match self.nodes[n].next_output() {
                None => break,
                Some(Output::Resolve) => {
                    self.nodes[n].handle(self.now, Input::Bootstrap(vec![addr(0).into()]));
                }
                Some(Output::Done(op, _)) => drop(self.done.insert(op)),
                Some(Output::Event(_) | Output::Verify { .. }) => {}
            }
        }
        let from = addr(n as u16).into();
        let datagrams: Vec<(SocketAddr, Vec<u8>)> =
            self.nodes[n].datagrams().map(|(to, bytes)| (to, bytes.to_vec())).collect();
        self.nodes[n].clear_datagrams();
        for (to, bytes) in datagrams {
            self.count(from, to, &bytes);
            self.sent += 1;
            self.flights.push(Reverse((self.now.plus(LATENCY), self.sent, to, from, bytes)));
        }
    }

    fn count(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        match krpc::decode(bytes) {
            Some(Message::Query { t: Some(t), query: Ok(Query::GetPeers { .. }), .. }) => {
                self.asked.insert((t.to_vec(), from));
                self.queries += 1;
                self.bytes += bytes.len() as u64;
            }
            Some(Message::Reply { t, .. }) if self.asked.remove(&(t.to_vec(), to)) => {
                self.answers += 1;
                self.bytes += bytes.len() as u64;
            }
            _ => {}
        }
    }

    /// Goes on to a time, or until an operation has ended.
    fn run(&mut self, until: Now, op: Option<OpId>) {
        while op.is_none_or(|op| !self.done.contains(&op)) {
            let lands = self.flights.peek().map(|Reverse((at, ..))| *at);
            let timer =
                self.nodes.iter().enumerate().filter_map(|(n, node)| Some((node.next_timeout()?, n))).min();
            let Some(next) = lands.into_iter().chain(timer.map(|(at, _)| at)).min().filter(|at| *at <= until)
            else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            if lands == Some(next) {
                let Some(Reverse((_, _, to, from, bytes))) = self.flights.pop() else { return };
                if let Some(&n) = self.by_addr.get(&to) {
                    self.handle(n, Input::Datagram { from, bytes: &bytes });
                }
            } else if let Some((_, n)) = timer {
                self.handle(n, Input::Timeout);
            }
        }
    }
}

/// Lookups of new names, each by another node.
pub(super) fn lookups(figures: &mut Figures) -> Result<()> {
    let mut net = Net::new();
    net.run(Now::ZERO.plus(FORMED), None);
    (net.queries, net.answers, net.bytes) = (0, 0, 0);
    for n in 0..LOOKUPS {
        let op = OpId(u64::from(n) + 1);
        let name = format!("nobody:{n}").into_bytes().into();
        net.handle(usize::from(n % NODES), Input::Start { op, request: Request::Lookup { name } });
        net.run(net.now.plus(LOOKUP_MAX), Some(op));
        ensure!(net.done.contains(&op), "a lookup among {NODES} nodes does not end");
        // Answers that the lookup did not wait for count as well.
        net.run(net.now.plus(LATENCY * 4), None);
    }
    let each = |count: u64| count as f64 / f64::from(LOOKUPS);
    figures.insert("hundred_lookup_queries".into(), each(net.queries));
    figures.insert("hundred_lookup_messages".into(), each(net.queries + net.answers));
    figures.insert("hundred_lookup_bytes".into(), each(net.bytes));
    Ok(())
}
