//! The node's faces as people and their programs meet them, judged by others' programs: the Postman collection, run by newman; Swagger
//! UI, in a real Chromium; clients that generators make of the description; a linter of it; schemathesis, which sends whatever the
//! description allows and much that it does not. Each against real processes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod clients;
#[path = "../support/devnet.rs"]
mod devnet;
mod linted;
#[path = "../support/ports.rs"]
mod ports;
mod postman;
mod schemathesis;
mod swagger;

use devnet::{Devnet, Ports};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where install.sh puts what comes from PyPI.
const VENV: &str = "tests/faces/.venv";

/// Fails with a sentence when something is not installed as its lock file says.
fn installed(marker: &str, lock: &str) {
    let same = fs::read(project(marker)).is_ok_and(|marker| marker == fs::read(project(lock)).unwrap());
    assert!(
        same,
        "what {lock} names is not installed: run tests/faces/install.sh (make test does it by itself)"
    );
}

fn output(command: &mut Command) -> Output {
    // What is asked here is on this machine, whatever the surroundings say.
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    // Nobody is told that a test runs here.
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    command.output().unwrap_or_else(|error| {
        panic!(
            "{command:?} cannot be started ({error}): run tests/faces/install.sh, which says what is missing"
        )
    })
}

/// What it printed; all that it said stands in the error when it fails.
fn succeeded(what: &str, output: Output) -> String {
    let Output { status, stdout, stderr } = output;
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{what} ended with {status}\n{said}\n{complained}");
    said.into_owned()
}

/// Runs a JavaScript file of this folder, or one by its whole path.
fn node_output(script: &str, arguments: &[&str]) -> Output {
    installed("tests/faces/node_modules/.vintner-lock", "tests/faces/package-lock.json");
    output(Command::new("node").arg(project("tests/faces").join(script)).args(arguments))
}

fn node(script: &str, arguments: &[&str]) -> String {
    succeeded(script, node_output(script, arguments))
}

/// Runs a program of the virtual environment, in a directory of its own: what one run leaves there changes no other.
fn python_output(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    installed("tests/faces/.venv/vintner-requirements", "tests/faces/requirements.txt");
    let dir = tempfile::tempdir().unwrap();
    let bin = project(VENV).join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    output(
        Command::new(bin.join(program))
            .args(arguments)
            .current_dir(dir.path())
            .env("PATH", path)
            .envs(environment.iter().copied()),
    )
}

fn python(program: &str, arguments: &[&str]) -> String {
    succeeded(program, python_output(program, arguments, &[]))
}

/// A network that is ready, and the addresses of its three nodes' APIs.
fn network(dir: &Path) -> (Devnet, [String; 3]) {
    let ports = Ports::find();
    let devnet = Devnet::start(dir, ports);
    devnet.ready();
    (devnet, [0, 1, 2].map(|node| ports.api(node)))
}
