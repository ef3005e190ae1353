//! Whom the RPC client may connect to. Addresses come from strangers through the DHT, and a node that connects wherever it
//! is told is a way into its owner's own network.
//!
//! The standard library's `is_global` is not stable yet; the ranges are those of the IANA special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which addresses are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Loopback, private, shared (CGNAT), link-local and unique-local ranges too: for test networks and containers.
    pub allow_private: bool,
}

impl AddressPolicy {
    /// Whether `address` may be connected to. Multicast, broadcast, unspecified and documentation ranges and port 0 never.
    #[must_use]
    pub fn allows(self, address: SocketAddr) -> bool {
        if address.port() == 0 {
            return false;
        }
        // `::ffff:127.0.0.1` is 127.0.0.1 to the system.
        match scope(address.ip()) {
            Scope::Public => true,
            Scope::Private => self.allow_private,
            Scope::Never => false,
        }
    }
}

/// Whose an address can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A host's on the internet.
    Public,
    /// A host's in somebody's own network, or this machine's alone.
    Private,
    /// No host's: multicast, broadcast, unspecified, documentation and reserved ranges.
    Never,
}

/// Whose `ip` can be; an IPv4 address in the form of an IPv6 one is an IPv4 address.
#[must_use]
pub fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

/// Whether `ip` is of use to who comes from `asker`: another machine's loopback is not, nor is an address in somebody's own network
/// to whoever is outside of it; both are nobody's business there.
#[must_use]
pub fn is_of_use_to(asker: IpAddr, ip: IpAddr) -> bool {
    let (asker, ip) = (asker.to_canonical(), ip.to_canonical());
    match scope(ip) {
        _ if asker.is_loopback() => true,
        _ if ip.is_loopback() => false,
        Scope::Private => scope(asker) == Scope::Private,
        Scope::Public | Scope::Never => true,
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = (a, b, c) == (192, 0, 0);
    let relay_anycast = (a, b, c) == (192, 88, 99);
    let benchmarking = a == 198 && (b == 18 || b == 19);
    let reserved = a == 0 || a >= 240;
    if ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared {
        Scope::Private
    } else if ip.is_multicast()
        || ip.is_documentation()
        || protocol_assignments
        || relay_anycast
        || benchmarking
        || reserved
    {
        Scope::Never
    } else {
        Scope::Public
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    let segments = ip.segments();
    // Only 2000::/3 is handed out as global unicast; inside it, what embeds or stands for something else is refused.
    let global = segments[0] & 0xe000 == 0x2000;
    let documentation = (segments[0] == 0x2001 && segments[1] == 0x0db8) || segments[0] & 0xfff0 == 0x3ff0;
    let protocol_assignments = segments[0] == 0x2001 && segments[1] < 0x0200;
    let six_to_four = segments[0] == 0x2002;
    if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() {
        Scope::Private
    } else if global && !documentation && !protocol_assignments && !six_to_four {
        Scope::Public
    } else {
        Scope::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: AddressPolicy = AddressPolicy { allow_private: false };
    const PRIVATE: AddressPolicy = AddressPolicy { allow_private: true };

    fn address(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1337)
    }

    #[test]
    fn public_addresses_are_good_and_port_0_never_is() {
        for ip in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(PUBLIC.allows(address(ip)), "{ip}");
        }
        assert!(!PRIVATE.allows(SocketAddr::new("1.1.1.1".parse().unwrap(), 0)));
    }

    #[test]
    fn private_ranges_are_good_only_when_allowed_also_when_mapped() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
        ] {
            assert!(!PUBLIC.allows(address(ip)), "{ip}");
            assert!(PRIVATE.allows(address(ip)), "{ip}");
        }
    }

    #[test]
    fn nobody_is_told_of_addresses_of_a_network_that_is_not_its_own() {
        for (asker, useful, useless) in [
            ("127.0.0.1", &["127.0.0.1", "10.0.0.1", "52.0.1.1"][..], &[][..]),
            ("10.0.0.2", &["10.0.0.1", "192.168.1.1", "52.0.1.1", "fd00::1"], &["127.0.0.1", "::1"]),
            ("fe80::1", &["fd00::1", "10.0.0.1", "2606:4700::1111"], &["::1", "::ffff:127.0.0.1"]),
            (
                "52.0.1.1",
                &["53.0.1.1", "2606:4700::1111", "0.0.0.0"],
                &[
                    "127.0.0.1",
                    "10.0.0.1",
                    "192.168.1.1",
                    "100.64.0.1",
                    "169.254.1.1",
                    "fd00::1",
                    "::ffff:10.0.0.1",
                ],
            ),
            ("2606:4700::1111", &["53.0.1.1"], &["10.0.0.1", "::1"]),
        ] {
            let is_told = |ip: &&&str| is_of_use_to(asker.parse().unwrap(), ip.parse().unwrap());
            assert_eq!(useful.iter().filter(is_told).count(), useful.len(), "{asker}: {useful:?}");
            assert_eq!(useless.iter().filter(is_told).count(), 0, "{asker}: {useless:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_never_good() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.0.0.1",
            "198.18.0.1",
            "192.88.99.1",
            "::",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "2002:7f00:1::",
            "2001::1",
            "64:ff9b::7f00:1",
            "::7f00:1",
            "::ffff:0.0.0.0",
            "fec0::1",
        ] {
            assert!(!PUBLIC.allows(address(ip)), "{ip}");
            assert!(!PRIVATE.allows(address(ip)), "{ip}");
        }
    }
}
