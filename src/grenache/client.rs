//! Calling another node, or a stock Grenache service, over HTTP.
//!
//! What comes back is believed only when it is signed by the node that was asked, for this very request. Everything else is a
//! [`CallError`], which says whether the request can have arrived: a caller that bid must know the difference.

use super::{
    address::AddressPolicy,
    envelope::{EnvelopeError, ReplyError, SignedReply, SignedRequest, VerifiedReply, code},
    meter::{self, Meter},
    wire::{self, FRAME_BYTES_MAX, Rid, WireError},
};
use crate::{
    identity::{KeyPair, Network, PublicKey},
    time::UnixMillis,
    workers::Workers,
};
use serde_json::value::RawValue;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a connection may take to open; an address that does not answer by then is a dead one.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the start of a call to its last byte, unless the caller asks for another deadline.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: shorter than the server keeps it, so that it is not closed under a new request.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Idle connections kept to one node.
const POOL_PER_HOST_MAX: usize = 8;

/// How a client connects and whom it believes.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The market that requests and replies are signed for.
    pub network: Network,
    /// Whom it may connect to.
    pub policy: AddressPolicy,
    /// From the start of a call to its last byte.
    pub timeout: Duration,
}

/// Calls other nodes; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    workers: Workers,
    network: Network,
    policy: AddressPolicy,
    timeout: Duration,
    meter: Arc<Meter>,
}

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct ClientError(String);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is in a range that strangers must not send this node to.
    #[error(
        "{0} is not an address that this node connects to; private ranges must be allowed in its settings"
    )]
    AddressRefused(SocketAddr),
    /// The request cannot be signed or framed.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    /// No connection was made, so the request was not sent.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The deadline passed; the request may have arrived.
    #[error("{address} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke; the request may have arrived.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// What the HTTP client said.
        reason: String,
    },
    /// What came back is no reply to this request.
    #[error("{address} answered with something that is no reply: {reason}")]
    NotAReply {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// A reply whose signature is missing or wrong: no answer. `said` is its error text, for the log only.
    #[error("{address} gave no answer that can be believed: {reason}{}", .said.as_ref().map(|s| format!(" (it said {s:?})")).unwrap_or_default())]
    NotBelieved {
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: ReplyError,
        /// The unsigned error string, cut short.
        said: Option<String>,
    },
    /// Too many signatures wait to be checked here; the request may have arrived.
    #[error("this node is too busy to check the reply of {0}")]
    Busy(SocketAddr),
}

impl CallError {
    /// True when the request certainly did not arrive. Otherwise its sender is in doubt and must ask again with the same id.
    pub fn never_sent(&self) -> bool {
        matches!(self, Self::AddressRefused(_) | Self::Unsendable(_) | Self::Unreachable { .. })
    }

    /// The word under which it is counted.
    fn outcome(&self) -> &'static str {
        match self {
            Self::AddressRefused(_) => "address_refused",
            Self::Unsendable(_) => "unsendable",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Broken { .. } => "broken",
            Self::NotAReply { .. } => "not_a_reply",
            Self::NotBelieved { .. } => "not_believed",
            Self::Busy(_) => "busy_here",
        }
    }
}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        Self::Unsendable(error.to_string())
    }
}

impl From<EnvelopeError> for CallError {
    fn from(error: EnvelopeError) -> Self {
        Self::Unsendable(error.to_string())
    }
}

/// A reply of a service that does not sign.
#[derive(Clone, Debug)]
pub struct PlainReply {
    /// The error element, `None` when it was falsy.
    pub error: Option<String>,
    /// The result's JSON text.
    pub result: Box<RawValue>,
}

impl Client {
    /// Sets a client up. Reply signatures are checked on `workers`.
    pub fn new(config: ClientConfig, workers: Workers) -> Result<Self, ClientError> {
        let http =
            plain_http().and_then(|builder| builder.build().map_err(|e| ClientError(e.to_string())))?;
        let ClientConfig { network, policy, timeout } = config;
        let meter = Arc::new(Meter::of_client(&[]));
        Ok(Self { http, workers, network, policy, timeout, meter })
    }

