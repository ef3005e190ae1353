//! Everybody who is not an honest node: a crook who makes offers, strangers who bid by hand, Mallory who forges replies.

use super::node::EPOCH;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;
use vintner::{
    amount::Price,
    bep44::{VerifiedItem, bencode_bytes},
    exchange::{BidAnswer, Refusal, RefusalCode},
    identity::{ClientId, Domain, KeyPair, MasterKey, Network, Signed},
    market::{
        Acceptance, Bid, BidId, Currency, IdMint, NewOffer, Offer, OfferBody, OfferId, Side, Terms, TradeId,
        TradeReceipt,
    },
    time::UnixMillis,
};

/// The market.
pub const NETWORK: &str = "simulated";

pub fn network() -> Network {
    NETWORK.parse().unwrap()
}

pub fn price(units: u64) -> Price {
    units.to_string().parse().unwrap()
}

pub fn new_offer(side: Side, units: u64, now: UnixMillis, open: Duration, grave: Duration) -> NewOffer {
    NewOffer {
        terms: Terms {
            side,
            btc_quantity: "1.5".parse().unwrap(),
            offer_price: price(units),
            currency: Currency::USD,
        },
        acceptance: Acceptance::First,
        expires_at: now.plus(open),
        dies_at: now.plus(open + grave),
        memo: None,
    }
}

/// How a maker breaks its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// It sells, and the next version buys.
    OtherSide,
    OtherCurrency,
    /// The next version dies before the first.
    DiesSooner,
    /// No proof of fraud, and not listed.
    OtherPrice,
    /// It closes the record and opens it again.
    OpensAgain,
    /// Two records of one id, at two prices.
    TwoRecords,
}

impl Trick {
    pub const ALL: [Self; 6] = [
        Self::OtherSide,
        Self::OtherCurrency,
        Self::DiesSooner,
        Self::OtherPrice,
        Self::OpensAgain,
        Self::TwoRecords,
    ];
}

/// A maker that cheats.
pub struct Crook {
    master: MasterKey,
    pub key: KeyPair,
    mint: IdMint,
}

impl Crook {
    pub fn new() -> Self {
        Self::with(MasterKey::from_bytes([200; 32]))
    }

    pub fn with(master: MasterKey) -> Self {
        Self { key: master.client_key(), master, mint: IdMint::default() }
    }

    fn make(&self, at: UnixMillis, id: OfferId, memo: &str) -> Arc<Offer> {
        self.make_for(at, id, memo, Duration::from_hours(12))
    }

    fn make_for(&self, at: UnixMillis, id: OfferId, memo: &str, half: Duration) -> Arc<Offer> {
        let new = NewOffer { memo: Some(memo.into()), ..new_offer(Side::Sell, 100, at, half, half) };
        Arc::new(Offer::create(&self.master, &network(), id, new, at).unwrap())
    }

    /// An offer, and the same record with the same sequence and another value.
    pub fn two_faced(&mut self, at: UnixMillis) -> [Arc<Offer>; 2] {
        let id = self.mint.next(&network(), &self.key.public(), at);
        [self.make(at, id, "this"), self.make(at, id, "that")]
    }

    /// The same, and one of the two values dies after `sooner`.
    pub fn one_face_dies_sooner(&mut self, at: UnixMillis, sooner: Duration) -> [Arc<Offer>; 2] {
        let id = self.mint.next(&network(), &self.key.public(), at);
        [self.make_for(at, id, "this", sooner / 2), self.make(at, id, "that")]
    }

    /// Versions, or records, that no honest maker signs: in the order in which they were signed.
    pub fn breaks_its_word(&mut self, trick: Trick, at: UnixMillis) -> Vec<Arc<Offer>> {
        let id = self.mint.next(&network(), &self.key.public(), at);
        let first = self.make(at, id, "this");
        // Later than its clock, when that went back.
        let at = UnixMillis(first.sequence);
        let soon = at.plus(Duration::from_millis(400));
        let key = self.master.record_key(id.0);
        let later = |change: &dyn Fn(&mut OfferBody)| {
            self.sign(&key, &first, &|body| {
                body.sequence = soon.0;
                change(body);
            })
        };
        match trick {
            Trick::OtherSide => {
                let more = "21".parse().unwrap();
                let second = later(&|body| {
                    (body.terms.side, body.terms.btc_quantity) = (Side::Buy, more);
                });
                vec![first, second]
            }
            Trick::OtherCurrency => {
                let second = later(&|body| body.terms.currency = "EUR".parse().unwrap());
                vec![first, second]
            }
            Trick::DiesSooner => {
                let end = at.plus(Duration::from_secs(40));
                let second = later(&|body| (body.expires_at, body.dies_at) = (Some(end), end));
                vec![first, second]
            }
            Trick::OtherPrice => {
                let second = later(&|body| body.terms.offer_price = price(200));
                vec![first, second]
            }
            Trick::OpensAgain => {
                let closed = Arc::new(first.close(&self.master, at).unwrap());
                let again = later(&|_| {});
                vec![first, closed, again]
            }
            Trick::TwoRecords => {
                let other = MasterKey::from_bytes([77; 32]).record_key(id.0);
                let statement = [&other.public().0[..], id.0.as_bytes()].concat();
                let network = network();
                let proof = Domain { network: &network, kind: "proof" }.sign(&self.key, &statement);
                let second = self.sign(&other, &first, &|body| {
                    body.proof = proof;
                    body.terms.offer_price = price(999_999);
                });
                vec![first, second]
            }
        }
    }

