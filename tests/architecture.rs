//! The house stays a house: imports go strictly downward, and the pure layers reach for no clock, environment, socket, disk or
//! thread RNG. The table below is ARCHITECTURE.md's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A part of the tree: its path under `src`, its layer, whether it must be pure, and the modules of the crate it may name.
struct Room {
    path: &'static str,
    pure: bool,
    may_use: &'static [&'static str],
}

const LAYER_0: &[&str] = &["time", "amount", "identity", "bep44", "address"];

/// The first room whose path is a prefix of a file's owns it, so inner rooms stand before outer ones.
const ROOMS: &[Room] = &[
    Room { path: "time", pure: true, may_use: &[] },
    Room { path: "amount", pure: true, may_use: &[] },
    Room { path: "identity", pure: true, may_use: &["bep44"] },
    Room { path: "bep44", pure: true, may_use: &["identity"] },
    Room { path: "address", pure: true, may_use: &[] },
    Room { path: "shown", pure: true, may_use: &[] },
    Room { path: "market", pure: true, may_use: LAYER_0 },
    Room { path: "exchange", pure: true, may_use: &["time", "amount", "identity", "bep44", "market"] },
    Room { path: "dht/core", pure: true, may_use: LAYER_0 },
    Room {
        path: "replication/core",
        pure: true,
        may_use: &["time", "identity", "bep44", "address", "market"],
    },
    Room { path: "reach", pure: true, may_use: &["time", "identity", "address"] },
    Room { path: "replication", pure: true, may_use: &[] },
    Room { path: "standing", pure: true, may_use: &["time", "address", "reach"] },
    Room { path: "grenache/wire", pure: true, may_use: LAYER_0 },
    Room { path: "grenache/gzip", pure: true, may_use: LAYER_0 },
    Room { path: "grenache/envelope", pure: true, may_use: LAYER_0 },
    Room { path: "grenache/rate", pure: true, may_use: LAYER_0 },
    Room { path: "grenache/address", pure: true, may_use: LAYER_0 },
    Room { path: "metrics", pure: false, may_use: &[] },
    Room { path: "workers", pure: false, may_use: &["identity", "metrics"] },
    Room { path: "listener", pure: false, may_use: &["metrics"] },
    Room {
        path: "dht",
        pure: false,
        may_use: &["time", "identity", "bep44", "address", "workers", "metrics", "dht"],
    },
    Room {
        path: "grenache",
        pure: false,
        may_use: &["time", "identity", "bep44", "workers", "listener", "metrics", "grenache"],
    },
    Room {
        path: "store",
        pure: false,
        may_use: &["time", "amount", "identity", "bep44", "market", "exchange", "replication", "metrics"],
    },
    Room { path: "grape", pure: false, may_use: &["identity", "bep44", "dht", "store", "metrics"] },
    Room {
        path: "node",
        pure: false,
        may_use: &[
            "time",
            "amount",
            "identity",
            "bep44",
            "address",
            "market",
            "exchange",
            "dht",
            "grenache",
            "reach",
            "replication",
            "store",
            "workers",
            "listener",
            "metrics",
            "standing",
        ],
    },
    Room {
        path: "http",
        pure: false,
        may_use: &[
            "time", "amount", "identity", "bep44", "address", "market", "exchange", "dht", "grenache",
            "store", "workers", "listener", "metrics", "standing", "grape", "node",
        ],
    },
    Room {
        path: "cli",
        pure: false,
        may_use: &[
            "time", "amount", "identity", "bep44", "address", "market", "exchange", "dht", "grenache",
            "store", "workers", "listener", "metrics", "reach", "standing", "shown", "grape", "node", "http",
        ],
    },
    Room { path: "main", pure: false, may_use: &["cli"] },
    Room { path: "lib", pure: false, may_use: &[] },
];

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "axum",
    "reqwest",
    "rusqlite",
    "hyper",
    "std::env",
    "env::var",
    "std::fs",
    "std::process",
    "std::thread",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "UdpSocket",
    "TcpListener",
    "SystemTime",
    "Instant::now",
    "now_v7",
    "new_v4",
    "rand::rng()",
    "thread_rng",
    "getrandom",
    "OsRng",
    "SysRng",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Code without comments, doc text and unit tests (which may reach for what they like). Tests stand at a file's end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The crate's modules that `code` names, by `crate::x`, `vintner::x` or inside `use crate::{...}`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["crate::", "vintner::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(heads(list)),
                None => found.extend(head(rest)),
            }
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty() && name.chars().all(|c| c.is_lowercase() || c == '_' || c.is_ascii_digit()))
        .then_some(name)
}

