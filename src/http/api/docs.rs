//! The description of the API: OpenAPI 3.1, made from the handlers' own annotations, and Swagger UI to try it.
//!
//! `bodies` is what requests can say, `failures` what every operation can answer beside success; `shape` puts right what
//! annotations cannot say; `page` shows it all. `openapi/openapi.json` in the repository is this very text (`make openapi` writes it, a test compares it).

mod bodies;
mod failures;
mod page;
mod shape;

pub(super) use bodies::{Availability, EmptyBody, Include, NewBidBody, NewOfferBody, Sort};
pub(super) use page::{Shown, router};

use super::{examples, routes};
use crate::http::types::{FieldError, ProblemView, text};
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::OpenApi;

pub(super) const OFFER_ID: &str = "The offer's UUID, or its DHT hash of 40 hex digits: paste the `id` that creating it answered, or one \
     of the list";
pub(super) const CURSOR: &str =
    "The `next_cursor` of the page before; it belongs to the same filters and order";
pub(super) const SINCE: &str = "Nothing before this time (RFC 3339; write the `+` of an offset as `%2B`)";
pub(super) const UNTIL: &str = "Nothing from this time on";
pub(super) const IDEMPOTENCY_KEY: &str = "Your own name for this request, at most 255 bytes: repeated within 24 hours with the \
     same body, the request does nothing new and gets the answer of the first one. Use one whenever you might have to repeat";

#[derive(OpenApi)]
#[openapi(
    info(title = "vintner", description = "The REST API of one vintner node, for its owner.\n\n\
        Errors are RFC 9457 problems (`application/problem+json`) with a stable `code`; `retryable` says whether the very same \
        request may succeed later. Lists are pages: give `next_cursor` as `cursor` to read on. Amounts in answers are \
        decimal strings, in requests strings or numbers; times are RFC 3339. What has no value is left out of answers. A request that changes something must be `application/json`.\n\n\
        To see a trade here: create an offer below, copy the `id` of the answer, open this page on another node, and bid there with \
        that `id`. Nobody can bid on an own offer."),
    tags(
        (name = "offers", description = "Listings: what can be taken, from this node and all others"),
        (name = "bids", description = "Firm answers to offers"),
        (name = "trades", description = "What was agreed, signed by both sides"),
        (name = "node", description = "This node"),
    ),
    components(schemas(
        ProblemView,
        FieldError,
        bodies::Amount,
        text::AmountText,
        text::ClientKeys,
        text::CurrencyCode,
        text::EntityTags,
        text::GivenId,
        text::GivenTime,
        text::IdempotencyText,
        text::OfferName,
    )),
    servers(
        (url = "http://127.0.0.1:4000", description = "A node on this machine, as it is started by default"),
        (url = "..", description = "The node that served this description, wherever it is"),
    ),
)]
struct Base;

pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
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

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let (_, description) = routes().split_for_parts();
    let mut description = serde_json::to_value(&description).unwrap_or_default();
    if let Some(paths) = description["paths"].as_object_mut() {
        for (path, item) in paths.iter_mut() {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                failures::add(operation, method);
                add_links(operation);
                shape::parameters(operation);
                shape::headers(operation);
                // Open on loopback, a token elsewhere; what supervisors ask is open everywhere.
                let has_owner = path.starts_with("/api/") || path == "/metrics";
                operation["security"] = if has_owner { json!([{}, { "token": [] }]) } else { json!([]) };
            }
        }
    }
    shape::schemas(&mut description);
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
