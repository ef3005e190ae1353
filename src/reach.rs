//! Where this node is for others, and whether they reach it there.
//!
//! Pure. What its owner said of addresses is a [`Place`]. Where that leaves a question, others answer it: whoever is greeted says from
//! which address it was asked, and on request dials back to it, on the port that this node names ([`guard`] has what that may cost).
//! Each network prefix has one voice, so that one hosting company's customer cannot say where everybody is; in private ranges, where
//! many honest nodes share a prefix, each host has one.
//!
//! That a hello came shows that somebody got through, and not by which address: that is his word. So an address that is this machine's
//! own is believed once somebody got through, and any other, such as a router's, once two voices that got through name it.
//!
//! Two of other prefixes that dialed back in vain, and nobody who got through since: nobody reaches this node ([`Reachability`]). Who
//! asks from outside has got through as well. What cannot be known is [`Reachability::Unknown`].

pub mod guard;
mod place;
#[cfg(test)]
mod tests;

pub use place::{Notice, Place, unheard};

use crate::{
    address::{Host, Prefix, is_host, is_private},
    identity::ClientId,
    time::Now,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Addresses that others are told at most.
pub const ADDRESSES_MAX: usize = 4;
/// Voices that make an address believed that this machine does not have.
const VOICES_TO_BELIEVE: usize = 2;
/// Voices that are remembered.
const VOICES_MAX: usize = 64;
/// Of these, the ones that are asked to dial back: each may be in another network, and two tell whether anybody gets through.
const DIALERS_WANTED: usize = 8;
/// Those who dial back at the same time.
const DIALS_AT_ONCE: usize = 2;
/// How often one who got through is asked again.
const RENEW_EVERY: Duration = Duration::from_mins(10);
/// How soon one who did not get through, or did not answer, is asked again; it doubles.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// The longest.
const AGAIN_MAX: Duration = Duration::from_mins(5);
/// How long an address is believed after somebody got through to it last.
const BELIEVED_FOR: Duration = Duration::from_hours(1);
/// How long one who got through speaks for it that others do.
const REACHED_FOR: Duration = Duration::from_mins(30);

/// A node that may dial back, and where it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub client: ClientId,
    /// Where.
    pub address: SocketAddr,
}

/// What one who dialed back says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialedBack {
    /// From where it was asked, as it says.
    pub seen: IpAddr,
    /// True when this machine itself has that address.
    pub own: bool,
    /// True when its hello came.
    pub reached: bool,
}

/// Whether others reach this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody who could tell has been asked.
    #[default]
    Unknown,
    /// Somebody of another network prefix got through.
    Reached,
    /// Two of other prefixes did not, and nobody did since.
    Unreached {
        /// The addresses that they dialed.
        tried: Vec<SocketAddr>,
    },
    /// It tells nobody an address, because its RPC listens on loopback and the rest of it does not.
    Nowhere,
}

/// Who has one voice: a prefix, or a host in private ranges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Voice {
    Prefix(Prefix),
    Host(Host),
}

impl Voice {
    fn of(ip: IpAddr) -> Self {
        if is_private(ip) { Self::Host(Host::of(ip)) } else { Self::Prefix(Prefix::of(ip)) }
    }
}

/// What is known by one voice.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// Where it is itself.
    from: IpAddr,
    /// Where it sees this node.
    seen: IpAddr,
    /// True when this machine has that address.
    own: bool,
    heard_at: Now,
    /// When it got through last.
    reached_at: Option<Now>,
    /// When it did not, unless it has since.
    failed_at: Option<Now>,
}

/// When somebody may be asked again, and how often it has been asked in vain.
#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Now,
    in_vain: u32,
}

/// The state of it.
#[derive(Debug)]
pub struct Reach {
    place: Place,
    rpc_port: u16,
    words: BTreeMap<Voice, Word>,
    asked: BTreeSet<Voice>,
    waits: BTreeMap<Voice, Wait>,
    /// When somebody asked from outside last, and whether from a public address.
    arrived_at: BTreeMap<bool, Now>,
    believed: Vec<SocketAddr>,
}

impl Reach {
    /// Of a node that is there by its own settings, with its RPC on this port.
    #[must_use]
    pub fn new(place: Place, rpc_port: u16) -> Self {
        let believed = place.addresses().to_vec();
        Self {
            place,
            rpc_port,
            words: BTreeMap::new(),
            asked: BTreeSet::new(),
            waits: BTreeMap::new(),
            arrived_at: BTreeMap::new(),
            believed,
        }
    }

