//! What time alone does: offers expire and die, waiting callers get their answer, old refusals are forgotten.
//!
//! Timers are never stored: they follow from the events, and are set again when those are replayed. A timer that is out of
//! date when it fires finds nothing to do. Those of a record's earlier versions are taken back all the same: how many versions
//! there are is up to their maker, who may be anybody.

use super::{
    BidOutcome, Closed, Core, Effect, Event, Output, OwnOffer, ReplyTo,
    changes::Changes,
    limits::{
        BID_IN_KEPT_FOR, BID_OUT_KEPT_FOR, CLOCK_BACK_MAX, IDEMPOTENCY_KEPT_FOR, KEPT_AFTER_LEAP, LEAP_MIN,
    },
};
use crate::{
    bep44::Target,
    identity::ClientId,
    market::{BidId, IdMint, Offer, Via},
    time::UnixMillis,
};
use std::{collections::BTreeSet, sync::Arc};

/// What is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// An offer cannot be taken any more.
    Expire(Target),
    /// A record may be forgotten.
    Die(Target),
    /// A record from the future has come of age.
    Unpark(Target),
    /// A bid without an answer is asked again.
    Ask(BidId),
    /// A caller has waited long enough.
    WaitOver(BidId, ReplyTo),
    /// A refused own bid was kept long enough.
    ForgetBidOut(BidId),
    /// A refused bid on an own offer was remembered long enough. Boxed, as is the next: there are many timers, and most are of
    /// records.
    ForgetBidIn(Box<(ClientId, BidId)>),
    /// An idempotency key was remembered long enough.
    ForgetIdempotency(Box<str>),
}

/// All timers, earliest first. Bounded by what they are about: a few for each thing in the state.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(UnixMillis, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: UnixMillis, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: UnixMillis, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.0.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: UnixMillis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}

impl Core {
    /// Sets the timers that follow from `event`.
    pub(super) fn set_timers(&mut self, event: &Event) {
        match event {
            Event::Own(own) => self.time_record(&own.offer),
            Event::Heard(offer) => self.time_record(offer),
            Event::Unlisted(target, why) => self.set_timer(why.until(), Timer::Die(*target)),
            Event::BidOut(bid) if matches!(bid.outcome, BidOutcome::Refused(_)) => {
                self.set_timer(bid.bid.valid_until.plus(BID_OUT_KEPT_FOR), Timer::ForgetBidOut(bid.bid.id));
            }
            Event::BidIn(bid) if bid.answer.is_err() => {
                let at = bid.bid.valid_until.max(bid.at).plus(BID_IN_KEPT_FOR);
                self.set_timer(at, Timer::ForgetBidIn(Box::new((bid.bid.bidder, bid.bid.id))));
            }
            Event::Remembered(idempotent) => {
                let at = idempotent.at.plus(IDEMPOTENCY_KEPT_FOR);
                self.set_timer(at, Timer::ForgetIdempotency(idempotent.key.as_str().into()));
            }
            _ => {}
        }
    }

    /// Takes back the timers of the version that `event` replaces.
    pub(super) fn forget_replaced_timers(&mut self, event: &Event) {
        let (Event::Own(OwnOffer { offer, .. }) | Event::Heard(offer)) = event else { return };
        let target = offer.target();
        if let Some(held) = self.state.market.records.get(&target) {
            if let Some(until) = held.available_until() {
                self.timers.cancel(until, Timer::Expire(target));
            }
            self.timers.cancel(held.dies_at, Timer::Die(target));
        }
    }

    /// One timer a record: what can be taken expires, and from then on waits for its death.
    fn time_record(&mut self, offer: &Offer) {
        match offer.available_until() {
            Some(until) => self.set_timer(until, Timer::Expire(offer.target())),
            None => self.set_timer(offer.dies_at, Timer::Die(offer.target())),
        }
    }

