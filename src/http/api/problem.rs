//! Every way in which a request can fail: its code, its status, and how the node's own errors become one. Nowhere else is a
//! status of an error chosen.

use crate::{
    exchange::{CommandError, Refusal, RefusalCode},
    http::types::{FieldError, OfferView, ProblemView, ReasonView},
    market::{BidId, RecordError, Side},
    node::{ConfirmError, JournalError},
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:ident, $retryable:literal, $title:literal;)*) => {
        /// What went wrong, for programs. A code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it stands in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Whether the very same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// The same for every problem of this code.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not one JSON object.
    MalformedJson = "malformed_json", BAD_REQUEST, false, "The body is not a JSON object";
    /// A parameter of the query is wrong or unknown.
    InvalidQuery = "invalid_query", BAD_REQUEST, false, "The query is not valid";
    /// A header has a form that it may not have.
    InvalidHeader = "invalid_header", BAD_REQUEST, false, "A header is not valid";
    /// The path holds something that is no id.
    InvalidId = "invalid_id", BAD_REQUEST, false, "This is not an id";
    /// The request itself is not HTTP as it should be.
    BadRequest = "bad_request", BAD_REQUEST, false, "The request is not valid";
    /// No token.
    Unauthorized = "unauthorized", UNAUTHORIZED, false, "A token is required";
    /// A token, and not this node's.
    WrongToken = "wrong_token", UNAUTHORIZED, false, "The token is wrong";
    /// A page of another site sent it.
    ForeignOrigin = "foreign_origin", FORBIDDEN, false, "Requests from other sites are refused";
    /// It was sent to another host name than this node's.
    ForeignHost = "foreign_host", FORBIDDEN, false, "This host name is not served";
    /// It came from a machine or container that is not the host whose owner's API this is.
    ForeignPeer = "foreign_peer", FORBIDDEN, false, "Only the host's own programs are served";
    /// Only its maker can withdraw an offer.
    NotOwnOffer = "not_own_offer", FORBIDDEN, false, "The offer belongs to another node";
    /// No such path.
    NotFound = "not_found", NOT_FOUND, false, "There is nothing here";
    /// No such offer.
    OfferNotFound = "offer_not_found", NOT_FOUND, true, "No such offer";
    /// No such bid.
    BidNotFound = "bid_not_found", NOT_FOUND, false, "No such bid";
    /// No such trade.
    TradeNotFound = "trade_not_found", NOT_FOUND, false, "No such trade";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, false, "The method is not allowed here";
    /// The body did not arrive in time.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, true, "The body did not arrive in time";
    /// Sold, withdrawn, closed or expired.
    OfferNotAvailable = "offer_not_available", CONFLICT, false, "The offer cannot be taken any more";
    /// A withdrawal of an own offer that is sold, withdrawn, closed or expired already.
    OfferClosed = "offer_closed", CONFLICT, false, "The offer is closed already";
    /// The offer is another than the bid's owner saw, or may be.
    TermsChanged = "terms_changed", CONFLICT, false, "The offer has changed";
    /// An id names more than one record.
    Ambiguous = "ambiguous", CONFLICT, false, "The id names more than one offer";
    /// A bid that its maker has answered is not given up.
    BidAnswered = "bid_answered", CONFLICT, false, "The bid is answered";
    /// The maker of the bid's offer may still come back.
    GiveUpTooEarly = "give_up_too_early", CONFLICT, true, "The bid cannot be given up yet";
    /// The bid is below the asking price.
    PriceBelowAsk = "price_below_ask", CONFLICT, false, "The bid is below the asking price";
    /// The maker buys, and the bid asks more than it offers.
    PriceAboveOffer = "price_above_offer", CONFLICT, false, "The bid is above the offered price";
    /// A node cannot bid on its own offer.
    OwnOffer = "own_offer", CONFLICT, false, "The offer is this node's own";
    /// The offer chooses its bids in a way that this version does not know.
    AcceptanceUnknown = "acceptance_unknown", CONFLICT, false, "This version cannot bid on the offer";
    /// The maker's offer has other terms than the bid.
    TermsMismatch = "terms_mismatch", CONFLICT, false, "The offer has other terms";
    /// The bid reached the maker after its deadline.
    BidExpired = "bid_expired", CONFLICT, false, "The bid came too late";
    /// A time in the bid is out of range for the maker: one of the two clocks is wrong.
    InvalidBid = "invalid_bid", CONFLICT, false, "The maker finds the bid invalid";
    /// The maker knows another bid with this id.
    IdReuse = "id_reuse", CONFLICT, false, "The id was used before";
    /// The maker refused for a reason that this version does not know.
    Refused = "refused", CONFLICT, false, "The maker refused";
    /// Other nodes are connected.
    NotAlone = "not_alone", CONFLICT, false, "The node is not alone";
    /// `If-Match` names another version.
    SequenceMismatch = "sequence_mismatch", PRECONDITION_FAILED, false, "The offer has changed";
    /// The body is longer than the limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, false, "The body is too long";
    /// Not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false, "Only JSON is accepted";
    /// Fields are missing, wrong, unknown or given twice.
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY, false, "Some fields are not valid";
    /// Worth more than the node's owner allows (`--max-notional`).
    AboveMaxNotional = "above_max_notional", UNPROCESSABLE_ENTITY, false, "It is worth more than this node's limit";
    /// The idempotency key belongs to another request.
    IdempotencyKeyReuse = "idempotency_key_reuse", UNPROCESSABLE_ENTITY, false, "The idempotency key was used before";
    /// More is waiting than the node takes at a time.
    Busy = "busy", TOO_MANY_REQUESTS, true, "The node is busy";
    /// A bound of the node is reached.
    LimitReached = "limit_reached", TOO_MANY_REQUESTS, true, "A limit of the node is reached";
    /// One maker has its share of the bids that wait for an answer.
    MakerLimitReached = "maker_limit_reached", TOO_MANY_REQUESTS, true, "Too many bids wait for this maker";
    /// A defect of the node.
    Internal = "internal", INTERNAL_SERVER_ERROR, true, "The node failed";
    /// The network knows newer versions of own records than the store.
    StoreBehind = "store_behind", SERVICE_UNAVAILABLE, false, "The store is behind the network";
    /// The node cannot trade yet.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, true, "The node is not ready";
    /// The node can trade, but does not hold everything that is on offer.
    NotSynced = "not_synced", SERVICE_UNAVAILABLE, true, "The node is not synced";
    /// The node is stopping.
    Stopping = "stopping", SERVICE_UNAVAILABLE, true, "The node is stopping";
    /// The disk is full.
    StorageFull = "storage_full", INSUFFICIENT_STORAGE, true, "The disk is full";
}

