//! Own offers: created, withdrawn, published.

use super::{
    Closed, CommandError, Core, Done, Effect, Event, IdempotencyKey, Idempotent, Made, OfferRef, OfferStatus,
    Output, OwnOffer, Published, ReplyTo,
    limits::{
        FUTURE_MAX, IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, OWN_OFFERS_MAX, RECORDS_MAX, TRADES_MAX,
    },
};
use crate::market::{NewOffer, Offer, OfferId, RecordError, Terms};
use std::sync::Arc;

impl Core {
    pub(super) fn create(
        &mut self,
        new: NewOffer,
        idempotency: Option<IdempotencyKey>,
        to: ReplyTo,
        output: &mut Output,
    ) {
        let reply = self.try_create(new, idempotency, output);
        output.effects.push(Effect::Reply { to, reply });
    }

    fn try_create(
        &mut self,
        new: NewOffer,
        idempotency: Option<IdempotencyKey>,
        output: &mut Output,
    ) -> Result<Done, CommandError> {
        if let Some(made) = self.made_before(idempotency.as_ref())? {
            return match made {
                Made::Offer(offer) => Ok(Done::Created { offer, again: true }),
                Made::Bid(_) => Err(CommandError::IdempotencyKeyReuse),
            };
        }
        self.may_trade()?;
        let Terms { btc_quantity, offer_price, currency, .. } = new.terms;
        if currency.is_bitcoin() {
            let problem = "is bitcoin, which is what is traded; name what is paid with, such as USD".into();
            return Err(RecordError::Field { field: "currency", problem }.into());
        }
        self.may_be_worth(btc_quantity, offer_price, currency)?;
        let limit = |what, max, advice| CommandError::Limit { what, max, advice };
        if self.state.own.len() >= OWN_OFFERS_MAX {
            return Err(limit("offers of its own", OWN_OFFERS_MAX, "wait until some of them die"));
        }
        if self.state.market.records.len() >= RECORDS_MAX {
            return Err(limit("records", RECORDS_MAX, "wait until some of them die"));
        }
        let id = self.new_offer_id();
        let offer = Arc::new(Offer::create(&self.master, &self.network, id, new, self.now)?);
        self.emit(Event::Own(OwnOffer { offer: Arc::clone(&offer), closed: None, published: None }), output);
        self.remember(idempotency, Made::Offer(id), output);
        output.effects.push(Effect::Publish(offer));
        Ok(Done::Created { offer: id, again: false })
    }

    pub(super) fn withdraw(
        &mut self,
        offer: OfferRef,
        if_sequence: Option<u64>,
        to: ReplyTo,
        output: &mut Output,
    ) {
        let reply = self.try_withdraw(offer, if_sequence, output);
        output.effects.push(Effect::Reply { to, reply });
    }

    fn try_withdraw(
        &mut self,
        reference: OfferRef,
        if_sequence: Option<u64>,
        output: &mut Output,
    ) -> Result<Done, CommandError> {
        let offer = self.state.find(reference)?;
        let id = offer.id;
        let own = self.state.own.get(&id).filter(|own| own.offer.target() == offer.target());
        let own = own.ok_or(CommandError::NotOwnOffer(id))?.clone();
        // What the network knows and this store does not may be a sale: `recover` closes it, nobody says "withdrawn" of it.
        if self.state.is_behind() {
            return Err(CommandError::StoreBehind);
        }
        if let Some(expected) = if_sequence.filter(|expected| *expected != own.offer.sequence) {
            return Err(CommandError::SequenceMismatch { expected, actual: own.offer.sequence });
        }
        match self.state.status(&own.offer, self.now) {
            OfferStatus::Open => {}
            _ if cfg!(mutant = "withdraw_of_a_sold_offer") => {}
            status => {
                return Err(CommandError::OfferClosed { offer: id, why: self.why_closed(&own, status) });
            }
        }
        self.close_own(&own, Closed::Withdrawn, output)?;
        Ok(Done::Withdrawn(id))
    }

    /// What a maker is told who withdraws an offer that is closed, as the end of a sentence.
    fn why_closed(&self, own: &OwnOffer, status: OfferStatus) -> String {
        let sold = self.state.sold.get(&own.offer.target());
        match (status, own.closed, sold) {
            (OfferStatus::Withdrawn, ..) => "was withdrawn before".into(),
            (OfferStatus::Sold, Some(Closed::Sold(trade)), _) | (OfferStatus::Sold, _, Some(&trade)) => {
                format!("is sold, by trade {trade}")
            }
            (OfferStatus::Expired, ..) => {
                let until = own.offer.available_until().unwrap_or_default();
                format!("expired at {until}")
            }
            (OfferStatus::Closed, ..) => "was closed when this node recovered".into(),
            (status, ..) => format!("is {}", status.as_str()),
        }
    }

