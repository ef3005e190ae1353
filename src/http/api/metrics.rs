//! `/metrics`, and what the API counts of itself: requests by the template of their route, never by their path.

use super::ApiState;
use crate::{
    listener::Traffic,
    metrics::{self, Counter, Histogram, LATENCY, Page},
};
use axum::{
    extract::{MatchedPath, State},
    http::{HeaderName, Method, StatusCode, header, request::Parts},
};
use std::{sync::Arc, time::Duration};
use utoipa::openapi::OpenApi;

/// Classes of statuses, from 100 on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Routes that the description leaves out: itself and Swagger UI.
const MORE_ROUTES: [&str; 7] = [
    "/",
    "/api/openapi.json",
    "/swagger-ui",
    "/swagger-ui/",
    "/swagger-ui/index.html",
    "/swagger-ui/swagger-initializer.js",
    "/swagger-ui/{*rest}",
];
/// Whatever has no route, or has one under another method.
const OTHER: &str = "other";

/// Counts requests. Its rows are made once, from the routes that there are.
#[derive(Debug)]
pub(super) struct Meter {
    rows: Box<[Row]>,
    pub(super) traffic: Arc<Traffic>,
    body_too_long: Counter,
}

#[derive(Debug)]
struct Row {
    route: String,
    method: &'static str,
    statuses: [Counter; CLASSES.len()],
    seconds: Histogram,
}

impl Meter {
    pub(super) fn new(description: &OpenApi) -> Self {
        let described = description.paths.paths.iter().flat_map(|(route, item)| {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PUT", item.put.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            methods.into_iter().filter(|(_, there)| *there).map(|(method, _)| (route.clone(), method))
        });
        let more = MORE_ROUTES.iter().map(|route| ((*route).to_owned(), "GET"));
        let row = |(route, method)| {
            let (statuses, seconds) = (Default::default(), Histogram::new(&LATENCY));
            Row { route, method, statuses, seconds }
        };
        let rows = described.chain(more).chain([(OTHER.to_owned(), OTHER)]).map(row).collect();
        Self { rows, traffic: Arc::default(), body_too_long: Counter::default() }
    }

    /// The row of a request; a HEAD counts as the GET that it is.
    pub(super) fn row(&self, request: &Parts) -> usize {
        let method = if request.method == Method::HEAD { "GET" } else { request.method.as_str() };
        let route = request.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let found = self.rows.iter().position(|row| row.method == method && row.route == route);
        found.unwrap_or(self.rows.len() - 1)
    }

    pub(super) fn count(&self, row: usize, status: StatusCode, took: Duration) {
        let Some(row) = self.rows.get(row) else { return };
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        row.statuses[class].inc();
        row.seconds.took(took);
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            self.body_too_long.inc();
        }
    }

    fn write(&self, page: &mut Page) {
        let mut requests =
            page.counter("vintner_api_requests_total", "Requests of this API, by route and status");
        for Row { route, method, statuses, .. } in &self.rows {
            // No handler here answers 1xx.
            for (class, counter) in CLASSES.iter().zip(statuses).skip(1) {
                requests.count(&[("route", route), ("method", method), ("status", class)], counter);
            }
        }
        let mut times = page.histogram(
            "vintner_api_request_duration_seconds",
            "Time from the head of a request of this API to the head of its answer",
        );
        for Row { route, method, seconds, .. } in &self.rows {
            times.spread(&[("route", route), ("method", method)], seconds);
        }
        self.traffic.write(
            "vintner_api_connections",
            ["api_connections_per_address", "api_connections"],
            page,
        );
        page.bound("api_body_bytes", self.body_too_long.get());
    }
}

/// Show what the node counts
///
/// In the text format of Prometheus. docs/metrics.md explains each metric.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "node",
    responses((status = 200, description = "Metrics, in the Prometheus text format 0.0.4", body = String,
        content_type = "text/plain")))]
pub(super) async fn show(State(state): State<ApiState>) -> ([(HeaderName, &'static str); 1], String) {
    let mut page = Page::default();
    metrics::write_process(&mut page);
    state.meter.write(&mut page);
    state.node.write_metrics(&mut page);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page.finish())
}
