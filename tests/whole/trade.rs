//! The exchange half of a node: its owner's wishes, its batches, its store, and the bids that it sends and answers.

use super::{
    Told,
    ledger::Wish,
    people::{new_offer, price},
    world::{What, World},
};
use rand::{RngExt, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use vintner::{
    exchange::{
        BatchError, BidAnswer, Core as Exchange, Effect, Event, Input, NewBid, NotNow, OfferRef, Output,
        ReplyTo, Seen, rebuild, run_batch,
    },
    identity::Signed,
    market::{Bid, Offer, Side},
    replication::core::{CopyHash, Input as News, Stamp, Version, Via},
};

/// How long a bidder waits for a reply.
const REPLY_TIMEOUT_MS: u64 = 3_000;
/// After so many events a node's first backup is made.
const BACKUP_AT: usize = 8;
/// Inputs in one batch.
const BATCH_MAX: usize = 16;

/// What one batch meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    DiskFull,
    CrashBeforeCommit { down_ms: u64 },
    CrashAfter { effects: usize, down_ms: u64 },
}

/// A bid that is under way.
pub(crate) struct Ask {
    pub from: usize,
    life: u64,
    pub bid: Signed<Bid>,
}

pub(crate) fn stamp(offer: &Offer) -> Stamp {
    let version = Version::of(offer.item()).expect("an offer has a sequence");
    Stamp { target: offer.target(), version }
}

impl World {
    /// Sends an owner's command to a node that is up.
    pub(crate) fn command(&mut self, n: usize, wish: Wish, input: impl FnOnce(ReplyTo) -> Input) {
        if !self.is_up(n) || self.peers[n].waits {
            return;
        }
        let reply = ReplyTo(self.number());
        if !self.is_evil(n) {
            self.ledger.asked_for(reply, n, self.nodes[n].life, wish);
        }
        self.deliver(n, input(reply));
    }

    pub(crate) fn creates(&mut self, n: usize, short: bool, dice: &mut StdRng) {
        let side = if dice.random_bool(0.7) { Side::Sell } else { Side::Buy };
        let (open, grave) = if short { (20, dice.random_range(0..30)) } else { (7_200, 3_600) };
        let (open, grave) = (Duration::from_secs(open), Duration::from_secs(grave));
        let new = new_offer(side, dice.random_range(90..110), self.clock(n), open, grave);
        self.command(n, Wish::Create { key: None }, |reply| Input::Create { new, idempotency: None, reply });
    }

    /// One of the offers that were published last.
    pub(crate) fn some_offer(&self, dice: &mut StdRng) -> Option<Arc<Offer>> {
        let back = dice.random_range(0..12_usize);
        self.history.len().checked_sub(back + 1).map(|at| Arc::clone(&self.history[at]))
    }

    pub(crate) fn bids(&mut self, n: usize, bidders: usize, maker_withdraws: bool, dice: &mut StdRng) {
        let Some(offer) = self.some_offer(dice) else { return };
        let reference = OfferRef::Hash(offer.target());
        let count = self.nodes.len();
        for n in (n..n + bidders).map(|n| n % count) {
            let price = dice.random_bool(0.2).then(|| price(dice.random_range(80..120)));
            let valid_for = Duration::from_millis(dice.random_range(1_000..120_000));
            let wait = Duration::from_millis(dice.random_range(0..30_000));
            // Every other owner says which version was seen, here or on another node's list.
            let says = valid_for.as_millis().is_multiple_of(2);
            let seen = Seen { sequence: says.then_some(offer.sequence), ..Seen::default() };
            let wish = Wish::Bid { key: None, seen: says.then(|| Box::new(offer.terms)) };
            self.command(n, wish, |reply| Input::PlaceBid {
                new: NewBid { offer: reference, price, seen, valid_for },
                wait,
                idempotency: None,
                reply,
            });
        }
        if maker_withdraws && let Some(maker) = self.by_id.get(&offer.client_id).copied() {
            self.withdraw(maker, reference);
        }
    }

    pub(crate) fn withdraws(&mut self, n: usize, dice: &mut StdRng) {
        let own: Vec<_> = self.nodes[n].store.state.own.keys().copied().collect();
        if !own.is_empty() {
            self.withdraw(n, OfferRef::Id(own[dice.random_range(0..own.len())]));
        }
    }

