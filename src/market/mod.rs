//! What is traded, as values: offers, bids, trades. Pure; knows no clock, no network, no store.
//!
//! Everything here was verified when it exists: an [`Offer`] only from a signed DHT item whose proof names its maker, a bid or
//! a trade only as [`crate::identity::Signed`]. Who may accept what, and when, is `exchange`'s business.

mod bid;
mod contradiction;
mod id;
mod offer;
mod trade;
mod via;

pub use bid::{BID_VALID_FOR_MAX, Bid, BidId};
pub use contradiction::Contradiction;
pub use id::{IdMint, OfferId};
pub use offer::{
    Acceptance, Currency, LIFETIME_MAX, MEMO_BYTES_MAX, NewOffer, Offer, OfferBody,
    RECORD_BYTES_AT_CREATION_MAX, RecordError, RecordKind, Side, Terms,
};
pub use trade::{Trade, TradeId, TradeReceipt, TradeReceiptError};
pub use via::Via;
