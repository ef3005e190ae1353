//! The protocol as a state machine.

pub mod bencode;
mod id;
mod types;

pub use self::{
    id::{Contact, ID_BYTES, NodeId, NodeIdError},
    types::{DhtEvent, DhtStatus, Found, GetMode, Item, NAME_BYTES_MAX, Put, PutOutcome, Refusal},
};
