//! HTTP/1.1 connections within limits: how many, from whom, how slow, and how they end.
//!
//! `axum::serve` has none of these, and a port that strangers reach needs all of them. Both the RPC server and the Grape
//! HTTP API listen through [`serve`]; each brings its own [`App`] and bounds its own bodies. With [`serve_tls`] the same stands
//! behind TLS.

mod patience;
mod room;
mod tls;

pub use self::tls::PeerCertificate;
use self::{
    patience::Patient,
    room::{Place, Room},
};
use crate::metrics::{Counter, Page, Repeated};
use axum::{Router, body::Body};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

/// How long connections may go on after [`Serving::shutdown`]. Answers take milliseconds; what lasts longer waits for a client
/// that is slow or gone, and a process that is told to stop should be gone within two seconds.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long to wait after the system refused to accept (too many open files): it recovers only when connections close.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How often a newcomer without a place asks for one.
const ROOM_EVERY: Duration = Duration::from_millis(50);

/// The address at the other end of the connection; in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// In the extensions of an answer that goes on for as long as its reader likes: its connection keeps its place.
#[derive(Clone, Copy, Debug)]
pub struct Lasting;

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. A further one takes the place of one that has waited for a request for a second (for its first one, and
    /// from this machine: three); where there is none it waits. Each costs a task and up to `header_bytes_max`.
    pub connections_max: usize,
    /// Of these from one address (loopback excepted); further ones are closed at once.
    pub connections_per_ip_max: usize,
    /// From the connection, or from the previous answer, to the end of a request's head. It ends idle connections too.
    pub header_timeout: Duration,
    /// How long an answer may wait for its reader to take anything of it.
    pub write_timeout: Duration,
    /// The longest request head. Not below 8,192, hyper's smallest buffer.
    pub header_bytes_max: usize,
}

/// What answers requests. A [`Router`] does, and finds the [`Peer`] in the extensions of each request; an app with one handler
/// for everything saves itself what a router costs.
pub trait App: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// The answer to a request.
    fn answer(
        self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Result<Response<Self::Body>, Infallible>> + Send;
}

impl App for Router {
    type Body = Body;

    fn answer(
        self,
        mut request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send {
        request.extensions_mut().insert(peer);
        TowerToHyperService::new(self).call(request.map(Body::new))
    }
}

/// How many connections came and went.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections that were served.
    pub accepted: Counter,
    /// Of these, the ones that have ended.
    pub closed: Counter,
    /// Connections that were closed at once, because their address had its share.
    pub refused: Counter,
    /// Connections that waited for a request and were closed, because another needed the place.
    pub displaced: Counter,
}

impl Traffic {
    /// Writes them down: the gauge of open connections under `gauge`, the refused and the displaced ones as hits of their limits.
    pub fn write(&self, gauge: &'static str, [refused, displaced]: [&'static str; 2], page: &mut Page) {
        // In this order, so that one that ends in between does not make the number negative.
        let closed = self.closed.get();
        page.gauge(gauge, "Open connections").is(self.accepted.get().saturating_sub(closed));
        page.bound(refused, self.refused.get());
        page.bound(displaced, self.displaced.get());
    }
}

/// A running listener. Dropping it stops accepting without waiting for anybody.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    /// How long connections may go on, once it is told to stop.
    stop: watch::Sender<Option<Duration>>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers that are on their way finish for at most [`DRAIN_TIMEOUT`], then closes the rest.
    pub async fn shutdown(self) {
        self.shutdown_within(DRAIN_TIMEOUT).await;
    }

    /// As [`Serving::shutdown`], for a listener whose callers lose nothing by a shorter wait.
    pub async fn shutdown_within(self, drain: Duration) {
        let _ = self.stop.send(Some(drain));
        let _ = self.task.await;
    }
}

/// Serves `app` on `listener` until [`Serving::shutdown`], and counts in `traffic`.
///
/// # Errors
/// When the listener cannot say where it listens.
pub fn serve(
    listener: TcpListener,
    app: impl App,
    limits: Limits,
    traffic: Arc<Traffic>,
) -> io::Result<Serving> {
    start(listener, None, app, limits, traffic)
}

/// As [`serve`], over TLS. A client's certificate, if `tls` asks for one, is in the extensions of its requests as
/// [`PeerCertificate`].
///
/// # Errors
/// When the listener cannot say where it listens.
pub fn serve_tls(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    app: impl App,
    limits: Limits,
    traffic: Arc<Traffic>,
) -> io::Result<Serving> {
    start(listener, Some(tls.into()), app, limits, traffic)
}

