//! The bid: a bidder's firm, signed answer to one offer.

use super::{Offer, OfferId, Terms};
use crate::{
    amount::Price,
    bep44::Target,
    identity::{ClientId, Network, PublicKey, Statement},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};
use uuid::Uuid;

/// The longest time that a bid may be firm.
pub const BID_VALID_FOR_MAX: Duration = Duration::from_hours(24);

/// The id of a bid: a UUIDv7 that its bidder chose. Unique for one bidder, so it is always used together with who bids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BidId(pub Uuid);

impl fmt::Display for BidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BidId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What a bidder signs. It repeats the offer's terms, so that nobody is ever bound to others than those he saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The market.
    pub network: Network,
    /// The bid's id.
    pub id: BidId,
    /// Who bids.
    pub bidder: ClientId,
    /// Whose offer it is.
    pub maker: ClientId,
    /// The offer.
    pub offer_id: OfferId,
    /// The offer's DHT hash.
    pub offer_hash: Target,
    /// The offer's terms as the bidder saw them.
    pub terms: Terms,
    /// What the bidder pays (or asks, when the maker buys) for one bitcoin.
    pub price: Price,
    /// When it was made, by the bidder's clock.
    pub created_at: UnixMillis,
    /// Until when it is firm.
    pub valid_until: UnixMillis,
}

impl Bid {
    /// Whether the bid is for exactly this offer and these terms.
    #[must_use]
    pub fn is_for(&self, offer: &Offer) -> bool {
        (self.maker, self.offer_id, self.offer_hash, self.terms)
            == (offer.client_id, offer.id, offer.target(), offer.terms)
    }
}

impl Statement for Bid {
    const KIND: &'static str = "bid";
    /// All fields at their longest are below 700 bytes.
    const TEXT_BYTES_MAX: usize = 1024;
    fn signer(&self) -> PublicKey {
        self.bidder
    }
    fn network(&self) -> &Network {
        &self.network
    }
}
