//! Where a node is by its owner's settings alone.

use super::ADDRESSES_MAX;
use crate::address::{Endpoint, is_private};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// What the settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everything listens on loopback: it is a node for this machine, and talks to nobody beyond it. At these addresses.
    Machine(Vec<SocketAddr>),
    /// RPC listens on loopback and the DHT does not, so that others hear of a node that they cannot reach.
    Nowhere,
    /// Its owner has said so. Nobody else is asked where it is.
    Given(Vec<SocketAddr>),
    /// RPC listens at this public address.
    Bound(SocketAddr),
    /// RPC listens at this private address; others may see the node at a public one.
    Inside(SocketAddr),
    /// RPC listens on every interface, and others say at which address they see the node.
    Open,
}

/// What an owner should know of it at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// In order.
    Fine(String),
    /// Not in order: what, and what to do.
    Trouble(String),
}

impl Place {
    /// `rpc` is where RPC listens, `dht` where the DHT does, and `advertise` what the owner said. Also what to tell him.
    #[must_use]
    pub fn of(rpc: SocketAddr, dht: &[IpAddr], advertise: &[SocketAddr]) -> (Self, Vec<Notice>) {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        let beyond: Vec<SocketAddr> = advertise
            .iter()
            .copied()
            .filter(|address| !is_loopback(address.ip()))
            .take(ADDRESSES_MAX)
            .collect();
        let on_loopback = is_loopback(rpc.ip());
        if on_loopback && dht.iter().copied().all(is_loopback) && beyond.is_empty() {
            let at = if advertise.is_empty() {
                vec![rpc]
            } else {
                advertise[..advertise.len().min(ADDRESSES_MAX)].to_vec()
            };
            return (
                Self::Machine(at),
                vec![Notice::Fine("only nodes on this machine can reach this one".into())],
            );
        }
        let mut notices = Vec::new();
        if beyond.len() < advertise.len() {
            notices.push(Notice::Trouble(
                "loopback addresses are not told to other machines; name the address at which they reach this node with --advertise"
                    .into(),
            ));
        }
        let ip = rpc.ip().to_canonical();
        let place = if !beyond.is_empty() {
            Self::Given(beyond)
        } else if on_loopback {
            Self::Nowhere
        } else if ip.is_unspecified() {
            Self::Open
        } else if is_private(ip) {
            Self::Inside(SocketAddr::new(ip, rpc.port()))
        } else {
            Self::Bound(SocketAddr::new(ip, rpc.port()))
        };
        notices.push(match &place {
            Self::Nowhere => Notice::Trouble(format!(
                "other nodes are told no address of this one, because its RPC listens on {rpc} only: nobody can bid on its offers; \
                 give --rpc 0.0.0.0:{}, or name the address at which they reach it with --advertise",
                rpc.port()
            )),
            Self::Open => Notice::Fine(
                "other nodes are told the addresses at which they see this one, once one of them has reached it there; \
                 --advertise names them"
                    .into(),
            ),
            place => Notice::Fine(format!("other nodes are told that this one is at {}", words(place.addresses()))),
        });
        (place, notices)
    }

    /// The addresses that it names itself.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Machine(addresses) | Self::Given(addresses) => addresses,
            Self::Bound(address) | Self::Inside(address) => std::slice::from_ref(address),
            Self::Nowhere | Self::Open => &[],
        }
    }

    /// Whether its owner named the addresses at which others reach it.
    #[must_use]
    pub fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// Whether others can say where it is.
    pub(super) fn observes(&self) -> bool {
        matches!(self, Self::Open | Self::Inside(_))
    }

    /// Whether others are asked to dial back.
    pub(super) fn asks(&self) -> bool {
        !matches!(self, Self::Machine(_) | Self::Nowhere)
    }

    /// Whether it talks to nobody beyond this machine, since what it signs names loopback.
    #[must_use]
    pub fn is_for_this_machine_only(&self) -> bool {
        matches!(self, Self::Machine(_))
    }
}

/// What an owner should know whose DHT listens on loopback only while he names DHT nodes that are not there: nothing ever gets to them.
#[must_use]
pub fn unheard(dht: &[IpAddr], bootstrap: &[String]) -> Option<Notice> {
    if dht.is_empty() || !dht.iter().all(|ip| ip.to_canonical().is_loopback()) {
        return None;
    }
    let is_here = |node: &&String| match node.parse::<Endpoint>() {
        Ok(Endpoint::Address(address)) => address.ip().is_loopback(),
        Ok(Endpoint::Name { host, .. }) => host == "localhost" || host.ends_with(".localhost"),
        // It is told elsewhere what is wrong with it.
        Err(_) => true,
    };
    let beyond: Vec<&str> = bootstrap.iter().filter(|node| !is_here(node)).map(String::as_str).collect();
    (!beyond.is_empty()).then(|| {
        Notice::Trouble(format!(
            "the DHT listens on loopback only, so that nothing it sends gets to {} unless that is this machine; give --dht \
             0.0.0.0:20011, and --rpc 0.0.0.0:1337 so that other nodes reach this one",
            beyond.join(", ")
        ))
    })
}

fn words(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fine(text) | Self::Trouble(text) => f.write_str(text),
        }
    }
}
