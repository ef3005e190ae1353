//! `/node`: how it stands, recovery; and what supervisors ask.

use super::{
    fields::Fields,
    problem::{Code, Problem},
    request::Command,
};
use crate::{
    exchange::Done,
    http::types::{HealthView, NodeView, RecoveredView},
    node::Node,
};
use axum::{Json, extract::State};

/// Show the node
#[utoipa::path(get, path = "/node", operation_id = "show_node", tag = "node",
    responses((status = 200, description = "How the node stands", body = NodeView)))]
pub(super) async fn show(State(node): State<Node>) -> Json<NodeView> {
    Json(node.status().into())
}

/// Recover a node whose store is behind
///
/// After its data directory was lost, restored from a backup or copied, the network may know newer versions of the node's own
/// offers than its store does; it then neither offers nor bids. This takes those versions over and closes them, since what
/// happened to them is not known here. Repeated, it finds nothing left to do.
#[utoipa::path(post, path = "/node/recover", operation_id = "recover_node", tag = "node",
    request_body(content = super::docs::EmptyBody, content_type = "application/json", example = json!({})),
    responses((status = 200, description = "What was taken over", body = RecoveredView)))]
pub(super) async fn recover(
    State(node): State<Node>,
    command: Command,
) -> Result<Json<RecoveredView>, Problem> {
    Fields::of_body(&command.body)?.finish()?;
    match node.exchange().recover().await? {
        Done::Recovered(recovered) => Ok(Json(RecoveredView { recovered })),
        done => unreachable!("a recovery is answered by {done:?}"),
    }
}

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "node",
    responses((status = 200, description = "It answers", body = HealthView)))]
pub(super) async fn healthz() -> Json<HealthView> {
    Json(HealthView { status: "ok".into() })
}

/// Whether the node can trade
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "node",
    responses((status = 200, description = "It can trade", body = HealthView)))]
pub(super) async fn readyz(State(node): State<Node>) -> Result<Json<HealthView>, Problem> {
    match node.status().ready() {
        Ok(()) => Ok(Json(HealthView { status: "ready".into() })),
        Err(missing) => Err(Problem::new(Code::NotReady, missing)),
    }
}
