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
