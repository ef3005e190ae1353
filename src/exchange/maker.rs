//! The maker's side: bids on own offers. Here, and only here, it is decided that something is sold.

use super::{
    BidAnswer, BidIn, Closed, Core, Effect, Event, NotNow, OfferStatus, Output, Refusal, RefusalCode,
    ReplyTo,
    limits::{BID_FROM_FUTURE_MAX, BIDS_IN_REFUSED_MAX, TRADES_MAX},
    message::{expired_detail, refused},
};
use crate::{
    identity::Signed,
    market::{BID_VALID_FOR_MAX, Bid, Side, TradeId, TradeReceipt},
};
use std::sync::Arc;

impl Core {
    pub(super) fn bid_received(&mut self, bid: Signed<Bid>, to: ReplyTo, output: &mut Output) {
        let answer = self.answer(bid, output);
        output.effects.push(Effect::Answer { to, answer });
    }

    fn answer(&mut self, bid: Signed<Bid>, output: &mut Output) -> Result<BidAnswer, NotNow> {
        let before = self.state.bids_in.get(&(bid.bidder, bid.id));
        if let Some(before) = before.filter(|_| !cfg!(mutant = "answers_not_remembered")) {
            return Ok(if before.bid == bid || cfg!(mutant = "id_reuse_unnoticed") {
                self.same_answer(before)
            } else {
                BidAnswer::Refused(id_reuse())
            });
        }
        if self.state.is_behind() {
            return Err(NotNow::StoreBehind);
        }
        match self.judge(&bid) {
            Ok(()) if self.state.trades.len() >= TRADES_MAX => Err(NotNow::TradesFull),
            Ok(()) => Ok(self.accept(bid, output)),
            Err(refusal) => {
                // An offer that was never ours cannot become ours: this needs no memory, and a stranger can fill none.
                if refusal.code != RefusalCode::OfferNotFound {
                    self.remember_refusal(bid, refusal.clone(), output);
                }
                Ok(BidAnswer::Refused(refusal))
            }
        }
    }

    fn same_answer(&self, before: &BidIn) -> BidAnswer {
        let trade = before.answer.as_ref().map(|trade| self.state.trades.get(trade));
        match trade {
            Ok(Some(receipt)) => BidAnswer::Accepted { trade: receipt.trade().source().clone() },
            Ok(None) => unreachable!("an accepted bid and its trade are stored by one commit"),
            Err(refusal) => BidAnswer::Refused(refusal.clone()),
        }
    }

    /// Whether `bid` can be accepted now.
    fn judge(&self, bid: &Bid) -> Result<(), Refusal> {
        use RefusalCode as Code;
        let own = self.state.own.get(&bid.offer_id).filter(|own| own.offer.target() == bid.offer_hash);
        let Some(own) = own else {
            return Err(refused(Code::OfferNotFound, format!("this node has no offer {}", bid.offer_id)));
        };
        let offer = &own.offer;
        if !bid.is_for(offer) && !cfg!(mutant = "terms_not_checked") {
            return Err(refused(Code::TermsMismatch, "the bid is for other terms than the offer's"));
        }
        if bid.bidder == self.client_id {
            return Err(refused(Code::OwnOffer, "a bid on an own offer is no trade"));
        }
        if self.now >= bid.valid_until && !cfg!(mutant = "expired_bid_accepted") {
            return Err(refused(Code::BidExpired, expired_detail(bid.valid_until, self.now)));
        }
        if bid.created_at > self.now.plus(BID_FROM_FUTURE_MAX) {
            return Err(refused(
                Code::InvalidBid,
                format!("the bid is dated {}, it is {}", bid.created_at, self.now),
            ));
        }
        if bid.valid_until > bid.created_at.plus(BID_VALID_FOR_MAX) {
            return Err(refused(Code::InvalidBid, "the bid is firm for longer than 24 hours"));
        }
        match self.state.status(offer, self.now) {
            OfferStatus::Open => {}
            _ if cfg!(mutant = "closed_offer_sold") => {}
            status => {
                let detail = format!("offer {} is {}", offer.id, status.as_str());
                return Err(refused(Code::OfferNotAvailable, detail));
            }
        }
        if !offer.terms.side.accepts(offer.terms.offer_price, bid.price)
            && !cfg!(mutant = "price_not_checked")
        {
            let (code, word) = match offer.terms.side {
                Side::Sell => (Code::PriceBelowAsk, "below the asking price"),
                Side::Buy => (Code::PriceAboveOffer, "above the offered price"),
            };
            return Err(refused(code, format!("{} is {word} of {}", bid.price, offer.terms.offer_price)));
        }
        Ok(())
    }

