//! Offers as the REST API shows them.

use super::{Time, text};
use crate::{
    amount::{Price, Quantity},
    bep44::Target,
    exchange::{self, Closed, OwnOffer, State},
    identity::ClientId,
    market::{self, Currency, Offer, OfferId, Terms, TradeId},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the maker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The maker sells bitcoin: a bid must pay the asking price or more.
    Sell,
    /// The maker buys bitcoin: a bid must ask the offered price or less.
    Buy,
}

impl From<market::Side> for Side {
    fn from(side: market::Side) -> Self {
        match side {
            market::Side::Sell => Self::Sell,
            market::Side::Buy => Self::Buy,
        }
    }
}

/// How the maker chooses among bids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Acceptance {
    /// The first valid bid at the asking price or better is accepted at once.
    First,
    /// A way that this version does not know: such an offer is shown, and cannot be bid on.
    Unknown,
}

impl From<market::Acceptance> for Acceptance {
    fn from(acceptance: market::Acceptance) -> Self {
        match acceptance {
            market::Acceptance::First => Self::First,
            market::Acceptance::Unknown => Self::Unknown,
        }
    }
}

/// How an offer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OfferStatus {
    /// It can be taken.
    Open,
    /// A trade of this node took it.
    Sold,
    /// Its own maker took it back; known for own offers only.
    Withdrawn,
    /// Closed by its maker; others do not learn why.
    Closed,
    /// Its time is over.
    Expired,
    /// Its maker signed versions that contradict each other: nobody should trust it. There is proof, which other nodes get as well.
    Equivocated,
    /// Its maker changed its price or quantity, which this version of the program does not follow: it cannot be taken here.
    Changed,
    /// Its maker does not sell for now, and may again.
    Paused,
}

impl OfferStatus {
    /// The word in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sold => "sold",
            Self::Withdrawn => "withdrawn",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Equivocated => "equivocated",
            Self::Changed => "changed",
            Self::Paused => "paused",
        }
    }
}

impl From<exchange::OfferStatus> for OfferStatus {
    fn from(status: exchange::OfferStatus) -> Self {
        match status {
            exchange::OfferStatus::Open => Self::Open,
            exchange::OfferStatus::Sold => Self::Sold,
            exchange::OfferStatus::Withdrawn => Self::Withdrawn,
            exchange::OfferStatus::Closed => Self::Closed,
            exchange::OfferStatus::Expired => Self::Expired,
            exchange::OfferStatus::Equivocated => Self::Equivocated,
            exchange::OfferStatus::Changed => Self::Changed,
            exchange::OfferStatus::Paused => Self::Paused,
        }
    }
}

/// What both sides agree to when they trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TermsView {
    /// What the maker does.
    pub side: Side,
    /// How much bitcoin, at most 8 decimals.
    #[schema(value_type = text::Decimal)]
    pub btc_quantity: Quantity,
    /// The offer's price for one bitcoin.
    #[schema(value_type = text::Decimal)]
    pub offer_price: Price,
    /// What is paid with.
    #[schema(value_type = text::CurrencyCode)]
    pub currency: Currency,
}

impl From<Terms> for TermsView {
    fn from(terms: Terms) -> Self {
        Self {
            side: terms.side.into(),
            btc_quantity: terms.btc_quantity,
            offer_price: terms.offer_price,
            currency: terms.currency,
        }
    }
}

/// Whether the newest version of an own offer has reached the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublishedState {
    /// Not yet; the node keeps trying.
    Pending,
    /// Yes. It is renewed until it dies.
    Published,
}

/// How far an own offer reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedView {
    /// Of the newest version.
    pub state: PublishedState,
    /// The last version that reached the DHT. This and the rest are absent while none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// DHT nodes that store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_on: Option<u32>,
    /// DHT nodes that accepted its announcement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announced_to: Option<u32>,
    /// When that was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

impl PublishedView {
    fn of(own: &OwnOffer) -> Self {
        let reached = own.published.filter(|p| p.sequence == own.offer.sequence);
        Self {
            state: if reached.is_some() { PublishedState::Published } else { PublishedState::Pending },
            sequence: own.published.map(|p| p.sequence),
            stored_on: own.published.map(|p| p.stored_on),
            announced_to: own.published.map(|p| p.announced_to),
            at: own.published.map(|p| Time(p.at)),
        }
    }
}

/// One offer, as this node knows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferView {
    /// The offer's id: a UUIDv7 that commits to its maker.
    #[schema(value_type = text::Id)]
    pub id: OfferId,
    /// The DHT hash: where every grape finds the signed record. 40 hex digits.
    #[schema(value_type = text::Hash)]
    pub hash: Target,
    /// The maker: its client id, 64 hex digits.
    #[schema(value_type = text::ClientKey)]
    pub client_id: ClientId,
    /// Whether it is this node's own.
    pub mine: bool,
    /// What the maker does.
    pub side: Side,
    /// How much bitcoin, at most 8 decimals.
    #[schema(value_type = text::Decimal)]
    pub btc_quantity: Quantity,
    /// The price for one bitcoin.
    #[schema(value_type = text::Decimal)]
    pub offer_price: Price,
    /// What is paid with.
    #[schema(value_type = text::CurrencyCode)]
    pub currency: Currency,
    /// The record's version, the `ETag` of the offer.
    pub sequence: u64,
    /// Whether it can be taken now.
    pub availability: bool,
    /// How it stands.
    pub status: OfferStatus,
    /// Whether its maker has been silent for three minutes and more: nobody may answer a bid on it. Never true of own offers.
    pub stale: bool,
    /// When it was made, by its maker's clock.
    pub created_at: Time,
    /// From when on it cannot be taken; absent once it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// From when on every node forgets it.
    pub dies_at: Time,
    /// How bids are answered; absent once it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
    /// The maker's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// How far it reached; own offers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedView>,
    /// The trade that took it, when this node is one of its two sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Id>)]
    pub trade_id: Option<TradeId>,
}

impl OfferView {
    /// `offer` as `state` knows it at `now`.
    pub fn of(state: &State, offer: &Offer, now: UnixMillis) -> Self {
        let own = state.own.get(&offer.id).filter(|own| own.offer.target() == offer.target());
        let status = state.status(offer, now);
        let sold = match own.and_then(|own| own.closed) {
            Some(Closed::Sold(trade)) => Some(trade),
            _ => state.sold.get(&offer.target()).copied(),
        };
        Self {
            id: offer.id,
            hash: offer.target(),
            client_id: offer.client_id,
            mine: own.is_some(),
            side: offer.terms.side.into(),
            btc_quantity: offer.terms.btc_quantity,
            offer_price: offer.terms.offer_price,
            currency: offer.terms.currency,
            sequence: offer.sequence,
            availability: status == exchange::OfferStatus::Open,
            status: status.into(),
            stale: state.market.is_stale(offer),
            created_at: Time(offer.id.created_at()),
            expires_at: offer.expires_at.map(Time),
            dies_at: Time(offer.dies_at),
            acceptance: offer.acceptance.map(Into::into),
            memo: offer.memo.as_deref().map(str::to_owned),
            published: own.map(PublishedView::of),
            trade_id: sold,
        }
    }
}
