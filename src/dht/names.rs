//! The bootstrap nodes' names: resolved each time they are used, and those that cannot be are known.
//!
//! Addresses that come out of a name are read like those that are written down: an IPv4 address in the form of an IPv6 one is an
//! IPv4 address, and what no host can have is left out.

use crate::address::{Endpoint, EndpointError};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// How long a bootstrap name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses taken of one bootstrap name.
const ADDRS_OF_A_NAME_MAX: usize = 8;

/// The names that could not be resolved, each with the reason. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unresolved(Arc<Mutex<Arc<[String]>>>);

impl Unresolved {
    pub(super) fn get(&self) -> Arc<[String]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says in the log what has changed.
    fn set(&self, failures: Vec<(String, String)>) {
        let told: Arc<[String]> = failures.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = |list: &[String], name: &str| {
            list.iter().any(|told| told.strip_prefix(name).is_some_and(|rest| rest.starts_with(" (")))
        };
        for (name, why) in failures.iter().filter(|(name, _)| !is_in(&before, name)) {
            tracing::warn!(
                "the bootstrap node {name} cannot be resolved: {why}; check the name and this machine's name service. It is \
                 tried again"
            );
        }
        for name in before.iter().filter_map(|told| told.split_once(" (")).map(|(name, _)| name) {
            if !is_in(&told, name) {
                tracing::info!("the bootstrap node {name} can be resolved now");
            }
        }
        *before = told;
    }
}

/// The bootstrap nodes.
#[derive(Debug)]
pub(super) struct Names {
    nodes: Vec<Endpoint>,
    /// IPv6 addresses are of use.
    ipv6: bool,
    unresolved: Unresolved,
}

impl Names {
    pub(super) fn new(
        bootstrap: &[String],
        ipv6: bool,
        unresolved: Unresolved,
    ) -> Result<Self, EndpointError> {
        let nodes: Vec<Endpoint> = bootstrap.iter().map(|node| node.parse()).collect::<Result<_, _>>()?;
        let names = Self { nodes, ipv6, unresolved };
        names.unresolved.set(names.useless().collect());
        Ok(names)
    }

    /// The addresses, when none has to be resolved.
    pub(super) fn literal(&self) -> Option<Vec<SocketAddr>> {
        self.nodes.iter().map(Endpoint::address).collect()
    }

    /// IPv6 addresses of a node that does without IPv6.
    fn useless(&self) -> impl Iterator<Item = (String, String)> {
        let is_useless = |address: &SocketAddr| address.is_ipv6() && !self.ipv6;
        let addresses = self.nodes.iter().filter_map(Endpoint::address).filter(is_useless);
        addresses.map(|address| (address.to_string(), NO_IPV6.to_owned()))
    }

    /// All addresses, and notes which names have none.
    pub(super) async fn resolve(&self) -> Vec<SocketAddr> {
        let (mut addrs, mut failures) = (Vec::new(), self.useless().collect::<Vec<_>>());
        for node in &self.nodes {
            let Endpoint::Name { host, port } = node else {
                addrs.extend(node.address());
                continue;
            };
            let found = match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), *port))).await {
                Ok(Ok(found)) => plain(found, self.ipv6),
                Ok(Err(error)) => Err(cause(&error)),
                Err(_) => Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
            };
            match found {
                Ok(found) => addrs.extend(found),
                Err(why) => failures.push((node.to_string(), why)),
            }
        }
        self.unresolved.set(failures);
        addrs
    }
}

const NO_IPV6: &str = "it has an IPv6 address only, and IPv6 is used with --ipv6 alone";

/// Those of a name's addresses that are of use, the first [`ADDRS_OF_A_NAME_MAX`] of them.
fn plain(found: impl Iterator<Item = SocketAddr>, ipv6: bool) -> Result<Vec<SocketAddr>, String> {
    let (mut addrs, mut is_host) = (Vec::new(), false);
    for address in found.filter_map(|address| Endpoint::of_address(address).ok()) {
        is_host = true;
        let is_of_use = address.is_ipv4() || ipv6;
        if is_of_use && addrs.len() < ADDRS_OF_A_NAME_MAX && !addrs.contains(&address) {
            addrs.push(address);
        }
    }
    match (addrs.is_empty(), is_host) {
        (false, _) => Ok(addrs),
        (true, true) => Err(NO_IPV6.into()),
        (true, false) => Err("it has no address of a host".into()),
    }
}

/// What the system's resolver said, without what is said already.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_a_name_resolves_to_is_unmapped_and_what_is_no_host_is_left_out() {
        let found = addresses(&["[::ffff:10.9.0.1]:1", "10.9.0.1:1", "0.0.0.0:1", "[2001:db8::1]:1"]);
        assert_eq!(plain(found.into_iter(), true), Ok(addresses(&["10.9.0.1:1", "[2001:db8::1]:1"])));
        let many = (0..20).map(|n| SocketAddr::from(([10, 0, 0, n], 1)));
        assert_eq!(plain(many, false).unwrap().len(), ADDRS_OF_A_NAME_MAX);
        // What is of no use takes no place of what is.
        let many = (0..20).map(|n| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n), 1)));
        let then = addresses(&["10.9.0.1:1"]);
        assert_eq!(plain(many.clone().chain(then.clone()), false), Ok(then.clone()));
        assert_eq!(plain(then.into_iter().chain(many), true).unwrap().len(), ADDRS_OF_A_NAME_MAX);
    }

    #[test]
    fn a_name_of_no_use_says_why() {
        let says = |texts: &[&str]| plain(addresses(texts).into_iter(), false).unwrap_err();
        assert!(says(&["[2001:db8::1]:1"]).contains("--ipv6"));
        assert!(says(&["255.255.255.255:1"]).contains("no address of a host"));
        assert!(says(&[]).contains("no address"));
        let names = Names::new(&["[2001:db8::1]:7".to_owned()], false, Unresolved::default()).unwrap();
        assert!(names.unresolved.get()[0].starts_with("[2001:db8::1]:7 (it has an IPv6 address only"));
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_is_known_by_its_name_and_the_others_are_used() {
        let nodes = ["no-such-host.invalid:9".to_owned(), "[::ffff:127.0.0.1]:8".to_owned()];
        let unresolved = Unresolved::default();
        let names = Names::new(&nodes, false, unresolved.clone()).unwrap();
        assert!(names.literal().is_none() && unresolved.get().is_empty());
        assert_eq!(names.resolve().await, addresses(&["127.0.0.1:8"]));
        assert!(unresolved.get()[0].starts_with("no-such-host.invalid:9 ("), "{:?}", unresolved.get());
        // What is said once is not said again, and is forgotten when it is so no longer.
        names.resolve().await;
        assert_eq!(unresolved.get().len(), 1);
        unresolved.set(Vec::new());
        assert!(unresolved.get().is_empty());
        assert!(Names::new(&["10.9.0.1".to_owned()], false, unresolved).is_err());
    }
}
