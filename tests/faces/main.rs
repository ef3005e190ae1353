//! The node's faces as people meet them: the Postman collection, run by newman, and Swagger UI, in a real Chromium. Each against a
//! whole network of processes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../support/devnet.rs"]
mod devnet;
mod postman;
mod swagger;

use devnet::{Devnet, Ports};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a JavaScript file of this folder; what it printed stands in the error when it fails.
fn node(script: &str, arguments: &[&str]) -> String {
    let installed = project("tests/faces/node_modules/.vintner-lock");
    assert!(
        installed.is_file(),
        "newman and playwright-core are not installed: run tests/faces/install.sh (make test does it by itself)"
    );
    let mut command = Command::new("node");
    command.arg(project("tests/faces").join(script)).args(arguments);
    // What is asked here is on this machine, whatever the surroundings say.
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "node cannot be started ({error}): install Node.js 18 or later, then run tests/faces/install.sh"
        )
    });
    let Output { status, stdout, stderr } = output;
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{script} ended with {status}\n{said}\n{complained}");
    said.into_owned()
}

/// A network that is ready, and the addresses of its three nodes' APIs.
fn network(dir: &Path) -> (Devnet, [String; 3]) {
    let ports = Ports::find();
    let devnet = Devnet::start(dir, ports);
    devnet.ready();
    (devnet, [0, 1, 2].map(|node| ports.api(node)))
}