    fn withdraw(&mut self, n: usize, offer: OfferRef) {
        self.command(n, Wish::Withdraw, |reply| Input::Withdraw { offer, if_sequence: None, reply });
    }

    /// Puts an input into a node's inbox, if the node is up.
    pub(crate) fn deliver(&mut self, n: usize, input: Input) {
        if self.is_up(n) {
            self.nodes[n].inbox.push_back(input);
            self.batch_at(n, self.ms() + 2);
        }
    }

    fn batch_at(&mut self, n: usize, ms: u64) {
        let now = self.ms();
        if self.nodes[n].wake_at.is_none_or(|before| before > ms || before < now) {
            self.nodes[n].wake_at = Some(ms);
            self.after_ms(ms - now, n, What::Batch);
        }
    }

    /// One turn of a node's only writer.
    pub(crate) fn batch(&mut self, n: usize) {
        self.nodes[n].wake_at = None;
        let Some(mut core) = self.nodes[n].core.take() else { return };
        let most = self.nodes[n].inbox.len().min(BATCH_MAX);
        let mut inputs: Vec<Input> = self.nodes[n].inbox.drain(..most).collect();
        if inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        let clock = self.clock(n);
        let (armed, disk_full) = (self.peers[n].armed, self.nodes[n].disk_full_until > self.ms());
        let late = !self.healed && self.rng.random_bool(0.7);
        let (mut fate, mut released, mut stored) = (Fate::Fine, Vec::new(), Vec::new());
        let store = &mut self.nodes[n].store;
        let result = run_batch(
            &mut core,
            clock,
            inputs,
            |_, events: Vec<Event>| {
                fate = match armed {
                    _ if events.is_empty() => Fate::Fine,
                    Some(armed) => armed,
                    None if disk_full => Fate::DiskFull,
                    None => Fate::Fine,
                };
                if matches!(fate, Fate::DiskFull | Fate::CrashBeforeCommit { .. }) {
                    return Err(());
                }
                stored.clone_from(&events);
                if late && events.iter().all(|event| !event.must_be_durable()) {
                    store.deferred.extend(events);
                } else {
                    store.commit(events);
                }
                Ok(())
            },
            |effects| released = effects,
        );
        self.nodes[n].core = Some(core);
        if let Fate::CrashAfter { effects, .. } = fate {
            released.truncate(effects);
        }
        let withheld = match result {
            Ok(()) => {
                self.committed(n, &stored);
                Vec::new()
            }
            Err(BatchError { withheld, .. }) => withheld,
        };
        for effect in released {
            self.release(n, effect);
        }
        match fate {
            Fate::Fine => self.next_batch(n),
            Fate::DiskFull => self.disk_full(n, withheld),
            Fate::CrashBeforeCommit { down_ms } | Fate::CrashAfter { down_ms, .. } => self.crash(n, down_ms),
        }
    }

    fn next_batch(&mut self, n: usize) {
        if !self.nodes[n].inbox.is_empty() {
            return self.batch_at(n, self.ms() + 1);
        }
        if let Some(at) = self.nodes[n].core.as_ref().and_then(Exchange::next_timeout) {
            let wait = at.0.saturating_sub(self.clock(n).0).max(1);
            self.batch_at(n, self.ms() + wait);
        }
    }

    fn committed(&mut self, n: usize, events: &[Event]) {
        if self.told != Told::Nothing && !events.is_empty() {
            let said: Vec<String> = events.iter().map(briefly).collect();
            self.tell(|| format!("node {n} stores {}", said.join(", ")));
        }
        for event in events {
            match event {
                Event::Own(own) => _ = self.signed.insert(CopyHash::of_items([&**own.offer.item()])),
                Event::Heard(offer) => {
                    let signed = self.signed.contains(&CopyHash::of_items([&**offer.item()]));
                    self.ledger
                        .check(signed, || format!("node {n} holds {}, which nobody signed", offer.target()));
                }
                _ => {}
            }
        }
        if !self.is_evil(n) {
            let clock = self.clock(n);
            self.ledger.committed(n, &self.nodes, events, clock);
        }
        // The first copy is made without asking; between two batches, as whole transactions are.
        let len = self.nodes[n].store.log.len();
        if self.nodes[n].backup.is_none() && len >= BACKUP_AT {
            self.nodes[n].backup = Some(len);
        }
        if !self.nodes[n].store.deferred.is_empty() {
            let later = self.rng.random_range(1..5_000);
            self.after_ms(later, n, What::Flush);
        }
    }

