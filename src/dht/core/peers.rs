//! Announced peers by name: bounded, each gone when it was not repeated in time. Who announces the most makes room first (see
//! [`quota`](super::quota)); within a full name a source that is there already replaces its own.

use super::{
    Now,
    family::Family,
    id::{ID_BYTES, NodeId},
    quota::{Quota, Rank},
    source::{Payer, Ranges},
};
use rand::{RngExt, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

/// Peers of one name. A reply holds about 90; ten times that is variety enough, and keeps one announcement cheap.
const PEERS_OF_A_NAME_MAX: usize = 1000;

/// Serials up to this one are for peers of an earlier run: they are older than whoever is announced in this one.
const RESTORED_MAX: u64 = 1 << 32;

#[derive(Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    serial: u64,
    shared_bits: u8,
}

impl Peer {
    fn rank(&self) -> Rank {
        Rank { shared_bits: self.shared_bits, used: self.serial }
    }
}

/// Names that are given for so long, and then others (BEP51).
const SAMPLE_EVERY: Duration = Duration::from_mins(1);
/// Names in one sample: as many nodes fit beside them.
const SAMPLE_MAX: usize = 20;

/// Some names of 20 bytes, the only ones that others can ask for in so many words.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) names: Arc<[[u8; ID_BYTES]]>,
    /// How many there are in all.
    pub(super) num: usize,
    /// For how many seconds more these are given.
    pub(super) interval: u32,
    until: Now,
}

pub(super) struct Peers {
    names: HashMap<Arc<[u8]>, Vec<Peer>>,
    sample: Option<Sample>,
    by_age: BTreeMap<u64, (Now, Arc<[u8]>, SocketAddr)>,
    quota: Quota<u64>,
    own: NodeId,
    ranges: Ranges,
    serial: u64,
    /// The last serial given to a peer of an earlier run.
    restored: u64,
    max: usize,
    /// Zero: peers do not expire.
    age_max: Duration,
}

impl Peers {
    pub(super) fn new(max: usize, age_max: Duration, own: NodeId, ranges: Ranges) -> Self {
        let (names, by_age, quota) = (HashMap::new(), BTreeMap::new(), Quota::new());
        let (serial, restored) = (RESTORED_MAX, 0);
        Self { names, sample: None, by_age, quota, own, ranges, serial, restored, max, age_max }
    }

