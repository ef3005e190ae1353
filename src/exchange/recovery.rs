//! What was lost with a store and is found again: own records that the network knows better, and trades that the other side holds.
//!
//! A trade is believed as always: its maker's signature on it, its taker's on the bid, both about each other. One of the two is
//! this node's own, so nobody can invent what it has sold or bought. What another node can do is to keep silent.

use super::{
    BidIn, BidOut, BidOutcome, Closed, CommandError, Core, Done, Effect, Event, Output, OwnOffer, ReplyTo,
    limits::TRADES_MAX,
};
use crate::market::TradeReceipt;
use std::sync::Arc;

/// What became of one trade that was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    New,
    Known,
    /// It cannot stand beside what this node holds.
    Contradicts,
}

impl Core {
    /// Takes over trades with this node that another node holds and this one lacks.
    pub(super) fn trades_shown(
        &mut self,
        receipts: Vec<Arc<TradeReceipt>>,
        to: ReplyTo,
        output: &mut Output,
    ) {
        let (mut new, mut contradicting) = (0, 0);
        for receipt in receipts {
            match self.take_over(&receipt, output) {
                Shown::New => new += 1,
                Shown::Known => {}
                Shown::Contradicts => contradicting += 1,
            }
        }
        let reply = Ok(Done::TradesTaken { new, contradicting });
        output.effects.push(Effect::Reply { to, reply });
    }

    fn take_over(&mut self, receipt: &Arc<TradeReceipt>, output: &mut Output) -> Shown {
        let trade = receipt.trade();
        if let Some(held) = self.state.trades.get(&trade.id) {
            // Makers choose ids; one that is taken must not replace another receipt.
            return if held == receipt { Shown::Known } else { Shown::Contradicts };
        }
        if self.state.trades.len() >= TRADES_MAX {
            return Shown::Contradicts;
        }
        if trade.maker == self.client_id {
            self.take_over_sale(receipt, output)
        } else if trade.taker == self.client_id {
            self.take_over_purchase(receipt, output)
        } else {
            Shown::Contradicts
        }
    }

    /// This node signed the sale, and has forgotten it.
    fn take_over_sale(&mut self, receipt: &Arc<TradeReceipt>, output: &mut Output) -> Shown {
        let (trade, bid) = (receipt.trade(), receipt.bid());
        let target = trade.offer_hash;
        let answered = self.state.bids_in.get(&(bid.bidder, bid.id));
        let other_bid = answered.is_some_and(|before| before.bid != *bid || before.answer.is_ok());
        if self.state.sold.contains_key(&target) || other_bid {
            return Shown::Contradicts;
        }
        if cfg!(mutant = "recovered_sale_not_taken_over") {
            return Shown::Known;
        }
        self.emit(Event::Traded(Arc::clone(receipt)), output);
        let answer = BidIn { bid: bid.clone(), answer: Ok(trade.id), at: trade.executed_at };
        self.emit(Event::BidIn(Arc::new(answer)), output);
        let own = self.state.own.get(&trade.offer_id).filter(|own| own.offer.target() == target).cloned();
        match own {
            // `recover` closes it, with a sequence beyond the one that the network knows.
            Some(_) if self.state.ahead.contains_key(&target) => {}
            Some(own) if own.offer.availability => {
                let closed = self.close_own(&own, Closed::Sold(trade.id), output);
                assert!(closed.is_ok(), "a valid record stays valid when it is closed");
            }
            Some(own) => {
                let sold = OwnOffer { closed: Some(Closed::Sold(trade.id)), ..own };
                self.emit(Event::Own(sold), output);
            }
            None => {}
        }
        Shown::New
    }

    /// This node signed the bid, and its maker accepted it.
    fn take_over_purchase(&mut self, receipt: &Arc<TradeReceipt>, output: &mut Output) -> Shown {
        let (trade, bid) = (receipt.trade(), receipt.bid());
        let in_doubt = match self.state.bids_out.get(&bid.id) {
            None => false,
            Some(own)
                if own.bid == *bid
                    && matches!(own.outcome, BidOutcome::InDoubt | BidOutcome::GivenUp { .. }) =>
            {
                true
            }
            Some(_) => return Shown::Contradicts,
        };
        self.emit(Event::Traded(Arc::clone(receipt)), output);
        let outcome = BidOutcome::Accepted(trade.id);
        self.emit(Event::BidOut(Arc::new(BidOut { bid: bid.clone(), outcome })), output);
        if in_doubt {
            self.bid_is_settled(bid.id, output);
        }
        Shown::New
    }

    pub(super) fn recover(&mut self, to: ReplyTo, output: &mut Output) {
        let reply = self.try_recover(output);
        output.effects.push(Effect::Reply { to, reply });
    }

