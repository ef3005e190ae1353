//! Ports for programs that start later.

#![allow(unreachable_pub, reason = "each test crate has it somewhere else")]

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below what Linux gives to whoever asks for any port (32768 and up): of those, another test may be given it before the program
/// that it is for has started. And above those of whole networks (`devnet.rs`).
const PORTS: std::ops::Range<u16> = 27_000..32_000;

/// A port of loopback on which nobody listens, by TCP or UDP. Processes that run at the same time are given others.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // A process of a test asks for a few.
    let first = std::process::id().wrapping_mul(17);
    loop {
        let nth = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed).into()) % count;
        let at = (Ipv4Addr::LOCALHOST, PORTS.start + u16::try_from(nth).unwrap());
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return at.1;
        }
    }
}
