//! Each event as what it does to the tables: one row written, or one forgotten.

use super::{
    row::Row,
    tables::{
        AHEAD, BIDS_GIVEN_UP, BIDS_IN, BIDS_OUT, CONTRADICTIONS, IDEMPOTENCY_KEYS, OWN_OFFERS, PUBLISHED,
        RECORDS, TRADES, UNLISTED,
    },
};
use crate::{
    exchange::{
        BidIn, BidOut, BidOutcome, Closed, Event, Idempotent, Made, OwnOffer, Published, Refusal, Unlisted,
        limits::AHEAD_MAX,
    },
    identity::encode_hex,
    market::{Offer, OfferId, TradeId, TradeReceipt},
};
use rusqlite::{Connection, Params, Result, params};

/// Makes `event` true in the tables. Mirrors [`crate::exchange::State::apply`], event by event.
pub(super) fn apply(conn: &Connection, event: &Event) -> Result<()> {
    match event {
        Event::Own(own) => own_offer(conn, own),
        Event::Published(id, reach) => published(conn, *id, reach),
        Event::OwnForgotten(id) => own_forgotten(conn, *id),
        Event::Heard(offer) => item(Row::default().text(offer.target()), offer).upsert(conn, &RECORDS),
        Event::Forgotten(target) => {
            let target = target.to_string();
            run(conn, "DELETE FROM records WHERE target = ?1", [&target])?;
            run(conn, "DELETE FROM equivocations WHERE target = ?1", [&target])?;
            run(conn, "DELETE FROM contradictions WHERE target = ?1", [&target])?;
            run(conn, "DELETE FROM unlisted WHERE target = ?1", [&target])
        }
        Event::Equivocated(first, second) => {
            let row = item(Row::default().text(first.target()), first);
            item(row, second).upsert(conn, &CONTRADICTIONS)
        }
        Event::Unlisted(target, why) => {
            let word = match why {
                Unlisted::Repriced { .. } => "repriced",
                Unlisted::Contradicted { .. } => "contradicted",
            };
            Row::default().text(target).text(word).int(why.until().0).upsert(conn, &UNLISTED)
        }
        Event::BidOut(bid) => bid_out(conn, bid),
        Event::BidOutForgotten(id) => run(conn, "DELETE FROM bids_out WHERE id = ?1", [id.to_string()]),
        Event::BidIn(bid) => bid_in(conn, bid),
        Event::BidInForgotten(bidder, id) => {
            let key = [bidder.to_string(), id.to_string()];
            run(conn, "DELETE FROM bids_in WHERE bidder = ?1 AND id = ?2", key)
        }
        Event::Traded(receipt) => traded(conn, receipt),
        Event::Remembered(idempotent) => remembered(conn, idempotent),
        Event::IdempotencyForgotten(key) => run(conn, "DELETE FROM idempotency_keys WHERE key = ?1", [key]),
        Event::Ahead(offer) => ahead(conn, offer),
        Event::Recovered => run(conn, "DELETE FROM ahead", ()),
    }
}

fn run(conn: &Connection, sql: &str, params: impl Params) -> Result<()> {
    conn.prepare_cached(sql)?.execute(params).map(|_| ())
}

/// A DHT item's columns: k, seq, v, sig.
pub(super) fn item(row: Row, offer: &Offer) -> Row {
    let item = offer.item();
    row.text(item.k).int(offer.sequence).blob(&item.v).text(item.sig)
}

fn own_offer(conn: &Connection, own: &OwnOffer) -> Result<()> {
    let id = own.offer.id;
    let (closed, trade) = match own.closed {
        None => (None, None),
        Some(Closed::Sold(trade)) => (Some("sold"), Some(trade)),
        Some(Closed::Withdrawn) => (Some("withdrawn"), None),
        Some(Closed::Recovered) => (Some("recovered"), None),
    };
    item(Row::default().text(id).text(own.offer.target()), &own.offer)
        .optional_text(closed)
        .optional_text(trade)
        .upsert(conn, &OWN_OFFERS)?;
    match &own.published {
        Some(reach) => published_row(conn, id, reach),
        None => run(conn, "DELETE FROM published WHERE id = ?1", [id.to_string()]),
    }
}

