//! An HTTP/1.1 server with bounds: connections, header size and time, and how long a stop waits.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore, watch},
    task::JoinHandle,
};

/// Connections at a time; the next ones wait in the kernel's queue. Far above what one owner's programs open, far below the
/// usual limit of 1,024 open files.
pub const CONNECTIONS_MAX: usize = 512;
/// How long a connection may take to send the head of a request, silence between two requests included: a client that sends
/// nothing must not hold one of the connections for ever.
pub const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest head of a request. Ours are below 1 KB; hyper needs at least 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a stop waits for the answers that are under way.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);
/// The pause after the system refused a connection (no file descriptors left), so as not to spin.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A server that runs until it is stopped or dropped. Clones share it.
#[derive(Clone, Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: Arc<watch::Sender<bool>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Server {
    /// Serves `router` on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system says when it does not give the address.
    pub async fn bind(addr: SocketAddr, router: Router) -> io::Result<Self> {
        Self::start(TcpListener::bind(addr).await?, router)
    }

    /// Serves `router` on a listener that exists already.
    pub fn start(listener: TcpListener, router: Router) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, router, stopped));
        Ok(Self { addr, stop: Arc::new(stop), task: Arc::new(Mutex::new(Some(task))) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections, and ends each one after the answer that is under way. Does not wait.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has stopped.
    pub async fn stopped(&self) {
        if let Some(task) = self.task.lock().await.take() {
            // It ends by itself; an error would be its own panic, which was printed.
            let _ = task.await;
        }
    }
}

async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            // An error means that the handle was dropped, which is a stop too.
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            // A connection that breaks is its client's business.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP connections did not end within {} s", STOP_WITHIN.as_secs());
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // Answers are written whole: waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
