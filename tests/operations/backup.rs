//! `vintner backup` of a running node, and what a node does that is started on the copy.

use super::{
    run,
    testnet::process::{NodeProcess, grape},
};
use serde_json::json;
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// As docs/operating.md says.
fn restore(copy: &Path, key: &Path, to: &Path) {
    DirBuilder::new().mode(0o700).create(to).unwrap();
    fs::copy(copy, to.join("vintner.db")).unwrap();
    fs::copy(key, to.join("master.key")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_node_restores_it_and_knows_when_it_is_old() {
    let dirs = tempfile::tempdir().unwrap();
    let (_grape, bootstrap) = grape();
    let (data, copy) = (dirs.path().join("data"), dirs.path().join("copy.db"));
    let mut node = NodeProcess::start(&data, &bootstrap);
    node.ready().await;
    let body = json!({"btc_quantity": "1", "offer_price": "100"});
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let (status, offer) = node.post("/offers", key, body.clone()).await.unwrap();
        assert_eq!(status, 201);
        ids.push(offer["id"].as_str().unwrap().to_owned());
    }
    let client_id = node.get("/node").await.unwrap()["client_id"].clone();
    let args = ["backup", "--data-dir", data.to_str().unwrap(), copy.to_str().unwrap()];
    let (code, out, err) = run(&args);
    assert!(code == 0 && out.contains("master.key"), "{out}{err}");
    assert!(out.contains(client_id.as_str().unwrap()), "{out}");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&copy).unwrap();
    let (code, _, err) = run(&args);
    assert!(code == 1 && err.contains("exists") && err.contains("\nnext: choose another name"), "{err}");
    assert_eq!(fs::read(&copy).unwrap(), before);

    // The first offer is withdrawn after the copy was made: the network knows it, the copy does not.
    let (code, _, err) = run(&["offers", "withdraw", &ids[0], "--api", node.url()]);
    assert_eq!(code, 0, "{err}");
    let offer = format!("/offers/{}", ids[0]);
    super::testnet::until("the withdrawal to be published", || async {
        node.get(&offer).await.is_some_and(|offer| offer["published"]["state"] == "published")
    })
    .await;
    assert!(node.process.terminate().0.success());

    let restored = dirs.path().join("restored");
    restore(&copy, &data.join("master.key"), &restored);
    let node = NodeProcess::start(&restored, &bootstrap);
    super::testnet::until("the restored node to find that it is old", || async {
        node.get("/node").await.is_some_and(|view| view["store"]["behind"] == true)
    })
    .await;
    assert_eq!(node.get("/node").await.unwrap()["client_id"], client_id);
    assert_eq!(node.get(&format!("/offers/{}", ids[1])).await.unwrap()["status"], "open");
    let (code, _, err) = run(&["offers", "create", "--quantity", "1", "--price", "1", "--api", node.url()]);
    assert!(code == 1 && err.contains("store_behind") && err.contains("vintner recover"), "{err}");
    let (code, out, err) = run(&["recover", "--api", node.url()]);
    assert!(code == 0 && out.contains("1 offers were taken over"), "{out}{err}");
    assert_ne!(node.get(&offer).await.unwrap()["status"], "open");
    assert_eq!(run(&["offers", "create", "--quantity", "1", "--price", "1", "--api", node.url()]).0, 0);
}

#[test]
fn what_cannot_be_copied_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    let (code, out, err) =
        run(&["backup", "--data-dir", dir.path().to_str().unwrap(), copy.to_str().unwrap()]);
    assert!(code == 1 && out.is_empty() && err.contains("\nnext: ") && err.contains("--data-dir"), "{err}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is made");
}

#[test]
fn without_a_store_where_one_is_expected_those_that_are_there_are_named() {
    let cwd = tempfile::tempdir().unwrap();
    let backup = || {
        let mut command = super::testnet::process::vintner(&["backup", "copy.db"]);
        super::said(command.current_dir(cwd.path()).output().unwrap())
    };
    let (code, _, err) = backup();
    assert!(
        code == 1 && err.contains(".vintner/node/vintner.db is not there") && err.contains("--data-dir"),
        "{err}"
    );
    for node in ["devnet/node-1", "devnet/node-2", "joined/devnet/node-1"] {
        let dir = cwd.path().join(".vintner").join(node);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("vintner.db"), "").unwrap();
    }
    let (code, _, err) = backup();
    let named =
        ".vintner/devnet/node-1, .vintner/devnet/node-2, .vintner/joined/devnet/node-1\nnext: name one";
    assert!(code == 1 && err.contains(named), "{err}");
}
