//! What this node asks others and what others may ask it: `hello` and `offer:bid` here, `gossip` and `ask` in `replication`, `dial_back`
//! in `reach`, `trades` in `recovery`. `asker` puts this node's own bids, in the order of `turns`.

mod asker;
mod turns;

pub(super) use asker::Asker;

use super::{
    contacts::{Card, HELLO, Hello},
    exchange::Exchange,
    reach::{DIAL_BACK, Dialer, Whereabouts},
    recovery::{self, TRADES},
    replication::{ASK, GOSSIP, Replication},
};
use crate::{
    dht::Dht,
    exchange::CommandError,
    grenache::{
        address::is_of_use_to,
        envelope::{Outcome, RpcRefusal, VerifiedRequest},
        server::Commands,
    },
    identity::{Signed, SignedText},
    market::Bid,
    workers::Workers,
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

/// The command by which a bidder asks a maker, the first time and again.
const OFFER_BID: &str = "offer:bid";
/// Every command, for those who count.
pub(super) const COMMANDS: [&str; 6] = [HELLO, OFFER_BID, GOSSIP, ASK, DIAL_BACK, TRADES];
/// DHT nodes that one that joins is told.
const DHT_NODES_TOLD: usize = 8;
/// The longest nonce that a hello may carry.
const NONCE_BYTES_MAX: usize = 64;

/// The body of `offer:bid`.
#[derive(Debug, Serialize, Deserialize)]
struct OfferBid {
    bid: SignedText,
}

/// The addresses that this node tells others; known only once its RPC port is bound.
pub(super) type Addresses = Arc<RwLock<Vec<SocketAddr>>>;

/// What others may ask.
pub(super) fn commands(
    (exchange, replication, workers, dht): (&Exchange, &Replication, &Workers, &Dht),
    addresses: Addresses,
    dialer: Dialer,
    whereabouts: Whereabouts,
) -> Commands {
    let asked = whereabouts.clone();
    let (greeter, exchange, workers) = (exchange.clone(), exchange.clone(), workers.clone());
    let dht = dht.clone();
    let (teller, gossip, ask) = (exchange.clone(), replication.clone(), replication.clone());
    let (charged, replication) = (replication.clone(), replication.clone());
    Commands::default()
        .on(HELLO, move |request, from| {
            let (greeter, addresses, dht) = (greeter.clone(), Arc::clone(&addresses), dht.clone());
            let whereabouts = whereabouts.clone();
            async move {
                let from = from.ip().to_canonical();
                whereabouts.arrived(from);
                hello(&greeter, &addresses, &dht, &whereabouts, &request, from).await
            }
        })
        .on(OFFER_BID, move |request, _| {
            offer_bid(exchange.clone(), workers.clone(), replication.knows_own(), request)
        })
        .on(GOSSIP, move |request, _| {
            let replication = gossip.clone();
            async move { replication.gossip(request) }
        })
        .on(ASK, move |request, from| {
            let replication = ask.clone();
            asked.arrived(from.ip());
            async move { replication.ask(request).await }
        })
        .on(DIAL_BACK, move |request, from| dialer.clone().answer(request, from))
        .on(TRADES, move |request, _| {
            let answer = recovery::tell(&teller, &charged, &request);
            async move { answer }
        })
}

async fn hello(
    exchange: &Exchange,
    addresses: &Addresses,
    dht: &Dht,
    whereabouts: &Whereabouts,
    request: &VerifiedRequest,
    from: IpAddr,
) -> Outcome {
    let malformed = |detail: &str| RpcRefusal::new("malformed", detail, false);
    let hello: Hello =
        serde_json::from_str(request.body()).map_err(|_| malformed("a hello is {\"nonce\": \"...\"}"))?;
    if hello.nonce.len() > NONCE_BYTES_MAX {
        return Err(malformed("a nonce has at most 64 bytes"));
    }
    whereabouts.greeted(request.from(), &hello.nonce);
    let start_from = if hello.join { dht_to_start_from(dht, from).await } else { Vec::new() };
    let addresses = addresses.read().unwrap_or_else(PoisonError::into_inner);
    let card = Card::new(exchange.network(), exchange.client_id(), &addresses);
    serde_json::to_string(&Card { nonce: Some(hello.nonce), seen: Some(from), dht: start_from, ..card })
        .map_err(|e| malformed(&e.to_string()))
}

/// This node's own DHT node first: it answers as soon as it is asked. The others serve when this node is away. Unspecified, as on every
/// interface, stands for the address that was asked.
async fn dht_to_start_from(dht: &Dht, from: IpAddr) -> Vec<SocketAddr> {
    let known = dht.known_nodes().await.unwrap_or_default();
    let all = std::iter::once(dht.local_addr().into()).chain(known);
    all.filter(|address| is_of_use_to(from, address.ip())).take(DHT_NODES_TOLD).collect()
}

async fn offer_bid(
    exchange: Exchange,
    workers: Workers,
    knows_own: bool,
    request: VerifiedRequest,
) -> Outcome {
    let not_now = |code: &str, detail: String| RpcRefusal::new(code, detail, true);
    let refused = |code: &str, detail: String| RpcRefusal::new(code, detail, false);
    if !knows_own {
        let detail =
            "this node has just started and asks the network first whether it has missed a sale; ask again";
        return Err(not_now("starting", detail.into()));
    }
    let body: OfferBid = serde_json::from_str(request.body())
        .map_err(|e| refused("malformed", format!("the body is no bid: {e}")))?;
    let network = exchange.network().clone();
    let bid = workers.run(move || Signed::<Bid>::verify(body.bid, &network)).await;
    let bid = bid.map_err(|busy| not_now("busy", busy.to_string()))?;
    let bid = bid.map_err(|e| refused("bad_bid", e.to_string()))?;
    if bid.bidder != request.from() {
        return Err(refused("wrong_sender", "a bid is sent by its bidder".into()));
    }
    let answer = exchange.bid_received(bid).await.map_err(|error| match error {
        CommandError::StoreBehind => not_now("store_behind", error.to_string()),
        CommandError::StorageFull => not_now("storage_full", error.to_string()),
        CommandError::Stopping => not_now("stopping", error.to_string()),
        error => not_now("busy", error.to_string()),
    })?;
    serde_json::to_string(&answer).map_err(|e| not_now("internal", e.to_string()))
}
