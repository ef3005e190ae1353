//! A store that was lost or restored: what the node says of it, and what `vintner recover` brings back from the others.

use super::{
    run,
    testnet::{
        PATIENCE,
        process::{NodeProcess, Process, grape},
        until,
    },
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};
use tokio::time::timeout;

/// Trades as both sides hold them: what both signed.
async fn trades(node: &NodeProcess) -> Vec<Value> {
    let mut trades: Vec<Value> =
        node.trades().await.into_iter().map(|trade| trade["signatures"].clone()).collect();
    trades.sort_by_key(ToString::to_string);
    trades
}

fn lose_store(data: &Path) {
    for file in ["vintner.db", "vintner.db-wal", "vintner.db-shm"] {
        let _ = fs::remove_file(data.join(file));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_get_their_trades_back_from_each_other() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let [maker_data, taker_data] = ["maker", "taker"].map(|name| dirs.path().join(name));
    let mut maker = NodeProcess::start(&maker_data, &bootstrap);
    let mut taker = NodeProcess::start(&taker_data, &bootstrap);
    maker.ready().await;
    taker.ready().await;
    let mut ids = Vec::new();
    for key in ["sold", "withdrawn"] {
        let body = json!({"btc_quantity": "0.5", "offer_price": "100"});
        let (_, offer) = maker.post("/offers", key, body).await.unwrap();
        ids.push(offer["id"].as_str().unwrap().to_owned());
    }
    let copy = dirs.path().join("copy.db");
    let (code, _, err) = run(&["backup", "--data-dir", maker_data.to_str().unwrap(), copy.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    until("the offer to arrive", || taker.lists(&ids[0])).await;
    let bid = json!({"price": "101", "wait_ms": 10_000});
    let (status, sold) = taker.post(&format!("/offers/{}/bids", ids[0]), "bid", bid).await.unwrap();
    assert_eq!((status, &sold["status"]), (201, &json!("accepted")), "{sold}");
    let trade = sold["trade_id"].as_str().unwrap();
    assert_eq!(maker.withdraw(&ids[1]).await.unwrap().0, 200);
    until("the withdrawal to be known", async || !taker.lists(&ids[1]).await).await;
    let before = trades(&maker).await;
    assert_eq!((before.len(), &trades(&taker).await), (1, &before));
    let taker_id = taker.get("/node").await.unwrap()["client_id"].as_str().unwrap().to_owned();
    let maker_id = maker.get("/node").await.unwrap()["client_id"].as_str().unwrap().to_owned();
    assert!(maker.process.terminate().0.success());

    // The maker is started on the backup, in which both offers are open.
    lose_store(&maker_data);
    fs::copy(&copy, maker_data.join("vintner.db")).unwrap();
    let log = dirs.path().join("log");
    let (args, api) = NodeProcess::arguments(&maker_data, &bootstrap);
    let process = Process::spawn_logging(&args, File::create(&log).unwrap());
    let maker = NodeProcess::of(process, args, &api, None);
    until("the maker to find that its store is old", || async {
        // Both offers, or what is found later would be recovered by another `recover`.
        let told = fs::read_to_string(&log).unwrap();
        ids.iter().all(|id| {
            told.lines().any(|line| {
                line.contains("the network knows a newer version of an own offer") && line.contains(id)
            })
        })
    })
    .await;
    let (code, _, err) = run(&["offers", "create", "--quantity", "1", "--price", "1", "--api", maker.url()]);
    assert!(code == 1 && err.contains("store_behind"), "{err}");
    let (code, out, err) = run(&["recover", "--api", maker.url()]);
    assert_eq!(code, 0, "{err}");
    let told = format!("offer {}: sold to {taker_id}: 0.5 BTC for 101 USD each, trade {trade}\n", ids[0]);
    assert!(out.contains(&told), "{out}");
    assert!(out.contains(&format!("offer {}: closed", ids[1])), "{out}");
    assert_eq!(trades(&maker).await, before);
    assert_eq!(maker.get(&format!("/offers/{}", ids[0])).await.unwrap()["status"], "sold");
    let (code, out, _) = run(&["recover", "--api", maker.url()]);
    assert!(code == 0 && out.contains("nothing to recover: 1 other nodes"), "{out}");
    let told = fs::read_to_string(&log).unwrap();
    for line in ["refused to offer", "recovering", "recovered an offer: it was sold", "recovered a trade"] {
        assert!(told.contains(line), "{line} in {told}");
    }

    // The taker has nothing but its key. Nothing in the network tells it that its store is gone.
    assert!(taker.process.terminate().0.success());
    lose_store(&taker_data);
    taker.restart();
    let ends = async {
        while !taker.process.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ends).await.expect("the node must refuse to begin anew");
    let (mut args, api) = NodeProcess::arguments(&taker_data, &bootstrap);
    args.push("--new-store".into());
    let taker = NodeProcess::start_with(args, &api, None);
    taker.ready().await;
    assert!(taker.trades().await.is_empty());
    let (code, out, err) = run(&["recover", "--api", taker.url()]);
    let told = format!("offer {}: bought from {maker_id}: 0.5 BTC for 101 USD each, trade {trade}\n", ids[0]);
    assert!(code == 0 && out.contains(&told), "{out}{err}");
    assert_eq!(trades(&taker).await, before);
}
