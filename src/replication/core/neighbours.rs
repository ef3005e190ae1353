//! The few nodes that this one exchanges news with.
//!
//! Both sides of a link know of it (HyParView's active view: Leitão, Pereira, Rodrigues, 2007). Whom to ask is chosen at random among the
//! nodes whose heads are fresh, then among those met otherwise, then among those that have fallen silent; HyParView's passive view and
//! its shuffles are what the heads do here anyway. A node without neighbours may not be refused; a stranger that wants to be one has
//! shown by its signature that it is who it says, and no more. Half of the places are for nodes that were chosen here.

use super::{
    Asked, Core, Effect, SignedHead, Timer, UncheckedHead, Via,
    limits::{
        ADDRESSES_KNOWN_MAX, BACK_OFF_MAX, BACK_OFF_MIN, BAN, COULD_BE_LOOKED_AT_MAX, JOINS_MAX, LAZY_MAX,
        NEIGHBOURS, NEIGHBOURS_A_PREFIX_MAX, NEIGHBOURS_MAX, PING_AFTER, SEEK_AT_LEISURE_EVERY, SEEK_EVERY,
        STRANGERS_MAX,
    },
    talk::{Answer, Carried, Message, News, Question},
};
use crate::{
    address::{Prefix, is_private},
    bep44::Target,
    identity::ClientId,
    time::Now,
};
use rand::RngExt;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

/// How often the neighbours are looked after.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// Of the places that others may take, so many stay for those that are chosen here.
const CHOSEN_MIN: usize = NEIGHBOURS / 2;

#[derive(Debug)]
struct Neighbour {
    /// Makers whose news it gets by name only, because it gets the news sooner from others.
    lazy: BTreeSet<ClientId>,
    /// Whether this node asked, not the other.
    chosen: bool,
    addresses: Vec<SocketAddr>,
    heard_at: Now,
    /// Names that it will be told.
    owed: Vec<News>,
    since: Now,
    /// It was asked for the heads that it knows, or is about to be.
    asked_for_heads: bool,
    /// What it held when it became a neighbour is known, or it will not tell.
    compared: bool,
}

/// What was not yet asked of a neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewNeighbour {
    pub peer: ClientId,
    pub since: Now,
    pub asked_for_heads: bool,
    pub compared: bool,
}

/// A node that is left alone until then.
#[derive(Clone, Copy, Debug)]
struct BackOff {
    failures: u32,
    until: Now,
    is_ban: bool,
}

/// The heads of the makers after this one.
#[derive(Clone, Copy, Debug)]
struct Page {
    after: Option<ClientId>,
}

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    links: BTreeMap<ClientId, Neighbour>,
    /// Nodes that are asked to be neighbours.
    joining: BTreeSet<ClientId>,
    strangers: BTreeMap<ClientId, Vec<SocketAddr>>,
    back_off: BTreeMap<ClientId, BackOff>,
    heads_wanted: VecDeque<(ClientId, Option<ClientId>)>,
    heads_asked: Option<Page>,
    sought_at: Option<Now>,
    evicted_at: Option<Now>,
    /// How many there could be.
    wanted: usize,
}

