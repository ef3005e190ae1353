//! The taker's side: own bids on others' offers, asked with the same id until the maker's word is known.

use super::{
    BidOut, BidOutcome, BidState, CommandError, Core, Done, Effect, Event, Heard, IdempotencyKey, Made,
    NewBid, OfferStatus, Output, RefusalCode, ReplyTo, Seen, Span, Turn,
    core::{Asking, Waiting},
    limits::{
        ASK_AGAIN_AFTER_DEADLINE_MAX, ASK_AGAIN_MAX, ASK_AGAIN_MIN, BIDS_IN_DOUBT_MAX, BIDS_IN_DOUBT_SHARE,
        BIDS_OUT_REFUSED_MAX, CHANGE_IS_NEWS_FOR, WAITERS_A_BID_MAX,
    },
    message::refused,
    timers::Timer,
};
use crate::{
    identity::{ClientId, Signed},
    market::{Acceptance, BID_VALID_FOR_MAX, Bid, BidId, Offer, Side, Terms, TradeReceipt},
};
use rand::RngExt;
use std::{sync::Arc, time::Duration};

impl Core {
    pub(super) fn place_bid(
        &mut self,
        new: NewBid,
        wait: Duration,
        idempotency: Option<IdempotencyKey>,
        to: ReplyTo,
        output: &mut Output,
    ) {
        match self.try_place_bid(new, idempotency, output) {
            Ok((bid, again)) => self.wait(bid, again, wait, to, output),
            Err(error) => output.effects.push(Effect::Reply { to, reply: Err(error) }),
        }
    }

    fn try_place_bid(
        &mut self,
        NewBid { offer: reference, price, seen, valid_for }: NewBid,
        idempotency: Option<IdempotencyKey>,
        output: &mut Output,
    ) -> Result<(BidId, bool), CommandError> {
        if let Some(made) = self.made_before(idempotency.as_ref())? {
            return match made {
                Made::Bid(bid) => Ok((bid, true)),
                Made::Offer(_) => Err(CommandError::IdempotencyKeyReuse),
            };
        }
        self.may_trade()?;
        let offer = Arc::clone(self.state.find(reference)?);
        if offer.client_id == self.client_id {
            return Err(CommandError::OwnOffer(offer.id));
        }
        match (self.state.status(&offer, self.now), self.other_than_seen(&offer, &seen)) {
            (OfferStatus::Open | OfferStatus::Changed, Some(why)) => {
                return Err(CommandError::TermsChanged { offer: offer.id, sequence: offer.sequence, why });
            }
            (OfferStatus::Open, None) => {}
            (status, _) => {
                return Err(CommandError::OfferNotAvailable { offer: offer.id, status: status.as_str() });
            }
        }
        if offer.acceptance == Some(Acceptance::Unknown) {
            return Err(CommandError::AcceptanceUnknown(offer.id));
        }
        let asked = offer.terms.offer_price;
        let price = price.unwrap_or(asked);
        if !offer.terms.side.accepts(asked, price) {
            return Err(CommandError::Price { side: offer.terms.side, offer: asked, bid: price });
        }
        self.may_be_worth(offer.terms.btc_quantity, price, offer.terms.currency)?;
        if self.state.bids_in_doubt >= BIDS_IN_DOUBT_MAX {
            let advice = "wait until their makers answer, or give up those whose makers are gone";
            return Err(CommandError::Limit {
                what: "bids without an answer",
                max: BIDS_IN_DOUBT_MAX,
                advice,
            });
        }
        self.may_wait_for(offer.client_id)?;
        let bid = Bid {
            network: self.network.clone(),
            id: BidId(self.new_uuid()),
            bidder: self.client_id,
            maker: offer.client_id,
            offer_id: offer.id,
            offer_hash: offer.target(),
            terms: offer.terms,
            price,
            created_at: self.now,
            valid_until: self.now.plus(valid_for.min(BID_VALID_FOR_MAX)),
        };
        let bid = Signed::sign(&self.client_key, bid);
        let id = bid.id;
        let event = Event::BidOut(Arc::new(BidOut { bid, outcome: BidOutcome::InDoubt }));
        if cfg!(mutant = "bid_not_committed_before_sending") {
            self.state.apply(&event);
        } else {
            self.emit(event, output);
        }
        self.remember(idempotency, Made::Bid(id), output);
        self.ask(id, output);
        Ok((id, false))
    }

