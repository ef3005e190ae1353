//! `/node`: how it stands, recovery; and what supervisors ask.

use super::{
    fields::{BOOL, Fields, choice},
    problem::{Code, Problem},
    request::{Command, query},
};
use crate::{
    exchange::Done,
    http::types::{HealthView, NodeView, RecoveredView},
    node::{Node, NodeStatus},
};
use axum::{
    Json,
    extract::{RawQuery, State},
};

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
///
/// With `sync=true` also whether its list is complete: everything is held that the makers that are there have on offer. A node that was
/// just started can trade before that.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "node",
    params(("sync" = Option<bool>, Query, description = "`true`: only when everything is held that is on offer; `false` by default")),
    responses((status = 200, description = "It can trade", body = HealthView)))]
pub(super) async fn readyz(State(node): State<Node>, raw: RawQuery) -> Result<Json<HealthView>, Problem> {
    let mut fields = Fields::of_query(&query(raw))?;
    let sync = fields.optional("sync", |text| choice(&text, &BOOL)).unwrap_or(false);
    fields.finish()?;
    readiness(&node.status(), sync).map(Json)
}

fn readiness(status: &NodeStatus, sync: bool) -> Result<HealthView, Problem> {
    status.ready().map_err(|missing| Problem::new(Code::NotReady, missing))?;
    if sync {
        status.replication.synced().map_err(|missing| Problem::new(Code::NotSynced, missing))?;
    }
    Ok(HealthView { status: "ready".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::MasterKey,
        node::{DhtInfo, HeardInfo, OffersInfo, OutboxInfo, ReplicaView, StoreInfo},
        replication::core::Status,
        time::UnixMillis,
    };
    use std::sync::Arc;

    /// Of a node that lacks something of so many makers, and can trade or not.
    fn status(behind: usize, ready: bool) -> NodeStatus {
        let key = MasterKey::from_bytes([1; 32]).client_key();
        let address = "127.0.0.1:1".parse().unwrap();
        NodeStatus {
            version: "",
            client_id: key.public(),
            network: "test".parse().unwrap(),
            started_at: UnixMillis(0),
            rpc: address,
            advertised: Vec::new(),
            dht: DhtInfo { node_id: String::new(), address, nodes: usize::from(ready), items: 0, peers: 0 },
            peers: Vec::new(),
            replication: Arc::new(ReplicaView {
                status: Status { neighbours: vec![key.public()], makers: 3, behind, ..Status::default() },
                ..ReplicaView::default()
            }),
            offers: OffersInfo { listed: 0, records: 0, own: 0, trades: 0 },
            store: StoreInfo { path: "".into(), bytes: 0, schema_version: 1 },
            outbox: OutboxInfo { bids_in_doubt: 0, unpublished: 0 },
            heard: HeardInfo { announcements: 0, dropped: 0, refused: 0 },
            store_behind: false,
        }
    }

    #[test]
    fn a_node_that_lacks_something_can_trade_and_is_not_synced() {
        let says = |behind, ready, sync| {
            let problem = readiness(&status(behind, ready), sync).err();
            problem.map_or_else(String::new, |problem| format!("{problem:?}"))
        };
        assert_eq!((says(0, true, false), says(0, true, true), says(2, true, false)), Default::default());
        let lacks = says(2, true, true);
        assert!(
            lacks.contains("NotSynced") && lacks.contains("503") && lacks.contains("2 makers"),
            "{lacks}"
        );
        for sync in [false, true] {
            assert!(says(2, false, sync).contains("NotReady"), "what stops trading is told first");
        }
    }
}
