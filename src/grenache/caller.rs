//! Calling Grenache services over HTTP, whoever runs them: `request`, `map`, `stream`.
//!
//! Nothing that comes back proves anything, unless TLS does; [`super::client`] signs, and believes signatures. Addresses come
//! from strangers through the DHT, so a [`Caller`] connects only where its [`AddressPolicy`] lets it, and reads within bounds.
//!
//! ```no_run
//! # async fn example(dht: vintner::dht::Dht) -> Result<(), Box<dyn std::error::Error>> {
//! use vintner::grenache::{address::AddressPolicy, caller::{Caller, CallerConfig}};
//!
//! let caller = Caller::new(CallerConfig { policy: AddressPolicy { allow_private: true }, ..CallerConfig::default() })?;
//! let services = dht.lookup(b"rpc:test").await?;
//! let payload = serde_json::value::to_raw_value("hello")?;
//! let reply = caller.request_any(&services, "rpc:test", &payload).await?;
//! match reply.error {
//!     None => println!("{}", reply.result),
//!     Some(error) => println!("the service says {error}"),
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod stream;

pub use self::{error::RequestError, stream::Named};

use super::{
    address::AddressPolicy,
    gzip::{self, UnpackError},
    tls::{self, TlsError},
    wire::{self, FRAME_BYTES_MAX, Rid},
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use reqwest::RequestBuilder;
use serde_json::value::RawValue;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// How long a connection may take to open; an address that does not answer by then is a dead one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the start of a request to its last byte, unless the caller asks for another deadline.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many services one [`Caller::map`] asks: as many as a lookup finds.
pub const MAP_MAX: usize = 100;
/// How many addresses one [`Caller::request_any`] tries: each that is gone may take [`CONNECT_TIMEOUT`].
const TRIES_MAX: usize = 8;
/// How long an idle connection is kept: shorter than the server keeps it, so that it is not closed under a new request.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Idle connections kept to one node.
const POOL_PER_HOST_MAX: usize = 8;

/// How a caller connects.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Whom it may connect to.
    pub policy: AddressPolicy,
    /// From the start of a request to its last byte.
    pub timeout: Duration,
    /// TLS, from [`tls::client`]; `None` is plain HTTP.
    pub tls: Option<rustls::ClientConfig>,
    /// Whether bodies are packed, there and back. Stock services understand it.
    pub gzip: bool,
}

impl Default for CallerConfig {
    fn default() -> Self {
        Self { policy: AddressPolicy::default(), timeout: CALL_TIMEOUT, tls: None, gzip: false }
    }
}

/// Calls services; clones share connections.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    policy: AddressPolicy,
    timeout: Duration,
    gzip: bool,
    scheme: &'static str,
}

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The rest of it.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(String),
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct PlainReply {
    /// The error element, `None` when it was falsy.
    pub error: Option<String>,
    /// The result's JSON text. Present beside an error too.
    pub result: Box<RawValue>,
}

impl Caller {
    /// Sets a caller up.
    ///
    /// # Errors
    /// When the system gives it no TLS.
    pub fn new(config: CallerConfig) -> Result<Self, SetupError> {
        let CallerConfig { policy, timeout, tls, gzip } = config;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.map_or_else(tls::none, Ok)?;
        let http = http(tls).build().map_err(|error| SetupError::Http(error.to_string()))?;
        Ok(Self { http, policy, timeout, gzip, scheme })
    }

    /// Sends a request to one service. Its errors are in the reply; an `Err` means that there is none.
    ///
    /// # Errors
    /// See [`RequestError`], which says whether the request can have arrived.
    pub async fn request(
        &self,
        address: SocketAddr,
        key: &str,
        payload: &RawValue,
    ) -> Result<PlainReply, RequestError> {
        self.check(address)?;
        let rid = Rid::text(&uuid::Uuid::now_v7().to_string())?;
        let frame = wire::write_request(&rid, key, payload)?;
        let request = self.post(address);
        let request = if self.gzip {
            let packed =
                gzip::pack(&frame).ok_or(RequestError::Unsendable("it cannot be packed".to_owned()))?;
            request.header("grc-compress", "gzip").body(packed)
        } else {
            request.header("grc-compress", "none").body(frame)
        };
        let body = self.send(address, request).await?;
        read(address, &rid, &body, self.gzip)
    }

