//! The addresses among the settings: which texts are addresses, which of them other nodes can use, and what follows from where a
//! node listens.

use crate::{
    address::{Endpoint, is_private},
    grenache::address::{Scope, scope},
    node::ADDRESSES_MAX,
};
use anyhow::{Context, Result, bail};
use std::net::{IpAddr, SocketAddr};

/// The bootstrap nodes of a setting, in their plain form; empty texts stand for none.
///
/// # Errors
/// Names the setting, the text and how it is written.
pub(crate) fn bootstrap(texts: impl IntoIterator<Item = String>, setting: &str) -> Result<Vec<String>> {
    let named = texts.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let read = |text: String| text.parse::<Endpoint>().map(|node| node.to_string());
    named.map(|text| read(text).with_context(|| format!("{setting} names no DHT node"))).collect()
}

/// The addresses of `--advertise`: as many as others are told, each of a host that others may connect to.
///
/// # Errors
/// Names the text and what is wrong with it.
pub(crate) fn advertise(texts: impl IntoIterator<Item = String>) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for text in texts.into_iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
        let address = match text.parse::<Endpoint>() {
            Ok(Endpoint::Address(address)) => address,
            Ok(Endpoint::Name { .. }) => {
                bail!(
                    "--advertise {text:?} is a name; write the IP address, ADDR:PORT, since other nodes resolve no names"
                )
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("--advertise {text:?} names no address of this node"));
            }
        };
        if scope(address.ip()) == Scope::Never {
            bail!(
                "--advertise {address} is in a range that no node connects to, such as those of examples in documentation; name the \
                 address at which others reach this node"
            );
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() > ADDRESSES_MAX {
        bail!(
            "--advertise names {} addresses; others are told {ADDRESSES_MAX} at most: leave out those that fewer of them reach",
            addresses.len()
        );
    }
    Ok(addresses)
}

/// The address in its plain form: `::ffff:127.0.0.1` is 127.0.0.1.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether a node that listens there connects to loopback and private addresses of others without being told to: it is in a
/// network of its owner's. On the public one anybody can name an address in the owner's own network.
pub(crate) fn allows_private(mainline: bool, listens: impl IntoIterator<Item = IpAddr>) -> bool {
    !mainline && listens.into_iter().all(is_private)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(texts: &[&str]) -> Result<Vec<SocketAddr>, String> {
        advertise(texts.iter().map(|text| (*text).to_owned())).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_advertised_is_an_address_that_others_can_connect_to() {
        let plain =
            told(&["[::ffff:51.0.1.1]:1337", "", "51.0.1.1:1337", "10.0.0.1:1", "127.0.0.1:2"]).unwrap();
        assert_eq!(plain, ["51.0.1.1:1337", "10.0.0.1:1", "127.0.0.1:2"].map(|a| a.parse().unwrap()));
        for (text, says) in [
            ("0.0.0.0:0", "from 1 to 65535"),
            ("0.0.0.0:1337", "no address of a host"),
            ("[::]:1337", "no address of a host"),
            ("51.0.1.1:0", "from 1 to 65535"),
            ("255.255.255.255:1", "no address of a host"),
            ("224.0.0.1:1", "no address of a host"),
            ("[ff02::1]:1", "no address of a host"),
            ("203.0.113.7:1337", "examples in documentation"),
            ("h.example:1337", "is a name"),
            ("51.0.1.1", "names no port"),
        ] {
            let said = told(&[text]).expect_err(text);
            assert!(said.contains(says) && said.contains("--advertise"), "{text}: {said}");
        }
    }

    #[test]
    fn four_addresses_are_advertised_at_most() {
        let five = ["51.0.1.1:1", "51.0.1.2:1", "51.0.1.3:1", "51.0.1.4:1", "51.0.1.5:1"];
        assert_eq!(told(&five[..4]).unwrap().len(), 4);
        assert!(told(&five).unwrap_err().contains("names 5 addresses"));
    }

    #[test]
    fn private_addresses_are_connected_to_by_default_only_in_a_network_of_the_owners() {
        let by_default =
            |mainline, ips: &[&str]| allows_private(mainline, ips.iter().map(|ip| ip.parse().unwrap()));
        assert!(by_default(false, &["127.0.0.1", "127.0.0.1"]));
        assert!(by_default(false, &["10.0.0.1", "192.168.1.1", "fd00::1"]));
        for open in [
            ["127.0.0.1", "0.0.0.0"],
            ["0.0.0.0", "127.0.0.1"],
            ["10.0.0.1", "51.0.1.1"],
            ["127.0.0.1", "::"],
        ] {
            assert!(!by_default(false, &open), "{open:?}");
        }
        assert!(!by_default(true, &["127.0.0.1", "127.0.0.1"]));
    }

    #[test]
    fn a_bad_bootstrap_node_is_told_with_its_setting() {
        let read = |texts: &[&str]| bootstrap(texts.iter().map(|text| (*text).to_owned()), "--bootstrap");
        assert_eq!(read(&["", " h:1 ", "[::ffff:10.9.0.1]:2"]).unwrap(), ["h:1", "10.9.0.1:2"]);
        let said = format!("{:#}", read(&["10.9.0.1"]).unwrap_err());
        assert!(
            said.starts_with("--bootstrap names no DHT node: \"10.9.0.1\" names no port; write"),
            "{said}"
        );
    }
}
