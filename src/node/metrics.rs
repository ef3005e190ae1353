//! A node on the page that Prometheus reads. Whatever the node knows anyway is read here, when somebody asks.

use super::{Node, clock, status::ReplicaView};
use crate::{
    dht::core::krpc::code,
    exchange::{BidOutcome, OverLimit, State},
    metrics::Page,
    replication::core::Counters,
    standing::{self, Code, Level},
    time::UnixMillis,
};
use std::{fs, path::Path, time::Duration};

impl Node {
    /// Writes everything down.
    pub fn write_metrics(&self, page: &mut Page) {
        let inner = &*self.inner;
        let snapshot = inner.exchange.snapshot();
        inner.exchange.meter.write(snapshot.counters.over.records, page);
        market(&snapshot.state, page);
        outbox(&snapshot.state, clock::now(), page);
        replica(&inner.replica.load(), page);
        self.write_standing(page);
        self.write_heard(page);
        self.write_queues(page);
        self.write_store(&snapshot.state, page);
        let mut published = page.counter(
            "vintner_publications_total",
            "Attempts to store and announce own records, renewals included",
        );
        published.count(&[("outcome", "done")], &inner.published.done);
        published.count(&[("outcome", "missed")], &inner.published.missed);
        published.count(&[("outcome", "failed")], &inner.published.failed);
        inner.contacts.write(page);
        page.bound("dial_backs", inner.dial_backs_refused.get());
        inner.rpc_served.write(
            ("vintner_rpc_requests_total", "Requests of other nodes, by command and outcome"),
            ("vintner_rpc_request_duration_seconds", "Time from a request of another node to its answer"),
            page,
        );
        page.bound("rpc_rate", inner.rpc_served.total("rate_limited"));
        page.bound("rpc_frame_bytes", inner.rpc_served.total("too_big"));
        inner.rpc_called.write(
            ("vintner_rpc_calls_total", "Requests to other nodes, by command and outcome"),
            ("vintner_rpc_call_duration_seconds", "Time from a request to another node to its answer"),
            page,
        );
        inner.rpc_traffic.write(
            "vintner_rpc_connections",
            ["rpc_connections_per_address", "rpc_connections"],
            page,
        );
        inner.dht.status().write(page);
    }

    /// What was heard of others' records, and why some of it was not believed.
    fn write_heard(&self, page: &mut Page) {
        let Self { inner } = self;
        page.counter("vintner_announcements_heard_total", "Announcements of offers, repeated ones included")
            .count(&[], &inner.heard.announcements);
        let (counters, dht) = (inner.exchange.snapshot().counters, inner.dht.status());
        let mut refused = page.counter(
            "vintner_records_refused_total",
            "Records that were not taken; the DHT part refuses those with a bad signature or too long a value",
        );
        for (reason, count) in inner.heard.refused() {
            refused.at(&[("reason", reason)], count);
        }
        for (reason, count) in [
            ("stale", counters.records_known),
            ("dead", counters.records_dead),
            ("from_the_future", counters.records_parked),
            ("equivocation", counters.equivocations),
            ("limit", counters.over.records + counters.over.parked + counters.over.ahead),
            ("bad_signature", dht.bad_signatures),
            ("too_big", dht.errors_out.of(code::VALUE_TOO_BIG) + dht.errors_out.of(code::SALT_TOO_BIG)),
        ] {
            refused.at(&[("reason", reason)], count);
        }
        page.counter(
            "vintner_answers_mismatched_total",
            "Makers' answers that did not belong to the bid asked",
        )
        .is(counters.answers_mismatched);
        let OverLimit { parked, equivocations, ahead, refusals_given, refusals_received, waiters, .. } =
            counters.over;
        page.bound("parked_records", parked);
        page.bound("equivocations", equivocations);
        page.bound("records_ahead", ahead);
        page.bound("refusals_given", refusals_given);
        page.bound("refusals_received", refusals_received);
        page.bound("bid_waiters", waiters);
        inner.heard.write_bounds(page);
    }