    /// Takes over, closed, every own record that the network knew better: unless a trade says what happened to it, nothing here
    /// does, so it must not be sold (again).
    fn try_recover(&mut self, output: &mut Output) -> Result<Done, CommandError> {
        let (ahead, now) = (self.state.ahead.clone(), self.now);
        // What is dead by now is on nobody's list, and would be forgotten the moment it is closed.
        for (target, offer) in ahead.iter().filter(|(_, offer)| !offer.is_dead(now)) {
            let sold = self.state.sold.get(target).map(|trade| Closed::Sold(*trade));
            let before = self.state.own.get(&offer.id).and_then(|own| own.closed);
            let own = OwnOffer { offer: Arc::clone(offer), closed: None, published: None };
            self.close_own(&own, sold.or(before).unwrap_or(Closed::Recovered), output)?;
        }
        if !ahead.is_empty() {
            self.emit(Event::Recovered, output);
        }
        Ok(Done::Recovered(ahead.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{
            Input, OfferStatus, RefusalCode,
            testing::{Bench, HOUR, bid, code, has_reply, is_sold, key, new_offer, reply},
        },
        market::{Offer, Via},
    };
    use std::time::Duration;

    fn shows(node: &mut Bench, receipts: &[&Arc<TradeReceipt>]) -> Result<Done, CommandError> {
        let receipts = receipts.iter().map(|receipt| Arc::clone(receipt)).collect();
        let output = node.give(Input::TradesShown { receipts, reply: ReplyTo(4) });
        let told = output.effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { to: ReplyTo(4), reply } => Some(reply),
            _ => None,
        });
        told.expect("a reply")
    }

    #[expect(clippy::unnecessary_wraps, reason = "replies are compared with it")]
    fn taken(new: usize, contradicting: usize) -> Result<Done, CommandError> {
        Ok(Done::TradesTaken { new, contradicting })
    }

    /// A maker that sold an offer after its backup was made, and is started on the backup.
    fn sold_and_forgot() -> (Bench, Arc<Offer>, Arc<TradeReceipt>, Arc<Offer>) {
        let mut node = Bench::new(1);
        let offer = node.create();
        let backup = node.log.clone();
        assert!(is_sold(&node.receives(&bid(2, &offer, |_| {}))));
        let receipt = Arc::clone(node.core.state().trades.values().next().unwrap());
        let closed = node.own(offer.id);
        node.log = backup;
        node.restart();
        (node, offer, receipt, closed)
    }

    #[test]
    fn a_sale_that_was_forgotten_is_taken_over_before_and_after_the_offer_is_closed() {
        for recovers_first in [false, true] {
            let (mut node, offer, receipt, closed) = sold_and_forgot();
            node.give(Input::Record(Arc::clone(&closed), Via::Dht));
            let recover = |node: &mut Bench| reply(&node.give(Input::Recover { reply: ReplyTo(0) }));
            if recovers_first {
                assert_eq!(recover(&mut node), Ok(Done::Recovered(1)));
                assert_eq!(node.core.state().own[&offer.id].closed, Some(Closed::Recovered));
            }
            assert_eq!(shows(&mut node, &[&receipt]), taken(1, 0));
            assert_eq!(shows(&mut node, &[&receipt]), taken(0, 0), "once more is no news");
            assert_eq!(recover(&mut node), Ok(Done::Recovered(usize::from(!recovers_first))));
            for _ in 0..2 {
                let (state, id) = (node.core.state(), receipt.trade().id);
                assert_eq!(state.own[&offer.id].closed, Some(Closed::Sold(id)));
                assert_eq!(state.status(&offer, node.now), OfferStatus::Sold);
                assert!(node.own(offer.id).sequence > closed.sequence && !state.is_behind());
                assert!(is_sold(&node.receives(receipt.bid())), "the bid keeps its answer");
                assert_eq!(code(&node.receives(&bid(3, &offer, |_| {}))), RefusalCode::OfferNotAvailable);
                node.restart();
            }
        }
    }

    #[test]
    fn a_sale_closes_an_offer_that_the_network_believes_open() {
        let (mut node, offer, receipt, _) = sold_and_forgot();
        assert_eq!(shows(&mut node, &[&receipt]), taken(1, 0));
        assert!(!node.own(offer.id).availability && node.core.state().market.available.is_empty());
        assert_eq!(code(&node.receives(&bid(3, &offer, |_| {}))), RefusalCode::OfferNotAvailable);
    }

    #[test]
    fn a_second_sale_of_an_offer_is_no_trade() {
        let (mut node, offer, receipt, _) = sold_and_forgot();
        // What the node must never do, and did: sold on an old store.
        assert!(is_sold(&node.receives(&bid(3, &offer, |_| {}))));
        assert_eq!(shows(&mut node, &[&receipt]), taken(0, 1));
        assert_eq!(node.core.state().trades.len(), 1);
    }

    #[test]
    fn a_sale_of_an_offer_that_is_dead_here_is_a_trade_all_the_same() {
        let (mut node, offer, receipt, _) = sold_and_forgot();
        node.tick(2 * HOUR);
        assert_eq!(shows(&mut node, &[&receipt]), taken(1, 0));
        assert!(node.core.state().own.get(&offer.id).is_none_or(|own| !own.offer.availability));
    }

