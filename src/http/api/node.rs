//! `/node`: how it stands, recovery; and what supervisors ask.

use super::{
    fields::{BOOL, Fields, choice},
    guard::Stranger,
    problem::{Code, Problem},
    request::{Command, query},
};
use crate::{
    exchange::CommandError,
    http::types::{AloneView, HealthView, NodeView, ReadyView, RecoveredView, Time},
    node::Node,
    standing::{self, Level, Reason},
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
/// offers than its store does; it then neither offers nor bids. This asks every node that is known for the trades that it has with
/// this one, checks them, and takes over those that it lacks, as maker and as taker. Then it takes over what the network knows of its
/// own offers, and closes them: as sold where a trade says so. It may take half a minute. Repeated, it asks again, and finds what
/// could not be reached before.
#[utoipa::path(post, path = "/node/recover", operation_id = "recover_node", tag = "node",
    request_body(content = super::docs::EmptyBody, content_type = "application/json", example = json!({})),
    responses((status = 200, description = "What was taken over", body = RecoveredView)))]
pub(super) async fn recover(
    State(node): State<Node>,
    command: Command,
) -> Result<Json<RecoveredView>, Problem> {
    Fields::of_body(&command.body)?.finish()?;
    // Whoever hangs up meanwhile does not stop it half way.
    let recovering = tokio::spawn({
        let node = node.clone();
        async move { node.recover().await }
    });
    let recovered = recovering.await.map_err(|_| CommandError::Stopping)??;
    Ok(Json(RecoveredView::of(recovered, node.exchange().client_id())))
}

/// Confirm that there is no other node
///
/// A node that has heard of others within 30 days and reaches none of them is not synced: `none_reachable`. Its owner, who knows that
/// they are gone for good, says so with this, and the node is a network of one until somebody else is heard of.
#[utoipa::path(post, path = "/node/confirm-alone", operation_id = "confirm_alone", tag = "node",
    request_body(content = super::docs::EmptyBody, content_type = "application/json", example = json!({})),
    responses((status = 200, description = "It is remembered", body = AloneView)))]
pub(super) async fn confirm_alone(
    State(node): State<Node>,
    command: Command,
) -> Result<Json<AloneView>, Problem> {
    Fields::of_body(&command.body)?.finish()?;
    match node.confirm_alone().await {
        Ok(since) => Ok(Json(AloneView { alone_since: Time(since) })),
        Err(error) => Err(Problem::new(Code::of_confirmation(&error), error.to_string())),
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
/// 503 while there is a reason of level `fail`; with `sync=true` also while there is one of level `sync`: the list may lack something
/// that others have on offer. A node that was just started can trade before that. Either answer has all reasons.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "node",
    params(("sync" = Option<bool>, Query, description = "`true`: only when everything is held that is on offer; `false` by default")),
    responses((status = 200, description = "It can trade", body = ReadyView)))]
pub(super) async fn readyz(
    State(node): State<Node>,
    asked: axum::http::Extensions,
    raw: RawQuery,
) -> Result<Json<ReadyView>, Problem> {
    let mut fields = Fields::of_query(&query(raw))?;
    let sync = fields.optional("sync", |text| choice(&text, &BOOL)).unwrap_or(false);
    fields.finish()?;
    let mut reasons = node.reasons();
    if asked.get::<Stranger>().is_some() {
        // Addresses, names and numbers are the owner's: a page whose name points at this machine gets this far.
        for reason in &mut reasons {
            reason.detail = reason.code.meaning().into();
        }
    }
    readiness(reasons, sync).map(Json)
}

fn readiness(reasons: Vec<Reason>, sync: bool) -> Result<ReadyView, Problem> {
    let is_well = |level| standing::is_well(&reasons, level);
    let missing = match (is_well(Level::Fail), is_well(Level::Sync)) {
        (false, _) => Some((Code::NotReady, Level::Fail)),
        (true, false) if sync => Some((Code::NotSynced, Level::Sync)),
        (true, _) => None,
    };
    let problem = missing.map(|(code, level)| Problem::new(code, standing::sentence(&reasons, level)));
    let reasons = reasons.into_iter().map(Into::into).collect();
    match problem {
        Some(problem) => Err(problem.with_reasons(reasons)),
        None => Ok(ReadyView { status: "ready".into(), reasons }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{standing, time::UnixMillis};

    #[test]
    fn a_node_that_lacks_something_can_trade_and_is_not_synced() {
        let reason =
            |code: standing::Code| Reason { code, since: UnixMillis(0), detail: format!("found {code}") };
        let says = |codes: &[standing::Code], sync| {
            let told = readiness(codes.iter().copied().map(reason).collect(), sync);
            told.map_or_else(
                |problem| format!("{problem:?}"),
                |view| format!("{} {}", view.status, view.reasons.len()),
            )
        };
        let (behind, store, warns) =
            (standing::Code::Behind, standing::Code::StoreBehind, standing::Code::ClockAhead);
        assert_eq!([says(&[], false), says(&[], true)], ["ready 0", "ready 0"]);
        assert_eq!([says(&[warns], false), says(&[warns], true)], ["ready 1", "ready 1"]);
        assert_eq!(says(&[behind], false), "ready 1");
        let lacks = says(&[behind, warns], true);
        for word in ["NotSynced", "503", "found behind; wait", "clock_ahead"] {
            assert!(lacks.contains(word), "{word}: {lacks}");
        }
        assert!(!lacks.contains("found clock_ahead;"), "the sentence is about what hinders: {lacks}");
        for sync in [false, true] {
            assert!(says(&[store, behind], sync).contains("NotReady"), "what stops trading is told first");
        }
    }
}
