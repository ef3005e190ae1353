//! Whole networks in one process, on real sockets: grapes (DHT nodes without a market) and trading nodes.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses its own part of this")]

pub mod hosts;
#[path = "../support/ports.rs"]
mod ports;
pub mod process;

pub use ports::free_port;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use vintner::{
    amount::Price,
    dht::{Dht, DhtConfig},
    exchange::{BidOutcome, Done, NewBid, OfferRef, Seen},
    identity::Network,
    market::{Acceptance, BidId, Currency, NewOffer, OfferId, Side, Terms},
    node::{Node, NodeConfig},
    time::UnixMillis,
    workers::Workers,
};

/// How long something may take on a loaded machine before the test gives up. Never a figure.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn network_name() -> Network {
    "test".parse().unwrap()
}

pub async fn grape(port: u16, bootstrap: Vec<String>) -> Dht {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Dht::start(DhtConfig::new(listen, bootstrap, seed), Workers::start(1).unwrap()).await.unwrap()
}

pub struct Net {
    pub grapes: Vec<Dht>,
    pub nodes: Vec<Node>,
    pub bootstrap: Vec<String>,
    dirs: TempDir,
}

impl Net {
    pub async fn start(grapes: usize, nodes: usize) -> Self {
        let dirs = tempfile::tempdir().unwrap();
        let mut net = Self { grapes: Vec::new(), nodes: Vec::new(), bootstrap: Vec::new(), dirs };
        for _ in 0..grapes {
            let grape = grape(0, net.bootstrap.clone()).await;
            net.bootstrap.push(grape.local_addr().to_string());
            net.grapes.push(grape);
        }
        for _ in 0..nodes {
            net.add_node().await;
        }
        net.joined().await;
        net
    }

    pub fn config(&self, n: usize) -> NodeConfig {
        NodeConfig::local(network_name(), self.dir(n), self.bootstrap.clone())
    }

    pub fn dir(&self, n: usize) -> PathBuf {
        self.dirs.path().join(format!("node-{n}"))
    }

    pub async fn add_node(&mut self) -> &Node {
        let node = Node::start(self.config(self.nodes.len())).await.unwrap();
        self.nodes.push(node);
        self.nodes.last().unwrap()
    }

    /// Waits until every node knows every other DHT node: from then on a put and an announcement reach all.
    pub async fn joined(&self) {
        let all = (self.grapes.len() + self.nodes.len()).saturating_sub(1);
        for node in &self.nodes {
            until("all DHT nodes to know each other", || async { node.status().dht.nodes >= all }).await;
        }
    }

    pub async fn stop(self) {
        for node in &self.nodes {
            node.stop().await;
        }
        for grape in self.grapes {
            grape.shutdown().await;
        }
    }
}

/// Waits for a condition; fails with its name when it never holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn terms(price: &str) -> Terms {
    Terms {
        side: Side::Sell,
        btc_quantity: "1".parse().unwrap(),
        offer_price: price.parse().unwrap(),
        currency: Currency::USD,
    }
}

pub fn new_offer(price: &str, now: UnixMillis) -> NewOffer {
    let day = Duration::from_hours(24);
    NewOffer {
        terms: terms(price),
        acceptance: Acceptance::First,
        expires_at: now.plus(day),
        dies_at: now.plus(2 * day),
        memo: None,
    }
}

pub async fn create(node: &Node, price: &str) -> OfferId {
    match node.exchange().create(new_offer(price, node.exchange().now()), None).await {
        Ok(Done::Created { offer, .. }) => offer,
        other => panic!("create: {other:?}"),
    }
}

/// A bid of somebody who does not say what he saw.
pub fn new_bid(offer: OfferRef, price: Option<Price>) -> NewBid {
    NewBid { offer, price, seen: Seen::default(), valid_for: Duration::from_mins(5) }
}

/// Bids the offer's price and waits for the answer.
pub async fn bid(
    node: &Node,
    offer: OfferId,
    price: &str,
) -> Result<(BidId, BidOutcome), vintner::exchange::CommandError> {
    let price = Some(price.parse().unwrap());
    match node.exchange().bid(new_bid(OfferRef::Id(offer), price), Duration::from_secs(10), None).await? {
        Done::Bid { bid, .. } => Ok((bid, outcome(node, bid))),
        other => panic!("bid: {other:?}"),
    }
}

pub fn outcome(node: &Node, bid: BidId) -> BidOutcome {
    node.exchange().snapshot().state.bids_out[&bid].outcome.clone()
}

/// Whether the node lists the offer as one that can be taken.
pub fn lists(node: &Node, offer: OfferId) -> bool {
    let state = &node.exchange().snapshot().state;
    state.market.available.iter().any(|((id, _), _)| *id == offer)
}

pub async fn listed_everywhere(nodes: &[Node], offer: OfferId) {
    for node in nodes {
        until("the offer to be listed", || async { lists(node, offer) }).await;
    }
}

pub async fn gone_everywhere(nodes: &[Node], offer: OfferId) {
    for node in nodes {
        until("the offer to be gone", || async { !lists(node, offer) }).await;
    }
}
