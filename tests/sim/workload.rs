//! What owners, strangers and bad luck do while the world is not healed.

use super::{
    ledger::Wish,
    people::{Trick, Twist, new_offer, price, stranger_bid},
    world::{Asker, World},
};
use rand::{Rng, RngExt};
use std::{sync::Arc, time::Duration};
use vintner::{
    exchange::{BidOutcome, IdempotencyKey, Input, NewBid, OfferRef, ReplyTo, Seen},
    market::{Offer, Side, Via},
};

impl World {
    /// Sends an owner's command to a node that is up.
    pub(super) fn command(&mut self, n: usize, wish: Wish, input: impl FnOnce(ReplyTo) -> Input) {
        if self.nodes[n].core.is_none() {
            return;
        }
        let reply = ReplyTo(self.number());
        self.trace(|| format!("owner of {n} ({}): {wish:?}", reply.0), reply.0);
        self.ledger.asked_for(reply, n, self.nodes[n].life, wish);
        self.deliver(n, input(reply));
    }

    /// One thing that somebody does, or that happens to somebody.
    pub(super) fn act(&mut self) {
        let n = self.rng.random_range(0..self.nodes.len());
        match self.rng.random_range(0..100) {
            0..26 => self.creates(n),
            26..30 => self.gives_up(n),
            30..55 => self.bids(n, 1),
            55..65 => self.bids(n, 2),
            65..73 => self.withdraws(n),
            73..83 => self.stranger_bids(),
            83..86 => self.old_record(n),
            86..88 => self.crook_publishes(),
            88..91 => self.crash(n),
            91..93 => self.nodes[n].skew -= self.rng.random_range(0..3_000),
            93..95 => self.nodes[n].skew = self.rng.random_range(-4_000..4_000),
            95..97 => self.nodes[n].disk_full_until = self.now + self.rng.random_range(1..8_000),
            97 => self.nodes[n].backup = Some(self.nodes[n].store.log.len()),
            98 => self.lose_store(n),
            _ => self.recovers(n),
        }
    }

    /// A node asks whoever is there for its trades with them, then closes what the network knows better.
    pub(super) fn recovers(&mut self, n: usize) {
        let id = self.nodes[n].id;
        for other in (0..self.nodes.len()).filter(|other| *other != n) {
            if self.nodes[other].core.is_none() || self.chance(self.loss) {
                continue;
            }
            let receipts = self.nodes[other].shows(&id);
            self.command(n, Wish::TakeOver, |reply| Input::TradesShown { receipts, reply });
        }
        self.command(n, Wish::Recover, |reply| Input::Recover { reply });
    }

    fn key(&mut self, n: usize, what: &str) -> Option<IdempotencyKey> {
        let key = format!("{what}-{n}-{}", self.now);
        self.rng.random_bool(0.4).then_some(IdempotencyKey { key, request_sha256: [7; 32] })
    }

    /// How often an owner sends the same request.
    fn times(&mut self, key: Option<&IdempotencyKey>) -> usize {
        if key.is_some() { self.rng.random_range(1..=3) } else { 1 }
    }

    fn creates(&mut self, n: usize) {
        let side = if self.rng.random_bool(0.7) { Side::Sell } else { Side::Buy };
        // Some are dead before the world heals: bids on them may be given up.
        let (open, grave) = if self.rng.random_bool(0.5) { (10..40, 0..20) } else { (10..20_000, 0..3_600) };
        let open = Duration::from_secs(self.rng.random_range(open));
        let grave = Duration::from_secs(self.rng.random_range(grave));
        let units = self.rng.random_range(90..110);
        let new = new_offer(side, units, self.nodes[n].clock(self.now), open, grave);
        let key = self.key(n, "create");
        for _ in 0..self.times(key.as_ref()) {
            let (new, idempotency) = (new.clone(), key.clone());
            let wish = Wish::Create { key: key.as_ref().map(|key| key.key.clone()) };
            self.command(n, wish, |reply| Input::Create { new, idempotency, reply });
        }
    }

    fn some_offer(&mut self) -> Option<Arc<Offer>> {
        if self.history.is_empty() {
            return None;
        }
        // The newest ones are the most likely to be open still.
        let back = self.rng.random_range(0..self.history.len().min(12));
        Some(Arc::clone(&self.history[self.history.len() - 1 - back]))
    }

