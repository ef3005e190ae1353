//! Who a datagram counts for: limits and quotas are the source's, and one source must not look like many.
//!
//! Loopback and private ranges are exempt from what these are for, unless the node is told otherwise: behind one bridge or on
//! one machine many honest nodes share an address, and nobody out there can send from such a one.

pub(super) use crate::address::{Host, Prefix, is_private};
use std::net::{IpAddr, SocketAddr};

/// Who stored something, as the quotas see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Payer {
    /// This node itself.
    Own,
    /// A host of an exempt range.
    Host(Host),
    /// Everybody of a prefix.
    Prefix(Prefix),
}

/// Which addresses the rules of the public network are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    /// Loopback and private ones too.
    pub(super) limit_private: bool,
}

impl Ranges {
    /// Whether an address is free of the rules for the public network.
    pub(super) fn exempt(self, ip: IpAddr) -> bool {
        !self.limit_private && is_private(ip)
    }

    /// What the buckets of an exempt source are told apart by: there, many nodes share an address.
    pub(super) fn socket_key(from: SocketAddr) -> u64 {
        Host::of(from.ip()).0 ^ (u64::from(from.port()) << 40)
    }

    /// Whom something that comes from an address is charged to.
    pub(super) fn payer(self, ip: IpAddr) -> Payer {
        if self.exempt(ip) { Payer::Host(Host::of(ip)) } else { Payer::Prefix(Prefix::of(ip)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn private_ranges_are_exempt_unless_they_are_limited_too() {
        let private = ["127.3.2.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.0.1", "100.64.0.1"];
        let private6 = ["::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"];
        for text in private.iter().chain(&private6) {
            assert!(Ranges { limit_private: false }.exempt(ip(text)), "{text}");
            assert!(!Ranges { limit_private: true }.exempt(ip(text)), "{text}");
        }
        for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2a00::1"] {
            assert!(!Ranges { limit_private: false }.exempt(ip(text)), "{text}");
        }
    }
}
