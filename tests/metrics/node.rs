//! A node's metrics.

use crate::{Api, testnet::*, text::Text};
use reqwest::{Method, StatusCode};
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use vintner::{
    bep44::{MutableItem, VerifiedItem},
    dht::Put,
    exchange::BidOutcome,
    identity::{MasterKey, Signature},
    market::{IdMint, Offer},
    node::clock,
};

const REQUESTS: &str = "vintner_api_requests_total";

fn requests(page: &Text, route: &str, method: &str, status: &str) -> f64 {
    page.value(REQUESTS, &[("route", route), ("method", method), ("status", status)])
}

fn bound(page: &Text, bound: &str) -> f64 {
    page.value("vintner_bound_hits_total", &[("bound", bound)])
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_the_template_of_their_route() {
    let net = Net::start(0, 1).await;
    let api = Api::of(&net.nodes[0], None).await;
    let offer = create(&net.nodes[0], "100").await;
    for (method, path) in [
        (Method::GET, format!("/api/v1/offers/{offer}")),
        (Method::HEAD, format!("/api/v1/offers/{offer}")),
        (Method::GET, "/api/v1/offers/0192d3a0-0000-7000-8000-000000000000".into()),
        (Method::DELETE, format!("/api/v1/offers/{offer}")),
        (Method::GET, "/api/openapi.json".into()),
        (Method::GET, "/swagger-ui/".into()),
        (Method::GET, "/swagger-ui/index.css".into()),
        (Method::GET, "/healthz".into()),
        (Method::PUT, "/healthz".into()),
        (Method::GET, "/nothing".into()),
    ] {
        api.status(method, &path).await;
    }
    assert_eq!(api.post("/api/v1/offers", "{}").await, StatusCode::UNPROCESSABLE_ENTITY);
    let foreign = api.request(Method::GET, "/api/v1/node").header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    api.page().await;

    let page = api.metrics().await;
    assert_eq!(requests(&page, "/api/v1/offers/{id}", "GET", "2xx"), 2.0, "a HEAD is a GET");
    assert_eq!(requests(&page, "/api/v1/offers/{id}", "GET", "4xx"), 1.0);
    assert_eq!(requests(&page, "/api/v1/offers/{id}", "DELETE", "2xx"), 1.0);
    assert_eq!(requests(&page, "/api/v1/offers", "POST", "4xx"), 1.0);
    assert_eq!(requests(&page, "/api/v1/node", "GET", "4xx"), 1.0, "the refused ones too");
    assert_eq!(requests(&page, "/api/openapi.json", "GET", "2xx"), 1.0);
    assert_eq!(requests(&page, "/swagger-ui/", "GET", "2xx"), 1.0);
    assert_eq!(requests(&page, "/swagger-ui/{*rest}", "GET", "2xx"), 1.0);
    assert_eq!(requests(&page, "/healthz", "GET", "2xx"), 1.0);
    assert_eq!(requests(&page, "/metrics", "GET", "2xx"), 1.0, "the one before this");
    assert_eq!(requests(&page, "other", "other", "4xx"), 2.0, "no path, and no such method");
    let times = "vintner_api_request_duration_seconds";
    let labels = [("route", "/api/v1/offers/{id}"), ("method", "GET")];
    assert_eq!(page.value(&format!("{times}_count"), &labels), 3.0);
    let spent = page.value(&format!("{times}_sum"), &labels);
    assert!(spent > 0.0 && spent < 30.0, "{spent}");
    assert!(page.value("vintner_api_connections", &[]) >= 1.0);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_make_the_page_longer() {
    let net = Net::start(0, 1).await;
    let api = Api::of(&net.nodes[0], None).await;
    let series = |page: Text| page.series.into_keys().collect::<Vec<_>>();
    let before = series(api.metrics().await);
    let rpc_client = reqwest::Client::new();
    for n in 0..100 {
        api.status(Method::GET, &format!("/nothing/{n}")).await;
        api.status(Method::GET, &format!("/api/v1/trades/{n}")).await;
        api.status(Method::from_bytes(format!("ODD{n}").as_bytes()).unwrap(), "/api/v1/offers").await;
        // Another node's command and key, and something that is no frame at all.
        let rpc = net.nodes[0].status().rpc;
        for body in [format!("[\"r\",\"key-{n}\",{{\"cmd\":\"c{n}\"}}]"), format!("{n}")] {
            // Not the API, so nothing that its description holds.
            rpc_client.post(format!("http://{rpc}/{n}")).body(body).send().await.unwrap();
        }
    }
    let page = api.metrics().await;
    assert_eq!(
        page.value("vintner_rpc_requests_total", &[("command", "other"), ("outcome", "unsigned")]),
        100.0
    );
    assert_eq!(
        page.value("vintner_rpc_requests_total", &[("command", "other"), ("outcome", "bad_frame")]),
        100.0
    );
    assert_eq!(series(page), before);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_moves_the_numbers_of_both_sides_and_of_nobody_else() {
    let net = Net::start(1, 3).await;
    let mut apis = Vec::new();
    for node in &net.nodes {
        apis.push(Api::of(node, None).await);
    }
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    let (_, outcome) = bid(&net.nodes[1], offer, "100").await.unwrap();
    assert!(matches!(outcome, BidOutcome::Accepted(_)), "{outcome:?}");
    gone_everywhere(&net.nodes, offer).await;
    // What others heard is stored a moment after it is shown.
    for api in &apis {
        let stored = || async { api.metrics().await.value("vintner_commit_events_sum", &[]) >= 2.0 };
        until("both versions to be stored", stored).await;
    }

    let [maker, taker, other] = [apis[0].metrics().await, apis[1].metrics().await, apis[2].metrics().await];
    let traded = |page: &Text| {
        ["maker", "taker"].map(|role| page.value("vintner_trades_made_total", &[("role", role)]))
    };
    assert_eq!([traded(&maker), traded(&taker), traded(&other)], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]);
    let changed = |page: &Text, change| page.value("vintner_own_offer_changes_total", &[("change", change)]);
    assert_eq!(
        [changed(&maker, "created"), changed(&maker, "sold"), changed(&taker, "created")],
        [1.0, 1.0, 0.0]
    );
    assert_eq!(taker.value("vintner_bids_placed_total", &[]), 1.0);
    assert_eq!(taker.value("vintner_bids_resolved_total", &[("outcome", "accepted")]), 1.0);
    assert_eq!(maker.value("vintner_bids_answered_total", &[("outcome", "accepted")]), 1.0);
    assert_eq!(other.value("vintner_bids_placed_total", &[]), 0.0);
    let served = [("command", "offer:bid"), ("outcome", "ok")];
    assert_eq!(maker.value("vintner_rpc_requests_total", &served), 1.0);
    assert_eq!(taker.value("vintner_rpc_calls_total", &served), 1.0);
    assert_eq!(taker.value("vintner_rpc_call_duration_seconds_count", &[("command", "offer:bid")]), 1.0);
    assert!(maker.value("vintner_rpc_requests_total", &[("command", "hello"), ("outcome", "ok")]) >= 1.0);
    for (page, name) in [(&maker, "maker"), (&taker, "taker"), (&other, "other")] {
        assert!(page.value("vintner_commit_duration_seconds_count", &[]) >= 1.0, "{name}");
        assert!(page.value("vintner_batch_inputs_count", &[]) >= 1.0, "{name}");
        assert_eq!(page.value("vintner_commit_failures_total", &[("reason", "failed")]), 0.0, "{name}");
        assert_eq!(page.value("vintner_ready", &[]), 1.0, "{name}");
        assert_eq!(page.value("vintner_dht_nodes", &[("state", "good")]), 3.0, "{name}");
        assert!(page.value("vintner_dht_queries_received_total", &[]) >= 1.0, "{name}");
        assert!(page.value("vintner_dht_queries_sent_total", &[]) >= 1.0, "{name}");
        assert!(page.value("vintner_dht_answers_received_total", &[]) >= 1.0, "{name}");
        assert_eq!(page.value("vintner_offers_listed", &[]), 0.0, "{name}");
        assert_eq!(page.value("vintner_queue_depth", &[("queue", "writer_inbox")]), 0.0, "{name}");
        assert!(page.value("vintner_store_bytes", &[("file", "database")]) > 0.0, "{name}");
    }
    assert_eq!(other.value("vintner_records_taken_total", &[]), 2.0, "the open version and the closed one");
    let published = || async {
        apis[0].metrics().await.value("vintner_publications_total", &[("outcome", "done")]) > 0.0
    };
    until("the publication to be counted", published).await;
    let announced =
        || async { apis[2].metrics().await.value("vintner_announcements_heard_total", &[]) >= 1.0 };
    until("the closed record to be announced", announced).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_without_an_answer_is_in_the_outbox_and_ages() {
    let mut net = Net::start(1, 2).await;
    let api = Api::of(&net.nodes[1], None).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    net.nodes.remove(0).stop().await;
    let price = Some("100".parse().unwrap());
    let reference = vintner::exchange::OfferRef::Id(offer);
    net.nodes[0].exchange().bid(new_bid(reference, price), Duration::ZERO, None).await.unwrap();

    tokio::time::sleep(Duration::from_millis(20)).await;
    let page = api.metrics().await;
    let bid = [("kind", "bid")];
    assert_eq!(page.value("vintner_outbox_size", &bid), 1.0);
    let age = page.value("vintner_outbox_oldest_seconds", &bid);
    assert!((0.01..60.0).contains(&age), "{age}");
    assert_eq!(page.value("vintner_outbox_oldest_seconds", &[("kind", "record")]), 0.0);
    let fails = || async {
        let page = api.metrics().await;
        ["unreachable", "timed_out", "broken"].iter().any(|outcome| {
            let commands = ["hello", "offer:bid"];
            let count = |command: &&str| {
                page.value("vintner_rpc_calls_total", &[("command", command), ("outcome", outcome)])
            };
            commands.iter().map(count).sum::<f64>() > 0.0
        })
    };
    until("the failed call to be counted", fails).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_records_are_counted_by_their_reason() {
    let net = Net::start(1, 1).await;
    let api = Api::of(&net.nodes[0], None).await;
    let dht = grape(0, net.bootstrap.clone()).await;
    until("the stranger to join", || async { dht.status().nodes_good >= 2 }).await;
    let master = MasterKey::from_bytes([9; 32]);
    let mut mint = IdMint::default();
    let mut offer_on = |network: &str| {
        let (network, now) = (network.parse().unwrap(), clock::now());
        let id = mint.next(&network, &master.client_key().public(), now);
        Offer::create(&master, &network, id, new_offer("100", now), now).unwrap()
    };
    let changed = |offer: &Offer, from: &str, to: &str| {
        let v = String::from_utf8(vintner::bep44::bdecode_bytes(&offer.item().v).unwrap().to_vec()).unwrap();
        assert!(v.contains(from), "{v}");
        let v = vintner::bep44::bencode_bytes(v.replacen(from, to, 1).as_bytes());
        VerifiedItem::sign(&master.record_key(offer.id.0), b"", offer.item().seq, v).unwrap()
    };
    let proof = |offer: &Offer| {
        let v = String::from_utf8(vintner::bep44::bdecode_bytes(&offer.item().v).unwrap().to_vec()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&v).unwrap();
        json["proof"].as_str().unwrap().to_owned()
    };
    let refused = |page: &Text, reason| page.value("vintner_records_refused_total", &[("reason", reason)]);
    let unsigned = {
        let offer = offer_on("test");
        let item = MutableItem { sig: Signature([1; 64]), ..offer.item().clone().into_inner() };
        VerifiedItem::from_own_store(item)
    };
    let offer = offer_on("test");
    let other = proof(&offer_on("test"));
    let bad_proof = changed(&offer, &proof(&offer), &other);
    let malformed = changed(&offer_on("test"), "{", "[");
    let offer = offer_on("test");
    let (key, v) = (master.record_key(offer.id.0), Arc::clone(&offer.item().v));
    let bad_field = VerifiedItem::sign(&key, b"", offer.item().seq + 1, v).unwrap();
    let elsewhere = offer_on("elsewhere").item().clone();
    for (reason, item) in [
        ("bad_signature", unsigned),
        ("bad_proof", bad_proof),
        ("malformed", malformed),
        ("bad_field", bad_field),
        ("other_network", elsewhere),
    ] {
        assert_eq!(refused(&api.metrics().await, reason), 0.0, "{reason}");
        let target = item.target();
        let _ = dht.put(Put::Mutable { item, cas: None }).await;
        dht.announce(format!("NEW_OFFER:{target}").as_bytes(), 1337).await.unwrap();
        until(reason, || async { refused(&api.metrics().await, reason) >= 1.0 }).await;
    }
    let page = api.metrics().await;
    assert!(page.value("vintner_dht_errors_sent_total", &[("code", "206")]) >= 1.0);
    assert!(page.value("vintner_announcements_heard_total", &[]) >= 4.0);
    assert_eq!(page.value("vintner_records", &[]), 0.0);
    dht.shutdown().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_are_hit_are_counted_under_their_names() {
    let net = Net::start(0, 1).await;
    let api = Arc::new(Api::of(&net.nodes[0], None).await);
    let before = api.metrics().await;
    assert_eq!([bound(&before, "rpc_rate"), bound(&before, "api_body_bytes")], [0.0, 0.0]);

    let long = "x".repeat(vintner::http::api::BODY_BYTES_MAX + 1);
    assert_eq!(api.post("/api/v1/offers", long).await, StatusCode::PAYLOAD_TOO_LARGE);
    // Requests one after the other on a connection, without waiting: quicker than the limit on a busy machine, too.
    let rpc = net.nodes[0].status().rpc;
    let mut connection = TcpStream::connect(rpc).await.unwrap();
    let (mut answers, mut requests) = connection.split();
    let mut unread = tokio::io::sink();
    let request = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]".repeat(100);
    tokio::select! {
        _ = tokio::io::copy(&mut answers, &mut unread) => panic!("the connection was closed"),
        () = async { loop { requests.write_all(request.as_bytes()).await.unwrap() } } => {}
        () = until("the rate limit to bite", || {
            let api = Arc::clone(&api);
            async move { bound(&api.metrics().await, "rpc_rate") > 0.0 }
        }) => {}
    }
    drop(connection);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let page = api.metrics().await;
    assert_eq!(bound(&page, "api_body_bytes"), 1.0);
    let limited = [("command", "other"), ("outcome", "rate_limited")];
    assert_eq!(page.value("vintner_rpc_requests_total", &limited), bound(&page, "rpc_rate"));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_needs_what_every_request_needs() {
    let token = "correct-horse-battery-staple-0123456789";
    let net = Net::start(0, 1).await;
    let api = Api::of(&net.nodes[0], Some(token)).await;
    assert_eq!(api.status(Method::GET, "/metrics").await, StatusCode::UNAUTHORIZED);
    let get = || api.request(Method::GET, "/metrics").bearer_auth(token);
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let scrape = get().header("accept", accept).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(scrape.status(), StatusCode::OK);
    assert!(Text::read(&scrape.text().await.unwrap()).is_ok());
    let foreign = get().header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    // A proxy has names of its own; no page of a stranger knows the token.
    let proxied = get().header("host", "proxy.example").send().await.unwrap();
    assert_eq!(proxied.status(), StatusCode::OK);
    assert_eq!(api.status(Method::POST, "/metrics").await, StatusCode::UNAUTHORIZED);
    net.stop().await;
}
