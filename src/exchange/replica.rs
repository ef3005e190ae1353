//! Records from the network: which of them this node believes, and what they replace.
//!
//! Their signatures and proofs hold (an [`Offer`] exists only so). What is judged here is time, order and honesty: the newest
//! version of each record until it dies, nothing from the future, and no record of a maker that signs one sequence twice.

use super::{
    Core, Event, Output,
    limits::{EQUIVOCATIONS_MAX, FUTURE_MAX, PARKED_MAX, RECORDS_MAX},
    timers::Timer,
};
use crate::{market::Offer, time::UnixMillis};
use std::{cmp::Ordering, sync::Arc};

impl Core {
    pub(super) fn record(&mut self, offer: Arc<Offer>, output: &mut Output) {
        if offer.is_dead(self.now) {
            self.counters.records_dead += 1;
        } else if UnixMillis(offer.sequence) > self.now.plus(FUTURE_MAX)
            && !cfg!(mutant = "record_from_the_future_believed")
        {
            self.park(offer);
        } else if offer.client_id == self.client_id {
            self.own_record(offer, output);
        } else {
            self.foreign_record(offer, output);
        }
    }

    fn foreign_record(&mut self, offer: Arc<Offer>, output: &mut Output) {
        let target = offer.target();
        if self.state.market.equivocated.contains_key(&target) {
            self.counters.records_known += 1;
            return;
        }
        let Some(held) = self.state.market.records.get(&target) else {
            if self.state.market.records.len() >= RECORDS_MAX {
                self.counters.records_over_limit += 1;
            } else {
                self.emit(Event::Heard(offer), output);
            }
            return;
        };
        match offer.sequence.cmp(&held.sequence) {
            Ordering::Greater if !offer.availability && cfg!(mutant = "tombstone_forgotten_early") => {
                self.emit(Event::Forgotten(target), output);
            }
            Ordering::Greater => self.emit(Event::Heard(offer), output),
            Ordering::Less if cfg!(mutant = "older_sequence_overwrites") => {
                self.emit(Event::Heard(offer), output);
            }
            Ordering::Equal if cfg!(mutant = "equal_sequence_overwrites") => {
                self.emit(Event::Heard(offer), output);
            }
            Ordering::Equal
                if offer.item().v != held.item().v && !cfg!(mutant = "equivocation_unnoticed") =>
            {
                let held = Arc::clone(held);
                self.equivocation(held, offer, output);
            }
            Ordering::Equal | Ordering::Less => self.counters.records_known += 1,
        }
    }

    /// Two signed values of one sequence: a proof of fraud. The record is off the list until it dies.
    fn equivocation(&mut self, held: Arc<Offer>, other: Arc<Offer>, output: &mut Output) {
        self.counters.equivocations += 1;
        if self.state.market.equivocated.len() >= EQUIVOCATIONS_MAX {
            self.counters.records_over_limit += 1;
            return;
        }
        self.emit(Event::Equivocated(held, other), output);
    }

    /// An own record comes back. What the store does not know, or knows only older, was lost here: by a restored backup, a
    /// copied data directory, a disk that lied.
    fn own_record(&mut self, offer: Arc<Offer>, output: &mut Output) {
        let target = offer.target();
        let newest_known =
            self.state.own.get(&offer.id).filter(|own| own.offer.target() == target).map(|own| &own.offer);
        let is_news = newest_known.is_none_or(|known| {
            offer.sequence > known.sequence
                || (offer.sequence == known.sequence && offer.item().v != known.item().v)
        });
        let is_ahead = self.state.ahead.get(&target).is_none_or(|ahead| offer.sequence > ahead.sequence);
        if is_news && is_ahead && !cfg!(mutant = "store_behind_unnoticed") {
            self.emit(Event::Ahead(offer), output);
        } else {
            self.counters.records_known += 1;
        }
    }

    fn park(&mut self, offer: Arc<Offer>) {
        let newer = self.parked.get(&offer.target()).is_none_or(|parked| offer.sequence > parked.sequence);
        if self.parked.len() >= PARKED_MAX && !self.parked.contains_key(&offer.target()) {
            self.counters.records_over_limit += 1;
        } else if newer {
            self.counters.records_parked += 1;
            self.set_timer(UnixMillis(offer.sequence).minus(FUTURE_MAX), Timer::Unpark(offer.target()));
            self.parked.insert(offer.target(), offer);
        }
    }
}
