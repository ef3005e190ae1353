//! Brings own records to the network and keeps them there.
//!
//! A new version is put (BEP44) after a moment that belongs to gossip, and then announced as `NEW_OFFER:<hash>` (a closed one at
//! leisure), and again with a growing pause until both succeeded. After that it is announced again every [`ANNOUNCE_EVERY`], and put
//! again every [`PUT_EVERY`], before the nodes that store it forget it; all that until it dies.

use super::{exchange::Exchange, listener::Listener, status::ReplicaView, writer::Publication};
use crate::{
    bep44::Target,
    dht::{Dht, DhtError, Put, PutOutcome},
    market::Offer,
    metrics::Counter,
};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What an announcement of an offer starts with; the hash follows in 40 hex digits.
pub(super) const ANNOUNCEMENT: &str = "NEW_OFFER:";
/// How long a version waits before it is put, on a node that has neighbours. Gossip brings it to the nodes of the market meanwhile,
/// undisturbed; and of an offer that is taken at once only the closed version is put.
const PUT_AFTER: Duration = Duration::from_millis(25);
/// How long it then waits before it is announced, and longer when many are closed, since closed records are announced
/// [`ANNOUNCE_APART`]: the nodes on which it was put have seen already that it is closed.
const ANNOUNCE_CLOSED_AFTER: Duration = Duration::from_millis(500);
/// How often a record is announced again, when there are few.
const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);
/// How far announcements are apart when there are many: ten a second.
const ANNOUNCE_APART: Duration = Duration::from_millis(100);
/// How often a record is put again. BEP44 lets nodes forget an item after two hours.
const PUT_EVERY: Duration = Duration::from_hours(1);
/// Records that are being brought out at the same time: enough to keep a neighbourhood of twenty busy, and so few that their
/// answers do not wait long enough in each other's line to look lost.
const IN_FLIGHT_MAX: usize = 32;
/// The same while gossip brings the news: the owner's requests and the neighbours go first. 2,200 creates a second instead of 1,860.
const IN_FLIGHT_AT_LEISURE: usize = 8;
/// A record that has waited for so long is at leisure no longer.
const LATE_AFTER: Duration = Duration::from_secs(5);
/// How often a version is brought to the nodes that missed it, before it is left to the renewals.
const FOLLOW_UPS_MAX: u32 = 5;
/// The first pause after a failure, or before a follow-up; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// One own record on its way out.
struct Record {
    offer: Arc<Offer>,
    /// When this version was put last.
    put_at: Option<Instant>,
    stored_on: usize,
    failures: u32,
    follow_ups: u32,
    /// When it is due, unless it is in flight.
    due: Option<Instant>,
    /// A newer version came while an older one was in flight.
    again: bool,
}

/// What came of one attempt.
struct Attempt {
    target: Target,
    sequence: u64,
    put: Option<Result<PutOutcome, DhtError>>,
    /// `None`: it is announced by the next attempt.
    announced: Option<Result<usize, DhtError>>,
}

/// Attempts to bring records out, by what came of them.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Stored and announced wherever it was asked.
    pub(super) done: Counter,
    /// Stored or announced, but some nodes missed it: followed up.
    pub(super) missed: Counter,
    /// Not stored, or not announced: tried again.
    pub(super) failed: Counter,
}

pub(super) struct Publisher {
    dht: Dht,
    exchange: Exchange,
    listener: Listener,
    replica: Arc<ArcSwap<ReplicaView>>,
    rpc_port: u16,
    records: HashMap<Target, Record>,
    due: BTreeSet<(Instant, Target)>,
    /// When the latest of the closed records will be announced for the first time.
    last_closed: Instant,
    attempts: JoinSet<Attempt>,
    pub(super) counted: Arc<Attempts>,
}

impl Publisher {
    pub(super) fn new(
        dht: Dht,
        exchange: Exchange,
        listener: Listener,
        replica: Arc<ArcSwap<ReplicaView>>,
        rpc_port: u16,
    ) -> Self {
        let (records, due, attempts) = (HashMap::new(), BTreeSet::new(), JoinSet::new());
        let (last_closed, counted) = (Instant::now(), Arc::default());
        Self { dht, exchange, listener, replica, rpc_port, records, due, last_closed, attempts, counted }
    }

