//! The DHT: do the bootstrap names mean something, and does anybody answer?

use super::{files::Files, report::Report, running::Running};
use crate::{
    cli::settings::Effective,
    dht::{Dht, DhtConfig, DhtError},
    node::{META_DHT_NODE, greeting, noted_dht_id},
    reach::unheard,
    workers::Workers,
};
use std::{
    net::{SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

/// How long nodes are waited for: a query is given up after two seconds, and a name may take as long to resolve.
const JOIN_WITHIN: Duration = Duration::from_secs(5);
const JOIN_POLL: Duration = Duration::from_millis(20);
/// How long a name may take to resolve.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// How long the others' addresses are looked up for.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// Checks it; gives the addresses at which other nodes say they are.
pub(super) async fn check(
    settings: &Effective,
    files: &Files,
    running: &Running,
    report: &mut Report,
) -> Vec<SocketAddr> {
    names(settings, report).await;
    if let Running::Ours(node) = running {
        match node.dht.nodes {
            0 => nobody(settings, report),
            nodes => report.ok("DHT", format!("the running node knows {nodes} DHT nodes")),
        }
        return node.peers.iter().map(|peer| peer.address).collect();
    }
    match probe(settings, files, report).await {
        Ok(found) => found,
        Err(error) => {
            report.error("DHT", error);
            Vec::new()
        }
    }
}

async fn names(settings: &Effective, report: &mut Report) {
    const NAME: &str = "bootstrap";
    if settings.bootstrap.is_empty() {
        let next = "name at least one grape with --bootstrap, unless others are to find this node first";
        report.warning(NAME, "no DHT node to start from is named", next);
        return;
    }
    let mut bad = Vec::new();
    for name in &settings.bootstrap {
        let resolved = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(name.as_str())).await;
        let has_v4 = resolved
            .is_ok_and(|found| found.is_ok_and(|mut found| found.any(|a| a.ip().to_canonical().is_ipv4())));
        if !has_v4 {
            bad.push(name.as_str());
        }
    }
    let next = "write HOST:PORT with a name that has an IPv4 address, and check this machine's name service";
    match bad.len() {
        0 => report.ok(NAME, format!("{} can be resolved", settings.bootstrap.join(", "))),
        all if all == settings.bootstrap.len() => {
            report.failed(NAME, format!("none of {} can be resolved", bad.join(", ")), next);
        }
        _ => report.warning(NAME, format!("{} cannot be resolved", bad.join(", ")), next),
    }
}

fn nobody(settings: &Effective, report: &mut Report) {
    if settings.bootstrap.is_empty() {
        let next = "start another node that names this one, or name a grape with --bootstrap";
        report.warning("DHT", "no other DHT node is known", next);
        return;
    }
    if let Some(notice) = unheard(&[(*settings.dht.ip()).into()], &settings.bootstrap) {
        let told = notice.to_string();
        let (what, next) = told.split_once("; ").unwrap_or((&told, "give --dht 0.0.0.0:20011"));
        return report.failed("DHT", what, next);
    }
    report.failed(
        "DHT",
        format!("no grape is reachable: none of {} answers over UDP", settings.bootstrap.join(", ")),
        "check that one of them runs, and that UDP may pass in both directions; `vintner grape` starts one of your own",
    );
}

/// The stopped node's part of the DHT, started for a moment: from its own address and under its own id where the port is free,
/// so that whoever remembers it remembers what will be true.
async fn probe(
    settings: &Effective,
    files: &Files,
    report: &mut Report,
) -> Result<Vec<SocketAddr>, anyhow::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let database = files.inspected.as_ref().and_then(|inspected| inspected.database.as_ref());
    let note = database.and_then(|database| database.notes.iter().find(|(name, _)| name == META_DHT_NODE));
    let workers = Workers::start(1)?;
    let start = async |listen, node_id| {
        let config = DhtConfig::new(listen, settings.bootstrap.clone(), seed);
        Dht::start(DhtConfig { node_id, ..config }, workers.clone()).await
    };
    let own = note.and_then(|(_, note)| noted_dht_id(note, settings.dht));
    let dht = match start(settings.dht, own).await {
        // Said already; whether others answer is another question.
        Err(DhtError::Bind { .. }) => start(SocketAddrV4::new(*settings.dht.ip(), 0), None).await,
        started => started,
    };
    let dht = match dht {
        Err(DhtError::Bind { .. }) => start(SocketAddrV4::new([0, 0, 0, 0].into(), 0), None).await?,
        started => started?,
    };
    let joined = Instant::now();
    while dht.status().nodes_good == 0 && !settings.bootstrap.is_empty() && joined.elapsed() < JOIN_WITHIN {
        tokio::time::sleep(JOIN_POLL).await;
    }
    let found = match dht.known_nodes().await? {
        nodes if nodes.is_empty() => {
            nobody(settings, report);
            Vec::new()
        }
        nodes => {
            report.ok("DHT", format!("{} DHT nodes answer, such as {}", nodes.len(), nodes[0]));
            let lookup = greeting::addresses(&dht, &settings.network);
            // Found or not, the clock's check says what it means.
            tokio::time::timeout(LOOKUP_WITHIN, lookup).await.map_or(Vec::new(), Result::unwrap_or_default)
        }
    };
    dht.shutdown().await;
    Ok(found)
}