    fn sign(&self, key: &KeyPair, offer: &Offer, change: &dyn Fn(&mut OfferBody)) -> Arc<Offer> {
        let mut body: OfferBody = (**offer).clone();
        change(&mut body);
        assert_eq!(body.client_id, self.key.public());
        let v = bencode_bytes(&serde_json::to_vec(&body).unwrap());
        let item = VerifiedItem::sign(key, b"", body.sequence as i64, v).unwrap();
        Arc::new(Offer::read(item, &network(), None).unwrap())
    }

    /// An offer that nobody may list before its time.
    pub fn future_offer(&mut self, at: UnixMillis) -> Arc<Offer> {
        let id = self.mint.next(&network(), &self.key.public(), at);
        self.make(at.plus(Duration::from_mins(20)), id, "soon")
    }

    /// A good signature on a trade about something else than the bid.
    pub fn wrong_trade(&self, bid: &Signed<Bid>, n: u128) -> BidAnswer {
        let other = Bid { price: price(n as u64 % 50 + 200), ..(**bid).clone() };
        let source = bid.source().clone();
        let signed = Signed::sign(&self.key, trade_for(&other, &source.digest(), self.key.public(), n));
        BidAnswer::Accepted { trade: signed.source().clone() }
    }
}

fn trade_for(bid: &Bid, digest: &[u8; 32], maker: ClientId, n: u128) -> vintner::market::Trade {
    vintner::market::Trade {
        network: bid.network.clone(),
        id: TradeId(Uuid::from_u128(n)),
        maker,
        taker: bid.bidder,
        offer_id: bid.offer_id,
        offer_hash: bid.offer_hash,
        bid_id: bid.id,
        bid_sha256: vintner::identity::encode_hex(digest),
        terms: bid.terms,
        price: bid.price,
        executed_at: UnixMillis(EPOCH),
    }
}

/// What Mallory, who sits in the network, would have a bidder believe.
pub fn forged(mallory: &KeyPair, bid: &Signed<Bid>, sold: bool, n: u128) -> BidAnswer {
    if sold {
        let trade = trade_for(bid, &bid.source().digest(), mallory.public(), n);
        BidAnswer::Accepted { trade: Signed::sign(mallory, trade).source().clone() }
    } else {
        BidAnswer::Refused(Refusal { code: RefusalCode::PriceBelowAsk, detail: "forged".into() })
    }
}

/// How a stranger's bid differs from one that a node would send.
#[derive(Clone, Copy, Debug)]
pub enum Twist {
    Fair,
    TooCheap,
    TooLate,
    OtherTerms,
}

pub fn stranger_bid(
    stranger: &KeyPair,
    offer: &Offer,
    twist: Twist,
    id: u128,
    at: UnixMillis,
) -> Signed<Bid> {
    let asked = offer.terms.offer_price;
    let worse = if offer.terms.side == Side::Sell { price(1) } else { price(100_000) };
    let mut terms = offer.terms;
    if matches!(twist, Twist::OtherTerms) {
        terms.btc_quantity = "1".parse().unwrap();
    }
    let late = matches!(twist, Twist::TooLate);
    let created_at = if late { at.minus(Duration::from_mins(2)) } else { at };
    let bid = Bid {
        network: network(),
        id: BidId(Uuid::from_u128(id)),
        bidder: stranger.public(),
        maker: offer.client_id,
        offer_id: offer.id,
        offer_hash: offer.target(),
        terms,
        price: if matches!(twist, Twist::TooCheap) { worse } else { asked },
        created_at,
        valid_until: created_at.plus(Duration::from_mins(1)),
    };
    Signed::sign(stranger, bid)
}

/// Sanity of the simulator itself: what the crook signs is what `TradeReceipt::pair` must refuse.
#[test]
fn a_wrong_trade_does_not_pair() {
    let mut crook = Crook::new();
    let [offer, _] = crook.two_faced(UnixMillis(EPOCH));
    let stranger = MasterKey::from_bytes([201; 32]).client_key();
    let bid = stranger_bid(&stranger, &offer, Twist::Fair, 1, UnixMillis(EPOCH));
    let BidAnswer::Accepted { trade } = crook.wrong_trade(&bid, 7) else { unreachable!() };
    assert!(TradeReceipt::pair(Signed::verify(trade, &network()).unwrap(), bid).is_err());
}
