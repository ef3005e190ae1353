//! Grenache RPC over HTTP: how nodes call each other, and how stock Grenache programs are called and served.
//!
//! [`wire`] is the framing, `[rid, key, payload]` answered by `[rid, error, result]`. [`service`] answers any request with a
//! handler, [`caller`] makes any; both over [`tls`] if wanted. `docs/grenache-rpc.md` shows their use.
//!
//! [`envelope`] is what this network puts into frames: requests and replies that are signed, because addresses come from
//! strangers. [`server`] is a service that takes these only, [`client`] a caller that believes these only. [`address`] says whom a
//! caller may connect to, and [`rate`] how often a source may ask; [`meter`] counts what came of it.
//!
//! [`wire`], [`envelope`], [`rate`] and [`address`] are pure. Nothing here knows what the commands mean: the server is given a
//! handler for each, the client a body to send.

pub mod address;
pub mod caller;
pub mod client;
pub mod clocks;
pub mod envelope;
pub(crate) mod gzip;
pub mod meter;
pub mod rate;
pub mod server;
pub mod service;
pub mod tls;
pub mod wire;

/// The programs in the page are compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../../docs/grenache-rpc.md")]
struct Page;
