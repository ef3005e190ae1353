//! What requests can say, as the description tells it. Bodies and queries are read field by field in `fields`, so that every error is
//! named; what is told here is held against what is read there by the tests that send whatever this describes.

use crate::http::types::{
    Side,
    text::{CurrencyCode, DECIMAL, GivenTime},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

/// A new offer. Amounts are decimal strings or JSON numbers, whose digits are read exactly. No field has a `default`: programs that
/// are made from this description would take it for one that must be sent.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema: bodies are read field by field, so that every error is named")]
pub(in crate::http::api) struct NewOfferBody {
    /// How much bitcoin: more than 0, at most 21000000, at most 8 decimals.
    #[schema(value_type = Amount)]
    btc_quantity: (),
    /// The price for one bitcoin: more than 0, at most 100000000000, at most 8 decimals.
    #[schema(value_type = Amount)]
    offer_price: (),
    /// What you do; `sell` by default.
    side: Option<Side>,
    /// What is paid with: 2 to 8 upper-case letters or digits; `USD` by default.
    #[schema(value_type = Option<CurrencyCode>)]
    currency: (),
    /// From when on it cannot be taken; 24 hours from now by default, at most 30 days.
    #[schema(value_type = Option<GivenTime>)]
    expires_at: (),
    /// From when on every node forgets it; 24 hours after `expires_at` by default, at most 30 days from now.
    #[schema(value_type = Option<GivenTime>)]
    dies_at: (),
    /// A word to the takers: at most 120 bytes, no control characters, public, signed.
    #[schema(max_length = 120, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    memo: Option<String>,
    /// How bids are answered: the `first` valid one at your price or better is accepted at once.
    #[schema(pattern = "^first$")]
    acceptance: Option<String>,
}

/// A bid. All fields may be left out. What is said of the offer is what you saw when you decided: if it is not so any more, the bid is
/// refused (`terms_changed`), with the offer as it is.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema, as above")]
pub(in crate::http::api) struct NewBidBody {
    /// The price for one bitcoin that you pay (or ask, when the maker buys); the offer's own by default.
    #[schema(value_type = Option<Amount>)]
    price: (),
    /// The version of the offer that you saw, its `sequence`; `If-Match` with its `ETag` says the same.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    sequence: Option<u64>,
    /// What the maker does, as you saw it.
    side: Option<Side>,
    /// The offer's quantity, as you saw it.
    #[schema(value_type = Option<Amount>)]
    btc_quantity: (),
    /// The offer's currency, as you saw it.
    #[schema(value_type = Option<CurrencyCode>)]
    currency: (),
    /// How long the bid is firm, in milliseconds; 300000 by default, five minutes.
    #[schema(minimum = 1000, maximum = 86_400_000)]
    valid_for_ms: Option<u64>,
    /// How long this request waits for the maker's answer, in milliseconds; 5000 by default.
    #[schema(minimum = 0, maximum = 30_000)]
    wait_ms: Option<u64>,
}

/// Which offers, by whether they can be taken now.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "true")]
#[allow(dead_code, reason = "a schema, as above")]
pub(in crate::http::api) enum Availability {
    /// Those that can.
    True,
    /// Those that cannot.
    False,
    /// Both.
    All,
}

/// In which order offers are listed, when it is not by age.
#[derive(ToSchema)]
#[allow(dead_code, reason = "a schema, as above")]
pub(in crate::http::api) enum Sort {
    /// The lowest price first.
    #[serde(rename = "price")]
    Price,
    /// The highest price first.
    #[serde(rename = "-price")]
    PriceDown,
}

/// What a list leaves out unless it is asked for.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "a schema, as above")]
pub(in crate::http::api) enum Include {
    /// Offers of makers that are silent.
    Stale,
}

/// An object without fields.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::api) struct EmptyBody {}

/// An amount in a body: text or number.
pub(super) struct Amount;

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
            .pattern(Some(DECIMAL))
            .exclusive_minimum(Some(0))
            .description(Some(
                "A decimal: text, or a number. Digits and at most one point, an exponent where a program writes one (`5e-8`); every digit \
                 counts, and none is ever rounded, so a number with more than 8 decimals, such as 0.1 + 0.2 in most languages, is refused.",
            ))
            .examples([serde_json::json!("0.5"), serde_json::json!(0.5)])
            .into()
    }
}

impl ToSchema for Amount {}
