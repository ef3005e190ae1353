//! The RPC port of a node: a [`service`] that takes signed requests only, hands commands to their handlers and signs what they
//! answer.
//!
//! After what the service itself checks comes, in this order, so that whoever has least right costs least: envelope, recipient
//! and clock, command, and only then the signature, on the worker pool. A command's outcome is signed; a refusal before there
//! is a readable request to answer is not.

use super::{
    envelope::{Outcome, RequestDigest, RpcRefusal, SignedReply, SignedRequest, VerifiedRequest, code},
    meter::{self, Meter},
    rate::Rate,
    service::{self, Call, Handler, KnownSources, Refusal, Reply, Settings},
};
use crate::{
    identity::{KeyPair, Network, PublicKey},
    listener::{Limits, Serving, Traffic},
    time::UnixMillis,
    workers::Workers,
};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// How long a command may take. Longer than callers wait: what it decides is kept, and told when they ask again.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the node's time comes from.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

type Answer = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Command = Arc<dyn Fn(VerifiedRequest, SocketAddr) -> Answer + Send + Sync>;

/// The commands that a server knows.
#[derive(Clone, Default)]
pub struct Commands {
    handlers: HashMap<&'static str, Command>,
    counted: Option<(Arc<Meter>, Arc<Traffic>)>,
}

impl Commands {
    /// Handles `cmd` with `handler`, which is given the verified request and the address that it came from.
    #[must_use]
    pub fn on<F>(
        mut self,
        cmd: &'static str,
        handler: impl Fn(VerifiedRequest, SocketAddr) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.handlers.insert(cmd, Arc::new(move |request, from| Box::pin(handler(request, from))));
        self
    }

    /// Counts requests and connections there.
    #[must_use]
    pub fn counted(mut self, meter: Arc<Meter>, traffic: Arc<Traffic>) -> Self {
        self.counted = Some((meter, traffic));
        self
    }
}

/// Who a server is and what it puts up with.
#[derive(Clone)]
pub struct ServerConfig {
    /// The market that requests and replies are signed for.
    pub network: Network,
    /// The client key: replies are signed with it.
    pub key: KeyPair,
    /// The node's time.
    pub clock: Clock,
    /// What one source may ask.
    pub rate: Rate,
    /// Who may ask more often.
    pub known: Arc<KnownSources>,
    /// Connections.
    pub limits: Limits,
}

struct Server {
    network: Network,
    key: KeyPair,
    clock: Clock,
    me: PublicKey,
    handlers: HashMap<&'static str, Command>,
    workers: Workers,
    meter: Arc<Meter>,
}

/// Serves `commands` on `listener` until [`Serving::shutdown`].
pub fn serve(
    listener: TcpListener,
    config: ServerConfig,
    commands: Commands,
    workers: Workers,
) -> io::Result<Serving> {
    let ServerConfig { network, key, clock, rate, known, limits } = config;
    let Commands { handlers, counted } = commands;
    let (meter, traffic) = counted.unwrap_or_else(|| (Arc::new(Meter::of_server(&[])), Arc::default()));
    let me = key.public();
    let server = Server { network, key, clock, me, handlers, workers, meter };
    // Commands are timed here, because what is said of one that is late is signed, too.
    let settings = Settings { limits, rate, known, handler_timeout: None, traffic, ..Settings::default() };
    service::serve(listener, server, settings)
}

/// The service that tells whoever asks, unsigned, which node this is and of which network: `{"network": .., "client_id": ..}`.
/// A hint, for those that know nothing yet and must sign for a network; a signed answer proves it. No network has such a name.
pub const WHO: &str = "vintner/1";

/// What a node answers under [`WHO`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The market.
    pub network: Network,
    /// The node.
    pub client_id: PublicKey,
}

/// No signed envelope.
const UNSIGNED: &str = "ERR_RPC_UNSIGNED";
/// A service that this node is not.
const KEY: &str = "ERR_RPC_KEY";

impl Handler for Server {
    async fn request(&self, call: Call) -> Result<Reply, Refusal> {
        if call.key == WHO {
            self.meter.count("", meter::OK, call.received.elapsed());
            let who = Who { network: self.network.clone(), client_id: self.me };
            let result = to_raw_value(&who).map_err(|error| Refusal::new(Refusal::REPLY, error))?;
            return Ok(Reply { error: None, result });
        }
        let request = SignedRequest::parse(&call.payload).map_err(|e| Refusal::new(UNSIGNED, e))?;
        if call.key != self.network.as_str() && call.key.parse() != Ok(self.me) {
            let detail = format!("this node answers to {} and to {}", self.me, self.network);
            return Err(Refusal::new(KEY, detail));
        }
        let (digest, started) = (request.digest(), Instant::now());
        // A command that is not known is not worth a copy of its name.
        let name = self.handlers.get_key_value(request.cmd()).map_or("", |(name, _)| name);
        let outcome = self.command(request, call.from).await;
        let word = self.meter.known(outcome.as_ref().err().map_or(meter::OK, |refusal| &refusal.code));
        let signed = self.sign(&digest, outcome)?;
        self.meter.count(name, word, started.elapsed());
        Ok(signed)
    }

    fn refused(&self, refusal: &Refusal, took: Duration) {
        let outcome = match refusal.code {
            Refusal::RATE => "rate_limited",
            Refusal::SIZE => "too_big",
            Refusal::TIMEOUT => "body_timeout",
            Refusal::FRAME => "bad_frame",
            UNSIGNED => "unsigned",
            KEY => "wrong_key",
            other => other,
        };
        self.meter.count("", outcome, took);
    }
}

impl Server {
    async fn command(&self, request: SignedRequest, from: SocketAddr) -> Outcome {
        let now = (self.clock)();
        request.check(&self.me, now)?;
        let Some(handler) = self.handlers.get(request.cmd()) else {
            let detail = format!("this node has no command {:?}; it may be an older version", request.cmd());
            return Err(RpcRefusal::new(code::UNKNOWN_COMMAND, detail, false));
        };
        let (network, me) = (self.network.clone(), self.me);
        let verified = self.workers.run(move || request.verify(&network, &me, now)).await;
        let verified = verified.map_err(|busy| RpcRefusal::new(code::BUSY, busy.to_string(), true))??;
        tokio::time::timeout(COMMAND_TIMEOUT, handler(verified, from)).await.unwrap_or_else(|_| {
            let detail =
                "the command did not finish in time; ask again with the same id to learn what became of it";
            Err(RpcRefusal::new(code::NO_ANSWER_IN_TIME, detail, true))
        })
    }

    /// 16 µs, less than handing it to another thread and back under load.
    fn sign(&self, digest: &RequestDigest, outcome: Outcome) -> Result<Reply, Refusal> {
        SignedReply::sign(&self.network, &self.key, digest, (self.clock)(), outcome)
            .and_then(SignedReply::into_elements)
            .map(|(error, result)| Reply { error, result })
            .map_err(|error| Refusal::new(Refusal::REPLY, error))
    }
}