    #[test]
    fn a_refusal_that_was_given_on_an_old_store_gives_way_to_the_sale() {
        let (mut node, offer, receipt, closed) = sold_and_forgot();
        node.give(Input::Record(closed, Via::Dht));
        node.give(Input::Recover { reply: ReplyTo(0) });
        assert_eq!(code(&node.receives(receipt.bid())), RefusalCode::OfferNotAvailable);
        assert_eq!(shows(&mut node, &[&receipt]), taken(1, 0));
        assert!(is_sold(&node.receives(receipt.bid())));
        assert_eq!(node.core.state().own[&offer.id].closed, Some(Closed::Sold(receipt.trade().id)));
    }

    /// A taker, its offer's maker, and a trade of the two.
    fn bought() -> (Bench, Bench, Arc<TradeReceipt>, Vec<Event>) {
        let (mut maker, mut taker) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
        let output = taker.bid_on(&offer, Duration::from_secs(20), Some(key("k", 1)));
        let asked = crate::exchange::testing::asked(&output).remove(0);
        let before = taker.log.clone();
        assert!(is_sold(&maker.receives(&asked)));
        let receipt = Arc::clone(maker.core.state().trades.values().next().unwrap());
        (maker, taker, receipt, before)
    }

    #[test]
    fn a_purchase_settles_a_bid_in_doubt_or_comes_back_with_its_bid() {
        let (_, mut taker, receipt, _) = bought();
        let receipts = vec![Arc::clone(&receipt)];
        let output = taker.give(Input::TradesShown { receipts, reply: ReplyTo(4) });
        let replies = output.effects.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count();
        assert_eq!(replies, 2, "whoever waits for the bid's answer has it");
        assert_eq!(taker.core.state().bids_in_doubt, 0);
        let (_, mut taker, ..) = bought();
        taker.log.clear();
        taker.restart();
        for new in [1, 0] {
            assert_eq!(shows(&mut taker, &[&receipt]), taken(new, 0));
            let outcome = &taker.core.state().bids_out[&receipt.bid().id].outcome;
            assert_eq!(outcome, &BidOutcome::Accepted(receipt.trade().id));
            taker.restart();
        }
    }

    #[test]
    fn what_contradicts_and_what_is_about_others_is_not_taken() {
        let (_, mut taker, receipt, _) = bought();
        let stranger = &mut Bench::new(5);
        assert_eq!(shows(stranger, &[&receipt]), taken(0, 1));
        // The maker gives another trade the same id.
        let namesake = bid(2, &Bench::new(1).create(), |_| {});
        let other = TradeReceipt::accept(
            &crate::exchange::testing::bidder(1),
            receipt.trade().id,
            namesake,
            taker.now,
        );
        assert_eq!(shows(&mut taker, &[&receipt, &Arc::new(other)]), taken(1, 1));
        assert_eq!(taker.core.state().trades.len(), 1);
    }

    #[test]
    fn a_store_that_is_behind_neither_sells_nor_withdraws_until_it_is_recovered() {
        let mut node = Bench::new(1);
        let offer = node.create();
        let backup = node.log.clone();
        assert!(is_sold(&node.receives(&bid(2, &offer, |_| {}))));
        let closed = node.own(offer.id);
        node.log = backup;
        node.restart();
        node.give(Input::Record(Arc::clone(&closed), Via::Dht));
        assert!(node.core.state().is_behind());
        assert!(node.receives(&bid(3, &offer, |_| {})).is_err());
        assert_eq!(node.withdraw(offer.id, None), Err(CommandError::StoreBehind));
        let create = Input::Create { new: new_offer(), idempotency: None, reply: ReplyTo(0) };
        assert_eq!(reply(&node.give(create)), Err(CommandError::StoreBehind));
        let output = node.give(Input::Recover { reply: ReplyTo(0) });
        assert!(has_reply(&output) && reply(&output) == Ok(Done::Recovered(1)));
        assert!(node.own(offer.id).sequence > closed.sequence && !node.core.state().is_behind());
        assert!(!is_sold(&node.receives(&bid(3, &offer, |_| {}))));
    }

    #[test]
    fn a_lost_store_takes_over_what_the_network_knows_closed() {
        let mut before = Bench::new(1);
        let offer = before.create();
        let mut node = Bench::new(1);
        node.give(Input::Record(Arc::clone(&offer), Via::Dht));
        node.give(Input::Record(Arc::clone(&offer), Via::Dht));
        assert_eq!(node.log.len(), 1, "the same news twice is no news");
        node.give(Input::Recover { reply: ReplyTo(0) });
        assert_eq!(node.core.state().own[&offer.id].closed, Some(Closed::Recovered));
        let create = Input::Create { new: new_offer(), idempotency: None, reply: ReplyTo(0) };
        assert!(reply(&node.give(create)).is_ok());
    }
}
