//! The Grape HTTP API, as grenache-grape 1.0.0 answers: `/announce`, `/lookup`, `/put`, `/get` on a DHT node.
//!
//! Stock programs depend on its habits, so they are kept to the byte: the method and the content type do not matter, errors
//! are JSON strings with status 200, a value that is not found is an empty body, and no answer has a content type. Where it
//! is kinder than a stock grape: mutable values are accepted (as by a grape with `verify`), a port that no service can have is
//! refused instead of waiting for time-outs, and bodies, heads and connections are bounded.
//!
//! Ignoring methods and content types is an invitation to web pages in the owner's browser, which can post to any local
//! port. So a request with an `Origin` is refused, unless the owner named it ([`origin`]), and on loopback one whose `Host` is
//! somebody else's name (DNS rebinding).
//!
//! Beside them there is `GET /metrics`, for Prometheus, and, where the owner wants it, `GET /events`.
//!
//! This file listens and maps outcomes to HTTP. [`request`] reads what is asked, in the order in which a stock grape checks
//! it, from [`json`] as JavaScript reads it; [`value`] carries values between JSON and bencode; [`path`] finds the operation;
//! [`metrics`] counts; [`events`] tells what happens.

mod events;
mod json;
mod metrics;
mod origin;
mod path;
#[doc(hidden)]
pub mod reading;
mod request;
mod value;

pub use self::origin::{Origin, OriginError};

use self::{
    events::{Events, Hub},
    metrics::{Asked, Meter},
    origin::Asker,
    path::Operation,
    request::{Announce, Failure, Get, Put},
};
use crate::{
    bep44::Target,
    dht::{self, Dht, DhtError, Found, GetMode, Item},
    grape::Notes,
    listener::{self, App, Lasting, Limits, Peer, Serving},
};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde::Serialize;
use serde_json::Value;
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// The longest body unless the owner says otherwise, as in a grape that is started by a program.
pub const PAYLOAD_BYTES_MAX: usize = 8192;
/// How long a body may take to arrive, as a rule.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Stock clients keep connections for the five seconds that `Keep-Alive` promises them, hyper a little longer, so that none
/// is closed under a request.
pub const LIMITS: Limits = Limits {
    connections_max: 1024,
    connections_per_ip_max: 128,
    header_timeout: Duration::from_secs(8),
    write_timeout: Duration::from_secs(10),
    header_bytes_max: 16 * 1024,
};

/// How a grape's HTTP API is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest body.
    pub payload_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// What its connections may cost.
    pub limits: Limits,
    /// Web pages that may use the API.
    pub allowed_origins: Vec<Origin>,
    /// Whether `GET /events` is served. The DHT node must tell its events then ([`dht::DhtConfig::tells`]).
    pub events: bool,
    /// Who hears of announcements and shows what it keeps, if anything is kept.
    pub notes: Option<Notes>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            body_timeout: BODY_TIMEOUT,
            limits: LIMITS,
            allowed_origins: Vec::new(),
            events: false,
            notes: None,
        }
    }
}

/// A running API. Dropping it stops accepting without waiting for anybody.
#[derive(Debug)]
pub struct Server {
    serving: Serving,
    events: Arc<Hub>,
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.serving.local_addr()
    }

    /// Ends the streams of events, lets other answers finish ([`Serving::shutdown`]), and closes what is left.
    pub async fn shutdown(self) {
        self.events.stop();
        self.serving.shutdown().await;
    }
}

type Body = Either<Full<Bytes>, Events>;
type Response = axum::http::Response<Body>;

struct Grape {
    dht: Dht,
    payload_bytes_max: usize,
    body_timeout: Duration,
    loopback: bool,
    allowed_origins: Vec<Origin>,
    meter: Meter,
    notes: Option<Notes>,
    /// Where events are served.
    events: Option<Arc<Hub>>,
}

/// Serves the Grape HTTP API of `dht` until [`Server::shutdown`].
///
/// # Errors
/// When the listener cannot say where it listens.
pub fn serve(listener: TcpListener, dht: Dht, options: Options) -> io::Result<Server> {
    let loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    let Options { payload_bytes_max, body_timeout, limits, allowed_origins, events, notes } = options;
    let hub = Arc::new(Hub::new());
    let meter = Meter::new(notes.as_ref().map(Notes::meter), Arc::clone(&hub));
    let traffic = Arc::clone(&meter.traffic);
    let grape = Grape {
        dht,
        payload_bytes_max,
        body_timeout,
        loopback,
        allowed_origins,
        meter,
        notes,
        events: events.then(|| Arc::clone(&hub)),
    };
    Ok(Server { serving: listener::serve(listener, Arc::new(grape), limits, traffic)?, events: hub })
}

