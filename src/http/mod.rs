//! What a node shows over HTTP: the REST API of its owner.
//!
//! Handlers here extract, call [`crate::node`], and answer; nothing is decided. [`types`] are the shapes of requests and
//! answers, shared with the command-line client; [`serve`] is the bounded server under every router.

pub mod api;
pub mod serve;
pub mod types;