impl Neighbours {
    pub(super) fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.links.keys().copied()
    }

    /// How many this node would have, as of the last second.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    #[cfg(test)]
    pub(super) fn joining(&self) -> Vec<ClientId> {
        self.joining.iter().copied().collect()
    }

    pub(super) fn contains(&self, peer: &ClientId) -> bool {
        self.links.contains_key(peer)
    }

    /// A neighbour gets this maker's news sooner from others.
    pub(super) fn prune(&mut self, peer: &ClientId, makers: Vec<ClientId>) {
        if let Some(link) = self.links.get_mut(peer) {
            let room = LAZY_MAX.saturating_sub(link.lazy.len());
            link.lazy.extend(makers.into_iter().take(room));
        }
    }

    /// A neighbour wants these makers' news at once.
    pub(super) fn graft(&mut self, peer: &ClientId, makers: &[ClientId]) {
        if let Some(link) = self.links.get_mut(peer) {
            for maker in makers {
                link.lazy.remove(maker);
            }
        }
    }

    /// All neighbours, and which get this maker's news at once.
    pub(super) fn links(&self, maker: &ClientId) -> Vec<(ClientId, bool)> {
        self.links.iter().map(|(peer, link)| (*peer, !link.lazy.contains(maker))).collect()
    }

    /// Notes that a neighbour is there. Returns whether it is one.
    pub(super) fn heard(&mut self, peer: &ClientId, now: Now) -> bool {
        let link = self.links.get_mut(peer);
        link.map(|link| link.heard_at = now).is_some()
    }

    pub(super) fn owe(&mut self, peer: ClientId, news: News) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed.push(news);
        }
    }

    pub(super) fn owes_any(&self) -> bool {
        self.links.values().any(|link| !link.owed.is_empty())
    }

    pub(super) fn take_owed(&mut self) -> Vec<(ClientId, Vec<News>)> {
        let owing = self.links.iter_mut().filter(|(_, link)| !link.owed.is_empty());
        owing.map(|(peer, link)| (*peer, std::mem::take(&mut link.owed))).collect()
    }

    /// The neighbours that something is still to be asked of.
    pub(super) fn not_yet_asked(&self) -> Vec<NewNeighbour> {
        let new = self.links.iter().filter(|(_, link)| !(link.asked_for_heads && link.compared));
        new.map(|(peer, link)| NewNeighbour {
            peer: *peer,
            since: link.since,
            asked_for_heads: link.asked_for_heads,
            compared: link.compared,
        })
        .collect()
    }

    pub(super) fn asked_for_heads(&mut self, peer: &ClientId) {
        if let Some(link) = self.links.get_mut(peer) {
            link.asked_for_heads = true;
        }
    }

    /// What this one holds was asked as of that time, and there is no more to hear of it.
    pub(super) fn was_compared(&mut self, peer: &ClientId, at: Now) {
        if let Some(link) = self.links.get_mut(peer) {
            link.compared |= link.since <= at;
        }
    }

    /// A comparison showed what there was at that time: those that were neighbours then need none of their own.
    pub(super) fn were_compared(&mut self, at: Now) {
        for link in self.links.values_mut() {
            link.compared |= link.since <= at;
        }
    }

    /// Whether this node is still learning who there is.
    pub(super) fn awaits_heads(&self) -> bool {
        self.heads_asked.is_some() || !self.heads_wanted.is_empty()
    }

    pub(super) fn want_heads(&mut self, peer: ClientId, after: Option<ClientId>) {
        if !self.heads_wanted.iter().any(|(wanted, _)| *wanted == peer) {
            self.heads_wanted.push_back((peer, after));
        }
    }

    pub(super) fn next_heads_wanted(&mut self, now: Now) -> Option<(ClientId, Option<ClientId>)> {
        if self.heads_asked.is_some() {
            return None;
        }
        self.heads_wanted.retain(|(peer, _)| self.back_off.get(peer).is_none_or(|b| now >= b.until));
        let (peer, after) = self.heads_wanted.pop_front()?;
        self.heads_asked = Some(Page { after });
        Some((peer, after))
    }

    /// After which maker the heads have to be that came.
    pub(super) fn heads_came(&mut self) -> Option<ClientId> {
        self.heads_asked.take().and_then(|page| page.after)
    }

    fn is_left_alone(&self, peer: &ClientId, now: Now) -> bool {
        self.back_off.get(peer).is_some_and(|back_off| now < back_off.until)
    }

    /// Whether it is left alone for what it sent, and not because it did not answer.
    fn is_banned(&self, peer: &ClientId, now: Now) -> bool {
        self.back_off.get(peer).is_some_and(|back_off| back_off.is_ban && now < back_off.until)
    }

    fn leave_alone(&mut self, peer: ClientId, now: Now, least: Duration) {
        if self.back_off.len() >= STRANGERS_MAX && !self.back_off.contains_key(&peer) {
            let first = self.back_off.iter().min_by_key(|(_, back_off)| back_off.until).map(|(id, _)| *id);
            first.and_then(|id| self.back_off.remove(&id));
        }
        let fresh = BackOff { failures: 0, until: now, is_ban: false };
        let back_off = self.back_off.entry(peer).or_insert(fresh);
        let pause =
            BACK_OFF_MIN.saturating_mul(1 << back_off.failures.min(16)).clamp(least, BACK_OFF_MAX.max(least));
        let is_ban = least >= BAN || back_off.is_ban && now < back_off.until;
        let until = if is_ban { back_off.until.max(now.plus(pause)) } else { now.plus(pause) };
        *back_off = BackOff { failures: back_off.failures + 1, until, is_ban };
    }

    /// Whether one more at these addresses would be one too many of one network prefix.
    fn prefix_is_full(&self, addresses: &[SocketAddr]) -> bool {
        let public = |addresses: &[SocketAddr]| {
            let ips = addresses.iter().map(SocketAddr::ip).filter(|ip| !is_private(*ip));
            ips.map(Prefix::of).collect::<BTreeSet<_>>()
        };
        public(addresses).iter().any(|prefix| {
            let same = self.links.values().filter(|link| public(&link.addresses).contains(prefix));
            same.count() >= NEIGHBOURS_A_PREFIX_MAX
        })
    }

    /// Neighbours that were chosen here and have stayed longest.
    pub(super) fn anchors(&self, count: usize) -> Vec<(ClientId, Vec<SocketAddr>)> {
        let mut chosen: Vec<_> = self.links.iter().filter(|(_, link)| link.chosen).collect();
        chosen.sort_by_key(|(_, link)| link.since);
        chosen.into_iter().take(count).map(|(id, link)| (*id, link.addresses.clone())).collect()
    }
}

