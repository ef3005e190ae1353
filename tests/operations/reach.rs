//! Where nodes are for others, and whether others reach them: processes on hosts in networks of their own.

use super::{
    run,
    testnet::{
        PATIENCE,
        hosts::{Hosts, forbidden, within, without},
        process::{NodeProcess, Process},
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than the pauses between the first attempts to dial back.
const LONG: Duration = PATIENCE.saturating_mul(4);

struct Nodes {
    dirs: TempDir,
}

impl Nodes {
    fn new() -> Self {
        Self { dirs: tempfile::tempdir().unwrap() }
    }

    /// A node on this host, whose API is at `address`.
    fn start(&self, host: &str, address: &str, more: &[&str]) -> NodeProcess {
        let api = format!("{address}:4000");
        let dir = self.dirs.path().join(host).display().to_string();
        let fixed = ["node", "--api", &api, "--insecure-no-token", "--data-dir", &dir, "--network", "test"];
        let args = fixed.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        NodeProcess::start_with(args, &api, Some(host.to_owned()))
    }
}

fn grape(host: &str, bootstrap: &str) -> Process {
    let args = ["grape", "--dp", "20001", "--aph", "30001", "--bn", bootstrap];
    Process::spawn_within(host, &args.map(str::to_owned))
}

const OPEN: [&str; 4] = ["--rpc", "0.0.0.0:1337", "--dht", "0.0.0.0:20011"];

async fn until(what: &str, node: &NodeProcess, is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let view = node.get("/node").await.unwrap_or_default();
        if is_so(&view) {
            return view;
        }
        assert!(started.elapsed() < LONG, "waited {LONG:?} in vain for {what}: {view:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn has(view: &Value, code: &str) -> bool {
    view["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["code"] == code))
}

fn neighbours(view: &Value) -> usize {
    view["replication"]["neighbours"].as_array().map_or(0, Vec::len)
}

fn advertised(view: &Value) -> Vec<String> {
    let mut all: Vec<String> = view["advertised"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|address| address.as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

/// A new offer of `maker` is on the lists of all these.
async fn offer_arrives(maker: &NodeProcess, key: &str, at: &[&NodeProcess]) {
    let body = json!({"btc_quantity": "1", "offer_price": "100"});
    let (status, offer) = maker.post("/offers", key, body).await.unwrap();
    assert_eq!(status, 201, "{offer}");
    let (id, started) = (offer["id"].as_str().unwrap(), Instant::now());
    for node in at {
        while !node.lists(id).await {
            assert!(started.elapsed() < LONG, "the offer of {} does not come to {}", maker.api, node.api);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[test]
fn a_test_that_cannot_have_namespaces_fails_unless_it_is_left_out_on_purpose_and_never_in_ci() {
    let told = forbidden("reach::one", "unshare failed: Operation not permitted");
    let sysctls = [
        "kernel.apparmor_restrict_unprivileged_userns",
        "kernel.unprivileged_userns_clone",
        "user.max_user_namespaces",
    ];
    for part in sysctls.iter().chain(&["reach::one", "not permitted", "VINTNER_WITHOUT_NAMESPACES=1"]) {
        assert!(told.contains(part), "{told}");
    }
    for (set, ci) in [("", ""), ("0", ""), ("", "true"), ("0", "true")] {
        assert_eq!(without("reach::one", set, ci), Ok(None), "{set:?} {ci:?}");
    }
    for ci in ["", "0", "false"] {
        assert!(without("reach::one", "1", ci).unwrap().unwrap().contains("reach::one"), "{ci:?}");
    }
    for (set, ci) in [("1", "true"), ("1", "1"), ("yes", "")] {
        assert!(without("reach::one", set, ci).is_err(), "{set:?} {ci:?}");
    }
}

#[test]
fn a_node_in_two_networks_is_found_in_both() {
    within("reach::a_node_in_two_networks_is_found_in_both", two_networks);
}

async fn two_networks(hosts: Hosts) {
    for network in ["neta", "netb"] {
        hosts.network(network);
    }
    for host in ["both", "a1", "b1", "b2"] {
        hosts.host(host);
    }
    hosts.plug("both", "neta", "10.1.0.1", 24);
    hosts.plug("both", "netb", "10.2.0.1", 24);
    hosts.plug("a1", "neta", "10.1.0.2", 24);
    hosts.plug("b1", "netb", "10.2.0.2", 24);
    hosts.plug("b2", "netb", "10.2.0.3", 24);
    let (_a, _b) = (grape("a1", ""), grape("b1", ""));
    let nodes = Nodes::new();
    let start = |host, address, bootstrap| {
        nodes.start(host, address, &[&OPEN[..], &["--allow-private", "--bootstrap", bootstrap]].concat())
    };
    let a1 = start("a1", "10.1.0.2", "10.1.0.2:20001");
    let b1 = start("b1", "10.2.0.2", "10.2.0.2:20001");
    let b2 = start("b2", "10.2.0.3", "10.2.0.2:20001");
    let mut both = start("both", "10.1.0.1", "10.1.0.2:20001,10.2.0.2:20001");
    for round in 0..2 {
        for (node, wanted) in [(&both, 3), (&a1, 1), (&b1, 1), (&b2, 1)] {
            until("neighbours", node, |view| neighbours(view) >= wanted).await;
        }
        let told = until("both addresses", &both, |view| advertised(view).len() == 2).await;
        assert_eq!(advertised(&told), ["10.1.0.1:1337", "10.2.0.1:1337"]);
        let all = [&both, &a1, &b1, &b2];
        offer_arrives(&a1, &format!("a{round}"), &all).await;
        offer_arrives(&b2, &format!("b{round}"), &all).await;
        if round == 0 {
            both.process.kill_9();
            both.restart();
        }
    }
}

#[test]
fn a_node_that_nobody_reaches_says_so_until_somebody_does() {
    within("reach::a_node_that_nobody_reaches_says_so_until_somebody_does", nobody_gets_through);
}

/// As behind an address translation that forwards nothing: what the node sends from its RPC port goes nowhere.
async fn nobody_gets_through(hosts: Hosts) {
    hosts.network("net");
    for (host, address) in [("inside", "51.0.1.1"), ("one", "52.0.1.1"), ("two", "53.0.1.1")] {
        hosts.host(host);
        hosts.plug(host, "net", address, 0);
    }
    let closed = "ipproto tcp sport 1337 blackhole";
    hosts.ip("inside", &format!("rule add {closed}"));
    let _grape = grape("one", "");
    let nodes = Nodes::new();
    let start =
        |host, address| nodes.start(host, address, &[&OPEN[..], &["--bootstrap", "52.0.1.1:20001"]].concat());
    let (one, two) = (start("one", "52.0.1.1"), start("two", "53.0.1.1"));
    let inside = start("inside", "51.0.1.1");
    for (node, address) in [(&one, "52.0.1.1:1337"), (&two, "53.0.1.1:1337")] {
        let view = until("its address", node, |view| !advertised(view).is_empty()).await;
        assert_eq!(advertised(&view), [address]);
    }
    let view = until("nobody to get through", &inside, |view| has(view, "unreachable")).await;
    assert!(
        advertised(&view).is_empty() && view["ready"] == true,
        "an address was believed untried: {view:#}"
    );
    let reason =
        view["reasons"].as_array().unwrap().iter().find(|reason| reason["code"] == "unreachable").unwrap();
    assert_eq!(reason["level"], "warn");
    assert!(reason["detail"].as_str().unwrap().contains("51.0.1.1:1337"), "{reason}");
    for node in [&one, &two] {
        let view = node.get("/node").await.unwrap();
        assert!(!has(&view, "unreachable"), "{view:#}");
    }
    hosts.ip("inside", &format!("rule del {closed}"));
    let view = until("somebody to get through", &inside, |view| {
        !has(view, "unreachable") && !advertised(view).is_empty()
    });
    assert_eq!(advertised(&view.await), ["51.0.1.1:1337"]);
}

#[test]
fn others_whose_connections_are_reset_leave_a_node_ready_and_not_synced() {
    within("reach::others_whose_connections_are_reset_leave_a_node_ready_and_not_synced", resets);
}

/// As behind a firewall that lets UDP pass and resets every TCP connection to the other: beside each node, a host that has the other's
/// address and listens nowhere takes what is sent there.
async fn resets(hosts: Hosts) {
    for network in ["left", "right", "net"] {
        hosts.network(network);
    }
    for host in ["one", "two", "wall1", "wall2"] {
        hosts.host(host);
    }
    hosts.plug("wall1", "left", "10.61.0.1", 24);
    hosts.plug("one", "left", "10.61.0.2", 24);
    hosts.plug("wall2", "right", "10.62.0.1", 24);
    hosts.plug("two", "right", "10.62.0.2", 24);
    hosts.plug("one", "net", "52.0.1.1", 0);
    hosts.plug("two", "net", "53.0.1.1", 0);
    let sides = [("one", "in1", "wall1", "in0", "53.0.1.1"), ("two", "in3", "wall2", "in2", "52.0.1.1")];
    for (host, link, wall, wall_link, other) in sides {
        hosts.ip(wall, &format!("route add default dev {wall_link}"));
        hosts.ip(wall, &format!("addr add {other}/32 dev {wall_link}"));
        hosts.ip(host, &format!("route add {other}/32 dev {link} table 7"));
    }
    let _grape = grape("one", "");
    let nodes = Nodes::new();
    let start =
        |host, address| nodes.start(host, address, &[&OPEN[..], &["--bootstrap", "52.0.1.1:20001"]].concat());
    let (one, two) = (start("one", "52.0.1.1"), start("two", "53.0.1.1"));
    let is_beside = |view: &Value| neighbours(view) == 1 && view["replication"]["synced"] == true;
    for node in [&one, &two] {
        until("the other", node, is_beside).await;
    }
    for (host, .., other) in sides {
        hosts.ip(host, &format!("rule add to {other} ipproto tcp lookup 7"));
    }
    for (node, other) in [(&one, "53.0.1.1:1337"), (&two, "52.0.1.1:1337")] {
        let view = until("the other to be missed", node, |view| has(view, "none_reachable")).await;
        assert_eq!((&view["ready"], &view["replication"]["synced"]), (&json!(true), &json!(false)));
        let view = until("the reset to be told", node, |view| {
            let reason =
                view["reasons"].as_array().into_iter().flatten().find(|r| r["code"] == "none_reachable");
            let detail = reason.and_then(|reason| reason["detail"].as_str()).unwrap_or_default();
            detail.contains(other) && detail.contains("refused")
        });
        assert!(!has(&view.await, "no_dht_node"));
    }
    for (host, .., other) in sides {
        hosts.ip(host, &format!("rule del to {other} ipproto tcp lookup 7"));
    }
    for node in [&one, &two] {
        let view = until("the other again", node, is_beside).await;
        assert!(!has(&view, "none_reachable"), "{view:#}");
    }
}

#[test]
fn nodes_at_private_addresses_that_are_not_allowed_are_named() {
    within("reach::nodes_at_private_addresses_that_are_not_allowed_are_named", not_allowed);
}

async fn not_allowed(hosts: Hosts) {
    hosts.network("lan");
    for (host, address) in [("one", "10.9.0.1"), ("two", "10.9.0.2"), ("three", "10.9.0.3")] {
        hosts.host(host);
        hosts.plug(host, "lan", address, 24);
    }
    // The bootstrap node has a name, and its address the form of an IPv6 one.
    hosts.name("::ffff:10.9.0.1", "first-grape");
    let (_first, _second) = (grape("one", ""), grape("two", "[::ffff:10.9.0.1]:20001"));
    let nodes = Nodes::new();
    let start = |host, address, more: &[&str]| {
        nodes.start(host, address, &[&OPEN[..], &["--bootstrap", "first-grape:20001"], more].concat())
    };
    let one = start("one", "10.9.0.1", &["--allow-private"]);
    let two = start("two", "10.9.0.2", &["--allow-private"]);
    for node in [&one, &two] {
        until("a neighbour", node, |view| neighbours(view) == 1).await;
    }
    let three = start("three", "10.9.0.3", &[]);
    let view = until("the others to be named", &three, |view| has(view, "private_addresses")).await;
    let reasons = view["reasons"].as_array().unwrap();
    let reason = reasons.iter().find(|reason| reason["code"] == "private_addresses").unwrap();
    let detail = reason["detail"].as_str().unwrap();
    assert!(detail.starts_with("2 nodes were found at private addresses"), "{reason}");
    assert!(reason["advice"].as_str().unwrap().contains("--allow-private") && reason["level"] == "sync");
    assert_eq!(view["replication"]["synced"], false);
    // Nobody signed that they are of this network: the owner's word counts.
    let (exit, _, err) = run(&["node", "confirm-alone", "--api", three.url()]);
    assert_eq!(exit, 0, "{err}");
    until("the owner to be believed", &three, |view| {
        !has(view, "private_addresses") && view["replication"]["synced"] == true
    })
    .await;
    drop(three);
    let three = start("three", "10.9.0.3", &["--allow-private"]);
    let view = until("a neighbour", &three, |view| neighbours(view) > 0).await;
    assert!(!has(&view, "private_addresses"), "{view:#}");
}

#[test]
fn on_the_public_network_rpc_is_open_and_loopback_is_nobodys_business() {
    within("reach::on_the_public_network_rpc_is_open_and_loopback_is_nobodys_business", public_network);
}

async fn public_network(hosts: Hosts) {
    hosts.network("net");
    for (host, address) in [("one", "52.0.1.1"), ("two", "53.0.1.1"), ("shut", "54.0.1.1")] {
        hosts.host(host);
        hosts.plug(host, "net", address, 0);
    }
    let _grape = grape("one", "");
    let nodes = Nodes::new();
    let start = |host, address, more: &[&str]| {
        nodes.start(host, address, &[&["--mainline", "--bootstrap", "52.0.1.1:20001"], more].concat())
    };
    let (one, two) = (start("one", "52.0.1.1", &[]), start("two", "53.0.1.1", &[]));
    let shut = start("shut", "54.0.1.1", &["--rpc", "127.0.0.1:1337"]);
    for (node, address) in [(&one, "52.0.1.1:1337"), (&two, "53.0.1.1:1337")] {
        let view = until("its address", node, |view| !advertised(view).is_empty()).await;
        assert_eq!((advertised(&view), &view["rpc"]), (vec![address.to_owned()], &json!("0.0.0.0:1337")));
    }
    let view = until("a word of it", &shut, |view| has(view, "unreachable")).await;
    assert!(advertised(&view).is_empty(), "{view:#}");
    until("a neighbour", &shut, |view| neighbours(view) > 0).await;
    // Nothing that they tell of themselves or keep of anybody names loopback.
    for node in [&one, &two, &shut] {
        let view = node.get("/node").await.unwrap();
        assert!(advertised(&view).iter().all(|address| !address.starts_with("127.")), "{view:#}");
    }
    let is_kept = |ip: [u8; 4]| {
        let address = [&[4], &ip[..], &1337_u16.to_be_bytes()].concat();
        // What was written since the last checkpoint is in the log.
        ["one/vintner.db", "one/vintner.db-wal"].iter().any(|file| {
            let bytes = fs::read(nodes.dirs.path().join(file)).unwrap();
            bytes.windows(address.len()).any(|found| found == address)
        })
    };
    // The same search finds what is there.
    let since = Instant::now();
    while !is_kept([53, 0, 1, 1]) {
        assert!(since.elapsed() < PATIENCE, "no head that is kept names 53.0.1.1:1337");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!is_kept([127, 0, 0, 1]), "a head names 127.0.0.1:1337");
}