impl App for Arc<Grape> {
    type Body = Body;

    async fn answer(self, request: Request<Incoming>, _: Peer) -> Result<Response, Infallible> {
        Ok(answer(&self, request).await)
    }
}

async fn answer(grape: &Grape, request: Request<Incoming>) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let closes = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let asked = match &grape.events {
        _ if metrics::is_asked(&parts) => Asked::Metrics,
        Some(_) if events::is_asked(&parts) => Asked::Events,
        _ => Asked::Operation(path::operation_of(path)),
    };
    let asker = Asker::of(&parts.headers, &grape.allowed_origins);
    let mut response = match (guard(grape, &parts.headers, &asker), asked, &grape.events) {
        (Err(text), ..) => respond_failure(Failure::Forbidden(text)),
        (Ok(()), ..) if matches!(asker, Asker::Page(_)) && origin::is_preflight(&parts) => {
            let mut response = respond(StatusCode::NO_CONTENT, String::new());
            origin::allow_more(&parts.headers, response.headers_mut());
            response
        }
        (Ok(()), Asked::Metrics, _) => {
            of_kind(crate::metrics::CONTENT_TYPE, respond(StatusCode::OK, grape.meter.page(&grape.dht)))
        }
        (Ok(()), Asked::Events, Some(hub)) => stream(hub.listen(&grape.dht)),
        (Ok(()), Asked::Events, None) => respond_failure(Failure::not_found()),
        (Ok(()), Asked::Operation(operation), _) => {
            let outcome = grape.handle(operation, body).await;
            outcome.map_or_else(respond_failure, |text| respond(StatusCode::OK, text))
        }
    };
    if let Asker::Page(page) = asker {
        origin::allow(page, response.headers_mut());
    }
    if parts.version == Version::HTTP_11 && !closes {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
    }
    grape.meter.count(asked, response.status(), started.elapsed());
    response
}

/// Refuses what only a web page sends. A page that may ask came by the name that it knows, whatever that is.
fn guard(grape: &Grape, headers: &HeaderMap, asker: &Asker) -> Result<(), &'static str> {
    match asker {
        Asker::Program => {}
        Asker::Page(_) => return Ok(()),
        Asker::Stranger => {
            return Err(
                "A request with an Origin header comes from a web page, and the Grape API answers programs only, and pages whose \
                 origin its owner names: start it with --allow-origin and this page's origin.\n",
            );
        }
    }
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if grape.loopback && host.is_some_and(|host| !is_loopback_host(host)) {
        return Err(
            "This Grape API listens on loopback only; its Host header must be localhost or a loopback address.\n",
        );
    }
    Ok(())
}

/// Whether a Host header (with or without a port) names this machine.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(ip, _)| ip),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

impl Grape {
    /// The body of the answer, JSON text or empty.
    async fn handle(&self, operation: Option<Operation>, body: Incoming) -> Result<String, Failure> {
        // As in a stock grape, bytes that are no UTF-8 are replaced.
        let data = request::data_of(&String::from_utf8_lossy(&self.read(body).await?), operation)?;
        match operation {
            None => Err(Failure::not_found()),
            Some(Operation::Announce) => {
                self.announce(Announce::read(data, self.dht.local_addr().port())?).await
            }
            Some(Operation::Lookup) => self.lookup(&request::lookup_name(data)?).await,
            Some(Operation::Put) => self.put(Put::read(data)?).await,
            Some(Operation::Get) => self.get(Get::read(data)?).await,
        }
    }

