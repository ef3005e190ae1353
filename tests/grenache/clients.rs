//! Stock clients of both versions and our services.

use crate::rings::{Example, Ring, VERSIONS, payloads, serve, stock_calls};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use vintner::{
    dht::{Dht, DhtConfig},
    grenache::{
        server::{self, Commands, ServerConfig},
        service::{self, Call, Reply},
    },
    identity::KeyPair,
    time::UnixMillis,
    workers::Workers,
};

/// What the example service answers to `payload`.
fn echoed(payload: &Value) -> Value {
    json!([null, {"key": "rpc:test", "payload": payload, "client": null}])
}

async fn requests_and_maps(ring: &Ring, compress: bool) {
    let (one, two) = (serve(Example).await, serve(Example).await);
    ring.announce("rpc:test", one.local_addr().port()).await;
    ring.announce("rpc:test", two.local_addr().port()).await;
    let call = |method: &str, payload: &Value| json!({"do": method, "payload": payload, "options": {"compress": compress}});
    for version in VERSIONS {
        let mut calls: Vec<Value> = payloads().iter().map(|payload| call("request", payload)).collect();
        calls.push(json!({"do": "request", "options": {"compress": compress}}));
        calls.push(call("request", &json!("nothing")));
        calls.push(call("request", &json!("fail")));
        calls.push(call("request", &json!("both")));
        calls.push(call("map", &json!({"length": 4})));
        calls.push(call("map", &json!("fail")));
        calls.push(json!({"do": "map", "payload": 7, "options": {"compress": compress, "limit": 1}}));
        let replies = stock_calls(ring, version, "rpc:test", &calls, Value::Null).await;

        let mut expected: Vec<Value> = payloads().iter().map(echoed).collect();
        expected.push(echoed(&Value::Null));
        expected.push(json!([null, null]));
        expected.push(json!(["ERR_EXAMPLE", null]));
        expected.push(json!(["ERR_EXAMPLE", "beside"]));
        let each = echoed(&json!({"length": 4}))[1].clone();
        expected.push(json!([null, [each, each]]));
        expected.push(json!(["ERR_EXAMPLE", [null]]));
        expected.push(json!([null, [echoed(&json!(7))[1]]]));
        for ((call, reply), expected) in calls.iter().zip(&replies).zip(&expected) {
            let failed_map = expected == &json!(["ERR_EXAMPLE", [null]]);
            // What a failed map has as its result depends on which service answered first.
            let same = if failed_map { reply[0] == expected[0] } else { reply == expected };
            assert!(same, "{version}: {call} gave {reply}, not {expected}");
        }
    }
}

/// Statement 45: stock clients of both versions request and map over our grapes: objects, strings, null, errors.
#[tokio::test]
async fn stock_clients_request_and_map_our_services_over_our_grapes() {
    requests_and_maps(&Ring::of_ours().await, false).await;
}

/// Statement 45: the same with stock grapes in the ring.
#[tokio::test]
async fn stock_clients_request_and_map_our_services_over_a_mixed_ring() {
    requests_and_maps(&Ring::mixed().await, false).await;
}

/// Statement 46: the same with `compress: true`, where a stock client takes no reply that is not gzip.
#[tokio::test]
async fn stock_clients_that_compress_request_and_map_our_services() {
    requests_and_maps(&Ring::of_ours().await, true).await;
}

/// Statement 46: the same with stock grapes in the ring.
#[tokio::test]
async fn stock_clients_that_compress_request_and_map_our_services_over_a_mixed_ring() {
    requests_and_maps(&Ring::mixed().await, true).await;
}