    /// Works until the core is gone.
    pub(super) async fn run(mut self, mut publications: mpsc::UnboundedReceiver<Publication>) {
        loop {
            let next = self.due.first().map(|(at, _)| *at).filter(|_| self.has_room());
            tokio::select! {
                publication = publications.recv() => match publication {
                    Some(Publication::Publish(offer)) => {
                        self.publish(offer);
                    }
                    Some(Publication::Unpublish(target)) => self.unpublish(target),
                    None => return,
                },
                Some(attempt) = self.attempts.join_next() => {
                    if let Ok(attempt) = attempt {
                        self.finished(attempt).await;
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.start_due(),
            }
        }
    }

    fn publish(&mut self, offer: Arc<Offer>) {
        let target = offer.target();
        if self.records.get(&target).is_some_and(|r| r.offer.sequence >= offer.sequence) {
            // A core that was rebuilt after a full disk begins with everything; what is under way goes on.
            return;
        }
        let in_flight = self.records.get(&target).is_some_and(|r| r.due.is_none());
        self.unschedule(target);
        let record = Record {
            offer,
            put_at: None,
            stored_on: 0,
            failures: 0,
            follow_ups: 0,
            due: None,
            again: in_flight,
        };
        self.records.insert(target, record);
        if !in_flight {
            self.schedule(target, if self.has_neighbours() { PUT_AFTER } else { Duration::ZERO });
        }
        self.start_due();
    }

    fn has_neighbours(&self) -> bool {
        !self.replica.load().status.neighbours.is_empty()
    }

    /// Whether one more record may be brought out.
    fn has_room(&self) -> bool {
        let is_late = || self.due.first().is_some_and(|(at, _)| at.elapsed() >= LATE_AFTER);
        let at_leisure = self.has_neighbours() && !is_late();
        self.attempts.len() < if at_leisure { IN_FLIGHT_AT_LEISURE } else { IN_FLIGHT_MAX }
    }

    fn unpublish(&mut self, target: Target) {
        self.unschedule(target);
        self.records.remove(&target);
    }

    fn unschedule(&mut self, target: Target) {
        if let Some(at) = self.records.get_mut(&target).and_then(|r| r.due.take()) {
            self.due.remove(&(at, target));
        }
    }

    fn schedule(&mut self, target: Target, pause: Duration) {
        let at = Instant::now() + pause;
        if let Some(record) = self.records.get_mut(&target) {
            record.due = Some(at);
            self.due.insert((at, target));
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let Some((_, target)) = self.due.first().copied().filter(|(at, _)| *at <= now) else { return };
            self.unschedule(target);
            let Some(record) = self.records.get(&target) else { continue };
            let put = record.put_at.is_none_or(|at| now.duration_since(at) >= PUT_EVERY);
            let announce = record.offer.availability || record.stored_on > 0;
            let (dht, offer) = (self.dht.clone(), Arc::clone(&record.offer));
            self.attempts.spawn(attempt(dht, offer, put, announce.then_some(self.rpc_port)));
        }
    }

    async fn finished(&mut self, attempt: Attempt) {
        let Attempt { target, sequence, put, announced } = attempt;
        let newer_elsewhere = match &put {
            Some(Ok(outcome)) => outcome.refused_302 > 0,
            Some(Err(DhtError::Refused(refusal))) => refusal.code == 302,
            _ => false,
        };
        if newer_elsewhere {
            // The network holds a version of our own record that we did not write: the core must see it.
            self.listener.fetch(target);
        }
        let count = self.records.len() as u32;
        let Some(record) = self.records.get_mut(&target) else { return };
        if std::mem::take(&mut record.again) {
            self.schedule(target, Duration::ZERO);
            return self.start_due();
        }
        let mut missed = false;
        if let Some(Ok(outcome)) = &put {
            record.stored_on = outcome.acked;
            // Some always answer late or lose a datagram, and get the news from others or in a minute; where most did, it comes again soon.
            let heard_by = announced.as_ref().and_then(|announced| announced.as_ref().ok());
            let few = |n: usize| n * 2 < outcome.asked;
            missed = few(outcome.acked) || heard_by.is_some_and(|n| few(*n));
            missed &= record.follow_ups < FOLLOW_UPS_MAX;
            record.put_at = Some(Instant::now()).filter(|_| !missed);
        }
        let (id, stored_on) = (record.offer.id, record.stored_on);
        match (put.is_none_or(|put| put.is_ok()), announced) {
            (true, None) => {
                record.failures = 0;
                let pause = if missed {
                    RETRY_MIN * (1 << record.follow_ups)
                } else {
                    let now = Instant::now();
                    self.last_closed = (now + ANNOUNCE_CLOSED_AFTER).max(self.last_closed + ANNOUNCE_APART);
                    self.last_closed - now
                };
                record.follow_ups += u32::from(missed);
                self.schedule(target, pause);
                self.exchange.published(id, sequence, stored_on as u32, 0).await;
            }
            (true, Some(Ok(announced_to))) => {
                record.failures = 0;
                if missed { &self.counted.missed } else { &self.counted.done }.inc();
                let pause = if missed {
                    RETRY_MIN * (1 << record.follow_ups)
                } else {
                    ANNOUNCE_EVERY.max(ANNOUNCE_APART * count)
                };
                record.follow_ups += u32::from(missed);
                self.schedule(target, pause);
                self.exchange.published(id, sequence, stored_on as u32, announced_to as u32).await;
            }
            (_, announced) => {
                let pause = RETRY_MIN.saturating_mul(1 << record.failures.min(16)).min(RETRY_MAX);
                record.failures += 1;
                self.counted.failed.inc();
                tracing::debug!(offer = %id, ?announced, "not published yet; tried again in {pause:?}");
                self.schedule(target, pause);
            }
        }
        self.start_due();
    }
}

/// Puts the record, if `put`, and announces `rpc_port` under its name, if there is one.
async fn attempt(dht: Dht, offer: Arc<Offer>, put: bool, rpc_port: Option<u16>) -> Attempt {
    let (target, sequence) = (offer.target(), offer.sequence);
    let put =
        if put { Some(dht.put(Put::Mutable { item: offer.item().clone(), cas: None }).await) } else { None };
    let announced = match (&put, rpc_port) {
        (Some(Err(_)), _) => Some(Err(DhtError::NoNodes)),
        (_, Some(port)) => Some(dht.announce(format!("{ANNOUNCEMENT}{target}").as_bytes(), port).await),
        (_, None) => None,
    };
    Attempt { target, sequence, put, announced }
}
