//! Is a node running here, is it ours, and how does it stand by its own word?

use super::{files::Files, report::Report};
use crate::{
    cli::{
        client::{Client, NoAnswer, Refused},
        settings::Effective,
    },
    http::types::{NodeView, ReasonView},
    standing::{Code, Level},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// A node answers this in a millisecond.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// Who answers at the API's address.
#[derive(Debug)]
pub(super) enum Running {
    /// Nobody.
    Nobody,
    /// The node of this data directory.
    Ours(Box<NodeView>),
    /// A vintner node that asks for another token.
    Locked,
    /// Another node; where its data is.
    Other(String),
    /// Something that is no node.
    Foreign,
}

/// Asks, and tells how the node stands.
pub(super) async fn check(settings: &Effective, files: &Files, report: &mut Report) -> Running {
    const NAME: &str = "node";
    let running = ask(settings, files).await;
    let held_by = files.inspected.as_ref().and_then(|inspected| inspected.held_by);
    let holder = held_by.map(|by| by.pid.map_or("a process".to_owned(), |pid| format!("process {pid}")));
    match (&running, holder) {
        (Running::Ours(node), _) => {
            let stands = if node.ready { "and is ready" } else { "but cannot trade" };
            report.ok(NAME, format!("runs since {} {stands}", node.started_at));
            node.reasons.iter().for_each(|reason| tell(reason, report));
        }
        (Running::Locked, Some(holder)) => report.failed(
            NAME,
            format!("{holder} has the data directory, and the API at {} refuses the token", settings.api),
            "give the node's own token: --token-file DATA_DIR/api-token",
        ),
        (_, Some(holder)) => report.failed(
            NAME,
            format!("{holder} has the data directory, but the API at {} is not that node's", settings.api),
            "give the settings that it was started with (--api), or look at its log",
        ),
        (_, None) => report.ok(NAME, "does not run"),
    }
    running
}

/// A reason of the running node's own account is a check that found it.
fn tell(reason: &ReasonView, report: &mut Report) {
    let name = Code::named(&reason.code).map_or("node", Code::as_str);
    let detail = format!("{} (since {})", reason.detail, reason.since);
    match Level::named(&reason.level) {
        Some(Level::Fail) => report.failed(name, detail, reason.advice.clone()),
        _ => report.warning(name, detail, reason.advice.clone()),
    }
}

async fn ask(settings: &Effective, files: &Files) -> Running {
    if settings.api.port() == 0 {
        return Running::Nobody;
    }
    let api = format!("http://{}", reachable(settings.api));
    let Ok(client) = Client::at(&api, files.token.clone(), false) else { return Running::Nobody };
    let asked = tokio::time::timeout(ASK_WITHIN, client.get::<NodeView>("/api/v1/node", &[])).await;
    match asked {
        Ok(Ok(node)) if files.client_id.as_deref() == Some(&node.client_id.to_string()) => {
            Running::Ours(Box::new(node))
        }
        Ok(Ok(node)) => Running::Other(node.store.path.display().to_string()),
        Ok(Err(error)) => match (error.downcast_ref(), error.downcast_ref::<Refused>()) {
            (Some(NoAnswer::Unreachable { .. }), _) => Running::Nobody,
            (_, Some(refused)) if matches!(refused.code(), "unauthorized" | "wrong_token") => Running::Locked,
            _ => Running::Foreign,
        },
        Err(_) => Running::Foreign,
    }
}

/// Where a listener on this address is reached from here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
