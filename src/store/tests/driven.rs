//! Batches of events as a node makes them: two cores that create, bid, withdraw, cheat, forget and recover at random.

use crate::{
    exchange::{
        BidAnswer, BidState, Core, Effect, Event, Heard, IdempotencyKey, Input, NewBid, OfferRef, Output,
        ReplyTo, Seen, Span, State,
    },
    identity::{MasterKey, Network, Signed},
    market::{Acceptance, Bid, BidId, Currency, NewOffer, Offer, Side, Terms, Via},
    time::UnixMillis,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// Two nodes, and what each was told to make durable so far.
pub(super) struct Pair {
    rng: StdRng,
    pub now: UnixMillis,
    pub cores: [Core; 2],
    keys: [MasterKey; 2],
    records: Vec<Arc<Offer>>,
    asked: Vec<Signed<Bid>>,
    keyed: u64,
}

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        let keys = [1, 2].map(|n| MasterKey::from_bytes([n; 32]));
        let network: Network = "test".parse().unwrap();
        let core = |n: usize| Core::new(keys[n].clone(), network.clone(), [n as u8; 32]);
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: UnixMillis(1_795_262_400_000),
            cores: [core(0), core(1)],
            keys,
            records: Vec::new(),
            asked: Vec::new(),
            keyed: 0,
        }
    }

    /// The first node's batches and the states that they lead to, one after the other, beginning with the empty one.
    pub(super) fn history(seed: u64, steps: usize) -> (Vec<Vec<Event>>, Vec<State>) {
        let mut pair = Self::new(seed);
        let (mut batches, mut states) = (Vec::new(), vec![State::default()]);
        for _ in 0..steps {
            let [events, _] = pair.step();
            if let Some(mut state) = states.last().cloned().filter(|_| !events.is_empty()) {
                for event in &events {
                    state.apply(event);
                }
                batches.push(events);
                states.push(state);
            }
        }
        (batches, states)
    }

    /// One thing happens; what follows from it may get lost.
    pub(super) fn step(&mut self) -> [Vec<Event>; 2] {
        let mut events = [Vec::new(), Vec::new()];
        self.now = self.now.plus(Duration::from_millis(self.rng.random_range(0..2_000)));
        let node = self.rng.random_range(0..2);
        let input = self.something(node);
        let mut inputs = vec![(node, input)];
        while let Some((node, input)) = inputs.pop() {
            let mut output = Output::default();
            self.cores[node].handle(self.now, input, &mut output);
            events[node].append(&mut output.events);
            for effect in output.effects {
                inputs.extend(self.follow(node, effect));
            }
        }
        events
    }

    /// The bid in doubt of this node that can be given up first, and from when.
    fn doubtful(&self, node: usize) -> Option<(UnixMillis, BidId)> {
        let state = self.cores[node].state();
        let in_doubt = |found| found == BidState::InDoubt;
        let ids = state.lists.bids_out(in_doubt, None, Span::default(), None);
        ids.map(|id| (state.give_up_from(&state.bids_out[&id].bid), id)).min()
    }

    fn something(&mut self, node: usize) -> Input {
        let reply = ReplyTo(0);
        let offer = self.any_record();
        match self.rng.random_range(0..100) {
            0..28 => Input::Create { new: self.new_offer(), idempotency: self.key(), reply },
            28..30 => match self.doubtful(node) {
                Some((from, bid)) => {
                    self.now = self.now.max(from);
                    Input::GiveUp { bid, reply }
                }
                None => Input::Tick,
            },
            30..60 => match offer {
                Some(offer) => Input::PlaceBid {
                    new: NewBid {
                        offer: OfferRef::Hash(offer.target()),
                        price: None,
                        seen: Seen::default(),
                        valid_for: Duration::from_secs(self.rng.random_range(1..100)),
                    },
                    wait: Duration::ZERO,
                    idempotency: self.key(),
                    reply,
                },
                None => Input::Tick,
            },
            60..72 => match offer {
                Some(offer) => Input::Withdraw { offer: OfferRef::Id(offer.id), if_sequence: None, reply },
                None => Input::Tick,
            },
            72..80 => offer.map_or(Input::Tick, |offer| Input::Record(offer, Via::Dht)),
            80..85 => offer.map_or(Input::Tick, |offer| Input::Record(self.twin(&offer), Via::Dht)),
            85..88 => offer.map_or(Input::Tick, |offer| {
                Input::Record(Arc::new(offer.close(self.keys_of(&offer), self.now).unwrap()), Via::Dht)
            }),
            88..92 => Input::Recover { reply },
            92..98 => {
                self.now = self.now.plus(Duration::from_mins(self.rng.random_range(1..60)));
                Input::Tick
            }
            _ => {
                self.now = self.now.plus(Duration::from_hours(self.rng.random_range(1..200)));
                Input::Tick
            }
        }
    }

    /// Delivers an effect to where it belongs, three times out of four.
    fn follow(&mut self, node: usize, effect: Effect) -> Vec<(usize, Input)> {
        let (other, arrives) = (1 - node, self.rng.random_ratio(3, 4));
        match effect {
            Effect::Publish(offer) => {
                self.records.push(Arc::clone(&offer));
                let (stored_on, announced_to) = (self.rng.random_range(0..9), self.rng.random_range(0..9));
                let published =
                    Input::Published { offer: offer.id, sequence: offer.sequence, stored_on, announced_to };
                if arrives {
                    vec![(node, published), (other, Input::Record(offer, Via::Dht))]
                } else {
                    Vec::new()
                }
            }
            Effect::Ask(bid, _) if arrives => {
                self.asked.push(bid.clone());
                vec![(other, Input::BidReceived { bid, reply: ReplyTo(self.asked.len() as u64 - 1) })]
            }
            Effect::Ask(bid, _) => vec![(node, Input::BidAnswered { bid: bid.id, heard: None })],
            Effect::Answer { to, answer } => {
                let network: Network = "test".parse().unwrap();
                let heard = answer.ok().filter(|_| arrives).map(|answer| match answer {
                    BidAnswer::Accepted { trade } => {
                        Heard::Accepted(Box::new(Signed::verify(trade, &network).unwrap()))
                    }
                    BidAnswer::Refused(refusal) => Heard::Refused(refusal),
                });
                vec![(other, Input::BidAnswered { bid: self.asked[to.0 as usize].id, heard })]
            }
            _ => Vec::new(),
        }
    }

    fn any_record(&mut self) -> Option<Arc<Offer>> {
        let from = self.records.len().saturating_sub(30);
        let recent = &self.records[from..];
        (!recent.is_empty()).then(|| Arc::clone(&recent[self.rng.random_range(0..recent.len())]))
    }

    fn keys_of(&self, offer: &Offer) -> &MasterKey {
        let own = |key: &&MasterKey| key.client_key().public() == offer.client_id;
        self.keys.iter().find(own).unwrap()
    }

    /// Another value with the id, key and sequence of a record's first version: what a cheating maker signs.
    fn twin(&mut self, offer: &Offer) -> Arc<Offer> {
        let network = "test".parse().unwrap();
        let at = offer.id.created_at();
        let mut new = self.new_offer();
        (new.expires_at, new.dies_at) = (at.plus(Duration::from_hours(1)), at.plus(Duration::from_hours(40)));
        Arc::new(
            Offer::create(self.keys_of(offer), &network, offer.id, new, UnixMillis(offer.sequence)).unwrap(),
        )
    }

    fn key(&mut self) -> Option<IdempotencyKey> {
        self.keyed += 1;
        let key = format!("key {} \0 'ü'", self.keyed);
        self.rng.random_ratio(1, 3).then_some(IdempotencyKey { key, request_sha256: [self.keyed as u8; 32] })
    }

    fn new_offer(&mut self) -> NewOffer {
        let expires_at = self.now.plus(Duration::from_mins(self.rng.random_range(1..600)));
        NewOffer {
            terms: Terms {
                side: if self.rng.random() { Side::Sell } else { Side::Buy },
                btc_quantity: "0.00000001".parse().unwrap(),
                offer_price: format!("{}.5", self.rng.random_range(1..9_999)).parse().unwrap(),
                currency: Currency::USD,
            },
            acceptance: Acceptance::First,
            expires_at,
            dies_at: expires_at.plus(Duration::from_hours(self.rng.random_range(1..100))),
            memo: self
                .rng
                .random_ratio(1, 2)
                .then(|| format!("memo {} ü \\ \"", self.rng.random_range(0..99))),
        }
    }
}
