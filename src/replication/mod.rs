//! How every node comes to hold the same verified records: see [`core`].

pub mod core;
