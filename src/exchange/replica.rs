//! Records from the network: which of them this node believes, and what they replace.
//!
//! Their signatures and proofs hold (an [`Offer`] exists only so). What is judged here is time, order and honesty: the newest
//! version of each record until it dies, nothing from the future, and no record whose maker contradicts itself. A version with another
//! price or quantity is held and passed on; it is not listed, because this program does not follow such changes.

use super::{
    Core, Effect, Event, Output, Unlisted,
    limits::{AHEAD_MAX, EQUIVOCATIONS_MAX, FUTURE_MAX, PARKED_MAX, PROOFS_A_MAKER_MAX},
    timers::Timer,
};
use crate::{
    market::{Offer, Via},
    time::UnixMillis,
};
use std::{cmp::Ordering, sync::Arc};

impl Core {
    pub(super) fn record(&mut self, offer: Arc<Offer>, via: Via, output: &mut Output) {
        // A version that says that it is dead, or of the future, is signed all the same.
        if let Some(held) = self.contradicted_by(&offer) {
            self.prove([held, offer], via, output);
        } else if offer.is_dead(self.now) {
            self.counters.records_dead += 1;
        } else if UnixMillis(offer.sequence) > self.now.plus(FUTURE_MAX)
            && !cfg!(mutant = "record_from_the_future_believed")
        {
            self.park(offer);
        } else if offer.client_id == self.client_id {
            self.own_record(offer, output);
        } else {
            self.foreign_record(offer, via, output);
        }
    }

    /// What is held here of another maker that this version, or record, contradicts, unless that is known.
    fn contradicted_by(&self, offer: &Offer) -> Option<Arc<Offer>> {
        let (market, target) = (&self.state.market, offer.target());
        if offer.client_id == self.client_id || market.is_contradicted(&target) {
            return None;
        }
        let namesake = || market.named(offer.id).find(|other| *other != target);
        let held = market.records.get(&target).filter(|held| held.contradicts(offer).is_some());
        let held = held.or_else(|| market.records.get(&namesake()?));
        held.filter(|held| held.contradicts(offer).is_some()).cloned()
    }

    pub(super) fn foreign_record(&mut self, offer: Arc<Offer>, via: Via, output: &mut Output) {
        let target = offer.target();
        if self.state.market.is_contradicted(&target) {
            self.counters.records_known += 1;
            return;
        }
        let Some(held) = self.state.market.records.get(&target) else {
            return self.unknown_record(offer, via, output);
        };
        let held = Arc::clone(held);
        self.compare_terms(&held, &offer, output);
        match offer.sequence.cmp(&held.sequence) {
            Ordering::Greater if !offer.availability && cfg!(mutant = "tombstone_forgotten_early") => {
                self.emit(Event::Forgotten(target), output);
            }
            Ordering::Greater if !offer.availability && cfg!(mutant = "replica_tombstone_dropped_early") => {
                self.hear(offer, via, output);
                self.emit(Event::Forgotten(target), output);
            }
            Ordering::Greater => self.hear(offer, via, output),
            Ordering::Less if cfg!(mutant = "older_sequence_overwrites") => self.hear(offer, via, output),
            Ordering::Equal if cfg!(mutant = "equal_sequence_overwrites") => self.hear(offer, via, output),
            Ordering::Equal | Ordering::Less => self.counters.records_known += 1,
        }
    }

    /// Whether what can be bid on is another thing than it was. An older version that comes late tells it as well.
    fn compare_terms(&mut self, held: &Offer, other: &Offer, output: &mut Output) {
        let (target, newest) = (held.target(), if held.sequence < other.sequence { other } else { held });
        if newest.is_closed() {
            return;
        }
        let reprices = other.reprices(held) && !cfg!(mutant = "terms_another_price_listed");
        if reprices && !self.state.market.unlisted.contains_key(&target) {
            self.emit(Event::Unlisted(target, Unlisted::Repriced { until: newest.dies_at }), output);
        }
        if held.sequence < other.sequence && other.amends(held) {
            self.changes.note(held.client_id, target, self.now);
        }
    }

