//! `GET /events`: what a stock grape emits in its own process, as server-sent events for any.
//!
//! | event | when | data (JSON) |
//! |---|---|---|
//! | `announce` | an announcement was accepted here, each time it is repeated; an own one where `-b` is given | the name, a string |
//! | `peer` | a lookup of this grape met a service, each time | `"ip:port"` |
//! | `node` | a node entered the routing table | `{"address", "id"}` (a stock grape tells nothing) |
//! | `ready` | the first attempt to join has ended, well or not; who comes later is told at once | `null` |
//! | `warning` | something that a person may have to look at | a string |
//! | `lost` | this listener was too slow | how many events it missed |
//!
//! Nothing is kept for a listener beyond what the DHT's channel holds: who reads too slowly is told how much it missed, and who
//! does not read at all is closed by the listener's write time-out, since a heartbeat has to be written every 15 seconds. There
//! are no event ids: what happened while nobody listened is not told again.

use crate::{
    dht::{Dht, DhtEvent},
    metrics::{Counter, Page},
};
use axum::http::{Method, request::Parts};
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{
        Semaphore,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
        mpsc, watch,
    },
    time::{Interval, MissedTickBehavior, interval},
};

/// The path.
const PATH: &str = "/events";
/// Listeners at once. Each holds a connection for as long as it likes, and costs every event a copy.
pub(super) const LISTENERS_MAX: usize = 64;
/// How often something is written, so that who is gone is noticed, and who waits knows that the grape is not.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client should wait before it comes back.
const RETRY_MS: u32 = 1000;
/// Events in one piece of the answer, and pieces that wait for the connection.
const AT_ONCE: usize = 128;
const PIECES_MAX: usize = 4;

/// What is counted, and the way to end all.
#[derive(Debug)]
pub(super) struct Hub {
    places: Arc<Semaphore>,
    told: Counter,
    lost: Counter,
    refused: Counter,
    stop: watch::Sender<bool>,
}

/// The body of an answer that ends when the client, or the grape, does.
#[derive(Debug)]
pub(super) struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Whether a request asks for events.
pub(super) fn is_asked(request: &Parts) -> bool {
    request.method == Method::GET && request.uri.path_and_query().is_some_and(|path| path == PATH)
}

impl Hub {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(LISTENERS_MAX)),
            told: Counter::default(),
            lost: Counter::default(),
            refused: Counter::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// A new listener, unless there are too many.
    pub(super) fn listen(self: &Arc<Self>, dht: &Dht) -> Option<Events> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.inc();
            return None;
        };
        let (pieces, body) = mpsc::channel(PIECES_MAX);
        // In this order: what happens in between is met twice rather than not at all, and `ready` is told once.
        let events = dht.events();
        let ready = dht.status().ready;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = self.stop.subscribe();
        let listener = Listener { hub: Arc::clone(self), events, pieces, heartbeat, stopped, ready };
        tokio::spawn(async move {
            listener.run().await;
            drop(place);
        });
        Some(Events(body))
    }

    /// Ends every answer, so that nobody waits for them at a shutdown.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.gauge("vintner_grape_event_listeners", "Who listens to GET /events")
            .is(LISTENERS_MAX - self.places.available_permits());
        page.counter("vintner_grape_events_total", "Events told, to all listeners together")
            .is(self.told.get());
        page.bound("grape_events", self.lost.get());
        page.bound("grape_event_listeners", self.refused.get());
    }
}

/// One client's task: it copies events until the client is gone.
struct Listener {
    hub: Arc<Hub>,
    events: broadcast::Receiver<DhtEvent>,
    pieces: mpsc::Sender<Bytes>,
    heartbeat: Interval,
    stopped: watch::Receiver<bool>,
    ready: bool,
}

impl Listener {
    async fn run(mut self) {
        let mut text = format!("retry: {RETRY_MS}\n\n");
        if self.ready {
            text.push_str(&shown("ready", &Value::Null));
        }
        loop {
            // While the client does not read, this waits, and the channel forgets the oldest.
            if !text.is_empty() && !self.send(std::mem::take(&mut text)).await {
                return;
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => self.take(event, &mut text),
                    Err(RecvError::Lagged(lost)) => self.missed(lost, &mut text),
                    Err(RecvError::Closed) => return,
                },
                // The first one comes at once.
                _ = self.heartbeat.tick() => text.push_str(":\n\n"),
                () = self.pieces.closed() => return,
                // Also when the hub is gone.
                _ = self.stopped.changed() => return,
            }
            for _ in 1..AT_ONCE {
                match self.events.try_recv() {
                    Ok(event) => self.take(event, &mut text),
                    Err(TryRecvError::Lagged(lost)) => self.missed(lost, &mut text),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
    }

    /// Whether there is still somebody to send to.
    async fn send(&mut self, text: String) -> bool {
        tokio::select! {
            sent = self.pieces.send(text.into()) => sent.is_ok(),
            _ = self.stopped.changed() => false,
        }
    }

    fn take(&mut self, event: DhtEvent, text: &mut String) {
        let (name, data) = match event {
            DhtEvent::Announce { name, .. } => ("announce", json!(String::from_utf8_lossy(&name))),
            DhtEvent::Peer { addr, .. } => ("peer", json!(addr.to_string())),
            DhtEvent::Node { id, addr } => {
                ("node", json!({"id": id.to_string(), "address": addr.to_string()}))
            }
            DhtEvent::Ready if std::mem::replace(&mut self.ready, true) => return,
            DhtEvent::Ready => ("ready", Value::Null),
            DhtEvent::Warning(warning) => ("warning", json!(warning)),
            // No stock grape tells of values, or learns its own address.
            DhtEvent::Stored(_) | DhtEvent::Address { .. } => return,
        };
        self.hub.told.inc();
        text.push_str(&shown(name, &data));
    }

    fn missed(&self, lost: u64, text: &mut String) {
        self.hub.lost.add(lost);
        text.push_str(&shown("lost", &json!(lost)));
    }
}

/// JSON has no line breaks of its own, so that one line of data is enough.
fn shown(name: &str, data: &Value) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text
}
