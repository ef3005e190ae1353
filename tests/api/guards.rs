//! Who is kept out: pages of other sites, other host names, forms, callers without the token, and those who are slow or large.

use crate::{Api, GOOD, assert_problem};
use reqwest::{Method, StatusCode};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use vintner::http::api::{self, ApiConfig, ApiError, Published};

async fn listed(api: &Api) -> u64 {
    api.get_json("/api/v1/node").await["offers"]["listed"].as_u64().unwrap()
}

#[tokio::test]
async fn a_page_of_another_origin_can_do_nothing() {
    let api = Api::start().await;
    let port = api.addr().port();
    for origin in [
        "https://evil.example".to_owned(),
        "null".into(),
        format!("http://evil.example:{port}"),
        format!("http://localhost:{port}"),
        "http://127.0.0.1:1".into(),
        format!("file://{}", api.addr()),
        String::new(),
    ] {
        let create = api.post("/api/v1/offers", GOOD).header("origin", &origin).send().await.unwrap();
        assert!(!create.headers().keys().any(|name| name.as_str().starts_with("access-control")));
        assert_problem(create, 403, "foreign_origin").await;
        for (method, path) in
            [(Method::GET, "/api/v1/offers"), (Method::OPTIONS, "/api/v1/offers"), (Method::GET, "/nothing")]
        {
            let response = api.request(method, path).header("origin", &origin).send().await.unwrap();
            assert_problem(response, 403, "foreign_origin").await;
        }
    }
    assert_eq!(listed(&api).await, 0);
    let own = api.post("/api/v1/offers", GOOD).header("origin", format!("http://{}", api.addr()));
    assert_eq!(own.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_name_that_was_pointed_at_this_machine_is_not_served() {
    let api = Api::start().await;
    let port = api.addr().port();
    for host in
        [format!("evil.example:{port}"), "evil.example".into(), "127.0.0.1:1".into(), "0.0.0.0".into()]
    {
        // As after DNS rebinding: the page's origin is that very host.
        let request = api.post("/api/v1/offers", GOOD).header("host", &host);
        let request = request.header("origin", format!("http://{host}"));
        assert_problem(request.send().await.unwrap(), 403, "foreign_host").await;
    }
    for host in [format!("localhost:{port}"), "localhost".into(), format!("[::1]:{port}")] {
        let response = api.request(Method::GET, "/api/v1/offers").header("host", host).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let answer = raw(&api, "GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("foreign_host"), "{answer}");
    assert_eq!(listed(&api).await, 0);
}

#[tokio::test]
async fn only_json_changes_anything() {
    let api = Api::start().await;
    let kinds =
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""];
    for kind in kinds {
        for path in ["/api/v1/offers", "/api/v1/node/recover"] {
            let request = api.request(Method::POST, path).header("content-type", kind).body(GOOD);
            assert_problem(request.send().await.unwrap(), 415, "unsupported_media_type").await;
        }
    }
    let bare = api.request(Method::POST, "/api/v1/offers").body(GOOD).send().await.unwrap();
    assert_problem(bare, 415, "unsupported_media_type").await;
    assert_eq!(listed(&api).await, 0);
    let kind = "Application/JSON; charset=utf-8";
    let json = api.request(Method::POST, "/api/v1/offers").header("content-type", kind).body(GOOD);
    assert_eq!(json.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_token_opens_everything_but_what_is_public() {
    let token = "correct-horse-battery-staple-0123456789";
    let api = Api::start_on("0.0.0.0:0", Some(token), false).await;
    let wrong = "Bearer realm=\"vintner\", error=\"invalid_token\"";
    for (given, code, challenge) in [
        (None, "unauthorized", "Bearer realm=\"vintner\""),
        (Some("Bearer wrong"), "wrong_token", wrong),
        (Some("bearer  wrong "), "wrong_token", wrong),
        (Some("Bearer "), "unauthorized", "Bearer realm=\"vintner\""),
        (Some(token), "unauthorized", "Bearer realm=\"vintner\""),
        (Some("Basic Zm9vOmJhcg=="), "unauthorized", "Bearer realm=\"vintner\""),
    ] {
        for path in ["/api/v1/node", "/api/v1/offers", "/nothing"] {
            let mut request = api.request(Method::GET, path);
            if let Some(given) = given {
                request = request.header("authorization", given);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], challenge);
            let problem = assert_problem(response, 401, code).await;
            let said = problem["detail"].as_str().unwrap();
            let first = match (given, code) {
                (None, _) => "no token was sent;",
                (_, "wrong_token") => "the token that was sent is not this node's;",
                _ => "the Authorization header holds no single bearer token;",
            };
            assert!(said.starts_with(first) && said.contains("`api-token`"), "{said}");
        }
    }
    for path in ["/", "/healthz", "/api/openapi.json", "/swagger-ui/"] {
        assert_eq!(api.get(path).await.status(), StatusCode::OK, "{path}");
    }
    // How the node stands is for everybody who watches it; what was found is the owner's.
    let reasons = async |request: crate::rest::Asked| {
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        answer["reasons"].as_array().unwrap().clone()
    };
    let told = reasons(api.request(Method::GET, "/readyz")).await;
    assert!(!told.is_empty() && told.iter().all(|reason| reason["detail"] == reason["meaning"]), "{told:?}");
    let told = reasons(api.request(Method::GET, "/readyz").bearer_auth(token)).await;
    assert!(told.iter().any(|reason| reason["detail"] != reason["meaning"]), "{told:?}");
    // A proxy before it has a name of its own.
    let proxied = api.request(Method::GET, "/api/v1/node").bearer_auth(token).header("host", "node.example");
    let proxied = proxied.header("origin", "https://node.example").send().await.unwrap();
    assert_eq!(proxied.status(), StatusCode::OK);
    let opened = api.request(Method::GET, "/api/v1/node").bearer_auth(token).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_name_that_was_pointed_at_a_node_with_a_token_learns_nothing_of_it() {
    let token = "correct-horse-battery-staple-0123456789";
    let api = Api::start_on("127.0.0.1:0", Some(token), false).await;
    let (port, client) = (api.addr().port(), api.node.exchange().client_id().to_string());
    let network = format!("<code>{}</code>", api.node.exchange().network());
    let of_the_node = [&*client, &client[..8], &network, &api.addr().to_string()].map(str::to_owned);
    let public = ["/", "/healthz", "/readyz", "/api/openapi.json", "/swagger-ui/", "/swagger-ui/index.html"];
    for path in public {
        // As after DNS rebinding: the page's origin is that very host.
        let host = format!("evil.example:{port}");
        let rebound = api.request(Method::GET, path).header("host", &host);
        let rebound = rebound.header("origin", format!("http://{host}")).send().await.unwrap();
        let text = rebound.text().await.unwrap();
        for known in &of_the_node {
            assert!(!text.contains(known.as_str()), "{path} tells a page of {host} {known}: {text}");
        }
    }
    // A program of this machine, and whoever has the token, see which node it is; also through a proxy.
    let page = || api.request(Method::GET, "/swagger-ui/");
    let proxied = page().bearer_auth(token).header("host", "node.example");
    for seen in [page(), proxied] {
        let seen = seen.send().await.unwrap();
        assert_eq!(seen.headers()["cache-control"], "no-store");
        let text = seen.text().await.unwrap();
        assert!(of_the_node.iter().all(|known| text.contains(known.as_str())), "{text}");
    }
}

#[tokio::test]
async fn an_address_in_reach_of_others_needs_a_token_or_a_clear_word() {
    let api = Api::start_on("0.0.0.0:0", None, true).await;
    assert_eq!(api.get("/api/v1/node").await.status(), StatusCode::OK);
    let rebound = api.request(Method::GET, "/api/v1/node").header("host", "evil.example");
    assert_problem(rebound.send().await.unwrap(), 403, "foreign_host").await;
    let config = |addr: &str, published: Option<Published>| ApiConfig {
        addr: addr.parse().unwrap(),
        token: None,
        insecure_no_token: false,
        name: None,
        published,
    };
    let refused = api::start(config("0.0.0.0:0", None), api.node.clone()).await;
    assert!(matches!(refused, Err(ApiError::TokenRequired(_))));
    let beyond = Published { addr: "192.168.0.1:4000".parse().unwrap(), from: Vec::new() };
    let refused = api::start(config("0.0.0.0:0", Some(beyond)), api.node.clone()).await;
    assert!(matches!(refused, Err(ApiError::PublishedBeyondLoopback(_))));
}

#[tokio::test]
async fn a_published_api_needs_no_token_and_has_the_rules_of_loopback() {
    let api = Api::start().await;
    let published = Published { addr: "127.0.0.1:4001".parse().unwrap(), from: Vec::new() };
    let config = ApiConfig {
        addr: "0.0.0.0:0".parse().unwrap(),
        token: None,
        insecure_no_token: false,
        name: None,
        published: Some(published),
    };
    let serving = api::start(config, api.node.clone()).await.unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/offers", serving.local_addr().port());
    let post = |host: &str| {
        let request = api.client.post(&url).header("host", host).header("content-type", "application/json");
        request.body(GOOD)
    };
    assert_eq!(post("127.0.0.1:4001").send().await.unwrap().status(), StatusCode::CREATED);
    let own_page = post("localhost:4001").header("origin", "http://localhost:4001");
    assert_eq!(own_page.send().await.unwrap().status(), StatusCode::CREATED);
    for host in ["server-02:4001", "172.18.0.3:4001", "evil.example:4001", "127.0.0.1:4000"] {
        assert_problem(post(host).send().await.unwrap(), 403, "foreign_host").await;
    }
    let page = post("127.0.0.1:4001").header("origin", "http://evil.example");
    assert_problem(page.send().await.unwrap(), 403, "foreign_origin").await;
    assert_eq!(listed(&api).await, 2);
    serving.shutdown().await;
}

#[tokio::test]
async fn a_long_body_is_refused_announced_or_not() {
    let api = Api::start().await;
    let long = format!(r#"{{"memo":"{}"}}"#, "x".repeat(api::BODY_BYTES_MAX));
    let response = api.post("/api/v1/offers", long.clone()).send().await.unwrap();
    assert_problem(response, 413, "body_too_large").await;
    let head = format!(
        "POST /api/v1/offers HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n",
        api.addr()
    );
    let answer = raw(&api, &format!("{head}{:x}\r\n{long}\r\n0\r\n\r\n", long.len())).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    for broken in
        ["zz\r\n{}\r\n0\r\n\r\n", "-2\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx0\r\n\r\n", "ffffffffffffffffff\r\n{}"]
    {
        let answer = raw(&api, &format!("{head}{broken}")).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("\"code\":\"bad_request\""),
            "{broken:?}: {answer}"
        );
        assert!(answer.contains("the body cannot be read"), "{answer}");
    }
}

/// Where there is nothing to do, that is the answer, whatever is sent.
#[tokio::test]
async fn what_does_not_exist_is_said_before_what_is_wrong_with_the_request() {
    let api = Api::start().await;
    for (method, path, status, code) in [
        (Method::PUT, "/api/v1/offers", 405, "method_not_allowed"),
        (Method::POST, "/api/v1/trades", 405, "method_not_allowed"),
        (Method::DELETE, "/api/v1/node", 405, "method_not_allowed"),
        (Method::POST, "/api/v1/nothing", 404, "not_found"),
        (Method::PATCH, "/api/v1/offers/x/y/z?a=b", 404, "not_found"),
        (Method::POST, "/healthz", 405, "method_not_allowed"),
    ] {
        for kind in [None, Some("text/plain"), Some("application/json")] {
            let request = api.request(method.clone(), path).body(GOOD);
            let request = match kind {
                Some(kind) => request.header("content-type", kind),
                None => request,
            };
            assert_problem(request.send().await.unwrap(), status, code).await;
        }
    }
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_frees_the_port() {
    let api = Api::start().await;
    let mut idle = TcpStream::connect(api.addr()).await.unwrap();
    assert_eq!(api.get("/healthz").await.status(), StatusCode::OK);
    let addr = api.addr();
    tokio::time::timeout(Duration::from_secs(5), api.server.shutdown()).await.unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn answers_tell_browsers_to_keep_to_themselves() {
    let api = Api::start().await;
    for path in ["/api/v1/offers", "/nothing", "/swagger-ui/"] {
        let response = api.get(path).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    }
}

/// Sends bytes as they stand and reads until the other side is done.
async fn raw(api: &Api, request: &str) -> String {
    let mut stream = TcpStream::connect(api.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The other side may close while it still has something to read; what it said before counts.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    crate::rest::check_raw(request, &answer);
    answer
}
