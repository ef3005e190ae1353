//! `/offers`: list, create, show, withdraw.

use super::{
    docs,
    fields::{self, Fields, amount, choice, time, word},
    listing::OfferQuery,
    problem::{Code, Problem},
    request::{Command, Id, Versions, query, versions},
};
use crate::{
    exchange::{Done, OfferRef, OfferStatus, State as Market},
    http::types::{OfferView, Page, text},
    market::{Acceptance, Currency, LIFETIME_MAX, MEMO_BYTES_MAX, NewOffer, Offer, Side, Terms},
    node::Node,
    time::UnixMillis,
};
use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long an offer can be taken when its maker does not say.
const EXPIRES_AFTER: Duration = Duration::from_hours(24);
/// How long its record outlives that, so that late readers learn that it is over.
const DIES_AFTER: Duration = Duration::from_hours(24);

/// Lists of which few offers pass the filters are looked for one at a time, off the threads that answer everything else.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// List offers
///
/// Newest first, or by price (`sort`) in one currency; those that can be taken, unless `availability` says otherwise. Offers of makers that have been silent for three
/// minutes and more are on no list, whatever else it asks for, unless it asks for them (`include=stale`). A page may be short and
/// still have a `next_cursor`; it is empty only where nothing comes after it.
#[utoipa::path(get, path = "/offers", operation_id = "list_offers", tag = "offers",
    params(
        ("mine" = Option<bool>, Query, description = "Only own offers, or only those of others"),
        ("availability" = inline(Option<docs::Availability>), Query, description = "`true` (default): can be taken now; `false`: cannot; `all`: both"),
        ("include" = inline(Option<docs::Include>), Query, description = "`stale`: also offers of makers that are silent; each says so in its field `stale`"),
        ("side" = Option<crate::http::types::Side>, Query, description = "What the maker does"),
        ("currency" = Option<text::CurrencyCode>, Query, description = "What is paid with, such as `USD`"),
        ("min_price" = Option<text::AmountText>, Query, description = "Lowest price, a decimal"),
        ("max_price" = Option<text::AmountText>, Query, description = "Highest price, a decimal"),
        ("min_quantity" = Option<text::AmountText>, Query, description = "Lowest quantity of bitcoin, a decimal"),
        ("max_quantity" = Option<text::AmountText>, Query, description = "Highest quantity of bitcoin, a decimal"),
        ("sort" = inline(Option<docs::Sort>), Query, description = "`price`: the lowest first, of equal ones the oldest; `-price`: the other way round. Needs `currency`, and offers that can be taken (the default) or own ones"),
        ("client_id" = Option<text::ClientKey>, Query, description = "Only this maker's"),
        ("exclude" = Option<text::ClientKeys>, Query, description = "None of these makers': client ids with commas between them, 16 at most"),
        ("limit" = Option<u32>, Query, description = "Entries a page, 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = docs::CURSOR),
    ),
    responses((status = 200, description = "One page", body = Page<OfferView>)))]
pub(super) async fn list(State(node): State<Node>, raw: RawQuery) -> Result<Json<Page<OfferView>>, Problem> {
    let wanted = OfferQuery::read(&query(raw))?;
    let exchange = node.exchange();
    let (snapshot, now) = (exchange.snapshot(), exchange.now());
    if let Some(page) = wanted.page(&snapshot.state, now) {
        return Ok(Json(page));
    }
    let _turn = SEARCHES.acquire().await;
    let found = tokio::task::spawn_blocking(move || wanted.search(&snapshot.state, now)).await;
    found.map(Json).map_err(|_| Problem::new(Code::Internal, "the search failed; try again"))
}

