//! Replicas on real sockets: what one node lists comes to every other, soon, whole, and checked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod late;
mod silent;
mod twice;
mod ways;

#[path = "../testnet/mod.rs"]
mod testnet;

use std::{
    path::Path,
    time::{Duration, Instant},
};
use testnet::process::NodeProcess;

/// A head interval, and as long again for a machine that is busy with other tests.
const A_HEAD_OR_TWO: Duration = Duration::from_mins(2);

/// Starts a node of this name, and waits until it is ready.
async fn node(dirs: &Path, name: &str, bootstrap: &str) -> NodeProcess {
    let node = NodeProcess::start(&dirs.join(name), bootstrap);
    node.ready().await;
    node
}

/// Waits until all hold the same; how long that took.
async fn equal(nodes: &[&NodeProcess], records: usize) -> Duration {
    let started = Instant::now();
    loop {
        let first = nodes[0].replica().await.unwrap();
        let mut differing = Vec::new();
        for node in &nodes[1..] {
            let other = node.replica().await.unwrap_or_default();
            if other != first {
                differing.push(other.len());
            }
        }
        if differing.is_empty() && first.len() == records {
            return started.elapsed();
        }
        let what = format!("{records} records, the first node holds {}, others {differing:?}", first.len());
        assert!(started.elapsed() < A_HEAD_OR_TWO, "not equal after {A_HEAD_OR_TWO:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until it has this many neighbours at least.
async fn has_neighbours(node: &NodeProcess, least: usize) {
    testnet::until("neighbours", || async {
        let view = node.get("/node").await.unwrap_or_default();
        view["replication"]["neighbours"].as_array().is_some_and(|neighbours| neighbours.len() >= least)
    })
    .await;
}
