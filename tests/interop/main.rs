//! With programs that we did not write, in one DHT: stock grapes, links and RPC programs from npm, the DHT library under them,
//! libtorrent from PyPI, and the `mainline` crate. One binary, because each costs its link.
//!
//! A doc comment that begins `Statement N` says which statement of docs/grape-compatibility.md a test proves;
//! tests/conformance.rs holds the two together.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bittorrent;
mod datagrams;
mod grape;
mod library;
mod mainline;
mod peers;
mod public;
mod ring;
mod stock;
#[path = "../support/mod.rs"]
mod support;
#[path = "../testnet/mod.rs"]
mod testnet;