impl Code {
    /// Of a confirmation that was not taken.
    pub(super) fn of_confirmation(error: &ConfirmError) -> Self {
        match error {
            ConfirmError::NotAlone(_) => Self::NotAlone,
            ConfirmError::NotStored(JournalError::Full) => Self::StorageFull,
            ConfirmError::NotStored(_) => Self::Internal,
            ConfirmError::Busy => Self::Busy,
        }
    }

    /// How many seconds a caller should wait before it sends the request again, where that is known.
    pub(super) fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::Busy | Self::NotReady | Self::NotSynced => Some(1),
            Self::Stopping => Some(5),
            Self::LimitReached | Self::MakerLimitReached | Self::StorageFull => Some(60),
            _ => None,
        }
    }

    /// The code for a status that a library chose.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::Internal,
        }
    }
}

/// Why a request failed. Nothing was changed by it, unless it says otherwise.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    bid: Option<BidId>,
    reasons: Vec<ReasonView>,
    offer: Option<Box<OfferView>>,
}

impl Problem {
    /// A problem with its sentence: what happened, on what, what to do next.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            detail: detail.into(),
            errors: Vec::new(),
            bid: None,
            reasons: Vec::new(),
            offer: None,
        }
    }

    /// With the offer as it is now.
    #[must_use]
    pub(super) fn with_offer(self, offer: Option<OfferView>) -> Self {
        Self { offer: offer.map(Box::new), ..self }
    }

    /// With everything that is wrong, field by field.
    #[must_use]
    pub(super) fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    /// With the account of how the node stands.
    #[must_use]
    pub(super) fn with_reasons(self, reasons: Vec<ReasonView>) -> Self {
        Self { reasons, ..self }
    }

    /// A maker's final no to a bid. All of them are conflicts, also where the same code has another status elsewhere.
    pub(super) fn refused(bid: BidId, refusal: &Refusal) -> Self {
        let code = match refusal.code {
            RefusalCode::OfferNotAvailable => Code::OfferNotAvailable,
            RefusalCode::OfferNotFound => Code::OfferNotFound,
            RefusalCode::PriceBelowAsk => Code::PriceBelowAsk,
            RefusalCode::PriceAboveOffer => Code::PriceAboveOffer,
            RefusalCode::TermsMismatch => Code::TermsMismatch,
            RefusalCode::OwnOffer => Code::OwnOffer,
            RefusalCode::BidExpired => Code::BidExpired,
            RefusalCode::InvalidBid => Code::InvalidBid,
            RefusalCode::IdReuse => Code::IdReuse,
            RefusalCode::Refused => Code::Refused,
        };
        let detail = format!("the maker refused the bid: {}", refusal.detail);
        Self { status: StatusCode::CONFLICT, bid: Some(bid), ..Self::new(code, detail) }
    }

    fn view(&self) -> ProblemView {
        ProblemView {
            kind: format!("urn:vintner:problem:{}", self.code.as_str()),
            title: self.code.title().into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.as_str().into(),
            // A refused bid stays refused; only a new one can fare better.
            retryable: self.code.retryable() && self.bid.is_none(),
            instance: self.bid.map(|bid| format!("/api/v1/bids/{bid}")),
            bid_id: self.bid.map(|bid| bid.to_string()),
            offer: self.offer.clone(),
            errors: self.errors.clone(),
            reasons: self.reasons.clone(),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::Offer(_) => Code::ValidationFailed,
            CommandError::OfferNotFound(_) => Code::OfferNotFound,
            CommandError::NotOwnOffer(_) => Code::NotOwnOffer,
            CommandError::OwnOffer(_) => Code::OwnOffer,
            CommandError::OfferNotAvailable { .. } => Code::OfferNotAvailable,
            CommandError::OfferClosed { .. } => Code::OfferClosed,
            CommandError::TermsChanged { .. } => Code::TermsChanged,
            CommandError::Ambiguous { .. } => Code::Ambiguous,
            CommandError::NotOwnBid(_) => Code::BidNotFound,
            CommandError::BidAnswered { .. } => Code::BidAnswered,
            CommandError::GiveUpTooEarly { .. } => Code::GiveUpTooEarly,
            CommandError::Price { side: Side::Sell, .. } => Code::PriceBelowAsk,
            CommandError::Price { side: Side::Buy, .. } => Code::PriceAboveOffer,
            CommandError::AboveMaxNotional { .. } => Code::AboveMaxNotional,
            CommandError::AcceptanceUnknown(_) => Code::AcceptanceUnknown,
            CommandError::SequenceMismatch { .. } => Code::SequenceMismatch,
            CommandError::IdempotencyKeyReuse => Code::IdempotencyKeyReuse,
            CommandError::IdempotencyKeyLength => Code::InvalidHeader,
            CommandError::Limit { .. } => Code::LimitReached,
            CommandError::MakerLimit { .. } => Code::MakerLimitReached,
            CommandError::StoreBehind => Code::StoreBehind,
            CommandError::StorageFull => Code::StorageFull,
            CommandError::Busy => Code::Busy,
            CommandError::Stopping => Code::Stopping,
        };
        let errors = match &error {
            CommandError::Offer(RecordError::Field { field, problem }) => vec![FieldError {
                pointer: Some(format!("/{field}")),
                parameter: None,
                detail: problem.clone(),
            }],
            _ => Vec::new(),
        };
        Self::new(code, error.to_string()).with_errors(errors)
    }
}

