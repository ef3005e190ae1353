//! What Prometheus reads: that the page is well-formed, that its numbers move when things happen and stay with their node,
//! that no stranger can make it longer, and that documentation and dashboard speak of exactly these metrics.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::float_cmp, reason = "tests")]

#[path = "metrics/documents.rs"]
mod documents;
#[path = "metrics/grape.rs"]
mod grape;
#[path = "metrics/node.rs"]
mod node;
mod support;
mod testnet;
#[path = "metrics/text.rs"]
mod text;

use reqwest::{Method, StatusCode};
use testnet::process::rest::{Asked, Rest};
use text::Text;
use vintner::{
    http::api::{self, ApiConfig, ApiToken},
    listener::Serving,
    node::Node,
};

/// A node's API on a free port.
struct Api {
    server: Serving,
    client: Rest,
}

impl Api {
    async fn of(node: &Node, token: Option<&str>) -> Self {
        let token = token.map(|token| ApiToken::new(token).unwrap());
        let config = ApiConfig {
            addr: "127.0.0.1:0".parse().unwrap(),
            token,
            insecure_no_token: false,
            name: None,
            published: None,
        };
        let server = api::start(config, node.clone()).await.unwrap();
        Self { server, client: Rest::new() }
    }

    fn request(&self, method: Method, path: &str) -> Asked {
        self.client.request(method, format!("http://{}{path}", self.server.local_addr()))
    }

    async fn status(&self, method: Method, path: &str) -> StatusCode {
        self.request(method, path).send().await.unwrap().status()
    }

    async fn post(&self, path: &str, body: impl Into<String>) -> StatusCode {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        request.body(body.into()).send().await.unwrap().status()
    }

    async fn page(&self) -> String {
        let response = self.request(Method::GET, "/metrics").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        response.text().await.unwrap()
    }

    async fn metrics(&self) -> Text {
        let page = self.page().await;
        Text::read(&page).unwrap_or_else(|wrong| panic!("{wrong}\n{page}"))
    }
}