    /// The own id has changed. What is stored keeps its rank until it is announced again.
    pub(super) fn moved(&mut self, own: NodeId) {
        self.own = own;
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Notes an announcement. Returns the name as it is stored, and how many others had to go.
    pub(super) fn announce(&mut self, name: &[u8], addr: SocketAddr, now: Now) -> (Arc<[u8]>, usize) {
        self.serial += 1;
        self.insert(name, addr, now, self.serial)
    }

    /// Takes back a peer that was last announced at `at`, unless its time is over or it was announced since.
    pub(super) fn restore(&mut self, name: &[u8], addr: SocketAddr, at: Now, now: Now) {
        let over = !self.age_max.is_zero() && now.since(at) >= self.age_max;
        let known = self.names.get(name).is_some_and(|peers| peers.iter().any(|peer| peer.addr == addr));
        if !over && !known && self.restored < RESTORED_MAX {
            self.restored += 1;
            self.insert(name, addr, at, self.restored);
        }
    }

    fn insert(&mut self, name: &[u8], addr: SocketAddr, at: Now, serial: u64) -> (Arc<[u8]>, usize) {
        let name = self.names.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
        self.remove(&name, addr);
        let payer = self.ranges.payer(addr.ip());
        let of_name = self.names.get(&name).map_or(&[][..], Vec::as_slice);
        let mut evicted = 0;
        if of_name.len() >= PEERS_OF_A_NAME_MAX {
            let foreign = |peer: &&Peer| (self.ranges.payer(peer.addr.ip()) != payer, peer.serial);
            if let Some(oldest) = of_name.iter().min_by_key(foreign).map(|peer| peer.addr) {
                self.remove(&name, oldest);
                evicted += 1;
            }
        }
        while self.by_age.len() >= self.max.max(1) {
            let Some(victim) = self.quota.victim(payer, self.max) else { break };
            self.remove_serial(victim);
            evicted += 1;
        }
        let peer = Peer { addr, serial, shared_bits: self.shared_bits(&name, payer) };
        self.quota.add(payer, peer.rank(), serial);
        self.by_age.insert(serial, (at, Arc::clone(&name), addr));
        self.names.entry(Arc::clone(&name)).or_default().push(peer);
        (name, evicted)
    }

    fn remove(&mut self, name: &Arc<[u8]>, addr: SocketAddr) {
        let Some(peers) = self.names.get_mut(name) else { return };
        if let Some(at) = peers.iter().position(|peer| peer.addr == addr) {
            let peer = peers.swap_remove(at);
            if peers.is_empty() {
                self.names.remove(name);
            }
            self.by_age.remove(&peer.serial);
            self.quota.remove(self.ranges.payer(addr.ip()), peer.rank(), peer.serial);
        }
    }

    /// As of items: only what comes from a public source is ranked by distance.
    fn shared_bits(&self, name: &[u8], payer: Payer) -> u8 {
        match payer {
            Payer::Prefix(_) => self.own.shared_bits(&NodeId::of_target(name)) as u8,
            Payer::Own | Payer::Host(_) => 0,
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((&serial, _)) = self.by_age.first_key_value() else { return false };
        self.remove_serial(serial);
        true
    }

    fn remove_serial(&mut self, serial: u64) {
        if let Some((_, name, addr)) = self.by_age.get(&serial) {
            let (name, addr) = (Arc::clone(name), *addr);
            self.remove(&name, addr);
        }
    }

    /// Peers of a name (those of one family only: who asks over IPv4 may have no IPv6), at most `max`, into a buffer that is cleared
    /// first. Of more than that, those from a random place on, so that a popular name costs no more than what is sent of it.
    pub(super) fn pick(
        &self,
        name: &[u8],
        family: Option<Family>,
        max: usize,
        rng: &mut StdRng,
        into: &mut Vec<SocketAddr>,
    ) {
        into.clear();
        let Some(peers) = self.names.get(name) else { return };
        let wanted = |addr: &SocketAddr| family.is_none_or(|family| Family::of(addr) == family);
        // A name has a peer, or it is not there.
        let (before, after) = peers.split_at(rng.random_range(0..peers.len().max(1)));
        into.extend(after.iter().chain(before).map(|peer| peer.addr).filter(wanted).take(max));
    }

    /// Peers in the order of their last announcement, after the one of this serial.
    pub(super) fn since(&self, serial: u64) -> impl Iterator<Item = (u64, Now, &Arc<[u8]>, SocketAddr)> {
        let after = (Bound::Excluded(serial), Bound::Unbounded);
        self.by_age.range(after).map(|(serial, (at, name, addr))| (*serial, *at, name, *addr))
    }

    /// The serial of the last announcement.
    pub(super) fn last_serial(&self) -> u64 {
        self.serial
    }

    /// Some names, the same ones for a while: who wants them all has to ask others meanwhile.
    pub(super) fn sample(&mut self, now: Now, rng: &mut StdRng) -> Sample {
        if let Some(sample) = self.sample.clone().filter(|sample| now < sample.until) {
            let interval = sample.until.since(now).as_secs() as u32;
            return Sample { interval, ..sample };
        }
        let mut names: Vec<[u8; ID_BYTES]> =
            self.names.keys().filter_map(|name| name[..].try_into().ok()).collect();
        // A map's order is random, and not the seed's.
        names.sort_unstable();
        let num = names.len();
        shuffle_cut(&mut names, SAMPLE_MAX, rng);
        let interval = SAMPLE_EVERY.as_secs() as u32;
        let sample = Sample { names: names.into(), num, interval, until: now.plus(SAMPLE_EVERY) };
        self.sample.insert(sample).clone()
    }

    /// Drops what was not announced again in time.
    pub(super) fn expire(&mut self, now: Now) {
        while self.next_expiry().is_some_and(|at| at <= now) && self.remove_oldest() {}
    }

    /// When the next one expires.
    pub(super) fn next_expiry(&self) -> Option<Now> {
        let (_, (at, _, _)) = self.by_age.first_key_value().filter(|_| !self.age_max.is_zero())?;
        Some(at.plus(self.age_max))
    }
}

/// Puts a random choice of `max` first, in random order, and cuts the rest.
pub(super) fn shuffle_cut<T>(all: &mut Vec<T>, max: usize, rng: &mut StdRng) {
    for at in 0..max.min(all.len()) {
        let other = rng.random_range(at..all.len());
        all.swap(at, other);
    }
    all.truncate(max);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::net::Ipv4Addr;

    fn store(max: usize, age_max: Duration) -> Peers {
        Peers::new(max, age_max, NodeId([0; 20]), Ranges { limit_private: false })
    }
    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }
    fn picked(peers: &Peers, name: &[u8], max: usize) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        peers.pick(name, None, max, &mut StdRng::seed_from_u64(1), &mut found);
        found.sort();
        found
    }

