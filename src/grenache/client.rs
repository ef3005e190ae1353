//! Calling another node with signed requests, by a [`Caller`].
//!
//! What comes back is believed only when it is signed by the node that was asked, for this very request. Everything else is a
//! [`CallError`], which says whether the request can have arrived: a caller that bid must know the difference.

use super::{
    address::AddressPolicy,
    caller::{Caller, CallerConfig, RequestError, SetupError},
    clocks::Clocks,
    envelope::{EnvelopeError, ReplyError, SignedReply, SignedRequest, VerifiedReply, code},
    meter::{self, Meter},
};
use crate::{
    identity::{KeyPair, Network, PublicKey},
    time::UnixMillis,
    workers::Workers,
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How much of an unsigned error text is kept for the log.
const SAID_CHARS_MAX: usize = 200;

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
    caller: Caller,
    workers: Workers,
    network: Network,
    meter: Arc<Meter>,
    clocks: Arc<Clocks>,
}

/// Why a call has no answer that counts.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is none at all.
    #[error(transparent)]
    NoReply(#[from] RequestError),
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
        matches!(self, Self::NoReply(error) if error.never_sent())
    }

    /// The word under which it is counted.
    fn outcome(&self) -> &'static str {
        match self {
            Self::NoReply(error) => error.outcome(),
            Self::NotBelieved { .. } => "not_believed",
            Self::Busy(_) => "busy_here",
        }
    }
}

impl From<EnvelopeError> for CallError {
    fn from(error: EnvelopeError) -> Self {
        Self::NoReply(RequestError::Unsendable(error.to_string()))
    }
}

impl Client {
    /// Sets a client up. Reply signatures are checked on `workers`.
    pub fn new(config: ClientConfig, workers: Workers) -> Result<Self, SetupError> {
        let ClientConfig { network, policy, timeout } = config;
        let caller = Caller::new(CallerConfig { policy, timeout, ..CallerConfig::default() })?;
        Ok(Self { caller, workers, network, meter: Arc::new(Meter::of_client(&[])), clocks: Arc::default() })
    }

    /// Notes there what the receivers' clocks show.
    #[must_use]
    pub fn noting(mut self, clocks: Arc<Clocks>) -> Self {
        self.clocks = clocks;
        self
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
        let asked = Instant::now();
        let reply = self.caller.request(address, key, &request.to_payload()?).await?;
        let said = reply.error.map(|text| text.chars().take(SAID_CHARS_MAX).collect());
        let not_believed = |reason| CallError::NotBelieved { address, reason, said };
        let signed = match SignedReply::parse(&reply.result) {
            Ok(signed) => signed,
            Err(reason) => return Err(not_believed(reason)),
        };
        let (network, request, is_myself) = (self.network.clone(), request.clone(), request.is_to_itself());
        match self.workers.run(move || signed.verify(&network, &request)).await {
            Ok(Ok(verified)) => {
                // A node that finds itself under the network's name hears its own clock, which agrees.
                if !is_myself {
                    self.clocks.note(address, verified.at, asked);
                }
                Ok(verified)
            }
            Ok(Err(reason)) => Err(not_believed(reason)),
            Err(_) => Err(CallError::Busy(address)),
        }
    }
}
