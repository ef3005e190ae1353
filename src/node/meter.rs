//! What the writer counts: how it commits, and what became true by it.

use crate::{
    exchange::{BidAnswer, BidOutcome, Closed, CommandError, Event, NotNow, OwnOffer, RefusalCode, Reply},
    identity::ClientId,
    metrics::{Counter, Gauge, Histogram, LATENCY, Page, SIZE},
};
use std::time::Duration;

/// Every code of a refusal.
const CODES: [RefusalCode; 10] = [
    RefusalCode::OfferNotAvailable,
    RefusalCode::OfferNotFound,
    RefusalCode::PriceBelowAsk,
    RefusalCode::PriceAboveOffer,
    RefusalCode::TermsMismatch,
    RefusalCode::OwnOffer,
    RefusalCode::BidExpired,
    RefusalCode::InvalidBid,
    RefusalCode::IdReuse,
    RefusalCode::Refused,
];

/// The bounds at which the core refuses an owner's command: of what there are too many, and the bound's name.
const COMMAND_BOUNDS: [(&str, &str); 6] = [
    ("offers of its own", "own_offers"),
    ("records", "records"),
    ("trades", "trades"),
    ("bids without an answer", "bids_in_doubt"),
    ("bids that were given up", "bids_given_up"),
    ("idempotency keys", "idempotency_keys"),
];

/// Refusals by their code.
#[derive(Debug, Default)]
struct ByCode([Counter; CODES.len()]);

impl ByCode {
    fn count(&self, code: RefusalCode) {
        let at = CODES.iter().position(|known| *known == code);
        self.0[at.unwrap_or(CODES.len() - 1)].inc();
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        CODES.iter().map(|code| code.as_str()).zip(&self.0)
    }
}

/// The writer's counters; shared with whoever sends to its inbox.
#[derive(Debug)]
pub(super) struct Meter {
    me: ClientId,
    /// Messages that were put into the inbox.
    pub(super) sent: Counter,
    /// Of these, the ones that the writer has taken out.
    pub(super) taken: Counter,
    /// Messages that found the inbox full.
    pub(super) inbox_full: Counter,
    /// Events that wait for company.
    pub(super) pending: Gauge,
    batch_inputs: Histogram,
    commit_events: Histogram,
    commit_seconds: Histogram,
    disk_full: Counter,
    failed: Counter,
    created: Counter,
    withdrawn: Counter,
    sold: Counter,
    recovered: Counter,
    heard: Counter,
    made: Counter,
    taken_part: Counter,
    placed: Counter,
    accepted: Counter,
    refused: ByCode,
    given_up: Counter,
    answered_accepted: Counter,
    answered_refused: ByCode,
    answered_behind: Counter,
    answered_trades_full: Counter,
    answered_storage_full: Counter,
    over: [Counter; COMMAND_BOUNDS.len()],
    over_maker: Counter,
    over_other: Counter,
}

impl Meter {
    /// For the node of this client.
    pub(super) fn new(me: ClientId) -> Self {
        Self {
            me,
            sent: Counter::default(),
            taken: Counter::default(),
            inbox_full: Counter::default(),
            pending: Gauge::default(),
            batch_inputs: Histogram::new(&SIZE),
            commit_events: Histogram::new(&SIZE),
            commit_seconds: Histogram::new(&LATENCY),
            disk_full: Counter::default(),
            failed: Counter::default(),
            created: Counter::default(),
            withdrawn: Counter::default(),
            sold: Counter::default(),
            recovered: Counter::default(),
            heard: Counter::default(),
            made: Counter::default(),
            taken_part: Counter::default(),
            placed: Counter::default(),
            accepted: Counter::default(),
            refused: ByCode::default(),
            given_up: Counter::default(),
            answered_accepted: Counter::default(),
            answered_refused: ByCode::default(),
            answered_behind: Counter::default(),
            answered_trades_full: Counter::default(),
            answered_storage_full: Counter::default(),
            over: Default::default(),
            over_maker: Counter::default(),
            over_other: Counter::default(),
        }
    }

    /// So many messages were taken out of the inbox at once.
    pub(super) fn took_batch(&self, inputs: usize) {
        self.taken.add(inputs as u64);
        self.batch_inputs.observe(inputs as u64);
    }

    /// These events are durable now.
    pub(super) fn committed(&self, events: &[Event], took: Duration) {
        self.commit_seconds.took(took);
        self.commit_events.observe(events.len() as u64);
        for event in events {
            self.happened(event);
        }
    }

    /// A commit failed.
    pub(super) fn not_committed(&self, disk_full: bool) {
        if disk_full { &self.disk_full } else { &self.failed }.inc();
    }

    fn happened(&self, event: &Event) {
        match event {
            Event::Own(OwnOffer { closed: None, .. }) => self.created.inc(),
            Event::Own(OwnOffer { closed: Some(Closed::Withdrawn), .. }) => self.withdrawn.inc(),
            Event::Own(OwnOffer { closed: Some(Closed::Sold(_)), .. }) => self.sold.inc(),
            Event::Own(OwnOffer { closed: Some(Closed::Recovered), .. }) => self.recovered.inc(),
            Event::Heard(_) => self.heard.inc(),
            Event::Traded(receipt) if receipt.trade().maker == self.me => self.made.inc(),
            Event::Traded(_) => self.taken_part.inc(),
            Event::BidOut(bid) => match &bid.outcome {
                BidOutcome::InDoubt => self.placed.inc(),
                BidOutcome::Accepted(_) => self.accepted.inc(),
                BidOutcome::Refused(refusal) => self.refused.count(refusal.code),
                BidOutcome::GivenUp { .. } => self.given_up.inc(),
            },
            // Answers are counted as they are given, since a repeated one makes no event; the rest is the core's housekeeping.
            _ => {}
        }
    }

