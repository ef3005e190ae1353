//! What is fuzzed, one function a target: `fuzz_targets/` feeds them with what libFuzzer makes up, `tests/fuzz_corpora.rs` with
//! the inputs that are kept in `corpus/`. Each panics when something that must always hold does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a target says that it found something")]
#![allow(unreachable_pub, reason = "it is a crate of its own, and a module of a test")]

pub mod bencode;
pub mod bencode_vs;
pub mod core;
pub mod http_body;
pub mod krpc;
pub mod krpc_vs_mainline;
pub mod rpc_frame;
mod script;

/// A target's name, which is its corpus's folder too, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("bencode", bencode::run),
    ("bencode_vs", bencode_vs::run),
    ("core", core::run),
    ("http_body", http_body::run),
    ("krpc", krpc::run),
    ("krpc_vs_mainline", krpc_vs_mainline::run),
    ("rpc_frame", rpc_frame::run),
];
