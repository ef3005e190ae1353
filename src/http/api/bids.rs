//! `/offers/{id}/bids` and `/bids/{id}`: place, list, show.

use super::{
    docs,
    fields::{Fields, amount, milliseconds},
    page::{Cursor, PageQuery},
    problem::{Code, Problem},
    request::{Command, Id, query},
};
use crate::{
    exchange::{BidOutcome, CommandError, Done, OfferRef, State as Market, limits::BID_WAIT_MAX},
    http::types::{BidView, Page, text},
    identity::PublicKey,
    market::{BID_VALID_FOR_MAX, BidId, OfferId},
    node::{Node, Snapshot},
};
use axum::{
    Json,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::{
    ops::Bound::{Excluded, Included},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// How long a bid is firm when its bidder does not say.
const VALID_FOR_MS: u64 = 5 * 60 * 1000;
/// The shortest time that a bid may be firm: below, it would be over before its maker was found.
const VALID_FOR_MIN_MS: u64 = 1000;
/// How long the caller waits for the maker's answer when it does not say.
const WAIT_MS: u64 = 5000;
/// When a caller should look at a bid in doubt again.
const LOOK_AGAIN_AFTER_SECONDS: &str = "1";

/// Bid on an offer
///
/// The node signs the bid, makes it durable, and asks the maker's node until it has its signed answer; the caller waits for it
/// `wait_ms`. An empty object bids the offer's own price. A node's own offer is refused (`own_offer`): bid from another node.
///
/// `202` means that the maker has not answered yet: the bid stays firm until `valid_until`, so the offer may have been bought.
/// Look at the bid again; do not place another one.
#[utoipa::path(post, path = "/offers/{id}/bids", operation_id = "place_bid", tag = "bids",
    params(
        ("id" = text::OfferName, Path, description = docs::OFFER_ID),
        ("Idempotency-Key" = Option<text::IdempotencyText>, Header, description = docs::IDEMPOTENCY_KEY),
    ),
    request_body(content = docs::NewBidBody, content_type = "application/json", examples(
        ("asking_price" = (summary = "At the offer's own price", value = json!({}))),
        ("better_price" = (summary = "Above the asking price, firm for a minute", value = json!({
            "price": "64500", "valid_for_ms": 60000, "wait_ms": 10000}))),
    )),
    responses(
        (status = 201, description = "Accepted: the trade is in the answer", body = BidView, headers(
            ("Location" = String, description = "The bid"))),
        (status = 202, description = "In doubt: the maker has not answered yet", body = BidView, headers(
            ("Location" = String, description = "The bid"),
            ("Retry-After" = u32, description = "Seconds after which to look at the bid"))),
    ))]
pub(super) async fn place(
    State(node): State<Node>,
    Id(offer): Id<OfferRef>,
    command: Command,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&command.body)?;
    let price = fields.optional("price", amount);
    let valid_for_max = BID_VALID_FOR_MAX.as_millis() as u64;
    let valid_for = fields.optional("valid_for_ms", milliseconds(VALID_FOR_MIN_MS..=valid_for_max));
    let wait = fields.optional("wait_ms", milliseconds(0..=BID_WAIT_MAX.as_millis() as u64));
    fields.finish()?;
    let valid_for = Duration::from_millis(valid_for.unwrap_or(VALID_FOR_MS));
    let wait = Duration::from_millis(wait.unwrap_or(WAIT_MS));
    let exchange = node.exchange();
    let bid = match exchange.bid(offer, price, valid_for, wait, command.idempotency).await? {
        Done::Bid { bid, .. } => bid,
        done => unreachable!("a bid is answered by {done:?}"),
    };
    placed(&exchange.snapshot(), exchange.client_id(), bid)
}

fn placed(snapshot: &Snapshot, me: PublicKey, id: BidId) -> Result<Response, Problem> {
    let bid = snapshot.state.bids_out.get(&id).ok_or_else(|| not_found(id.0))?;
    let status = match &bid.outcome {
        BidOutcome::Refused(refusal) => return Err(Problem::refused(id, refusal)),
        BidOutcome::Accepted(_) => StatusCode::CREATED,
        BidOutcome::InDoubt => StatusCode::ACCEPTED,
    };
    let location = [(header::LOCATION, format!("/api/v1/bids/{id}"))];
    let view = Json(BidView::out(bid).with_trade(&snapshot.state, me));
    Ok(match status {
        StatusCode::ACCEPTED => {
            (status, location, [(header::RETRY_AFTER, LOOK_AGAIN_AFTER_SECONDS)], view).into_response()
        }
        status => (status, location, view).into_response(),
    })
}

