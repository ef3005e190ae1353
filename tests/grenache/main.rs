//! Grenache RPC and links: our services and callers alone and beside the stock ones from npm, of both versions, over our grapes
//! and over rings with stock grapes in them.
//!
//! A doc comment that begins with `Statement N:` says which statement of the conformance table in
//! `docs/grape-compatibility.md` the test is for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod certificates;
mod clients;
mod examples;
mod limits;
mod links;
mod ours;
mod rings;
mod servers;
mod tls;
