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
//! | 1 | [`market`] | offers, bids, trades |
//! | 1 | [`exchange`] | the protocol core: who may do what, when something is sold |
//! | 2 | [`store`] | everything durable of a node: one SQLite database, one key file |
//! | 2 | [`workers`] | a bounded pool of threads for signatures |

pub mod amount;
pub mod bep44;
pub mod exchange;
pub mod identity;
pub mod market;
pub mod store;
pub mod time;
pub mod workers;
