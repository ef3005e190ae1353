//! vintner: a peer-to-peer exchange node.
//!
//! Every trader runs one. Its owner talks REST to it; the nodes talk to each other over a BitTorrent-style DHT (BEP5 and
//! BEP44, wire-compatible with grenache-grape) and signed Grenache RPC. An offer is an ed25519-signed mutable DHT item that
//! nobody but its maker can write; the maker's node alone decides who bought it, by one durable write.
//!
//! The modules form layers, and imports go strictly downward (`tests/architecture.rs` checks it):
//!
//! | layer | module | owns |
//! |---|---|---|
//! | 0 | [`time`], [`amount`], [`identity`], [`bep44`] | milliseconds, checked decimals, keys and signatures, signed items |
//! | 1 pure | [`market`] | offers, bids, trades, as verified values |
//! | 1 pure | [`exchange`] | the protocol core: who may do what, when something is sold |
//! | 1 pure | [`dht::core`] | the DHT's protocol as a state machine |
//! | 1 pure | [`standing`] | from facts to the reasons why a node cannot trade, or may lack something |
//! | 1 pure | [`grenache::wire`], [`grenache::envelope`], [`grenache::rate`] | frames, signed requests and replies, token buckets |
//! | 2 | [`dht`] | the UDP driver of its core, and the handle that programs use |
//! | 2 | [`grenache`] | RPC over HTTP: plain service and caller, and on them the signed server and client |
//! | 2 | [`store`] | SQLite, the key file, the lock of the data directory |
//! | 2 | [`workers`] | a bounded pool of threads for signatures |
//! | 2 | [`listener`] | HTTP listening within limits |
//! | 2 | [`metrics`] | counters, histograms, and the page that Prometheus reads |
//! | 3 | [`mod@grape`] | what a grape knows, kept in a directory |
//! | 3 | [`node`] | wires the drivers to the cores: start, stop, the writer, the clock |
//! | 4 | [`http`] | REST, OpenAPI, the Grape HTTP API |
//! | 5 | [`cli`] | commands; the only place that reads arguments, environment and files of settings |

pub mod address;
pub mod amount;
pub mod bep44;
pub mod cli;
pub mod dht;
pub mod exchange;
pub mod grape;
pub mod grenache;
pub mod http;
pub mod identity;
pub mod listener;
pub mod market;
pub mod metrics;
pub mod node;
pub mod reach;
pub mod replication;
pub mod shown;
pub mod standing;
pub mod store;
pub mod time;
pub mod workers;
