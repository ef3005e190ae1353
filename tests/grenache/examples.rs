//! The stock libraries' own example programs, as npm installs them, with nothing changed but the grape's address.

use crate::{
    rings::{Ring, serve},
    support::{PATIENCE, Process},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::{NamedTempFile, TempPath};
use tokio::process::Command;
use vintner::grenache::service::{Call, Reply};

/// The address that every example has.
const THEIRS: &str = "http://127.0.0.1:30001";

/// Folders of examples under `node_modules`, by the library that they belong to.
const HTTP: [&str; 2] = ["grenache-nodejs-http", "http-1"];
const LINK: [&str; 2] = ["grenache-nodejs-link", "link-1"];

/// An example that runs, and its file beside the original, which goes with it.
struct Example {
    process: Process,
    _file: TempPath,
}

fn start(package: &str, name: &str, grape: &str) -> Example {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/node_modules");
    let original: PathBuf = installed.join(package).join("examples").join(name);
    let program = std::fs::read_to_string(&original).unwrap_or_else(|error| {
        panic!("{}: {error}; run tests/peers/install.sh (make test does it by itself)", original.display())
    });
    assert_eq!(program.matches(THEIRS).count(), 1, "{package}/{name} has the address once");
    // Beside it, because it requires its library by a path from there.
    let file = NamedTempFile::with_suffix_in(".js", original.parent().unwrap()).unwrap().into_temp_path();
    std::fs::write(&file, program.replace(THEIRS, grape)).unwrap();
    let mut node = Command::new("node");
    if name.starts_with("ssl/") {
        // Their certificates are signed with SHA-1, which the OpenSSL of today's Node takes only when it is told to.
        node.arg("--tls-cipher-list=DEFAULT@SECLEVEL=0");
    }
    let process = Process::start(&format!("{package}/{name}"), node.arg(&file));
    Example { process, _file: file }
}

/// Starts a service and waits until all of `ring` find it. It takes a port between 1024 and 2024 by chance, and ends when that is
/// taken; then it is started again.
async fn start_service(ring: &Ring, package: &str, program: &str, name: &str, known: usize) -> Example {
    for _ in 0..20 {
        let mut example = start(package, program, &ring.url());
        let announced = async {
            while lookup(ring.ours.http, name).await.len() <= known {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let announced = tokio::time::timeout(PATIENCE, announced);
        tokio::select! {
            found = announced => {
                found.expect("the example announces itself");
                return example;
            }
            () = example.process.ended() => {}
        }
    }
    panic!("twenty ports by chance were all taken");
}

async fn lookup(grape: SocketAddr, name: &str) -> Vec<String> {
    let answer = crate::support::grape(grape, "lookup", name.into()).await;
    serde_json::from_str(&answer.body).unwrap_or_default()
}

/// Reads what rpc_client.js prints: a thousand replies and how many milliseconds they took.
async fn thousand_replies(client: &mut Process, reply: &str) {
    for _ in 0..1000 {
        assert_eq!(client.line().await, reply);
    }
    let took = client.line().await;
    assert!(took.parse::<u64>().is_ok(), "{took}");
}

/// rpc_server.js, rpc_client.js and rpc_client_map.js of each version with each other.
#[tokio::test]
async fn the_stock_example_services_and_clients_run_unchanged() {
    for ring in Ring::both().await {
        let mut services = Vec::new();
        for (known, package) in HTTP.into_iter().enumerate() {
            services.push(start_service(&ring, package, "rpc_server.js", "rpc_test", known).await);
        }
        for package in HTTP {
            thousand_replies(&mut start(package, "rpc_client.js", &ring.url()).process, "null world").await;
            let mut client = start(package, "rpc_client_map.js", &ring.url());
            for _ in 0..10 {
                assert_eq!(client.process.line().await, "null [ 'world', 'world' ]", "{package}");
            }
        }
    }
}

/// rpc_client.js and rpc_client_map.js of each version with our service in the place of rpc_server.js.
#[tokio::test]
async fn the_stock_example_clients_run_unchanged_with_our_service() {
    let ring = Ring::of_ours().await;
    let service = serve(async |call: Call| {
        assert_eq!((call.key.as_str(), call.payload.get()), ("rpc_test", "\"hello\""));
        Reply::of("world")
    })
    .await;
    ring.announce("rpc_test", service.local_addr().port()).await;
    for package in HTTP {
        thousand_replies(&mut start(package, "rpc_client.js", &ring.url()).process, "null world").await;
        let mut client = start(package, "rpc_client_map.js", &ring.url());
        for _ in 0..10 {
            assert_eq!(client.process.line().await, "null [ 'world' ]", "{package}");
        }
    }
}

/// The examples for TLS of each version: their certificates name no address and are long out of date, and they verify nothing.
#[tokio::test]
async fn the_stock_examples_for_tls_run_unchanged() {
    for package in HTTP {
        let ring = Ring::of_ours().await;
        let mut service = start_service(&ring, package, "ssl/rpc_server.js", "rpc_test", 0).await;
        let mut client = start(package, "ssl/rpc_client_map.js", &ring.url());
        for _ in 0..10 {
            assert_eq!(client.process.line().await, "null [ 'world' ]", "{package}");
        }
        // The service prints the fingerprint of the client's certificate: SHA-1 in hex with colons.
        assert_eq!(service.process.line().await.len(), 59, "{package}");
    }
}

/// rpc_server_stream.js and rpc_client_stream.js of each version; the client never ends its stream, and is answered.
#[tokio::test]
async fn the_stock_example_streams_run_unchanged() {
    for server in HTTP {
        let ring = Ring::of_ours().await;
        let _service = start_service(&ring, server, "rpc_server_stream.js", "rpc_stream", 0).await;
        for client in HTTP {
            let line = start(client, "rpc_client_stream.js", &ring.url()).process.line().await;
            assert!(
                line.starts_with("response [\"") && line.ends_with("\",null,\"world\"]"),
                "{client}: {line}"
            );
        }
    }
}

/// put_get.js of both libraries and versions.
#[tokio::test]
async fn the_stock_example_puts_and_gets_run_unchanged() {
    for ring in Ring::both().await {
        ring.announce("joined", 1399).await;
        for package in HTTP.into_iter().chain(LINK) {
            let mut example = start(package, "put_get.js", &ring.url());
            let saved = example.process.line().await;
            assert_eq!(
                saved, "data saved to the DHT null 6d33adc2b6b2c14c3036feefb7fedbca1a880527",
                "{package}"
            );
            let mut got = example.process.line().await;
            assert!(got.starts_with("data requested to the DHT null {"), "{package}: {got}");
            while !got.ends_with('}') {
                got.push_str(example.process.line().await.trim_start());
            }
            assert!(got.contains("v: 'hello world'"), "{package}: {got}");
        }
    }
}
