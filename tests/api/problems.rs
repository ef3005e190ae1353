//! Every way to fail that one node can show, and many bodies that make no sense.

use crate::{Api, GOOD, assert_problem};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let api = Api::start().await;
    let body = r#"{"btc_quantity":"-1","offer_price":-1e3,"side":"lend","currency":"usd","expires_at":"tomorrow",
        "dies_at":"2020-01-01T00:00:00Z","memo":5,"acceptance":"best","colour":"red","side":"sell"}"#;
    let response = api.post("/api/v1/offers", body).send().await.unwrap();
    let problem = assert_problem(response, 422, "validation_failed").await;
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    let expected = [
        "/acceptance",
        "/btc_quantity",
        "/colour",
        "/currency",
        "/dies_at",
        "/expires_at",
        "/memo",
        "/offer_price",
        "/side",
        "/side",
    ];
    assert_eq!(pointers, expected);

    let response = api.post("/api/v1/offers", "{}").send().await.unwrap();
    let problem = assert_problem(response, 422, "validation_failed").await;
    assert_eq!(
        problem["errors"],
        json!([{"pointer": "/btc_quantity", "detail": "is missing"}, {"pointer": "/offer_price", "detail": "is missing"}])
    );
}

#[tokio::test]
async fn fields_out_of_range_are_refused() {
    let api = Api::start().await;
    let year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(365 * 24);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let cases = [
        ("btc_quantity", json!("0")),
        ("btc_quantity", json!("21000000.00000001")),
        ("btc_quantity", json!(true)),
        ("btc_quantity", json!(["1"])),
        ("offer_price", json!("0.000000001")),
        ("offer_price", json!("")),
        ("memo", json!("x".repeat(121))),
        ("memo", json!("a\nb")),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!(year.to_string())),
        ("dies_at", json!(year.to_string())),
        ("dies_at", json!(soon.to_string())),
        ("expires_at", json!(format!("{}+25:00", &soon.to_string()[..19]))),
        ("expires_at", json!(soon.to_string().replace('T', " "))),
        ("expires_at", json!(soon.to_string().replace('Z', ""))),
        ("btc_quantity", json!(1e-9)),
        ("btc_quantity", json!(0.1 + 0.2)),
        ("offer_price", json!("1e")),
        ("currency", json!("U")),
        ("currency", json!(1)),
    ];
    for (name, value) in cases {
        let mut body: Value = serde_json::from_str(GOOD).unwrap();
        if name == "dies_at" {
            let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
            body["expires_at"] = later.to_string().into();
        }
        body[name] = value;
        let response = api.post("/api/v1/offers", body.to_string()).send().await.unwrap();
        let problem = assert_problem(response, 422, "validation_failed").await;
        assert_eq!(problem["errors"][0]["pointer"], format!("/{name}"), "{body}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let api = Api::start().await;
    for path in
        ["/api", "/api/v1", "/api/v1/nothing", "/api/v2/offers", "/swagger-ui/nothing.js", "/api/v1/offers/"]
    {
        assert_problem(api.get(path).await, 404, "not_found").await;
    }
    for (method, path, allowed) in [
        (Method::PUT, "/api/v1/offers", ["GET", "POST"]),
        (Method::PATCH, "/api/v1/offers/x", ["GET", "DELETE"]),
        (Method::OPTIONS, "/api/v1/offers", ["GET", "POST"]),
        (Method::DELETE, "/api/v1/trades", ["GET", "HEAD"]),
    ] {
        let request = api.request(method, path).header("content-type", "application/json");
        let response = request.send().await.unwrap();
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{allow}");
        assert_problem(response, 405, "method_not_allowed").await;
    }
    let head = api.request(Method::HEAD, "/api/v1/offers").send().await.unwrap();
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn ids_that_are_none_and_ids_of_nothing() {
    let api = Api::start().await;
    for id in ["x", "%ff", "00", "0123456789abcdef0123456789abcdef0123456z"] {
        for path in [
            format!("/api/v1/offers/{id}"),
            format!("/api/v1/offers/{id}/bids"),
            format!("/api/v1/bids/{id}"),
        ] {
            assert_problem(api.get(&path).await, 400, "invalid_id").await;
        }
    }
    for name in [NOBODY, &"ab".repeat(20)] {
        let offer = format!("/api/v1/offers/{name}");
        assert_problem(api.get(&offer).await, 404, "offer_not_found").await;
        let delete = api.request(Method::DELETE, &offer).send().await.unwrap();
        assert_problem(delete, 404, "offer_not_found").await;
        let bids = format!("{offer}/bids");
        assert_problem(api.get(&bids).await, 404, "offer_not_found").await;
        assert_problem(api.post(&bids, "{}").send().await.unwrap(), 404, "offer_not_found").await;
    }
    assert_problem(api.get(&format!("/api/v1/bids/{NOBODY}")).await, 404, "bid_not_found").await;
    assert_problem(api.get(&format!("/api/v1/trades/{NOBODY}")).await, 404, "trade_not_found").await;
}

#[tokio::test]
async fn a_node_cannot_bid_on_its_own_offer_and_its_bids_are_checked() {
    let api = Api::start().await;
    let offer = api.create(GOOD).await;
    let bids = format!("/api/v1/offers/{}/bids", offer["id"].as_str().unwrap());
    for body in ["", "{}", r#"{"price":"65000","valid_for_ms":1000,"wait_ms":0}"#] {
        assert_problem(api.post(&bids, body).send().await.unwrap(), 409, "own_offer").await;
    }
    let body =
        r#"{"price":"x","valid_for_ms":86400001,"wait_ms":30001,"side":"lend","sequence":0,"colour":"red"}"#;
    let problem = assert_problem(api.post(&bids, body).send().await.unwrap(), 422, "validation_failed").await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 6);
    for value in ["-1", "1000.5", "\"5000\"", "999", "1e2", "1e99", "99999999999999999999"] {
        let body = format!("{{\"valid_for_ms\":{value}}}");
        assert_problem(api.post(&bids, body).send().await.unwrap(), 422, "validation_failed").await;
    }
}

#[tokio::test]
async fn queries_are_read_to_the_letter() {
    let api = Api::start().await;
    for query in [
        "limit=0",
        "limit=1001",
        "colour=red",
        "mine=1",
        "availability=no",
        "cursor=x",
        "include=fresh",
        "include=stale&include=stale",
        "limit=1&limit=1",
        "limit=%2B5",
        "limit=+5",
        "limit=5.0",
        "min_price=%2B5",
        "%ff",
    ] {
        let problem =
            assert_problem(api.get(&format!("/api/v1/offers?{query}")).await, 400, "invalid_query").await;
        assert!(problem["errors"][0]["parameter"].is_string() || query == "%ff", "{problem}");
    }
    assert_problem(api.get("/api/v1/trades?mine=true").await, 400, "invalid_query").await;
    // Where none is described none is taken: a word that is not understood may have been meant to change what is done.
    let offer = format!("/api/v1/offers/{NOBODY}");
    for (method, path) in [
        (Method::GET, offer.as_str()),
        (Method::DELETE, &offer),
        (Method::POST, "/api/v1/offers"),
        (Method::POST, &format!("{offer}/bids")),
        (Method::GET, &format!("/api/v1/bids/{NOBODY}")),
        (Method::GET, &format!("/api/v1/trades/{NOBODY}")),
        (Method::GET, "/api/v1/node"),
        (Method::HEAD, "/api/v1/node"),
        (Method::POST, "/api/v1/node/recover"),
        (Method::GET, "/healthz"),
        (Method::GET, "/metrics"),
    ] {
        let request = api.request(method.clone(), &format!("{path}?dry_run=true")).body("{}");
        let response = request.header("content-type", "application/json").send().await.unwrap();
        if method == Method::HEAD {
            assert_eq!(response.status(), 400);
            continue;
        }
        let problem = assert_problem(response, 400, "invalid_query").await;
        assert_eq!(problem["errors"][0]["parameter"], "dry_run", "{path}");
    }
    for query in ["sync=yes", "sync=", "sync=true&sync=true", "ready=true"] {
        let problem = assert_problem(api.get(&format!("/readyz?{query}")).await, 400, "invalid_query").await;
        let named = problem["errors"][0]["parameter"].as_str().unwrap();
        assert!(query.starts_with(named), "{problem}");
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_malformed() {
    let api = Api::start().await;
    for body in
        ["{", "[]", "null", "\"\"", "{\"a\":1,}", "{'a':1}", &"[".repeat(60_000), &"{\"a\":".repeat(10_000)]
    {
        for path in ["/api/v1/offers", "/api/v1/node/recover"] {
            let response = api.post(path, body).send().await.unwrap();
            assert_problem(response, 400, "malformed_json").await;
        }
    }
    let unknown = api.post("/api/v1/node/recover", r#"{"force":true}"#).send().await.unwrap();
    assert_problem(unknown, 422, "validation_failed").await;
}

#[tokio::test]
async fn a_stopped_node_says_so() {
    let api = Api::start().await;
    api.node.stop().await;
    // The writer ends on its own thread.
    for _ in 0..100 {
        let response = api.post("/api/v1/offers", GOOD).send().await.unwrap();
        if response.status() == 503 {
            assert_eq!(response.headers()["retry-after"], "5");
            assert_problem(response, 503, "stopping").await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the node went on after its stop");
}

/// JSON-like text: real values, and what comes of breaking them.
fn bodies() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-0".to_owned()),
        Just("1e999".to_owned()),
        "[0-9]{1,40}(\\.[0-9]{1,40})?",
        "\"[ -~]{0,20}\"",
        "\\PC{0,8}",
    ];
    let name = prop_oneof![
        Just("btc_quantity".to_owned()),
        Just("offer_price".to_owned()),
        Just("memo".to_owned()),
        Just("expires_at".to_owned()),
        Just("price".to_owned()),
        "\\PC{0,6}",
    ];
    let object = proptest::collection::vec((name, leaf), 0..6).prop_map(|fields| {
        let fields: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
        format!("{{{}}}", fields.join(","))
    });
    prop_oneof![4 => object, 1 => "\\PC{0,60}"]
}

#[tokio::test]
async fn no_body_is_the_servers_fault() {
    let api = Api::start().await;
    let offer = api.create(GOOD).await;
    let bids = format!("/api/v1/offers/{}/bids", offer["id"].as_str().unwrap());
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        let body = bodies().new_tree(&mut runner).unwrap().current();
        for path in ["/api/v1/offers", &bids, "/api/v1/node/recover"] {
            let response = api.post(path, body.clone()).send().await.unwrap();
            assert!(!response.status().is_server_error(), "{} for {body:?}", response.status());
        }
    }
}
