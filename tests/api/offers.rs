//! The life of an offer on one node, as far as one node goes.

use crate::{Api, GOOD, assert_problem};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn an_offer_is_created_shown_by_both_names_and_withdrawn() {
    let api = Api::start().await;
    let body =
        r#"{"btc_quantity":0.50000000,"offer_price":"64000.10","side":"buy","currency":"EUR","memo":"x"}"#;
    let response = api.post("/api/v1/offers", body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let headers = response.headers().clone();
    let offer: Value = response.json().await.unwrap();
    let id = offer["id"].as_str().unwrap();
    assert_eq!(headers["location"], format!("/api/v1/offers/{id}"));
    assert_eq!(headers["etag"], format!("\"{}\"", offer["sequence"]));
    assert_eq!((&offer["btc_quantity"], &offer["offer_price"]), (&json!("0.5"), &json!("64000.1")));
    assert_eq!((&offer["side"], &offer["currency"]), (&json!("buy"), &json!("EUR")));
    assert_eq!((&offer["mine"], &offer["availability"]), (&json!(true), &json!(true)));
    assert_eq!(offer["stale"], false);
    assert_eq!(offer["published"], json!({"state": "pending"}));
    assert_eq!(offer["client_id"], api.node.exchange().client_id().to_string());
    assert_eq!(offer["hash"].as_str().unwrap().len(), 40);
    let hour = |time: &str| offer[time].as_str().unwrap().get(..13).unwrap().to_owned();
    assert!(hour("created_at") < hour("expires_at") && hour("expires_at") < hour("dies_at"));

    for name in ["id", "hash"] {
        let path = format!("/api/v1/offers/{}", offer[name].as_str().unwrap());
        assert_eq!(api.get_json(&path).await, offer);
    }
    assert_eq!(api.get_json("/api/v1/offers").await, json!({"items": [offer], "next_cursor": null}));
    assert_eq!(api.get_json("/api/v1/node").await["offers"]["listed"], 1);

    let path = format!("/api/v1/offers/{id}");
    let withdrawn = api.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(withdrawn.status(), StatusCode::OK);
    let withdrawn: Value = withdrawn.json().await.unwrap();
    assert_eq!((&withdrawn["status"], &withdrawn["availability"]), (&json!("withdrawn"), &json!(false)));
    assert!(withdrawn["sequence"].as_u64() > offer["sequence"].as_u64());
    assert_eq!(api.get_json("/api/v1/offers").await["items"], json!([]));
    assert_eq!(api.get_json("/api/v1/offers?availability=false").await["items"], json!([withdrawn]));
    let again = api.request(Method::DELETE, &path).send().await.unwrap();
    let problem = assert_problem(again, 409, "offer_closed").await;
    assert!(problem["detail"].as_str().unwrap().contains("was withdrawn before"), "{problem}");
}

#[tokio::test]
async fn amounts_as_numbers_keep_all_their_digits() {
    let api = Api::start().await;
    let offer = api.create(r#"{"btc_quantity":20999999.99999999,"offer_price":99999999999.99999999}"#).await;
    assert_eq!(offer["btc_quantity"], "20999999.99999999");
    assert_eq!(offer["offer_price"], "99999999999.99999999");
    let offer =
        api.create(r#"{"btc_quantity":0.30000000000000000,"offer_price":90071992547.40992999}"#).await;
    assert_eq!(
        (&offer["btc_quantity"], &offer["offer_price"]),
        (&json!("0.3"), &json!("90071992547.40992999"))
    );
    // As Python and JavaScript write small numbers.
    for (given, exact) in
        [("5e-05", "0.00005"), ("1e-8", "0.00000001"), ("2.1E+7", "21000000"), ("\"5e-8\"", "0.00000005")]
    {
        let offer = api.create(&format!(r#"{{"btc_quantity":{given},"offer_price":1e-8}}"#)).await;
        assert_eq!(
            (&offer["btc_quantity"], &offer["offer_price"]),
            (&json!(exact), &json!("0.00000001")),
            "{given}"
        );
    }
    let found = api.get_json("/api/v1/offers?max_price=1e-8&min_quantity=1e-8").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn times_are_the_callers_or_a_day_each() {
    let api = Api::start().await;
    let at = |hours: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        format!("{at:.3}")
    };
    let (expires, dies) = (at(2), at(3));
    let body = json!({"btc_quantity": "1", "offer_price": "1", "expires_at": expires, "dies_at": dies});
    let offer = api.create(&body.to_string()).await;
    assert_eq!((&offer["expires_at"], &offer["dies_at"]), (&json!(expires), &json!(dies)));
    // The longest: it cannot outlive 30 days.
    let expires = at(30 * 24 - 1);
    api.create(&json!({"btc_quantity": "1", "offer_price": "1", "expires_at": expires}).to_string()).await;
    // Only its death is given: it expires with it.
    let dies = at(1);
    let offer =
        api.create(&json!({"btc_quantity": "1", "offer_price": "1", "dies_at": dies}).to_string()).await;
    assert_eq!(offer["expires_at"], offer["dies_at"]);
}

#[tokio::test]
async fn a_repeated_request_makes_one_offer_and_the_key_is_good_for_no_other() {
    let api = Api::start().await;
    let send = |body: &str| {
        let request = api.post("/api/v1/offers", body).header("idempotency-key", "order-17");
        async { request.send().await.unwrap() }
    };
    let first: Value = send(GOOD).await.json().await.unwrap();
    let second = send(GOOD).await;
    assert_eq!(second.status(), StatusCode::CREATED);
    assert_eq!(second.json::<Value>().await.unwrap(), first);
    assert_eq!(api.get_json("/api/v1/node").await["offers"]["listed"], 1);
    let other = GOOD.replace("0.5", "0.6");
    assert_problem(send(&other).await, 422, "idempotency_key_reuse").await;
    for key in [String::new(), "k".repeat(256)] {
        let response = api.post("/api/v1/offers", GOOD).header("idempotency-key", key).send().await.unwrap();
        assert_problem(response, 400, "invalid_header").await;
    }
    let twice =
        api.post("/api/v1/offers", GOOD).header("idempotency-key", "a").header("idempotency-key", "b");
    assert_problem(twice.send().await.unwrap(), 400, "invalid_header").await;
    assert_eq!(api.get_json("/api/v1/node").await["offers"]["listed"], 1);
}

#[tokio::test]
async fn versions_guard_withdrawals_and_save_reads() {
    let api = Api::start().await;
    let offer = api.create(GOOD).await;
    let path = format!("/api/v1/offers/{}", offer["id"].as_str().unwrap());
    let etag = format!("\"{}\"", offer["sequence"]);
    let get = |tag: &str| api.request(Method::GET, &path).header("if-none-match", tag).send();
    let unchanged = get(&etag).await.unwrap();
    assert_eq!(
        (unchanged.status(), &unchanged.headers()["etag"]),
        (StatusCode::NOT_MODIFIED, &etag.parse().unwrap())
    );
    // Clients such as Postman would follow it.
    assert!(unchanged.headers().get("location").is_none());
    assert_eq!(unchanged.bytes().await.unwrap().len(), 0);
    assert_eq!(get("\"1\"").await.unwrap().status(), StatusCode::OK);
    assert_problem(get("1").await.unwrap(), 400, "invalid_header").await;

    let delete = |tag: &str| api.request(Method::DELETE, &path).header("if-match", tag).send();
    assert_problem(delete("\"1\"").await.unwrap(), 412, "sequence_mismatch").await;
    assert_problem(delete("W/\"1\"").await.unwrap(), 412, "sequence_mismatch").await;
    let problem = assert_problem(delete("nonsense").await.unwrap(), 400, "invalid_header").await;
    assert!(problem["detail"].as_str().unwrap().contains("\"nonsense\""), "{problem}");
    let problem = assert_problem(delete("\"nope\"").await.unwrap(), 412, "sequence_mismatch").await;
    let said = problem["detail"].as_str().unwrap();
    assert!(said.contains(&etag) && said.contains("\"nope\", which is no ETag of an offer"), "{said}");
    let lines = |first: &str, second: &str| {
        let request = api.request(Method::DELETE, &path).header("if-match", first).header("if-match", second);
        request.send()
    };
    assert_problem(lines("\"1\"", "\"a,b\"").await.unwrap(), 412, "sequence_mismatch").await;
    assert_eq!(get(&format!("\"x,y\",, W/{etag}")).await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let withdrawn = lines("\"1\"", &format!(", {etag}")).await.unwrap();
    assert_eq!(withdrawn.status(), StatusCode::OK);
    let closed = withdrawn.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(get(&closed).await.unwrap().status(), StatusCode::NOT_MODIFIED);
    assert_eq!(get(&etag).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn pages_follow_their_cursors_to_the_end() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for n in 1..=7 {
        let offer = api.create(&format!(r#"{{"btc_quantity":"{n}","offer_price":"{}"}}"#, n * 100)).await;
        made.insert(0, offer["id"].clone());
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/offers?limit=3&mine=true".to_owned());
    for expected in [3, 3, 1] {
        let page = api.get_json(&path).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), expected);
        seen.extend(items.iter().map(|offer| offer["id"].clone()));
        path = format!(
            "/api/v1/offers?limit=3&mine=true&cursor={}",
            page["next_cursor"].as_str().unwrap_or("end")
        );
    }
    assert_eq!(seen, made);
    assert!(path.ends_with("=end"));
    let within = api.get_json("/api/v1/offers?min_price=300&max_quantity=5").await;
    assert_eq!(within["items"].as_array().unwrap().len(), 3);
    // Nobody is silent here: asked for or not, the list is the same.
    let page = |query: &'static str| api.get_json(query);
    assert_eq!(
        page("/api/v1/offers?limit=3&include=stale").await["items"],
        page("/api/v1/offers?limit=3").await["items"],
    );
}

#[tokio::test]
async fn lists_without_entries_are_empty_pages() {
    let api = Api::start().await;
    let offer = api.create(GOOD).await;
    let bids = format!("/api/v1/offers/{}/bids", offer["hash"].as_str().unwrap());
    for path in [&bids, "/api/v1/trades", "/api/v1/offers?mine=false"] {
        assert_eq!(api.get_json(path).await, json!({"items": [], "next_cursor": null}), "{path}");
    }
}

#[tokio::test]
async fn the_node_says_who_it_is_and_recovers_nothing_when_nothing_is_lost() {
    let api = Api::start().await;
    let node = api.get_json("/api/v1/node").await;
    assert_eq!(node["client_id"], api.node.exchange().client_id().to_string());
    assert_eq!((&node["network"], &node["store"]["behind"]), (&json!("test"), &json!(false)));
    let alone = |synced| json!({"synced": synced, "behind": 0, "makers": 0, "stale": 0, "neighbours": [], "records": 0});
    assert_eq!(node["replication"], alone(false), "it is looking for others");
    let looked = async || api.get_json("/api/v1/node").await["replication"] == alone(true);
    for _ in 0..500 {
        if looked().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(looked().await, "a network of one has nothing to miss");
    assert_eq!(api.get_json("/healthz").await, json!({"status": "ok"}));
    for body in ["", "{}"] {
        let response = api.post("/api/v1/node/recover", body).send().await.unwrap();
        let nothing = json!({
            "recovered": 0, "offers": [], "trades": [], "trades_recovered": 0, "trades_contradicting": 0,
            "nodes_asked": 0, "nodes_not_reached": [],
        });
        assert_eq!(response.json::<Value>().await.unwrap(), nothing);
    }
}

#[tokio::test]
async fn readiness_follows_the_nodes_own_word() {
    let api = Api::start().await;
    if api.node.status().is_ready() {
        assert_eq!(api.get_json("/readyz").await["status"], "ready");
    } else {
        assert_problem(api.get("/readyz").await, 503, "not_ready").await;
    }
    assert_eq!(api.get("/readyz?sync=false").await.status(), api.get("/readyz").await.status());
}

#[tokio::test]
async fn a_node_that_joins_another_can_trade_and_is_soon_synced() {
    let api = Api::start().await;
    let beside = Api::start_beside(&api).await;
    for _ in 0..500 {
        let response = beside.get("/readyz?sync=true").await;
        if response.status() == StatusCode::OK {
            assert_eq!(response.json::<Value>().await.unwrap(), json!({"status": "ready", "reasons": []}));
            assert_eq!(beside.get("/readyz").await.status(), StatusCode::OK);
            return;
        }
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem: Value = response.json().await.unwrap();
        assert!(problem["code"] == "not_ready" || problem["code"] == "not_synced", "{problem}");
        let reason = &problem["reasons"][0];
        let told = ["code", "level", "since", "meaning", "advice", "detail"].map(|field| &reason[field]);
        assert!(told.iter().all(|text| text.is_string()), "{problem}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the node was not synced within 10 s");
}