    /// One node bids, or two at the same instant.
    fn bids(&mut self, n: usize, bidders: usize) {
        let Some(offer) = self.some_offer() else { return };
        let reference = OfferRef::Hash(offer.target());
        let count = self.nodes.len();
        for n in (n..n + bidders).map(|n| n % count) {
            let asked = self.rng.random_bool(0.6);
            let price = (!asked).then(|| price(self.rng.random_range(80..120)));
            let firm = if self.rng.random_bool(0.5) { 500..10_000 } else { 500..120_000 };
            let valid_for = Duration::from_millis(self.rng.random_range(firm));
            let wait = Duration::from_millis(self.rng.random_range(0..40_000));
            let idempotency = self.key(n, "bid");
            for _ in 0..self.times(idempotency.as_ref()) {
                let key = idempotency.clone();
                // Every other owner says which version was seen, here or on another node's list.
                let says = valid_for.as_millis().is_multiple_of(2);
                let seen = Seen { sequence: says.then_some(offer.sequence), ..Seen::default() };
                let wish = Wish::Bid {
                    key: key.as_ref().map(|key| key.key.clone()),
                    seen: says.then(|| Box::new(offer.terms)),
                };
                self.command(n, wish, |reply| Input::PlaceBid {
                    new: NewBid { offer: reference, price, seen, valid_for },
                    wait,
                    idempotency: key,
                    reply,
                });
            }
        }
        // Now and then the maker changes its mind in this very moment.
        let maker = self.nodes.iter().position(|node| node.id == offer.client_id);
        if let Some(maker) = maker
            && self.rng.random_bool(0.2)
        {
            self.withdraw(maker, reference, None);
        }
    }

    fn withdraws(&mut self, n: usize) {
        let own: Vec<Arc<Offer>> =
            self.nodes[n].store.state.own.values().map(|own| Arc::clone(&own.offer)).collect();
        if own.is_empty() {
            return;
        }
        let offer = &own[self.rng.random_range(0..own.len())];
        let if_sequence = self.rng.random_bool(0.3).then_some(offer.sequence);
        self.withdraw(n, OfferRef::Id(offer.id), if_sequence);
    }

    fn withdraw(&mut self, n: usize, offer: OfferRef, if_sequence: Option<u64>) {
        self.command(n, Wish::Withdraw, |reply| Input::Withdraw { offer, if_sequence, reply });
    }

    /// A bid signed by hand and sent more than once; sometimes its id is used again for another bid.
    fn stranger_bids(&mut self) {
        let Some(offer) = self.some_offer() else { return };
        let twists = [Twist::Fair, Twist::TooCheap, Twist::TooLate, Twist::OtherTerms];
        let twist = twists[self.rng.random_range(0..4)];
        let (id, at) = (u128::from(self.rng.next_u64()), self.nodes[0].clock(self.now));
        let stranger = self.stranger.clone();
        let bid = stranger_bid(&stranger, &offer, twist, id, at);
        for _ in 0..self.rng.random_range(1..4) {
            self.ask(Asker::Stranger, bid.clone());
        }
        if self.rng.random_bool(0.3)
            && let Some(other) = self.some_offer()
        {
            let later = at.plus(Duration::from_millis(1));
            self.ask(Asker::Stranger, stranger_bid(&stranger, &other, Twist::Fair, id, later));
        }
    }

    /// An owner is tired of waiting: for the bid that can be given up first, or for any.
    fn gives_up(&mut self, n: usize) {
        let state = &self.nodes[n].store.state;
        let in_doubt = state.bids_out.values().filter(|bid| bid.outcome == BidOutcome::InDoubt);
        let mut bids: Vec<_> = in_doubt.map(|bid| (state.give_up_from(&bid.bid), bid.bid.id)).collect();
        bids.sort_unstable();
        if bids.is_empty() {
            return;
        }
        let at = if self.rng.random_bool(0.7) { 0 } else { self.rng.random_range(0..bids.len()) };
        let bid = bids[at].1;
        self.command(n, Wish::GiveUp(bid), |reply| Input::GiveUp { bid, reply });
    }

    fn old_record(&mut self, n: usize) {
        if self.history.is_empty() {
            return;
        }
        let offer = Arc::clone(&self.history[self.rng.random_range(0..self.history.len())]);
        self.deliver(n, Input::Record(offer, Via::Dht));
    }

    fn crook_publishes(&mut self) {
        let now = self.nodes[0].clock(self.now);
        let offers = match self.rng.random_range(0..4) {
            0 => self.crook.two_faced(now).to_vec(),
            1 => vec![self.crook.future_offer(now)],
            _ => {
                let trick = Trick::ALL[self.rng.random_range(0..Trick::ALL.len())];
                self.crook.breaks_its_word(trick, now)
            }
        };
        for offer in offers {
            self.spread(&offer);
        }
    }
}
