//! Makers that say nothing more.

use crate::{
    equal, has_neighbours, node,
    testnet::process::{NodeProcess, grape},
};
use serde_json::json;
use std::time::{Duration, Instant};
use vintner::replication::core::limits::STALE_AFTER;

/// A machine that is busy with other tests may be late.
const SLACK: Duration = Duration::from_mins(1);

/// What a node shows of the offer when it is asked for silent makers too: whether it is marked.
async fn marked(node: &NodeProcess, offer: &str) -> bool {
    let page = node.get("/offers?include=stale").await.unwrap();
    let items = page["items"].as_array().unwrap();
    items.iter().any(|item| item["id"] == *offer && item["stale"] == true)
}

/// Waits until each node lists the offer, or does not; how long that took.
async fn listed(nodes: &[&NodeProcess], offer: &str, wanted: bool, within: Duration) -> Duration {
    let started = Instant::now();
    for node in nodes {
        while node.lists(offer).await != wanted {
            assert!(started.elapsed() < within, "listed: {} after {within:?}", !wanted);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_a_killed_maker_leave_the_lists_after_three_heads_and_return_with_it() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let [maker, b, c] = ["maker", "b", "c"].map(|name| node(dirs.path(), name, &bootstrap));
    let (mut maker, b, c) = tokio::join!(maker, b, c);
    for node in [&maker, &b, &c] {
        has_neighbours(node, 1).await;
    }
    let body = json!({"btc_quantity": "1", "offer_price": "100"});
    let (_, offer) = maker.post("/offers", "one", body).await.unwrap();
    let offer = offer["id"].as_str().unwrap();
    equal(&[&maker, &b, &c], 1).await;

    maker.process.kill_9();
    let took = listed(&[&b, &c], offer, false, STALE_AFTER + SLACK).await;
    println!("a killed maker's offer left the lists after {took:.0?}");
    // Its last head was a minute old at most when it was killed.
    assert!(took + Duration::from_mins(1) >= STALE_AFTER, "too early: {took:?}");
    for node in [&b, &c] {
        assert!(marked(node, offer).await, "kept, and marked");
    }

    maker.restart();
    maker.ready().await;
    let took = listed(&[&b, &c], offer, true, SLACK).await;
    println!("it was listed again {took:.2?} after its maker was ready");
}