    /// A maker that does not answer must not take the room of the others.
    fn may_wait_for(&self, maker: ClientId) -> Result<(), CommandError> {
        let of_maker = self.state.bids_in_doubt_of.get(&maker).copied().unwrap_or_default();
        let of_others = self.state.bids_in_doubt.saturating_sub(of_maker);
        let max = BIDS_IN_DOUBT_MAX.saturating_sub(of_others) / BIDS_IN_DOUBT_SHARE;
        if of_maker < max || cfg!(mutant = "fair_one_maker_takes_all_doubt") {
            return Ok(());
        }
        Err(CommandError::MakerLimit { maker, held: of_maker, max })
    }

    /// In what `offer` is other than what the bid's owner says to have seen, or may be, as a clause.
    fn other_than_seen(&self, offer: &Offer, seen: &Seen) -> Option<String> {
        if cfg!(mutant = "terms_seen_are_ignored") {
            return None;
        }
        let Terms { side, btc_quantity, currency, .. } = offer.terms;
        if let Some(seen) = seen.sequence.filter(|seen| *seen != offer.sequence) {
            return Some(format!("the bid names sequence {seen}"));
        }
        if let Some(seen) = seen.side.filter(|seen| *seen != side) {
            let does = |side| if side == Side::Sell { "sells" } else { "buys" };
            return Some(format!("the maker {}, and the bid says that it {}", does(side), does(seen)));
        }
        if let Some(seen) = seen.btc_quantity.filter(|seen| *seen != btc_quantity) {
            return Some(format!("it is for {btc_quantity} BTC, and the bid names {seen}"));
        }
        if let Some(seen) = seen.currency.filter(|seen| *seen != currency) {
            return Some(format!("it is in {currency}, and the bid names {seen}"));
        }
        // Whoever names the version cannot mean another. Of the terms, side and quantity are enough: the currency never changes, and at
        // another price than before nothing is listed.
        let is_named = seen.sequence.is_some() || seen.side.and(seen.btc_quantity).is_some();
        let is_news = self.changes.are_news(offer.client_id, offer.target(), self.now);
        (is_news && !is_named && !cfg!(mutant = "terms_changed_a_moment_ago")).then(|| {
            let seconds = CHANGE_IS_NEWS_FOR.as_secs();
            format!("its maker wrote a new version within the last {seconds} s, and the bid does not say which its owner saw")
        })
    }

    /// Asks the maker about a bid without an answer, unless that is under way.
    pub(super) fn ask(&mut self, id: BidId, output: &mut Output) {
        let Some(bid) = self.in_doubt(id) else { return };
        let asking = self.asking.entry(id).or_default();
        if !asking.in_flight {
            asking.in_flight = true;
            asking.attempts += 1;
            if let Some(at) = asking.again_at.take() {
                self.timers.cancel(at, Timer::Ask(id));
            }
            let turn = if asking.attempts == 1 && !asking.resumed { Turn::First } else { Turn::Again };
            output.effects.push(Effect::Ask(bid.bid.clone(), turn));
        }
    }

    fn in_doubt(&self, id: BidId) -> Option<Arc<BidOut>> {
        self.state.bids_out.get(&id).filter(|bid| bid.outcome == BidOutcome::InDoubt).cloned()
    }

    /// A bid whose maker has not said its last word. One that was given up is such a bid too.
    fn unanswered(&self, id: BidId) -> Option<Arc<BidOut>> {
        let given_up = |bid: &BidOut| {
            matches!(bid.outcome, BidOutcome::GivenUp { .. }) && !cfg!(mutant = "given_up_for_good")
        };
        let bid = self.state.bids_out.get(&id)?;
        (bid.outcome == BidOutcome::InDoubt || given_up(bid)).then(|| Arc::clone(bid))
    }