    /// Writes the closing version of an own record and has it published.
    pub(super) fn close_own(
        &mut self,
        own: &OwnOffer,
        closed: Closed,
        output: &mut Output,
    ) -> Result<(), CommandError> {
        let offer = Arc::new(own.offer.close(&self.master, self.now)?);
        let own = OwnOffer { offer: Arc::clone(&offer), closed: Some(closed), published: own.published };
        self.emit(Event::Own(own), output);
        output.effects.push(Effect::Publish(offer));
        Ok(())
    }

    pub(super) fn published(&mut self, id: OfferId, sequence: u64, reach: (u32, u32), output: &mut Output) {
        let Some(own) = self.state.own.get(&id) else { return };
        let (stored_on, announced_to) = reach;
        let news = own
            .published
            .is_none_or(|p| (p.sequence, p.stored_on, p.announced_to) != (sequence, stored_on, announced_to));
        // A report about an older version than the one that was reported last says nothing any more.
        if news && own.published.is_none_or(|p| p.sequence <= sequence) && sequence <= own.offer.sequence {
            let published = Published { sequence, stored_on, announced_to, at: self.now };
            self.emit(Event::Published(id, published), output);
        }
    }

    /// The next id. One that was made while the clock was ahead may have this place already.
    fn new_offer_id(&mut self) -> OfferId {
        loop {
            let id = self.mint.next(&self.network, &self.client_id, self.now);
            if !self.state.own.contains_key(&id) {
                return id;
            }
        }
    }

    /// Ids go on from this one, unless it is of a future that no other node would believe.
    pub(super) fn mint_has_made(&mut self, id: OfferId) {
        if id.created_at() <= self.now.plus(FUTURE_MAX) {
            self.mint.seen(id);
        }
    }

    /// After a restart: everything that is not dead, what never reached the network first.
    pub(super) fn resume_publishing(&mut self, output: &mut Output) {
        let reached = |own: &OwnOffer| own.published.is_some_and(|p| p.sequence == own.offer.sequence);
        let is_alive = |own: &&OwnOffer| !own.offer.is_dead(self.now);
        let mut own: Vec<&OwnOffer> = self.state.own.values().filter(is_alive).collect();
        own.sort_by_key(|own| reached(own));
        output.effects.extend(own.into_iter().map(|own| Effect::Publish(Arc::clone(&own.offer))));
    }

    /// Whether this node may take on something new at all.
    pub(super) fn may_trade(&self) -> Result<(), CommandError> {
        if self.state.is_behind() {
            return Err(CommandError::StoreBehind);
        }
        if self.state.trades.len() >= TRADES_MAX {
            let advice = "archive its data directory and start a new one";
            return Err(CommandError::Limit { what: "trades", max: TRADES_MAX, advice });
        }
        Ok(())
    }