/// A node's own port takes signed requests only, and says so to a stock client in a way that it can read.
#[tokio::test]
async fn stock_clients_that_do_not_sign_are_told_so_by_a_node() {
    let ring = Ring::of_ours().await;
    let config = ServerConfig {
        network: "test".parse().unwrap(),
        key: KeyPair::from_seed(&[2; 32]),
        clock: Arc::new(|| UnixMillis(1)),
        rate: service::RATE,
        known: Arc::default(),
        limits: service::LIMITS,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = server::serve(listener, config, Commands::default(), Workers::start(1).unwrap()).unwrap();
    ring.announce("test", node.local_addr().port()).await;
    let calls = [
        json!({"do": "request", "payload": {}, "options": {}}),
        json!({"do": "request", "payload": {}, "options": {"compress": true}}),
        json!({"do": "stream", "chunks": ["hello"], "options": {}}),
    ];
    for version in VERSIONS {
        let replies = stock_calls(&ring, version, "test", &calls, Value::Null).await;
        // A stream's reply comes as it is.
        for error in [&replies[0][0], &replies[1][0], &replies[2][1][1]] {
            let error = error.as_str().unwrap_or_else(|| panic!("{version}: {replies:?}"));
            assert!(
                error.starts_with("ERR_RPC_UNSIGNED: this node takes signed requests only"),
                "{version}: {error}"
            );
        }
    }
}

/// Three streams: one with all that a stream may have, an empty one, and one that is answered before it ends.
fn streams() -> [Value; 3] {
    let headers = json!({"_a": "uploadNewPublicStream", "_ar": {"foo": "bar", "n": [1, null]}, "content-type": "application/pdf"});
    [
        json!({"do": "stream", "chunks": ["hello ", "wörld"], "options": {"headers": headers}}),
        json!({"do": "stream", "chunks": [], "options": {}}),
        json!({"do": "stream", "chunks": ["answer ", "now"], "open": true, "options": {"headers": {"_ar": "no json"}}}),
    ]
}

/// Statement 47: stock clients stream to our service in chunks, with `_gr`, `_a` and `_ar`, and are answered as soon as it will.
#[tokio::test]
async fn stock_clients_stream_to_our_services() {
    for ring in Ring::both().await {
        let service = serve(Example).await;
        ring.announce("rpc:stream", service.local_addr().port()).await;
        for version in VERSIONS {
            let replies = stock_calls(&ring, version, "rpc:stream", &streams(), Value::Null).await;
            let said = |at: usize| {
                assert!(
                    replies[at][1][0].as_str().is_some_and(|rid| rid.len() == 36),
                    "{version}: {}",
                    replies[at]
                );
                assert_eq!(replies[at][1][1], Value::Null, "{version}");
                &replies[at][1][2]
            };
            let (key, yes) = ("rpc:stream", true);
            let expected = json!({"key": key, "isStream": yes, "action": "uploadNewPublicStream",
                "args": {"foo": "bar", "n": [1, null]}, "body": "hello wörld"});
            assert_eq!(said(0), &expected, "{version}");
            let expected = json!({"key": key, "isStream": yes, "action": null, "args": {}, "body": ""});
            assert_eq!(said(1), &expected, "{version}");
            let expected =
                json!({"key": key, "isStream": yes, "action": null, "args": {}, "body": "answer now"});
            assert_eq!(said(2), &expected, "{version}");
        }
    }
}

/// Statement 47: a service that is a function gets the whole body of a stream, and its frame's payload when it is a frame.
#[tokio::test]
async fn a_function_gets_a_streams_body_whole() {
    let ring = Ring::of_ours().await;
    let service = serve(async |call: Call| {
        let streamed = call.stream.as_ref().expect("a stream");
        Reply::of(&json!([call.key, streamed.action, streamed.body.len(), call.payload]))
    })
    .await;
    ring.announce("rpc:whole", service.local_addr().port()).await;
    for version in VERSIONS {
        let stream =
            |chunks: Value| json!({"do": "stream", "chunks": chunks, "options": {"headers": {"_a": "up"}}});
        let calls = [stream(json!(["hello ", "world"])), stream(json!(["[1,2,", "\"three\"]"]))];
        let replies = stock_calls(&ring, version, "rpc:whole", &calls, Value::Null).await;
        assert_eq!(replies[0][1][2], json!(["rpc:whole", "up", 11, null]), "{version}");
        assert_eq!(replies[1][1][2], json!(["rpc:whole", "up", 13, "three"]), "{version}");
    }
}

/// Statement 45: a service that announces itself by its own DHT node, with no grape of its own.
#[tokio::test]
async fn stock_clients_find_a_service_that_announces_itself_natively() {
    let ring = Ring::mixed().await;
    let bootstrap = ring.others.iter().chain([&ring.ours]).map(crate::support::Grape::bootstrap).collect();
    let config = DhtConfig::new("127.0.0.1:0".parse().unwrap(), bootstrap, [7; 32]);
    let dht = Dht::start(config, Workers::start(1).unwrap()).await.unwrap();
    let service = serve(Example).await;
    let port = service.local_addr().port();
    dht.keep_announced(b"rpc:native", port).await.unwrap();
    ring.finds("rpc:native", port).await;
    let call = json!({"do": "request", "payload": "hello", "options": {}});
    for version in VERSIONS {
        let replies =
            stock_calls(&ring, version, "rpc:native", std::slice::from_ref(&call), Value::Null).await;
        assert_eq!(replies[0][1]["payload"], "hello", "{version}: {replies:?}");
    }
    dht.shutdown().await;
}
