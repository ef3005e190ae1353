//! What a node serves over HTTP: the REST API of its owner, and the Grape HTTP API.
//!
//! Handlers here extract, call [`crate::node`] or [`crate::dht`], and answer; nothing is decided. [`types`] are the shapes of the
//! REST API's answers, shared with the command-line client.

pub mod api;
pub mod grape;
pub mod types;
