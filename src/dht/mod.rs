//! The DHT node: Kademlia over UDP, BEP5 and BEP44, with names as grapes have them (raw bytes of any length).
//!
//! Read in this order:
//!
//! 1. [`core`] is the protocol as a state machine without IO: datagrams, timers and commands in; datagrams, events, finished
//!    operations and signature checks out. It decides everything, and it knows no clock, no socket and no thread.
//! 2. `driver` is one task that owns the socket and the core. It moves bytes and time between them and decides nothing.
//!    Below it, `socket` sends and receives several datagrams in one system call where the system can.
//! 3. [`Dht`] is the handle that the rest of the program (or any Rust program) holds: cheap to clone, every call a message to
//!    the driver.
//!
//! Three ideas make it quick where a stock grape is slow. A write token belongs to a *node*, not to a target, so it is kept
//! with the node and a put needs no lookup first where the closest nodes are known: in a network smaller than one bucket, the
//! table *is* the network. A dead node is waited for once, and from then on it is asked only in passing. And what a node itself
//! stores it can read back without the network.
//!
//! Refused here: what records mean (that is the market's), HTTP (the grape API's), files (the caller keeps the node id, and what [`Dht::walk_stored`] shows it).

pub mod core;
mod driver;
mod handle;
mod metrics;
mod names;
mod socket;

pub use self::{
    core::{
        DhtEvent, DhtStatus, Dropped, ErrorsOut, Found, GetMode, Item, NAME_BYTES_MAX, NodeId, PEER_AGE, Put,
        PutOutcome, Refusal, Stored, StoredWhat, Walk,
    },
    handle::{Dht, DhtConfig, DhtError},
};
