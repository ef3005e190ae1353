//! The trade: what a maker has durably and signedly agreed to. The only thing that says "sold".

use super::{Bid, BidId, OfferId, Terms};
use crate::{
    amount::Price,
    bep44::Target,
    identity::{ClientId, KeyPair, Network, PublicKey, Signed, Statement, encode_hex},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The id of a trade: a UUIDv7 that the maker chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TradeId(pub Uuid);

impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TradeId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What the maker signs when it accepts a bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    /// The market.
    pub network: Network,
    /// The trade's id.
    pub id: TradeId,
    /// Who made the offer, and signs this.
    pub maker: ClientId,
    /// Who bid.
    pub taker: ClientId,
    /// The offer that was taken.
    pub offer_id: OfferId,
    /// Its DHT hash.
    pub offer_hash: Target,
    /// The bid that took it.
    pub bid_id: BidId,
    /// SHA-256 of the signed bid (text, then signature), 64 hex digits: exactly this bid was accepted.
    pub bid_sha256: String,
    /// The offer's terms.
    pub terms: Terms,
    /// The price for one bitcoin: the bid's.
    pub price: Price,
    /// When the maker decided, by the maker's clock.
    pub executed_at: UnixMillis,
}

impl Statement for Trade {
    const KIND: &'static str = "trade";
    /// All fields at their longest are below 900 bytes.
    const TEXT_BYTES_MAX: usize = 1536;
    fn signer(&self) -> PublicKey {
        self.maker
    }
    fn network(&self) -> &Network {
        &self.network
    }
}

/// A trade with both signatures: the maker's on the trade, the taker's on the bid. Exists only when the two belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeReceipt {
    trade: Signed<Trade>,
    bid: Signed<Bid>,
}

/// The trade is not about the bid it was shown with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trade's {0} is not the bid's")]
pub struct TradeReceiptError(&'static str);

impl TradeReceipt {
    /// Accepts `bid`: the maker's decision, signed.
    #[must_use]
    pub fn accept(client_key: &KeyPair, id: TradeId, bid: Signed<Bid>, now: UnixMillis) -> Self {
        let trade = Trade {
            network: bid.network.clone(),
            id,
            maker: bid.maker,
            taker: bid.bidder,
            offer_id: bid.offer_id,
            offer_hash: bid.offer_hash,
            bid_id: bid.id,
            bid_sha256: encode_hex(&bid.source().digest()),
            terms: bid.terms,
            price: bid.price,
            executed_at: now,
        };
        Self { trade: Signed::sign(client_key, trade), bid }
    }

    /// Puts a trade and its bid together, if they are.
    pub fn pair(trade: Signed<Trade>, bid: Signed<Bid>) -> Result<Self, TradeReceiptError> {
        let equal = [
            ("network", trade.network == bid.network),
            ("maker", trade.maker == bid.maker),
            ("taker", trade.taker == bid.bidder),
            ("offer", (trade.offer_id, trade.offer_hash) == (bid.offer_id, bid.offer_hash)),
            ("bid id", trade.bid_id == bid.id),
            ("bid digest", trade.bid_sha256 == encode_hex(&bid.source().digest())),
            ("terms", trade.terms == bid.terms),
            ("price", trade.price == bid.price),
        ];
        match equal.into_iter().find(|(_, equal)| !equal) {
            Some((what, _)) if !cfg!(mutant = "trade_of_another_bid_accepted") => {
                Err(TradeReceiptError(what))
            }
            _ => Ok(Self { trade, bid }),
        }
    }

    /// The maker's decision.
    pub fn trade(&self) -> &Signed<Trade> {
        &self.trade
    }

    /// The taker's bid.
    pub fn bid(&self) -> &Signed<Bid> {
        &self.bid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::MasterKey,
        market::{Currency, IdMint, Side},
    };

    fn key(seed: u8) -> KeyPair {
        MasterKey::from_bytes([seed; 32]).client_key()
    }

    fn bid() -> Signed<Bid> {
        let network: Network = "test".parse().unwrap();
        let (maker, bidder) = (key(1).public(), key(2));
        let terms = Terms {
            side: Side::Sell,
            btc_quantity: "1".parse().unwrap(),
            offer_price: "100".parse().unwrap(),
            currency: Currency::USD,
        };
        let bid = Bid {
            id: BidId(Uuid::from_u128(1)),
            bidder: bidder.public(),
            maker,
            offer_id: IdMint::default().next(&network, &maker, UnixMillis(1000)),
            offer_hash: Target([3; 20]),
            terms,
            price: "101".parse().unwrap(),
            created_at: UnixMillis(1000),
            valid_until: UnixMillis(2000),
            network,
        };
        Signed::sign(&bidder, bid)
    }

    #[test]
    fn a_receipt_carries_both_signatures_and_survives_the_wire() {
        let receipt = TradeReceipt::accept(&key(1), TradeId(Uuid::from_u128(9)), bid(), UnixMillis(1500));
        let network = "test".parse().unwrap();
        let trade = Signed::verify(receipt.trade().source().clone(), &network).unwrap();
        let bid = Signed::verify(receipt.bid().source().clone(), &network).unwrap();
        assert_eq!(TradeReceipt::pair(trade, bid), Ok(receipt));
    }

    #[test]
    fn a_trade_about_anything_else_does_not_pair() {
        let receipt = TradeReceipt::accept(&key(1), TradeId(Uuid::from_u128(9)), bid(), UnixMillis(1500));
        let changes: [fn(&mut Trade); 5] = [
            |t| t.price = "99".parse().unwrap(),
            |t| t.bid_id = BidId(Uuid::from_u128(2)),
            |t| t.taker = PublicKey([0; 32]),
            |t| t.bid_sha256 = "00".repeat(32),
            |t| t.terms.btc_quantity = "2".parse().unwrap(),
        ];
        for change in changes {
            let mut trade = (**receipt.trade()).clone();
            change(&mut trade);
            assert!(TradeReceipt::pair(Signed::sign(&key(1), trade), bid()).is_err());
        }
        let other_maker = Trade { maker: key(3).public(), ..(**receipt.trade()).clone() };
        assert!(TradeReceipt::pair(Signed::sign(&key(3), other_maker), bid()).is_err());
    }
}
