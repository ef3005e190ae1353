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
