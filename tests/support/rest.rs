//! The one way in which tests call a node's REST API: as reqwest does, and everything that is sent and answered is held against the
//! description.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

#[path = "contract.rs"]
pub mod contract;

use contract::{Exchange, OURS};
use reqwest::{Client, Method, Request, Response, ResponseBuilderExt as _};
use std::time::Duration;

/// A client of any number of nodes.
#[derive(Clone, Debug)]
pub struct Rest(Client);

impl Rest {
    pub fn new() -> Self {
        Self::with(Client::builder())
    }

    pub fn within(timeout: Duration) -> Self {
        Self::with(Client::builder().timeout(timeout))
    }

    fn with(builder: reqwest::ClientBuilder) -> Self {
        // reqwest is built without a provider of its own; an error means that another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self(builder.no_proxy().build().unwrap())
    }

    pub fn request(&self, method: Method, url: impl AsRef<str>) -> Asked {
        Asked(self.0.request(method, url.as_ref()))
    }

    pub fn get(&self, url: impl AsRef<str>) -> Asked {
        self.request(Method::GET, url)
    }

    pub fn post(&self, url: impl AsRef<str>) -> Asked {
        self.request(Method::POST, url)
    }

    pub fn delete(&self, url: impl AsRef<str>) -> Asked {
        self.request(Method::DELETE, url)
    }
}

/// A request that is being made.
#[derive(Debug)]
pub struct Asked(reqwest::RequestBuilder);

impl Asked {
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    pub fn bearer_auth(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub fn body(self, body: impl Into<String>) -> Self {
        Self(self.0.body(body.into()))
    }

    pub fn json(self, body: &serde_json::Value) -> Self {
        Self(self.0.json(body))
    }

    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// The whole answer. An error means that none came.
    pub async fn send(self) -> Result<Response, reqwest::Error> {
        let (client, request) = self.0.build_split();
        let request = request?;
        let sent = request.try_clone().unwrap();
        let response = client.execute(request).await?;
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let answer = response.bytes().await?.to_vec();
        check(&sent, &url, status, &headers, &answer);
        let mut whole = axum::http::Response::builder().status(status).url(url);
        whole.headers_mut().unwrap().extend(headers);
        Ok(whole.body(answer).unwrap().into())
    }
}

/// Holds one exchange that was made byte by byte against the description.
pub fn check_raw(request: &str, answer: &str) {
    let mut words = request.split(' ');
    let [method, target] = [(); 2].map(|()| words.next().unwrap_or_default());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| {
        (name.parse::<axum::http::HeaderName>().unwrap(), value.parse::<axum::http::HeaderValue>().unwrap())
    });
    held(&Exchange {
        method: method.parse().unwrap(),
        uri: target.parse().unwrap(),
        sent: axum::http::HeaderMap::new(),
        request: Vec::new(),
        status: status.unwrap_or_else(|| panic!("no status: {answer:?}")),
        headers: headers.collect(),
        answer: body.into(),
    });
}

fn check(
    sent: &Request,
    url: &reqwest::Url,
    status: reqwest::StatusCode,
    headers: &axum::http::HeaderMap,
    answer: &[u8],
) {
    let body = sent.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let asked = url.path().to_owned() + &url.query().map(|query| format!("?{query}")).unwrap_or_default();
    held(&Exchange {
        method: sent.method().clone(),
        uri: asked.parse().unwrap(),
        sent: sent.headers().clone(),
        request: body.to_vec(),
        status,
        headers: headers.clone(),
        answer: answer.to_vec(),
    });
}

fn held(exchange: &Exchange) {
    if let Err(wrong) = OURS.check(exchange) {
        let [request, answer] =
            [&exchange.request, &exchange.answer].map(|body| String::from_utf8_lossy(body));
        panic!(
            "not as the description says: {wrong}\n{} {} {request}\nwas answered {} {answer}",
            exchange.method, exchange.uri, exchange.status
        );
    }
}
