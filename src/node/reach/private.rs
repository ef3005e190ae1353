//! Which addresses of others this node connects to, and those at which somebody was found that it does not connect to.

use crate::grenache::address::{AddressPolicy, Scope, scope};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

/// Addresses that are remembered: as many as one lookup gives.
const FOUND_MAX: usize = 100;

/// Whom this node may dial. Clones share what was found.
#[derive(Clone, Debug)]
pub(in crate::node) struct Private {
    policy: AddressPolicy,
    /// What this node signs names loopback, and nobody beyond this machine is told that.
    this_machine_only: bool,
    /// The port under which this node itself is announced.
    own_port: u16,
    found: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Private {
    pub(in crate::node) fn new(policy: AddressPolicy, this_machine_only: bool, own_port: u16) -> Self {
        Self { policy, this_machine_only, own_port, found: Arc::default() }
    }

    /// Whether `address` may be dialed.
    pub(in crate::node) fn dials(&self, address: SocketAddr) -> bool {
        self.policy.allows(address) && (!self.this_machine_only || address.ip().to_canonical().is_loopback())
    }

    /// Whether `address` may be dialed that somebody says is a node's, in a head or on a card. Loopback is then this machine's, whatever was
    /// meant by it: only where nobody is beyond this machine it is what it says.
    pub(in crate::node) fn dials_hearsay(&self, address: SocketAddr) -> bool {
        self.dials(address) && (self.this_machine_only || !address.ip().to_canonical().is_loopback())
    }

    /// The ones of a search that may be dialed. The others are remembered until the next search, but for this node itself.
    pub(in crate::node) fn sort(&self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| self.dials(*address));
        let is_somebody = |address: &SocketAddr| scope(address.ip()) != Scope::Never && address.port() != 0;
        let mut bad: Vec<SocketAddr> =
            bad.into_iter().filter(is_somebody).filter(|at| !self.is_own(*at)).collect();
        bad.sort_unstable();
        bad.dedup();
        bad.truncate(FOUND_MAX);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = bad;
        good
    }

    /// Where somebody was found in the last search and is not connected to.
    pub(in crate::node) fn found(&self) -> Vec<SocketAddr> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nobody beyond this machine is connected to.
    pub(in crate::node) fn is_for_this_machine_only(&self) -> bool {
        self.this_machine_only
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        address.port() == self.own_port && is_of_this_machine(address)
    }
}

/// Whether this machine has the address: what it sends there would come from there. Nothing is sent.
pub(super) fn is_of_this_machine(address: SocketAddr) -> bool {
    let any: IpAddr = match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.local_addr()
    };
    source().is_ok_and(|source: SocketAddr| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn who_is_found_at_a_private_address_is_remembered_until_the_next_search() {
        let found = [
            "51.0.1.1:1337",
            "10.9.0.7:1337",
            "10.9.0.7:1337",
            "192.168.1.2:1",
            "0.0.0.0:1",
            "127.0.0.1:1337",
        ];
        let private = Private::new(AddressPolicy { allow_private: false }, false, 1337);
        assert_eq!(private.sort(addresses(&found)), addresses(&["51.0.1.1:1337"]));
        // 127.0.0.1:1337 is this node itself.
        assert_eq!(private.found(), addresses(&["10.9.0.7:1337", "192.168.1.2:1"]));
        assert!(private.sort(Vec::new()).is_empty() && private.found().is_empty());
        let allowed = Private::new(AddressPolicy { allow_private: true }, false, 1337);
        assert_eq!(allowed.sort(addresses(&found)).len(), 5);
        assert!(allowed.found().is_empty());
    }

    #[test]
    fn what_names_loopback_is_not_told_beyond_it() {
        let private = Private::new(AddressPolicy { allow_private: true }, true, 1337);
        assert!(private.dials("127.0.0.1:1".parse().unwrap()) && private.dials("[::1]:1".parse().unwrap()));
        assert!(
            !private.dials("10.9.0.7:1".parse().unwrap()) && !private.dials("51.0.1.1:1".parse().unwrap())
        );
    }
}
