//! All rows, as the events that make them true again.
//!
//! Order matters in one place only: of several trades that took one record the last counts, so trades come as they came.

use super::{
    StoreError,
    row::{Columns, LeftOut, Table, read_all, read_cache},
    tables::{
        AHEAD, BIDS_GIVEN_UP, BIDS_IN, BIDS_OUT, CONTRADICTIONS, EQUIVOCATIONS, IDEMPOTENCY_KEYS, OWN_OFFERS,
        PUBLISHED, RECORDS, TRADES, UNLISTED,
    },
};
use crate::{
    bep44::{MutableItem, Target},
    exchange::{
        BidIn, BidOut, BidOutcome, Closed, Event, Idempotent, Made, OwnOffer, Published, Refusal,
        RefusalCode, Unlisted,
    },
    identity::{Network, PublicKey, Signed, SignedText, Statement, decode_hex},
    market::{Bid, BidId, Offer, OfferId, TradeId, TradeReceipt},
    time::UnixMillis,
};
use rusqlite::Connection;
use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};
use std::{
    collections::{HashMap, HashSet},
    mem, panic,
    path::Path,
    sync::{Arc, mpsc::sync_channel},
    thread,
};

/// Records that go from one thread to the other at once, and how often that many may wait there.
const CHUNK: usize = 256;
const CHUNKS_WAITING_MAX: usize = 8;

/// What a store tells.
pub(super) struct Loaded {
    /// Oldest kinds of facts first: records before what was said about them.
    pub events: Vec<Event>,
    /// Others' records that are damaged, or dead at the time of reading.
    pub left_out: LeftOut,
}

/// Reads and checks all facts. What is dead at `now` of what others made is left out.
pub(super) fn all(
    conn: &Connection,
    path: &Path,
    network: &Network,
    now: UnixMillis,
) -> Result<Loaded, StoreError> {
    let mut published: HashMap<OfferId, Published> = HashMap::new();
    read_all((conn, path), &PUBLISHED, |row| {
        published.insert(row.parse()?, reach(row)?);
        Ok(())
    })?;
    let mut given_up: HashMap<BidId, UnixMillis> = HashMap::new();
    read_all((conn, path), &BIDS_GIVEN_UP, |row| {
        given_up.insert(row.parse()?, UnixMillis(row.int()?));
        Ok(())
    })?;
    let mut proofs = Proofs::default();
    read_all((conn, path), &EQUIVOCATIONS, |row| proofs.add(equivocation(row, network)?))?;
    read_all((conn, path), &CONTRADICTIONS, |row| proofs.add(contradiction(row, network)?))?;
    let mut events = Vec::new();
    read_all((conn, path), &OWN_OFFERS, |row| {
        events.push(own_offer(row, network, &mut published)?);
        Ok(())
    })?;
    let (records, mut left_out) = records(conn, path, network)?;
    for (row, target, offer) in records {
        match offer {
            Ok(offer) if proofs.is_about(&offer) || !offer.is_dead(now) => events.push(Event::Heard(offer)),
            Ok(_) => left_out.rows.push(row),
            Err(problem) => left_out.add_damaged(row, || target.to_string(), problem),
        }
    }
    proofs.tell(&mut events);
    let mut each = |table: &'static Table,
                    decode: &mut dyn FnMut(&mut Columns<'_>) -> Result<Event, String>| {
        read_all((conn, path), table, |row| {
            events.push(decode(row)?);
            Ok(())
        })
    };
    each(&UNLISTED, &mut unlisted)?;
    each(&TRADES, &mut trade)?;
    each(&BIDS_OUT, &mut |row| bid_out(row, &given_up))?;
    each(&BIDS_IN, &mut bid_in)?;
    each(&IDEMPOTENCY_KEYS, &mut idempotency_key)?;
    each(&AHEAD, &mut |row| Ok(Event::Ahead(targeted(row, network)?)))?;
    bids_have_their_trades(conn, path)?;
    Ok(Loaded { events, left_out })
}

/// A row of others' records: its number, what it is about, and what it says.
type Read = (i64, Target, Result<Arc<Offer>, String>);

