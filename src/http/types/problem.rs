//! Errors as the REST API shows them: RFC 9457, with a stable code.

use super::{OfferView, ReasonView, text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Which field of the body: a JSON pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/btc_quantity")]
    pub pointer: Option<String>,
    /// Which parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong with it.
    #[schema(example = "is missing")]
    pub detail: String,
}

/// Why a request failed (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// `urn:vintner:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:vintner:problem:offer_not_available")]
    pub kind: String,
    /// The same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    #[schema(example = 409)]
    pub status: u16,
    /// What happened here, and what to do next.
    pub detail: String,
    /// For programs: never changes its meaning.
    #[schema(example = "offer_not_available")]
    pub code: String,
    /// Whether the very same request may succeed later.
    pub retryable: bool,
    /// The thing that it is about, such as the bid that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The bid that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Id>)]
    pub bid_id: Option<String>,
    /// The offer as it is now, when the bid was for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Box<OfferView>>,
    /// Everything that is wrong with the request, field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Of a node that is not ready or not synced: everything that its owner should know of how it stands, the gravest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonView>,
}
