//! Heads: what each maker says of its records, when it was heard last, and whether what it says is held.

use super::{
    Asked, Core, Effect, Root, SignedHead, Timer, UncheckedHead, Via,
    head::Head,
    limits::{
        FUTURE_MAX, HEAD_AGAIN_AFTER, HEAD_EVERY, HEADS_AN_ANSWER_MAX, JUDGED_AT_ONCE_MAX, LATELY,
        MAKERS_MAX, OFF_TIME_FOR, OFF_TIME_MAX, SETTLE, SILENT_KNOWN_FOR, SKEW, STALE_AFTER,
    },
    talk::{Answer, Carried, News, Question},
    timers::Timers,
    version::CopyHash,
};
use crate::{
    bep44::Target,
    identity::ClientId,
    time::{Now, UnixMillis},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

/// How the time in a head does not fit, though its own maker has just brought it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OffTime {
    /// It is refused: [`FUTURE_MAX`].
    Future,
    /// Its maker counts as silent: [`STALE_AFTER`].
    Past,
}

/// What is known of one maker.
#[derive(Debug)]
struct Maker {
    head: Option<SignedHead>,
    /// From then on it is stale.
    fresh_until: Now,
    stale: bool,
    /// The counter of the head whose records were all seen to be held.
    held: Option<u64>,
    /// Since when less is held than its heads say.
    lacking_since: Option<Now>,
    /// True once a head of it was heard since the start.
    heard: bool,
    /// When it fell silent, if it was heard before.
    silent_since: Option<Now>,
}

/// All makers of which a head was heard or a record is held, this node not among them.
#[derive(Debug, Default)]
pub(super) struct Makers {
    known: BTreeMap<ClientId, Maker>,
    own: Option<SignedHead>,
    /// The highest counter of an own head that others know.
    counter: u64,
    next_beat: Now,
    stale: usize,
    /// Those of whom less is held than their heads say, and since when.
    lacking: BTreeSet<(Now, ClientId)>,
    /// Those that were heard and have fallen silent, the last ones of [`LATELY`].
    silent_lately: BTreeSet<(Now, ClientId)>,
}

impl Makers {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn stale(&self) -> usize {
        self.stale
    }

    pub(super) fn behind(&self) -> usize {
        self.lacking.len()
    }

    /// For how long something of one of them has been lacking.
    pub(super) fn behind_for(&self, now: Now) -> Duration {
        self.lacking.first().map_or(Duration::ZERO, |(since, _)| now.since(*since))
    }

    /// How many have fallen silent within the last minutes and were heard before.
    pub(super) fn silent_lately(&self) -> usize {
        self.silent_lately.len()
    }

    pub(super) fn forget_silent(&mut self, now: Now) {
        while self.silent_lately.first().is_some_and(|(at, _)| now.since(*at) >= LATELY) {
            self.silent_lately.pop_first();
        }
    }

    pub(super) fn is_stale(&self, maker: &ClientId) -> bool {
        self.known.get(maker).is_some_and(|maker| maker.stale)
    }

    /// Makers of whom less is held than their heads say, with what they say.
    pub(super) fn lacking(&self) -> impl Iterator<Item = &SignedHead> {
        self.lacking.iter().filter_map(|(_, maker)| self.head(maker))
    }

    pub(super) fn head(&self, maker: &ClientId) -> Option<&SignedHead> {
        self.known.get(maker)?.head.as_ref()
    }

    /// This node's own newest head.
    pub(super) fn own(&self) -> Option<&SignedHead> {
        self.own.as_ref()
    }

    /// Those whose heads are fresh, and those whose are not.
    pub(super) fn heads(&self, stale: bool) -> impl Iterator<Item = &SignedHead> {
        self.known.values().filter(move |maker| maker.stale == stale).filter_map(|maker| maker.head.as_ref())
    }

    /// The heads that are fresh, of `most` makers that come after this one, and after the last the first.
    pub(super) fn fresh_heads_after(&self, id: &ClientId, most: usize) -> impl Iterator<Item = &SignedHead> {
        let after = self.known.range((Bound::Excluded(*id), Bound::Unbounded));
        let looked_at = after.chain(self.known.range(..=*id)).take(most);
        looked_at.filter(|(_, maker)| !maker.stale).filter_map(|(_, maker)| maker.head.as_ref())
    }

