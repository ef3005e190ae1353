//! The API's description: what is served is what is committed, and its examples work as they stand.

use crate::Api;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::HashSet;
use vintner::http::api::{self, ApiConfig, ApiToken, Code, openapi_json};

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
    // What that offer is to whoever looks at it.
    let seen = json!({"side": "sell", "btc_quantity": "0.5", "currency": "USD", "price": "64000"});
    assert_eq!(first("/api/v1/offers/{id}/bids"), seen);
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
    assert_eq!(operations.len(), 17);
    // These are about paths that no operation has, or a defect.
    let elsewhere = ["not_found", "method_not_allowed", "bad_request", "internal"];
    for code in Code::ALL.iter().map(|code| code.as_str()).filter(|code| !elsewhere.contains(code)) {
        assert!(codes.contains(code), "{code} is not documented");
    }
}

#[tokio::test]
async fn swagger_ui_is_served_from_the_program_itself_and_says_whose_it_is() {
    let api = Api::start().await;
    let (id, network) = (api.node.exchange().client_id().to_string(), "test");
    for path in ["/", "/swagger-ui", "/swagger-ui/", "/swagger-ui/index.html"] {
        let page = api.get(path).await;
        assert_eq!(
            (page.status(), &page.headers()["content-type"]),
            (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
        );
        assert!(page.url().path().starts_with("/swagger-ui/"), "{path} leads to {}", page.url());
        let page = page.text().await.unwrap();
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("=\"/"), "{page}");
        let title = format!("<title>{} · {network} · {} · vintner</title>", api.addr(), &id[..8]);
        assert!(
            page.contains(&title) && page.contains(&id) && page.contains("data-token=\"none\""),
            "{page}"
        );
    }
    for file in
        ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js", "index.css", "favicon-32x32.png"]
    {
        let file = api.get(&format!("/swagger-ui/{file}")).await;
        assert_eq!(file.status(), StatusCode::OK, "{}", file.url());
    }
    let named = api::start(
        ApiConfig {
            addr: "127.0.0.1:0".parse().unwrap(),
            token: Some(ApiToken::new(&"t".repeat(32)).unwrap()),
            insecure_no_token: false,
            name: Some("desk <1>".into()),
            published: None,
        },
        api.node.clone(),
    );
    let named = named.await.unwrap();
    let page =
        api.client.get(format!("http://{}/", named.local_addr())).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<title>desk &lt;1&gt; · ") && page.contains("data-token=\"needed\""), "{page}");
}

/// Behind a proxy's prefix only what is named from where the browser is leads back to this node.
#[tokio::test]
async fn every_redirect_is_relative() {
    let api = Api::start().await;
    for path in ["/", "/swagger-ui"] {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let answer = client.get(format!("http://{}{path}", api.addr())).send().await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["location"]),
            (StatusCode::SEE_OTHER, &"swagger-ui/".parse().unwrap())
        );
    }
}

#[test]
fn amounts_are_text_or_numbers_and_pages_refer_to_their_entries() {
    let description: Value = serde_json::from_str(openapi_json()).unwrap();
    let schemas = &description["components"]["schemas"];
    assert_eq!(schemas["Amount"]["type"], json!(["string", "number"]));
    for body in ["NewOfferBody", "NewBidBody", "EmptyBody"] {
        assert_eq!(schemas[body]["additionalProperties"], false, "{body}");
    }
    let mut pages = 0;
    for (name, page) in schemas.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("Page")) {
        let entry = format!("#/components/schemas/{}View", name.strip_suffix("Page").unwrap());
        assert_eq!(page["properties"]["items"]["items"], json!({"$ref": entry}), "{name}");
        pages += 1;
    }
    assert!(pages >= 3 && !openapi_json().contains("\"type\": null") && !openapi_json().contains("Page_"));
    // A cursor is one of its own list, and says so.
    for (path, item) in description["paths"].as_object().unwrap() {
        for parameter in
            item["get"]["parameters"].as_array().into_iter().flatten().filter(|p| p["name"] == "cursor")
        {
            assert!(parameter["schema"]["pattern"].is_string(), "{path}");
        }
    }
}