    #[test]
    fn a_peer_lives_from_its_last_announcement() {
        let mut peers = store(100, Duration::from_mins(2));
        peers.announce(b"a", addr(1), at(0));
        peers.announce(b"a", addr(2), at(0));
        peers.announce(b"a", addr(1), at(100));
        peers.expire(at(119));
        assert_eq!(picked(&peers, b"a", 9), [addr(1), addr(2)]);
        peers.expire(at(120));
        assert_eq!(picked(&peers, b"a", 9), [addr(1)]);
        peers.expire(at(220));
        assert_eq!((peers.len(), peers.names.len()), (0, 0));
    }

    #[test]
    fn age_zero_means_that_nothing_expires() {
        let mut peers = store(100, Duration::ZERO);
        peers.announce(b"a", addr(1), at(0));
        peers.expire(at(1_000_000));
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn both_bounds_push_the_oldest_out() {
        let mut peers = store(3, Duration::ZERO);
        for port in 1..=4 {
            peers.announce(b"a", addr(port), at(0));
        }
        assert_eq!(picked(&peers, b"a", 9), [addr(2), addr(3), addr(4)]);
        let mut peers = store(5000, Duration::ZERO);
        for port in 1..=1001 {
            peers.announce(b"a", addr(port), at(0));
        }
        assert_eq!(peers.len(), PEERS_OF_A_NAME_MAX);
        assert!(!picked(&peers, b"a", 2000).contains(&addr(1)));
    }

    #[test]
    fn every_peer_is_chosen_as_often_as_the_others() {
        let mut peers = store(500, Duration::ZERO);
        for port in 1..=50 {
            peers.announce(b"a", addr(port), at(0));
        }
        let (mut rng, mut found, mut chosen) = (StdRng::seed_from_u64(1), Vec::new(), [0; 50]);
        for _ in 0..10_000 {
            peers.pick(b"a", None, 5, &mut rng, &mut found);
            for peer in &found {
                chosen[usize::from(peer.port()) - 1] += 1;
            }
        }
        assert!(chosen.iter().all(|times| (850..1150).contains(times)), "{chosen:?}");
    }

    #[test]
    fn a_choice_has_no_repeats() {
        let mut peers = store(500, Duration::ZERO);
        for port in 1..=300 {
            peers.announce(b"a", addr(port), at(0));
        }
        let mut found = picked(&peers, b"a", 90);
        found.dedup();
        assert_eq!(found.len(), 90);
    }

    #[test]
    fn a_hundred_thousand_announcements_from_one_address_push_out_only_its_own() {
        let mut peers = store(1000, Duration::ZERO);
        let honest = |n: u16| SocketAddr::from(([9, (n / 10) as u8, 0, 1], 1 + n % 10));
        for n in 0..990 {
            peers.announce(format!("name {}", n % 7).as_bytes(), honest(n), at(0));
        }
        for n in 0..100_000u32 {
            let from = SocketAddr::from(([8, 8, 8, n as u8], (n >> 8) as u16 + 1));
            peers.announce(format!("flood {n}").as_bytes(), from, at(1));
        }
        let kept: usize = (0..7).map(|n| picked(&peers, format!("name {n}").as_bytes(), 1000).len()).sum();
        assert_eq!(peers.len(), 1000);
        assert!(kept >= 980, "{kept} of 990 are left");
    }

    #[test]
    fn one_source_takes_one_place_from_the_others_in_a_full_name() {
        let mut peers = store(5000, Duration::ZERO);
        for n in 0..1000u16 {
            peers.announce(b"a", SocketAddr::from(([9, (n / 250) as u8, n as u8, 1], 1)), at(0));
        }
        for port in 1..5000 {
            peers.announce(b"a", SocketAddr::from(([8, 8, 8, 8], port)), at(1));
        }
        let found = picked(&peers, b"a", 1000);
        assert_eq!(found.iter().filter(|peer| peer.ip() == std::net::IpAddr::from([8, 8, 8, 8])).count(), 1);
    }
}