/// The report may come after the offer died; then nobody needs it.
fn published(conn: &Connection, id: OfferId, reach: &Published) -> Result<()> {
    let is_own = conn.prepare_cached("SELECT 1 FROM own_offers WHERE id = ?1")?.exists([id.to_string()])?;
    if is_own { published_row(conn, id, reach) } else { Ok(()) }
}

fn published_row(conn: &Connection, id: OfferId, reach: &Published) -> Result<()> {
    Row::default()
        .text(id)
        .int(reach.sequence)
        .int(reach.stored_on)
        .int(reach.announced_to)
        .int(reach.at.0)
        .upsert(conn, &PUBLISHED)
}

/// What was said about how far it was published goes with it (`ON DELETE CASCADE`).
fn own_forgotten(conn: &Connection, id: OfferId) -> Result<()> {
    run(conn, "DELETE FROM own_offers WHERE id = ?1", [id.to_string()])
}

/// The columns `outcome`, `trade_id`, `refusal_code` and `refusal_detail`.
fn outcome(row: Row, outcome: Option<Result<TradeId, &Refusal>>) -> Row {
    match outcome {
        None => row.text("in_doubt").optional_text(NONE).optional_text(NONE).optional_text(NONE),
        Some(Ok(trade)) => row.text("accepted").text(trade).optional_text(NONE).optional_text(NONE),
        Some(Err(refusal)) => {
            row.text("refused").optional_text(NONE).text(refusal.code.as_str()).text(&refusal.detail)
        }
    }
}
const NONE: Option<&str> = None;

fn bid_out(conn: &Connection, own: &BidOut) -> Result<()> {
    let source = own.bid.source();
    let row = Row::default().text(own.bid.id).text(own.bid.bidder).text(&source.text).text(source.sig);
    let known = match &own.outcome {
        BidOutcome::InDoubt | BidOutcome::GivenUp { .. } => None,
        BidOutcome::Accepted(trade) => Some(Ok(*trade)),
        BidOutcome::Refused(refusal) => Some(Err(refusal)),
    };
    outcome(row, known).upsert(conn, &BIDS_OUT)?;
    match own.outcome {
        // A bid is in doubt first: nothing was said of it before.
        BidOutcome::InDoubt => Ok(()),
        BidOutcome::GivenUp { at } => Row::default().text(own.bid.id).int(at.0).upsert(conn, &BIDS_GIVEN_UP),
        BidOutcome::Accepted(_) | BidOutcome::Refused(_) => {
            run(conn, "DELETE FROM bids_given_up WHERE id = ?1", [own.bid.id.to_string()])
        }
    }
}

fn bid_in(conn: &Connection, received: &BidIn) -> Result<()> {
    let bid = &received.bid;
    let source = bid.source();
    let row = Row::default().text(bid.bidder).text(bid.id).text(&source.text).text(source.sig);
    outcome(row.int(received.at.0), Some(received.answer.as_ref().copied())).upsert(conn, &BIDS_IN)
}

fn traded(conn: &Connection, receipt: &TradeReceipt) -> Result<()> {
    let (trade, bid) = (receipt.trade(), receipt.bid());
    Row::default()
        .text(trade.id)
        .text(trade.taker)
        .text(trade.bid_id)
        .text(&trade.source().text)
        .text(trade.source().sig)
        .text(&bid.source().text)
        .text(bid.source().sig)
        .upsert(conn, &TRADES)
}

fn remembered(conn: &Connection, idempotent: &Idempotent) -> Result<()> {
    let row = Row::default().text(&idempotent.key).text(encode_hex(&idempotent.request_sha256));
    let row = match idempotent.made {
        Made::Offer(id) => row.text("offer").text(id),
        Made::Bid(id) => row.text("bid").text(id),
    };
    row.int(idempotent.at.0).upsert(conn, &IDEMPOTENCY_KEYS)
}

/// Bounded as it is in memory, or a restart would remember others than before.
fn ahead(conn: &Connection, offer: &Offer) -> Result<()> {
    let target = offer.target().to_string();
    let fits =
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM ahead WHERE target = ?1) OR (SELECT count(*) FROM ahead) < ?2";
    if conn.prepare_cached(fits)?.exists(params![target, AHEAD_MAX as i64])? {
        item(Row::default().text(target), offer).upsert(conn, &AHEAD)?;
    }
    Ok(())
}
