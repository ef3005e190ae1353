//! Where a grape's settings come from, and what `--status` shows.

use crate::{
    ports::free_port,
    support::{grape, stock, vintner_grape},
};
use serde_json::{Value, json};
use std::{fs, process::Output};
use tokio::process::Command;

async fn vintner(environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vintner"));
    command.arg("grape").args(arguments).envs(environment.iter().copied());
    command.output().await.unwrap()
}
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn flags_stand_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grape.toml");
    fs::write(
        &file,
        "dht_port = 1\napi_port = 1\nbootstrap = ['file:1']\ndht_maxValues = 77\ndata_dir = 'd'\n",
    )
    .unwrap();
    let environment = [
        ("VINTNER_GRAPE_CONFIG", file.to_str().unwrap()),
        ("VINTNER_GRAPE_API_PORT", "2"),
        ("VINTNER_GRAPE_DHT_PORT", "2"),
        ("VINTNER_GRAPE_BOOTSTRAP", ""),
        ("VINTNER_GRAPE_EVENTS", "true"),
    ];
    let (code, out, err) = said(&vintner(&environment, &["--dp", "3", "--print-config"]).await);
    assert_eq!(code, Some(0), "{err}");
    for line in [
        "dht_port = 3",
        "api_port = 2",
        "bootstrap = []",
        "dht_maxValues = 77",
        "data_dir = \"d\"",
        "events = true",
    ] {
        assert!(out.lines().any(|found| found == line), "{line} is not in {out}");
    }
    fs::write(dir.path().join("again.toml"), &out).unwrap();
    let again = dir.path().join("again.toml");
    assert_eq!(said(&vintner(&[], &["--config", again.to_str().unwrap(), "--print-config"]).await).1, out);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_wrong_usage_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grape.toml");
    fs::write(&file, "dht_prot = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, text) in [
        (
            &["--dp", "1", "--aph", "2"][..],
            "missing required settings: --bn (VINTNER_GRAPE_BOOTSTRAP, or bootstrap in the file)",
        ),
        (&["--config", file], "dht_prot"),
        (&["--config", "/nonexistent"], "cannot read the settings in /nonexistent"),
    ] {
        let (code, _, err) = said(&vintner(&[], arguments).await);
        assert!(
            code == Some(2) && err.contains(text) && err.contains("\nnext: "),
            "{arguments:?}: {code:?} {err}"
        );
    }
}

#[tokio::test]
async fn a_start_script_for_the_stock_command_runs() {
    let script = "-b 127.0.0.1 --dc 32 --dht_maxTables 5000 --dht_maxValues 5000 --dht_peer_maxAge 120000 \
                  --cache_maxAge 60000 --dnl 300000 --check_maxPayloadSize 8192";
    let ours = vintner_grape(&[], &script.split_whitespace().collect::<Vec<_>>()).await;
    assert_eq!(grape(ours.http, "lookup", json!("name")).await.body, "[]");
}