fn start(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: impl App,
    limits: Limits,
    traffic: Arc<Traffic>,
) -> io::Result<Serving> {
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(None);
    let task = tokio::spawn(accept(listener, tls, app, limits, traffic, stopped));
    Ok(Serving { address, stop, task })
}

type Stopped = watch::Receiver<Option<Duration>>;

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: impl App,
    limits: Limits,
    traffic: Arc<Traffic>,
    mut stopped: Stopped,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let sources = Sources { counts: Arc::default(), max: limits.connections_per_ip_max, traffic };
    let room = Room::default();
    let mut newcomer: Option<(TcpStream, SocketAddr, Source)> = None;
    let mut make_room_at = Instant::now();
    let mut refused = Repeated::default();
    let mut connections = JoinSet::new();
    let drain = loop {
        let slot = tokio::select! {
            drain = told_to_stop(&mut stopped) => break drain,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if newcomer.is_none() => {
                match accepted {
                    Ok((stream, from)) => newcomer = sources.admit(from.ip()).map(|source| (stream, from, source)),
                    Err(error) => {
                        if let Some(times) = refused.happened(std::time::Instant::now()) {
                            tracing::warn!(
                                %error, times,
                                "connections could not be accepted; if too many files are open, allow this process more \
                                 (`ulimit -n`, LimitNOFILE= of its unit)"
                            );
                        }
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                }
                make_room_at = Instant::now();
                continue;
            }
            () = tokio::time::sleep_until(make_room_at), if newcomer.is_some() && slots.available_permits() == 0 => {
                make_room_at = Instant::now() + ROOM_EVERY;
                if room.make(Instant::now()) {
                    sources.traffic.displaced.inc();
                }
                continue;
            }
            slot = Arc::clone(&slots).acquire_owned(), if newcomer.is_some() => slot.ok(),
        };
        let Some((stream, from, source)) = newcomer.take() else { continue };
        let (tls, app, stopped) = (tls.clone(), app.clone(), stopped.clone());
        connections.spawn(connection(
            stream,
            from,
            tls,
            app,
            limits,
            stopped,
            (slot, room.enter(from.ip()), source),
        ));
    };
    drop(listener);
    let _ = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
}

/// Ends at a shutdown, and when the [`Serving`] was dropped; with how long connections may go on.
async fn told_to_stop(stopped: &mut Stopped) -> Duration {
    stopped.wait_for(Option::is_some).await.ok().and_then(|drain| *drain).unwrap_or(DRAIN_TIMEOUT)
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<TlsAcceptor>,
    app: impl App,
    limits: Limits,
    stopped: Stopped,
    (_slot, place, _source): (Option<OwnedSemaphorePermit>, Place, Source),
) {
    // Answers are small and one write each: waiting for more to send with them only delays them.
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, limits.write_timeout);
    let conversation = async {
        match tls {
            None => converse(stream, (from, None, &place), app, limits, stopped).await,
            // In a box, so that connections without TLS have no room for its state.
            Some(tls) => Box::pin(tls::connection(stream, (from, &place), tls, app, limits, stopped)).await,
        }
    };
    // In this order: a request that has come by now is read before the place is given away.
    tokio::select! {
        biased;
        () = conversation => {}
        () = place.needed() => {}
    }
}

