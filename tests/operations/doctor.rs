//! `vintner doctor` finds what Done means names, and passes where nothing is wrong.

use super::{
    said,
    testnet::{
        free_port,
        process::{NodeProcess, grape, vintner},
        until,
    },
};
use serde_json::Value;
use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// The exit code and the checks, by name.
struct Findings(i32, Vec<Value>);

impl Findings {
    fn of(settings: &[String], more: &[&str]) -> Self {
        let mut args = vec!["doctor".to_owned(), "--json".to_owned()];
        args.extend_from_slice(settings);
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        let (code, out, err) = said(vintner(&args).output().unwrap());
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
        assert_eq!(report["ok"], code == 0, "{report}");
        Self(code, report["checks"].as_array().unwrap().clone())
    }

    /// Level, what was found, what to do.
    fn check(&self, name: &str) -> (String, String, String) {
        let found = self.1.iter().find(|check| check["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no check {name:?} in {:?}", self.1));
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("level"), text("detail"), text("next"))
    }

    fn level(&self, name: &str) -> String {
        self.check(name).0
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self.1.iter().filter(|check| check["level"] == "failed");
        failed.map(|check| check["name"].as_str().unwrap()).collect()
    }
}

/// Settings of a node that does not run.
fn settings(dir: &Path, bootstrap: &str) -> Vec<String> {
    let port = || free_port().to_string();
    let local = |port: String| format!("127.0.0.1:{port}");
    [
        "--api",
        &local(port()),
        "--rpc",
        &local(port()),
        "--dht",
        &local(port()),
        "--bootstrap",
        bootstrap,
        "--data-dir",
        dir.to_str().unwrap(),
        "--network",
        "test",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_node_passes_running_and_stopped_and_a_clock_five_minutes_off_is_found() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let mut node = NodeProcess::start(&dirs.path().join("one"), &bootstrap);
    let other = NodeProcess::start(&dirs.path().join("two"), &bootstrap);
    for node in [&node, &other] {
        node.ready().await;
        until("the nodes to meet without an offer", || async {
            node.get("/node").await.is_some_and(|view| !view["peers"].as_array().unwrap().is_empty())
        })
        .await;
    }
    let names =
        ["data directory", "key file", "store", "token file", "node", "API port", "RPC port", "DHT port"];
    let well = |findings: &Findings| {
        assert_eq!((findings.0, findings.failed()), (0, vec![]), "{:?}", findings.1);
        for name in names.iter().chain(&["bootstrap", "DHT", "clock"]) {
            assert_eq!(findings.level(name), "ok", "{:?}", findings.1);
        }
    };
    let running = Findings::of(node.settings(), &[]);
    well(&running);
    assert!(running.check("RPC port").1.contains("signed hello"), "{:?}", running.1);
    // Of a running node, its directory and its API are enough to find it.
    let found = Findings::of(
        &[],
        &["--data-dir", &node.settings()[9], "--api", node.url().trim_start_matches("http://")],
    );
    assert!(found.check("node").1.contains("is ready") && found.level("clock") == "ok", "{:?}", found.1);

    let off = Findings::of(node.settings(), &["--clock-ahead", "5m"]);
    let (level, detail, next) = off.check("clock");
    assert_eq!((off.0, level.as_str(), off.failed()), (1, "failed", vec!["clock"]), "{:?}", off.1);
    assert!(detail.contains("ahead of 1 other node") && next.contains("timedatectl"), "{detail}; {next}");
    assert!(detail.contains("5 min 0 s") || detail.contains("4 min 59 s"), "{detail}");

    assert!(node.process.terminate().0.success());
    let stopped = Findings::of(node.settings(), &[]);
    well(&stopped);
    assert_eq!(stopped.check("node").1, "does not run");
    assert!(stopped.check("API port").1.contains("is free"), "{:?}", stopped.1);
    let off = Findings::of(node.settings(), &["--clock-ahead", "5m"]);
    assert_eq!((off.0, off.failed()), (1, vec!["clock"]), "{:?}", off.1);
    // It took nothing and left nothing: the node starts as before.
    node.restart();
    node.ready().await;
}

#[test]
fn a_key_file_that_others_can_read_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("master.key");
    fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let settings = settings(dir.path(), "");
    let found = Findings::of(&settings, &[]);
    let (_, detail, next) = found.check("key file");
    assert_eq!((found.0, found.failed()), (1, vec!["key file"]), "{:?}", found.1);
    assert!(
        detail.contains("644") && next.contains(&format!("chmod 600 {}", key.display())),
        "{detail}; {next}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // It has had a store, for all that anybody knows.
    let found = Findings::of(&settings, &[]);
    assert_eq!(found.failed(), ["store"], "{:?}", found.1);
    assert!(found.check("store").2.contains("--new-store"), "{:?}", found.1);
    fs::write(dir.path().join("master.key.unused"), "").unwrap();
    assert_eq!(Findings::of(&settings, &[]).failed(), [""; 0]);
    // For people: one line a check.
    let mut args = vec!["doctor".to_owned()];
    args.extend(settings);
    let (code, out, _) = said(vintner(&args).output().unwrap());
    assert_eq!(code, 0, "{out}");
    assert!(out.lines().all(|line| ["ok  ", "warning  "].iter().any(|word| line.starts_with(word))), "{out}");
}

#[test]
fn a_taken_port_is_found_with_the_flag_that_chooses_another() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp_at) = (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    let _held = TcpListener::bind(&tcp);
    for (name, flag, address) in
        [("API port", "--api", &tcp), ("RPC port", "--rpc", &tcp), ("DHT port", "--dht", &udp_at)]
    {
        let listener = TcpListener::bind(&tcp).ok();
        let mut settings = settings(dir.path(), "");
        let at = settings.iter().position(|arg| arg == flag).unwrap();
        settings[at + 1].clone_from(address);
        let found = Findings::of(&settings, &[]);
        let (_, detail, next) = found.check(name);
        assert_eq!((found.0, found.failed()), (1, vec![name]), "{:?}", found.1);
        assert!(detail.contains(address.as_str()) && next.contains(flag), "{detail}; {next}");
        drop(listener);
    }
}