    /// A record of which nothing is held: there may be no room for it.
    fn unknown_record(&mut self, offer: Arc<Offer>, via: Via, output: &mut Output) {
        let (market, maker) = (&self.state.market, offer.client_id);
        let is_stranger = || market.records_of(maker).next().is_none();
        if self.pressure.admits(market.records.len(), is_stranger, via) {
            let is_back = self.state.bids_given_up > 0 && is_stranger();
            self.pressure.admitted(market.records.len(), offer.target(), via);
            self.hear(offer, via, output);
            if is_back {
                self.ask_about_given_up(maker, output);
            }
        } else {
            self.counters.over.records += 1;
        }
    }

    fn hear(&mut self, offer: Arc<Offer>, via: Via, output: &mut Output) {
        self.emit(Event::Heard(Arc::clone(&offer)), output);
        output.effects.push(Effect::Held(offer, via));
    }

    /// Two that contradict each other, found by somebody else. What is held of the record may be newer, or nothing.
    pub(super) fn fraud(&mut self, [first, second]: [Arc<Offer>; 2], via: Via, output: &mut Output) {
        let is_own = [&first, &second].iter().any(|offer| offer.client_id == self.client_id);
        // The proof outlives both values: whoever holds the longer-lived one must hear of it still.
        if first.contradicts(&second).is_none() || first.is_dead(self.now) && second.is_dead(self.now) {
            self.counters.records_dead += 1;
        } else if is_own {
            // Whoever has this node's keys signs beside it: its store does not know what was signed.
            self.own_record(first, output);
            self.own_record(second, output);
        } else {
            self.prove([first, second], via, output);
        }
    }

    /// Takes the record, or both records, off the lists and keeps the proof.
    fn prove(&mut self, [first, second]: [Arc<Offer>; 2], via: Via, output: &mut Output) {
        for (one, other) in [(&first, &second), (&second, &first)] {
            let target = one.target();
            if self.state.market.is_contradicted(&target) {
                continue;
            }
            if !self.state.market.records.contains_key(&target) {
                self.unknown_record(Arc::clone(one), via, output);
            }
            if self.state.market.records.contains_key(&target) {
                self.equivocation(Arc::clone(one), Arc::clone(other), output);
            }
        }
    }

