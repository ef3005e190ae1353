//! Serving Grenache RPC: `[rid, key, payload]` over HTTP, answered by a [`Handler`].
//!
//! What any Grenache client may send is understood: any path and method, bodies with a length or in chunks, gzip
//! (`grc-compress`), the `_gr` header that names a request, streams. Whatever comes, the answer is status 200 and an array of
//! three elements, `[rid, error | null, result]`, because stock clients crash at anything else that is JSON. All of it is
//! bounded: connections, what a source may ask, the head, the body, the time of each.
//!
//! ```
//! use serde_json::json;
//! use vintner::grenache::service::{self, Call, Reply, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let greet = async |call: Call| match call.read::<String>() {
//!     Ok(name) => Reply::of(&json!({ "hello": name })),
//!     Err(error) => Reply::error(format!("ERR_PAYLOAD: {error}")),
//! };
//! let serving = service::serve(listener, greet, Settings::default())?;
//! println!("announce port {} under the service's name", serving.local_addr().port());
//! serving.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A service is found when its port is announced under its name, by [`crate::dht::Dht::announce`] or through a grape, from the
//! address that it listens on, again and again: a grape forgets after two minutes.

mod http;

use super::{
    rate::{Rate, RateLimiter},
    wire::FRAME_BYTES_MAX,
};
use crate::listener::{self, Limits, PeerCertificate, Serving, Traffic};
use arc_swap::ArcSwap;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use std::{
    collections::HashSet,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// How long a request's body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a handler may take for a request, unless its service says otherwise.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stream may take, from its head to the handler's reply, unless its service says otherwise.
pub const STREAM_TIMEOUT: Duration = Duration::from_mins(5);
/// What a stream may carry, unless its service says otherwise. It is not held in memory.
pub const STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What one source may ask: far above what a busy client sends, far below what a core can answer.
pub const RATE: Rate = Rate { per_second: 1_000, burst: 2_000 };
/// Connections: each may hold a body of [`FRAME_BYTES_MAX`], so all of them together hold at most 128 MiB.
pub const LIMITS: Limits = Limits {
    connections_max: 512,
    connections_per_ip_max: 64,
    header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(20),
    header_bytes_max: 16 * 1024,
};

/// What answers a service's requests. `async` closures and functions from [`Call`] to [`Reply`] do.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a request.
    fn request(&self, call: Call) -> impl Future<Output = Result<Reply, Refusal>> + Send;

    /// The answer to a stream: a request that names itself in its `_gr` header, whose body may be anything. Reads as much of the
    /// body as it wants, while it comes. Without a method of its own a handler is called as for a request once the body is
    /// there, which then may have [`FRAME_BYTES_MAX`], with [`Call::stream`] set.
    fn stream(&self, stream: Stream) -> impl Future<Output = Result<Reply, Refusal>> + Send {
        async move { self.request(stream.into_call().await?).await }
    }

    /// Is told of each request that was refused, and how long that took; for counting.
    fn refused(&self, refusal: &Refusal, took: Duration) {
        let _ = (refusal, took);
    }
}

impl<F, Answer> Handler for F
where
    F: Fn(Call) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Reply> + Send,
{
    async fn request(&self, call: Call) -> Result<Reply, Refusal> {
        Ok(self(call).await)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name that the client looked the service up by. It is not checked: one service may have many.
    pub key: String,
    /// The payload's JSON text; `null` when there is none.
    pub payload: Box<RawValue>,
    /// Where it came from.
    pub from: SocketAddr,
    /// What the client proved to be, over TLS that asks for it.
    pub certificate: Option<PeerCertificate>,
    /// When its head had been read.
    pub received: Instant,
    /// Set when it came as a stream.
    pub stream: Option<Box<Streamed>>,
}

/// What a stream has beside a request.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// What the client wants done, its `_a` header.
    pub action: Option<String>,
    /// The arguments, its `_ar` header; `{}` when there are none that are JSON.
    pub args: Box<RawValue>,
    /// The body as it came. Empty in [`Stream::call`]: there it is still to be read.
    pub body: Bytes,
}

impl Call {
    /// The payload as a value.
    ///
    /// # Errors
    /// When it is JSON of another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload.get())
    }
}

/// A stream whose body is still on its way.
#[derive(Debug)]
pub struct Stream {
    /// All that is known of it; the payload is null.
    pub call: Call,
    body: Incoming,
    left: u64,
}