#[test]
fn no_reachable_grape_and_a_name_that_means_nothing_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let found = Findings::of(&settings(dir.path(), &nobody), &[]);
    let (_, detail, next) = found.check("DHT");
    assert_eq!((found.0, found.failed()), (1, vec!["DHT"]), "{:?}", found.1);
    assert!(detail.contains("no grape is reachable") && detail.contains(&nobody), "{detail}");
    assert!(next.contains("UDP"), "{next}");
    assert_eq!(found.level("clock"), "warning");
    let found = Findings::of(&settings(dir.path(), "no-such-host.invalid:20001"), &[]);
    assert_eq!(found.failed(), ["bootstrap", "DHT"], "{:?}", found.1);
    assert!(!dir.path().join("master.key").exists(), "a doctor makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_on_the_ports_a_hidden_api_and_a_second_network_are_told_apart() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let mut node = NodeProcess::start(&dirs.path().join("one"), &bootstrap);
    node.ready().await;
    // The same ports, another directory.
    let mut elsewhere = node.settings().to_vec();
    elsewhere[9] = dirs.path().join("two").display().to_string();
    let found = Findings::of(&elsewhere, &[]);
    assert_eq!(found.failed(), ["API port", "RPC port", "DHT port"], "{:?}", found.1);
    assert!(found.check("API port").1.contains("by the vintner node whose data is in"), "{:?}", found.1);
    assert_eq!(found.level("DHT"), "ok", "{:?}", found.1);
    // The same directory, another API.
    let mut hidden = node.settings().to_vec();
    hidden[1] = format!("127.0.0.1:{}", free_port());
    let found = Findings::of(&hidden, &[]);
    assert!(found.failed().contains(&"node") && found.check("node").2.contains("--api"), "{:?}", found.1);
    node.process.terminate();
    let mut other = node.settings().to_vec();
    other[11] = "another".into();
    let found = Findings::of(&other, &[]);
    assert_eq!(found.failed(), ["store"], "{:?}", found.1);
    assert!(found.check("store").2.contains("--network test"), "{:?}", found.1);
}