/// Speaks HTTP until either side has had enough.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    (from, certificate, place): (SocketAddr, Option<PeerCertificate>, &Place),
    app: impl App,
    limits: Limits,
    mut stopped: Stopped,
) {
    let asked = AtomicBool::new(false);
    let service = service_fn(|mut request| {
        asked.store(true, Ordering::Relaxed);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        place.works();
        let answer = app.clone().answer(request, Peer(from));
        async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|answer| answer.extensions().get::<Lasting>().is_none()) {
                place.waits();
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // An error here is a peer that went away or spoke no HTTP: nothing to do, nobody to tell.
    let stopping = tokio::select! {
        _ = connection.as_mut() => false,
        _ = told_to_stop(&mut stopped) => true,
    };
    // hyper closes a connection that rests between two requests, but would wait for the first one of a new connection.
    if stopping && asked.load(Ordering::Relaxed) {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Who has how many connections. Never more entries than `connections_max`.
#[derive(Clone)]
struct Sources {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
    traffic: Arc<Traffic>,
}

/// One connection of an address; gives its place back when dropped.
struct Source {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    traffic: Arc<Traffic>,
    ip: IpAddr,
}

impl Sources {
    fn admit(&self, ip: IpAddr) -> Option<Source> {
        let ip = ip.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= self.max && !ip.is_loopback() {
            self.traffic.refused.inc();
            return None;
        }
        *count += 1;
        self.traffic.accepted.inc();
        Some(Source { counts: Arc::clone(&self.counts), traffic: Arc::clone(&self.traffic), ip })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.traffic.closed.inc();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMITS: Limits = Limits {
        connections_max: 2,
        connections_per_ip_max: 1,
        header_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
        header_bytes_max: 8192,
    };

    async fn start() -> Serving {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app =
            Router::new().fallback(|peer: axum::Extension<Peer>| async move { peer.0.0.ip().to_string() });
        serve(listener, app, LIMITS, Arc::default()).unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_and_knows_its_peer_and_an_idle_connection_is_closed() {
        let serving = start().await;
        let mut stream = TcpStream::connect(serving.local_addr()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // Ends because the idle connection is closed, long before the test's patience.
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
        serving.shutdown().await;
    }

    #[tokio::test]
    async fn a_head_that_never_ends_frees_its_place() {
        let serving = start().await;
        let mut slow = Vec::new();
        for _ in 0..LIMITS.connections_max {
            let mut stream = TcpStream::connect(serving.local_addr()).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
            slow.push(stream);
        }
        let mut stream = TcpStream::connect(serving.local_addr()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_newcomer_takes_the_place_of_who_waits_longest_and_of_nobody_who_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Router::new().fallback(|request: axum::extract::Request| async move {
            let slow: u64 = request.uri().path()[1..].parse().unwrap();
            tokio::time::sleep(Duration::from_millis(slow)).await;
            "done"
        });
        let limits = Limits { header_timeout: Duration::from_hours(1), ..LIMITS };
        let traffic = Arc::<Traffic>::default();
        let serving = serve(listener, app, limits, Arc::clone(&traffic)).unwrap();
        let connect = || TcpStream::connect(serving.local_addr());
        let request =
            |ms: u32| format!("GET /{ms} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes();
        let mut busy = connect().await.unwrap();
        busy.write_all(&request(12_000)).await.unwrap();
        let mut answer = String::new();
        // The other place is held by one that says nothing, then by its successors.
        for _ in 0..2 {
            let silent = connect().await.unwrap();
            while traffic.accepted.get() - traffic.closed.get() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut newcomer = connect().await.unwrap();
            newcomer.write_all(&request(0)).await.unwrap();
            answer.clear();
            tokio::time::timeout(Duration::from_secs(20), newcomer.read_to_string(&mut answer))
                .await
                .unwrap()
                .unwrap();
            assert!(answer.ends_with("done"), "{answer}");
            drop(silent);
        }
        answer.clear();
        busy.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done") && traffic.displaced.get() >= 1, "{answer} {traffic:?}");
        serving.shutdown().await;
    }

    #[tokio::test]
    async fn shutdown_closes_the_port() {
        let serving = start().await;
        let address = serving.local_addr();
        serving.shutdown().await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn shutdown_waits_for_nobody_who_is_not_being_answered() {
        let serving = start().await;
        let silent = TcpStream::connect(serving.local_addr()).await.unwrap();
        let mut resting = TcpStream::connect(serving.local_addr()).await.unwrap();
        resting.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(resting.read(&mut [0; 256]).await.unwrap() > 0);
        let started = std::time::Instant::now();
        serving.shutdown_within(Duration::from_secs(20)).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        drop(silent);
    }

    #[tokio::test]
    async fn shutdown_lets_a_running_answer_finish_and_cuts_one_that_never_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Router::new().fallback(|request: axum::extract::Request| async move {
            let slow: u64 = request.uri().path()[1..].parse().unwrap();
            tokio::time::sleep(Duration::from_millis(slow)).await;
            "done"
        });
        let serving = serve(listener, app, LIMITS, Arc::default()).unwrap();
        let address = serving.local_addr();
        let ask = |path: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        let (short, endless) = (tokio::spawn(ask("300")), tokio::spawn(ask("3600000")));
        // Both are being answered.
        tokio::time::sleep(Duration::from_millis(150)).await;
        serving.shutdown_within(Duration::from_secs(2)).await;
        assert!(short.await.unwrap().ends_with("done"));
        assert_eq!(endless.await.unwrap(), "");
    }

    #[test]
    fn one_address_gets_its_share_only_and_gives_it_back() {
        let sources = Sources { counts: Arc::default(), max: 1, traffic: Arc::default() };
        let ip = "203.0.113.5".parse().unwrap();
        let held = sources.admit(ip).unwrap();
        assert!(sources.admit(ip).is_none());
        drop(held);
        assert!(sources.admit(ip).is_some() && sources.counts.lock().unwrap().is_empty());
        let Traffic { accepted, closed, refused, displaced: _ } = &*sources.traffic;
        assert_eq!((accepted.get(), closed.get(), refused.get()), (2, 2, 1));
    }
}