    /// The body as far as it is allowed; the rest is not read.
    async fn read(&self, body: Incoming) -> Result<Bytes, Failure> {
        let body = Limited::new(body, self.payload_bytes_max).collect();
        match tokio::time::timeout(self.body_timeout, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(_)) => Err(Failure::TooLarge),
            Err(_) => Err(Failure::TooSlow),
        }
    }

    async fn announce(&self, Announce { name, port }: Announce) -> Result<String, Failure> {
        let noted = self.dht.announce(&name, port).await?.to_string();
        if let Some(notes) = &self.notes {
            notes.announced(&name, port);
        }
        Ok(noted)
    }

    async fn lookup(&self, name: &str) -> Result<String, Failure> {
        match self.dht.lookup(name.as_bytes()).await {
            Ok(peers) => Ok(json(&peers)),
            // A traversal that meets nobody finds nobody.
            Err(DhtError::NoNodes | DhtError::AllFailed { .. }) => Ok("[]".to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, put: Put) -> Result<String, Failure> {
        let put = match put {
            Put::Immutable(v) => dht::Put::Immutable(v),
            // A stock grape sends it as it is, nobody answers, and all queries have failed two seconds later.
            Put::Mutable { item, cas } => {
                dht::Put::Mutable { item: item.verify().map_err(|_| Failure::all_failed())?, cas }
            }
        };
        Ok(json(&self.dht.put(put).await?.target.to_string()))
    }

    async fn get(&self, Get { hash, salt, cached }: Get) -> Result<String, Failure> {
        let Ok(target) = hash.try_into().map(Target) else { return Ok(String::new()) };
        let mode = if cached { GetMode::LocalFirst } else { GetMode::Network };
        match self.dht.get(target, &salt, mode).await {
            Ok(Some(found)) => Ok(json(&Shown::new(&found, &salt))),
            Ok(None) | Err(DhtError::NoNodes | DhtError::AllFailed { .. } | DhtError::SaltTooLong { .. }) => {
                Ok(String::new())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A found value as a stock grape shows it. Names are what readers depend on; `token` is null for a value held here.
#[derive(Serialize)]
struct Shown {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    token: Option<String>,
    v: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
}

impl Shown {
    fn new(found: &Found, salt: &[u8]) -> Self {
        use crate::identity::encode_hex;
        let mutable = match &found.item {
            Item::Mutable(item) => Some(item),
            Item::Immutable(_) => None,
        };
        let from_network = found.token.is_some();
        Self {
            id: found.from.to_string(),
            k: mutable.map(|item| item.k.to_string()),
            seq: mutable.map(|item| item.seq),
            sig: mutable.map(|item| encode_hex(&item.sig.0)),
            token: found.token.as_deref().map(encode_hex),
            v: value::shown(found.item.v()),
            salt: (from_network && !salt.is_empty()).then(|| String::from_utf8_lossy(salt).into_owned()),
        }
    }
}

impl From<DhtError> for Failure {
    fn from(error: DhtError) -> Self {
        match error {
            DhtError::NoNodes => Self::Message("No nodes to query".to_owned()),
            DhtError::AllFailed { .. } => Self::all_failed(),
            DhtError::Refused(refusal) => match u16::try_from(refusal.code) {
                // The only codes that a stock grape passes on.
                Ok(status @ 300..=399) => Self::Coded(status, refusal.to_string()),
                _ => Self::all_failed(),
            },
            DhtError::ValueTooLong { .. } => Self::value_too_long(),
            error => Self::Message(error.to_string()),
        }
    }
}

fn respond_failure(failure: Failure) -> Response {
    match failure {
        Failure::Message(text) => respond(StatusCode::OK, json(&text)),
        Failure::Coded(status, text) => {
            respond(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), json(&text))
        }
        Failure::Thrown(text) => plain(StatusCode::INTERNAL_SERVER_ERROR, text),
        Failure::Forbidden(text) => plain(StatusCode::FORBIDDEN, text),
        Failure::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, "ERR_GRAPE_PAYLOAD_SIZE"),
        Failure::TooSlow => plain(StatusCode::REQUEST_TIMEOUT, "ERR_GRAPE_PAYLOAD_TIMEOUT"),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| Value::Null.to_string())
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    respond(status, text.into())
}

/// No content type: a stock grape sends none.
fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Either::Left(Full::from(body)));
    *response.status_mut() = status;
    response
}

/// An answer that is not of the stock API may say what it is.
fn of_kind(kind: &'static str, mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn stream(events: Option<Events>) -> Response {
    let Some(events) = events else {
        let text = format!(
            "There are {} listeners already; close one, or ask again later.\n",
            events::LISTENERS_MAX
        );
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let mut response = of_kind("text/event-stream", Response::new(Either::Right(events)));
    response.extensions_mut().insert(Lasting);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_are_loopback_hosts() {
        for host in ["localhost", "LOCALHOST:30001", "127.0.0.1:1", "127.9.9.9", "[::1]:30001", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:30001", "10.0.0.1:30001", "[2001:db8::1]:1", "[::1"]
        {
            assert_eq!(is_loopback_host(host), host == "[::1", "{host}");
        }
    }

    #[test]
    fn only_codes_from_300_to_399_become_statuses() {
        let refused = |code| Failure::from(DhtError::Refused(dht::Refusal { code, text: "text".to_owned() }));
        assert_eq!(refused(302), Failure::Coded(302, "302 text".to_owned()));
        for code in [203, 205, 299, 400, -1, 65_836] {
            assert_eq!(refused(code), Failure::Message("All queries failed".to_owned()), "{code}");
        }
    }
}