/// List the bids on an offer
///
/// Newest first: on an own offer those that others made, on another's the own ones.
#[utoipa::path(get, path = "/offers/{id}/bids", operation_id = "list_bids", tag = "bids",
    params(
        ("id" = text::OfferName, Path, description = docs::OFFER_ID),
        ("limit" = Option<u32>, Query, description = "Entries a page, 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page", body = Page<BidView>)))]
pub(super) async fn list(
    State(node): State<Node>,
    Id(offer): Id<OfferRef>,
    raw: RawQuery,
) -> Result<Json<Page<BidView>>, Problem> {
    let page = PageQuery::of(&query(raw))?;
    let snapshot = node.exchange().snapshot();
    let state = &snapshot.state;
    let found = state.find(offer).map(|offer| offer.id);
    let id = match (found, offer) {
        (Some(id), _) => id,
        // Bids outlive the record that they were made on.
        (None, OfferRef::Id(id)) if bids_on(state, id, None).next().is_some() => id,
        (None, offer) => return Err(CommandError::OfferNotFound(offer.to_string()).into()),
    };
    Ok(Json(bid_page(state, id, page)))
}

/// The bids on one offer, newest first, older than `before`.
fn bids_on(
    state: &Market,
    offer: OfferId,
    before: Option<(Uuid, PublicKey)>,
) -> impl Iterator<Item = (BidId, PublicKey)> {
    let first = Included((offer, BidId(Uuid::nil()), PublicKey([0; 32])));
    let last = match before {
        Some((id, bidder)) => Excluded((offer, BidId(id), bidder)),
        None => Included((offer, BidId(Uuid::max()), PublicKey([0xff; 32]))),
    };
    state.bids_by_offer.range((first, last)).rev().map(|(_, id, bidder)| (*id, *bidder))
}

fn bid_page(state: &Market, offer: OfferId, page: PageQuery<(Uuid, PublicKey)>) -> Page<BidView> {
    let mut bids = bids_on(state, offer, page.before).peekable();
    let (mut items, mut last) = (Vec::new(), None);
    for (id, bidder) in bids.by_ref().take(page.limit) {
        last = Some((id.0, bidder));
        let incoming = state.bids_in.get(&(bidder, id)).map(|bid| BidView::incoming(bid));
        items.extend(incoming.or_else(|| state.bids_out.get(&id).map(|bid| BidView::out(bid))));
    }
    let more = bids.peek().is_some();
    Page { items, next_cursor: last.filter(|_| more).map(|last| last.write()) }
}

/// Show a bid
///
/// An own one, or one on an own offer; with its trade when it was accepted.
#[utoipa::path(get, path = "/bids/{id}", operation_id = "show_bid", tag = "bids",
    params(("id" = text::GivenId, Path, description = "The bid's id")),
    responses((status = 200, description = "The bid", body = BidView)))]
pub(super) async fn show(State(node): State<Node>, Id(id): Id<Uuid>) -> Result<Json<BidView>, Problem> {
    let snapshot = node.exchange().snapshot();
    let me = node.exchange().client_id();
    if let Some(bid) = snapshot.state.bids_out.get(&BidId(id)) {
        return Ok(Json(BidView::out(bid).with_trade(&snapshot.state, me)));
    }
    // Others' bids are kept by bidder and id, so this looks at all of them: rare, and not on a thread that serves.
    let found = tokio::task::spawn_blocking(move || incoming(&snapshot, BidId(id), me)).await;
    found.ok().flatten().map(Json).ok_or_else(|| not_found(id))
}

fn incoming(snapshot: &Arc<Snapshot>, id: BidId, me: PublicKey) -> Option<BidView> {
    let bid = snapshot.state.bids_in.values().find(|bid| bid.bid.id == id)?;
    Some(BidView::incoming(bid).with_trade(&snapshot.state, me))
}

fn not_found(id: Uuid) -> Problem {
    let detail = format!(
        "this node knows no bid {id}; refused bids are forgotten after some days, accepted ones are under /api/v1/trades"
    );
    Problem::new(Code::BidNotFound, detail)
}
