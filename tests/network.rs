//! Whole networks on real sockets, in one process: three grapes and three nodes trade; strangers try to cheat.

#[path = "network/forgery.rs"]
mod forgery;
mod testnet;
#[path = "network/trading.rs"]
mod trading;
