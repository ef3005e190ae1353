//! Trades as the REST API shows them.

use super::{TermsView, Time, text};
use crate::{
    amount::Price,
    bep44::Target,
    identity::{ClientId, Network, SignedText},
    market::{BidId, OfferId, Side, TradeId, TradeReceipt},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// This node's part in a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It made the offer.
    Maker,
    /// It made the bid.
    Taker,
}

/// What a side of a trade did with bitcoin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Did {
    /// It gave bitcoin.
    Sold,
    /// It got bitcoin.
    Bought,
}

impl Did {
    fn of(role: Role, side: Side) -> Self {
        match (role, side) {
            (Role::Maker, Side::Sell) | (Role::Taker, Side::Buy) => Self::Sold,
            (Role::Maker, Side::Buy) | (Role::Taker, Side::Sell) => Self::Bought,
        }
    }
}

/// A statement as it was signed. The ed25519 signature covers `vintner/1/<network>/<kind>`, a zero byte, and `text`, where the
/// kind is `trade` or `bid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedTextView {
    /// The signed text, byte for byte: JSON.
    pub text: String,
    /// The signature, 86 base64url digits.
    #[schema(value_type = text::SignatureText)]
    pub sig: String,
}

impl From<&SignedText> for SignedTextView {
    fn from(signed: &SignedText) -> Self {
        Self { text: signed.text.clone(), sig: signed.sig.to_string() }
    }
}

/// Both sides' signatures: with them anybody can check the trade, without asking either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signatures {
    /// The maker's decision, signed by the key `maker`.
    pub trade: SignedTextView,
    /// The taker's bid, signed by the key `taker`; the trade's text holds its SHA-256.
    pub bid: SignedTextView,
}

/// One trade: what a maker has durably and signedly agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TradeView {
    /// The trade's id, a UUIDv7 that the maker chose.
    #[schema(value_type = text::Id)]
    pub id: TradeId,
    /// This node's part.
    pub role: Role,
    /// What this node did with bitcoin: `side` and `role` in one word.
    pub you: Did,
    /// The other side of the trade: its client id.
    #[schema(value_type = text::ClientKey)]
    pub counterparty: ClientId,
    /// The market.
    #[schema(value_type = text::NetworkName)]
    pub network: Network,
    /// Who made the offer.
    #[schema(value_type = text::ClientKey)]
    pub maker: ClientId,
    /// Who bid.
    #[schema(value_type = text::ClientKey)]
    pub taker: ClientId,
    /// The offer that was taken.
    #[schema(value_type = text::Id)]
    pub offer_id: OfferId,
    /// Its DHT hash.
    #[schema(value_type = text::Hash)]
    pub offer_hash: Target,
    /// The bid that took it.
    #[schema(value_type = text::Id)]
    pub bid_id: BidId,
    /// The offer's side, quantity, price and currency.
    #[serde(flatten)]
    pub terms: TermsView,
    /// The price for one bitcoin at which it was sold: the bid's.
    #[schema(value_type = text::Decimal)]
    pub price: Price,
    /// When the maker decided, by the maker's clock.
    pub executed_at: Time,
    /// What to show to a third party.
    pub signatures: Signatures,
}

impl TradeView {
    /// `receipt` as the node `me` sees it.
    pub fn of(receipt: &TradeReceipt, me: ClientId) -> Self {
        let trade = receipt.trade();
        let role = if trade.maker == me { Role::Maker } else { Role::Taker };
        Self {
            id: trade.id,
            role,
            you: Did::of(role, trade.terms.side),
            counterparty: if trade.maker == me { trade.taker } else { trade.maker },
            network: trade.network.clone(),
            maker: trade.maker,
            taker: trade.taker,
            offer_id: trade.offer_id,
            offer_hash: trade.offer_hash,
            bid_id: trade.bid_id,
            terms: trade.terms.into(),
            price: trade.price,
            executed_at: Time(trade.executed_at),
            signatures: Signatures { trade: trade.source().into(), bid: receipt.bid().source().into() },
        }
    }
}
