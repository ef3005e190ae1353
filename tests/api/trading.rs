//! Two nodes: bids from one on the other's offers, through both APIs.

use crate::{Api, GOOD, assert_problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use vintner::identity::{PublicKey, Signature};

/// A maker, and a taker that lists the maker's offer; the offer's id.
pub(crate) async fn listed(body: &str) -> (Api, Api, String) {
    let maker = Api::start().await;
    let taker = Api::start_beside(&maker).await;
    for api in [&maker, &taker] {
        until(|| async { api.get("/readyz").await.status() == StatusCode::OK }).await;
    }
    let id = maker.create(body).await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/offers/{id}");
    until(|| async { taker.get(&path).await.status() == StatusCode::OK }).await;
    (maker, taker, id)
}

pub(crate) async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what was waited for did not happen within 20 s");
}

pub(crate) async fn bid(api: &Api, offer: &str, body: &str) -> Response {
    api.post(&format!("/api/v1/offers/{offer}/bids"), body).send().await.unwrap()
}

fn verifies(network: &str, kind: &str, signer: &Value, signed: &Value) -> bool {
    let key: PublicKey = signer.as_str().unwrap().parse().unwrap();
    let sig: Signature = signed["sig"].as_str().unwrap().parse().unwrap();
    let message = format!("vintner/1/{network}/{kind}\0{}", signed["text"].as_str().unwrap());
    key.verifies(message.as_bytes(), &sig)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_at_the_price_is_a_trade_that_both_sides_show_and_anybody_can_check() {
    let (maker, taker, id) = listed(GOOD).await;
    let other = bid(&taker, &id, r#"{"price":"63999.99"}"#).await;
    assert_problem(other, 409, "price_below_ask").await;
    let withdraw =
        taker.request(reqwest::Method::DELETE, &format!("/api/v1/offers/{id}")).send().await.unwrap();
    assert_problem(withdraw, 403, "not_own_offer").await;

    let path = format!("/api/v1/offers/{id}/bids");
    let send = || async { taker.post(&path, "{}").header("idempotency-key", "once").send().await.unwrap() };
    let accepted = send().await;
    assert_eq!(accepted.status(), StatusCode::CREATED);
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = accepted.json().await.unwrap();
    assert_eq!(
        (&made["status"], &made["mine"], &made["price"]),
        (&json!("accepted"), &json!(true), &json!("64000"))
    );
    assert_eq!(send().await.json::<Value>().await.unwrap(), made);
    assert_eq!(taker.get_json(&location).await, made);

    let trade = &made["trade"];
    assert_eq!((&trade["role"], &trade["id"]), (&json!("taker"), &made["trade_id"]));
    assert!(verifies("test", "trade", &trade["maker"], &trade["signatures"]["trade"]));
    assert!(verifies("test", "bid", &trade["taker"], &trade["signatures"]["bid"]));
    assert!(!verifies("test", "bid", &trade["maker"], &trade["signatures"]["bid"]));
    let trades = maker.get_json("/api/v1/trades").await;
    assert_eq!(
        (&trades["items"][0]["role"], &trades["items"][0]["signatures"]),
        (&json!("maker"), &trade["signatures"])
    );
    let one = taker.get_json(&format!("/api/v1/trades/{}", trade["id"].as_str().unwrap())).await;
    assert_eq!(&one, trade);

    // The maker shows the same bid, as somebody else's.
    let seen = maker.get_json(&location).await;
    assert_eq!(
        (&seen["id"], &seen["mine"], &seen["trade_id"]),
        (&made["id"], &json!(false), &made["trade_id"])
    );
    assert_eq!(maker.get_json(&path).await["items"][0]["id"], made["id"]);
    assert_eq!(taker.get_json(&path).await["items"][0]["status"], "accepted");
    for api in [&maker, &taker] {
        let offer = api.get_json(&format!("/api/v1/offers/{id}")).await;
        assert_eq!((&offer["status"], &offer["trade_id"]), (&json!("sold"), &made["trade_id"]));
        assert_eq!(api.get_json("/api/v1/offers").await["items"], json!([]));
    }
    assert_problem(bid(&taker, &id, "{}").await, 409, "offer_not_available").await;
    let again = taker.post(&path, r#"{"wait_ms":1}"#).header("idempotency-key", "once").send().await.unwrap();
    assert_problem(again, 422, "idempotency_key_reuse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_that_names_another_offer_than_there_is_buys_nothing_and_shows_what_there_is() {
    let (_maker, taker, id) = listed(GOOD).await;
    let path = format!("/api/v1/offers/{id}/bids");
    let offer = taker.get_json(&format!("/api/v1/offers/{id}")).await;
    for body in [
        json!({"sequence": 1}),
        json!({"side": "buy"}),
        json!({"btc_quantity": 0.25}),
        json!({"currency": "EUR", "price": "64000"}),
    ] {
        let problem = assert_problem(bid(&taker, &id, &body.to_string()).await, 409, "terms_changed").await;
        assert_eq!(problem["offer"]["sequence"], offer["sequence"], "{body}");
    }
    let with_tag = |tag: String, key: &'static str| {
        taker.post(&path, "{}").header("if-match", tag).header("idempotency-key", key).send()
    };
    let other = with_tag("\"1\"".into(), "first").await.unwrap();
    let problem = assert_problem(other, 412, "sequence_mismatch").await;
    assert_eq!(problem["offer"]["id"], id);
    assert_problem(with_tag("nope".into(), "first").await.unwrap(), 400, "invalid_header").await;
    for bad in [json!({"sequence": 0}), json!({"sequence": "1"}), json!({"side": "sells"})] {
        assert_problem(bid(&taker, &id, &bad.to_string()).await, 422, "validation_failed").await;
    }
    assert_eq!(taker.get_json("/api/v1/bids").await["items"], json!([]), "nothing was bid");
    let tag = format!("\"{}\"", offer["sequence"]);
    let body =
        json!({"sequence": offer["sequence"], "side": "sell", "btc_quantity": "0.5", "currency": "USD"});
    let send = || {
        let asked = taker.post(&path, body.to_string()).header("if-match", tag.clone());
        asked.header("idempotency-key", "second").send()
    };
    let made = send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    // Its offer is sold, at another sequence; the request is the same all the same.
    assert_eq!(send().await.unwrap().json::<Value>().await.unwrap(), made);
    let late = assert_problem(bid(&taker, &id, "{}").await, 409, "offer_not_available").await;
    assert_eq!(late["offer"]["status"], "sold");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_that_is_gone_leaves_the_bid_in_doubt() {
    let (maker, taker, id) = listed(GOOD).await;
    maker.node.stop().await;
    let response = bid(&taker, &id, r#"{"wait_ms":300,"valid_for_ms":60000}"#).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(response.headers()["retry-after"], "1");
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = response.json().await.unwrap();
    assert_eq!((&made["status"], &made["trade"]), (&json!("in_doubt"), &Value::Null));
    assert_eq!(taker.get_json(&location).await, made);
    assert_eq!(taker.get_json("/api/v1/node").await["outbox"]["bids_in_doubt"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_is_bid_at_its_price_or_below() {
    let (_maker, taker, id) = listed(r#"{"btc_quantity":"1","offer_price":"100","side":"buy"}"#).await;
    assert_problem(bid(&taker, &id, r#"{"price":100.01}"#).await, 409, "price_above_offer").await;
    let accepted = bid(&taker, &id, r#"{"price":99.5}"#).await;
    assert_eq!(accepted.status(), StatusCode::CREATED);
    assert_eq!(accepted.json::<Value>().await.unwrap()["trade"]["price"], "99.5");
}

/// Everything that a list shows, page by page; no page is empty that has a next one.
async fn all(api: &Api, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get_json(&format!("{path}{cursor}")).await;
        let found = page["items"].as_array().unwrap().clone();
        assert!(!found.is_empty() || page["next_cursor"].is_null(), "{path}: an empty page with a cursor");
        items.extend(found);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bids_and_trades_are_listed_by_what_is_asked_for_on_both_sides() {
    let (maker, taker, first) = listed(GOOD).await;
    let second = r#"{"btc_quantity":"1","offer_price":"100","side":"buy","currency":"EUR"}"#;
    let second = maker.create(second).await["id"].as_str().unwrap().to_owned();
    let third = maker.create(r#"{"btc_quantity":"2","offer_price":"63000"}"#).await;
    let third = third["id"].as_str().unwrap().to_owned();
    until(|| async { all(&taker, "/api/v1/offers?limit=1").await.len() == 3 }).await;

    // By price, one currency at a time.
    let prices = |offers: Vec<Value>| -> Vec<String> {
        offers.iter().map(|offer| offer["offer_price"].as_str().unwrap().to_owned()).collect()
    };
    let sorted = "/api/v1/offers?limit=1&currency=USD&sort";
    assert_eq!(prices(all(&taker, &format!("{sorted}=price")).await), ["63000", "64000"]);
    assert_eq!(prices(all(&taker, &format!("{sorted}=-price")).await), ["64000", "63000"]);
    let problem = assert_problem(taker.get("/api/v1/offers?sort=price").await, 400, "invalid_query").await;
    assert!(problem["detail"].as_str().unwrap().contains("needs `currency`"), "{problem}");

    // Of one maker, or without some.
    let [theirs, own] = [&maker, &taker].map(|one| one.node.exchange().client_id());
    for (filter, count) in [
        (format!("client_id={theirs}"), 3),
        (format!("client_id={own}"), 0),
        (format!("exclude={own}"), 3),
        (format!("exclude={own},{theirs}"), 0),
        (format!("client_id={theirs}&currency=EUR&exclude={own}"), 1),
    ] {
        assert_eq!(all(&taker, &format!("/api/v1/offers?limit=1&{filter}")).await.len(), count, "{filter}");
    }
    let problem = assert_problem(taker.get("/api/v1/offers?exclude=x,y").await, 400, "invalid_query").await;
    assert!(problem["detail"].as_str().unwrap().contains("exclude"), "{problem}");

    for offer in [&first, &second] {
        assert_eq!(bid(&taker, offer, "{}").await.status(), StatusCode::CREATED);
    }
    maker.node.stop().await;
    let made =
        bid(&taker, &third, r#"{"wait_ms":0,"valid_for_ms":1000}"#).await.json::<Value>().await.unwrap();
    assert_eq!(made["status"], "in_doubt");

    // In doubt first, then the accepted ones, newest first.
    let bids = all(&taker, "/api/v1/bids?limit=1").await;
    let of = |bids: &[Value]| -> Vec<(String, String)> {
        let text = |bid: &Value, name: &str| bid[name].as_str().unwrap().to_owned();
        bids.iter().map(|bid| (text(bid, "status"), text(bid, "offer_id"))).collect()
    };
    let expected = [("in_doubt", &third), ("accepted", &second), ("accepted", &first)];
    assert_eq!(of(&bids), expected.map(|(status, id)| (status.to_owned(), id.clone())));
    let maker_id = maker.node.exchange().client_id();
    for (query, count) in [
        ("state=in_doubt".to_owned(), 1),
        ("state=given_up".into(), 0),
        (format!("offer={first}"), 1),
        (format!("maker={maker_id}&state=accepted"), 2),
        (format!("maker={}", taker.node.exchange().client_id()), 0),
        ("since=2020-01-01T00:00:00Z".into(), 3),
        ("until=2020-01-01T00:00:00%2B01:00".into(), 0),
        ("role=maker".into(), 0),
    ] {
        assert_eq!(all(&taker, &format!("/api/v1/bids?limit=1&{query}")).await.len(), count, "{query}");
    }
    let cursor = taker.get_json("/api/v1/bids?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    let other = taker.get(&format!("/api/v1/bids?state=accepted&cursor={cursor}")).await;
    assert_problem(other, 400, "invalid_query").await;
    let received = all(&maker, "/api/v1/bids?role=maker&limit=1").await;
    assert_eq!(
        of(&received),
        expected[1..].iter().map(|(s, id)| ((*s).to_owned(), (*id).clone())).collect::<Vec<_>>()
    );
    assert!(received.iter().all(|bid| bid["received_at"].is_string() && bid["mine"] == false));

    for (query, counts) in [
        ("", (2, 2)),
        ("role=maker&", (2, 0)),
        ("role=taker&", (0, 2)),
        ("currency=EUR&", (1, 1)),
        ("side=sell&", (1, 1)),
        ("side=buy&currency=EUR&role=maker&", (1, 0)),
        ("currency=GBP&", (0, 0)),
        ("since=2999-01-01T00:00:00Z&", (0, 0)),
    ] {
        let path = format!("/api/v1/trades?{query}limit=1");
        let found = (all(&maker, &path).await.len(), all(&taker, &path).await.len());
        assert_eq!(found, counts, "{query}");
    }
    let trades = all(&taker, "/api/v1/trades?limit=1").await;
    assert_eq!((&trades[0]["you"], &trades[1]["you"]), (&json!("sold"), &json!("bought")));
    assert_eq!(trades[0]["counterparty"], json!(maker_id));
    let trade = all(&maker, "/api/v1/trades?currency=EUR&limit=1").await.remove(0);
    assert_eq!((&trade["you"], &trade["counterparty"]), (&json!("bought"), &trades[0]["taker"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_whose_maker_never_comes_back_is_given_up_when_its_offer_is_dead() {
    let soon = vintner::node::clock::now().plus(Duration::from_secs(6));
    let body = json!({"btc_quantity": "1", "offer_price": "100", "expires_at": soon.to_string(), "dies_at": soon.to_string()});
    let (maker, taker, id) = listed(&body.to_string()).await;
    maker.node.stop().await;
    let made = bid(&taker, &id, r#"{"wait_ms":0,"valid_for_ms":1000}"#).await.json::<Value>().await.unwrap();
    assert_eq!((&made["status"], &made["give_up_from"]), (&json!("in_doubt"), &json!(soon.to_string())));
    let path = format!("/api/v1/bids/{}/give-up", made["id"].as_str().unwrap());
    let give_up = || async { taker.post(&path, "{}").send().await.unwrap() };
    let problem = assert_problem(give_up().await, 409, "give_up_too_early").await;
    assert!(problem["detail"].as_str().unwrap().contains(&soon.to_string()), "{problem}");
    assert_eq!(problem["retryable"], true);

    until(|| async { give_up().await.status() == StatusCode::OK }).await;
    let given_up = give_up().await.json::<Value>().await.unwrap();
    assert_eq!((&given_up["status"], &given_up["give_up_from"]), (&json!("given_up"), &Value::Null));
    assert!(given_up["given_up_at"].as_str().unwrap() >= soon.to_string().as_str());
    assert_eq!(taker.get_json("/api/v1/node").await["outbox"]["bids_in_doubt"], 0);
    assert_eq!(all(&taker, "/api/v1/bids?state=given_up").await, [given_up]);

    let problem =
        assert_problem(taker.post(&path, r#"{"x":1}"#).send().await.unwrap(), 422, "validation_failed").await;
    assert_eq!(problem["errors"][0]["pointer"], "/x");
    let unknown = "/api/v1/bids/01a1fc28-3fab-7f41-8a6a-d97467cb1156/give-up";
    assert_problem(taker.post(unknown, "{}").send().await.unwrap(), 404, "bid_not_found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_of_another_node_is_not_called_refused() {
    let api = Api::start().await;
    let young = uuid::Uuid::now_v7();
    let problem = assert_problem(api.get(&format!("/api/v1/bids/{young}")).await, 404, "bid_not_found").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("neither made by this node nor received") && !detail.contains("refused"),
        "{detail}"
    );
    // Of an old one it cannot be known.
    let old = "/api/v1/bids/01900000-0000-7000-8000-000000000000";
    let problem = assert_problem(api.get(old).await, 404, "bid_not_found").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("made on another node, or it was refused more than 7 days ago"), "{detail}");
}
