//! Replicas on real sockets: what one node lists comes to every other, soon, whole, and checked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod testnet;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use testnet::{Net, bid, create, gone_everywhere, listed_everywhere, network_name, until};
use vintner::{
    bep44::Target,
    exchange::{BidOutcome, OfferRef},
    grenache::{
        address::AddressPolicy,
        client::{Client, ClientConfig},
    },
    identity::{ClientId, MasterKey, Signed},
    market::{Bid, BidId, OfferId},
    node::{Node, NodeConfig, clock},
    workers::Workers,
};

/// What a node lists: each record's hash and sequence.
fn listed(node: &Node) -> Vec<(Target, u64)> {
    let snapshot = node.exchange().snapshot();
    snapshot.state.market.records.iter().map(|(target, offer)| (*target, offer.sequence)).collect()
}

async fn have_neighbours(nodes: &[Node]) {
    for node in nodes {
        until("neighbours", || async { !node.replica().status.neighbours.is_empty() }).await;
    }
}

async fn equal(nodes: &[Node]) {
    for node in &nodes[1..] {
        until("replicas to be equal", || async { listed(node) == listed(&nodes[0]) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_lists_is_brought_by_its_neighbours() {
    let net = Net::start(1, 3).await;
    have_neighbours(&net.nodes).await;
    for n in 0..30 {
        create(&net.nodes[n % 3], "100").await;
    }
    equal(&net.nodes).await;
    let received: u64 = net.nodes.iter().map(|node| node.replica().counters.records_received).sum();
    assert!(received >= 30, "gossip brought {received} records");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_learns_of_everything() {
    let mut net = Net::start(1, 2).await;
    for n in 0..400 {
        create(&net.nodes[n % 2], "100").await;
    }
    let started = Instant::now();
    net.add_node().await;
    equal(&net.nodes).await;
    println!("a late joiner had 400 records after {:?}", started.elapsed());
    until("the late joiner to be synced", || async { net.nodes[2].replica().status.is_synced() }).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_know_their_address_are_told_it() {
    let mut net = Net::start(1, 0).await;
    for n in 0..3 {
        // As in a container.
        let rpc = "0.0.0.0:0".parse().unwrap();
        net.nodes.push(Node::start(NodeConfig { rpc, ..net.config(n) }).await.unwrap());
    }
    have_neighbours(&net.nodes).await;
    create(&net.nodes[0], "100").await;
    equal(&net.nodes).await;
    for node in &net.nodes {
        until("everything to be synced", || async { node.status().replication.synced().is_ok() }).await;
    }
    let received: u64 = net.nodes.iter().map(|node| node.replica().counters.records_received).sum();
    assert!(received > 0, "the offer came by gossip");
    net.stop().await;
}

/// A data directory as it was before a sale: the maker learns of the sale before it decides on a bid.
#[tokio::test(flavor = "multi_thread")]
async fn a_maker_with_the_store_of_an_earlier_day_sells_nothing_twice() {
    let mut net = Net::start(1, 3).await;
    have_neighbours(&net.nodes).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    let (dir, backup) = (net.dir(0), net.dir(0).with_extension("backup"));
    copy(&dir, &backup);
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let (_, sold) = bid(&net.nodes[1], offer, "100").await.unwrap();
    assert!(matches!(sold, BidOutcome::Accepted(_)), "{sold:?}");
    gone_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&backup, &dir).unwrap();

    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let maker = net.nodes[0].status();
    // By hand, as a stranger's node would that has not heard of the sale.
    let mut refused = BTreeSet::new();
    for n in 0..200 {
        let code = ask_by_hand(maker.client_id, maker.rpc, &net.nodes[0], offer, n).await;
        assert!(["starting", "store_behind"].contains(&&*code), "{code}");
        if refused.insert(code) && net.nodes[0].status().store_behind {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused.contains("starting"), "{refused:?}");
    until("the maker to know it", || async { net.nodes[0].status().store_behind }).await;
    net.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Bids on an offer as it was, and gives the code of what the maker says instead of deciding.
async fn ask_by_hand(maker: ClientId, rpc: SocketAddr, node: &Node, offer: OfferId, n: u8) -> String {
    let state = node.exchange().snapshot();
    let record = state.state.find(OfferRef::Id(offer)).unwrap();
    let key = MasterKey::from_bytes([200; 32]).client_key();
    let now = clock::now();
    let bid = Bid {
        network: network_name(),
        id: BidId(uuid::Uuid::from_u128(u128::from(n) + 1)),
        bidder: key.public(),
        maker,
        offer_id: offer,
        offer_hash: record.target(),
        terms: record.terms,
        price: record.terms.offer_price,
        created_at: now,
        valid_until: now.plus(Duration::from_mins(5)),
    };
    let bid = Signed::sign(&key, bid);
    let body = serde_json::to_string(&serde_json::json!({ "bid": bid.source() })).unwrap();
    let policy = AddressPolicy { allow_private: true };
    let config = ClientConfig { network: network_name(), policy, timeout: Duration::from_secs(10) };
    let client = Client::new(config, Workers::start(1).unwrap()).unwrap();
    let reply = client.call_signed(rpc, &key, maker, "offer:bid", &body, clock::now).await.unwrap();
    reply.outcome.expect_err("the maker decides nothing").code
}
