//! The account of how a node stands, on real nodes: each reason comes when it is so, everywhere the same, and goes when it is so no longer.

use crate::{
    run,
    testnet::{
        Net, create, free_port,
        process::{NodeProcess, Process, grape},
        until,
    },
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use vintner::{
    grenache::{
        server::{Commands, ServerConfig, serve},
        service::{LIMITS, RATE},
    },
    identity::KeyPair,
    node::{Node, clock},
    standing::Code,
    workers::Workers,
};

/// What begins a minute after it is so, or three, and as long again for a busy machine.
const LONG: Duration = Duration::from_mins(5);

async fn reasons(node: &NodeProcess) -> Vec<Value> {
    let view = node.get("/node").await.unwrap_or_default();
    view["reasons"].as_array().cloned().unwrap_or_default()
}

pub(super) async fn reason(node: &NodeProcess, code: Code) -> Option<Value> {
    reasons(node).await.into_iter().find(|reason| reason["code"] == code.as_str())
}

/// Waits until the node has this reason, or has it no longer; gives it.
pub(super) async fn when(node: &NodeProcess, code: Code, is_reason: bool) -> Value {
    let started = Instant::now();
    loop {
        let found = reason(node, code).await;
        if found.is_some() == is_reason {
            return found.unwrap_or_default();
        }
        let all = reasons(node).await;
        assert!(started.elapsed() < LONG, "waited in vain for {code} to be {is_reason}: {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn has(node: &Node, code: Code) -> Option<String> {
    node.reasons().into_iter().find(|reason| reason.code == code).map(|reason| reason.detail)
}

/// The status of `/readyz` with this query.
pub(super) fn readyz(node: &NodeProcess, query: &str) -> String {
    let url = format!("{}/readyz{query}", node.url());
    let address: std::net::SocketAddr = url[7..].split('/').next().unwrap().parse().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET /readyz{query} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    std::io::read_to_string(stream).unwrap()
}

pub(super) fn api(node: &NodeProcess) -> String {
    node.url().trim_start_matches("http://").to_owned()
}

fn offer() -> Value {
    serde_json::json!({"side": "sell", "btc_quantity": "1", "offer_price": "100", "currency": "USD"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_others_are_gone_is_not_synced_until_its_owner_says_that_there_are_none() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let mut node = NodeProcess::start(&dirs.path().join("one"), &bootstrap);
    let mut other = NodeProcess::start(&dirs.path().join("two"), &bootstrap);
    let synced = async |node: &NodeProcess| {
        until("it to be synced beside the other", || async {
            let view = node.get("/node").await.unwrap_or_default();
            view["replication"]["neighbours"].as_array().is_some_and(|some| !some.is_empty())
                && readyz(node, "?sync=true").starts_with("HTTP/1.1 200")
        })
        .await;
    };
    synced(&node).await;
    other.process.kill_9();

    let code = Code::NoneReachable;
    let told = when(&node, code, true).await;
    for field in ["level", "since", "meaning", "advice", "detail"] {
        assert!(told[field].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    }
    let answer = readyz(&node, "?sync=true");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("none_reachable"), "{answer}");
    let answer = readyz(&node, "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("none_reachable"), "{answer}");
    let (exit, out, err) = run(&["healthcheck", "--api", &api(&node)]);
    assert!(exit == 0 && out.contains("sync none_reachable: "), "{exit} {out} {err}");
    let (_, out, err) = run(&["status", "--api", node.url()]);
    assert!(out.contains("sync none_reachable since ") && out.contains("next: "), "{out} {err}");
    let mut doctor = vec!["doctor".to_owned()];
    doctor.extend(node.settings().iter().cloned());
    let (_, out, err) = run(&doctor);
    assert!(out.lines().any(|line| line.starts_with("warning  none_reachable")), "{out} {err}");
    let series = format!("vintner_reason{{code=\"{code}\",level=\"sync\"}}");
    assert!(node.metric(&series).await > 0.5 && node.metric("vintner_synced").await < 0.5);

    // It is remembered that there was somebody.
    node.process.terminate();
    node.restart();
    when(&node, code, true).await;
    let (exit, out, err) = run(&["node", "confirm-alone", "--api", node.url()]);
    assert!(exit == 0 && out.contains("network of one"), "{exit} {out} {err}");
    when(&node, code, false).await;
    assert!(node.metric(&series).await < 0.5 && node.metric("vintner_synced").await > 0.5);
    // And so is what the owner said, by a process that is killed.
    node.process.kill_9();
    node.restart();
    node.ready().await;
    until("it to be synced alone", || async { readyz(&node, "?sync=true").starts_with("HTTP/1.1 200") })
        .await;
    assert!(reason(&node, code).await.is_none());

    other.restart();
    synced(&node).await;
    let (exit, _, err) = run(&["node", "confirm-alone", "--api", node.url()]);
    assert!(exit == 1 && err.contains("connected"), "{exit} {err}");
    other.process.kill_9();
    when(&node, code, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_under_the_networks_name_at_which_nobody_answers_leave_a_new_node_not_synced() {
    let net = Net::start(2, 0).await;
    // Refuses every connection, as a firewall that resets them does.
    let closed = free_port();
    until("the grapes to know each other", || async {
        net.grapes[0].announce(b"test", closed).await.is_ok()
    })
    .await;
    let mut net = net;
    net.add_node().await;
    let node = &net.nodes[0];
    until("it to say so", || async { has(node, Code::NoneReachable).is_some() }).await;
    let told = has(node, Code::NoneReachable).unwrap();
    assert!(told.contains(&format!("127.0.0.1:{closed}")), "{told}");
    assert!(!node.status().is_synced() && node.status().is_ready());
    node.confirm_alone().await.unwrap();
    assert!(has(node, Code::NoneReachable).is_none() && node.status().is_synced());
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_records_of_another_network_says_which() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let node = NodeProcess::start(&dirs.path().join("one"), &bootstrap);
    let mut args: Vec<String> = NodeProcess::start(&dirs.path().join("x"), &bootstrap).settings().to_vec();
    args.insert(0, "node".into());
    let at = args.iter().position(|arg| arg == "--network").unwrap();
    args[at + 1] = "market-street".into();
    let dir = args.iter().position(|arg| arg == "--data-dir").unwrap();
    args[dir + 1] = dirs.path().join("two").display().to_string();
    let foreign_api = args[args.iter().position(|arg| arg == "--api").unwrap() + 1].clone();
    let foreign = NodeProcess::start_with(args, &foreign_api, None);
    node.ready().await;
    foreign.ready().await;
    foreign.post("/offers", "standing-1", offer()).await.unwrap();
    let told = when(&node, Code::OtherNetwork, true).await;
    assert!(told["detail"].as_str().unwrap().contains("market-street"), "{told}");
    let _beside = NodeProcess::start(&dirs.path().join("three"), &bootstrap);
    when(&node, Code::OtherNetwork, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_from_others_is_told_and_no_longer_when_it_is_set() {
    let net = Net::start(2, 0).await;
    let ahead_ms = Arc::new(AtomicI64::new(7_200_000));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let theirs = Arc::clone(&ahead_ms);
    let config = ServerConfig {
        network: crate::testnet::network_name(),
        key: KeyPair::from_seed(&[7; 32]),
        clock: Arc::new(move || {
            let ahead = theirs.load(Relaxed);
            let by = Duration::from_millis(ahead.unsigned_abs());
            if ahead < 0 { clock::now().minus(by) } else { clock::now().plus(by) }
        }),
        rate: RATE,
        known: Arc::default(),
        limits: LIMITS,
    };
    // It knows no command, and says so with a signed time.
    let serving = serve(listener, config, Commands::default(), Workers::start(1).unwrap()).unwrap();
    until("the grapes to know each other", || async { net.grapes[0].announce(b"test", port).await.is_ok() })
        .await;
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &net.bootstrap.join(","));
    let told = when(&node, Code::ClockBehind, true).await;
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("2 h behind") || detail.contains("119 min behind"), "{told}");
    ahead_ms.store(-300_000, Relaxed);
    when(&node, Code::ClockAhead, true).await;
    when(&node, Code::ClockBehind, false).await;
    ahead_ms.store(0, Relaxed);
    when(&node, Code::ClockAhead, false).await;
    serving.shutdown().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_dht_too_long_is_told_and_the_log_has_each_reason_once() {
    let dirs = tempfile::tempdir().unwrap();
    let port = free_port();
    let (args, at) = NodeProcess::arguments(&dirs.path().join("one"), &format!("127.0.0.1:{port}"));
    let log = dirs.path().join("log");
    let process = Process::spawn_logging(&args, fs::File::create(&log).unwrap());
    let node = NodeProcess::of(process, args, &at, None);
    when(&node, Code::NoDhtNode, true).await;
    let (exit, _, err) = run(&["healthcheck", "--api", &api(&node)]);
    assert!(exit == 1 && err.contains("fail no_dht_node: ") && err.contains("\nnext: "), "{exit} {err}");
    node.post("/offers", "standing-2", offer()).await.unwrap();
    let told = when(&node, Code::OutboxStuck, true).await;
    assert_eq!(told["level"], "warn");
    let bind = port.to_string();
    let http = free_port().to_string();
    let args = ["grape", "-b", "127.0.0.1", "--dp", &bind, "--aph", &http, "--bn", ""];
    let _grape = Process::spawn(&args.map(str::to_owned));
    when(&node, Code::NoDhtNode, false).await;
    when(&node, Code::OutboxStuck, false).await;
    assert!(readyz(&node, "").starts_with("HTTP/1.1 200"));
    let lines = lines(&log);
    for code in ["no_dht_node", "outbox_stuck"] {
        let of: Vec<&String> = lines.iter().filter(|line| line.contains(code)).collect();
        assert_eq!(of.len(), 2, "once when it begins, once when it ends: {of:?}");
        assert!(of[1].contains("over after"), "{of:?}");
    }
}

fn lines(log: &Path) -> Vec<String> {
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_that_do_not_answer_are_missed_after_a_while_and_makers_that_fall_silent_together() {
    // Each is a matter of minutes: both at once, in networks that do not know of each other.
    tokio::join!(one_neighbour_is_missed(), all_makers_fall_silent());
}

/// A grape, a node, and its two neighbours.
async fn three(dir: &Path) -> (Process, NodeProcess, [NodeProcess; 2]) {
    let (grape, bootstrap) = grape();
    let start = |name| NodeProcess::start(&dir.join(name), &bootstrap);
    let (node, others) = (start("one"), ["two", "three"].map(start));
    until("both to be neighbours", || async {
        let view = node.get("/node").await.unwrap_or_default();
        view["replication"]["neighbours"].as_array().is_some_and(|some| some.len() == 2)
    })
    .await;
    (grape, node, others)
}

async fn one_neighbour_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (_grape, node, others) = three(dir.path()).await;
    others[0].process.signal("STOP");
    when(&node, Code::FewNeighbours, true).await;
    others[0].process.signal("CONT");
    when(&node, Code::FewNeighbours, false).await;
}

async fn all_makers_fall_silent() {
    let dir = tempfile::tempdir().unwrap();
    let (_grape, node, others) = three(dir.path()).await;
    for other in &others {
        other.process.signal("STOP");
    }
    when(&node, Code::MakersSilent, true).await;
    for other in &others {
        other.process.signal("CONT");
    }
    when(&node, Code::MakersSilent, false).await;
    when(&node, Code::NoneReachable, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_just_started_is_not_synced_before_it_has_looked_for_others() {
    let mut net = Net::start(1, 1).await;
    create(&net.nodes[0], "100").await;
    let late = net.add_node().await.clone();
    let status = late.status();
    let is_learning = status.reasons.iter().any(|reason| reason.code == Code::NotYetSynced);
    assert!(is_learning != status.is_synced(), "{:?}", status.reasons);
    until("it to have caught up", || async { late.status().is_synced() }).await;
    assert!(has(&late, Code::NotYetSynced).is_none());
    assert_eq!(late.status().offers.listed, 1, "it says so when it has all");
    net.stop().await;
}
