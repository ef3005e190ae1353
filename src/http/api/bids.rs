//! `/offers/{id}/bids` and `/bids`: place, list, show, give up.

use super::{
    bid_list::BidQuery,
    docs,
    fields::{self, Fields, amount, choice, milliseconds, word},
    page::PageQuery,
    problem::{Code, Problem},
    request::{Command, Id, Versions, query, versions},
};
use crate::{
    exchange::{
        BidOutcome, CommandError, Done, NewBid, OfferRef, Seen, State as Market,
        limits::{BID_OUT_KEPT_FOR, BID_WAIT_MAX},
    },
    http::types::{BidView, OfferView, Page, text},
    identity::PublicKey,
    market::{BID_VALID_FOR_MAX, BidId, OfferId, Side},
    node::{Node, Snapshot, clock},
    time::UnixMillis,
};
use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
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
/// `wait_ms`. Without `price` it bids the offer's own. Say which version you saw, by `If-Match` or `sequence`, so that nothing else can be
/// bought: an offer that changed meanwhile is refused (`terms_changed`, or `sequence_mismatch` for `If-Match`), with the offer as it
/// is. `side`, `btc_quantity` and `currency` are compared as well where they are given. A bid that names neither a version nor side and
/// quantity is refused for 10 s after the offer changed here. A node's own offer is refused (`own_offer`): bid from another node.
///
/// `202` means that the maker has not answered yet: the bid stays firm until `valid_until`, so the offer may have been bought.
/// Look at the bid again; do not place another one.
#[utoipa::path(post, path = "/offers/{id}/bids", operation_id = "place_bid", tag = "bids",
    params(
        ("id" = text::OfferName, Path, description = docs::OFFER_ID),
        ("If-Match" = Option<text::EntityTags>, Header, description = "The offer's `ETag` as you saw it: bid only while the offer still has it"),
        ("Idempotency-Key" = Option<text::IdempotencyText>, Header, description = docs::IDEMPOTENCY_KEY),
    ),
    request_body(content = docs::NewBidBody, content_type = "application/json", examples(
        ("as_seen" = (summary = "At the price that was seen, and only for what was seen", value = json!({
            "side": "sell", "btc_quantity": "0.5", "currency": "USD", "price": "64000"}))),
        ("better_price" = (summary = "Above the asking price, firm for a minute", value = json!({
            "side": "sell", "btc_quantity": "0.5", "currency": "USD", "price": "64500", "valid_for_ms": 60000, "wait_ms": 10000}))),
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
    headers: HeaderMap,
    command: Command,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&command.body)?;
    let price = fields.optional("price", amount);
    let sequence = fields.optional("sequence", fields::sequence);
    let sides = [("sell", Side::Sell), ("buy", Side::Buy)];
    let side = fields.optional("side", |raw| choice(&fields::text(raw)?, &sides));
    let btc_quantity = fields.optional("btc_quantity", amount);
    let currency = fields.optional("currency", word);
    let valid_for_max = BID_VALID_FOR_MAX.as_millis() as u64;
    let valid_for = fields.optional("valid_for_ms", milliseconds(VALID_FOR_MIN_MS..=valid_for_max));
    let wait = fields.optional("wait_ms", milliseconds(0..=BID_WAIT_MAX.as_millis() as u64));
    fields.finish()?;
    let valid_for = Duration::from_millis(valid_for.unwrap_or(VALID_FOR_MS));
    let wait = Duration::from_millis(wait.unwrap_or(WAIT_MS));
    let exchange = node.exchange();
    let version =
        Matched::of(&headers, exchange.snapshot().state.find(offer).ok().map(|offer| offer.sequence))?;
    // Where both are given both must be so: of two that differ, one is not.
    let differs = version.sequence.zip(sequence).is_some_and(|(tag, field)| tag != field);
    let named = if differs { sequence } else { version.sequence.or(sequence) };
    let seen = Seen { sequence: named, side, btc_quantity, currency };
    let new = NewBid { offer, price, seen, valid_for };
    let bid = match exchange.bid(new, wait, command.idempotency).await {
        Ok(Done::Bid { bid, .. }) => bid,
        Ok(done) => unreachable!("a bid is answered by {done:?}"),
        Err(error) => return Err(not_bid_on(&node, offer, error, version.mismatch)),
    };
    placed(&exchange.snapshot(), exchange.client_id(), bid)
}