impl Core {
    /// The nodes to begin with at the next start.
    #[must_use]
    pub fn anchors(&self, count: usize) -> Vec<(ClientId, Vec<SocketAddr>)> {
        self.neighbours.anchors(count)
    }

    /// Whether this node exchanges news with that one.
    #[must_use]
    pub fn is_neighbour(&self, peer: &ClientId) -> bool {
        self.neighbours.contains(peer)
    }

    /// Where a node may be.
    #[must_use]
    pub fn addresses_of(&self, peer: &ClientId) -> Option<Vec<SocketAddr>> {
        let of_head = self.makers.head(peer).map(|head| &head.addresses);
        let of_link = self.neighbours.links.get(peer).map(|link| &link.addresses);
        let of_stranger = self.neighbours.strangers.get(peer);
        let mut all: Vec<SocketAddr> = Vec::new();
        for address in [of_head, of_link, of_stranger].into_iter().flatten().flatten() {
            if all.len() < ADDRESSES_KNOWN_MAX && !all.contains(address) {
                all.push(*address);
            }
        }
        (!all.is_empty()).then_some(all)
    }

    pub(super) fn met(&mut self, client: ClientId, addresses: Vec<SocketAddr>) {
        if client == self.me || addresses.is_empty() {
            return;
        }
        let strangers = &mut self.neighbours.strangers;
        if strangers.len() >= STRANGERS_MAX && !strangers.contains_key(&client) {
            let unlucky = self.rng.random_range(0..strangers.len());
            let unlucky = strangers.keys().nth(unlucky).copied();
            unlucky.and_then(|id| strangers.remove(&id));
        }
        strangers.insert(client, addresses);
        // It has just shown that it is there.
        if !self.neighbours.is_banned(&client, self.now) {
            self.neighbours.back_off.remove(&client);
        }
        if self.neighbours.links.len() < NEIGHBOURS {
            self.ask_to_join();
        }
    }