/// Others' records, which may be a hundred thousand: one thread reads the rows and checks them, another reads the JSON in them and
/// computes their hashes, which takes as long.
fn records(conn: &Connection, path: &Path, network: &Network) -> Result<(Vec<Read>, LeftOut), StoreError> {
    let (rows, queue) = sync_channel::<Vec<(i64, MutableItem)>>(CHUNKS_WAITING_MAX);
    let read_each = || {
        let chunk_by_chunk = queue.into_iter().flatten();
        chunk_by_chunk.map(|(row, item)| (row, item.target(), offer(item, network))).collect()
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().spawn_scoped(scope, read_each).map_err(|source| {
            StoreError::Io { doing: "start a thread to read", path: path.to_owned(), source }
        })?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let left_out = read_cache((conn, path), &RECORDS, |row, number| {
            let _target = row.text()?;
            chunk.push((number, item(row)?));
            if chunk.len() == CHUNK {
                // Nobody takes it only when that thread panicked, which is found below.
                let _ = rows.send(mem::replace(&mut chunk, Vec::with_capacity(CHUNK)));
            }
            Ok(())
        })?;
        let _ = rows.send(chunk);
        drop(rows);
        let read = reader.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        Ok((read, left_out))
    })
}

/// Records whose makers contradict themselves. A proof may outlive the version that is held of its record.
#[derive(Default)]
struct Proofs {
    /// In the order in which they were found.
    found: Vec<(Arc<Offer>, Arc<Offer>)>,
    /// Those whose record was not read yet.
    alone: HashSet<Target>,
    of: HashSet<Target>,
}

impl Proofs {
    #[expect(clippy::unnecessary_wraps, reason = "rows are read by it")]
    fn add(&mut self, (first, second): (Arc<Offer>, Arc<Offer>)) -> Result<(), String> {
        self.alone.insert(first.target());
        self.of.insert(first.target());
        self.found.push((first, second));
        Ok(())
    }

    fn is_about(&mut self, offer: &Offer) -> bool {
        let target = offer.target();
        self.alone.remove(&target);
        self.of.contains(&target)
    }

    /// Before a proof comes its record, because what is forgotten when a record dies is both. The row of the record may be damaged,
    /// or a power loss may have taken it.
    fn tell(self, events: &mut Vec<Event>) {
        for (first, second) in self.found {
            if self.alone.contains(&first.target()) {
                events.push(Event::Heard(Arc::clone(&first)));
            }
            events.push(Event::Equivocated(first, second));
        }
    }
}

/// An accepted bid whose trade is gone must stop the node here: it would have no answer to a bidder who asks again.
fn bids_have_their_trades(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Sqlite { doing: "check", path: path.to_owned(), source };
    for table in [&BIDS_OUT, &BIDS_IN, &BIDS_GIVEN_UP, &PUBLISHED] {
        let sql = format!("SELECT rowid, parent FROM pragma_foreign_key_check('{}')", table.name);
        let mut statement = conn.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query(()).map_err(failed)?;
        if let Some(row) = rows.next().map_err(failed)? {
            let (rowid, parent): (i64, String) =
                row.get(0).and_then(|rowid| Ok((rowid, row.get(1)?))).map_err(failed)?;
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                table: table.name,
                row: format!("rowid {rowid}"),
                problem: format!("the row of {parent} that belongs to it is missing"),
            });
        }
    }
    Ok(())
}

fn reach(row: &mut Columns<'_>) -> Result<Published, String> {
    Ok(Published {
        sequence: row.int()?,
        stored_on: row.int()?,
        announced_to: row.int()?,
        at: UnixMillis(row.int()?),
    })
}

/// A DHT item's columns: k, seq, v, sig.
fn item(row: &mut Columns<'_>) -> Result<MutableItem, String> {
    let (k, seq): (PublicKey, i64) = (row.parse()?, row.int()?);
    Ok(MutableItem { k, seq, v: row.blob()?.into(), sig: row.parse()?, salt: Arc::default() })
}

fn offer(item: MutableItem, network: &Network) -> Result<Arc<Offer>, String> {
    Offer::from_own_store(item, network).map(Arc::new).map_err(|e| e.to_string())
}

/// A row that starts with its target.
fn targeted(row: &mut Columns<'_>, network: &Network) -> Result<Arc<Offer>, String> {
    row.text()?;
    offer(item(row)?, network)
}

fn own_offer(
    row: &mut Columns<'_>,
    network: &Network,
    published: &mut HashMap<OfferId, Published>,
) -> Result<Event, String> {
    let id: OfferId = row.parse()?;
    let offer = targeted(row, network)?;
    let closed = match (row.optional_text()?, row.optional_text()?) {
        (None, None) => None,
        (Some("sold"), Some(trade)) => Some(Closed::Sold(parse(trade)?)),
        (Some("withdrawn"), None) => Some(Closed::Withdrawn),
        (Some("recovered"), None) => Some(Closed::Recovered),
        (closed, trade) => return Err(format!("closed {closed:?} with trade {trade:?} has no meaning")),
    };
    Ok(Event::Own(OwnOffer { offer, closed, published: published.remove(&id) }))
}

