//! The ways to fail that each operation has, in one table by code; each code becomes an example of the answer with its status.

use crate::http::api::problem::{Code, PROBLEM_JSON};
use serde_json::{Value, json};

/// What an operation can fail with of its own.
fn own_errors(operation: &str) -> &'static [Code] {
    use Code as C;
    match operation {
        "create_offer" => &[
            C::MalformedJson,
            C::ValidationFailed,
            C::InvalidHeader,
            C::AboveMaxNotional,
            C::IdempotencyKeyReuse,
            C::LimitReached,
            C::StoreBehind,
        ],
        "show_offer" => &[C::InvalidId, C::InvalidHeader, C::OfferNotFound, C::Ambiguous],
        "withdraw_offer" => &[
            C::InvalidId,
            C::InvalidHeader,
            C::OfferNotFound,
            C::NotOwnOffer,
            C::Ambiguous,
            C::OfferClosed,
            C::StoreBehind,
            C::SequenceMismatch,
        ],
        "place_bid" => &[
            C::InvalidId,
            C::MalformedJson,
            C::ValidationFailed,
            C::InvalidHeader,
            C::AboveMaxNotional,
            C::IdempotencyKeyReuse,
            C::OfferNotFound,
            C::BidNotFound,
            C::Ambiguous,
            C::OwnOffer,
            C::TermsChanged,
            C::SequenceMismatch,
            C::OfferNotAvailable,
            C::PriceBelowAsk,
            C::PriceAboveOffer,
            C::AcceptanceUnknown,
            C::TermsMismatch,
            C::BidExpired,
            C::InvalidBid,
            C::IdReuse,
            C::Refused,
            C::LimitReached,
            C::MakerLimitReached,
            C::StoreBehind,
        ],
        "list_bids" => &[C::InvalidId, C::OfferNotFound, C::Ambiguous],
        "show_bid" => &[C::InvalidId, C::BidNotFound],
        "give_up_bid" => &[
            C::InvalidId,
            C::MalformedJson,
            C::ValidationFailed,
            C::InvalidHeader,
            C::BidNotFound,
            C::BidAnswered,
            C::GiveUpTooEarly,
            C::LimitReached,
        ],
        "show_trade" => &[C::InvalidId, C::TradeNotFound],
        "recover_node" => &[C::MalformedJson, C::ValidationFailed, C::InvalidHeader],
        "confirm_alone" => {
            &[C::MalformedJson, C::ValidationFailed, C::InvalidHeader, C::NotAlone, C::Internal]
        }
        "readyz" => &[C::NotReady, C::NotSynced],
        _ => &[],
    }
}

/// What every operation can fail with.
fn common_errors(operation: &str, method: &str) -> Vec<Code> {
    let mut errors = vec![Code::InvalidQuery, Code::ForeignHost, Code::ForeignOrigin, Code::ForeignPeer];
    if !matches!(operation, "healthz" | "readyz") {
        errors.extend([Code::Unauthorized, Code::WrongToken]);
    }
    if method != "get" {
        errors.extend([Code::Busy, Code::Stopping, Code::StorageFull]);
    }
    if method == "post" {
        errors.extend([Code::BadRequest, Code::UnsupportedMediaType, Code::BodyTooLarge, Code::BodyTimeout]);
    }
    if method == "delete" {
        errors.push(Code::UnsupportedMediaType);
    }
    errors
}

fn example(code: Code, status: u16) -> Value {
    json!({ "summary": code.title(), "value": {
        "type": format!("urn:vintner:problem:{}", code.as_str()),
        "title": code.title(),
        "status": status,
        "detail": "what happened here, and what to do next",
        "code": code.as_str(),
        "retryable": code.retryable(),
    }})
}

/// A maker's refusal is a conflict, also where the same code has another status when this node says it (`problem::Problem::refused`).
const REFUSED_BY_MAKER: [(&str, Code, u16); 1] = [("place_bid", Code::OfferNotFound, 409)];

/// Adds the ways to fail to one operation, by status, each code with an example.
pub(super) fn add(operation: &mut Value, method: &str) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let own = own_errors(&id).iter().copied().chain(common_errors(&id, method));
    let refused =
        REFUSED_BY_MAKER.iter().filter(|(of, ..)| *of == id).map(|(_, code, status)| (*code, *status));
    for (code, status) in own.map(|code| (code, code.status().as_u16())).chain(refused) {
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            *response = json!({ "description": "", "content": { PROBLEM_JSON: {
                "schema": { "$ref": "#/components/schemas/ProblemView" }, "examples": {} }}});
        }
        let described = response["description"].as_str().filter(|text| !text.is_empty());
        let name = format!("`{}`", code.as_str());
        response["description"] = described.map_or(name.clone(), |before| format!("{before}, {name}")).into();
        response["content"][PROBLEM_JSON]["examples"][code.as_str()] = example(code, status);
        if code.retry_after_seconds().is_some() {
            response["headers"]["Retry-After"] = json!({ "required": false, "schema": { "type": "integer", "minimum": 1 },
                "description": "Seconds after which to send it again, where that is known" });
        }
        if status == 401 {
            response["headers"]["WWW-Authenticate"] = json!({ "required": true, "schema": { "type": "string" },
                "description": "That a bearer token is wanted, and `invalid_token` where one was sent" });
        }
    }
}