    pub(super) fn bid_answered(&mut self, id: BidId, heard: Option<Heard>, output: &mut Output) {
        let Some(bid) = self.unanswered(id) else { return };
        if let Some(asking) = self.asking.get_mut(&id) {
            asking.in_flight = false;
        }
        let outcome = match heard {
            None if cfg!(mutant = "no_answer_read_as_refusal") => {
                BidOutcome::Refused(refused(RefusalCode::Refused, "no answer"))
            }
            None => return self.ask_later(&bid),
            Some(Heard::Refused(refusal)) => {
                if matches!(refusal.code, RefusalCode::OfferNotAvailable | RefusalCode::OfferNotFound) {
                    output.effects.push(Effect::Fetch(bid.bid.offer_hash));
                }
                BidOutcome::Refused(refusal)
            }
            Some(Heard::Accepted(trade)) => match TradeReceipt::pair(*trade, bid.bid.clone()) {
                // A maker chooses its trades' ids; one that is taken must not replace another receipt.
                Ok(receipt) if !self.state.trades.contains_key(&receipt.trade().id) => {
                    let trade = receipt.trade().id;
                    self.emit(Event::Traded(Arc::new(receipt)), output);
                    BidOutcome::Accepted(trade)
                }
                // The maker signed something else than an answer to this bid. It has not answered.
                _ => {
                    self.counters.answers_mismatched += 1;
                    return self.ask_later(&bid);
                }
            },
        };
        self.emit(Event::BidOut(Arc::new(BidOut { bid: bid.bid.clone(), outcome })), output);
        self.bound_refused_bids(output);
        self.bid_is_settled(id, output);
    }

    /// A bid has its answer: it is not asked again, and whoever waits is told.
    pub(super) fn bid_is_settled(&mut self, id: BidId, output: &mut Output) {
        self.asking.remove(&id);
        self.let_waiters_go(id, output);
    }

    /// Replies to everybody who waits for the answer to this bid.
    pub(super) fn let_waiters_go(&mut self, bid: BidId, output: &mut Output) {
        for (to, again) in self.waiting.remove(&bid).unwrap_or_default() {
            output.effects.push(Effect::Reply { to, reply: Ok(Done::Bid { bid, again }) });
        }
    }

    /// Doubles the pause each time, up to a limit that is longer once the bid is not firm any more; with jitter, so that
    /// many bidders of a maker that comes back do not ask in step.
    fn ask_later(&mut self, bid: &BidOut) {
        if bid.outcome != BidOutcome::InDoubt {
            return;
        }
        let bid = &bid.bid;
        let attempts = self.asking.get(&bid.id).map_or(1, |a| a.attempts);
        let max = if self.now < bid.valid_until { ASK_AGAIN_MAX } else { ASK_AGAIN_AFTER_DEADLINE_MAX };
        let pause = ASK_AGAIN_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(max);
        let jittered = pause.mul_f64(self.rng.random_range(0.75..1.25));
        if cfg!(mutant = "asked_only_once") {
            return;
        }
        let at = self.now.plus(jittered);
        if let Some(before) = self.asking.entry(bid.id).or_default().again_at.replace(at) {
            self.timers.cancel(before, Timer::Ask(bid.id));
        }
        self.set_timer(at, Timer::Ask(bid.id));
    }

    fn all_in_doubt(&self, maker: Option<ClientId>) -> Vec<BidId> {
        let in_doubt = |state| state == BidState::InDoubt;
        self.state.lists.bids_out(in_doubt, maker, Span::default(), None).collect()
    }

    /// A maker is back: the bids that it has not answered need not wait any longer.
    pub(super) fn ask_who_is_back(&mut self, maker: ClientId, output: &mut Output) {
        for id in self.all_in_doubt(Some(maker)) {
            self.ask(id, output);
        }
        self.ask_about_given_up(maker, output);
    }