/// Statement 44: what starts a stock grape although it makes no sense starts ours, and is told.
#[tokio::test]
async fn odd_start_scripts_start_a_grape_and_are_told_what_was_made_of_them() {
    for (line, used, told) in [
        (&["-b", "", "--dp", "1", "--aph", "2", "--bn", ""][..], &["dht_port = 1"][..], &[][..]),
        (
            &["--dp", "1", "--aph", "2", "--bn"],
            &["bootstrap = []"],
            &["--bn has no value: this grape joins nobody"],
        ),
        (&["--bn", "--dp", "1", "--aph", "2"], &["bootstrap = []"], &["--bn has no value"]),
        (
            &["--dp", "1", "--dp", "3", "--aph", "2", "--bn", ""],
            &["dht_port = 3"],
            &["--dp is given more than once"],
        ),
        (
            &["start", "--dp", "1", "--aph", "2", "--bn", "", "now"],
            &[],
            &["`start` belongs to no", "`now` belongs to no"],
        ),
        (
            &["--no-x", "--dp", "1", "--aph", "2", "--bn", "", "--verbose", "-v"],
            &[],
            &["--no-x is no flag", "-v is no flag"],
        ),
        (
            &["--dp", "20001.0", "--aph", "0x4e21", "--bn", "", "--dpa", "1e5"],
            &["dht_port = 20001", "api_port = 20001", "dht_peer_maxAge = 100000"],
            &[],
        ),
        (
            &[
                "--dp",
                "1",
                "--aph",
                "2",
                "--bn",
                "",
                "--dnl",
                "0",
                "--dht_maxValues",
                "0",
                "--check_maxPayloadSize",
                "0",
            ],
            &["dht_nodeLiveness = 300000", "dht_maxValues = 5000", "check_maxPayloadSize = 8192"],
            &[
                "--dht_nodeLiveness 0 makes no sense",
                "--dht_maxValues 0 makes no sense",
                "--check_maxPayloadSize 0 makes no sense",
            ],
        ),
        (
            &[
                "--dp",
                "1",
                "--aph",
                "2",
                "--bn",
                "",
                "--dht_maxValues",
                "1e9",
                "--check_maxPayloadSize",
                "1e12",
            ],
            &["dht_maxValues = 1000000", "check_maxPayloadSize = 16777216"],
            &["--dht_maxValues 1000000000 is more", "--check_maxPayloadSize 1000000000000 is more"],
        ),
    ] {
        let (code, out, err) = said(&vintner(&[], &[line, &["--print-config"]].concat()).await);
        assert_eq!(code, Some(0), "{line:?}: {err}");
        for setting in used {
            assert!(out.lines().any(|found| found == *setting), "{line:?}: {setting} is not in {out}");
        }
        for warning in told {
            assert!(err.contains(warning), "{line:?}: {warning} is not in {err}");
        }
        assert!(!told.is_empty() || err.is_empty(), "{line:?}: {err}");
    }
    // It starts indeed, and logs them.
    let ours = vintner_grape(&[], &["-b", "", "--dnl", "0", "--no-x", "more"]).await;
    assert_eq!(grape(ours.http, "lookup", json!("name")).await.body, "[]");
}

#[tokio::test]
async fn the_status_of_a_running_grape_is_shown_to_people_and_programs() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let ours = vintner_grape(&[], &["--data-dir", place]).await;
    grape(ours.http, "lookup", json!("name")).await;
    let port = ours.http.port().to_string();
    let (code, out, err) = said(&vintner(&[], &["--status", "--aph", &port]).await);
    assert_eq!(code, Some(0), "{err}");
    let rows: Vec<String> =
        out.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in [
        &format!("grape {}", ours.url())[..],
        "dht joined 1",
        "grape requests, operation lookup, status 2xx 1",
    ] {
        assert!(rows.iter().any(|found| found == row), "{row} is not in\n{out}");
    }
    assert!(out.contains("on average") && !out.contains("node id"), "{out}");

    let (_, out, err) = said(&vintner(&[], &["--status", "--json", "--data-dir", place]).await);
    let status: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
    assert_eq!(status["http"].as_str(), Some(&*ours.http.to_string()));
    assert_eq!(status["node_id"].as_str().unwrap().len(), 40);
    // Whatever stands on the page is shown: as many samples as it has lines.
    let page = crate::support::exchange(ours.http, "GET /metrics HTTP/1.1", "").await.body;
    let lines = page.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(status["metrics"].as_array().unwrap().len(), lines);
}

#[tokio::test]
async fn where_no_grape_of_ours_answers_the_status_says_so() {
    let free = free_port().to_string();
    let empty = tempfile::tempdir().unwrap();
    let mut theirs = stock("grape.js", &[&json!({"bootstrap": [], "verify": true}).to_string()]);
    let theirs_http = theirs.event("ready").await["http"].to_string();
    for (arguments, text) in [
        (&["--status", "--aph", &*free][..], "no grape answers at 127.0.0.1"),
        (
            &["--status", "--data-dir", empty.path().to_str().unwrap()],
            "does not say where a grape's HTTP API is",
        ),
        (&["--status", "--aph", &*theirs_http], "a stock grape has no status"),
    ] {
        let (code, _, err) = said(&vintner(&[], arguments).await);
        assert!(code == Some(1) && err.contains(text) && err.contains("\nnext: "), "{arguments:?}: {err}");
    }
}
