//! What a grape counts, served as `GET /metrics`. A stock grape answers every method alike and would say that the payload is
//! invalid; every other method on that path still gets the stock answer.

use super::{events::Hub, path::Operation};
use crate::{
    dht::Dht,
    grape::KeeperMeter,
    listener::Traffic,
    metrics::{self, Counter, Histogram, LATENCY, Page},
};
use axum::http::{Method, StatusCode, request::Parts};
use std::{sync::Arc, time::Duration};

/// The path.
const PATH: &str = "/metrics";
/// Classes of statuses that a grape answers with.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// Operations, and whatever is none.
const OPERATIONS: [&str; 7] = ["announce", "lookup", "put", "get", "metrics", "events", "other"];

/// What a request asks for, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Operation(Option<Operation>),
    Metrics,
    Events,
}

impl Asked {
    fn row(self) -> usize {
        match self {
            Self::Operation(Some(Operation::Announce)) => 0,
            Self::Operation(Some(Operation::Lookup)) => 1,
            Self::Operation(Some(Operation::Put)) => 2,
            Self::Operation(Some(Operation::Get)) => 3,
            Self::Metrics => 4,
            Self::Events => 5,
            Self::Operation(None) => 6,
        }
    }
}

/// Counts requests of the Grape HTTP API.
#[derive(Debug)]
pub(super) struct Meter {
    rows: [Row; OPERATIONS.len()],
    pub(super) traffic: Arc<Traffic>,
    body_too_long: Counter,
    state: Arc<KeeperMeter>,
    events: Arc<Hub>,
}

#[derive(Debug)]
struct Row {
    statuses: [Counter; CLASSES.len()],
    seconds: Histogram,
}

impl Meter {
    /// `state`: what the keeper counts, if there is one.
    pub(super) fn new(state: Option<&Arc<KeeperMeter>>, events: Arc<Hub>) -> Self {
        let row = |_| Row { statuses: Default::default(), seconds: Histogram::new(&LATENCY) };
        let rows = OPERATIONS.map(row);
        Self {
            rows,
            traffic: Arc::default(),
            body_too_long: Counter::default(),
            state: state.cloned().unwrap_or_default(),
            events,
        }
    }

    pub(super) fn count(&self, asked: Asked, status: StatusCode, took: Duration) {
        let row = &self.rows[asked.row()];
        let class = usize::from(status.as_u16() / 100).clamp(2, CLASSES.len() + 1) - 2;
        row.statuses[class].inc();
        row.seconds.took(took);
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            self.body_too_long.inc();
        }
    }

    /// The page, of this API, its DHT node and the process.
    pub(super) fn page(&self, dht: &Dht) -> String {
        let mut page = Page::default();
        metrics::write_process(&mut page);
        let mut requests = page.counter(
            "vintner_grape_requests_total",
            "Requests of the Grape HTTP API, by operation and status",
        );
        for (operation, row) in OPERATIONS.iter().zip(&self.rows) {
            for (class, counter) in CLASSES.iter().zip(&row.statuses) {
                requests.count(&[("operation", operation), ("status", class)], counter);
            }
        }
        let mut times = page.histogram(
            "vintner_grape_request_duration_seconds",
            "Time from the head of a request of the Grape HTTP API to its answer",
        );
        for (operation, row) in OPERATIONS.iter().zip(&self.rows) {
            times.spread(&[("operation", operation)], &row.seconds);
        }
        self.traffic.write(
            "vintner_grape_connections",
            ["grape_connections_per_address", "grape_connections"],
            &mut page,
        );
        page.bound("grape_body_bytes", self.body_too_long.get());
        self.events.write(&mut page);
        self.state.write(&mut page);
        dht.status().write(&mut page);
        page.finish()
    }
}

/// Whether a request asks for the page.
pub(super) fn is_asked(request: &Parts) -> bool {
    request.method == Method::GET && request.uri.path_and_query().is_some_and(|path| path == PATH)
}
