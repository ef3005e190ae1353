//! A bench for the unit tests of this folder: a core, the log of its events, and short names for what tests do all the time.

use super::{
    BidAnswer, Core, Done, Effect, Event, Heard, IdempotencyKey, Input, NewBid, NotNow, OfferRef, Output,
    Refusal, RefusalCode, Reply, ReplyTo, Seen,
};
use crate::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{Domain, KeyPair, MasterKey, Network, Signed},
    market::{Acceptance, Bid, BidId, Currency, NewOffer, Offer, OfferBody, OfferId, Side, Terms},
    time::UnixMillis,
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub(super) const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) fn network() -> Network {
    "test".parse().unwrap()
}

pub(super) fn new_offer() -> NewOffer {
    NewOffer {
        terms: Terms {
            side: Side::Sell,
            btc_quantity: "1".parse().unwrap(),
            offer_price: "100".parse().unwrap(),
            currency: Currency::USD,
        },
        acceptance: Acceptance::First,
        expires_at: NOW.plus(HOUR),
        dies_at: NOW.plus(2 * HOUR),
        memo: None,
    }
}

pub(super) fn key(text: &str, content: u8) -> IdempotencyKey {
    IdempotencyKey { key: text.into(), request_sha256: [content; 32] }
}

/// The driver looks at the time once a minute at least.
const LOOKS_EVERY: Duration = Duration::from_mins(5);

/// One node on the bench.
pub(super) struct Bench {
    pub master: MasterKey,
    pub core: Core,
    pub log: Vec<Event>,
    pub now: UnixMillis,
}

impl Bench {
    pub(super) fn new(seed: u8) -> Self {
        let master = MasterKey::from_bytes([seed; 32]);
        let core = Core::new(master.clone(), network(), [seed; 32]);
        Self { master, core, log: Vec::new(), now: NOW }
    }

    /// As the driver does: the time is looked at again and again on the way.
    pub(super) fn give(&mut self, input: Input) -> Output {
        let mut output = Output::default();
        while self.core.now > UnixMillis(0) && self.core.now.plus(LOOKS_EVERY) < self.now {
            self.core.handle(self.core.now.plus(LOOKS_EVERY), Input::Tick, &mut output);
        }
        self.core.handle(self.now, input, &mut output);
        self.log.extend(output.events.iter().cloned());
        output
    }

    pub(super) fn tick(&mut self, later: Duration) -> Output {
        self.now = self.now.plus(later);
        self.give(Input::Tick)
    }

    /// The clock is `later` than it was, and nobody looked at it on the way.
    pub(super) fn leap(&mut self, later: Duration) -> Output {
        self.now = self.now.plus(later);
        let mut output = Output::default();
        self.core.handle(self.now, Input::Tick, &mut output);
        self.log.extend(output.events.iter().cloned());
        output
    }

    /// An offer that can be taken until it dies, so long from now.
    pub(super) fn create_for(&mut self, time: Duration) -> Arc<Offer> {
        let until = self.now.plus(time);
        let new = NewOffer { expires_at: until, dies_at: until, ..new_offer() };
        let output = self.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
        let Reply::Ok(Done::Created { offer, .. }) = reply(&output) else { panic!("{output:?}") };
        self.own(offer)
    }

    /// Stops and starts again from the log.
    pub(super) fn restart(&mut self) -> Output {
        let (core, output) =
            Core::restore(self.master.clone(), network(), [99; 32], self.log.clone(), self.now);
        self.core = core;
        self.log.extend(output.events.iter().cloned());
        output
    }

    pub(super) fn create(&mut self) -> Arc<Offer> {
        let output = self.give(Input::Create { new: new_offer(), idempotency: None, reply: ReplyTo(0) });
        let Reply::Ok(Done::Created { offer, .. }) = reply(&output) else { panic!("{output:?}") };
        self.own(offer)
    }

    pub(super) fn own(&self, id: OfferId) -> Arc<Offer> {
        Arc::clone(&self.core.state().own[&id].offer)
    }

    pub(super) fn withdraw(&mut self, offer: OfferId, if_sequence: Option<u64>) -> Reply {
        let offer = OfferRef::Id(offer);
        reply(&self.give(Input::Withdraw { offer, if_sequence, reply: ReplyTo(1) }))
    }