/// Create an offer
///
/// Answers once the offer is durable. It is published to the DHT right after: `published` in the offer shows how far it is.
#[utoipa::path(post, path = "/offers", operation_id = "create_offer", tag = "offers",
    params(("Idempotency-Key" = Option<text::IdempotencyText>, Header, description = docs::IDEMPOTENCY_KEY)),
    request_body(content = docs::NewOfferBody, content_type = "application/json", examples(
        ("sell" = (summary = "Sell half a bitcoin", value = json!({"btc_quantity": "0.5", "offer_price": "64000"}))),
        ("wanted" = (summary = "Buy, for another currency, with a word to whom it may concern", value = json!({
            "side": "buy", "btc_quantity": "0.25", "offer_price": 59000.5, "currency": "EUR",
            "acceptance": "first", "memo": "SEPA transfer, same day"}))),
    )),
    responses((status = 201, description = "The offer is durable", body = OfferView, headers(
        ("Location" = String, description = "The offer"),
        ("ETag" = String, description = "Its sequence, quoted"),
    ))))]
pub(super) async fn create(State(node): State<Node>, command: Command) -> Result<Response, Problem> {
    let exchange = node.exchange();
    // A repeated request gets the answer of the first one, also when its times lie in the past by now.
    let known = |key: &str| exchange.snapshot().state.idempotency.contains_key(key);
    let again = command.idempotency.as_ref().is_some_and(|given| known(&given.key));
    let new = read_new_offer(&command.body, exchange.now(), again)?;
    let id = match exchange.create(new, command.idempotency).await? {
        Done::Created { offer, .. } => offer,
        done => unreachable!("a create is answered by {done:?}"),
    };
    let mut response = show_offer(&node, OfferRef::Id(id))?;
    *response.status_mut() = StatusCode::CREATED;
    // Here only: some clients take a 304 with a `Location` for a redirection.
    response.headers_mut().insert(header::LOCATION, ascii(format!("/api/v1/offers/{id}"))?);
    Ok(response)
}

/// Show an offer
///
/// Its `ETag` is the version of its record. How far an own offer reached (`published`) and whether its maker is silent (`stale`) are
/// not part of the version.
#[utoipa::path(get, path = "/offers/{id}", operation_id = "show_offer", tag = "offers",
    params(
        ("id" = text::OfferName, Path, description = docs::OFFER_ID),
        ("If-None-Match" = Option<text::EntityTags>, Header, description = "An `ETag`: nothing is sent (304) while the offer still has it"),
    ),
    responses(
        (status = 200, description = "The offer", body = OfferView, headers(("ETag" = String, description = "Its sequence, quoted"))),
        (status = 304, description = "The offer still has that sequence"),
    ))]
pub(super) async fn show(
    State(node): State<Node>,
    Id(offer): Id<OfferRef>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = versions(&headers, &header::IF_NONE_MATCH)?;
    let mut response = show_offer(&node, offer)?;
    let (snapshot, now) = (node.exchange().snapshot(), node.exchange().now());
    let unchanged = snapshot.state.find(offer).is_ok_and(|offer| {
        let seen = seen.as_ref().is_some_and(|seen| seen.name(offer.sequence));
        seen && says_itself(&snapshot.state, offer, now)
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = axum::body::Body::empty();
    }
    Ok(response)
}

/// Whether the record alone says how the offer stands. One that expired, or whose sale its record does not show yet, has
/// changed although its sequence has not.
fn says_itself(state: &Market, offer: &Offer, now: UnixMillis) -> bool {
    (state.status(offer, now) == OfferStatus::Open) == offer.availability
}

/// Withdraw an own offer
///
/// Of a withdrawal and a bid that meet, one wins, and both callers learn which.
#[utoipa::path(delete, path = "/offers/{id}", operation_id = "withdraw_offer", tag = "offers",
    params(
        ("id" = text::OfferName, Path, description = docs::OFFER_ID),
        ("If-Match" = Option<text::EntityTags>, Header, description = "An `ETag`: withdraw only while the offer still has it"),
    ),
    responses((status = 200, description = "The offer is closed", body = OfferView, headers(
        ("ETag" = String, description = "Its new sequence, quoted")))))]