/// What every problem is sent as.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A struct of strings always becomes JSON.
        let body = serde_json::to_vec(&self.view()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.code.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // RFC 6750, section 3.1: the error is named only to whoever sent a token.
        let challenge = match self.code {
            Code::Unauthorized => Some("Bearer realm=\"vintner\""),
            Code::WrongToken => Some("Bearer realm=\"vintner\", error=\"invalid_token\""),
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Makes a problem of every error that a library answered with text or with nothing. Headers that belong to the error stay.
pub(super) fn ensure(response: Response, method: &axum::http::Method, path: &str) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if !is_error || is_problem {
        return response;
    }
    let code = Code::of_status(status);
    let allow = response.headers().get(header::ALLOW).cloned();
    let detail = match (code, allow.as_ref().and_then(|allow| allow.to_str().ok())) {
        (Code::MethodNotAllowed, Some(allow)) => format!("{method} is not possible here; use {allow}"),
        (Code::NotFound, _) => format!("no {path} here; the API is under /api/v1, see /swagger-ui"),
        (Code::Internal, _) => "the node failed to answer; its log says why".into(),
        _ => format!("the request was refused with status {status}; see /swagger-ui for what is expected"),
    };
    let mut problem = Problem { status, ..Problem::new(code, detail) }.into_response();
    let kept: [HeaderName; 1] = [header::ALLOW];
    for (name, value) in kept.into_iter().zip(allow) {
        problem.headers_mut().insert(name, value);
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_disk_is_told_as_one() {
        let of = |error| Code::of_confirmation(&ConfirmError::NotStored(error));
        assert_eq!(of(JournalError::Full), Code::StorageFull);
        assert_eq!(of(JournalError::Failed("the disk is gone".into())), Code::Internal);
        assert_eq!(of(JournalError::Unusable("the database was deleted".into())), Code::Internal);
    }
}
