//! The description of the API: OpenAPI 3.1, made from the handlers' own annotations, and Swagger UI to try it.
//!
//! What every operation can answer beside success stands here, in one table by code; each code becomes a response with an
//! example. `openapi/openapi.json` in the repository is this very text (`make openapi` writes it, a test compares it).

use super::{
    examples,
    problem::{Code, PROBLEM_JSON},
    routes,
};
use crate::http::types::{FieldError, ProblemView, Side};
use axum::{
    Router,
    http::{HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::{OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

pub(super) const OFFER_ID: &str = "The offer's UUID, or its DHT hash of 40 hex digits: paste the `id` that creating it answered, or one \
     of the list";
pub(super) const IDEMPOTENCY_KEY: &str = "Your own name for this request, at most 255 bytes: repeated within 24 hours with the \
     same body, the request does nothing new and gets the answer of the first one. Use one whenever you might have to repeat";

/// A new offer. Amounts are decimal strings or JSON numbers, whose digits are read exactly.
#[derive(ToSchema)]
#[allow(dead_code, reason = "a schema: bodies are read field by field, so that every error is named")]
pub(super) struct NewOfferBody {
    /// How much bitcoin: more than 0, at most 21000000, at most 8 decimals.
    #[schema(value_type = Amount)]
    btc_quantity: (),
    /// The price for one bitcoin: more than 0, at most 100000000000, at most 8 decimals.
    #[schema(value_type = Amount)]
    offer_price: (),
    /// What you do.
    #[schema(default = "sell")]
    side: Option<Side>,
    /// What is paid with: 2 to 8 upper-case letters or digits.
    #[schema(default = "USD", pattern = "^[A-Z0-9]{2,8}$")]
    currency: Option<String>,
    /// From when on it cannot be taken; 24 hours from now by default, at most 30 days.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// From when on every node forgets it; 24 hours after `expires_at` by default, at most 30 days from now.
    #[schema(format = DateTime)]
    dies_at: Option<String>,
    /// A word to the takers: at most 120 bytes, public, signed.
    #[schema(max_length = 120)]
    memo: Option<String>,
    /// How bids are answered: the `first` valid one at your price or better is accepted at once.
    #[schema(default = "first", pattern = "^first$")]
    acceptance: Option<String>,
}

/// A bid. All fields may be left out.
#[derive(ToSchema)]
#[allow(dead_code, reason = "a schema, as above")]
pub(super) struct NewBidBody {
    /// The price for one bitcoin that you pay (or ask, when the maker buys); the offer's own by default.
    #[schema(value_type = Option<Amount>)]
    price: (),
    /// How long the bid is firm, in milliseconds.
    #[schema(minimum = 1000, maximum = 86_400_000, default = 300_000)]
    valid_for_ms: Option<u64>,
    /// How long this request waits for the maker's answer, in milliseconds.
    #[schema(minimum = 0, maximum = 30_000, default = 5000)]
    wait_ms: Option<u64>,
}

/// Which offers, by whether they can be taken now.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "true")]
#[allow(dead_code, reason = "a schema, as above")]
pub(super) enum Availability {
    /// Those that can.
    True,
    /// Those that cannot.
    False,
    /// Both.
    All,
}

/// What a list leaves out unless it is asked for.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "a schema, as above")]
pub(super) enum Include {
    /// Offers of makers that are silent.
    Stale,
}

/// An object without fields.
#[derive(ToSchema)]
pub(super) struct EmptyBody {}

/// A decimal: digits and at most one point.
#[derive(ToSchema)]
#[schema(examples("0.5"))]
#[allow(dead_code, reason = "a schema, as above")]
pub(super) enum Amount {
    /// Decimal text.
    #[schema(title = "text")]
    #[serde(untagged)]
    Text(String),
    /// A JSON number, read digit by digit.
    #[schema(title = "number")]
    #[serde(untagged)]
    Number(f64),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "vintner", description = "The REST API of one vintner node, for its owner.\n\n\
        Errors are RFC 9457 problems (`application/problem+json`) with a stable `code`; `retryable` says whether the very same \
        request may succeed later. Lists are pages: give `next_cursor` as `cursor` to read on. Amounts are decimal strings, \
        times RFC 3339. A request that changes something must be `application/json`.\n\n\
        To see a trade here: create an offer below, copy the `id` of the answer, open this page on another node, and bid there with \
        that `id`. Nobody can bid on an own offer."),
    tags(
        (name = "offers", description = "Listings: what can be taken, from this node and all others"),
        (name = "bids", description = "Firm answers to offers"),
        (name = "trades", description = "What was agreed, signed by both sides"),
        (name = "node", description = "This node"),
    ),
    components(schemas(ProblemView, FieldError, Amount)),
)]
struct Base;

pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// What an operation can fail with of its own.
fn own_errors(operation: &str) -> &'static [Code] {
    use Code as C;
    match operation {
        "list_offers" | "list_trades" => &[C::InvalidQuery],
        "create_offer" => &[
            C::MalformedJson,
            C::ValidationFailed,
            C::InvalidHeader,
            C::IdempotencyKeyReuse,
            C::LimitReached,
            C::StoreBehind,
        ],
        "show_offer" => &[C::InvalidId, C::InvalidHeader, C::OfferNotFound],
        "withdraw_offer" => &[
            C::InvalidId,
            C::InvalidHeader,
            C::OfferNotFound,
            C::NotOwnOffer,
            C::OfferNotAvailable,
            C::SequenceMismatch,
        ],
        "place_bid" => &[
            C::InvalidId,
            C::MalformedJson,
            C::ValidationFailed,
            C::InvalidHeader,
            C::IdempotencyKeyReuse,
            C::OfferNotFound,
            C::BidNotFound,
            C::OwnOffer,
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
            C::StoreBehind,
        ],
        "list_bids" => &[C::InvalidId, C::InvalidQuery, C::OfferNotFound],
        "show_bid" => &[C::InvalidId, C::BidNotFound],
        "show_trade" => &[C::InvalidId, C::TradeNotFound],
        "recover_node" => &[C::MalformedJson, C::ValidationFailed, C::InvalidHeader],
        "readyz" => &[C::InvalidQuery, C::NotReady, C::NotSynced],
        _ => &[],
    }
}