    /// A record of this maker is held: without a head it counts as fresh for a while from now on.
    pub(super) fn holds(&mut self, maker: ClientId, now: Now, timers: &mut Timers) {
        if self.known.len() < MAKERS_MAX {
            self.known.entry(maker).or_insert_with(|| {
                let fresh_until = now.plus(STALE_AFTER);
                timers.set(fresh_until, Timer::Stale(maker));
                Maker {
                    head: None,
                    fresh_until,
                    stale: false,
                    held: None,
                    lacking_since: None,
                    heard: false,
                    silent_since: None,
                }
            });
        }
    }

    /// Of a stale one nothing is listed, and what it took with it nobody can give.
    fn is_behind(maker: &Maker) -> bool {
        !maker.stale && maker.head.as_ref().is_some_and(|head| maker.held != Some(head.counter))
    }

    /// Changes what is known of a maker, and counts along.
    fn change(&mut self, id: &ClientId, now: Now, change: impl FnOnce(&mut Maker)) {
        let Some(maker) = self.known.get_mut(id) else { return };
        let was_stale = maker.stale;
        change(maker);
        match (was_stale, maker.stale) {
            (false, true) => {
                self.stale += 1;
                if maker.heard {
                    maker.silent_since = Some(now);
                    self.silent_lately.insert((now, *id));
                }
            }
            (true, false) => {
                self.stale -= 1;
                if let Some(since) = maker.silent_since.take() {
                    self.silent_lately.remove(&(since, *id));
                }
            }
            _ => {}
        }
        match (maker.lacking_since, Self::is_behind(maker)) {
            (None, true) => {
                maker.lacking_since = Some(now);
                self.lacking.insert((now, *id));
            }
            (Some(since), false) => {
                maker.lacking_since = None;
                self.lacking.remove(&(since, *id));
            }
            _ => {}
        }
    }

    /// Everything that this head says is held. A comparison may end when a later head is held already.
    pub(super) fn is_held(&mut self, id: &ClientId, counter: u64, now: Now) {
        self.change(id, now, |maker| maker.held = maker.held.max(Some(counter)));
    }
}

impl Core {
    /// Signs a head and sends it out.
    pub(super) fn beat(&mut self) {
        let old = if cfg!(mutant = "replica_signs_an_old_root") { 5 * HEAD_EVERY } else { Duration::ZERO };
        let summary = self.index.summary(&self.me, self.wall.minus(old));
        self.makers.counter = (self.makers.counter + 1).max(self.wall.0);
        let head = Head {
            maker: self.me,
            counter: self.makers.counter,
            at: self.wall,
            records: summary.records,
            root: summary.root,
            addresses: self.addresses.clone(),
        };
        let head = head.sign(&self.network, &self.key);
        self.makers.own = Some(head.clone());
        self.spread_head(&head, Via::Own);
        self.timers.cancel(self.makers.next_beat, Timer::Beat);
        self.makers.next_beat = self.now.plus(HEAD_EVERY);
        if !cfg!(mutant = "replica_signs_one_head") {
            self.timers.set(self.makers.next_beat, Timer::Beat);
        }
    }

