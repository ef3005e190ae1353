//! Nodes that were not there when it happened.

use crate::{
    equal, has_neighbours, node,
    testnet::process::{NodeProcess, grape},
};
use serde_json::json;
use std::time::Duration;

/// Much longer than `PING_AFTER` and the five seconds in which nobody answers it: the others have given the node up.
const CUT_OFF: Duration = Duration::from_mins(1);
/// It notices within seconds and asks a new neighbour for everything; half a head interval is for a machine that is busy.
const BACK_AFTER: Duration = Duration::from_secs(30);

async fn create(node: &NodeProcess, key: &str) -> String {
    let body = json!({"btc_quantity": "1", "offer_price": "100"});
    let (status, offer) = node.post("/offers", key, body).await.unwrap();
    assert_eq!(status, 201, "{offer}");
    offer["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_or_was_cut_off_learns_of_everything() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let [a, b, c] = ["a", "b", "c"].map(|name| node(dirs.path(), name, &bootstrap));
    let (a, b, c) = tokio::join!(a, b, c);
    let some = async |node: &NodeProcess, name: &str, count: usize| {
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(create(node, &format!("{name}-{n}")).await);
        }
        ids
    };
    let (of_a, ..) = tokio::join!(some(&a, "a", 334), some(&b, "b", 333), some(&c, "c", 333));
    equal(&[&a, &b, &c], 1000).await;

    let d = node(dirs.path(), "d", &bootstrap).await;
    let took = equal(&[&a, &d], 1000).await;
    println!("who joined late held 1,000 records {took:.2?} after it was ready");
    has_neighbours(&d, 2).await;
    create(&d, "d").await;
    equal(&[&a, &b, &c, &d], 1001).await;

    d.process.signal("STOP");
    let (mut closed, begun) = (of_a.iter(), std::time::Instant::now());
    let mut opened = 0;
    while begun.elapsed() < CUT_OFF {
        assert_eq!(a.withdraw(closed.next().unwrap()).await.unwrap().0, 200);
        create(&b, &format!("while-d-is-away-{opened}")).await;
        opened += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    d.process.signal("CONT");
    let took = equal(&[&a, &b, &c, &d], 1001 + opened).await;
    assert!(took < BACK_AFTER, "who was cut off held the same only {took:.2?} after it was back");
    println!(
        "who was cut off for {CUT_OFF:?}, while {opened} closed and opened, held the same {took:.2?} later"
    );
}