    fn write_queues(&self, page: &mut Page) {
        let (meter, load) = (&self.inner.exchange.meter, self.inner.workers.load());
        let begun = load.begun.get();
        let mut depth = page.gauge("vintner_queue_depth", "What waits inside the node");
        for (queue, waiting) in [
            ("writer_inbox", meter.waiting()),
            ("lazy_events", meter.pending.get()),
            ("signature_checks", load.taken.get().saturating_sub(begun)),
            ("announcements", self.inner.heard.waiting.get()),
        ] {
            depth.at(&[("queue", queue)], waiting);
        }
        page.bound("signature_checks", load.refused.get());
        if let Some(once) = self.inner.workers.once() {
            let mut signatures = page.counter(
                "vintner_record_signatures_total",
                "Signatures of records and proofs that came, whichever way",
            );
            signatures.count(&[("outcome", "checked")], &once.checked);
            signatures.count(&[("outcome", "known")], &once.spared);
        }
        let hits = self.inner.replication.hits();
        page.bound("replication_inbox", hits.inbox.get());
        page.bound("replication_bytes", hits.bytes.get());
        page.bound("replication_queue", hits.queue.get());
    }

    fn write_store(&self, state: &State, page: &mut Page) {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let mut log = self.inner.store_path.clone().into_os_string();
        log.push("-wal");
        let mut bytes = page.gauge("vintner_store_bytes", "The store on disk");
        bytes.at(&[("file", "database")], size(&self.inner.store_path));
        bytes.at(&[("file", "log")], size(Path::new(&log)));
        let mut dropped = page.counter(
            "vintner_store_rows_dropped_total",
            "Rows of what the network tells again that were damaged and dropped at the start",
        );
        dropped.count(&[("table", "records")], &self.inner.dropped.records);
        dropped.count(&[("table", "heads")], &self.inner.dropped.heads);
        page.gauge(
            "vintner_store_behind",
            "1 while the network knows newer versions of own records than the store",
        )
        .is(u8::from(state.is_behind()));
    }

    /// The account of how the node stands.
    fn write_standing(&self, page: &mut Page) {
        let reasons = self.inner.reasons();
        let ready = standing::is_well(&reasons, Level::Fail);
        page.gauge("vintner_ready", "1 while the node can trade, as /readyz says").is(u8::from(ready));
        page.gauge("vintner_synced", "1 while everything is held that is on offer")
            .is(u8::from(standing::is_synced(&reasons)));
        let mut gauge =
            page.gauge("vintner_reason", "1 while this is a reason of the account of how the node stands");
        for code in Code::ALL {
            let is_reason = reasons.iter().any(|reason| reason.code == *code);
            let labels = [("code", code.as_str()), ("level", code.level().as_str())];
            gauge.at(&labels, u8::from(is_reason));
        }
    }
}

fn market(state: &State, page: &mut Page) {
    for (name, help, value) in [
        (
            "vintner_offers_listed",
            "Offers that can be taken, own ones included",
            state.market.available.len(),
        ),
        (
            "vintner_offers_stale",
            "Offers that could be taken if their makers were not silent",
            state.market.available_stale.len(),
        ),
        (
            "vintner_offers_own",
            "Offers of this node that are not dead, closed ones included",
            state.own.len(),
        ),
        ("vintner_records", "Records held, closed ones included", state.market.records.len()),
        (
            "vintner_records_equivocated",
            "Records that their makers signed twice",
            state.market.equivocated.len(),
        ),
        ("vintner_trades", "Trades held", state.trades.len()),
    ] {
        page.gauge(name, help).is(value);
    }
}

/// What must still reach somebody: bids without an answer, and versions of own records that the DHT does not have.
fn outbox(state: &State, now: UnixMillis, page: &mut Page) {
    let age = |since: Option<UnixMillis>| since.map_or(Duration::ZERO, |at| now.since(at)).as_secs_f64();
    // The newest first, and no further than the last of them: bids that are settled make the long tail.
    let in_doubt = state.bids_out.values().rev().filter(|bid| bid.outcome == BidOutcome::InDoubt);
    let oldest_bid = in_doubt.take(state.bids_in_doubt).map(|bid| bid.bid.created_at).min();
    let is_out = |own: &&crate::exchange::OwnOffer| {
        own.published.is_some_and(|published| published.sequence == own.offer.sequence)
    };
    let (mut unpublished, mut oldest_record) = (0_usize, None);
    for own in state.own.values().filter(|own| !is_out(own)) {
        let at = UnixMillis(own.offer.sequence);
        unpublished += 1;
        oldest_record = Some(oldest_record.map_or(at, |oldest: UnixMillis| oldest.min(at)));
    }
    let mut size =
        page.gauge("vintner_outbox_size", "Bids without an answer, and records that the DHT lacks");
    size.at(&[("kind", "bid")], state.bids_in_doubt);
    size.at(&[("kind", "record")], unpublished);
    let mut oldest = page.gauge("vintner_outbox_oldest_seconds", "Age of the oldest of them");
    oldest.at(&[("kind", "bid")], age(oldest_bid));
    oldest.at(&[("kind", "record")], age(oldest_record));
}

