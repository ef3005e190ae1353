//! Bids as the REST API shows them: own ones, and those on own offers.

use super::{TermsView, Time, TradeView, text};
use crate::{
    amount::Price,
    bep44::Target,
    exchange::{BidIn, BidOut, BidOutcome, Refusal, State},
    identity::ClientId,
    market::{Bid, BidId, OfferId, TradeId},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BidStatus {
    /// The maker has not answered yet: it may be sold or not. The node asks until it knows; do not bid again for the same thing.
    InDoubt,
    /// The maker never answered, and this node's owner waits no longer. A trade that comes all the same makes it `accepted`.
    GivenUp,
    /// Sold: there is a trade.
    Accepted,
    /// Not sold, finally.
    Refused,
}

impl BidStatus {
    /// The word in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InDoubt => "in_doubt",
            Self::GivenUp => "given_up",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// Why the maker refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// For programs, such as `offer_not_available`.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl From<&Refusal> for RefusalView {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code.as_str().into(), detail: refusal.detail.clone() }
    }
}

/// One bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BidView {
    /// The bid's id, a UUIDv7 that its bidder chose.
    #[schema(value_type = text::Id)]
    pub id: BidId,
    /// Whether it is this node's own.
    pub mine: bool,
    /// The offer.
    #[schema(value_type = text::Id)]
    pub offer_id: OfferId,
    /// Its DHT hash.
    #[schema(value_type = text::Hash)]
    pub offer_hash: Target,
    /// Whose offer it is.
    #[schema(value_type = text::ClientKey)]
    pub maker: ClientId,
    /// Who bids.
    #[schema(value_type = text::ClientKey)]
    pub bidder: ClientId,
    /// What the bidder pays (or asks, when the maker buys) for one bitcoin.
    #[schema(value_type = text::Decimal)]
    pub price: Price,
    /// The offer's terms as the bidder saw them.
    pub terms: TermsView,
    /// When it was made, by the bidder's clock.
    pub created_at: Time,
    /// Until when it is firm.
    pub valid_until: Time,
    /// When it came to this node; bids on own offers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Time>,
    /// What became of it.
    pub status: BidStatus,
    /// From when on it can be given up; own bids in doubt only. It is the later of the bid's deadline and the death of the offer's
    /// record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub give_up_from: Option<Time>,
    /// When it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Time>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalView>,
    /// The trade, when it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Id>)]
    pub trade_id: Option<TradeId>,
    /// The trade itself; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trade: Option<TradeView>,
}

impl BidView {
    /// An own bid.
    pub fn out(state: &State, bid: &BidOut) -> Self {
        match &bid.outcome {
            BidOutcome::InDoubt => Self {
                give_up_from: Some(Time(state.give_up_from(&bid.bid))),
                ..Self::of(&bid.bid, true, BidStatus::InDoubt, None, None)
            },
            BidOutcome::GivenUp { at } => Self {
                given_up_at: Some(Time(*at)),
                ..Self::of(&bid.bid, true, BidStatus::GivenUp, None, None)
            },
            BidOutcome::Accepted(trade) => Self::of(&bid.bid, true, BidStatus::Accepted, None, Some(*trade)),
            BidOutcome::Refused(refusal) => Self::of(&bid.bid, true, BidStatus::Refused, Some(refusal), None),
        }
    }

    /// A bid on an own offer.
    pub fn incoming(bid: &BidIn) -> Self {
        let view = match &bid.answer {
            Ok(trade) => Self::of(&bid.bid, false, BidStatus::Accepted, None, Some(*trade)),
            Err(refusal) => Self::of(&bid.bid, false, BidStatus::Refused, Some(refusal), None),
        };
        Self { received_at: Some(Time(bid.at)), ..view }
    }

    /// With the trade itself.
    #[must_use]
    pub fn with_trade(mut self, state: &State, me: ClientId) -> Self {
        let receipt = self.trade_id.and_then(|id| state.trades.get(&id));
        self.trade = receipt.map(|receipt| TradeView::of(receipt, me));
        self
    }

    fn of(
        bid: &Bid,
        mine: bool,
        status: BidStatus,
        refusal: Option<&Refusal>,
        trade_id: Option<TradeId>,
    ) -> Self {
        Self {
            id: bid.id,
            mine,
            offer_id: bid.offer_id,
            offer_hash: bid.offer_hash,
            maker: bid.maker,
            bidder: bid.bidder,
            price: bid.price,
            terms: bid.terms.into(),
            created_at: Time(bid.created_at),
            valid_until: Time(bid.valid_until),
            received_at: None,
            status,
            give_up_from: None,
            given_up_at: None,
            refusal: refusal.map(Into::into),
            trade_id,
            trade: None,
        }
    }
}