    /// A proof about the first one's record. It is off the lists until both are dead, also when there is no room to keep the proof.
    fn equivocation(&mut self, about: Arc<Offer>, other: Arc<Offer>, output: &mut Output) {
        self.counters.equivocations += 1;
        let (target, until) = (about.target(), about.dies_at.max(other.dies_at));
        let market = &self.state.market;
        let against = market.proofs_against.get(&about.client_id).copied().unwrap_or_default();
        if market.equivocated.len() >= EQUIVOCATIONS_MAX || against >= PROOFS_A_MAKER_MAX {
            self.counters.over.equivocations += 1;
            if cfg!(mutant = "terms_proof_without_room_ignored") {
                return;
            }
            self.emit(Event::Unlisted(target, Unlisted::Contradicted { until }), output);
        } else {
            self.emit(Event::Equivocated(about, other), output);
        }
        output.effects.push(Effect::Fraud { target, dies_at: until });
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
            CommandError, Done, Input, Market, OfferRef, OfferStatus, ReplyTo,
            testing::{Bench, HOUR, MINUTE, NOW, namesake, network, new_offer, reply, resigned},
        },
        market::{IdMint, NewOffer, Side},
    };
    use std::time::Duration;

    fn hear(node: &mut Bench, offer: &Arc<Offer>) -> usize {
        node.give(Input::Record(Arc::clone(offer), Via::Dht)).events.len()
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
    fn a_proof_of_fraud_counts_whatever_version_is_held() {
        let [this, that] = two_faced();
        let newer = Arc::new(this.close(&Bench::new(1).master, NOW.plus(MINUTE)).unwrap());
        for held in [None, Some(&this), Some(&newer)] {
            let mut node = Bench::new(2);
            node.now = NOW.plus(MINUTE);
            if let Some(held) = held {
                hear(&mut node, held);
            }
            let proof = [Arc::clone(&that), Arc::clone(&this)];
            for times in 1..=2 {
                let output = node.give(Input::Fraud(proof.clone(), Via::Dht));
                let told = output
                    .effects
                    .iter()
                    .filter(|e| matches!(e, Effect::Fraud { target, .. } if *target == this.target()));
                assert_eq!(told.count(), usize::from(times == 1));
            }
            node.restart();
            assert!(node.core.state().market.available.is_empty());
            assert_eq!(hear(&mut node, &this) + hear(&mut node, &newer), 0);
            node.tick(2 * HOUR);
            assert_eq!(node.core.state().market, Market::default());
        }
    }

    #[test]
    fn a_proof_counts_until_both_values_are_dead() {
        let [this, that] = two_faced();
        let master = Bench::new(1).master;
        let new = NewOffer { expires_at: NOW.plus(MINUTE), dies_at: NOW.plus(MINUTE), ..new_offer() };
        let brief = Arc::new(Offer::create(&master, &network(), this.id, new, NOW).unwrap());
        for held in [None, Some(&that)] {
            let mut node = Bench::new(2);
            if let Some(held) = held {
                hear(&mut node, held);
            }
            node.tick(2 * MINUTE);
            node.give(Input::Fraud([Arc::clone(&brief), Arc::clone(&that)], Via::Dht));
            node.tick(MINUTE);
            let market = &node.core.state().market;
            assert!(market.equivocated.contains_key(&that.target()) && market.available.is_empty());
            assert_eq!(hear(&mut node, &that), 0);
            node.tick(2 * HOUR);
            assert_eq!(node.core.state().market, Market::default());
        }
    }

    #[test]
    fn a_version_that_changes_what_is_fixed_is_fraud_in_whichever_order_it_comes() {
        let (mut maker, master) = (Bench::new(1), Bench::new(1).master);
        let first = maker.create();
        let second = resigned(&master, &first, |body| {
            body.sequence += 1;
            (body.terms.side, body.terms.btc_quantity) = (Side::Buy, "21000000".parse().unwrap());
        });
        for [one, other] in [[&first, &second], [&second, &first]] {
            let mut node = Bench::new(2);
            hear(&mut node, one);
            let output = node.give(Input::Record(Arc::clone(other), Via::Dht));
            assert!(matches!(&output.effects[..], [Effect::Fraud { .. }]), "others must know: {output:?}");
            for _ in 0..2 {
                let market = &node.core.state().market;
                assert!(market.available.is_empty() && market.by_price.is_empty());
                assert_eq!(node.core.state().status(&first, NOW), OfferStatus::Equivocated);
                node.restart();
            }
            node.tick(2 * HOUR);
            assert_eq!(node.core.state().market, Market::default());
        }
    }

    #[test]
    fn two_records_of_one_id_are_both_off_and_the_id_names_neither() {
        let mut maker = Bench::new(1);
        let first = maker.create();
        let [second, third] = [3, 4].map(|n| namesake(&Bench::new(1).master, &first, n));
        let by_hearing = |node: &mut Bench| _ = (hear(node, &first), hear(node, &second));
        let by_proof = |node: &mut Bench| {
            let proof = [Arc::clone(&second), Arc::clone(&first)];
            _ = node.give(Input::Fraud(proof, Via::Dht));
        };
        for learns in [&by_hearing as &dyn Fn(&mut Bench), &by_proof] {
            let mut node = Bench::new(2);
            learns(&mut node);
            hear(&mut node, &third);
            for _ in 0..2 {
                let state = node.core.state();
                assert!(state.market.available.is_empty());
                for record in [&first, &second, &third] {
                    assert_eq!(state.status(record, NOW), OfferStatus::Equivocated);
                    assert_eq!(state.find(OfferRef::Hash(record.target())), Ok(record));
                }
                let named = state.find(OfferRef::Id(first.id));
                assert!(matches!(named, Err(CommandError::Ambiguous { .. })), "{named:?}");
                node.restart();
            }
            node.tick(2 * HOUR);
            assert_eq!(node.core.state().market, Market::default());
        }
    }

    #[test]
    fn a_closed_record_stays_closed_and_a_pause_ends() {
        let (mut maker, master) = (Bench::new(1), Bench::new(1).master);
        let open = maker.create();
        let at = |n: u64, available: bool| {
            resigned(&master, &open, |body| {
                (body.sequence, body.availability) = (body.sequence + n, available);
            })
        };
        let mut node = Bench::new(2);
        for (version, status, listed) in [
            (open.clone(), OfferStatus::Open, 1),
            (at(1, false), OfferStatus::Paused, 0),
            (at(2, true), OfferStatus::Open, 1),
            (Arc::new(at(2, true).close(&master, NOW).unwrap()), OfferStatus::Closed, 0),
            (at(9, true), OfferStatus::Equivocated, 0),
        ] {
            hear(&mut node, &version);
            let state = node.core.state();
            assert_eq!((state.status(&version, NOW), state.market.available.len()), (status, listed));
        }
    }

    #[test]
    fn another_price_is_held_and_passed_on_and_listed_nowhere() {
        let (mut maker, master) = (Bench::new(1), Bench::new(1).master);
        let first = maker.create();
        let version = |n: u64, price: &str| {
            resigned(&master, &first, |body| {
                (body.sequence, body.terms.offer_price) = (body.sequence + n, price.parse().unwrap());
            })
        };
        let (second, back) = (version(1, "101"), version(2, "100"));
        for order in [[&first, &second, &back], [&second, &first, &back]] {
            let mut node = Bench::new(2);
            for version in order {
                let output = node.give(Input::Record(Arc::clone(version), Via::Dht));
                let is_new = version.sequence > first.sequence || order[0].sequence == first.sequence;
                let passed_on = output.effects.iter().any(|effect| matches!(effect, Effect::Held(..)));
                assert_eq!(passed_on, is_new, "{}", version.sequence);
            }
            for _ in 0..2 {
                let state = node.core.state();
                assert!(state.market.available.is_empty() && state.market.equivocated.is_empty());
                assert_eq!(state.status(&back, NOW), OfferStatus::Changed);
                node.restart();
            }
            node.tick(2 * HOUR);
            assert_eq!(node.core.state().market, Market::default());
        }
    }

    #[test]
    fn beyond_the_room_for_proofs_a_record_is_off_the_lists_all_the_same() {
        let (mut maker, mut other, mut node) = (Bench::new(1), Bench::new(3), Bench::new(2));
        let theirs = other.create();
        hear(&mut node, &theirs);
        let twin = |offer: &Arc<Offer>| {
            resigned(&Bench::new(1).master, offer, |body| body.memo = Some("another story".into()))
        };
        let offers: Vec<_> = (0..=PROOFS_A_MAKER_MAX).map(|_| maker.create()).collect();
        let spared = maker.create();
        for offer in offers.iter().chain([&spared]) {
            hear(&mut node, offer);
        }
        for (n, offer) in offers.iter().enumerate() {
            let output = node.give(Input::Record(twin(offer), Via::Dht));
            assert!(matches!(&output.effects[..], [Effect::Fraud { .. }]), "{n}");
            let listed = node.core.state().market.available.len();
            // With the last proof that there is room for, its maker is an outcast.
            let left = if n + 1 < PROOFS_A_MAKER_MAX { offers.len() - n + 1 } else { 1 };
            assert_eq!(listed, left, "{n}");
        }
        assert_eq!(node.core.counters().over.equivocations, 1);
        for _ in 0..2 {
            let market = &node.core.state().market;
            assert_eq!((market.equivocated.len(), market.unlisted.len()), (PROOFS_A_MAKER_MAX, 1));
            assert!(market.is_contradicted(&offers[PROOFS_A_MAKER_MAX].target()));
            assert_eq!(node.core.state().status(&spared, NOW), OfferStatus::Equivocated);
            assert_eq!(node.core.state().status(&theirs, NOW), OfferStatus::Open);
            node.restart();
        }
        node.tick(2 * HOUR);
        assert_eq!(node.core.state().market, Market::default());
    }

    #[test]
    fn an_outcast_is_listed_again_when_a_proof_dies_and_what_expired_meanwhile_is_not() {
        let (mut maker, mut node) = (Bench::new(1), Bench::new(2));
        let soon = NewOffer { expires_at: NOW.plus(20 * MINUTE), ..new_offer() };
        let made = reply(&maker.give(Input::Create { new: soon, idempotency: None, reply: ReplyTo(0) }));
        let Ok(Done::Created { offer: short, .. }) = made else { panic!("{made:?}") };
        let (short, long) = (maker.own(short), maker.create());
        let mut cheated = vec![maker.create_for(30 * MINUTE)];
        cheated.extend((1..PROOFS_A_MAKER_MAX).map(|_| maker.create()));
        for offer in [&short, &long].into_iter().chain(&cheated) {
            hear(&mut node, offer);
        }
        for offer in &cheated {
            let twin =
                resigned(&Bench::new(1).master, offer, |body| body.memo = Some("another story".into()));
            node.give(Input::Record(twin, Via::Dht));
        }
        let listed = |node: &Bench| {
            let market = &node.core.state().market;
            assert_eq!(market.available.len(), market.by_price.len());
            market.available.values().map(|offer| offer.id).collect::<Vec<_>>()
        };
        assert_eq!(listed(&node), []);
        node.tick(31 * MINUTE);
        assert_eq!(listed(&node), [long.id]);
        assert_eq!(node.core.state().status(&short, node.now), OfferStatus::Expired);
        node.restart();
        node.tick(Duration::ZERO);
        assert_eq!(listed(&node), [long.id]);
    }

    #[test]
    fn a_proof_that_proves_nothing_does_nothing() {
        let [this, _] = two_faced();
        let newer = Arc::new(this.close(&Bench::new(1).master, NOW.plus(MINUTE)).unwrap());
        let (mut node, other) = (Bench::new(2), Bench::new(3).create());
        hear(&mut node, &this);
        for second in [&this, &newer, &other] {
            let output = node.give(Input::Fraud([Arc::clone(&this), Arc::clone(second)], Via::Dht));
            assert!(output.events.is_empty() && output.effects.is_empty());
        }
    }

    #[test]
    fn a_node_is_never_silent_to_itself() {
        let mut node = Bench::new(1);
        let own = node.create();
        node.give(Input::Stale { maker: own.client_id, stale: true });
        let market = &node.core.state().market;
        assert_eq!((market.available.len(), market.is_stale(&own)), (1, false));
    }

    #[test]
    fn offers_of_a_maker_that_is_silent_leave_the_list_and_return_with_it() {
        let (mut maker, mut other, mut node) = (Bench::new(1), Bench::new(3), Bench::new(2));
        let [stays, expires, closes, late] = [0; 4].map(|_| maker.create());
        let theirs = other.create();
        for offer in [&stays, &closes, &theirs] {
            hear(&mut node, offer);
        }
        let short = NewOffer { expires_at: NOW.plus(MINUTE), ..new_offer() };
        let short = maker.give(Input::Create { new: short, idempotency: None, reply: ReplyTo(0) });
        let Ok(Done::Created { offer: short, .. }) = reply(&short) else { panic!("{short:?}") };
        let short = maker.own(short);
        hear(&mut node, &short);
        hear(&mut node, &expires);
        let listed = |node: &Bench| {
            let market = &node.core.state().market;
            (market.available.len(), market.available_stale.len())
        };
        let stale = |stale| Input::Stale { maker: stays.client_id, stale };
        assert_eq!(listed(&node), (5, 0));
        node.give(stale(true));
        assert_eq!(listed(&node), (1, 4), "the other maker's stays");
        hear(&mut node, &late);
        hear(&mut node, &Arc::new(closes.close(&maker.master, NOW).unwrap()));
        node.tick(MINUTE);
        assert_eq!(listed(&node), (1, 3), "one came, one was closed, one expired");
        node.give(stale(true));
        node.give(stale(false));
        node.give(stale(false));
        assert_eq!(listed(&node), (4, 0));
        node.give(stale(true));
        node.tick(2 * HOUR);
        let market = &node.core.state().market;
        assert!(market.available_stale.is_empty() && market.by_maker.is_empty() && market.records.is_empty());
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