    /// What an earlier request with this idempotency key made.
    pub(super) fn made_before(&self, key: Option<&IdempotencyKey>) -> Result<Option<Made>, CommandError> {
        let Some(key) = key else { return Ok(None) };
        if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.key.len()) {
            return Err(CommandError::IdempotencyKeyLength);
        }
        match self.state.idempotency.get(&key.key) {
            Some(before) if before.request_sha256 == key.request_sha256 => Ok(Some(before.made)),
            Some(_) => Err(CommandError::IdempotencyKeyReuse),
            None if self.state.idempotency.len() >= IDEMPOTENCY_KEYS_MAX => Err(CommandError::Limit {
                what: "idempotency keys",
                max: IDEMPOTENCY_KEYS_MAX,
                advice: "each is forgotten after 24 hours; wait, or send fewer of them",
            }),
            None => Ok(None),
        }
    }

    pub(super) fn remember(&mut self, key: Option<IdempotencyKey>, made: Made, output: &mut Output) {
        if let Some(IdempotencyKey { key, request_sha256 }) = key
            && !cfg!(mutant = "idempotency_key_forgotten")
        {
            let idempotent = Idempotent { key, request_sha256, made, at: self.now };
            self.emit(Event::Remembered(Arc::new(idempotent)), output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        Input,
        testing::{Bench, HOUR, NOW, key, new_offer, reply},
    };
    use crate::market::Via;
    use std::time::Duration;

    fn create(bench: &mut Bench, idempotency: Option<IdempotencyKey>) -> Result<Done, CommandError> {
        reply(&bench.give(Input::Create { new: new_offer(), idempotency, reply: ReplyTo(0) }))
    }

    #[test]
    fn the_same_idempotency_key_makes_one_offer_for_a_day() {
        let mut node = Bench::new(1);
        let Ok(Done::Created { offer, again: false }) = create(&mut node, Some(key("k", 1))) else {
            panic!()
        };
        node.restart();
        assert_eq!(create(&mut node, Some(key("k", 1))), Ok(Done::Created { offer, again: true }));
        assert_eq!(create(&mut node, Some(key("k", 2))), Err(CommandError::IdempotencyKeyReuse));
        assert_eq!(node.core.state().own.len(), 1);
        node.tick(Duration::from_hours(24));
        assert!(node.core.state().idempotency.is_empty());
    }

    #[test]
    fn an_idempotency_key_has_a_length() {
        let mut node = Bench::new(1);
        for text in ["", &"k".repeat(256)] {
            assert_eq!(create(&mut node, Some(key(text, 1))), Err(CommandError::IdempotencyKeyLength));
        }
        assert!(create(&mut node, Some(key(&"k".repeat(255), 1))).is_ok());
    }

    #[test]
    fn a_key_that_made_an_offer_makes_no_bid() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        node.give(Input::Record(Arc::clone(&offer), Via::Dht));
        create(&mut node, Some(key("k", 1))).unwrap();
        let output = node.bid_on(&offer, Duration::ZERO, Some(key("k", 1)));
        assert_eq!(reply(&output), Err(CommandError::IdempotencyKeyReuse));
    }

    #[test]
    fn an_offer_that_cannot_be_made_leaves_nothing_behind() {
        let mut node = Bench::new(1);
        let new = NewOffer { dies_at: NOW, ..new_offer() };
        let output = node.give(Input::Create { new, idempotency: Some(key("k", 1)), reply: ReplyTo(0) });
        assert!(matches!(reply(&output), Err(CommandError::Offer(_))) && output.events.is_empty());
    }

    #[test]
    fn a_withdrawal_can_insist_on_the_version_that_its_caller_saw() {
        let mut node = Bench::new(1);
        let offer = node.create();
        let stale = Err(CommandError::SequenceMismatch { expected: 7, actual: offer.sequence });
        assert_eq!(node.withdraw(offer.id, Some(7)), stale);
        assert_eq!(node.withdraw(offer.id, Some(offer.sequence)), Ok(Done::Withdrawn(offer.id)));
        assert!(node.own(offer.id).sequence > offer.sequence);
        let again = Err(CommandError::OfferClosed { offer: offer.id, why: "was withdrawn before".into() });
        assert_eq!(node.withdraw(offer.id, None), again);
    }

    #[test]
    fn only_own_offers_are_withdrawn() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let offer = maker.create();
        assert!(matches!(node.withdraw(offer.id, None), Err(CommandError::OfferNotFound(_))));
        node.give(Input::Record(Arc::clone(&offer), Via::Dht));
        assert_eq!(node.withdraw(offer.id, None), Err(CommandError::NotOwnOffer(offer.id)));
    }

    #[test]
    fn reports_of_publication_are_kept_unless_they_are_about_an_older_version() {
        let mut node = Bench::new(1);
        let first = node.create();
        let report =
            |sequence, stored_on| Input::Published { offer: first.id, sequence, stored_on, announced_to: 1 };
        node.withdraw(first.id, None).unwrap();
        let newest = node.own(first.id).sequence;
        assert_eq!(node.give(report(first.sequence, 3)).events.len(), 1);
        assert_eq!(node.give(report(newest, 4)).events.len(), 1);
        for stale in [report(newest, 4), report(first.sequence, 9), report(newest + 1, 9)] {
            assert!(node.give(stale).events.is_empty());
        }
        let published = node.core.state().own[&first.id].published.unwrap();
        assert_eq!((published.sequence, published.stored_on), (newest, 4));
    }

    #[test]
    fn after_a_restart_what_never_reached_the_network_is_published_first() {
        let mut node = Bench::new(1);
        let (reached, not_yet) = (node.create(), node.create());
        let sequence = reached.sequence;
        node.give(Input::Published { offer: reached.id, sequence, stored_on: 3, announced_to: 3 });
        let published: Vec<OfferId> = node
            .restart()
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Publish(offer) => Some(offer.id),
                _ => None,
            })
            .collect();
        assert_eq!(published, [not_yet.id, reached.id]);
    }

    #[test]
    fn an_own_offer_leaves_the_list_when_it_expires_and_is_forgotten_when_it_dies() {
        let mut node = Bench::new(1);
        let offer = node.create();
        node.tick(HOUR);
        assert!(node.core.state().market.available.is_empty() && node.core.state().own.len() == 1);
        let output = node.tick(HOUR);
        assert!(node.core.state().own.is_empty());
        assert!(output.effects.iter().any(|e| matches!(e, Effect::Unpublish(t) if *t == offer.target())));
    }
}
