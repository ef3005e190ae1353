//! Rings of grapes, and the services and callers that meet over them.

use crate::support::{Grape, eventually, stock, stock_grape, vintner_grape};
use crate::support::{PATIENCE, Process};
use serde_json::{Value, json, value::RawValue};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use vintner::{
    grenache::{
        address::AddressPolicy,
        caller::{Caller, CallerConfig, PlainReply},
        service::{self, Call, Handler, Refusal, Reply, Settings, Stream},
    },
    listener::Serving,
};

/// Both versions of the stock libraries.
pub(crate) const VERSIONS: [&str; 2] = ["0.7", "1.0"];

/// Grapes that know each other. What uses the ring talks to `ours`.
pub(crate) struct Ring {
    pub(crate) ours: Grape,
    pub(crate) others: Vec<Grape>,
}

impl Ring {
    /// Two of ours.
    pub(crate) async fn of_ours() -> Self {
        let other = vintner_grape(&[], &["-b", "127.0.0.1"]).await;
        Self { ours: vintner_grape(&[other.bootstrap()], &["-b", "127.0.0.1"]).await, others: vec![other] }
    }

    /// One of ours and two stock ones.
    pub(crate) async fn mixed() -> Self {
        let first = stock_grape(&[]).await;
        let second = stock_grape(&[first.bootstrap()]).await;
        let ours = vintner_grape(&[first.bootstrap(), second.bootstrap()], &["-b", "127.0.0.1"]).await;
        Self { ours, others: vec![first, second] }
    }

    pub(crate) async fn both() -> [Self; 2] {
        [Self::of_ours().await, Self::mixed().await]
    }

    pub(crate) fn url(&self) -> String {
        self.ours.url()
    }

    /// Announces `port` and waits until every grape finds it.
    pub(crate) async fn announce(&self, name: &str, port: u16) {
        eventually(self.ours.http, "announce", json!([name, port]), |answer| {
            answer.json().as_u64().is_some_and(|n| n >= 1)
        })
        .await;
        self.finds(name, port).await;
    }

    /// Waits until every grape finds `port` under `name`.
    pub(crate) async fn finds(&self, name: &str, port: u16) {
        let expected = Value::from(format!("127.0.0.1:{port}"));
        for grape in self.others.iter().chain([&self.ours]) {
            let found = |found: &Value| found.as_array().is_some_and(|list| list.contains(&expected));
            eventually(grape.http, "lookup", json!(name), |answer| found(&answer.json())).await;
        }
    }
}

/// Answers as `rpc-server.js` does, requests and streams.
pub(crate) struct Example;

impl Handler for Example {
    async fn request(&self, call: Call) -> Result<Reply, Refusal> {
        let payload: Value = call.read().map_err(|error| Refusal::new("ERR_PAYLOAD", error))?;
        Ok(match payload.as_str() {
            Some("fail") => Reply::error("ERR_EXAMPLE"),
            Some("nothing") => Reply::of(&()),
            Some("both") => Reply { error: Some("ERR_EXAMPLE".into()), ..Reply::of("beside") },
            _ => Reply::of(&json!({ "key": call.key, "payload": payload, "client": client(&call) })),
        })
    }

    async fn stream(&self, mut stream: Stream) -> Result<Reply, Refusal> {
        let mut body = Vec::new();
        while let Some(chunk) = stream.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.ends_with(b"now") {
                break;
            }
        }
        let streamed = stream.streamed().expect("a stream says so");
        Ok(Reply::of(&json!({
            "key": stream.call.key, "isStream": true, "action": streamed.action, "args": streamed.args,
            "body": String::from_utf8_lossy(&body),
        })))
    }
}

/// The common name in the client's certificate; a test's certificate has no other UTF-8 string that begins with `client-`.
fn client(call: &Call) -> Option<String> {
    let der = &call.certificate.as_ref()?.0;
    let at = der.windows(7).position(|window| window == b"client-")?;
    // In DER the byte before a string is its length.
    let name = &der[at..][..usize::from(der[at - 1])];
    Some(String::from_utf8(name.to_vec()).unwrap())
}

pub(crate) async fn serve_with(handler: impl Handler, settings: Settings) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    service::serve(listener, handler, settings).unwrap()
}

pub(crate) async fn serve(handler: impl Handler) -> Serving {
    serve_with(handler, Settings::default()).await
}

pub(crate) fn caller_with(config: CallerConfig) -> Caller {
    Caller::new(CallerConfig { policy: AddressPolicy { allow_private: true }, timeout: PATIENCE, ..config })
        .unwrap()
}

pub(crate) fn caller() -> Caller {
    caller_with(CallerConfig::default())
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// The reply as `[error, result]`.
pub(crate) fn shown(reply: &PlainReply) -> Value {
    json!([reply.error, serde_json::from_str::<Value>(reply.result.get()).unwrap()])
}

pub(crate) fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A stock service that is announced and found by all of `ring`.
pub(crate) async fn stock_service(ring: &Ring, version: &str, name: &str, options: Value) -> (Process, u16) {
    let mut process = stock("rpc-server.js", &[version, &ring.url(), name, &options.to_string()]);
    let port = u16::try_from(process.event("ready").await["port"].as_u64().unwrap()).unwrap();
    ring.finds(name, port).await;
    (process, port)
}

/// Has a stock client make `calls` and gives the `[error, result]` of each.
pub(crate) async fn stock_calls(
    ring: &Ring,
    version: &str,
    name: &str,
    calls: &[Value],
    tls: Value,
) -> Vec<Value> {
    let list = Value::from(calls.to_vec()).to_string();
    let mut process = stock("rpc-client.js", &[version, &ring.url(), name, &list, &tls.to_string()]);
    let mut replies = Vec::new();
    for _ in calls {
        let reply = process.event("reply").await;
        replies.push(json!([reply["error"], reply["result"]]));
    }
    replies
}

/// Payloads of every JSON type.
pub(crate) fn payloads() -> Vec<Value> {
    vec![
        json!({"length": 4, "nested": {"list": [1, -2.5, null, true], "empty": {}}}),
        json!("größe \u{1f347} \"quoted\" \n"),
        json!(""),
        json!(null),
        json!(0),
        json!([]),
        json!(["a", {"b": false}]),
        json!("x".repeat(100_000)),
    ]
}
