//! schemathesis sends whatever the description allows, and much that it does not: each answer must be one that is described, what fits
//! must be taken, what does not must be refused, and no answer may be the node's fault. All of its phases, with a token and without.
//!
//! One seed and few examples in `make test`; `VINTNER_SCHEMATHESIS_EXAMPLES` says how many (`make test-long`).

use crate::{
    devnet::{Devnet, Ports, VINTNER},
    ports::free_port,
    project, python_output,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SEED: &str = "1";
/// To withdraw an offer is to close it: what became of it can still be read. And what fits is taken, or refused for what a schema cannot
/// say: judge/vintner_checks.py has a check that knows these reasons in place of the one that knows none.
const NOT_CHECKED: &str = "use_after_free,positive_data_acceptance";
/// Of each operation and phase.
const EXAMPLES: u32 = 5;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_mins(1);

fn examples() -> u32 {
    match std::env::var("VINTNER_SCHEMATHESIS_EXAMPLES") {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("VINTNER_SCHEMATHESIS_EXAMPLES is no number: {text}"))
        }
        Err(_) => EXAMPLES,
    }
}

/// What schemathesis says of the API at this address, by this description, and whether it found anything.
fn judged(api: &str, description: &Path, arguments: &[&str]) -> (bool, String) {
    let config = project("tests/faces/judge/schemathesis.toml");
    let hooks = project("tests/faces/judge");
    let mut all = vec!["--config-file", config.to_str().unwrap(), "run", description.to_str().unwrap()];
    all.extend([
        "--url",
        api,
        "--checks",
        "all",
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--seed",
        SEED,
    ]);
    all.extend(["--exclude-checks", NOT_CHECKED]);
    all.extend(["--request-timeout", "30", "--suppress-health-check", "all"]);
    all.extend(arguments);
    let environment = [
        ("SCHEMATHESIS_HOOKS", "vintner_checks"),
        ("PYTHONPATH", hooks.to_str().unwrap()),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let output = python_output("schemathesis", &all, &environment);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // It must have come to its end: with nothing found, or with something.
    assert!(matches!(output.status.code(), Some(0 | 1)) && said.contains("SUMMARY"), "{said}");
    (output.status.success(), said)
}

fn description(dir: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = fs::read_to_string(project("openapi/openapi.json")).unwrap();
    let mut description: Value = serde_json::from_str(&text).unwrap();
    change(&mut description);
    let file = dir.join("openapi.json");
    fs::write(&file, description.to_string()).unwrap();
    file
}

/// A node that wants a token.
struct Locked {
    child: Child,
    api: String,
}

impl Locked {
    fn start(dir: &Path) -> Self {
        use std::os::unix::fs::OpenOptionsExt;
        let token = dir.join("token");
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&token).unwrap();
        std::io::Write::write_all(&mut &file, TOKEN.as_bytes()).unwrap();
        let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let data = dir.join("locked");
        let child = Command::new(VINTNER)
            .args([
                "node",
                "--until-stdin-ends",
                "--api",
                &free.to_string(),
                "--rpc",
                "127.0.0.1:0",
                "--dht",
                "127.0.0.1:0",
            ])
            .args([
                "--bootstrap",
                "",
                "--data-dir",
                data.to_str().unwrap(),
                "--token-file",
                token.to_str().unwrap(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(free).is_err() {
            assert!(started.elapsed() < PATIENCE, "the node does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, api: format!("http://{free}") }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn schemathesis_finds_nothing_on_a_node_of_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::find();
    let devnet = Devnet::start(&dir.path().join("net"), ports);
    devnet.ready();
    // Something of others, so that there is something to bid on.
    for price in ["1", "64000"] {
        let create = ["offers", "create", "--quantity", "0.5", "--price", price, "--api", &ports.api(1)];
        assert!(Command::new(VINTNER).args(create).output().unwrap().status.success());
    }
    let description = description(dir.path(), |_| {});
    let (clean, said) = judged(&ports.api(0), &description, &["--max-examples", &examples().to_string()]);
    assert!(clean, "{said}");
}

#[test]
fn schemathesis_finds_nothing_on_a_node_that_wants_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let node = Locked::start(dir.path());
    let description = description(dir.path(), |_| {});
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let examples = examples().to_string();
    let (clean, said) = judged(&node.api, &description, &["--header", &bearer, "--max-examples", &examples]);
    assert!(clean, "{said}");
    // Without it, nothing but what is public is answered, and that is described as well.
    let (clean, said) = judged(&node.api, &description, &["--max-examples", "1"]);
    assert!(clean, "{said}");
}

#[test]
fn schemathesis_finds_planted_errors() {
    let dir = tempfile::tempdir().unwrap();
    let node = Locked::start(dir.path());
    let broken = description(dir.path(), |description| {
        description["components"]["schemas"]["NodeView"]["required"]
            .as_array_mut()
            .unwrap()
            .push(json!("colour"));
        let list = &mut description["paths"]["/api/v1/trades"]["get"]["parameters"];
        list.as_array_mut()
            .unwrap()
            .push(json!({"name": "colour", "in": "query", "required": true, "schema": {"enum": ["red"]}}));
    });
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let only = ["--include-operation-id", "show_node", "--include-operation-id", "list_trades"];
    let mut arguments = vec!["--header", &bearer, "--max-examples", "2"];
    arguments.extend(only);
    let (clean, said) = judged(&node.api, &broken, &arguments);
    assert!(
        !clean
            && said.contains("Response violates schema")
            && said.contains("what fits the description was refused"),
        "{said}"
    );
}