/// The first names of the items of a brace list, up to its end.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut found, mut item) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(head(&std::mem::take(&mut item))),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    found.extend(head(&item));
    found
}

fn room(file: &str) -> &'static Room {
    let owns = |room: &&Room| {
        let rest = file.strip_prefix(room.path);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    ROOMS.iter().find(owns).unwrap_or_else(|| panic!("src/{file} is in no room of the table; give it one"))
}

fn violations(file: &str, text: &str) -> Vec<String> {
    let (room, code) = (room(file), code(text));
    let own = room.path.split('/').next().unwrap();
    let mut found = Vec::new();
    for module in named_modules(&code) {
        let is_own = module == own && (!room.path.contains('/') || inner_paths_only(&code, room));
        if !is_own && !room.may_use.contains(&module.as_str()) {
            found.push(format!("src/{file} imports crate::{module}, which lies above it or beside it"));
        }
    }
    // A second read guard beside a first waits for a writer that waits for the first: both hang for ever.
    let twice = code.split([';', '{', '}']).filter(|statement| statement.matches(".borrow()").count() > 1);
    found.extend(twice.map(|statement| format!("src/{file} holds two guards at once:{statement}")));
    if room.pure {
        let named = IMPURE.iter().filter(|word| code.contains(**word));
        found.extend(named.map(|word| format!("src/{file} is pure and names {word}")));
    }
    found
}

/// A pure inner room may name its own path (`crate::dht::core`), not its impure parent.
fn inner_paths_only(code: &str, room: &Room) -> bool {
    let own = format!("crate::{}::", room.path.split('/').next().unwrap());
    let inner = [
        "crate::dht::core",
        "crate::grenache::wire",
        "crate::grenache::envelope",
        "crate::grenache::rate",
        "crate::grenache::address",
    ];
    code.match_indices(&own).all(|(at, _)| inner.iter().any(|path| code[at..].starts_with(path)))
}

#[test]
fn imports_go_downward_and_pure_layers_stay_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let mut found = Vec::new();
    for path in files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if file.ends_with("tests.rs") {
            continue;
        }
        found.extend(violations(&file, &fs::read_to_string(&path).unwrap()));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_violation_is_found() {
    let found = |file, text| violations(file, text).len();
    assert_eq!(found("market/offer.rs", "use crate::exchange::Core;"), 1);
    assert_eq!(found("market/offer.rs", "use crate::{time::UnixMillis, node::{Node, clock}};"), 1);
    assert_eq!(found("exchange/core.rs", "let at = std::time::SystemTime::now();"), 1);
    assert_eq!(found("dht/core/table.rs", "use tokio::net::UdpSocket;"), 2);
    assert_eq!(found("dht/core/table.rs", "use crate::dht::Dht;"), 1);
    assert_eq!(found("dht/core/table.rs", "use crate::dht::core::id::NodeId;"), 0);
    assert_eq!(found("exchange/core.rs", "use super::State; // SystemTime\nuse crate::market::Offer;"), 0);
    assert_eq!(found("http/api/mod.rs", "use crate::cli::Args;"), 1);
    assert_eq!(found("dht/handle.rs", "let (a, b) = (status.borrow().a, status.borrow().b);"), 1);
    assert_eq!(found("dht/handle.rs", "let a = status.borrow().a; let b = status.borrow().b;"), 0);
}
