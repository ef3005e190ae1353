//! The REST API of a node, for its owner.
//!
//! One file a resource. `edge` is what every request passes, `guard` who may talk to it at all, `fields` and `request` read what was sent, `problem` is every
//! way to fail, `docs` the description that `/api/openapi.json` serves. Handlers send commands to [`Node::exchange`] and show
//! snapshots; a snapshot that follows an answer shows at least what the answer was about.

mod bid_list;
mod bids;
mod docs;
mod edge;
mod examples;
mod fields;
mod guard;
mod listing;
mod metrics;
mod node;
mod offers;
mod page;
mod problem;
mod request;
mod trades;

pub use docs::openapi_json;
pub use guard::{ApiToken, Published, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN, TokenError};
pub use problem::Code;
pub use request::BODY_BYTES_MAX;

use crate::{
    address::bind::advice,
    listener::{Limits, Serving, Traffic, serve},
    node::Node,
};
use axum::{Router, extract::FromRef, middleware};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Where the API listens, and for whom.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The address; port 0 takes a free one.
    pub addr: SocketAddr,
    /// What every request must show. Required on an address that is not loopback.
    pub token: Option<ApiToken>,
    /// Serves an address that is not loopback without a token: for closed test networks only.
    pub insecure_no_token: bool,
    /// What the owner calls the node, shown on its own page; where the API is, when it has no name.
    pub name: Option<String>,
    /// Serves, by the rules of loopback, what a container engine publishes on its host's loopback.
    pub published: Option<Published>,
}

/// What the API's listener puts up with. It has one user, who may run many programs: connections stay far above what those
/// open, and far below the usual limit of 1,024 open files.
pub const LIMITS: Limits = Limits {
    connections_max: 512,
    connections_per_ip_max: 512,
    // Ends idle connections too; browsers and clients open new ones by themselves.
    header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(20),
    // Ours are below 1 KB.
    header_bytes_max: 16 * 1024,
};

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Everybody in reach could trade in the owner's name.
    #[error(
        "the API address {0} can be reached from other machines and no token is set; give a token file, use a loopback \
         address such as 127.0.0.1:4000, or allow it with --insecure-no-token on a closed test network"
    )]
    TokenRequired(SocketAddr),
    /// Published for more than the host's own programs.
    #[error(
        "the API cannot be published at {0} without a token, because only 127.0.0.1 and ::1 keep other machines out; publish \
         it there, or leave --api-published out and use the token in the data directory"
    )]
    PublishedBeyondLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("the API cannot listen on TCP {addr}: {error}; {}", advice(error, "--api"))]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// Starts the API of `node`.
pub async fn start(config: ApiConfig, node: Node) -> Result<Serving, ApiError> {
    let ApiConfig { addr, token, insecure_no_token, name, published } = config;
    if let Some(published) = published.as_ref().filter(|published| !published.addr.ip().is_loopback()) {
        return Err(ApiError::PublishedBeyondLoopback(published.addr));
    }
    if token.is_none() && !insecure_no_token && published.is_none() && !addr.ip().is_loopback() {
        return Err(ApiError::TokenRequired(addr));
    }
    let bind = |error| ApiError::Bind { addr, error };
    let listener = tokio::net::TcpListener::bind(addr).await.map_err(bind)?;
    // With port 0 the guard must know the port that was given.
    let listens = listener.local_addr().map_err(bind)?;
    let guard = match published {
        Some(Published { addr, from }) => guard::Guard { addr, from: Some(from), token },
        None => guard::Guard { addr: listens, from: None, token },
    };
    let shown = docs::Shown {
        name: name.unwrap_or_else(|| guard.addr.to_string()),
        network: node.exchange().network().to_string(),
        client_id: node.exchange().client_id().to_string(),
        token: guard.token.is_some(),
    };
    let (router, traffic) = router(node, guard, &shown);
    serve(listener, router, LIMITS, traffic).map_err(bind)
}

/// What handlers take their parts from.
#[derive(Clone)]
struct ApiState {
    node: Node,
    meter: Arc<metrics::Meter>,
}

impl FromRef<ApiState> for Node {
    fn from_ref(state: &ApiState) -> Self {
        state.node.clone()
    }
}

fn routes() -> OpenApiRouter<ApiState> {
    let v1 = OpenApiRouter::new()
        .routes(routes!(offers::list, offers::create))
        .routes(routes!(offers::show, offers::withdraw))
        .routes(routes!(bids::list, bids::place))
        .routes(routes!(bids::list_own))
        .routes(routes!(bids::show))
        .routes(routes!(bids::give_up))
        .routes(routes!(trades::list))
        .routes(routes!(trades::show))
        .routes(routes!(node::show))
        .routes(routes!(node::recover))
        .routes(routes!(node::confirm_alone));
    OpenApiRouter::with_openapi(docs::base())
        .nest("/api/v1", v1)
        .routes(routes!(node::healthz))
        .routes(routes!(node::readyz))
        .routes(routes!(metrics::show))
}

/// The API, and where its connections are counted.
fn router(node: Node, guard: guard::Guard, shown: &docs::Shown) -> (Router, Arc<Traffic>) {
    let (api, description) = routes().split_for_parts();
    let meter = Arc::new(metrics::Meter::new(&description));
    let traffic = Arc::clone(&meter.traffic);
    let edge = Arc::new(edge::Edge::new(guard, Arc::clone(&meter), &description));
    let router = api
        .with_state(ApiState { node, meter })
        .merge(docs::router(shown))
        .layer(middleware::from_fn_with_state(edge, edge::pass));
    (router, traffic)
}
