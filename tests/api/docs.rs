//! The API's description: what is served is what is committed, and its examples work as they stand.

use crate::Api;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::HashSet;
use vintner::http::api::{Code, openapi_json};

#[tokio::test]
async fn the_committed_description_is_the_served_one() {
    let api = Api::start().await;
    let response = api.get("/api/openapi.json").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let served = response.text().await.unwrap();
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json")).unwrap();
    assert!(served == committed, "openapi/openapi.json is out of date: run `make openapi` and commit it");
}

#[tokio::test]
async fn every_example_of_a_body_works_as_it_stands() {
    let api = Api::start().await;
    let description: Value = serde_json::from_str(openapi_json()).unwrap();
    let create =
        &description["paths"]["/api/v1/offers"]["post"]["requestBody"]["content"]["application/json"];
    let examples = create["examples"].as_object().unwrap();
    assert!(examples.len() >= 2);
    for (name, example) in examples {
        let response = api.post("/api/v1/offers", example["value"].to_string()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "{name}");
    }
    // Without a second node a bid gets as far as being told that the offer is one's own: the body was good.
    let offer = api.get_json("/api/v1/offers").await["items"][0]["id"].as_str().unwrap().to_owned();
    let bid = &description["paths"]["/api/v1/offers/{id}/bids"]["post"]["requestBody"]["content"]["application/json"];
    for (name, example) in bid["examples"].as_object().unwrap() {
        let path = format!("/api/v1/offers/{offer}/bids");
        let response = api.post(&path, example["value"].to_string()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CONFLICT, "{name}");
    }
}

/// Swagger UI fills in the first example: what is sent by whoever only presses "Execute".
#[test]
fn the_first_example_is_the_plain_one() {
    let description: Value = serde_json::from_str(openapi_json()).unwrap();
    let first = |path: &str| {
        let body = &description["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        body["examples"].as_object().unwrap().values().next().unwrap()["value"].clone()
    };
    assert_eq!(first("/api/v1/offers"), json!({"btc_quantity": "0.5", "offer_price": "64000"}));
    assert_eq!(first("/api/v1/offers/{id}/bids"), json!({}));
}

#[test]
fn every_operation_explains_itself_and_its_links_lead_somewhere() {
    let description: Value = serde_json::from_str(openapi_json()).unwrap();
    let operations: Vec<&Value> = description["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .collect();
    let ids: HashSet<_> = operations.iter().map(|operation| operation["operationId"].as_str()).collect();
    let tags: Vec<_> = description["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut links = 0;
    for operation in operations {
        let id = &operation["operationId"];
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{id}");
        assert!(tags.contains(&&operation["tags"][0]), "{id}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters {
            assert!(
                parameter["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{id} {parameter}"
            );
            // An example is filled in, and no id or key of ours fits anybody else.
            assert!(parameter.get("example").is_none(), "{id} {parameter}");
        }
        for response in operation["responses"].as_object().unwrap().values() {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} {response}");
            for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
                assert!(ids.contains(&link["operationId"].as_str()), "{id} {link}");
                links += 1;
            }
        }
    }
    assert_eq!(links, 7);
}

#[test]
fn the_description_names_every_operation_and_every_code() {
    let description: Value = serde_json::from_str(openapi_json()).unwrap();
    let (mut operations, mut codes) = (HashSet::new(), HashSet::new());
    for item in description["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            operations.insert(operation["operationId"].as_str().unwrap());
            for response in operation["responses"].as_object().unwrap().values() {
                let examples = response["content"]["application/problem+json"]["examples"].as_object();
                codes.extend(examples.into_iter().flatten().map(|(code, _)| code.as_str()));
            }
        }
    }
    assert_eq!(operations.len(), 14);
    // These are about paths that no operation has, or a defect.
    let elsewhere = ["not_found", "method_not_allowed", "bad_request", "internal"];
    for code in Code::ALL.iter().map(|code| code.as_str()).filter(|code| !elsewhere.contains(code)) {
        assert!(codes.contains(code), "{code} is not documented");
    }
}

#[tokio::test]
async fn swagger_ui_is_served_from_the_program_itself() {
    let api = Api::start().await;
    let page = api.get("/swagger-ui").await;
    assert_eq!((page.status(), page.url().path()), (StatusCode::OK, "/swagger-ui/"));
    let page = page.text().await.unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(api.get(&format!("/swagger-ui/{file}")).await.status(), StatusCode::OK, "{file}");
    }
    let initializer = api.get("/swagger-ui/swagger-initializer.js").await.text().await.unwrap();
    assert!(initializer.contains("/api/openapi.json"), "{initializer}");
    // By default the page asks a public service whether the description is valid.
    assert!(initializer.contains(r#""validatorUrl": "none""#), "{initializer}");
}