    /// Sells: the trade, the answer and the closed record in one batch, so in one commit.
    fn accept(&mut self, bid: Signed<Bid>, output: &mut Output) -> BidAnswer {
        let Some(own) = self.state.own.get(&bid.offer_id).cloned() else {
            unreachable!("judge found the offer");
        };
        let id = TradeId(self.new_uuid());
        let receipt = TradeReceipt::accept(&self.client_key, id, bid.clone(), self.now);
        let trade = receipt.trade().source().clone();
        self.emit(Event::Traded(Arc::new(receipt)), output);
        self.emit(Event::BidIn(Arc::new(BidIn { bid, answer: Ok(id), at: self.now })), output);
        if !cfg!(mutant = "offer_not_closed_when_sold")
            && self.close_own(&own, Closed::Sold(id), output).is_err()
        {
            unreachable!("a valid record stays valid when it is closed");
        }
        BidAnswer::Accepted { trade }
    }

    fn remember_refusal(&mut self, bid: Signed<Bid>, refusal: Refusal, output: &mut Output) {
        if self.state.bids_in_refused >= BIDS_IN_REFUSED_MAX {
            self.counters.over.refusals_given += 1;
            self.forget_first_refusal(output);
        }
        let bid = BidIn { bid, answer: Err(refusal), at: self.now };
        if cfg!(mutant = "refusal_not_durable") {
            self.state.apply(&Event::BidIn(Arc::new(bid)));
        } else {
            self.emit(Event::BidIn(Arc::new(bid)), output);
        }
    }

    /// Forgets the refused bid with the lowest id of the lowest bidder: any will do, see [`BIDS_IN_REFUSED_MAX`].
    fn forget_first_refusal(&mut self, output: &mut Output) {
        let first = self.state.bids_in.iter().find(|(_, bid)| bid.answer.is_err()).map(|(key, _)| *key);
        if let Some((bidder, bid)) = first {
            self.emit(Event::BidInForgotten(bidder, bid), output);
        }
    }
}

