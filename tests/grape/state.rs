//! `--data-dir`: a grape that is killed knows again what it knew.

use crate::{
    ports::free_port,
    support::{Grape, Process, eventually, grape},
};
use serde_json::json;
use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of the first vector of BEP44.
const MUTABLE: &str = r#"{"v":"Hello World!","seq":1,
    "k":"77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548",
    "sig":"305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"}"#;

async fn start(dir: &Path, port: u16) -> Grape {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vintner"));
    command.args(["grape", "-b", "127.0.0.1", "--aph", "0", "--bn", "", "--dp", &port.to_string()]);
    command.arg("--data-dir").arg(dir).stderr(std::process::Stdio::null());
    let mut process = Process::start("vintner grape", &mut command);
    let line = process.line().await;
    let http: SocketAddr = line.rsplit_once("http://").unwrap().1.parse().unwrap();
    Grape { process, dht: port, http }
}

/// Whether all of these stand in the logs of a directory.
fn written(dir: &Path, texts: &[&str]) -> bool {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let bytes: Vec<u8> = logs.flat_map(|path| fs::read(path).unwrap()).collect();
    texts.iter().all(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[tokio::test]
async fn a_grape_that_was_killed_answers_again_at_once_and_by_itself() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let ours = start(dir.path(), port).await;
    // It is alone, so nobody else takes note, and nobody else could answer later.
    assert_eq!(
        grape(ours.http, "announce", json!(["rest:util:net", 1337])).await.body,
        r#""No nodes to query""#
    );
    for value in [json!({"v": "hello world"}), serde_json::from_str(MUTABLE).unwrap()] {
        assert_eq!(grape(ours.http, "put", value).await.body, r#""No nodes to query""#);
    }
    let hello = json!("6d33adc2b6b2c14c3036feefb7fedbca1a880527");
    let before = grape(ours.http, "get", hello.clone()).await.json();
    let started = Instant::now();
    while !written(dir.path(), &["rest:util:net", "hello world", "Hello World!"]) {
        assert!(started.elapsed() < PATIENCE, "nothing was written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Dropped is killed: no handler runs, nothing is flushed.
    drop(ours.process);

    let ours = eventually_started(dir.path(), port).await;
    assert_eq!(
        grape(ours.http, "get", hello.clone()).await.json(),
        before,
        "the value, from the same node id"
    );
    let mutable = grape(ours.http, "get", json!("4a533d47ec9c7d95b1ad75f576cffc641853b750")).await.json();
    assert_eq!((&mutable["v"], &mutable["seq"]), (&json!("Hello World!"), &json!(1)));
    assert_eq!(grape(ours.http, "lookup", json!("rest:util:net")).await.json(), json!(["127.0.0.1:1337"]));
    assert!(ours.process.terminate().await.success());

    let ours = start(dir.path(), free_port()).await;
    let elsewhere = grape(ours.http, "get", hello).await.json();
    assert_eq!(elsewhere["v"], before["v"]);
    assert_ne!(elsewhere["id"], before["id"], "an id belongs to its address");
}

/// The lock goes with the process, a moment after it was killed.
async fn eventually_started(dir: &Path, port: u16) -> Grape {
    let started = Instant::now();
    while UdpSocket::bind(("0.0.0.0", port)).is_err() {
        assert!(started.elapsed() < PATIENCE, "the killed grape still has its port");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start(dir, port).await
}

#[tokio::test]
async fn others_find_a_restarted_grape_and_it_finds_them_without_a_bootstrap_node() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let other = crate::support::vintner_grape(&[], &[]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_vintner"));
    command.args([
        "grape",
        "--aph",
        "0",
        "--bn",
        &other.bootstrap(),
        "--dp",
        &port.to_string(),
        "--data-dir",
    ]);
    let mut process = Process::start("vintner grape", command.arg(dir.path()));
    process.line().await;
    assert!(process.terminate().await.success());
    let ours = start(dir.path(), port).await;
    eventually(ours.http, "announce", json!(["name", 7]), |answer| answer.json() == json!(1)).await;
    assert_eq!(grape(other.http, "lookup", json!("name")).await.json(), json!(["127.0.0.1:7"]));
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_a_damaged_one_is_not() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let ours = start(dir.path(), port).await;
    let mut second = Command::new(env!("CARGO_BIN_EXE_vintner"));
    second.args(["grape", "--aph", "0", "--dp", "0", "--bn", "", "--data-dir"]).arg(dir.path());
    let output = second.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(5) && said.contains("is in use by process") && said.contains("\nnext: "),
        "{said}"
    );
    assert!(ours.process.terminate().await.success());

    for name in ["node", "state-0000000001.log", "state-nonsense.log"] {
        fs::write(dir.path().join(name), [0xf5; 3000]).unwrap();
    }
    let ours = start(dir.path(), port).await;
    let answer = crate::support::exchange(ours.http, "GET /metrics HTTP/1.1", "").await.body;
    assert!(answer.contains("vintner_grape_state_lost_bytes_total 3000"), "{answer}");
    assert!(ours.process.terminate().await.success());
}