fn parse(trade: &str) -> Result<TradeId, String> {
    trade.parse().map_err(|e| format!("{trade:?}: {e}"))
}

fn equivocation(row: &mut Columns<'_>, network: &Network) -> Result<(Arc<Offer>, Arc<Offer>), String> {
    row.text()?;
    let first = item(row)?;
    let second = MutableItem { v: row.blob()?.into(), sig: row.parse()?, ..first.clone() };
    Ok((offer(first, network)?, offer(second, network)?))
}

fn contradiction(row: &mut Columns<'_>, network: &Network) -> Result<(Arc<Offer>, Arc<Offer>), String> {
    row.text()?;
    Ok((offer(item(row)?, network)?, offer(item(row)?, network)?))
}

fn unlisted(row: &mut Columns<'_>) -> Result<Event, String> {
    let (target, why, until): (Target, _, _) = (row.parse()?, row.text()?, UnixMillis(row.int()?));
    let why = match why {
        "repriced" => Unlisted::Repriced { until },
        "contradicted" => Unlisted::Contradicted { until },
        other => return Err(format!("{other:?} is no reason to leave a record out")),
    };
    Ok(Event::Unlisted(target, why))
}

fn signed<T: Statement>(row: &mut Columns<'_>) -> Result<Signed<T>, String> {
    let source = SignedText { text: row.text()?.to_owned(), sig: row.parse()? };
    Signed::from_own_store(source).map_err(|e| e.to_string())
}

fn trade(row: &mut Columns<'_>) -> Result<Event, String> {
    for _key_column in 0..TRADES.key_columns {
        row.text()?;
    }
    let (trade, bid) = (signed(row)?, signed(row)?);
    TradeReceipt::pair(trade, bid).map(|receipt| Event::Traded(Arc::new(receipt))).map_err(|e| e.to_string())
}

/// The columns `outcome`, `trade_id`, `refusal_code` and `refusal_detail`; `None` is `in_doubt`.
fn outcome(row: &mut Columns<'_>) -> Result<Option<Result<TradeId, Refusal>>, String> {
    let columns = (row.text()?, row.optional_text()?, row.optional_text()?, row.optional_text()?);
    match columns {
        ("in_doubt", None, None, None) => Ok(None),
        ("accepted", Some(trade), None, None) => Ok(Some(Ok(parse(trade)?))),
        ("refused", None, Some(code), Some(detail)) => {
            let code: value::StrDeserializer<'_, value::Error> = code.into_deserializer();
            let code = RefusalCode::deserialize(code).map_err(|e| e.to_string())?;
            // Older programs stored whatever came.
            Ok(Some(Err(Refusal { code, detail: detail.to_owned() }.bounded())))
        }
        other => Err(format!("the outcome {other:?} has no meaning")),
    }
}

fn bid_out(row: &mut Columns<'_>, given_up: &HashMap<BidId, UnixMillis>) -> Result<Event, String> {
    let _key = (row.text()?, row.text()?);
    let bid: Signed<Bid> = signed(row)?;
    let outcome = match outcome(row)? {
        None => given_up.get(&bid.id).map_or(BidOutcome::InDoubt, |at| BidOutcome::GivenUp { at: *at }),
        Some(Ok(trade)) => BidOutcome::Accepted(trade),
        Some(Err(refusal)) => BidOutcome::Refused(refusal),
    };
    Ok(Event::BidOut(Arc::new(BidOut { bid, outcome })))
}

fn bid_in(row: &mut Columns<'_>) -> Result<Event, String> {
    let _key = (row.text()?, row.text()?);
    let (bid, at) = (signed(row)?, UnixMillis(row.int()?));
    let answer = outcome(row)?.ok_or("a received bid is never in doubt")?;
    Ok(Event::BidIn(Arc::new(BidIn { bid, answer, at })))
}

fn idempotency_key(row: &mut Columns<'_>) -> Result<Event, String> {
    let key = row.text()?.to_owned();
    let request_sha256 = decode_hex(row.text()?).ok_or("request_sha256 is not 64 hex digits")?;
    let made = match row.text()? {
        "offer" => Made::Offer(row.parse()?),
        "bid" => Made::Bid(row.parse()?),
        other => return Err(format!("it made {other:?}, which has no meaning")),
    };
    let at = UnixMillis(row.int()?);
    Ok(Event::Remembered(Arc::new(Idempotent { key, request_sha256, made, at })))
}