    /// Once a second: who is silent is asked whether it is there, who is missing is looked for.
    pub(super) fn upkeep(&mut self) {
        self.timers.set(self.now.plus(UPKEEP_EVERY), Timer::Upkeep);
        let silent: Vec<ClientId> = self
            .neighbours
            .links
            .iter_mut()
            .filter(|(_, link)| self.now.since(link.heard_at) >= PING_AFTER)
            .map(|(peer, link)| {
                // Asked once; the answer, or that there is none, says more.
                link.heard_at = self.now;
                *peer
            })
            .collect();
        for peer in silent {
            self.send(peer, Message::Have(Vec::new()));
        }
        self.neighbours.wanted = self.could_be_neighbours();
        self.makers.forget_silent(self.now);
        self.forget_off_time();
        let every = if self.neighbours.links.is_empty() { SEEK_EVERY } else { SEEK_AT_LEISURE_EVERY };
        if self.neighbours.sought_at.is_none_or(|at| self.now.since(at) >= every) {
            self.neighbours.sought_at = Some(self.now);
            self.effects.push(Effect::Seek);
        }
        self.ask_to_join();
    }

    /// How many of those whose heads are fresh may be neighbours at the same time, as many as are looked for at most.
    fn could_be_neighbours(&self) -> usize {
        let mut of_prefix: BTreeMap<Prefix, usize> = BTreeMap::new();
        let mut may_be = |head: &&SignedHead| {
            let Some(ip) = head.addresses.first().map(SocketAddr::ip) else { return false };
            let same = of_prefix.entry(Prefix::of(ip)).or_default();
            *same += 1;
            is_private(ip) || *same <= NEIGHBOURS_A_PREFIX_MAX
        };
        // Each node begins elsewhere, so that nobody is overlooked by all.
        let heads = self.makers.fresh_heads_after(&self.me, COULD_BE_LOOKED_AT_MAX);
        heads.filter(|head| may_be(head)).take(NEIGHBOURS).count()
    }

    fn ask_to_join(&mut self) {
        while self.neighbours.links.len() + self.neighbours.joining.len() < NEIGHBOURS
            && self.neighbours.joining.len() < JOINS_MAX
        {
            let Some(peer) = self.candidate() else { return };
            let Some(own) = self.makers.own() else { return };
            let urgent = self.neighbours.links.is_empty();
            let question = Question::Join { urgent, head: own.bytes().clone() };
            self.neighbours.joining.insert(peer);
            self.ask(peer, question, Asked::Join);
        }
    }