    /// Time goes on, or stands still while the clock is a little behind. A clock that is far behind says that the time before was
    /// wrong: the node goes back, as a start would.
    pub(super) fn clock_says(&mut self, now: UnixMillis, output: &mut Output) {
        if now.plus(CLOCK_BACK_MAX) >= self.now {
            self.now = self.now.max(now);
            return;
        }
        self.now = now;
        self.forgets_from = UnixMillis(0);
        // What changed by the wrong time would be news until that time comes.
        self.changes = Changes::default();
        self.mint = IdMint::default();
        for id in self.state.own.keys().copied().collect::<Vec<_>>() {
            self.mint_has_made(id);
        }
        self.state.list_anew();
        for offer in self.state.market.records.values().cloned().collect::<Vec<_>>() {
            self.time_record(&offer);
        }
        self.resume_publishing(output);
        // What was to be done again, or given up, after a while was to be so by the wrong time.
        output.effects.extend(self.let_callers_go());
        let asked_later: Vec<BidId> =
            self.asking.iter().filter(|(_, asking)| !asking.in_flight).map(|(bid, _)| *bid).collect();
        for bid in asked_later {
            self.ask(bid, output);
        }
    }

    /// Does everything that is due.
    pub(super) fn tick(&mut self, output: &mut Output) {
        if self.timers.next().is_some_and(|at| self.now.since(at) > LEAP_MIN) {
            self.forgets_from = self.now.plus(KEPT_AFTER_LEAP);
        }
        while let Some(timer) = self.timers.pop_due(self.now) {
            self.fire(timer, output);
        }
    }

    /// Whether it would forget what only this node knows. Others' records the network tells again.
    fn forgets_own(&self, timer: &Timer) -> bool {
        match timer {
            Timer::ForgetBidOut(_) | Timer::ForgetBidIn(_) | Timer::ForgetIdempotency(_) => true,
            Timer::Die(target) => {
                let held = self.state.market.records.get(target);
                held.is_some_and(|offer| offer.client_id == self.client_id && offer.is_dead(self.now))
            }
            Timer::Expire(_) | Timer::Unpark(_) | Timer::Ask(_) | Timer::WaitOver(..) => false,
        }
    }

    fn fire(&mut self, timer: Timer, output: &mut Output) {
        if self.now < self.forgets_from && self.forgets_own(&timer) {
            if let Timer::Die(target) = timer {
                output.effects.push(Effect::Unpublish(target));
            }
            return self.set_timer(self.forgets_from, timer);
        }
        match timer {
            Timer::Expire(target) => {
                let held = self.state.market.records.get(&target);
                if let Some(expired) = held.filter(|offer| !offer.is_available(self.now)) {
                    let (dies_at, own) = (expired.dies_at, expired.client_id == self.client_id);
                    // Of one that was closed before its time nobody needs to hear.
                    if own && expired.availability {
                        output.effects.push(Effect::Expired(Arc::clone(expired)));
                    }
                    self.state.market.close(target);
                    self.set_timer(dies_at, Timer::Die(target));
                }
            }
            Timer::Die(target) => self.die(target, output),
            Timer::Unpark(target) => {
                if let Some(offer) = self.parked.remove(&target) {
                    self.record(offer, Via::Dht, output);
                }
            }
            Timer::Ask(bid) => self.ask(bid, output),
            Timer::WaitOver(bid, reply) => self.stop_waiting(bid, reply, output),
            Timer::ForgetBidOut(bid) => {
                let refused = self
                    .state
                    .bids_out
                    .get(&bid)
                    .is_some_and(|b| matches!(b.outcome, BidOutcome::Refused(_)));
                if refused {
                    self.emit(Event::BidOutForgotten(bid), output);
                }
            }
            Timer::ForgetBidIn(of) => {
                let (bidder, bid) = *of;
                if self.state.bids_in.get(&(bidder, bid)).is_some_and(|b| b.answer.is_err()) {
                    self.emit(Event::BidInForgotten(bidder, bid), output);
                }
            }
            Timer::ForgetIdempotency(key) => {
                let old = |at: UnixMillis| at.plus(IDEMPOTENCY_KEPT_FOR) <= self.now;
                if self.state.idempotency.get(&*key).is_some_and(|i| old(i.at)) {
                    self.emit(Event::IdempotencyForgotten(key.into()), output);
                }
            }
        }
    }

