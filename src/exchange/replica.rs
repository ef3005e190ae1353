//! Records from the network: which of them this node believes, and what they replace.
//!
//! Their signatures and proofs hold (an [`Offer`] exists only so). What is judged here is time, order and honesty: the newest
//! version of each record until it dies, nothing from the future, and no record of a maker that signs one sequence twice.

use super::{
    Core, Event, Output,
    limits::{AHEAD_MAX, EQUIVOCATIONS_MAX, FUTURE_MAX, PARKED_MAX, RECORDS_MAX},
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
                self.counters.over.records += 1;
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
            self.counters.over.equivocations += 1;
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
        let fits = self.state.ahead.len() < AHEAD_MAX || self.state.ahead.contains_key(&target);
        if is_news && is_ahead && !fits {
            self.counters.over.ahead += 1;
        } else if is_news && is_ahead && !cfg!(mutant = "store_behind_unnoticed") {
            self.emit(Event::Ahead(offer), output);
        } else {
            self.counters.records_known += 1;
        }
    }

    fn park(&mut self, offer: Arc<Offer>) {
        let target = offer.target();
        let comes_of_age = |offer: &Offer| UnixMillis(offer.sequence).minus(FUTURE_MAX);
        let parked = self.parked.get(&target);
        if offer.is_dead(comes_of_age(&offer)) {
            // It would hold its place until nobody could believe it any more.
            self.counters.records_dead += 1;
        } else if self.parked.len() >= PARKED_MAX && parked.is_none() {
            self.counters.over.parked += 1;
        } else if parked.is_none_or(|parked| offer.sequence > parked.sequence) {
            self.counters.records_parked += 1;
            if let Some(replaced) = parked {
                self.timers.cancel(comes_of_age(replaced), Timer::Unpark(target));
            }
            self.set_timer(comes_of_age(&offer), Timer::Unpark(target));
            self.parked.insert(target, offer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{
            Input, OfferStatus,
            testing::{Bench, HOUR, MINUTE, NOW, network, new_offer},
        },
        market::{IdMint, NewOffer},
    };

    fn hear(node: &mut Bench, offer: &Arc<Offer>) -> usize {
        node.give(Input::Record(Arc::clone(offer))).events.len()
    }

    /// Two values of one sequence, signed by one maker.
    fn two_faced() -> [Arc<Offer>; 2] {
        let master = Bench::new(1).master;
        let id = IdMint::default().next(&network(), &master.client_key().public(), NOW);
        ["this", "that"].map(|memo| {
            let new = NewOffer { memo: Some(memo.into()), ..new_offer() };
            Arc::new(Offer::create(&master, &network(), id, new, NOW).unwrap())
        })
    }

    #[test]
    fn the_newest_version_is_listed_and_an_old_one_never_brings_it_back() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let open = maker.create();
        maker.withdraw(open.id, None).unwrap();
        let closed = maker.own(open.id);
        assert_eq!(hear(&mut node, &open), 1);
        assert_eq!(node.core.state().market.available.len(), 1);
        assert_eq!(hear(&mut node, &closed), 1);
        for _ in 0..2 {
            assert_eq!((hear(&mut node, &open), hear(&mut node, &closed)), (0, 0));
            assert!(node.core.state().market.available.is_empty());
            node.restart();
        }
        node.tick(2 * HOUR);
        assert_eq!(hear(&mut node, &open), 0, "dead is dead");
        assert!(node.core.state().market.records.is_empty());
    }

    #[test]
    fn a_maker_that_signs_one_sequence_twice_is_taken_off_the_list_until_its_record_dies() {
        let [this, that] = two_faced();
        let mut node = Bench::new(2);
        hear(&mut node, &this);
        assert_eq!(hear(&mut node, &that), 1);
        assert_eq!(node.core.counters().equivocations, 1);
        assert!(node.core.state().market.available.is_empty());
        assert_eq!(node.core.state().status(&this, NOW), OfferStatus::Equivocated);
        node.restart();
        let newer = Arc::new(this.close(&Bench::new(1).master, NOW.plus(MINUTE)).unwrap());
        assert_eq!((hear(&mut node, &this), hear(&mut node, &newer)), (0, 0));
        assert!(node.core.state().market.available.is_empty());
        node.tick(2 * HOUR);
        assert!(node.core.state().market.equivocated.is_empty());
    }

    #[test]
    fn a_record_from_the_future_waits_for_its_time() {
        let mut maker = Bench::new(1);
        maker.now = NOW.plus(10 * MINUTE);
        let (offer, mut node) = (maker.create(), Bench::new(2));
        assert_eq!(hear(&mut node, &offer), 0);
        assert_eq!(node.core.counters().records_parked, 1);
        assert_eq!(node.core.next_timeout(), Some(NOW.plus(5 * MINUTE)));
        node.tick(5 * MINUTE);
        assert_eq!(node.core.state().market.available.len(), 1);
    }

    #[test]
    fn only_so_many_records_wait_for_their_time() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        maker.now = NOW.plus(10 * MINUTE);
        for _ in 0..=PARKED_MAX {
            hear(&mut node, &maker.create());
        }
        assert_eq!(node.core.counters().over.parked, 1);
    }

    #[test]
    fn an_own_record_that_the_store_knows_is_no_news() {
        let mut node = Bench::new(1);
        let offer = node.create();
        node.withdraw(offer.id, None).unwrap();
        let newest = node.own(offer.id);
        assert_eq!((hear(&mut node, &offer), hear(&mut node, &newest)), (0, 0));
        assert!(!node.core.state().is_behind());
    }
}