fn id_reuse() -> Refusal {
    refused(RefusalCode::IdReuse, "this bid id was used for another bid; it keeps its answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::testing::{Bench, HOUR, MINUTE, NOW, bid, code, is_sold, new_offer},
        exchange::{Done, Input, limits::BID_IN_KEPT_FOR},
        market::NewOffer,
    };
    use RefusalCode as Code;
    use std::time::Duration;

    #[test]
    fn the_first_good_bid_takes_the_offer_and_the_next_is_refused() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        assert!(is_sold(&maker.receives(&bid(2, &offer, |_| {}))));
        assert_eq!(code(&maker.receives(&bid(3, &offer, |_| {}))), Code::OfferNotAvailable);
        let state = maker.core.state();
        assert_eq!((state.trades.len(), state.market.available.len()), (1, 0));
        assert!(!maker.own(offer.id).availability);
    }

    #[test]
    fn what_is_wrong_with_a_bid_has_a_code() {
        type Change = fn(&mut Bid);
        let cases: [(Code, Change); 6] = [
            (Code::PriceBelowAsk, |b| b.price = "99.99999999".parse().unwrap()),
            (Code::TermsMismatch, |b| b.terms.btc_quantity = "2".parse().unwrap()),
            (Code::OfferNotFound, |b| b.offer_hash = crate::bep44::Target([9; 20])),
            (Code::BidExpired, |b| b.valid_until = NOW),
            (Code::InvalidBid, |b| b.created_at = NOW.plus(Duration::from_secs(301))),
            (Code::InvalidBid, |b| b.valid_until = NOW.plus(24 * HOUR)),
        ];
        for (expected, change) in cases {
            let mut maker = Bench::new(1);
            let offer = maker.create();
            assert_eq!(code(&maker.receives(&bid(2, &offer, change))), expected);
            assert!(
                is_sold(&maker.receives(&bid(3, &offer, |_| {}))),
                "{expected:?} must not close the offer"
            );
        }
    }

    #[test]
    fn a_buyer_refuses_a_bid_above_its_price_and_takes_one_below() {
        let mut maker = Bench::new(1);
        let mut new = new_offer();
        new.terms.side = Side::Buy;
        let output = maker.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
        let Ok(Done::Created { offer, .. }) = crate::exchange::testing::reply(&output) else { panic!() };
        let offer = maker.own(offer);
        let above = bid(2, &offer, |b| b.price = "100.5".parse().unwrap());
        assert_eq!(code(&maker.receives(&above)), Code::PriceAboveOffer);
        assert!(is_sold(&maker.receives(&bid(3, &offer, |b| b.price = "99".parse().unwrap()))));
    }

    #[test]
    fn a_maker_does_not_trade_with_itself() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        assert_eq!(code(&maker.receives(&bid(1, &offer, |_| {}))), Code::OwnOffer);
    }

    #[test]
    fn a_repeated_bid_gets_the_same_answer_also_after_a_restart_and_after_its_deadline() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        let (good, cheap) = (bid(2, &offer, |_| {}), bid(3, &offer, |b| b.price = "1".parse().unwrap()));
        let answers = [maker.receives(&cheap), maker.receives(&good)];
        maker.now = NOW.plus(HOUR);
        assert_eq!([maker.receives(&cheap), maker.receives(&good)], answers);
        maker.restart();
        assert_eq!([maker.receives(&cheap), maker.receives(&good)], answers);
        assert_eq!(maker.core.state().trades.len(), 1);
    }

    #[test]
    fn an_id_used_again_for_another_bid_is_refused_and_changes_nothing() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        let first = bid(2, &offer, |_| {});
        let answer = maker.receives(&first);
        let other = bid(2, &offer, |b| b.price = "200".parse().unwrap());
        assert_eq!(code(&maker.receives(&other)), Code::IdReuse);
        assert_eq!(maker.receives(&first), answer);
        // The same id of another bidder is another bid.
        let namesake = bid(3, &offer, |b| b.id = first.id);
        assert_eq!(code(&maker.receives(&namesake)), Code::OfferNotAvailable);
    }

    #[test]
    fn a_bid_that_comes_too_late_is_buried_although_the_clock_goes_back() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        let late = bid(2, &offer, |_| {});
        maker.now = late.valid_until;
        assert_eq!(code(&maker.receives(&late)), Code::BidExpired);
        maker.now = NOW;
        maker.restart();
        assert_eq!(code(&maker.receives(&late)), Code::BidExpired);
    }

    #[test]
    fn an_expired_offer_is_not_sold() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        maker.now = NOW.plus(HOUR);
        let late = bid(2, &offer, |b| b.valid_until = NOW.plus(2 * HOUR));
        assert_eq!(code(&maker.receives(&late)), Code::OfferNotAvailable);
    }

    #[test]
    fn a_bid_refused_because_its_offer_is_forgotten_stays_refused() {
        let mut maker = Bench::new(1);
        let new = NewOffer { dies_at: NOW.plus(MINUTE), expires_at: NOW.plus(MINUTE), ..new_offer() };
        let output = maker.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
        let Ok(Done::Created { offer, .. }) = crate::exchange::testing::reply(&output) else { panic!() };
        let bid = bid(2, &maker.own(offer), |_| {});
        maker.now = NOW.plus(2 * MINUTE);
        assert_eq!(code(&maker.receives(&bid)), Code::OfferNotFound);
        // What need not be durable is lost, and the clock is behind.
        maker.log.retain(Event::must_be_durable);
        maker.now = NOW;
        maker.restart();
        assert_eq!(code(&maker.receives(&bid)), Code::OfferNotFound);
    }

    #[test]
    fn refusals_are_forgotten_a_day_after_the_deadline_and_trades_never() {
        let mut maker = Bench::new(1);
        let offer = maker.create();
        let cheap = bid(3, &offer, |b| b.price = "1".parse().unwrap());
        _ = (maker.receives(&cheap), maker.receives(&bid(2, &offer, |_| {})));
        maker.now = cheap.valid_until.plus(BID_IN_KEPT_FOR).minus(Duration::from_millis(1));
        maker.tick(Duration::ZERO);
        assert_eq!(maker.core.state().bids_in.len(), 2);
        maker.tick(Duration::from_millis(1));
        assert_eq!((maker.core.state().bids_in.len(), maker.core.state().bids_in_refused), (1, 0));
        assert!(is_sold(&maker.receives(&bid(2, &offer, |_| {}))));
    }

    #[test]
    fn withdrawal_and_bid_in_one_batch_the_first_wins_and_both_learn_which() {
        for bid_first in [true, false] {
            let mut maker = Bench::new(1);
            let offer = maker.create();
            let bid = bid(2, &offer, |_| {});
            let (sold, withdrawn) = if bid_first {
                let answer = maker.receives(&bid);
                (is_sold(&answer), maker.withdraw(offer.id, None).is_ok())
            } else {
                let withdrawn = maker.withdraw(offer.id, None).is_ok();
                (is_sold(&maker.receives(&bid)), withdrawn)
            };
            assert_eq!((sold, withdrawn), (bid_first, !bid_first));
            assert_eq!(maker.core.state().trades.len(), usize::from(bid_first));
        }
    }
}
