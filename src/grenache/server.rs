//! The RPC port: reads frames, checks who asks, hands commands to their handlers and signs what they answer.
//!
//! In this order, so that whoever has least right costs least: connection limits, the source's rate, size, framing, envelope,
//! recipient and clock, command, and only then the signature, on the worker pool. Every request is answered with status 200
//! and a three-element array, as stock clients need it; a command's outcome is signed, a refusal before it has a readable
//! request to answer is not.

use super::{
    envelope::{Outcome, RequestDigest, RpcRefusal, SignedReply, SignedRequest, VerifiedRequest, code},
    meter::{self, Meter},
    rate::{Rate, RateLimiter},
    wire::{self, FRAME_BYTES_MAX, Rid},
};
use crate::{
    identity::{KeyPair, Network, PublicKey},
    listener::{self, Limits, Peer, Serving, Traffic},
    time::UnixMillis,
    workers::Workers,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, Request, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// How long a request's body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command may take. Longer than callers wait: what it decides is kept, and told when they ask again.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(20);
/// What one source may ask: far above what a busy market maker sends, far below what a core can verify (25,000 a second).
pub const RATE: Rate = Rate { per_second: 1_000, burst: 2_000 };
/// Connections: each may hold a body of [`FRAME_BYTES_MAX`], so all of them together hold at most 128 MiB.
pub const LIMITS: Limits = Limits {
    connections_max: 512,
    connections_per_ip_max: 64,
    header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(20),
    header_bytes_max: 16 * 1024,
};

/// Where the node's time comes from.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

type Answer = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Handler = Arc<dyn Fn(VerifiedRequest, SocketAddr) -> Answer + Send + Sync>;

/// The commands that a server knows.
#[derive(Clone, Default)]
pub struct Commands {
    handlers: HashMap<&'static str, Handler>,
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
    /// Connections.
    pub limits: Limits,
}

struct Server {
    config: ServerConfig,
    me: PublicKey,
    commands: Commands,
    workers: Workers,
    rate: Mutex<RateLimiter>,
    started: Instant,
    meter: Arc<Meter>,
}

/// Serves `commands` on `listener` until [`Serving::shutdown`].
pub fn serve(
    listener: TcpListener,
    config: ServerConfig,
    mut commands: Commands,
    workers: Workers,
) -> io::Result<Serving> {
    let limits = config.limits;
    let rate = Mutex::new(RateLimiter::new(config.rate));
    let me = config.key.public();
    let (meter, traffic) =
        commands.counted.take().unwrap_or_else(|| (Arc::new(Meter::of_server(&[])), Arc::default()));
    let server = Server { config, me, commands, workers, rate, started: Instant::now(), meter };
    // One handler for every path and method: stock clients always post to `/`, but a stock server does not care.
    let app = Router::new().fallback(answer).with_state(Arc::new(server));
    listener::serve(listener, app, limits, traffic)
}

/// A refusal for which there is nothing to sign: its stable code, and its text, which begins with it.
struct Unsigned(&'static str, String);

impl Unsigned {
    fn new(code: &'static str, detail: impl std::fmt::Display) -> Self {
        Self(code, format!("{code}: {detail}"))
    }

    /// The word under which it is counted.
    fn outcome(&self) -> &'static str {
        match self.0 {
            "ERR_RPC_RATE" => "rate_limited",
            "ERR_RPC_SIZE" => "too_big",
            "ERR_RPC_TIMEOUT" => "body_timeout",
            "ERR_RPC_FRAME" => "bad_frame",
            "ERR_RPC_UNSIGNED" => "unsigned",
            "ERR_RPC_KEY" => "wrong_key",
            other => other,
        }
    }
}

async fn answer(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let from = request.extensions().get::<Peer>().map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0);
    let (parts, body) = request.into_parts();
    let gzip = header(&parts.headers, "grc-compress").is_some_and(|value| value.contains("gzip"));
    let overrides = header(&parts.headers, "_gr");
    let (rid, reply) = match read_body(&parts.headers, body).await {
        Err(error) => (Rid::null(), Err(error)),
        Ok(frame) if !server.admit(from) => {
            // Told apart by its id if that costs nothing; nothing is unpacked for a source that asks too often.
            let rid = if gzip { Rid::null() } else { wire::rid_of(&frame, overrides) };
            let rate = server.config.rate.per_second;
            let detail = format!("more than {rate} requests a second from {}; slow down", from.ip());
            (rid, Err(Unsigned::new("ERR_RPC_RATE", detail)))
        }
        Ok(frame) => server.frame(&frame, gzip, overrides, from).await,
    };
    let (error, result) = match reply {
        Ok((error, result)) => (error, result),
        Err(refusal) => {
            server.meter.count("", refusal.outcome(), started.elapsed());
            (Some(refusal.1), RawValue::NULL.to_owned())
        }
    };
    respond(&rid, error.as_deref(), &result, gzip)
}

type Elements = (Option<String>, Box<RawValue>);

