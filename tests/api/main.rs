//! The REST API of one real node, over real sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod docs;
mod guards;
mod offers;
mod planted;
mod problems;
mod receipts;
#[path = "../support/rest.rs"]
mod rest;
mod trading;

use reqwest::{Method, Response, StatusCode};
use rest::{Asked, Rest};
use serde_json::Value;
use std::net::SocketAddr;
use vintner::{
    http::api::{self, ApiConfig, ApiToken},
    listener::Serving,
    node::{Node, NodeConfig},
};

/// A node with its API on a free port.
struct Api {
    server: Serving,
    node: Node,
    client: Rest,
    _data: tempfile::TempDir,
}

impl Api {
    async fn start() -> Self {
        Self::start_on("127.0.0.1:0", None, false).await
    }

    /// A second node that joins the first one's DHT.
    async fn start_beside(other: &Self) -> Self {
        Self::start_with("127.0.0.1:0", None, false, vec![other.node.status().dht.address.to_string()]).await
    }

    async fn start_on(addr: &str, token: Option<&str>, insecure_no_token: bool) -> Self {
        Self::start_with(addr, token, insecure_no_token, Vec::new()).await
    }

    async fn start_with(
        addr: &str,
        token: Option<&str>,
        insecure_no_token: bool,
        bootstrap: Vec<String>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = NodeConfig::local("test".parse().unwrap(), data.path().into(), bootstrap);
        let node = Node::start(config).await.unwrap();
        let token = token.map(|token| ApiToken::new(token).unwrap());
        let config =
            ApiConfig { addr: addr.parse().unwrap(), token, insecure_no_token, name: None, published: None };
        let server = api::start(config, node.clone()).await.unwrap();
        Self { server, node, client: Rest::new(), _data: data }
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.server.local_addr().port()))
    }

    fn request(&self, method: Method, path: &str) -> Asked {
        self.client.request(method, format!("http://{}{path}", self.addr()))
    }

    fn post(&self, path: &str, body: impl Into<String>) -> Asked {
        self.request(Method::POST, path).header("content-type", "application/json").body(body.into())
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    async fn create(&self, body: &str) -> Value {
        let response = self.post("/api/v1/offers", body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "{body}");
        response.json().await.unwrap()
    }
}

/// An offer that is right.
const GOOD: &str = r#"{"btc_quantity":"0.5","offer_price":"64000"}"#;

/// The answer is a problem of this status and code, with all that every problem has.
async fn assert_problem(response: Response, status: u16, code: &str) -> Value {
    let (found, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    assert_eq!(headers["content-type"], "application/problem+json", "{found} {text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((found.as_u16(), &problem["code"]), (status, &Value::from(code)), "{text}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:vintner:problem:{code}"));
    assert!(problem["retryable"].is_boolean() && problem["title"].is_string(), "{text}");
    assert!(problem["detail"].as_str().unwrap().len() > 10, "{text}");
    problem
}