    /// Whether others are asked where this node is, or its settings say all that there is to know.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.place.asks()
    }

    /// Where others are told that this node's RPC is.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.believed
    }

    /// Somebody who was greeted says from where it was asked.
    pub fn seen(&mut self, now: Now, by: Peer, seen: IpAddr) {
        self.hear(now, by, seen);
    }

    /// Somebody asks this node something, from there.
    pub fn arrived(&mut self, now: Now, from: IpAddr) {
        if !from.to_canonical().is_loopback() && !self.is_of_own_prefix(from) {
            self.arrived_at.insert(!is_private(from), now);
        }
    }

    /// Somebody who was to dial back has done so, or has not answered.
    pub fn dialed(&mut self, now: Now, by: Peer, answer: Option<DialedBack>) {
        let voice = Voice::of(by.address.ip());
        self.asked.remove(&voice);
        let Some(DialedBack { seen, own, reached }) = answer else { return self.wait(now, voice, false) };
        self.wait(now, voice, reached);
        let Some(word) = self.hear(now, by, seen) else { return };
        word.own = own;
        if reached {
            (word.reached_at, word.failed_at) = (Some(now), None);
        } else {
            word.failed_at = Some(now);
        }
        self.believe(now);
    }

    /// Who did not get through, or did not answer, is asked again after a while that grows.
    fn wait(&mut self, now: Now, voice: Voice, reached: bool) {
        if self.waits.len() >= VOICES_MAX && !self.waits.contains_key(&voice) {
            let first = self.waits.iter().min_by_key(|(_, wait)| wait.until).map(|(voice, _)| *voice);
            first.and_then(|voice| self.waits.remove(&voice));
        }
        let in_vain = self.waits.get(&voice).map_or(0, |wait| wait.in_vain);
        let (pause, in_vain) = if reached {
            (RENEW_EVERY, 0)
        } else {
            (AGAIN_AFTER.saturating_mul(1 << in_vain.min(8)).min(AGAIN_MAX), in_vain.saturating_add(1))
        };
        self.waits.insert(voice, Wait { until: now.plus(pause), in_vain });
    }

    /// Notes where somebody sees this node. Who sees it elsewhere than before is asked anew.
    fn hear(&mut self, now: Now, by: Peer, seen: IpAddr) -> Option<&mut Word> {
        let (from, seen) = (by.address.ip().to_canonical(), seen.to_canonical());
        // What no host can have, and a private network of which somebody outside cannot know.
        let is_place = !seen.is_loopback() && is_host(seen);
        if !self.place.asks() || from.is_loopback() || !is_place || is_private(seen) && !is_private(from) {
            return None;
        }
        let voice = Voice::of(from);
        if self.words.len() >= VOICES_MAX && !self.words.contains_key(&voice) {
            let oldest = self.words.iter().min_by_key(|(_, word)| word.heard_at).map(|(voice, _)| *voice);
            oldest.and_then(|voice| self.words.remove(&voice));
        }
        let fresh = Word { from, seen, own: false, heard_at: now, reached_at: None, failed_at: None };
        let word = self.words.entry(voice).or_insert(fresh);
        if word.seen != seen {
            *word = fresh;
            self.waits.remove(&voice);
        }
        (word.from, word.heard_at) = (from, now);
        Some(word)
    }

    /// Whom to ask to dial back now, of those who were there last; they count as asked.
    pub fn ask(&mut self, now: Now, peers: impl IntoIterator<Item = Peer>) -> Vec<Peer> {
        let mut some = Vec::new();
        if !self.place.asks() {
            return some;
        }
        self.forget_old(now);
        let dialers = self.words.values().filter(|word| word.was_asked()).count() + self.asked.len();
        let mut room = DIALERS_WANTED.saturating_sub(dialers);
        for peer in peers {
            let (ip, voice) = (peer.address.ip().to_canonical(), Voice::of(peer.address.ip()));
            if self.asked.len() >= DIALS_AT_ONCE {
                break;
            }
            if ip.is_loopback() || self.asked.contains(&voice) {
                continue;
            }
            let word = self.words.get(&voice);
            let is_new = word.is_none_or(|word| !word.was_asked());
            // One that sees this node where nobody else does may be the only one of its network.
            let is_only = word.is_some_and(|word| {
                !self.words.values().any(|other| other.was_asked() && other.seen == word.seen)
            });
            let waits = self.waits.get(&voice).is_some_and(|wait| wait.until > now);
            if waits || is_new && room == 0 && !is_only {
                continue;
            }
            room = room.saturating_sub(usize::from(is_new));
            self.asked.insert(voice);
            some.push(peer);
        }
        some
    }

    fn forget_old(&mut self, now: Now) {
        let before = self.words.len();
        self.words.retain(|_, word| now.since(word.heard_at) < BELIEVED_FOR);
        if self.words.len() < before {
            self.believe(now);
        }
    }

    /// Works out which addresses are believed, of those whose voices got through: this machine's own, and those that two name; those
    /// of most voices first, and of these those that were believed before.
    fn believe(&mut self, now: Now) {
        let given = self.place.addresses();
        let mut voices: BTreeMap<IpAddr, (usize, bool)> = BTreeMap::new();
        for word in self.words.values().filter(|word| word.has_reached(now, BELIEVED_FOR)) {
            let (count, own) = voices.entry(word.seen).or_default();
            *count += 1;
            *own |= word.own;
        }
        let of = |ip: &IpAddr| SocketAddr::new(*ip, self.rpc_port);
        let place = |ip: &IpAddr| self.believed.iter().position(|at| *at == of(ip)).unwrap_or(usize::MAX);
        let mut observed: Vec<(IpAddr, usize)> = voices
            .into_iter()
            .filter(|(_, (count, own))| self.place.observes() && (*own || *count >= VOICES_TO_BELIEVE))
            .map(|(ip, (count, _))| (ip, count))
            .collect();
        observed.sort_by_key(|(ip, voices)| (usize::MAX - voices, place(ip), *ip));
        let observed = observed.iter().map(|(ip, _)| of(ip)).filter(|at| !given.contains(at));
        self.believed = given.iter().copied().chain(observed).take(ADDRESSES_MAX).collect();
    }

    fn is_of_own_prefix(&self, ip: IpAddr) -> bool {
        let own = self.believed.iter().map(SocketAddr::ip).chain(self.words.values().map(|word| word.seen));
        own.into_iter().any(|own| Prefix::of(own) == Prefix::of(ip))
    }

    /// Whether others reach this node.
    #[must_use]
    pub fn reachability(&self, now: Now) -> Reachability {
        if self.place == Place::Nowhere {
            return Reachability::Nowhere;
        }
        // Who is in the same private network says nothing about those who are not.
        let is_public = self.words.values().any(|word| !is_private(word.seen));
        let counts = |word: &&Word| {
            Prefix::of(word.from) != Prefix::of(word.seen) && (!is_public || !is_private(word.from))
        };
        let words = || self.words.values().filter(counts);
        let arrived = [true, false].into_iter().filter(|public| *public || !is_public);
        let arrived_at = arrived.filter_map(|public| self.arrived_at.get(&public).copied()).max();
        // They dial the address that they see. Where its owner said that others reach it elsewhere, that says nothing.
        let is_told = |word: &&Word| {
            !self.place.is_given() || self.believed.iter().any(|address| address.ip() == word.seen)
        };
        let failing = || words().filter(is_told).filter(|word| word.failed_at > arrived_at);
        let prefixes: BTreeSet<Prefix> = failing().map(|word| Prefix::of(word.from)).collect();
        if prefixes.len() >= 2 && !words().any(|word| word.gets_through(now)) {
            let tried: BTreeSet<IpAddr> = failing().map(|word| word.seen).collect();
            let tried = tried.into_iter().map(|ip| SocketAddr::new(ip, self.dialed_port())).collect();
            return Reachability::Unreached { tried };
        }
        let reached_at = words().filter_map(|word| word.reached_at).chain(arrived_at).max();
        match reached_at {
            Some(at) if now.since(at) < REACHED_FOR => Reachability::Reached,
            _ => Reachability::Unknown,
        }
    }

    /// The port that those who dial back are told.
    #[must_use]
    pub fn dialed_port(&self) -> u16 {
        let given = self.place.addresses().first().filter(|_| self.place.is_given());
        given.map_or(self.rpc_port, SocketAddr::port)
    }
}

impl Word {
    fn was_asked(&self) -> bool {
        self.reached_at.is_some() || self.failed_at.is_some()
    }

    /// The last time that it tried.
    fn gets_through(&self, now: Now) -> bool {
        self.failed_at.is_none() && self.has_reached(now, REACHED_FOR)
    }

    fn has_reached(&self, now: Now, within: Duration) -> bool {
        self.reached_at.is_some_and(|at| now.since(at) < within)
    }
}