    /// Counts signed calls there.
    #[must_use]
    pub fn counted(mut self, meter: Arc<Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// Signs and sends a command, and when the receiver's clock is too far from ours, signs once more by its clock.
    pub async fn call_signed(
        &self,
        address: SocketAddr,
        key: &KeyPair,
        to: PublicKey,
        cmd: &str,
        body: &str,
        now: impl Fn() -> UnixMillis,
    ) -> Result<VerifiedReply, CallError> {
        let started = Instant::now();
        let reply = self.call_by_either_clock(address, key, to, (cmd, body), now).await;
        let outcome = match &reply {
            Ok(VerifiedReply { outcome: Ok(_), .. }) => meter::OK,
            Ok(VerifiedReply { outcome: Err(refusal), .. }) => &refusal.code,
            Err(error) => error.outcome(),
        };
        self.meter.count(cmd, outcome, started.elapsed());
        reply
    }

    async fn call_by_either_clock(
        &self,
        address: SocketAddr,
        key: &KeyPair,
        to: PublicKey,
        (cmd, body): (&str, &str),
        now: impl Fn() -> UnixMillis,
    ) -> Result<VerifiedReply, CallError> {
        let sign = |at| SignedRequest::sign(&self.network, key, to, cmd, body.to_owned(), at);
        let reply = self.call(address, &to.to_string(), &sign(now())?).await?;
        match &reply.outcome {
            Err(refusal) if refusal.code == code::STALE_REQUEST => {
                // Our time and the offset between the clocks make just what the receiver's clock showed a moment ago.
                self.call(address, &to.to_string(), &sign(reply.at)?).await
            }
            _ => Ok(reply),
        }
    }

    /// Sends a signed request once. `key` is the frame's key: the receiver's client id or the network's name.
    pub async fn call(
        &self,
        address: SocketAddr,
        key: &str,
        request: &SignedRequest,
    ) -> Result<VerifiedReply, CallError> {
        let reply = self.request(address, key, &request.to_payload()?).await?;
        let said = reply.error.map(|text| text.chars().take(SAID_CHARS_MAX).collect());
        let not_believed = |reason| CallError::NotBelieved { address, reason, said };
        let signed = match SignedReply::parse(&reply.result) {
            Ok(signed) => signed,
            Err(reason) => return Err(not_believed(reason)),
        };
        let (network, request) = (self.network.clone(), request.clone());
        match self.workers.run(move || signed.verify(&network, &request)).await {
            Ok(verified) => verified.map_err(not_believed),
            Err(_) => Err(CallError::Busy(address)),
        }
    }

    /// Sends an unsigned request, as to a stock Grenache service. Its reply proves nothing.
    pub async fn request(
        &self,
        address: SocketAddr,
        key: &str,
        payload: &RawValue,
    ) -> Result<PlainReply, CallError> {
        if !self.policy.allows(address) {
            return Err(CallError::AddressRefused(address));
        }
        let rid = Rid::text(&uuid::Uuid::now_v7().to_string())?;
        let frame = wire::write_request(&rid, key, payload)?;
        let body = tokio::time::timeout(self.timeout, self.post(address, frame))
            .await
            .unwrap_or(Err(CallError::TimedOut { address, after: self.timeout }))?;
        let not_a_reply = |reason: String| CallError::NotAReply { address, reason };
        let reply = wire::parse_reply(&body, &rid).map_err(|e| not_a_reply(e.to_string()))?;
        let reply = reply.ok_or_else(|| not_a_reply("it carries another request's id".to_owned()))?;
        Ok(PlainReply { error: reply.error, result: reply.result })
    }

    async fn post(&self, address: SocketAddr, frame: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let fail = |error: reqwest::Error| {
            let reason = root_cause(&error);
            if error.is_connect() {
                CallError::Unreachable { address, reason }
            } else {
                CallError::Broken { address, reason }
            }
        };
        // An IP literal: no name is resolved between the check of the address and the connection.
        let url = format!("http://{}/", SocketAddr::new(address.ip(), address.port()));
        let request = self.http.post(url).header("grc-compress", "none").body(frame);
        let mut response = request.send().await.map_err(fail)?;
        if response.status().is_redirection() {
            let reason = format!("a redirect ({}); none is followed", response.status());
            return Err(CallError::NotAReply { address, reason });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if body.len() + chunk.len() > FRAME_BYTES_MAX {
                let reason = format!("it is longer than {FRAME_BYTES_MAX} bytes");
                return Err(CallError::NotAReply { address, reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// How much of an unsigned error text is kept for the log.
const SAID_CHARS_MAX: usize = 200;

/// A client for plain HTTP to strangers: no redirects, no proxy from the environment, no name resolution to speak of.
///
/// reqwest insists on a TLS set-up although none is used here; it gets one with no trusted roots, so that it needs neither a
/// process-wide crypto provider nor a certificate store on the machine.
fn plain_http() -> Result<reqwest::ClientBuilder, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError(e.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_PER_HOST_MAX))
}

/// The innermost cause, which is what the system said; reqwest's own text only repeats the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