    pub(crate) fn flush(&mut self, n: usize) {
        if self.nodes[n].disk_full_until <= self.ms() {
            self.nodes[n].store.commit(Vec::new());
        }
    }

    /// A commit was refused: memory is ahead of the disk, so it is thrown away; whoever waits is told that nothing happened.
    fn disk_full(&mut self, n: usize, withheld: Vec<Effect>) {
        self.tell(|| format!("node {n} cannot write"));
        self.nodes[n].store.deferred.clear();
        let Some(old) = self.nodes[n].core.take() else { return };
        let (stored, clock, seed) = (self.nodes[n].store.log.clone(), self.clock(n), self.rng.random());
        let (core, mut output) = rebuild(old, withheld, stored, seed, clock);
        self.nodes[n].core = Some(core);
        // The set of records to publish outlives the core, in its driver: what is under way is not begun again.
        output
            .effects
            .retain(|effect| !matches!(effect, Effect::Publish(offer) if self.history.contains(offer)));
        self.first_words(n, output);
    }

    pub(crate) fn start_trading(&mut self, n: usize) {
        let (core, output) = self.nodes[n].restored(self.rng.random(), self.ms());
        self.nodes[n].core = Some(core);
        self.first_words(n, output);
    }

    /// What a restored core does first, committed before it is done like everything else.
    fn first_words(&mut self, n: usize, Output { events, effects }: Output) {
        self.nodes[n].store.commit(events.clone());
        self.committed(n, &events);
        for effect in effects {
            self.release(n, effect);
        }
        self.next_batch(n);
    }

    /// Whether some other store holds the newest version of all that a node made. What nobody else holds nobody can tell it.
    fn is_known(&self, n: usize) -> bool {
        let honest = || (self.plan.evil..self.nodes.len()).filter(|other| *other != n);
        let is_held = |offer: &Offer, other: usize| {
            let held = self.nodes[other].store.state.market.records.get(&offer.target());
            held.is_some_and(|held| held.sequence >= offer.sequence)
        };
        let own = &self.nodes[n].store.state.own;
        own.values().all(|own| honest().any(|other| is_held(&own.offer, other)))
    }

    /// The owner puts back a copy of the store that was made earlier.
    pub(crate) fn lose_store(&mut self, n: usize) {
        if !self.is_up(n) || self.is_evil(n) || !self.is_known(n) {
            return;
        }
        let Some(len) = self.nodes[n].backup else { return };
        self.crash(n, 1_000);
        self.ledger.store_lost(n);
        self.nodes[n].store.cut(len);
        self.peers[n].waits = true;
    }

    /// What others hold of a node's own records it knows itself by now, or knows that it does not.
    pub(crate) fn notices(&mut self, n: usize) {
        let (id, clock) = (self.nodes[n].id, self.clock(n));
        let Some(state) = self.nodes[n].core.as_ref().map(|core| core.state().clone()) else { return };
        if self.is_evil(n) {
            return;
        }
        for other in 0..self.nodes.len() {
            let Some(core) = self.nodes[other].core.as_ref().filter(|_| !self.is_evil(other)) else {
                continue;
            };
            let unknown = core.state().market.records_of(id).find(|offer| {
                let known = state.own.get(&offer.id).is_some_and(|own| own.offer.sequence >= offer.sequence);
                !known && !offer.is_dead(clock) && !state.ahead.contains_key(&offer.target())
            });
            let unknown = unknown.map(|offer| offer.target());
            self.ledger.check(unknown.is_none(), || {
                format!("node {n} does not see that its store is behind: node {other} holds its {unknown:?}")
            });
        }
    }

    fn release(&mut self, n: usize, effect: Effect) {
        let is_honest = !self.is_evil(n);
        match effect {
            Effect::Reply { to, reply } => {
                self.tell(|| format!("node {n} tells its owner {reply:?}"));
                if is_honest {
                    self.ledger.replied(n, &self.nodes, to, &reply);
                }
            }
            Effect::Answer { to, answer } => self.answer(n, to, answer),
            Effect::Ask(bid, _) => {
                if is_honest {
                    self.ledger.asks(n, &self.nodes, &bid);
                }
                self.ask(n, bid);
            }
            Effect::Publish(offer) => {
                if is_honest {
                    self.ledger.publishes(n, &self.nodes, &offer);
                }
                if !self.history.contains(&offer) {
                    self.history.push(Arc::clone(&offer));
                }
                self.holds(n, &offer, Via::Own);
                self.put(n, &offer);
            }
            Effect::Held(offer, via) => self.holds(n, &offer, via),
            Effect::Fraud { target, dies_at } => {
                self.tell(|| format!("node {n} sees that {target} was signed twice"));
                self.give(n, News::Fraud { target, dies_at });
            }
            Effect::Fetch(target) => self.look_up(n, target),
            Effect::Unpublish(_) | Effect::Expired(_) => {}
        }
    }

