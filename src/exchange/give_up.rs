//! Giving up: an own bid whose maker never comes back is no longer waited for, when its owner says so.
//!
//! Not before the bid's deadline and the death of the record that it is on: until then its maker may come back any moment. After
//! that the offer is on nobody's list, and only the maker's last word is missing. A bid that was given up is never forgotten and
//! no longer asked again and again, only when its maker is heard of once more; and what the maker says then still counts: a trade
//! that exists must not be lost.

use super::{
    BidOut, BidOutcome, BidState, CommandError, Core, Done, Effect, Event, Output, ReplyTo, Span, State,
    Turn,
    limits::{BIDS_GIVEN_UP_MAX, GIVEN_UP_ASK_AGAIN_MIN},
    timers::Timer,
};
use crate::{
    identity::ClientId,
    market::{Bid, BidId},
    time::UnixMillis,
};
use std::{collections::BTreeSet, sync::Arc};

impl State {
    /// From when on this own bid can be given up. A record that is not held is dead: every node forgets it then.
    pub fn give_up_from(&self, bid: &Bid) -> UnixMillis {
        let record = self.market.records.get(&bid.offer_hash);
        let dies_at = record.map(|offer| self.market.counts_until(offer));
        bid.valid_until.max(dies_at.unwrap_or_default())
    }
}

impl Core {
    pub(super) fn give_up(&mut self, id: BidId, to: ReplyTo, output: &mut Output) {
        let reply = self.try_give_up(id, output);
        output.effects.push(Effect::Reply { to, reply });
    }

    fn try_give_up(&mut self, id: BidId, output: &mut Output) -> Result<Done, CommandError> {
        let bid = self.state.bids_out.get(&id).cloned().ok_or(CommandError::NotOwnBid(id))?;
        match &bid.outcome {
            BidOutcome::InDoubt => {}
            BidOutcome::GivenUp { .. } => return Ok(Done::GivenUp(id)),
            answered => {
                let answer = answered.state().as_str();
                return Err(CommandError::BidAnswered { bid: id, answer });
            }
        }
        let from = self.state.give_up_from(&bid.bid);
        if self.now < from && !cfg!(mutant = "given_up_too_early") {
            return Err(CommandError::GiveUpTooEarly { bid: id, from });
        }
        if self.state.bids_given_up >= BIDS_GIVEN_UP_MAX {
            return Err(CommandError::Limit {
                what: "bids that were given up",
                max: BIDS_GIVEN_UP_MAX,
                advice: "archive its data directory and start a new one",
            });
        }
        if let Some(at) = self.asking.get_mut(&id).and_then(|asking| asking.again_at.take()) {
            self.timers.cancel(at, Timer::Ask(id));
        }
        let outcome = BidOutcome::GivenUp { at: self.now };
        let event = Event::BidOut(Arc::new(BidOut { bid: bid.bid.clone(), outcome }));
        if cfg!(mutant = "giving_up_not_durable") {
            self.state.apply(&event);
        } else {
            self.emit(event, output);
        }
        self.let_waiters_go(id, output);
        Ok(Done::GivenUp(id))
    }

    /// Whose bids were given up.
    pub(super) fn makers_given_up_on(&self) -> BTreeSet<ClientId> {
        let given_up = |state| state == BidState::GivenUp;
        let ids = self.state.lists.bids_out(given_up, None, Span::default(), None);
        ids.filter_map(|id| self.state.bids_out.get(&id).map(|bid| bid.bid.maker)).collect()
    }

