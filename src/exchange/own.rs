//! Own offers: created, withdrawn, published, recovered.

use super::{
    Closed, CommandError, Core, Done, Effect, Event, IdempotencyKey, Idempotent, Made, OfferRef, OfferStatus,
    Output, OwnOffer, Published, ReplyTo,
    limits::{IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, OWN_OFFERS_MAX, RECORDS_MAX, TRADES_MAX},
};
use crate::market::{NewOffer, Offer, OfferId};
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
        let limit = |what, max, advice| CommandError::Limit { what, max, advice };
        if self.state.own.len() >= OWN_OFFERS_MAX {
            return Err(limit("offers of its own", OWN_OFFERS_MAX, "wait until some of them die"));
        }
        if self.state.market.records.len() >= RECORDS_MAX {
            return Err(limit("records", RECORDS_MAX, "wait until some of them die"));
        }
        let id = self.mint.next(&self.network, &self.client_id, self.now);
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
        let offer =
            self.state.find(reference).ok_or_else(|| CommandError::OfferNotFound(reference.to_string()))?;
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
            status => return Err(CommandError::OfferNotAvailable { offer: id, status: status.as_str() }),
        }
        self.close_own(&own, Closed::Withdrawn, output)?;
        Ok(Done::Withdrawn(id))
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

    /// After a restart: everything that is not dead, what never reached the network first.
    pub(super) fn resume_publishing(&mut self, output: &mut Output) {
        let reached = |own: &OwnOffer| own.published.is_some_and(|p| p.sequence == own.offer.sequence);
        let mut own: Vec<&OwnOffer> = self.state.own.values().collect();
        own.sort_by_key(|own| reached(own));
        output.effects.extend(own.into_iter().map(|own| Effect::Publish(Arc::clone(&own.offer))));
    }

    pub(super) fn recover(&mut self, to: ReplyTo, output: &mut Output) {
        let reply = self.try_recover(output);
        output.effects.push(Effect::Reply { to, reply });
    }

    /// Takes over, closed, every own record that the network knew better: what happened to it is not known here, so it must
    /// not be sold (again).
    fn try_recover(&mut self, output: &mut Output) -> Result<Done, CommandError> {
        let ahead = self.state.ahead.clone();
        for offer in ahead.values() {
            let sold = self.state.own.get(&offer.id).and_then(|own| own.closed);
            let own = OwnOffer { offer: Arc::clone(offer), closed: None, published: None };
            self.close_own(&own, sold.unwrap_or(Closed::Recovered), output)?;
        }
        if !ahead.is_empty() {
            self.emit(Event::Recovered, output);
        }
        Ok(Done::Recovered(ahead.len()))
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