    /// The owner gets this reply.
    pub(super) fn replied(&self, reply: &Reply) {
        if let Err(CommandError::Limit { what, .. }) = reply {
            let at = COMMAND_BOUNDS.iter().position(|(known, _)| known == what);
            at.map_or(&self.over_other, |at| &self.over[at]).inc();
        }
        if let Err(CommandError::MakerLimit { .. }) = reply {
            self.over_maker.inc();
        }
    }

    /// A bidder gets this answer.
    pub(super) fn answered(&self, answer: &Result<BidAnswer, NotNow>) {
        match answer {
            Ok(BidAnswer::Accepted { .. }) => self.answered_accepted.inc(),
            Ok(BidAnswer::Refused(refusal)) => self.answered_refused.count(refusal.code),
            Err(NotNow::StoreBehind) => self.answered_behind.inc(),
            Err(NotNow::TradesFull) => self.answered_trades_full.inc(),
            Err(NotNow::StorageFull) => self.answered_storage_full.inc(),
        }
    }

    /// Messages that wait in the inbox.
    pub(super) fn waiting(&self) -> u64 {
        let taken = self.taken.get();
        self.sent.get().saturating_sub(taken)
    }

    /// Writes everything but the queues down, in which `over_records` are the core's own hits of its bound for records.
    pub(super) fn write(&self, over_records: u64, page: &mut Page) {
        page.histogram(
            "vintner_commit_duration_seconds",
            "Time of one transaction, with its sync of the disk",
        )
        .spread(&[], &self.commit_seconds);
        page.histogram("vintner_commit_events", "Facts in one transaction").spread(&[], &self.commit_events);
        page.histogram(
            "vintner_batch_inputs",
            "Commands, answers and records that the writer handled at once",
        )
        .spread(&[], &self.batch_inputs);
        let mut failures =
            page.counter("vintner_commit_failures_total", "Transactions that could not be committed");
        failures.count(&[("reason", "disk_full")], &self.disk_full);
        failures.count(&[("reason", "failed")], &self.failed);

        let mut own = page.counter("vintner_own_offer_changes_total", "What became of offers of this node");
        for (change, counter) in [
            ("created", &self.created),
            ("sold", &self.sold),
            ("withdrawn", &self.withdrawn),
            ("recovered", &self.recovered),
        ] {
            own.count(&[("change", change)], counter);
        }
        page.counter(
            "vintner_records_taken_total",
            "New records and versions of other makers that were believed",
        )
        .count(&[], &self.heard);
        let mut trades = page.counter("vintner_trades_made_total", "Trades of this node");
        trades.count(&[("role", "maker")], &self.made);
        trades.count(&[("role", "taker")], &self.taken_part);

        page.counter("vintner_bids_placed_total", "Bids that this node made").count(&[], &self.placed);
        let mut resolved =
            page.counter("vintner_bids_resolved_total", "Bids of this node that their makers answered");
        resolved.count(&[("outcome", "accepted")], &self.accepted);
        for (code, counter) in self.refused.all() {
            resolved.count(&[("outcome", code)], counter);
        }
        page.counter("vintner_bids_given_up_total", "Bids of this node that its owner gave up")
            .count(&[], &self.given_up);
        let mut answers = page.counter(
            "vintner_bids_answered_total",
            "Answers to bids on offers of this node, repeated ones included; the last three are no decision yet",
        );
        answers.count(&[("outcome", "accepted")], &self.answered_accepted);
        for (code, counter) in self.answered_refused.all() {
            answers.count(&[("outcome", code)], counter);
        }
        answers.count(&[("outcome", "store_behind")], &self.answered_behind);
        answers.count(&[("outcome", "trades_full")], &self.answered_trades_full);
        answers.count(&[("outcome", "storage_full")], &self.answered_storage_full);

        for ((_, bound), counter) in COMMAND_BOUNDS.iter().zip(&self.over) {
            let also = if *bound == "records" { over_records } else { 0 };
            page.bound(bound, counter.get() + also);
        }
        page.bound("bids_in_doubt_of_maker", self.over_maker.get());
        page.bound("other", self.over_other.get());
        page.bound("writer_inbox", self.inbox_full.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_refuses_a_command_has_a_name() {
        let core = concat!(
            include_str!("../exchange/own.rs"),
            include_str!("../exchange/taker.rs"),
            include_str!("../exchange/give_up.rs")
        );
        let refusals = core.matches("what: \"").count() + core.matches("Err(limit(\"").count();
        for (what, _) in COMMAND_BOUNDS {
            assert!(core.contains(&format!("\"{what}\"")), "{what}");
        }
        assert_eq!(refusals, COMMAND_BOUNDS.len());
        let meter = Meter::new(crate::identity::MasterKey::from_bytes([1; 32]).client_key().public());
        for what in ["trades", "something new"] {
            meter.replied(&Err(CommandError::Limit { what, max: 1, advice: "" }));
        }
        let mut page = Page::default();
        meter.write(5, &mut page);
        let text = page.finish();
        for (bound, hits) in [("trades", 1), ("other", 1), ("own_offers", 0), ("records", 5)] {
            let line = format!("vintner_bound_hits_total{{bound=\"{bound}\"}} {hits}\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}
