//! What holds everything against the description finds what is wrong, on either side: each row plants one error.

use crate::rest::contract::{Contract, Exchange, OURS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use vintner::http::api::openapi_json;

const OFFER: &str = "/api/v1/offers/01a1fc28-3e5f-7000-80fe-3be73643e1da";

fn description() -> Value {
    serde_json::from_str(openapi_json()).unwrap()
}

fn example(schema: &str) -> Value {
    description()["components"]["schemas"][schema]["examples"][0].clone()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

/// An offer is shown.
fn shown() -> Exchange {
    Exchange {
        method: Method::GET,
        uri: OFFER.parse().unwrap(),
        sent: HeaderMap::new(),
        request: Vec::new(),
        status: StatusCode::OK,
        headers: headers(&[("content-type", "application/json"), ("etag", "\"1795231858271\"")]),
        answer: example("OfferView").to_string().into(),
    }
}

/// An offer is made.
fn created() -> Exchange {
    Exchange {
        method: Method::POST,
        uri: "/api/v1/offers".parse().unwrap(),
        request: json!({"btc_quantity": "0.5", "offer_price": 64_000}).to_string().into(),
        status: StatusCode::CREATED,
        headers: headers(&[
            ("content-type", "application/json"),
            ("etag", "\"1795231858271\""),
            ("location", OFFER),
        ]),
        ..shown()
    }
}

/// There is no such offer.
fn missing() -> Exchange {
    let mut problem = example("ProblemView");
    problem["status"] = 404.into();
    problem["code"] = "offer_not_found".into();
    problem["type"] = "urn:vintner:problem:offer_not_found".into();
    Exchange {
        status: StatusCode::NOT_FOUND,
        headers: headers(&[("content-type", "application/problem+json")]),
        answer: problem.to_string().into(),
        ..shown()
    }
}

fn with_field(exchange: Exchange, name: &str, value: Value) -> Exchange {
    let mut answer: Value = serde_json::from_slice(&exchange.answer).unwrap();
    answer[name] = value;
    Exchange { answer: answer.to_string().into(), ..exchange }
}

#[test]
fn what_is_as_described_passes() {
    for exchange in [shown(), created(), missing()] {
        OURS.check(&exchange).unwrap();
    }
}

#[test]
fn every_error_planted_in_the_description_is_found() {
    let show = "/paths/~1api~1v1~1offers~1{id}/get";
    for (place, value, exchange) in [
        (
            "/components/schemas/OfferView/properties/btc_quantity".to_owned(),
            json!({"type": "number"}),
            shown(),
        ),
        (
            "/components/schemas/OfferView/properties/hash".into(),
            json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
            shown(),
        ),
        ("/components/schemas/Time".into(), json!({"type": "string", "pattern": "^[0-9]+$"}), shown()),
        ("/components/schemas/Side".into(), json!({"enum": ["buy"]}), shown()),
        (format!("{show}/responses"), json!({}), shown()),
        (
            format!("{show}/responses/200/content"),
            json!({"text/plain": {"schema": {"type": "string"}}}),
            shown(),
        ),
        (format!("{show}/responses/200/headers/ETag/schema"), json!({"type": "integer"}), shown()),
        (format!("{show}/parameters/0/schema"), json!({"type": "string", "pattern": "^[0-9]+$"}), shown()),
        (format!("{show}/responses/404/content/application~1problem+json/examples"), json!({}), missing()),
        ("/components/schemas/Amount".into(), json!({"type": "object"}), created()),
        ("/components/schemas/NewOfferBody/required".into(), json!(["side"]), created()),
        ("/paths/~1api~1v1~1offers/post".into(), Value::Null, created()),
    ] {
        let mut broken = description();
        match broken.pointer_mut(&place) {
            Some(part) => *part = value,
            None => panic!("there is no {place}"),
        }
        assert!(Contract::of(broken).check(&exchange).is_err(), "{place}");
    }
    let mut broken = description();
    broken["components"]["schemas"]["OfferView"]["properties"].as_object_mut().unwrap().remove("stale");
    assert!(Contract::of(broken).check(&shown()).is_err(), "a field that is not described");
}

#[test]
fn every_error_planted_in_an_exchange_is_found() {
    let with_query =
        |query: &str| Exchange { uri: format!("/api/v1/offers?{query}").parse().unwrap(), ..shown() };
    let page = |query: &str| Exchange {
        answer: json!({"items": [example("OfferView")], "next_cursor": null}).to_string().into(),
        ..with_query(query)
    };
    OURS.check(&page("limit=5&min_price=5e-8&mine=true")).unwrap();
    let taken = |body: Value| Exchange { request: body.to_string().into(), ..created() };
    for (what, exchange) in [
        ("a field that is not described", with_field(shown(), "colour", json!("red"))),
        ("null for what is left out", with_field(shown(), "memo", Value::Null)),
        ("a number for a decimal", with_field(shown(), "btc_quantity", json!(0.5))),
        ("zeros at the end", with_field(shown(), "btc_quantity", json!("0.50"))),
        ("a time without milliseconds", with_field(shown(), "created_at", json!("2026-11-21T12:00:00Z"))),
        ("a status that is not described", Exchange { status: StatusCode::ACCEPTED, ..shown() }),
        (
            "another type",
            Exchange { headers: headers(&[("content-type", "text/html"), ("etag", "\"1\"")]), ..shown() },
        ),
        ("no ETag", Exchange { headers: headers(&[("content-type", "application/json")]), ..shown() }),
        ("a code of another operation", with_field(missing(), "code", json!("trade_not_found"))),
        ("a status in the body that is not the answer's", with_field(missing(), "status", json!(409))),
        ("an undescribed path", Exchange { uri: "/api/v1/nothing".parse().unwrap(), ..shown() }),
        ("an undescribed method", Exchange { method: Method::PUT, ..shown() }),
        ("an undescribed parameter", page("colour=red")),
        ("a limit with a sign", page("limit=%2B5")),
        ("a cursor of another list", page("cursor=00")),
        ("an unknown field", taken(json!({"btc_quantity": "1", "offer_price": "1", "colour": "red"}))),
        ("an amount that is none", taken(json!({"btc_quantity": {"Text": "1"}, "offer_price": "1"}))),
        ("a missing field", taken(json!({"btc_quantity": "1"}))),
        ("a key of no bytes", Exchange { sent: headers(&[("idempotency-key", "")]), ..created() }),
    ] {
        assert!(OURS.check(&exchange).is_err(), "{what} passes");
    }
}
