//! What the node serves over HTTP.

pub mod grape;
