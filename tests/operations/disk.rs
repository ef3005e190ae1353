//! A disk that fills up under a node, and the key's file that goes away.

use super::{
    run,
    testnet::{
        hosts,
        process::{NodeProcess, Process, grape},
        until,
    },
};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// Writes until there is no room. `dir` as the node sees it.
fn fill(node: &NodeProcess, dir: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", node.process.id()));
    let path = root.join(dir.strip_prefix("/").unwrap()).join("fill");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

/// What a supervisor is told.
fn health(node: &NodeProcess) -> (i32, String) {
    let (code, _, err) = run(&["healthcheck", "--api", node.url().trim_start_matches("http://")]);
    (code, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_before_a_create_fails_and_is_over_when_there_is_room() {
    const NAME: &str = "disk::a_full_disk_is_told_before_a_create_fails_and_is_over_when_there_is_room";
    if hosts::is_left_out(NAME) {
        return;
    }
    hosts::must_be_allowed(NAME, &[Process::disk_flag()]);
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let data = fs::canonicalize(dirs.path()).unwrap().join("data");
    fs::create_dir(&data).unwrap();
    let (args, api) = NodeProcess::arguments(&data, &bootstrap);
    let process = Process::spawn_on_disk(&args, &data, 8);
    let node = NodeProcess::of(process, args, &api, None);
    node.ready().await;
    let body = || json!({"btc_quantity": "1", "offer_price": "100"});
    assert_eq!(node.post("/offers", "before", body()).await.unwrap().0, 201);
    for round in 0..2 {
        let filled = fill(&node, &data);
        until("the full disk to be told", || async {
            let (code, told) = health(&node);
            code == 1 && told.contains("the disk of the data directory is full")
        })
        .await;
        // The log has room for some; then each is refused and none is lost.
        let mut made = Vec::new();
        for n in 0.. {
            let (status, answer) = node.post("/offers", &format!("{round}-{n}"), body()).await.unwrap();
            match status {
                201 => made.push(answer["id"].as_str().unwrap().to_owned()),
                507 => break,
                other => panic!("{other}: {answer}"),
            }
            assert!(n < 5_000, "there must be an end");
        }
        assert_eq!(health(&node).0, 1);
        fs::remove_file(filled).unwrap();
        until("the node to be ready again", || async { health(&node).0 == 0 }).await;
        assert_eq!(node.post("/offers", &format!("after {round}"), body()).await.unwrap().0, 201);
        for id in made.iter().step_by(50) {
            assert_eq!(node.get(&format!("/offers/{id}")).await.unwrap()["status"], "open");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_gone_is_told_until_it_is_back() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let node = NodeProcess::start(dirs.path(), &bootstrap);
    node.ready().await;
    let key = dirs.path().join("master.key");
    let tells = async || {
        let reasons = node.get("/node").await.unwrap()["reasons"].clone();
        reasons.as_array().unwrap().iter().any(|reason| reason["code"] == "key_file")
    };
    assert!(!tells().await);
    fs::rename(&key, dirs.path().join("kept")).unwrap();
    until("the missing key to be told", &tells).await;
    assert_eq!(health(&node).0, 0, "a restart would be the end of it");
    assert!(!key.exists(), "none is made in its place");
    fs::rename(dirs.path().join("kept"), &key).unwrap();
    until("the key to be back", async || !tells().await).await;
}
