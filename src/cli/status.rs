//! `vintner status`.

use super::{
    Exit,
    client::Client,
    output::{self, facts},
};
use crate::{
    http::types::{AloneView, NodeView, ReasonView, ReplicationView},
    shown::harmless,
};
use anyhow::Result;
use clap::Args;

/// No arguments beside where the node is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StatusArgs {}

pub(crate) async fn run(client: &Client) -> Result<Exit> {
    let node: NodeView = client.get("/api/v1/node", &[]).await?;
    if client.json {
        output::print_json(&node)?;
        return Ok(Exit::Done);
    }
    let ready = if node.ready { "ready" } else { "not ready" };
    let offers = &node.offers;
    output::print(&facts(&[
        ("node", Some(node.client_id.to_string())),
        ("status", Some(ready.into())),
        ("network", Some(node.network.to_string())),
        ("version", Some(node.version)),
        ("started", Some(node.started_at.to_string())),
        ("rpc", Some(node.rpc.to_string())),
        ("dht", Some(format!("{}, knows {} nodes", node.dht.address, node.dht.nodes))),
        ("peers", Some(node.peers.len().to_string())),
        ("replica", Some(replica(&node.replication))),
        ("offers", Some(format!("{} can be taken, {} own", offers.listed, offers.own))),
        ("trades", Some(offers.trades.to_string())),
        ("in doubt", Some(client.reach.repeat(&in_doubt(node.outbox.bids_in_doubt)))),
        ("unpublished", Some(format!("{} own offers", node.outbox.unpublished))),
        ("data", Some(format!("{} ({} KiB)", node.store.path.display(), node.store.bytes / 1024))),
    ]))?;
    output::print(&client.reach.repeat(&reasons(&node.reasons)))?;
    Ok(Exit::Done)
}

/// The account of how the node stands: three lines a reason.
fn reasons(reasons: &[ReasonView]) -> String {
    let line = |reason: &ReasonView| {
        let ReasonView { code, level, since, meaning, advice, detail } = reason;
        let [code, level, meaning, advice, detail] =
            [code, level, meaning, advice, detail].map(|text| harmless(text));
        format!("{level} {code} since {since}: {detail}\n      {meaning}\n      next: {advice}\n")
    };
    reasons.iter().map(line).collect()
}

fn in_doubt(bids: usize) -> String {
    match bids {
        0 => "0 bids".into(),
        bids => format!("{bids} bids; `vintner bids list --state in_doubt` shows them"),
    }
}

/// Whether the list is complete, and who would tell if it were not.
fn replica(held: &ReplicationView) -> String {
    let state = match (held.synced, held.behind) {
        (true, _) => "synced".to_owned(),
        (false, 0) => "not synced".to_owned(),
        (false, behind) => format!("not synced, behind {behind} makers"),
    };
    let ReplicationView { neighbours, makers, stale, .. } = held;
    format!("{state}; {} neighbours, knows {makers} makers, {stale} of them silent", neighbours.len())
}

pub(crate) async fn confirm_alone(client: &Client) -> Result<Exit> {
    let done: AloneView = client.post_plain("/api/v1/node/confirm-alone").await?;
    if client.json {
        output::print_json(&done)?;
    } else {
        output::print(
            "this node is a network of one from now on, until another node of its network is heard of\n",
        )?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::types::Time,
        shown::payloads::{PAYLOADS, assert_harmless},
        time::UnixMillis,
    };

    #[test]
    fn whatever_a_reason_says_it_stays_on_its_lines_and_a_terminal_obeys_none_of_it() {
        for payload in PAYLOADS {
            let text = || (*payload).to_owned();
            let reason = ReasonView {
                code: text(),
                level: text(),
                since: Time(UnixMillis(1_795_262_400_000)),
                meaning: text(),
                advice: text(),
                detail: text(),
            };
            let told = reasons(&[reason.clone(), reason]);
            assert_eq!(told.matches('\n').count(), 6, "{told:?}");
            told.lines().for_each(assert_harmless);
        }
    }

    #[test]
    fn the_replica_is_told_on_one_line() {
        let mut held = ReplicationView {
            synced: true,
            behind: 0,
            makers: 5,
            stale: 1,
            neighbours: Vec::new(),
            records: 9,
        };
        let tail = "0 neighbours, knows 5 makers, 1 of them silent";
        assert_eq!(replica(&held), format!("synced; {tail}"));
        held.synced = false;
        assert_eq!(replica(&held), format!("not synced; {tail}"));
        held.behind = 2;
        assert_eq!(replica(&held), format!("not synced, behind 2 makers; {tail}"));
    }
}
