//! Who a datagram counts for: limits and quotas are the source's, and one source must not look like many.
//!
//! An IPv4 *host* is an address and its *prefix* the /24, the smallest block that is routed alone. An IPv6 host is a /64, because
//! whoever has one address there has all 2⁶⁴ of them; its prefix is the /56, the least that is handed to a subscriber who gets
//! more than one network (RFC 6177). A shorter one would put the customers of a whole hosting company together.
//!
//! Loopback and private ranges are exempt from what these are for, unless the node is told otherwise: behind one bridge or on
//! one machine many honest nodes share an address, and nobody out there can send from such a one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The top bits of an IPv6 address that are a host's.
const PREFIX6_MASK: u64 = !0xff;
/// The bits of an IPv4 address that its prefix keeps.
const PREFIX4_MASK: u64 = 0xffff_ff00;

/// An IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Host(pub(super) u64);

/// An IPv4 /24, or an IPv6 /56.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Prefix(pub(super) u64);

impl Host {
    /// The two families do not meet: IPv6's ::/32 belongs to nobody.
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

impl Prefix {
    pub(super) fn of(ip: IpAddr) -> Self {
        let Host(host) = Host::of(ip);
        Self(host & if ip.to_canonical().is_ipv4() { PREFIX4_MASK } else { PREFIX6_MASK })
    }
}

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

/// Loopback, private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local addresses.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => is_private6(ip),
    }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, _, _] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

fn is_private6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_host_is_a_64_and_a_prefix_a_24_or_a_56() {
        assert_eq!(Host::of(ip("2a00:1:2:3::1")), Host::of(ip("2a00:1:2:3:ffff::9")));
        assert_ne!(Host::of(ip("2a00:1:2:3::1")), Host::of(ip("2a00:1:2:4::1")));
        assert_eq!(Prefix::of(ip("2a00:1:2:3::1")), Prefix::of(ip("2a00:1:2:ff::1")));
        assert_ne!(Prefix::of(ip("2a00:1:2:3::1")), Prefix::of(ip("2a00:1:2:103::1")));
        assert_eq!(Prefix::of(ip("8.8.8.1")), Prefix::of(ip("8.8.8.255")));
        assert_ne!(Prefix::of(ip("8.8.8.1")), Prefix::of(ip("8.8.9.1")));
        assert_eq!(Host::of(ip("::ffff:8.8.8.8")), Host::of(ip("8.8.8.8")));
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
