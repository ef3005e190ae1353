//! Stock services of both versions, and our callers and the stock clients of both versions.

use crate::rings::{
    Ring, VERSIONS, caller, caller_with, local, payloads, raw, shown, stock_calls, stock_service,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use vintner::{
    dht::{Dht, DhtConfig},
    grenache::caller::{CallerConfig, Named},
    workers::Workers,
};

async fn ours_ask(gzip: bool) {
    let ring = Ring::mixed().await;
    let caller = caller_with(CallerConfig { gzip, ..CallerConfig::default() });
    for version in VERSIONS {
        let (_service, port) = stock_service(&ring, version, "rpc:test", Value::Null).await;
        let ask = async |payload: &Value| {
            shown(&caller.request(local(port), "rpc:test", &raw(payload)).await.unwrap())
        };
        for payload in payloads() {
            let expected = json!([null, {"key": "rpc:test", "payload": payload, "client": null}]);
            assert_eq!(ask(&payload).await, expected, "{version}");
        }
        assert_eq!(ask(&json!("nothing")).await, json!([null, null]), "{version}");
        assert_eq!(ask(&json!("fail")).await, json!(["ERR_EXAMPLE", null]), "{version}");
    }
}

/// Statement 48: our caller asks stock services of both versions; their replies come in chunks, without a content type.
#[tokio::test]
async fn our_callers_ask_stock_services() {
    ours_ask(false).await;
}

/// Statement 48: the same with gzip there and back.
#[tokio::test]
async fn our_callers_that_compress_ask_stock_services() {
    ours_ask(true).await;
}

/// Statement 48: `map` asks stock services of both versions at once, and one that is gone hides no answer.
#[tokio::test]
async fn our_callers_map_stock_services_and_one_that_is_gone() {
    let ring = Ring::of_ours().await;
    let (_one, first) = stock_service(&ring, "0.7", "rpc:map", Value::Null).await;
    let (_two, second) = stock_service(&ring, "1.0", "rpc:map", Value::Null).await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let addresses = [local(first), gone, local(second)];
    let outcomes = caller().map(&addresses, "rpc:map", &raw(&json!(5))).await;
    let expected = json!([null, {"key": "rpc:map", "payload": 5, "client": null}]);
    assert_eq!(outcomes.iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses);
    for at in [0, 2] {
        assert_eq!(shown(outcomes[at].1.as_ref().unwrap()), expected);
    }
    assert!(outcomes[1].1.as_ref().unwrap_err().never_sent());
    // One of the three, and another when that is the one that is gone.
    for _ in 0..12 {
        let reply = caller().request_any(&addresses, "rpc:map", &raw(&json!(5))).await.unwrap();
        assert_eq!(shown(&reply), expected);
    }
}

/// Statement 48: our caller finds a stock service through its own DHT node, without a grape.
#[tokio::test]
async fn our_callers_find_a_stock_service_natively() {
    let ring = Ring::mixed().await;
    let (_service, port) = stock_service(&ring, "1.0", "rpc:native", Value::Null).await;
    let config = DhtConfig::new("127.0.0.1:0".parse().unwrap(), vec![ring.ours.bootstrap()], [8; 32]);
    let dht = Dht::start(config, Workers::start(1).unwrap()).await.unwrap();
    let addresses = loop {
        let found = dht.lookup(b"rpc:native").await.unwrap_or_default();
        if !found.is_empty() {
            break found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(addresses, [local(port)]);
    let reply = caller().request_any(&addresses, "rpc:native", &raw(&json!("hello"))).await.unwrap();
    assert_eq!(shown(&reply)[1]["payload"], "hello");
    dht.shutdown().await;
}

/// Statement 48: our caller streams to stock services of both versions.
#[tokio::test]
async fn our_callers_stream_to_stock_services() {
    let ring = Ring::of_ours().await;
    for version in VERSIONS {
        let name = format!("rpc:stream:{version}");
        let (_service, port) = stock_service(&ring, version, &name, json!({"stream": true})).await;
        let (sender, chunks) = mpsc::channel(2);
        let args = raw(&json!({"foo": "größe"}));
        let named = Named { key: &name, action: Some("upload"), args: Some(&args) };
        let (caller, send) = (caller(), async move {
            for chunk in ["hello ", "wörld", ""] {
                sender.send(chunk.into()).await.unwrap();
            }
        });
        let (reply, ()) = tokio::join!(caller.stream(local(port), named, chunks), send);
        let expected = json!([null, {"key": name, "isStream": true, "action": "upload",
            "args": {"foo": "größe"}, "body": "hello wörld"}]);
        assert_eq!(shown(&reply.unwrap()), expected, "{version}");
    }
}

/// Each stock client and each stock service, of which our grapes only carry the names.
#[tokio::test]
async fn stock_clients_and_stock_services_of_either_version_meet_over_our_grapes() {
    let calls = [
        json!({"do": "request", "payload": {"length": 4}, "options": {}}),
        json!({"do": "request", "payload": "größe", "options": {"compress": true}}),
        json!({"do": "request", "payload": "nothing", "options": {}}),
        json!({"do": "request", "payload": "fail", "options": {"compress": true}}),
        json!({"do": "map", "payload": null, "options": {}}),
    ];
    for ring in Ring::both().await {
        for server in VERSIONS {
            let name = format!("rpc:{server}");
            let (_service, _) = stock_service(&ring, server, &name, Value::Null).await;
            let of = |payload: Value| json!({"key": name, "payload": payload, "client": null});
            let expected = json!([
                [null, of(json!({"length": 4}))],
                [null, of(json!("größe"))],
                [null, null],
                ["ERR_EXAMPLE", null],
                [null, [of(Value::Null)]],
            ]);
            for client in VERSIONS {
                let replies = stock_calls(&ring, client, &name, &calls, Value::Null).await;
                assert_eq!(Value::from(replies), expected, "client {client}, service {server}");
            }
        }
    }
}
