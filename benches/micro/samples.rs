//! Offers and bids as they come in practice.

use std::{sync::Arc, time::Duration};
use uuid::Uuid;
use vintner::{
    identity::{MasterKey, Network, Signed},
    market::{Acceptance, Bid, BidId, Currency, IdMint, NewOffer, Offer, Side, Terms},
    time::UnixMillis,
};

/// 2026-11-21.
pub(super) const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
const DAY: Duration = Duration::from_hours(24);

pub(super) fn network() -> Network {
    "bench".parse().expect("a network's name")
}

/// The node with this number.
pub(super) fn master(number: u16) -> MasterKey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    MasterKey::from_bytes(bytes)
}

pub(super) fn new_offer() -> NewOffer {
    NewOffer {
        terms: Terms {
            side: Side::Sell,
            btc_quantity: "0.5".parse().expect("a quantity"),
            offer_price: "64000".parse().expect("a price"),
            currency: Currency::USD,
        },
        acceptance: Acceptance::First,
        expires_at: NOW.plus(DAY),
        dies_at: NOW.plus(2 * DAY),
        memo: None,
    }
}

/// Offers of one maker, one after the other without an end.
pub(super) struct Maker {
    master: MasterKey,
    mint: IdMint,
}

impl Maker {
    pub(super) fn new(number: u16) -> Self {
        Self { master: master(number), mint: IdMint::default() }
    }

    pub(super) fn offer(&mut self) -> Arc<Offer> {
        let id = self.mint.next(&network(), &self.master.client_key().public(), NOW);
        Arc::new(Offer::create(&self.master, &network(), id, new_offer(), NOW).expect("an offer"))
    }

    pub(super) fn offers(&mut self, count: usize) -> Vec<Arc<Offer>> {
        (0..count).map(|_| self.offer()).collect()
    }
}

/// A bid at the asking price by the node with this number.
pub(super) fn bid(bidder: u16, offer: &Offer) -> Bid {
    Bid {
        network: network(),
        // One bid an offer, so the offer's id will do for it.
        id: BidId(Uuid::from_u128(offer.id.0.as_u128())),
        bidder: master(bidder).client_key().public(),
        maker: offer.client_id,
        offer_id: offer.id,
        offer_hash: offer.target(),
        terms: offer.terms,
        price: offer.terms.offer_price,
        created_at: NOW,
        valid_until: NOW.plus(Duration::from_mins(5)),
    }
}

pub(super) fn signed_bid(bidder: u16, offer: &Offer) -> Signed<Bid> {
    Signed::sign(&master(bidder).client_key(), bid(bidder, offer))
}