    /// Sends a request to one of `addresses`, chosen by chance, and to another one when that cannot be reached: services that
    /// are gone are found until the DHT forgets them.
    ///
    /// # Errors
    /// [`RequestError::Nobody`] without addresses, the last one's error when none can be reached, and any error after which the
    /// request may have arrived: it is not sent twice.
    pub async fn request_any(
        &self,
        addresses: &[SocketAddr],
        key: &str,
        payload: &RawValue,
    ) -> Result<PlainReply, RequestError> {
        let mut addresses = addresses.to_vec();
        addresses.shuffle(&mut rng());
        let mut last = RequestError::Nobody;
        for address in addresses.into_iter().take(TRIES_MAX) {
            match self.request(address, key, payload).await {
                Err(error) if error.never_sent() => last = error,
                answered => return answered,
            }
        }
        Err(last)
    }

    /// Sends a request to all of `addresses` (the first [`MAP_MAX`]) at once; the outcomes are in their order. Unlike in a stock
    /// client one failure does not hide the answers of the others.
    pub async fn map(
        &self,
        addresses: &[SocketAddr],
        key: &str,
        payload: &RawValue,
    ) -> Vec<(SocketAddr, Result<PlainReply, RequestError>)> {
        let (key, payload): (Arc<str>, Arc<RawValue>) = (key.into(), payload.to_owned().into());
        let mut asked = JoinSet::new();
        for (at, &address) in addresses.iter().take(MAP_MAX).enumerate() {
            let (caller, key, payload) = (self.clone(), Arc::clone(&key), Arc::clone(&payload));
            asked.spawn(async move { (at, (address, caller.request(address, &key, &payload).await)) });
        }
        let mut outcomes = asked.join_all().await;
        outcomes.sort_unstable_by_key(|(at, _)| *at);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn check(&self, address: SocketAddr) -> Result<(), RequestError> {
        if self.policy.allows(address) { Ok(()) } else { Err(RequestError::AddressRefused(address)) }
    }

    fn post(&self, address: SocketAddr) -> RequestBuilder {
        // An IP literal: no name is resolved between the check of the address and the connection.
        self.http.post(format!("{}://{}/", self.scheme, SocketAddr::new(address.ip(), address.port())))
    }

    /// The body that comes back within the deadline, whatever its status: stock services know none but 200.
    async fn send(&self, address: SocketAddr, request: RequestBuilder) -> Result<Vec<u8>, RequestError> {
        tokio::time::timeout(self.timeout, receive(address, request))
            .await
            .unwrap_or(Err(RequestError::TimedOut { address, after: self.timeout }))
    }
}

async fn receive(address: SocketAddr, request: RequestBuilder) -> Result<Vec<u8>, RequestError> {
    let fail = |error: reqwest::Error| {
        let reason = root_cause(&error);
        if error.is_connect() {
            RequestError::Unreachable { address, reason }
        } else {
            RequestError::Broken { address, reason }
        }
    };
    let mut response = request.send().await.map_err(fail)?;
    if response.status().is_redirection() {
        let reason = format!("a redirect ({}); none is followed", response.status());
        return Err(RequestError::NotAReply { address, reason });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fail)? {
        if body.len() + chunk.len() > FRAME_BYTES_MAX {
            let reason = format!("it is longer than {FRAME_BYTES_MAX} bytes");
            return Err(RequestError::NotAReply { address, reason });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The reply to `rid` in `body`.
fn read(address: SocketAddr, rid: &Rid, body: &[u8], gzip: bool) -> Result<PlainReply, RequestError> {
    let not_a_reply = |reason: String| RequestError::NotAReply { address, reason };
    let unpacked = if gzip {
        gzip::unpack(body, FRAME_BYTES_MAX).map(Some).map_err(|error| match error {
            UnpackError::TooLong => {
                not_a_reply(format!("it is longer than {FRAME_BYTES_MAX} bytes unpacked"))
            }
            UnpackError::NotGzip => not_a_reply("it is not packed, although gzip was asked for".to_owned()),
        })?
    } else {
        None
    };
    let frame = unpacked.as_deref().unwrap_or(body);
    let reply = wire::parse_reply(frame, rid).map_err(|error| not_a_reply(error.to_string()))?;
    let reply = reply.ok_or_else(|| not_a_reply("it carries another request's id".to_owned()))?;
    Ok(PlainReply { error: reply.error, result: reply.result })
}

/// A client for strangers: no redirects, no proxy from the environment, no name resolution to speak of.
fn http(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_PER_HOST_MAX)
}

/// The innermost cause, which is what the system said; reqwest's own text only repeats the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Chance enough to spread load. Without it the order is that of the lookup, which serves too.
fn rng() -> StdRng {
    let mut seed = [0; 32];
    let _ = getrandom::fill(&mut seed);
    StdRng::from_seed(seed)
}