/// What `If-Match` says of the offer that it is about.
#[derive(Default)]
struct Matched {
    /// The version that is meant. Of one that is not there, some other: the writer refuses the bid then, unless it was made before.
    sequence: Option<u64>,
    /// What is told when it is not there.
    mismatch: Option<Problem>,
}

impl Matched {
    fn of(headers: &HeaderMap, actual: Option<u64>) -> Result<Self, Problem> {
        let wanted = versions(headers, &header::IF_MATCH)?.filter(|wanted| *wanted != Versions::Any);
        let Some(wanted) = wanted else { return Ok(Self::default()) };
        let mismatch = actual.and_then(|actual| wanted.mismatch(actual));
        // No record has the sequence 0, so one that comes between this look and the writer's is not taken for the one that was meant.
        let matched = actual.filter(|_| mismatch.is_none());
        Ok(Self { sequence: Some(matched.unwrap_or(0)), mismatch })
    }
}

/// Why a bid was not made; where the offer itself is the reason, with the offer as it is now.
fn not_bid_on(node: &Node, offer: OfferRef, error: CommandError, mismatch: Option<Problem>) -> Problem {
    let about_the_offer =
        matches!(error, CommandError::TermsChanged { .. } | CommandError::OfferNotAvailable { .. });
    if !about_the_offer {
        return error.into();
    }
    let snapshot = node.exchange().snapshot();
    let now = snapshot.state.find(offer).ok();
    let view = now.map(|offer| OfferView::of(&snapshot.state, offer, node.exchange().now()));
    mismatch.unwrap_or_else(|| error.into()).with_offer(view)
}

fn placed(snapshot: &Snapshot, me: PublicKey, id: BidId) -> Result<Response, Problem> {
    let bid = snapshot.state.bids_out.get(&id).ok_or_else(|| not_found(id.0, clock::now()))?;
    let status = match &bid.outcome {
        BidOutcome::Refused(refusal) => return Err(Problem::refused(id, refusal)),
        BidOutcome::Accepted(_) => StatusCode::CREATED,
        // The second when a request is repeated after it was given up.
        BidOutcome::InDoubt | BidOutcome::GivenUp { .. } => StatusCode::ACCEPTED,
    };
    let location = [(header::LOCATION, format!("/api/v1/bids/{id}"))];
    let view = Json(BidView::out(&snapshot.state, bid).with_trade(&snapshot.state, me));
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
        ("cursor" = Option<String>, Query, description = docs::CURSOR),
    ),
    responses((status = 200, description = "One page", body = Page<BidView>)))]
pub(super) async fn list(
    State(node): State<Node>,
    Id(offer): Id<OfferRef>,
    raw: RawQuery,
) -> Result<Json<Page<BidView>>, Problem> {
    let snapshot = node.exchange().snapshot();
    let state = &snapshot.state;
    let id = match (state.find(offer), offer) {
        (Ok(offer), _) => offer.id,
        // Bids outlive the record that they were made on.
        (Err(CommandError::OfferNotFound(_)), OfferRef::Id(id))
            if bids_on(state, id, None).next().is_some() =>
        {
            id
        }
        (Err(error), _) => return Err(error.into()),
    };
    let page = PageQuery::of(&query(raw), &("bids on", id))?;
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
        items.extend(incoming.or_else(|| state.bids_out.get(&id).map(|bid| BidView::out(state, bid))));
    }
    let more = bids.peek().is_some();
    Page { items, next_cursor: last.filter(|_| more).map(|last| page.cursor(&last)) }
}

