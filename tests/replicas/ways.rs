//! The ways that lead to a replica, one by one and together.

use crate::{
    equal, has_neighbours, node,
    testnet::{
        Net, create, listed_everywhere, lists,
        process::{NodeProcess, grape, vintner},
        until,
    },
};
use serde_json::json;
use std::{fs, net::Ipv4Addr, os::unix::fs::DirBuilderExt, time::Instant};
use vintner::node::{Node, NodeConfig};

async fn have_neighbours(nodes: &[Node]) {
    for node in nodes {
        until("neighbours", || async { !node.replica().status.neighbours.is_empty() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_lists_is_brought_by_its_neighbours() {
    let net = Net::start(1, 3).await;
    have_neighbours(&net.nodes).await;
    let mut offers = Vec::new();
    for n in 0..30 {
        offers.push(create(&net.nodes[n % 3], "100").await);
    }
    for node in &net.nodes {
        until("all offers", || async { offers.iter().all(|offer| lists(node, *offer)) }).await;
    }
    let received: u64 = net.nodes.iter().map(|node| node.replica().counters.records_received).sum();
    assert!(received >= 30, "gossip brought {received} records");
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
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    for node in &net.nodes {
        until("everything to be synced", || async { node.status().is_synced() }).await;
    }
    let received: u64 = net.nodes.iter().map(|node| node.replica().counters.records_received).sum();
    assert!(received > 0, "the offer came by gossip");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_neighbours_hears_what_is_announced_in_the_dht() {
    let mut net = Net::start(1, 2).await;
    let mut config = net.config(2);
    // It connects to nobody here, and nobody finds its port: others look for it where its DHT packets come from.
    config.allow_private = false;
    config.rpc = (Ipv4Addr::new(127, 0, 0, 2), 0).into();
    config.advertise = vec![(Ipv4Addr::LOCALHOST, 1).into()];
    let lonely = Node::start(config).await.unwrap();
    net.nodes.push(lonely.clone());
    net.joined().await;
    for n in 0..10 {
        let offer = create(&net.nodes[n % 2], "100").await;
        until("an announced offer", || async { lists(&lonely, offer) }).await;
    }
    let status = &lonely.replica().status;
    assert!(status.neighbours.is_empty(), "{status:?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_comes_three_ways_is_checked_once() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let nodes = ["a", "b", "c", "d"].map(|name| node(dirs.path(), name, &bootstrap));
    let [a, b, c, d] = nodes;
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    for node in [&a, &b, &c, &d] {
        has_neighbours(node, 3).await;
    }
    let signatures = async |node: &NodeProcess, outcome: &str| {
        node.metric(&format!("vintner_record_signatures_total{{outcome=\"{outcome}\"}}")).await
    };
    let mut before = Vec::new();
    for node in [&b, &c, &d] {
        before.push((signatures(node, "checked").await, signatures(node, "known").await));
    }
    for n in 0..20 {
        let body = json!({"btc_quantity": "1", "offer_price": "100"});
        assert_eq!(a.post("/offers", &format!("{n}"), body).await.unwrap().0, 201);
    }
    equal(&[&a, &b, &c, &d], 20).await;
    until("all to be in the DHT, too", || async {
        a.get("/node").await.is_some_and(|view| view["outbox"]["unpublished"] == 0)
    })
    .await;
    let mut spared = 0.0;
    for (node, (checked, known)) in [&b, &c, &d].into_iter().zip(before) {
        let checked = signatures(node, "checked").await - checked;
        let known = signatures(node, "known").await - known;
        println!("20 records: {checked} signatures and proofs checked, {known} known");
        assert!((checked - 40.0).abs() < 0.5, "{checked} checks of 20 signatures and 20 proofs");
        spared += known;
    }
    // What the DHT brings later than a neighbour did is mostly not even looked at.
    assert!(spared > 0.0, "nothing came a second way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_an_old_backup_finds_out_and_takes_no_bids() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let mut maker = node(dirs.path(), "maker", &bootstrap).await;
    let other = node(dirs.path(), "other", &bootstrap).await;
    has_neighbours(&other, 1).await;
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let body = json!({"btc_quantity": "1", "offer_price": "100"});
        let (_, offer) = maker.post("/offers", key, body).await.unwrap();
        ids.push(offer["id"].as_str().unwrap().to_owned());
    }
    let (data, copy, restored) =
        (dirs.path().join("maker"), dirs.path().join("copy.db"), dirs.path().join("restored"));
    let backup = vintner(&["backup".as_ref(), "--data-dir".as_ref(), data.as_os_str(), copy.as_os_str()]);
    assert!({ backup }.output().unwrap().status.success());
    assert_eq!(maker.withdraw(&ids[0]).await.unwrap().0, 200);
    until("the withdrawal to be known", || async { !other.lists(&ids[0]).await }).await;
    maker.process.kill_9();

    fs::DirBuilder::new().mode(0o700).create(&restored).unwrap();
    fs::copy(&copy, restored.join("vintner.db")).unwrap();
    fs::copy(data.join("master.key"), restored.join("master.key")).unwrap();
    let maker = NodeProcess::start(&restored, &bootstrap);
    let started = Instant::now();
    until("the node to find that its store is old", || async {
        maker.get("/node").await.is_some_and(|view| view["store"]["behind"] == true)
    })
    .await;
    println!("a node on an old backup knew it {:.2?} after it was started", started.elapsed());
    let bid = json!({"wait_ms": 2000});
    let answer = other.post(&format!("/offers/{}/bids", ids[1]), "bid", bid).await.unwrap();
    assert_eq!(answer.0, 202, "nobody can tell whether it is still to be had: {}", answer.1);
    assert!(maker.trades().await.is_empty());
    assert_eq!(maker.post("/node/recover", "recover", json!({})).await.unwrap().0, 200);
    until("the bid to be answered", || async { other.trades().await.len() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_a_node_with_open_offers_leaves_everybody_synced() {
    let mut net = Net::start(1, 3).await;
    for node in &net.nodes {
        let offer = create(node, "100").await;
        listed_everywhere(&net.nodes, offer).await;
    }
    let all_synced = async |nodes: &[Node]| {
        for node in nodes {
            until("everybody to be synced", || async { node.status().is_synced() }).await;
        }
    };
    all_synced(&net.nodes).await;
    for n in 0..3 {
        let others = [(n + 1) % 3, (n + 2) % 3].map(|other| net.nodes[other].clone());
        let vain = |node: &Node| node.status().replication.counters.jobs_in_vain;
        let before = others.each_ref().map(vain);
        net.nodes[n].stop().await;
        let config = NodeConfig { rpc: net.nodes[n].status().rpc, ..net.config(n) };
        net.nodes[n] = Node::start(config).await.unwrap();
        let (started, id) = (Instant::now(), net.nodes[n].exchange().client_id());
        all_synced(&net.nodes[n..=n]).await;
        println!("node {n} is synced {:?} after its restart", started.elapsed());
        for other in &others {
            until("the others to be its neighbours", || async {
                other.status().replication.status.neighbours.contains(&id)
            })
            .await;
        }
        // Its new head is with the others by now, and gossip has its two seconds to bring what it might say that they lack.
        for _ in 0..30 {
            let behind = others.each_ref().map(|other| other.status().replication.status.behind_for);
            assert!(behind.iter().all(|lacking| lacking.as_secs() < 5), "{behind:?}");
            assert!(others.iter().all(|other| other.status().is_synced()));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(others.each_ref().map(vain), before, "what its head says is what they hold");
    }
    net.stop().await;
}
