//! Grenache RPC over HTTP: how nodes call each other, and how stock Grenache programs can reach a node.
//!
//! [`wire`] is the framing, `[rid, key, payload]` answered by `[rid, error, result]`. [`envelope`] is what this network puts
//! into it: requests and replies that are signed, because addresses come from strangers. Both are pure. [`client`] and
//! [`server`] carry them over HTTP; [`address`] says whom the client may connect to, and [`rate`] how often a source may ask;
//! [`meter`] counts what came of it.
//!
//! Nothing here knows what the commands mean: the server is given a handler for each, the client a body to send.

pub mod address;
pub mod caller;
pub mod client;
pub mod envelope;
mod gzip;
pub mod meter;
pub mod rate;
pub mod server;
pub mod service;
pub mod tls;
pub mod wire;
