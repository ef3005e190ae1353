//! What addresses have in common: hosts, prefixes, private ranges; `HOST:PORT` as people write it ([`Endpoint`]); and what to do
//! when one cannot be listened on ([`bind`]).
//!
//! An IPv4 *host* is an address and its *prefix* the /24, the smallest block that is routed alone. An IPv6 host is a /64, because
//! whoever has one address there has all 2⁶⁴ of them; its prefix is the /56, the least that is handed to a subscriber who gets
//! more than one network (RFC 6177). A shorter one would put the customers of a whole hosting company together.

pub mod bind;
mod endpoint;

pub use endpoint::{Endpoint, EndpointError, is_host};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The top bits of an IPv6 address that are a host's.
const PREFIX6_MASK: u64 = !0xff;
/// The bits of an IPv4 address that its prefix keeps.
const PREFIX4_MASK: u64 = 0xffff_ff00;

/// An IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Host(pub u64);

/// An IPv4 /24, or an IPv6 /56.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix(pub u64);

impl Host {
    /// The host of an address. The two families do not meet: IPv6's ::/32 belongs to nobody.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

impl Prefix {
    /// The prefix of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        let Host(host) = Host::of(ip);
        Self(host & if ip.to_canonical().is_ipv4() { PREFIX4_MASK } else { PREFIX6_MASK })
    }
}

/// Loopback, private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local addresses.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
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
}
