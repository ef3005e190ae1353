//! HTTP/1.1 connections within limits: how many, from whom, how slow, and how they end.
//!
//! `axum::serve` has none of these, and a port that strangers reach needs all of them. Both the RPC server and the Grape
//! HTTP API listen through [`serve`]; each brings its own [`Router`] and bounds its own bodies.

use crate::metrics::{Counter, Page};
use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

/// How long connections may go on after [`Serving::shutdown`]: one request's deadline is shorter than this in practice, and a
/// process that is told to stop should be gone within the ten seconds that supervisors give.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after the system refused to accept (too many open files): it recovers only when connections close.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The address at the other end of the connection; in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the system's backlog. Each costs a task and up to `header_bytes_max`.
    pub connections_max: usize,
    /// Of these from one address (loopback excepted); further ones are closed at once.
    pub connections_per_ip_max: usize,
    /// From the connection, or from the previous answer, to the end of a request's head. It ends idle connections too.
    pub header_timeout: Duration,
    /// The longest request head. Not below 8,192, hyper's smallest buffer.
    pub header_bytes_max: usize,
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
}

impl Traffic {
    /// Writes them down: the gauge of open connections under `gauge`, the refused ones as hits of the limit `bound`.
    pub fn write(&self, gauge: &'static str, bound: &'static str, page: &mut Page) {
        // In this order, so that one that ends in between does not make the number negative.
        let closed = self.closed.get();
        page.gauge(gauge, "Open connections").is(self.accepted.get().saturating_sub(closed));
        page.bound(bound, self.refused.get());
    }
}

/// A running listener. Dropping it stops accepting without waiting for anybody.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers that are on their way finish for at most [`DRAIN_TIMEOUT`], then closes the rest.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Serves `app` on `listener` until [`Serving::shutdown`], and counts in `traffic`.
///
/// # Errors
/// When the listener cannot say where it listens.
pub fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    traffic: Arc<Traffic>,
) -> io::Result<Serving> {
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, app, limits, traffic, stopped));
    Ok(Serving { address, stop, task })
}

async fn accept(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    traffic: Arc<Traffic>,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let sources = Sources { counts: Arc::default(), max: limits.connections_per_ip_max, traffic };
    let mut connections = JoinSet::new();
    loop {
        let (slot, stream, from) = tokio::select! {
            () = told_to_stop(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            (slot, accepted) = next(&listener, &slots) => match accepted {
                Ok((stream, from)) => (slot, stream, from),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            },
        };
        let Some(source) = sources.admit(from.ip()) else { continue };
        connections.spawn(connection(stream, from, app.clone(), limits, stopped.clone(), slot, source));
    }
    drop(listener);
    let _ =
        tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Ends at a shutdown, and when the [`Serving`] was dropped.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|&stop| stop).await;
}

/// A free slot first, then a connection: whoever comes when all are taken waits outside.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, io::Result<(TcpStream, SocketAddr)>) {
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    (slot, listener.accept().await)
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    app: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
    _slot: Option<OwnedSemaphorePermit>,
    _source: Source,
) {
    // Answers are small and one write each: waiting for more to send with them only delays them.
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(from));
        app.call(request.map(Body::new))
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
        () = told_to_stop(&mut stopped) => true,
    };
    if stopping {
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
    async fn shutdown_closes_the_port() {
        let serving = start().await;
        let address = serving.local_addr();
        serving.shutdown().await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn one_address_gets_its_share_only_and_gives_it_back() {
        let sources = Sources { counts: Arc::default(), max: 1, traffic: Arc::default() };
        let ip = "203.0.113.5".parse().unwrap();
        let held = sources.admit(ip).unwrap();
        assert!(sources.admit(ip).is_none());
        drop(held);
        assert!(sources.admit(ip).is_some() && sources.counts.lock().unwrap().is_empty());
        let Traffic { accepted, closed, refused } = &*sources.traffic;
        assert_eq!((accepted.get(), closed.get(), refused.get()), (2, 2, 1));
    }
}
