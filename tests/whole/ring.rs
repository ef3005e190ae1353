//! A ring of real DHT cores under the nodes, in the simulator of `tests/dht_simulation`, which goes along with this one's clock.

use super::{
    links::Links,
    net::{Net, Who, addr, who},
    plan::Plan,
    world::{What, World},
};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use vintner::{
    bep44::Target,
    dht::core::{DhtEvent, GetMode, Item, NodeId, OpId, Outcome, Put, Request},
    market::Offer,
    time::Now,
};

const ANNOUNCEMENT: &str = "NEW_OFFER:";
const NAME: &[u8] = b"simulated";

/// What an operation was for.
enum For {
    Put(Arc<Offer>),
    Announcement(Arc<Offer>),
    Get,
    Meet,
    Name,
}

pub(crate) struct Ring {
    net: Net,
    nodes: usize,
    kept: HashMap<Who, (NodeId, Vec<SocketAddr>)>,
    operations: HashMap<OpId, (usize, u64, For)>,
}

impl Ring {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut net = Net::new(plan.seed, vec![0]);
        net.loss_percent = (plan.loss * 100.0) as u32;
        net.heard = Some(Vec::new());
        for _ in 0..plan.nodes {
            net.add_down();
        }
        Self { net, nodes: plan.nodes, kept: HashMap::new(), operations: HashMap::new() }
    }

    pub(crate) fn next(&self) -> Option<Now> {
        self.net.next()
    }

    pub(crate) fn run(&mut self, until: Now) {
        self.net.run(until);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.net.trace()
    }

    /// Datagrams go where other messages go.
    pub(crate) fn follow(&mut self, links: &Links) {
        let now_ms = self.net.now.since_start().as_millis() as u64;
        self.net.blocked.clear();
        for (from, to) in (0..self.nodes).flat_map(|a| (0..self.nodes).map(move |b| (a, b))) {
            if !links.is_open(from, to, now_ms) {
                self.net.blocked.insert((from as Who, to as Who));
            }
        }
    }
}

impl World {
    pub(crate) fn start_ring(&mut self, n: usize) {
        let now = self.now;
        let Some(ring) = &mut self.ring else { return };
        ring.net.run(now);
        let kept = ring.kept.remove(&(n as Who));
        let (id, known) = kept.map_or((None, Vec::new()), |(id, known)| (Some(id), known));
        ring.net.start(n as Who, id, known);
    }

    pub(crate) fn crash_ring(&mut self, n: usize) {
        let Some(ring) = &mut self.ring else { return };
        if let Some(kept) = ring.net.crash(n as Who) {
            ring.kept.insert(n as Who, kept);
        }
    }

    fn operate(&mut self, n: usize, purpose: For, request: Request) {
        let (number, now, life) = (self.number(), self.now, self.nodes[n].life);
        let Some(ring) = &mut self.ring else { return };
        ring.net.run(now);
        let op = OpId(number);
        ring.operations.insert(op, (n, life, purpose));
        ring.net.start_op(n as Who, op, request);
    }

    pub(crate) fn put_ring(&mut self, n: usize, offer: &Arc<Offer>) {
        let put = Put::Mutable { item: offer.item().clone(), cas: None };
        self.operate(n, For::Put(Arc::clone(offer)), Request::Put(put));
    }

    pub(crate) fn get_ring(&mut self, n: usize, target: Target) {
        self.operate(n, For::Get, Request::Get { target, salt: [].into(), mode: GetMode::Network });
    }

    /// Says that this node is there, and looks who else is.
    pub(crate) fn seek_ring(&mut self, n: usize) {
        let port = addr(n as Who).port();
        self.operate(n, For::Name, Request::Announce { name: NAME.into(), port });
        self.operate(n, For::Meet, Request::Lookup { name: NAME.into() });
    }

    /// What the ring has to tell: operations that ended, and what its nodes heard.
    pub(crate) fn ring_spoke(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let done = std::mem::take(&mut ring.net.done);
        let heard = ring.net.heard.as_mut().map(std::mem::take).unwrap_or_default();
        for (op, _, outcome) in done {
            let operation = self.ring.as_mut().and_then(|ring| ring.operations.remove(&op));
            if let Some((n, life, purpose)) = operation.filter(|(n, life, _)| self.nodes[*n].life == *life) {
                debug_assert_eq!(self.nodes[n].life, life);
                self.done(n, purpose, outcome);
            }
        }
        for (n, event) in heard {
            self.heard(n as usize, event);
        }
    }

    fn done(&mut self, n: usize, purpose: For, outcome: Outcome) {
        match (purpose, outcome) {
            (For::Put(offer), Outcome::Put(_)) => {
                let name = format!("{ANNOUNCEMENT}{}", offer.target()).into_bytes().into();
                self.operate(
                    n,
                    For::Announcement(offer),
                    Request::Announce { name, port: addr(n as Who).port() },
                );
            }
            (For::Announcement(offer), Outcome::Announced(Ok(_))) => {
                self.after_ms(1, n, What::Published(offer));
            }
            (For::Get, Outcome::Item(Ok(Some(found)))) => {
                if let Item::Mutable(item) = found.item
                    && let Some(offer) = self.read(item.into_inner())
                {
                    self.found(n, offer);
                }
            }
            (For::Meet, Outcome::Peers(Ok(found))) => {
                let others = found.into_iter().map(|peer| who(peer) as usize);
                let met = others.filter(|m| *m != n && *m < self.nodes.len()).collect();
                self.after_ms(1, n, What::Met(met));
            }
            _ => {}
        }
    }

    fn heard(&mut self, n: usize, event: DhtEvent) {
        match event {
            DhtEvent::Stored(item) => {
                if let Some(offer) = self.read(item.into_inner()) {
                    self.stored(n, offer);
                }
            }
            DhtEvent::Announce { name, .. } => {
                let hash = name.strip_prefix(ANNOUNCEMENT.as_bytes());
                let target = hash.and_then(|hash| std::str::from_utf8(hash).ok()?.parse().ok());
                if let Some(target) = target {
                    self.after_ms(1, n, What::Hint(target));
                }
            }
            _ => {}
        }
    }
}