    /// One that may become a neighbour, at random.
    fn candidate(&mut self) -> Option<ClientId> {
        let fits = |id: &ClientId, addresses: &[SocketAddr]| {
            !addresses.is_empty()
                && *id != self.me
                && !self.neighbours.links.contains_key(id)
                && !self.neighbours.joining.contains(id)
                && !self.neighbours.is_left_alone(id, self.now)
                && !self.neighbours.prefix_is_full(addresses)
        };
        let of_heads = |stale| {
            let heads = self.makers.heads(stale).filter(|head| fits(&head.maker, &head.addresses));
            heads.map(|head| head.maker).collect::<Vec<_>>()
        };
        let met = || {
            let strangers = self.neighbours.strangers.iter().filter(|(id, addresses)| fits(id, addresses));
            strangers.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let some = [of_heads(false), met(), of_heads(true)].into_iter().find(|some| !some.is_empty())?;
        Some(some[self.rng.random_range(0..some.len())])
    }

    pub(super) fn join_answered(&mut self, from: ClientId, answer: Option<Answer<Carried>>) {
        self.neighbours.joining.remove(&from);
        match answer {
            Some(Answer::Joined { accepted, head }) => {
                self.judge_head(from, &head, Via::Fetched(from));
                let is_full = self.neighbours.links.len() >= NEIGHBOURS_MAX;
                if accepted && is_full && !self.neighbours.contains(&from) {
                    // It was given up meanwhile, and others came.
                    self.ask(from, Question::Leave, Asked::Leave);
                } else if accepted {
                    let addresses = self.addresses_of(&from).unwrap_or_default();
                    self.link(from, addresses, true);
                } else {
                    self.neighbours.leave_alone(from, self.now, Duration::ZERO);
                }
            }
            Some(_) => self.punish(from),
            None => {}
        }
    }

    pub(super) fn asked_to_join(&mut self, from: ClientId, urgent: bool, head: &[u8]) -> Answer<Target> {
        let accepted = self.may_join(from, urgent, head);
        if accepted {
            let addresses = UncheckedHead::read(head).map(|head| head.claim().addresses.clone());
            self.link(from, addresses.unwrap_or_default(), false);
            self.judge_head(from, head, Via::Fetched(from));
        }
        let head = self.makers.own().map_or_else(|| [].into(), |own| own.bytes().clone());
        Answer::Joined { accepted, head }
    }

    fn may_join(&mut self, from: ClientId, urgent: bool, head: &[u8]) -> bool {
        let Ok(head) = UncheckedHead::read(head) else { return false };
        let claim = head.claim();
        let is_banned = self.neighbours.is_banned(&from, self.now);
        if from == self.me || claim.maker != from || is_banned || self.makers.own().is_none() {
            return false;
        }
        if self.neighbours.contains(&from) {
            return true;
        }
        if self.neighbours.prefix_is_full(&claim.addresses) {
            return false;
        }
        let chosen = self.neighbours.links.values().filter(|link| link.chosen).count();
        // Those who are asked at this moment may all say yes.
        let kept_free = CHOSEN_MIN.saturating_sub(chosen).max(self.neighbours.joining.len());
        if self.neighbours.links.len() + kept_free < NEIGHBOURS_MAX {
            return true;
        }
        // One that has nobody is taken in, once in a while, for one that asked to be here itself.
        let may_evict = self.neighbours.evicted_at.is_none_or(|at| self.now.since(at) >= UPKEEP_EVERY);
        if !(urgent && may_evict) {
            return false;
        }
        let guests: Vec<ClientId> =
            self.neighbours.links.iter().filter(|(_, link)| !link.chosen).map(|(id, _)| *id).collect();
        if guests.is_empty() {
            return false;
        }
        let guest = guests[self.rng.random_range(0..guests.len())];
        self.neighbours.evicted_at = Some(self.now);
        self.unlink(guest);
        self.ask(guest, Question::Leave, Asked::Leave);
        true
    }

    fn link(&mut self, peer: ClientId, addresses: Vec<SocketAddr>, chosen: bool) {
        self.neighbours.back_off.remove(&peer);
        let now = self.now;
        let link = Neighbour {
            lazy: BTreeSet::new(),
            chosen,
            addresses,
            heard_at: now,
            owed: Vec::new(),
            since: now,
            asked_for_heads: false,
            compared: false,
        };
        let kept = self.neighbours.links.entry(peer).or_insert(link);
        kept.chosen |= chosen;
    }

    fn unlink(&mut self, peer: ClientId) {
        if self.neighbours.links.remove(&peer).is_some() {
            self.counters.neighbours_lost += 1;
            self.tree.forget(&peer);
        }
    }

    /// A neighbour has said that it is one no longer. It may be asked again, but not at once.
    pub(super) fn left(&mut self, peer: ClientId) {
        self.unlink(peer);
        self.neighbours.leave_alone(peer, self.now, BACK_OFF_MIN);
    }

    pub(super) fn sent(&mut self, to: ClientId, heard: Option<bool>) {
        match heard {
            Some(true) => _ = self.neighbours.heard(&to, self.now),
            Some(false) => self.unlink(to),
            None => self.unreachable(to),
        }
    }

    /// Somebody did not answer.
    pub(super) fn unreachable(&mut self, peer: ClientId) {
        if !cfg!(mutant = "replica_keeps_lost_neighbours") {
            self.unlink(peer);
        }
        self.neighbours.joining.remove(&peer);
        self.neighbours.strangers.remove(&peer);
        self.neighbours.leave_alone(peer, self.now, BACK_OFF_MIN);
        self.leave_source(&peer);
    }

    /// Somebody sent what it cannot have checked.
    pub(super) fn punish(&mut self, peer: ClientId) {
        if peer == self.me {
            return;
        }
        self.counters.punished += 1;
        if cfg!(mutant = "replica_keeps_liars") {
            return;
        }
        self.unlink(peer);
        self.neighbours.strangers.remove(&peer);
        self.neighbours.leave_alone(peer, self.now, BAN);
        self.leave_source(&peer);
    }
}