/// Who passes records on to this node, what it misses, and how it got what it has.
fn replica(view: &ReplicaView, page: &mut Page) {
    let ReplicaView { status, counters, .. } = view;
    page.gauge("vintner_replication_neighbours", "Nodes that pass records on to this one")
        .is(status.neighbours.len());
    let mut makers = page.gauge("vintner_replication_makers", "Other makers");
    for (state, count) in [("known", status.makers), ("stale", status.stale), ("behind", status.behind)] {
        makers.at(&[("state", state)], count);
    }
    let Counters {
        records_received,
        duplicates,
        heads,
        wanted,
        jobs,
        jobs_in_vain,
        neighbours_lost,
        punished,
        not_told,
        strangers,
        over_judged,
        over_missing,
        over_jobs,
        over_makers,
    } = *counters;
    for (name, help, count) in [
        ("vintner_replication_records_received_total", "Records that neighbours sent", records_received),
        ("vintner_replication_duplicates_total", "Those of them that had been heard before", duplicates),
        ("vintner_replication_heads_total", "Heads of other makers that were news", heads),
        (
            "vintner_replication_wanted_total",
            "Records that were asked for because only their names came",
            wanted,
        ),
        (
            "vintner_replication_comparisons_total",
            "Comparisons of what is held of a maker with its head",
            jobs,
        ),
        (
            "vintner_replication_comparisons_in_vain_total",
            "Those of them that did not show all that the head says",
            jobs_in_vain,
        ),
        ("vintner_replication_neighbours_lost_total", "Neighbours that were lost", neighbours_lost),
        (
            "vintner_replication_punished_total",
            "Nodes that were left alone because they sent what cannot be honest",
            punished,
        ),
        ("vintner_replication_not_told_total", "Questions about times that nothing is known of", not_told),
        ("vintner_replication_strangers_total", "Messages of nodes that are no neighbours", strangers),
    ] {
        page.counter(name, help).is(count);
    }
    page.bound("replication_judged", over_judged);
    page.bound("replication_missing", over_missing);
    page.bound("replication_jobs", over_jobs);
    page.bound("replication_makers", over_makers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::MasterKey, replication::core::Status};
    use std::sync::Arc;

    #[test]
    fn the_page_says_of_the_replica_what_its_driver_says() {
        let page = |view: &ReplicaView| {
            let mut page = Page::default();
            replica(view, &mut page);
            page.finish()
        };
        let neighbours = vec![MasterKey::from_bytes([1; 32]).client_key().public()];
        let view = ReplicaView {
            status: Status {
                neighbours,
                makers: 5,
                stale: 2,
                records: 9,
                knows_own: true,
                ..Status::default()
            },
            counters: Counters {
                duplicates: 3,
                jobs: 4,
                jobs_in_vain: 1,
                over_jobs: 6,
                ..Counters::default()
            },
            looked: true,
            looked_in_dht: true,
            silent: Arc::default(),
        };
        let text = page(&view);
        for line in [
            "vintner_replication_neighbours 1",
            "vintner_replication_makers{state=\"known\"} 5",
            "vintner_replication_makers{state=\"stale\"} 2",
            "vintner_replication_makers{state=\"behind\"} 0",
            "vintner_replication_duplicates_total 3",
            "vintner_replication_comparisons_total 4",
            "vintner_replication_comparisons_in_vain_total 1",
            "vintner_bound_hits_total{bound=\"replication_jobs\"} 6",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
    }
}