impl Stream {
    /// What its `_a` and `_ar` headers say.
    pub fn streamed(&self) -> Option<&Streamed> {
        self.call.stream.as_deref()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the body is longer than its service allows, when nothing comes within [`BODY_TIMEOUT`], and when the client is gone.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = tokio::time::timeout(BODY_TIMEOUT, self.body.frame()).await;
            let data = match frame {
                Err(_) => return Err(Refusal::body_late()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    return Err(Refusal::new(Refusal::FRAME, format!("the stream broke: {error}")));
                }
                Ok(Some(Ok(frame))) => frame.into_data(),
            };
            // Trailers say nothing here.
            let Ok(data) = data else { continue };
            let left = self.left.checked_sub(data.len() as u64);
            self.left = left.ok_or_else(|| Refusal::new(Refusal::SIZE, "the stream is too long"))?;
            return Ok(Some(data));
        }
    }

    /// Reads the body to its end, which must come within [`BODY_TIMEOUT`] and `bytes_max`.
    async fn into_call(mut self) -> Result<Call, Refusal> {
        let body = http::read_body(self.body, FRAME_BYTES_MAX).await?;
        self.call.payload = super::wire::payload_of(&body);
        if let Some(streamed) = &mut self.call.stream {
            streamed.body = body;
        }
        Ok(self.call)
    }
}

/// An answer: `[rid, error, result]` without its first element.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What went wrong, for the client to read; stock clients make an `Error` of it. Empty is as good as none.
    pub error: Option<String>,
    /// The result's JSON text.
    pub result: Box<RawValue>,
}

impl Reply {
    /// A result. What cannot be JSON (a map whose keys are no strings) becomes an error.
    pub fn of(result: &(impl Serialize + ?Sized)) -> Self {
        match to_raw_value(result) {
            Ok(result) => Self { error: None, result },
            Err(error) => Self::error(format!("{}: {error}", Refusal::REPLY)),
        }
    }

    /// An error without a result.
    pub fn error(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), result: RawValue::NULL.to_owned() }
    }
}

/// A request that is not answered, and why. On the wire it is an error that begins with the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable, of the form `ERR_WORDS`.
    pub code: &'static str,
    text: String,
}

impl Refusal {
    /// The source asks too often.
    pub const RATE: &'static str = "ERR_RPC_RATE";
    /// The body is too long, packed or unpacked.
    pub const SIZE: &'static str = "ERR_RPC_SIZE";
    /// The body did not come in time, or the handler did not answer in time.
    pub const TIMEOUT: &'static str = "ERR_RPC_TIMEOUT";
    /// The body is no frame.
    pub const FRAME: &'static str = "ERR_RPC_FRAME";
    /// The answer cannot be sent.
    pub const REPLY: &'static str = "ERR_RPC_REPLY";

    /// A refusal; `detail` says what happened and what to do next.
    #[must_use]
    pub fn new(code: &'static str, detail: impl fmt::Display) -> Self {
        Self { code, text: format!("{code}: {detail}") }
    }

    fn body_late() -> Self {
        Self::new(Self::TIMEOUT, format!("no whole body within {} s", BODY_TIMEOUT.as_secs()))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Sources that may ask [`super::rate::KNOWN_FACTOR`] times as often as others.
pub type KnownSources = ArcSwap<HashSet<IpAddr>>;

/// What a service puts up with, and whether it speaks TLS.
#[derive(Clone)]
pub struct Settings {
    /// Connections.
    pub limits: Limits,
    /// What one source may ask.
    pub rate: Rate,
    /// Who has reason to ask more often.
    pub known: Arc<KnownSources>,
    /// How long the handler may take for a request; `None`: it keeps the time itself.
    pub handler_timeout: Option<Duration>,
    /// How long a stream may take.
    pub stream_timeout: Duration,
    /// What a stream may carry.
    pub stream_bytes_max: u64,
    /// TLS, from [`super::tls::server`]; `None` is plain HTTP. What is announced does not say which.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where connections are counted.
    pub traffic: Arc<Traffic>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: LIMITS,
            rate: RATE,
            known: Arc::default(),
            handler_timeout: Some(HANDLER_TIMEOUT),
            stream_timeout: STREAM_TIMEOUT,
            stream_bytes_max: STREAM_BYTES_MAX,
            tls: None,
            traffic: Arc::default(),
        }
    }
}

struct Service<H> {
    handler: H,
    rate: Mutex<RateLimiter>,
    known: Arc<KnownSources>,
    started: Instant,
    per_second: u32,
    handler_timeout: Option<Duration>,
    stream_timeout: Duration,
    stream_bytes_max: u64,
}

/// Answers what comes to `listener` by `handler` until [`Serving::shutdown`].
///
/// # Errors
/// When the listener cannot say where it listens.
pub fn serve(listener: TcpListener, handler: impl Handler, settings: Settings) -> io::Result<Serving> {
    let Settings { limits, rate, known, handler_timeout, stream_timeout, stream_bytes_max, tls, traffic } =
        settings;
    let service = Arc::new(Service {
        handler,
        rate: Mutex::new(RateLimiter::new(rate)),
        known,
        started: Instant::now(),
        per_second: rate.per_second,
        handler_timeout,
        stream_timeout,
        stream_bytes_max,
    });
    match tls {
        None => listener::serve(listener, service, limits, traffic),
        Some(tls) => listener::serve_tls(listener, tls, service, limits, traffic),
    }
}