    /// A maker is there again: whether it sold after all is asked once, and not again for a while, however often it comes and goes.
    pub(super) fn ask_about_given_up(&mut self, maker: ClientId, output: &mut Output) {
        if self.state.bids_given_up == 0 {
            return;
        }
        let given_up = |state| state == BidState::GivenUp;
        let ids = self.state.lists.bids_out(given_up, Some(maker), Span::default(), None);
        for id in ids.collect::<Vec<_>>() {
            let Some(bid) = self.state.bids_out.get(&id).cloned() else { continue };
            let asking = self.asking.entry(id).or_default();
            if !asking.in_flight && asking.again_at.is_none_or(|at| at <= self.now) {
                asking.in_flight = true;
                asking.again_at = Some(self.now.plus(GIVEN_UP_ASK_AGAIN_MIN));
                output.effects.push(Effect::Ask(bid.bid.clone(), Turn::Again));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{
            BidAnswer, Heard, Input, RefusalCode,
            testing::{Bench, HOUR, MINUTE, asked, key, network, reply},
        },
        identity::Signed,
        market::{Offer, Via},
    };
    use std::time::Duration;

    /// A maker that is gone, a taker whose bid on its offer is in doubt, and the two.
    fn doubtful() -> (Bench, Bench, Arc<Offer>, Signed<Bid>) {
        let (mut maker, mut taker) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
        let bid = asked(&taker.bid_on(&offer, Duration::ZERO, None)).remove(0);
        taker.hears(bid.id, None);
        (maker, taker, offer, bid)
    }

    fn give_up(node: &mut Bench, bid: BidId) -> Result<Done, CommandError> {
        reply(&node.give(Input::GiveUp { bid, reply: ReplyTo(7) }))
    }

    fn state_of(node: &Bench, bid: BidId) -> BidState {
        node.core.state().bids_out[&bid].outcome.state()
    }

    #[test]
    fn a_bid_is_given_up_when_its_deadline_is_over_and_its_offer_dead_and_not_before() {
        let (_, mut taker, offer, bid) = doubtful();
        let too_early = Err(CommandError::GiveUpTooEarly { bid: bid.id, from: offer.dies_at });
        assert_eq!(give_up(&mut taker, bid.id), too_early);
        taker.now = offer.dies_at.minus(Duration::from_millis(1));
        assert_eq!(give_up(&mut taker, bid.id), too_early);
        assert_eq!(taker.core.state().bids_in_doubt, 1);
        taker.now = offer.dies_at;
        for _ in 0..2 {
            assert_eq!(give_up(&mut taker, bid.id), Ok(Done::GivenUp(bid.id)));
            taker.restart();
            assert_eq!(state_of(&taker, bid.id), BidState::GivenUp);
        }
        let state = taker.core.state();
        assert_eq!((state.bids_in_doubt, state.bids_given_up), (0, 1));
        assert!(asked(&taker.tick(HOUR)).is_empty(), "nobody is asked for ever");
    }

    #[test]
    fn a_record_that_dies_before_the_deadline_does_not_shorten_it() {
        let (_, mut taker, offer, bid) = doubtful();
        let long = Bid { valid_until: offer.dies_at.plus(HOUR), ..(*bid).clone() };
        assert_eq!(taker.core.state().give_up_from(&long), offer.dies_at.plus(HOUR));
        taker.tick(3 * HOUR);
        assert_eq!(taker.core.state().give_up_from(&bid), bid.valid_until, "the record is forgotten");
    }

    #[test]
    fn only_own_bids_without_an_answer_are_given_up() {
        let (mut maker, mut taker, offer, bid) = doubtful();
        assert_eq!(give_up(&mut maker, bid.id), Err(CommandError::NotOwnBid(bid.id)));
        let answer = maker.receives(&bid).unwrap().verify(&network()).unwrap();
        taker.hears(bid.id, Some(answer));
        taker.now = offer.dies_at;
        let answered = Err(CommandError::BidAnswered { bid: bid.id, answer: "accepted" });
        assert_eq!(give_up(&mut taker, bid.id), answered);
    }

    #[test]
    fn a_trade_that_comes_after_all_is_recorded_and_a_refusal_too() {
        for sold in [true, false] {
            let (mut maker, mut taker, offer, bid) = doubtful();
            let answer = if sold {
                maker.receives(&bid).unwrap()
            } else {
                BidAnswer::Refused(crate::exchange::message::refused(RefusalCode::BidExpired, "too late"))
            };
            let answer: Heard = answer.verify(&network()).unwrap();
            taker.now = offer.dies_at;
            give_up(&mut taker, bid.id).unwrap();
            taker.restart();
            taker.hears(bid.id, None);
            assert_eq!(state_of(&taker, bid.id), BidState::GivenUp, "silence says nothing new");
            taker.hears(bid.id, Some(answer));
            taker.restart();
            let state = taker.core.state();
            assert_eq!(state.bids_given_up, 0);
            if sold {
                assert_eq!(state.trades, maker.core.state().trades);
                assert_eq!(state_of(&taker, bid.id), BidState::Accepted);
            } else {
                assert!(state.trades.is_empty());
            }
        }
    }

    #[test]
    fn a_maker_that_is_back_is_asked_once_in_a_while_about_what_was_given_up() {
        let (mut maker, mut taker, offer, bid) = doubtful();
        taker.now = offer.dies_at;
        give_up(&mut taker, bid.id).unwrap();
        // It was asked once more the moment before.
        taker.hears(bid.id, None);
        let back = |taker: &mut Bench| {
            taker.give(Input::Stale { maker: offer.client_id, stale: true });
            asked(&taker.give(Input::Stale { maker: offer.client_id, stale: false })).len()
        };
        assert_eq!(back(&mut taker), 1);
        assert_eq!(back(&mut taker), 0, "it is under way");
        taker.hears(bid.id, None);
        assert_eq!(back(&mut taker), 0, "it was asked a moment ago");
        taker.now = taker.now.plus(GIVEN_UP_ASK_AGAIN_MIN);
        assert_eq!(back(&mut taker), 1);
        taker.hears(bid.id, None);
        // A maker of whom nothing was held shows itself by a record.
        taker.now = taker.now.plus(GIVEN_UP_ASK_AGAIN_MIN);
        maker.now = taker.now;
        let new = crate::market::NewOffer {
            expires_at: taker.now.plus(HOUR),
            dies_at: taker.now.plus(HOUR),
            ..crate::exchange::testing::new_offer()
        };
        maker.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
        let newest = maker.core.state().own.values().next_back().unwrap().offer.clone();
        assert_eq!(asked(&taker.give(Input::Record(newest, Via::Dht))).len(), 1);
        // After a restart, too, when something of it is held.
        assert_eq!(asked(&taker.restart()), std::slice::from_ref(&bid));
    }

    #[test]
    fn whoever_waits_for_a_bid_that_is_given_up_is_told() {
        let (_, mut taker, offer, _) = doubtful();
        let key = || Some(key("k", 1));
        let bid = asked(&taker.bid_on(&offer, Duration::ZERO, key())).remove(0);
        taker.now = offer.dies_at;
        taker.bid_on(&offer, MINUTE / 2, key());
        let output = taker.give(Input::GiveUp { bid: bid.id, reply: ReplyTo(7) });
        let replies = output.effects.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count();
        assert_eq!(replies, 2);
    }
}
