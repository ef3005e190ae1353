//! Replicas on real sockets: what one node lists comes to every other, soon, whole, and checked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod testnet;

use std::time::Instant;
use testnet::{Net, create, until};
use vintner::{
    bep44::Target,
    node::{Node, NodeConfig},
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
