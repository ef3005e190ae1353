//! The shapes of the REST API's answers, shared by the server and by the command-line client.
//!
//! Amounts are decimal strings, times RFC 3339, ids and keys text: whoever reads them needs no library of ours. What is
//! absent is left out, not `null`; only `next_cursor` is always there.
#![allow(unused_qualifications, reason = "in what `ToSchema` makes of a generic page")]

mod bid;
mod node;
mod offer;
mod problem;
pub(super) mod text;
mod trade;

pub use bid::{BidStatus, BidView, RefusalView};
pub use node::{
    AloneView, DhtView, HealthView, HeardView, NodeView, OffersView, OutboxView, PeerView, ReadyView,
    ReasonView, RecoveredOfferView, RecoveredView, ReplicationView, StoreView,
};
pub use offer::{Acceptance, OfferStatus, OfferView, PublishedState, PublishedView, Side, TermsView};
pub use problem::{FieldError, ProblemView};
pub use trade::{Did, Role, Signatures, SignedTextView, TradeView};

use crate::time::UnixMillis;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt};
use utoipa::ToSchema;

/// An instant, in JSON RFC 3339 text in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub UnixMillis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        UnixMillis::parse_rfc3339(&text).map(Self).ok_or_else(|| de::Error::custom("is not an RFC 3339 time"))
    }
}

/// One page of a list, in the list's order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Give it as `cursor` to read on; `null` at the end. A page may be short, even empty, and still have one.
    #[schema(required = true, pattern = "^[0-9a-f]+$")]
    pub next_cursor: Option<String>,
}