    fn die(&mut self, target: Target, output: &mut Output) {
        let market = &self.state.market;
        let (held, marked) = (market.records.get(&target), market.marked_until(&target));
        if held.is_none() && marked.is_none() || held.is_some_and(|offer| !offer.is_dead(self.now)) {
            return;
        }
        // What was said of it outlives both versions, or the longer-lived one would be listed again.
        if let Some(last) = marked.filter(|last| *last > self.now) {
            return self.set_timer(last, Timer::Die(target));
        }
        let own = held.and_then(|offer| Some((offer.id, self.state.own.get(&offer.id)?)));
        match own.filter(|(_, own)| own.offer.target() == target) {
            Some((id, own)) => {
                // An offer that took a trade with it is told by the trade from now on.
                debug_assert!(
                    !matches!(own.closed, Some(Closed::Sold(trade)) if !self.state.trades.contains_key(&trade))
                );
                self.emit(Event::OwnForgotten(id), output);
                output.effects.push(Effect::Unpublish(target));
            }
            None => {
                self.pressure.forget(&target);
                let proven = market.equivocated.get(&target).map(|(first, _)| first.client_id);
                let outcast = proven.filter(|maker| market.is_outcast(maker));
                self.emit(Event::Forgotten(target), output);
                if let Some(maker) = outcast.filter(|maker| !self.state.market.is_outcast(maker)) {
                    // It is listed again, also what has expired meanwhile.
                    for offer in self.state.market.records_of(maker).cloned().collect::<Vec<_>>() {
                        self.time_record(&offer);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        Heard, Input, OfferStatus, Refusal, RefusalCode,
        testing::{Bench, NOW, asked, bid, code, is_sold, key},
    };
    use std::{slice, time::Duration};

    #[test]
    fn what_is_due_comes_in_order_and_not_before_its_time() {
        let mut timers = Timers::default();
        timers.set(UnixMillis(5), Timer::ForgetIdempotency("later".into()));
        timers.set(UnixMillis(3), Timer::ForgetIdempotency("sooner".into()));
        assert_eq!((timers.next(), timers.pop_due(UnixMillis(2))), (Some(UnixMillis(3)), None));
        assert_eq!(timers.pop_due(UnixMillis(9)), Some(Timer::ForgetIdempotency("sooner".into())));
        assert_eq!(timers.next(), Some(UnixMillis(5)));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_stands_still_while_the_node_runs() {
        let mut node = Bench::new(1);
        let offer = node.create();
        node.tick(Duration::from_hours(1));
        node.now = node.now.minus(CLOCK_BACK_MAX);
        assert!(node.withdraw(offer.id, None).is_err(), "what expired stays expired");
    }

    /// A node that believed a clock two days ahead for a while: offers of its own and of another, a bid in doubt, a bid refused.
    #[test]
    fn a_clock_that_was_two_days_ahead_and_goes_back_leaves_the_node_as_it_was() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let (theirs, mine) = (maker.create(), node.create());
        node.give(Input::Record(Arc::clone(&theirs), Via::Dht));
        let cheap = bid(3, &mine, |b| b.price = "1".parse().unwrap());
        assert_eq!(code(&node.receives(&cheap)), RefusalCode::PriceBelowAsk);
        let asked_first = asked(&node.bid_on(&theirs, Duration::ZERO, Some(key("k", 1)))).remove(0);
        node.hears(asked_first.id, None);
        let before = node.core.state().clone();

        let right = node.now.plus(Duration::from_mins(3));
        node.now = right.plus(Duration::from_hours(48));
        for _ in 0..3 {
            let output = node.leap(Duration::from_mins(1));
            assert!(!output.events.iter().any(|event| matches!(event, Event::OwnForgotten(_))));
            node.hears(asked_first.id, None);
        }
        let late = node.create_for(Duration::from_hours(3));
        assert!(late.sequence >= node.now.0, "the node believes it, and nobody else does");

        node.now = right;
        let output = node.leap(Duration::ZERO);
        assert_eq!(asked(&output), slice::from_ref(&asked_first), "the bid is asked now and not in two days");
        let state = node.core.state();
        assert_eq!(state.status(&mine, right), OfferStatus::Open);
        assert!(state.market.available.contains_key(&(mine.id, mine.target())), "it is listed again");
        assert_eq!((&state.bids_in, &state.idempotency), (&before.bids_in, &before.idempotency));
        assert_eq!(code(&node.receives(&cheap)), RefusalCode::PriceBelowAsk, "the same answer");
        // What the network holds of the node's own offers is no news to it.
        for _ in 0..2 {
            for offer in [&mine, &late] {
                node.give(Input::Record(Arc::clone(offer), Via::Dht));
            }
            assert!(!node.core.state().is_behind());
            let new = node.create();
            let soon = node.now.plus(crate::exchange::limits::FUTURE_MAX);
            assert!(UnixMillis(new.sequence) <= soon && new.id.created_at() <= soon, "others list it");
            node.restart();
        }
        assert!(is_sold(&node.receives(&bid(4, &mine, |_| {}))));
    }

    #[test]
    fn what_was_due_long_ago_is_forgotten_an_hour_later() {
        let mut node = Bench::new(1);
        let offer = node.create();
        node.now = offer.dies_at.plus(Duration::from_hours(8));
        let output = node.leap(Duration::ZERO);
        assert!(output.events.is_empty() && node.core.state().own.len() == 1);
        assert!(output.effects.iter().any(|effect| matches!(effect, Effect::Unpublish(_))));
        let output = node.restart();
        assert!(!output.effects.iter().any(|effect| matches!(effect, Effect::Publish(_))), "dead is dead");
        node.tick(KEPT_AFTER_LEAP);
        assert!(node.core.state().own.is_empty());
    }

    #[test]
    fn an_id_that_was_made_ahead_of_its_time_is_not_made_twice() {
        let mut node = Bench::new(1);
        node.now = NOW.plus(Duration::from_hours(1));
        let ahead = node.create_for(Duration::from_hours(5));
        node.now = NOW;
        node.leap(Duration::ZERO);
        node.now = ahead.id.created_at();
        assert!(node.create_for(Duration::from_hours(1)).id > ahead.id);
        assert_eq!(node.core.state().own.len(), 2);
    }

    #[test]
    fn an_own_refused_bid_is_kept_for_a_week() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        node.give(Input::Record(offer.clone(), Via::Dht));
        let bid = asked(&node.bid_on(&offer, Duration::ZERO, None)).remove(0);
        let refusal = Refusal { code: RefusalCode::BidExpired, detail: String::new() };
        node.hears(bid.id, Some(Heard::Refused(refusal)));
        node.now = bid.valid_until.plus(BID_OUT_KEPT_FOR).minus(Duration::from_millis(1));
        node.tick(Duration::ZERO);
        assert_eq!(node.core.state().bids_out.len(), 1);
        node.tick(Duration::from_millis(1));
        assert!(node.core.state().bids_out.is_empty() && node.core.state().bids_by_offer.is_empty());
    }

    #[test]
    fn versions_of_a_record_leave_no_timers_behind() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        node.give(Input::Record(offer.clone(), Via::Dht));
        let before = node.core.timers.0.len();
        let closed = Arc::new(offer.close(&maker.master, NOW).unwrap());
        node.give(Input::Record(Arc::clone(&closed), Via::Dht));
        assert_eq!(before, 1, "it expires");
        assert_eq!(node.core.timers.0.len(), 1, "a closed one dies");

        let future = |minutes| closed.close(&maker.master, NOW.plus(Duration::from_mins(minutes))).unwrap();
        for minutes in 10..20 {
            node.give(Input::Record(Arc::new(future(minutes)), Via::Dht));
        }
        assert_eq!((node.core.parked.len(), node.core.timers.0.len()), (1, 2));
    }

    #[test]
    fn what_is_dead_before_its_time_comes_does_not_wait() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        let at = offer.dies_at.plus(crate::exchange::limits::FUTURE_MAX);
        for (at, waits) in [(at, 0), (at.minus(Duration::from_millis(1)), 1)] {
            node.give(Input::Record(Arc::new(offer.close(&maker.master, at).unwrap()), Via::Dht));
            assert_eq!(node.core.parked.len(), waits);
        }
    }

    #[test]
    fn a_replayed_log_sets_the_same_timers() {
        let mut node = Bench::new(1);
        node.create();
        let before = node.core.next_timeout();
        node.restart();
        assert_eq!(node.core.next_timeout(), before);
        assert!(before.is_some());
    }
}