    fn holds(&mut self, n: usize, offer: &Offer, via: Via) {
        let (maker, dies_at) = (offer.client_id, offer.dies_at);
        self.give(n, News::Held { maker, stamp: stamp(offer), dies_at, via });
    }

    pub(crate) fn ask(&mut self, n: usize, bid: Signed<Bid>) {
        let number = self.number();
        let maker = self.by_id.get(&bid.maker).copied();
        self.asks.insert(number, Ask { from: n, life: self.nodes[n].life, bid });
        if let Some(maker) = maker {
            self.carry(n, maker, &What::Request(number));
        }
        self.after_ms(REPLY_TIMEOUT_MS, n, What::TooLate(number));
    }

    /// A bid reaches its maker.
    pub(crate) fn request(&mut self, n: usize, number: u64) {
        let Some(ask) = self.asks.get(&number).filter(|_| !self.peers[n].waits) else { return };
        let bid = ask.bid.clone();
        if self.is_evil(n) && (self.healed || self.rng.random_bool(0.5)) {
            return self.answer_badly(n, number, &bid);
        }
        let to = self.number();
        self.calls.insert(to, (number, bid.clone()));
        self.deliver(n, Input::BidReceived { bid, reply: ReplyTo(to) });
    }

    fn answer(&mut self, n: usize, to: ReplyTo, answer: Result<BidAnswer, NotNow>) {
        let Some((number, bid)) = self.calls.remove(&to.0) else {
            return self.ledger.check(false, || format!("node {n} answered {} twice or nobody", to.0));
        };
        if let Ok(answer) = answer.as_ref()
            && !self.is_evil(n)
        {
            self.ledger.answered(n, &self.nodes, &bid, answer);
        }
        self.send_reply(n, number, answer.map_err(|_| ()));
    }

    pub(crate) fn send_reply(&mut self, n: usize, number: u64, answer: Result<BidAnswer, ()>) {
        if let Some(to) = self.asks.get(&number).map(|ask| ask.from) {
            self.carry(n, to, &What::Reply(number, answer));
        }
    }

    /// The first word ends the attempt; a late one is passed on now and then, too.
    pub(crate) fn reply(&mut self, number: u64, answer: Result<BidAnswer, ()>) {
        let Some(ask) = self.asks.get(&number) else { return };
        let (n, life, bid) = (ask.from, ask.life, ask.bid.id);
        let heard = answer.ok().and_then(|answer| answer.verify(&self.network).ok());
        if heard.is_none() || self.healed || self.rng.random_bool(0.9) {
            self.asks.remove(&number);
        }
        if self.nodes[n].life == life {
            self.deliver(n, Input::BidAnswered { bid, heard });
        }
    }
}

/// What is stored, in few words.
fn briefly(event: &Event) -> String {
    let version = |offer: &Offer| format!("{:.8} at {}", offer.target().to_string(), offer.sequence);
    match event {
        Event::Own(own) => format!("its own {} ({:?})", version(&own.offer), own.closed),
        Event::Heard(offer) => version(offer),
        Event::Ahead(offer) => format!("that it is behind {}", version(offer)),
        Event::Equivocated(one, other) => format!("the proof against {} {}", version(one), version(other)),
        Event::Traded(receipt) => format!("trade {}", receipt.trade().id),
        Event::Forgotten(target) => format!("the end of {target:.8}"),
        Event::BidOut(bid) => format!("bid {} {:?}", bid.bid.id.0, bid.outcome),
        Event::BidIn(bid) => format!("bid {} answered {:?}", bid.bid.id.0, bid.answer.is_ok()),
        Event::Unlisted(target, why) => format!("that {target:.8} is not listed: {why:?}"),
        other => format!("{other:.40?}"),
    }
}