/// What every operation can fail with.
fn common_errors(operation: &str, method: &str) -> Vec<Code> {
    let mut errors = vec![Code::ForeignHost, Code::ForeignOrigin, Code::ForeignPeer];
    if !matches!(operation, "healthz" | "readyz") {
        errors.push(Code::Unauthorized);
    }
    if method != "get" {
        errors.extend([Code::Busy, Code::Stopping, Code::StorageFull]);
    }
    if method == "post" {
        errors.extend([Code::UnsupportedMediaType, Code::BodyTooLarge, Code::BodyTimeout]);
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

/// Adds the ways to fail to one operation, by status, each code with an example.
fn add_errors(operation: &mut Value, method: &str) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for code in own_errors(&id).iter().copied().chain(common_errors(&id, method)) {
        let status = code.status().as_u16();
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            *response = json!({ "description": "", "content": { PROBLEM_JSON: {
                "schema": { "$ref": "#/components/schemas/ProblemView" }, "examples": {} }}});
        }
        let described = response["description"].as_str().filter(|text| !text.is_empty());
        let name = format!("`{}`", code.as_str());
        response["description"] = described.map_or(name.clone(), |before| format!("{before}, {name}")).into();
        response["content"][PROBLEM_JSON]["examples"][code.as_str()] = example(code, status);
    }
}

/// Where the ids of an answer lead: the answer's operation and status, a field, and the operations whose `id` it is.
const LINKS: [(&str, &str, &str, &[&str]); 4] = [
    ("create_offer", "201", "id", &["show_offer", "place_bid", "list_bids", "withdraw_offer"]),
    ("place_bid", "201", "id", &["show_bid"]),
    ("place_bid", "201", "trade_id", &["show_trade"]),
    ("place_bid", "202", "id", &["show_bid"]),
];

fn add_links(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for (_, status, field, targets) in LINKS.iter().filter(|(from, ..)| *from == id) {
        for target in *targets {
            operation["responses"][*status]["links"][*target] =
                json!({ "operationId": target, "parameters": { "id": format!("$response.body#/{field}") } });
        }
    }
}

/// A parameter that may be left out has no other way to be nothing: `null` cannot be said in a header.
fn drop_null(operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let kind = &mut parameter["schema"]["type"];
        if kind == &json!(["string", "null"]) {
            *kind = "string".into();
        }
    }
}

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let (_, description) = routes().split_for_parts();
    let mut description = serde_json::to_value(&description).unwrap_or_default();
    if let Some(paths) = description["paths"].as_object_mut() {
        for (path, item) in paths.iter_mut() {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                add_errors(operation, method);
                add_links(operation);
                drop_null(operation);
                // Open on loopback, a token elsewhere.
                if path.starts_with("/api/") || path == "/metrics" {
                    operation["security"] = json!([{}, { "token": [] }]);
                }
            }
        }
    }
    for (schema, example) in examples::all() {
        description["components"]["schemas"][schema]["examples"] = json!([example]);
    }
    description["components"]["securitySchemes"] = json!({ "token": {
        "type": "http", "scheme": "bearer",
        "description": "The node's API token; needed where the API listens beyond loopback, or was given a token file." }});
    let mut text = serde_json::to_string_pretty(&description).unwrap_or_default();
    text.push('\n');
    text
});

/// The OpenAPI description, as `/api/openapi.json` serves it.
pub fn openapi_json() -> &'static str {
    &DESCRIPTION
}

/// The description and Swagger UI, which is built into the program: nothing is fetched from anywhere.
pub(super) fn router() -> Router {
    // The page asks no one else: not the public service that validates descriptions either.
    let config = Config::new(["/api/openapi.json"]).validator_url("none").display_request_duration(true);
    let serve = || async {
        let kind = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, kind)], openapi_json()).into_response()
    };
    Router::new().route("/api/openapi.json", get(serve)).merge(SwaggerUi::new("/swagger-ui").config(config))
}
