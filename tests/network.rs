//! Whole networks on real sockets, in one process: three grapes and three nodes trade; strangers try to cheat.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

#[path = "network/forgery.rs"]
mod forgery;
mod testnet;
#[path = "network/trading.rs"]
mod trading;