impl Server {
    fn admit(&self, from: SocketAddr) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.admit(from.ip(), self.started.elapsed())
    }

    async fn frame(
        &self,
        body: &[u8],
        gzip: bool,
        overrides: Option<&str>,
        from: SocketAddr,
    ) -> (Rid, Result<Elements, Unsigned>) {
        let unpacked = match unpack(body, gzip) {
            Ok(unpacked) => unpacked,
            Err(error) => return (Rid::null(), Err(error)),
        };
        match wire::parse_request(&unpacked, overrides) {
            Err(error) => (Rid::null(), Err(Unsigned::new("ERR_RPC_FRAME", error))),
            Ok(request) => {
                let reply = self.request(&request.key, &request.payload, from).await;
                (request.rid, reply)
            }
        }
    }

    async fn request(&self, key: &str, payload: &RawValue, from: SocketAddr) -> Result<Elements, Unsigned> {
        let request = SignedRequest::parse(payload).map_err(|e| Unsigned::new("ERR_RPC_UNSIGNED", e))?;
        if key != self.config.network.as_str() && key.parse() != Ok(self.me) {
            let detail = format!("this node answers to {} and to {}", self.me, self.config.network);
            return Err(Unsigned::new("ERR_RPC_KEY", detail));
        }
        let (digest, started) = (request.digest(), Instant::now());
        // A command that is not known is not worth a copy of its name.
        let name = self.commands.handlers.get_key_value(request.cmd()).map_or("", |(name, _)| name);
        let outcome = self.command(request, from).await;
        let word = self.meter.known(outcome.as_ref().err().map_or(meter::OK, |refusal| &refusal.code));
        let signed = self.sign(&digest, outcome)?;
        self.meter.count(name, word, started.elapsed());
        Ok(signed)
    }

    async fn command(&self, request: SignedRequest, from: SocketAddr) -> Outcome {
        let now = (self.config.clock)();
        request.check(&self.me, now)?;
        let Some(handler) = self.commands.handlers.get(request.cmd()) else {
            let detail = format!("this node has no command {:?}; it may be an older version", request.cmd());
            return Err(RpcRefusal::new(code::UNKNOWN_COMMAND, detail, false));
        };
        let (network, me) = (self.config.network.clone(), self.me);
        let verified = self.workers.run(move || request.verify(&network, &me, now)).await;
        let verified = verified.map_err(|busy| RpcRefusal::new(code::BUSY, busy.to_string(), true))??;
        tokio::time::timeout(HANDLER_TIMEOUT, handler(verified, from)).await.unwrap_or_else(|_| {
            let detail =
                "the command did not finish in time; ask again with the same id to learn what became of it";
            Err(RpcRefusal::new(code::NO_ANSWER_IN_TIME, detail, true))
        })
    }

    /// 16 µs, less than handing it to another thread and back under load.
    fn sign(&self, digest: &RequestDigest, outcome: Outcome) -> Result<Elements, Unsigned> {
        let ServerConfig { network, key, clock, .. } = &self.config;
        SignedReply::sign(network, key, digest, clock(), outcome)
            .and_then(SignedReply::into_elements)
            .map_err(|error| Unsigned::new("ERR_RPC_REPLY", error))
    }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Unsigned> {
    let too_long = || Unsigned::new("ERR_RPC_SIZE", format!("a request may have {FRAME_BYTES_MAX} bytes"));
    // A body that says it is too long is not even begun.
    let announced = header(headers, header::CONTENT_LENGTH.as_str()).and_then(|n| n.parse::<u64>().ok());
    if announced.is_some_and(|n| n > FRAME_BYTES_MAX as u64) {
        return Err(too_long());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, FRAME_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(Unsigned::new(
            "ERR_RPC_TIMEOUT",
            format!("no whole body within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// Gunzips what was announced as gzip, within the frame's bound. What is no gzip after all is taken as it is, as stock does.
fn unpack(body: &[u8], gzip: bool) -> Result<std::borrow::Cow<'_, [u8]>, Unsigned> {
    if !gzip {
        return Ok(body.into());
    }
    let mut unpacked = Vec::new();
    // One byte over the bound shows that there is more, without unpacking it.
    match GzDecoder::new(body).take(FRAME_BYTES_MAX as u64 + 1).read_to_end(&mut unpacked) {
        Ok(length) if length > FRAME_BYTES_MAX => {
            Err(Unsigned::new("ERR_RPC_SIZE", format!("a request may have {FRAME_BYTES_MAX} bytes unpacked")))
        }
        Ok(_) => Ok(unpacked.into()),
        Err(_) => Ok(body.into()),
    }
}

/// Status 200, no content type, no content encoding, whatever the outcome: stock clients read nothing else.
fn respond(rid: &Rid, error: Option<&str>, result: &RawValue, gzip: bool) -> Response {
    let frame = wire::write_reply(rid, error, result).unwrap_or_else(|error| {
        let text = format!("ERR_RPC_REPLY: {error}");
        wire::write_reply(rid, Some(&text), RawValue::NULL).unwrap_or_default()
    });
    let packed = if gzip { pack(&frame) } else { None };
    Body::from(packed.unwrap_or(frame)).into_response()
}

fn pack(frame: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(frame).ok()?;
    encoder.finish().ok()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
