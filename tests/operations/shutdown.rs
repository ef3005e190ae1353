//! A node and a grape that are told to stop are gone within two seconds, whoever is still connected, and forget nothing.

use super::testnet::process::{NodeProcess, Process, grape};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// What a supervisor and a person are promised.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// A client of every rude kind: silent, resting after an answer, half a head, half a body, one that reads nothing.
fn rude(address: &str) -> Vec<TcpStream> {
    let said = [
        "",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhos",
        "POST /api/v1/offers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{",
    ];
    let mut streams: Vec<TcpStream> = said
        .iter()
        .map(|text| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(streams[1].read(&mut [0; 64]).unwrap() > 0, "the resting client had its answer");
    let mut deaf = TcpStream::connect(address).unwrap();
    let listing = "GET /api/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    deaf.write_all(listing.as_bytes()).unwrap();
    streams.push(deaf);
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_in_time_and_keeps_what_it_acknowledged() {
    let dirs = tempfile::tempdir().unwrap();
    let (mut grape, bootstrap) = grape();
    let mut maker = NodeProcess::start(&dirs.path().join("maker"), &bootstrap);
    let mut taker = NodeProcess::start(&dirs.path().join("taker"), &bootstrap);
    for node in [&maker, &taker] {
        super::testnet::until("both nodes and the grape to know each other", || async {
            node.get("/node").await.is_some_and(|view| view["dht"]["nodes"] == 2)
        })
        .await;
    }
    let id = offer_known_to(&maker, &taker).await;
    let mut clients = rude(maker.url().trim_start_matches("http://"));
    clients.extend(rude(taker.url().trim_start_matches("http://")));
    let rpc = maker.settings()[3].clone();
    clients.push(TcpStream::connect(&rpc).unwrap());

    let (status, took) = maker.process.terminate();
    assert!(status.success() && took < GONE_WITHIN, "{status} after {took:?}");

    // A caller who waits for the maker that is gone is told that the bid is in doubt, not cut off.
    let waiting = taker.post_later(&format!("/offers/{id}/bids"), "b", json!({"wait_ms": 30_000}));
    super::testnet::until("the bid to be stored", || async {
        taker.get("/node").await.is_some_and(|view| view["outbox"]["bids_in_doubt"] == 1)
    })
    .await;
    let (status, took) = taker.process.terminate();
    assert!(status.success() && took < GONE_WITHIN, "{status} after {took:?}");
    let (status, bid) = waiting.await.unwrap().expect("an answer before the end");
    assert_eq!((status, &bid["status"]), (202, &"in_doubt".into()), "{bid}");

    maker.restart();
    taker.restart();
    super::testnet::until("the bid to be settled after both are back", || async {
        taker.trades().await.len() == 1 && maker.trades().await.len() == 1
    })
    .await;
    let (status, took) = grape.terminate();
    assert!(status.success() && took < GONE_WITHIN, "{status} after {took:?}");
    drop(clients);
}

/// An offer of `maker` that `taker` lists. News that nobody has heard is told again after a minute only; a new offer is quicker.
async fn offer_known_to(maker: &NodeProcess, taker: &NodeProcess) -> String {
    for attempt in 0..20 {
        let body = json!({"btc_quantity": "1", "offer_price": "100"});
        let (_, offer) = maker.post("/offers", &format!("offer-{attempt}"), body).await.unwrap();
        let id = offer["id"].as_str().unwrap().to_owned();
        for _ in 0..100 {
            if taker.lists(&id).await {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("none of twenty offers reached the taker")
}

#[test]
fn a_grape_ends_in_time_with_clients_connected() {
    let (dht, http) = (super::testnet::free_port(), super::testnet::free_port());
    let args = ["grape", "--dp", &dht.to_string(), "--aph", &http.to_string(), "--bn", ""];
    let mut grape = Process::spawn(&args.map(str::to_owned));
    let started = std::time::Instant::now();
    let address = format!("127.0.0.1:{http}");
    while TcpStream::connect(&address).is_err() {
        assert!(started.elapsed() < super::testnet::PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let clients = rude(&address);
    let (status, took) = grape.terminate();
    assert!(status.success() && took < GONE_WITHIN, "{status} after {took:?}");
    drop(clients);
}