    pub(super) fn bid_on(
        &mut self,
        offer: &Offer,
        wait: Duration,
        idempotency: Option<IdempotencyKey>,
    ) -> Output {
        self.give(Input::PlaceBid {
            new: NewBid {
                offer: OfferRef::Id(offer.id),
                price: None,
                seen: Seen::default(),
                valid_for: 10 * MINUTE,
            },
            wait,
            idempotency,
            reply: ReplyTo(2),
        })
    }

    /// Hands a bid to this maker.
    pub(super) fn receives(&mut self, bid: &Signed<Bid>) -> Result<BidAnswer, NotNow> {
        let output = self.give(Input::BidReceived { bid: bid.clone(), reply: ReplyTo(3) });
        let answers = output.effects.into_iter().find_map(|effect| match effect {
            Effect::Answer { to: ReplyTo(3), answer } => Some(answer),
            _ => None,
        });
        answers.expect("every bid is answered")
    }

    pub(super) fn hears(&mut self, bid: BidId, heard: Option<Heard>) -> Output {
        self.give(Input::BidAnswered { bid, heard })
    }
}

/// What a cheat signs: `offer` changed, under the record's key or another one.
pub(super) fn resigned(maker: &MasterKey, offer: &Offer, change: impl FnOnce(&mut OfferBody)) -> Arc<Offer> {
    let mut body: OfferBody = (**offer).clone();
    change(&mut body);
    signed_by(&maker.record_key(offer.id.0), body)
}

/// Another record of the same maker and id.
pub(super) fn namesake(maker: &MasterKey, offer: &Offer, n: u8) -> Arc<Offer> {
    let key = MasterKey::from_bytes([n; 32]).record_key(offer.id.0);
    let statement = [&key.public().0[..], offer.id.0.as_bytes()].concat();
    let proof = Domain { network: &network(), kind: "proof" }.sign(&maker.client_key(), &statement);
    signed_by(&key, OfferBody { proof, ..(**offer).clone() })
}

fn signed_by(key: &KeyPair, body: OfferBody) -> Arc<Offer> {
    let v = bencode_bytes(&serde_json::to_vec(&body).unwrap());
    let item = VerifiedItem::sign(key, b"", body.sequence as i64, v).unwrap();
    Arc::new(Offer::read(item, &network(), None).unwrap())
}

/// The only reply in `output`.
pub(super) fn reply(output: &Output) -> Reply {
    let replies: Vec<&Reply> = output
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        })
        .collect();
    assert_eq!(replies.len(), 1, "{output:?}");
    replies[0].clone()
}

pub(super) fn has_reply(output: &Output) -> bool {
    output.effects.iter().any(|effect| matches!(effect, Effect::Reply { .. }))
}

/// The bids that `output` has sent.
pub(super) fn asked(output: &Output) -> Vec<Signed<Bid>> {
    let bids = output.effects.iter().filter_map(|effect| match effect {
        Effect::Ask(bid, _) => Some(bid.clone()),
        _ => None,
    });
    bids.collect()
}

pub(super) fn bidder(seed: u8) -> KeyPair {
    MasterKey::from_bytes([seed; 32]).client_key()
}

/// A bid at the asking price, firm from a second ago for ten minutes, changed as a test likes.
pub(super) fn bid(seed: u8, offer: &Offer, change: impl FnOnce(&mut Bid)) -> Signed<Bid> {
    let mut bid = Bid {
        network: network(),
        id: BidId(Uuid::from_u128(u128::from(seed))),
        bidder: bidder(seed).public(),
        maker: offer.client_id,
        offer_id: offer.id,
        offer_hash: offer.target(),
        terms: offer.terms,
        price: offer.terms.offer_price,
        created_at: NOW.minus(Duration::from_secs(1)),
        valid_until: NOW.plus(10 * MINUTE),
    };
    change(&mut bid);
    Signed::sign(&bidder(seed), bid)
}

pub(super) fn code(answer: &Result<BidAnswer, NotNow>) -> RefusalCode {
    match answer {
        Ok(BidAnswer::Refused(Refusal { code, .. })) => *code,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn is_sold(answer: &Result<BidAnswer, NotNow>) -> bool {
    matches!(answer, Ok(BidAnswer::Accepted { .. }))
}
