//! How many nodes of one network the routing table takes: on public networks one a host, and few a prefix.
//!
//! Ids are free, addresses are not. Who holds one address is one node here, and who holds a /24 fills no bucket with it. Exempt
//! ranges (a test network on one machine, a LAN) have no such limit.

use super::source::{Host, Prefix, Ranges};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
};

/// Nodes of one prefix in a bucket: a tenth of it.
const PREFIX_IN_BUCKET_MAX: usize = 2;
/// Nodes of one prefix in the table: fewer than half of a shortlist, wherever they stand.
const PREFIX_IN_TABLE_MAX: usize = 8;

/// The public hosts and prefixes that a table's nodes are of; as long as the table.
pub(super) struct Diversity {
    ranges: Ranges,
    hosts: HashMap<Host, usize>,
    prefixes: HashMap<Prefix, usize>,
}

impl Diversity {
    pub(super) fn new(ranges: Ranges) -> Self {
        Self { ranges, hosts: HashMap::new(), prefixes: HashMap::new() }
    }

    pub(super) fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// Whether one more node may enter, into a bucket with nodes of these addresses.
    pub(super) fn admits(&self, ip: IpAddr, bucket: impl Iterator<Item = IpAddr>) -> bool {
        if self.ranges.exempt(ip) {
            return true;
        }
        let prefix = Prefix::of(ip);
        !self.hosts.contains_key(&Host::of(ip))
            && self.prefixes.get(&prefix).is_none_or(|held| *held < PREFIX_IN_TABLE_MAX)
            && bucket.filter(|other| Prefix::of(*other) == prefix).count() < PREFIX_IN_BUCKET_MAX
    }

    pub(super) fn add(&mut self, ip: IpAddr) {
        if !self.ranges.exempt(ip) {
            *self.hosts.entry(Host::of(ip)).or_default() += 1;
            *self.prefixes.entry(Prefix::of(ip)).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, ip: IpAddr) {
        if !self.ranges.exempt(ip) {
            take_one(&mut self.hosts, Host::of(ip));
            take_one(&mut self.prefixes, Prefix::of(ip));
        }
    }
}

fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut held) = counts.entry(key) {
        *held.get_mut() -= 1;
        if *held.get() == 0 {
            held.remove();
        }
    }
}