/// List bids
///
/// Own ones (`role=taker`, the default) or those that others made on own offers (`role=maker`). By `status`: those in doubt first,
/// then those given up, accepted, refused; of each the newest first. All filters are answered from indexes, so a page is as long as
/// `limit` allows.
#[utoipa::path(get, path = "/bids", operation_id = "list_own_bids", tag = "bids",
    params(
        ("role" = inline(Option<crate::http::types::Role>), Query, description = "`taker` (default): bids of this node; `maker`: bids that came to it"),
        ("state" = inline(Option<crate::http::types::BidStatus>), Query, description = "Only those that stand so"),
        ("offer" = Option<text::GivenId>, Query, description = "Only those on this offer, by its id"),
        ("maker" = Option<text::ClientKey>, Query, description = "Only those on offers of this client id"),
        ("bidder" = Option<text::ClientKey>, Query, description = "Only those of this client id"),
        ("since" = Option<text::GivenTime>, Query, description = docs::SINCE),
        ("until" = Option<text::GivenTime>, Query, description = docs::UNTIL),
        ("limit" = Option<u32>, Query, description = "Entries a page, 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = docs::CURSOR),
    ),
    responses((status = 200, description = "One page", body = Page<BidView>)))]
pub(super) async fn list_own(
    State(node): State<Node>,
    raw: RawQuery,
) -> Result<Json<Page<BidView>>, Problem> {
    let wanted = BidQuery::read(&query(raw))?;
    let (snapshot, me) = (node.exchange().snapshot(), node.exchange().client_id());
    Ok(Json(wanted.page(&snapshot.state, me)))
}

/// Give a bid up
///
/// For an own bid in doubt whose maker never comes back: the node no longer waits for the answer, and the bid no longer counts as
/// in doubt. Possible from `give_up_from` on, when the bid's deadline is over and the offer's record is dead; before, it is refused
/// (`give_up_too_early`). It withdraws nothing: had the maker sold, the trade stands, and is recorded whenever it comes. Repeated, it
/// changes nothing.
#[utoipa::path(post, path = "/bids/{id}/give-up", operation_id = "give_up_bid", tag = "bids",
    params(("id" = text::GivenId, Path, description = "The bid's id")),
    request_body(content = docs::EmptyBody, content_type = "application/json", example = json!({})),
    responses((status = 200, description = "It is given up", body = BidView)))]
pub(super) async fn give_up(
    State(node): State<Node>,
    Id(id): Id<Uuid>,
    command: Command,
) -> Result<Json<BidView>, Problem> {
    Fields::of_body(&command.body)?.finish()?;
    let exchange = node.exchange();
    exchange.give_up(BidId(id)).await?;
    let snapshot = exchange.snapshot();
    let bid = snapshot.state.bids_out.get(&BidId(id)).ok_or(CommandError::NotOwnBid(BidId(id)))?;
    // A trade may have come since.
    Ok(Json(BidView::out(&snapshot.state, bid).with_trade(&snapshot.state, exchange.client_id())))
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
        return Ok(Json(BidView::out(&snapshot.state, bid).with_trade(&snapshot.state, me)));
    }
    // Others' bids are kept by bidder and id, so this looks at all of them: rare, and not on a thread that serves.
    let found = tokio::task::spawn_blocking(move || incoming(&snapshot, BidId(id), me)).await;
    found.ok().flatten().map(Json).ok_or_else(|| not_found(id, node.exchange().now()))
}

fn incoming(snapshot: &Arc<Snapshot>, id: BidId, me: PublicKey) -> Option<BidView> {
    let bid = snapshot.state.bids_in.values().find(|bid| bid.bid.id == id)?;
    Some(BidView::incoming(bid).with_trade(&snapshot.state, me))
}

/// That a bid is not known here does not say what became of it: most often it was made on another node. An id tells when it was made,
/// so of a young one it is certain that it was not forgotten.
fn not_found(id: Uuid, now: UnixMillis) -> Problem {
    let made_at = id.get_timestamp().map(|at| {
        let (seconds, nanos) = at.to_unix();
        UnixMillis(seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000)))
    });
    let days = BID_OUT_KEPT_FOR.as_secs() / 86_400;
    let detail = match made_at {
        Some(at) if now < at.plus(BID_OUT_KEPT_FOR) => format!(
            "bid {id} was neither made by this node nor received by it; that says nothing of what became of it: ask the node \
             that made it, and do not bid again before"
        ),
        _ => format!(
            "this node knows no bid {id}: it was made on another node, or it was refused more than {days} days ago and is \
             forgotten; bids that are in doubt or accepted are never forgotten"
        ),
    };
    Problem::new(Code::BidNotFound, detail)
}
