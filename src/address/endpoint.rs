//! `HOST:PORT`, as people write it: of a bootstrap node, or of anything else that may have a name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The longest DNS name, in bytes.
const NAME_BYTES_MAX: usize = 253;
/// The longest part of one between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// Somewhere to send to: an address, or a name that is resolved when it is used. The port is never 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Endpoint {
    /// An address, in its plain form: an IPv4 address that was written as an IPv6 one (`::ffff:192.0.2.1`) is an IPv4 address.
    Address(SocketAddr),
    /// A DNS name.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text is no `HOST:PORT`. Each says what is wrong with it and how it is written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EndpointError {
    /// Quotes of a shell or of a file of variables that were taken for a part of the text.
    #[error("{0} holds quotes; write it without them, such as grape.example:20001")]
    Quoted(String),
    /// A URL.
    #[error(
        "{0:?} is a URL; write HOST:PORT, such as grape.example:20001, and of a grape its DHT port (UDP), not its HTTP port"
    )]
    Url(String),
    /// No port.
    #[error("{0:?} names no port; write HOST:PORT, such as {0}:20001")]
    NoPort(String),
    /// An IPv6 address whose port cannot be told from its end.
    #[error("{0:?} is an IPv6 address without brackets; write [{0}]:20001")]
    NoBrackets(String),
    /// A port that is none.
    #[error("{text:?} has the port {port:?}; a port is a number from 1 to 65535")]
    Port {
        /// All of it.
        text: String,
        /// Its port.
        port: String,
    },
    /// A host that is neither an address nor a name.
    #[error(
        "{text:?} has the host {host:?}, which is neither an IP address nor a DNS name; write HOST:PORT, such as grape.example:20001"
    )]
    Host {
        /// All of it.
        text: String,
        /// Its host.
        host: String,
    },
    /// An address that no single host has.
    #[error("{0} is no address of a host; name the one at which it is reached")]
    NotAHost(SocketAddr),
}

impl Endpoint {
    /// The address in its plain form, if it is one of a single host: no port 0, not unspecified, multicast or broadcast.
    ///
    /// # Errors
    /// [`EndpointError::NotAHost`].
    pub fn of_address(address: SocketAddr) -> Result<SocketAddr, EndpointError> {
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        // Only an IPv6 address that stays one keeps its scope.
        let address = if plain.is_ipv6() { address } else { plain };
        if address.port() == 0 || !is_host(address.ip()) {
            return Err(EndpointError::NotAHost(address));
        }
        Ok(address)
    }

    /// The address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }
}

/// Whether one host can have it.
#[must_use]
pub fn is_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !(ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let all = || text.to_owned();
        if text.contains(['"', '\'']) {
            return Err(EndpointError::Quoted(all()));
        }
        if text.contains("://") {
            return Err(EndpointError::Url(all()));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(EndpointError::Port { text: all(), port: "0".into() });
            }
            return Self::of_address(address).map(Self::Address);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(EndpointError::NoBrackets(all()));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            return Err(EndpointError::NoPort(all()));
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 && digits => port,
            _ => return Err(EndpointError::Port { text: all(), port: port.into() }),
        };
        if !is_name(host) {
            return Err(EndpointError::Host { text: all(), host: host.into() });
        }
        Ok(Self::Name { host: host.into(), port })
    }
}

/// Letters, digits, hyphens and underscores between dots. What ends in a number would be read as an address by some resolvers.
fn is_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_good = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    labels.len() <= NAME_BYTES_MAX && labels.split('.').all(is_good) && !is_number
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn addresses_and_names_are_read_and_mapped_addresses_are_plain_ones() {
        for (text, read_as) in [
            ("10.9.0.1:20001", "10.9.0.1:20001"),
            (" 10.9.0.1:20001 ", "10.9.0.1:20001"),
            ("[::ffff:10.9.0.1]:20001", "10.9.0.1:20001"),
            ("[::FFFF:0a09:1]:20001", "10.9.0.1:20001"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
            ("grape.example:20001", "grape.example:20001"),
            ("grape-1:20001", "grape-1:20001"),
            ("my_grape.lan.:1", "my_grape.lan.:1"),
            ("localhost:20001", "localhost:20001"),
            ("h:1", "h:1"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(read_as), "{text}");
            let again: Endpoint = read_as.parse().unwrap();
            assert_eq!(again.address().is_some(), read_as.parse::<SocketAddr>().is_ok());
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused_and_told_how_it_is_written() {
        for (text, says) in [
            ("10.9.0.1", "names no port"),
            ("grape.example", "names no port"),
            ("[2001:db8::1]", "names no port"),
            ("2001:db8::1", "[2001:db8::1]:20001"),
            ("http://h:1", "is a URL"),
            ("udp://10.9.0.1:20001", "is a URL"),
            ("h:70000", "from 1 to 65535"),
            ("h:0", "from 1 to 65535"),
            ("10.9.0.1:0", "from 1 to 65535"),
            ("10.9.0.1:70000", "from 1 to 65535"),
            ("h:+1", "from 1 to 65535"),
            ("h:", "from 1 to 65535"),
            ("h:1/", "from 1 to 65535"),
            ("\"10.9.0.1:20001\"", "holds quotes"),
            ("'h:1'", "holds quotes"),
            ("10.9.1:20001", "neither an IP address nor a DNS name"),
            ("300.1.1.1:1", "neither"),
            ("2130706433:1", "neither"),
            ("0x7f000001:1", "neither"),
            ("a b:1", "neither"),
            ("-h:1", "neither"),
            ("a..b:1", "neither"),
            (":1", "neither"),
            ("[::1:20001", "neither"),
            ("0.0.0.0:20001", "no address of a host"),
            ("[::]:20001", "no address of a host"),
            ("255.255.255.255:1", "no address of a host"),
            ("239.1.1.1:1", "no address of a host"),
            ("[ff02::1]:1", "no address of a host"),
            ("[::ffff:0.0.0.0]:1", "no address of a host"),
        ] {
            let said = read(text).expect_err(text).to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
        let long = format!("{}:1", ["a"; 128].join("."));
        assert!(read(&long).is_err() && read(&format!("{}:1", "a".repeat(64))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_and_what_is_read_is_read_again(text: String) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }

        #[test]
        fn every_ipv4_address_is_the_same_written_as_an_ipv6_one(ip: u32, port in 1u16..) {
            let plain = SocketAddr::new(Ipv4Addr::from(ip).into(), port);
            let mapped = SocketAddr::new(Ipv4Addr::from(ip).to_ipv6_mapped().into(), port);
            prop_assert_eq!(mapped.to_string().parse::<Endpoint>(), plain.to_string().parse::<Endpoint>());
        }
    }
}