    /// Others must know from now on, and those first who are asked to be neighbours.
    pub(super) fn moved(&mut self, addresses: Vec<std::net::SocketAddr>) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.beat();
        }
    }

    /// Forgets makers that have been silent for long and of whom no record is held.
    pub(super) fn forget_makers(&mut self) {
        let forgotten: Vec<ClientId> = self
            .makers
            .known
            .iter()
            .filter(|(_, maker)| maker.stale && self.now.since(maker.fresh_until) >= SILENT_KNOWN_FOR)
            .map(|(id, _)| *id)
            .filter(|id| !self.index.has(id))
            .collect();
        for id in forgotten {
            let maker = self.makers.known.remove(&id);
            self.makers.stale -= 1;
            if let Some(since) = maker.and_then(|maker| maker.silent_since) {
                self.makers.silent_lately.remove(&(since, id));
            }
        }
    }

    /// Whether a head would be news: not worth a signature check otherwise.
    pub(super) fn is_newer_head(&self, maker: &ClientId, counter: u64) -> bool {
        if *maker == self.me {
            return counter > self.makers.counter;
        }
        self.makers.head(maker).is_none_or(|held| counter > held.counter)
    }

    /// Has a head checked, if it is news.
    pub(super) fn judge_head(&mut self, from: ClientId, bytes: &[u8], via: Via) {
        let Ok(head) = UncheckedHead::read(bytes) else { return self.punish(from) };
        let copy = CopyHash::of_head(bytes);
        let claim = head.claim();
        if !self.is_newer_head(&claim.maker, claim.counter) {
            return;
        }
        if self.is_being_judged(&copy, from) {
            return;
        }
        if claim.at.since(self.wall) > FUTURE_MAX {
            self.counters.not_told += 1;
            if claim.maker == from {
                self.look_at_time(from, Some(OffTime::Future));
            }
        } else if self.judging.len() >= JUDGED_AT_ONCE_MAX {
            self.counters.over_judged += 1;
        } else if self.makers.known.len() >= MAKERS_MAX && !self.makers.known.contains_key(&claim.maker) {
            self.counters.over_makers += 1;
        } else {
            self.judging.insert(copy, vec![from]);
            self.effects.push(Effect::JudgeHead { copy, head, via });
        }
    }

    pub(super) fn judged_head(&mut self, copy: CopyHash, head: Option<SignedHead>, via: Via) {
        let Some(bringers) = self.judging.remove(&copy) else { return };
        let Some(head) = head else { return bringers.into_iter().for_each(|from| self.punish(from)) };
        if matches!(via, Via::Gossip(_)) {
            bringers.iter().skip(1).for_each(|from| self.prune(*from, head.maker));
        }
        if !self.is_newer_head(&head.maker, head.counter) {
            return;
        }
        if head.maker == self.me {
            // An earlier run of this node signed it, by a clock that was ahead: others wait for a higher one.
            self.makers.counter = head.counter;
            let soon = self.makers.next_beat.minus(HEAD_EVERY).plus(HEAD_AGAIN_AFTER).max(self.now);
            if soon < self.makers.next_beat {
                self.timers.cancel(self.makers.next_beat, Timer::Beat);
                self.timers.set(soon, Timer::Beat);
            }
            return;
        }
        self.counters.heads += 1;
        self.hear_head(head.clone());
        if via.peer() == Some(head.maker) {
            let off = self.makers.is_stale(&head.maker).then_some(OffTime::Past);
            self.look_at_time(head.maker, off);
        }
        self.effects.push(Effect::KeepHead(head.clone()));
        self.spread_head(&head, via);
        // What was fetched is not news that gossip is about to bring the records of.
        let pause = if matches!(via, Via::Fetched(_)) { Duration::ZERO } else { SETTLE };
        self.look_for(&head, via.peer(), pause);
    }

    /// A head from an earlier run: its maker has as long as any other to be heard again.
    pub(super) fn restored_head(&mut self, head: SignedHead) {
        if head.maker == self.me {
            self.makers.counter = self.makers.counter.max(head.counter);
        } else if self.is_newer_head(&head.maker, head.counter) {
            self.makers.holds(head.maker, self.now, &mut self.timers);
            self.makers.change(&head.maker.clone(), self.now, |maker| maker.head = Some(head));
        }
    }

    fn hear_head(&mut self, head: SignedHead) {
        let id = head.maker;
        self.makers.holds(id, self.now, &mut self.timers);
        // A head that is old when it comes says that its maker was silent since.
        let silent_for = self.wall.since(head.at).saturating_sub(SKEW);
        let fresh_until = self.now.plus(STALE_AFTER.saturating_sub(silent_for));
        let timer = Timer::Stale(id);
        if let Some(before) = self.makers.known.get(&id).map(|maker| maker.fresh_until) {
            self.timers.cancel(before, timer);
        }
        self.timers.set(fresh_until, timer);
        self.makers.change(&id, self.now, |maker| {
            maker.head = Some(head);
            maker.fresh_until = fresh_until;
            maker.heard = true;
        });
        self.look_stale(id);
    }

    /// Its own maker brought this head: does its time fit?
    fn look_at_time(&mut self, maker: ClientId, off: Option<OffTime>) {
        match off {
            None => _ = self.off_time.remove(&maker),
            Some(off) => {
                if self.off_time.len() >= OFF_TIME_MAX && !self.off_time.contains_key(&maker) {
                    // Not a neighbour, of which there are fewer than there is room for.
                    let others = self.off_time.iter().filter(|(id, _)| !self.neighbours.contains(id));
                    let oldest = others.min_by_key(|(_, (at, _))| *at).map(|(id, _)| *id);
                    oldest.and_then(|id| self.off_time.remove(&id));
                }
                self.off_time.insert(maker, (self.now, off));
            }
        }
    }

    /// Whoever has said nothing for some heads says nothing about this clock either.
    pub(super) fn forget_off_time(&mut self) {
        let now = self.now;
        self.off_time.retain(|_, (at, _)| now.since(*at) < OFF_TIME_FOR);
    }

    /// Says so when a maker has become stale, or is no longer.
    pub(super) fn look_stale(&mut self, id: ClientId) {
        let Some(maker) = self.makers.known.get(&id) else { return };
        let stale = maker.fresh_until <= self.now && !cfg!(mutant = "replica_never_takes_a_maker_for_stale");
        if maker.stale && cfg!(mutant = "replica_stale_for_ever") {
            return;
        }
        if stale != maker.stale {
            self.makers.change(&id, self.now, |maker| maker.stale = stale);
            self.effects.push(Effect::Stale { maker: id, stale });
        }
    }

    /// Sees whether what a head names is held, now or after a while.
    fn look_for(&mut self, head: &SignedHead, from: Option<ClientId>, pause: Duration) {
        if self.holds_all(&head.maker, head.at, head.root) {
            self.makers.is_held(&head.maker, head.counter, self.now);
        } else if pause.is_zero() {
            self.queue_job(head.maker, from);
        } else {
            self.jobs.remember_source(head.maker, from);
            self.timers.set(self.now.plus(pause), Timer::Settled(head.maker));
        }
    }

    pub(super) fn holds_all(&mut self, maker: &ClientId, at: UnixMillis, root: Root) -> bool {
        self.index.summary(maker, at).root == root
    }

    /// Gossip had its time.
    pub(super) fn settled(&mut self, maker: ClientId) {
        let Some((at, root, counter)) =
            self.makers.head(&maker).map(|head| (head.at, head.root, head.counter))
        else {
            return;
        };
        if self.holds_all(&maker, at, root) {
            self.makers.is_held(&maker, counter, self.now);
        } else {
            self.queue_job(maker, None);
        }
    }

    pub(super) fn tell_heads(&self, after: Option<ClientId>) -> Answer<Target> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let makers = self.makers.known.range((from, Bound::Unbounded));
        let mut heads: Vec<(ClientId, Arc<[u8]>)> = makers
            .filter_map(|(id, maker)| Some((*id, maker.head.as_ref()?.bytes().clone())))
            .take(HEADS_AN_ANSWER_MAX)
            .collect();
        let more = heads.len() == HEADS_AN_ANSWER_MAX;
        // The own one belongs to the page that its id falls into.
        if let Some(own) = &self.makers.own
            && after.is_none_or(|after| after < self.me)
            && (!more || heads.last().is_some_and(|(last, _)| self.me < *last))
        {
            if more {
                heads.pop();
            }
            heads.push((self.me, own.bytes().clone()));
            heads.sort_by_key(|(id, _)| *id);
        }
        Answer::Heads(heads.into_iter().map(|(_, bytes)| bytes).collect(), more)
    }

    /// Asks the nodes whose heads are wanted for their next page, when those of the last one were checked.
    pub(super) fn ask_for_heads(&mut self) {
        while self.judging.len() < JUDGED_AT_ONCE_MAX / 4
            && let Some((peer, after)) = self.neighbours.next_heads_wanted(self.now)
        {
            if self.ask(peer, Question::Heads(after), Asked::Heads).is_none() {
                self.neighbours.heads_came();
            }
        }
    }

    pub(super) fn heads_answered(&mut self, from: ClientId, answer: Option<Answer<Carried>>) {
        let after = self.neighbours.heads_came();
        let Some(answer) = answer else { return };
        let Answer::Heads(heads, more) = answer else { return self.punish(from) };
        let mut last = after;
        for bytes in &heads {
            let maker = UncheckedHead::read(bytes).ok().map(|head| head.claim().maker);
            // In order, so that pages come to an end.
            if maker.is_none() || last >= maker {
                return self.punish(from);
            }
            last = maker;
            self.judge_head(from, bytes, Via::Fetched(from));
        }
        if more && last != after {
            self.neighbours.want_heads(from, last);
        }
    }

    /// What a version of a head is called.
    pub(super) fn head_news(head: &SignedHead) -> News {
        News::Head { maker: head.maker, counter: head.counter }
    }
}
