//! A grape's metrics, beside the stock answers.

use crate::{
    support::{exchange, grape, vintner_grape},
    text::Text,
};
use serde_json::json;

#[tokio::test]
async fn a_grape_serves_its_metrics_and_keeps_its_stock_answers() {
    let ours = vintner_grape(&[], &["--check_maxPayloadSize", "500"]).await;
    grape(ours.http, "lookup", json!("rest:util:net")).await;
    grape(ours.http, "Lookup", json!("rest:util:net")).await;
    for n in 0..20 {
        grape(ours.http, &format!("nothing-{n}"), json!("x")).await;
    }
    assert_eq!(grape(ours.http, "put", json!({"v": "x".repeat(600)})).await.status, 413);
    // Only this method and this very path are ours.
    for (line, body, status, expected) in [
        ("POST /metrics", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
        ("GET /metrics?x=1", "", 500, "ERR_GRAPE_PAYLOAD_INVALID"),
        ("GET /Metrics", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
    ] {
        let answer = exchange(ours.http, &format!("{line} HTTP/1.1"), body).await;
        assert_eq!((answer.status, &*answer.body), (status, expected), "{line}");
        assert!(!answer.head.contains("content-type"), "{}", answer.head);
    }
    let foreign = exchange(ours.http, "GET /metrics HTTP/1.1\r\norigin: https://evil.example", "").await;
    assert_eq!(foreign.status, 403);

    let answer = exchange(ours.http, "GET /metrics HTTP/1.1", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let page = Text::read(&answer.body).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.body));
    let requests = |operation, status| {
        page.value("vintner_grape_requests_total", &[("operation", operation), ("status", status)])
    };
    assert_eq!(requests("lookup", "2xx"), 2.0, "under every spelling that a grape takes");
    assert_eq!([requests("put", "4xx"), requests("put", "2xx")], [1.0, 0.0]);
    assert_eq!([requests("other", "2xx"), requests("other", "5xx")], [22.0, 1.0]);
    assert_eq!([requests("metrics", "4xx"), requests("metrics", "2xx")], [1.0, 0.0]);
    let looked_up = [("operation", "lookup")];
    assert_eq!(page.value("vintner_grape_request_duration_seconds_count", &looked_up), 2.0);
    assert_eq!(page.value("vintner_bound_hits_total", &[("bound", "grape_body_bytes")]), 1.0);
    assert_eq!(page.value("vintner_dht_joined", &[]), 1.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(page.value("vintner_build_info", &version), 1.0);
}