pub(super) async fn withdraw(
    State(node): State<Node>,
    Id(offer): Id<OfferRef>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let exchange = node.exchange();
    let sequence = exchange.snapshot().state.find(offer).map(|offer| offer.sequence).ok();
    let if_sequence = match (versions(&headers, &header::IF_MATCH)?, sequence) {
        (Some(wanted), Some(actual)) => match wanted.mismatch(actual) {
            Some(problem) => return Err(problem),
            // Checked once more by the writer, before which it may change.
            None => (wanted != Versions::Any).then_some(actual),
        },
        _ => None,
    };
    exchange.withdraw(offer, if_sequence).await?;
    show_offer(&node, offer)
}

fn show_offer(node: &Node, reference: OfferRef) -> Result<Response, Problem> {
    let snapshot = node.exchange().snapshot();
    let offer = snapshot.state.find(reference)?;
    let view = OfferView::of(&snapshot.state, offer, node.exchange().now());
    let etag = [(header::ETAG, ascii(format!("\"{}\"", view.sequence))?)];
    Ok((etag, Json(view)).into_response())
}

fn ascii(text: String) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(text)
        .map_err(|_| Problem::new(Code::Internal, "a header cannot be written; report this"))
}

/// Reads the body of a new offer. `again`: it was accepted once, so its times are not judged by today's clock.
fn read_new_offer(body: &[u8], now: UnixMillis, again: bool) -> Result<NewOffer, Problem> {
    let mut fields = Fields::of_body(body)?;
    let btc_quantity = fields.required("btc_quantity", amount);
    let offer_price = fields.required("offer_price", amount);
    let sides = [("sell", Side::Sell), ("buy", Side::Buy)];
    let side = fields.optional("side", |raw| choice(&fields::text(raw)?, &sides)).unwrap_or_default();
    let currency = fields.optional("currency", word).unwrap_or(Currency::USD);
    let acceptance =
        fields.optional("acceptance", |raw| choice(&fields::text(raw)?, &[("first", Acceptance::First)]));
    let memo = fields.optional("memo", |raw| check_memo(fields::text(raw)?));
    let last = now.plus(LIFETIME_MAX);
    let lifetime = |at: UnixMillis| {
        let days = LIFETIME_MAX.as_secs() / 86_400;
        match at {
            _ if again => Ok(at),
            at if at <= now => Err(format!("is not in the future; it is {now} here")),
            at if at > last => Err(format!("is more than {days} days away")),
            at => Ok(at),
        }
    };
    let expires_at = fields.optional("expires_at", |raw| lifetime(time(raw)?));
    let dies_at = fields.optional("dies_at", |raw| lifetime(time(raw)?));
    let expires_at = expires_at.unwrap_or_else(|| now.plus(EXPIRES_AFTER).min(dies_at.unwrap_or(last)));
    if dies_at.is_some_and(|dies_at| dies_at < expires_at) {
        fields.refuse("dies_at", "is before expires_at");
    }
    fields.finish()?;
    let (Some(btc_quantity), Some(offer_price)) = (btc_quantity, offer_price) else {
        unreachable!("finish names every field that is missing or wrong");
    };
    Ok(NewOffer {
        terms: Terms { side, btc_quantity, offer_price, currency },
        acceptance: acceptance.unwrap_or_default(),
        expires_at,
        dies_at: dies_at.unwrap_or_else(|| expires_at.plus(DIES_AFTER).min(last.max(expires_at))),
        memo,
    })
}

fn check_memo(memo: String) -> Result<String, String> {
    if memo.len() > MEMO_BYTES_MAX {
        return Err(format!("is {} bytes long; {MEMO_BYTES_MAX} are allowed", memo.len()));
    }
    if memo.chars().any(char::is_control) {
        return Err("contains control characters".into());
    }
    Ok(memo)
}