    /// After a restart: every bid without an answer is asked at once.
    pub(super) fn resume_asking(&mut self, output: &mut Output) {
        if cfg!(mutant = "doubt_forgotten_at_restart") {
            return;
        }
        for id in self.all_in_doubt(None) {
            self.asking.insert(id, Asking { resumed: true, ..Asking::default() });
            self.ask(id, output);
        }
        // Who has records here was there after all.
        let is_held = |maker: &ClientId| self.state.market.records_of(*maker).next().is_some();
        for maker in self.makers_given_up_on().into_iter().filter(is_held).collect::<Vec<_>>() {
            self.ask_about_given_up(maker, output);
        }
    }

    /// Replies at once when the outcome is known, otherwise when it becomes known or `wait` is over.
    fn wait(&mut self, bid: BidId, again: bool, wait: Duration, to: ReplyTo, output: &mut Output) {
        let waiters = self.waiting.get(&bid).map_or(0, Vec::len);
        self.counters.over.waiters += u64::from(waiters >= WAITERS_A_BID_MAX);
        if self.in_doubt(bid).is_none() || wait.is_zero() || waiters >= WAITERS_A_BID_MAX {
            output.effects.push(Effect::Reply { to, reply: Ok(Done::Bid { bid, again }) });
            return;
        }
        self.waiting.entry(bid).or_default().push((to, again));
        self.set_timer(self.now.plus(wait), Timer::WaitOver(bid, to));
    }

    pub(super) fn stop_waiting(&mut self, bid: BidId, to: ReplyTo, output: &mut Output) {
        let Some(waiters) = self.waiting.get_mut(&bid) else { return };
        if let Some(n) = waiters.iter().position(|(waiter, _)| *waiter == to) {
            let (to, again) = waiters.swap_remove(n);
            if cfg!(mutant = "waiting_caller_forgotten") {
                return;
            }
            output.effects.push(Effect::Reply { to, reply: Ok(Done::Bid { bid, again }) });
        }
        if waiters.is_empty() {
            self.waiting.remove(&bid);
        }
    }

    /// Answers those who wait at a core that is thrown away because its events could not be committed: `self` is the one
    /// rebuilt from the store. A bid that is stored is in doubt as before; of one that is not, nothing was ever sent.
    pub(super) fn take_over_callers(&mut self, waiting: Waiting, output: &mut Output) {
        let mut waiting: Vec<_> = waiting.into_iter().collect();
        waiting.sort_unstable_by_key(|(bid, _)| *bid);
        for (bid, waiters) in waiting {
            let stored = self.state.bids_out.contains_key(&bid);
            for (to, again) in waiters {
                let reply =
                    if stored { Ok(Done::Bid { bid, again }) } else { Err(CommandError::StorageFull) };
                output.effects.push(Effect::Reply { to, reply });
            }
        }
    }

    /// Tells everybody who waits for a maker's answer how far it is, because this core ends. Their bids are stored and in doubt:
    /// whoever were told of a failure might bid anew on what may be sold to him.
    pub fn let_callers_go(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (bid, waiters) in std::mem::take(&mut self.waiting) {
            effects.extend(
                waiters
                    .into_iter()
                    .map(|(to, again)| Effect::Reply { to, reply: Ok(Done::Bid { bid, again }) }),
            );
        }
        effects
    }

    fn bound_refused_bids(&mut self, output: &mut Output) {
        // Accepted bids are bounded with the trades, those in doubt by their own limit.
        let unanswered = self.state.bids_in_doubt + self.state.bids_given_up;
        let kept = unanswered + self.state.trades.len() + BIDS_OUT_REFUSED_MAX;
        if self.state.bids_out.len() > kept {
            let refused = |bid: &&Arc<BidOut>| matches!(bid.outcome, BidOutcome::Refused(_));
            if let Some(oldest) = self.state.bids_out.values().find(refused).map(|bid| bid.bid.id) {
                self.counters.over.refusals_received += 1;
                self.emit(Event::BidOutForgotten(oldest), output);
            }
        }
    }
}

#[cfg(test)]
mod tests;
