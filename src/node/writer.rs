//! The writer: the one thread that owns the exchange core and its journal.
//!
//! It drains its inbox into a batch, has the core handle it, commits everything that must be durable in one transaction, shows
//! readers the new snapshot, and only then lets effects go. While it waits for the disk the inbox fills, so the next batch is
//! larger: group commit needs no timer. Events that the network would tell again (other makers' records) wait for the next
//! durable commit, or for [`LAZY_AFTER`].

use super::{
    clock,
    exchange::{Exchange, Snapshot},
    meter::Meter,
};
use crate::{
    bep44::Target,
    exchange::{self, BidAnswer, Core, Effect, Event, Input, NotNow, Output, Reply, ReplyTo, run_batch},
    identity::{MasterKey, Network, Signed},
    market::{Bid, Offer},
    time::UnixMillis,
};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait. At 3,500 creates a second this is about a second of work; beyond it callers are told 429.
const INBOX_MAX: usize = 4096;
/// Inputs in one transaction: large enough that the disk's sync costs each little, small enough to stay near 10 ms.
const BATCH_MAX: usize = 256;
/// How long an event that need not be durable may wait for company: at most forty commits a second for hints alone.
const LAZY_AFTER: Duration = Duration::from_millis(25);
/// How many of them may.
const LAZY_MAX: usize = 2048;
/// How often time is looked at when nothing is due: bounds the error after the machine was asleep.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// Where events become durable.
pub trait Journal: Send + 'static {
    /// Everything that was committed, as events that rebuild the state.
    fn load(&mut self) -> Result<Vec<Event>, JournalError>;
    /// All or nothing, and on disk on return.
    fn commit(&mut self, events: &[Event]) -> Result<(), JournalError>;
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No space: nothing was written, and the next try may succeed.
    #[error("the disk is full")]
    Full,
    /// Anything else: the process must stop rather than go on with memory ahead of disk.
    #[error("{0}")]
    Failed(String),
}

/// Who waits for a reply.
#[derive(Debug)]
pub(super) enum Responder {
    Owner(oneshot::Sender<Reply>),
    Bidder(oneshot::Sender<Result<BidAnswer, NotNow>>),
}

/// What the inbox holds.
#[derive(Debug)]
pub(super) enum Message {
    Input(Box<Input>, Option<(ReplyTo, Responder)>),
    /// Commit what is pending and end.
    Stop,
}

/// Where effects go that are not replies. The channels have no bound of their own: what they carry is bounded by the core's
/// limits (one question a bid in doubt) or is taken off at once into a map by record (publications).
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) asks: mpsc::UnboundedSender<Signed<Bid>>,
    pub(super) publications: mpsc::UnboundedSender<Publication>,
    pub(super) fetches: mpsc::UnboundedSender<Target>,
}

/// What the publisher is told.
#[derive(Debug)]
pub(super) enum Publication {
    Publish(Arc<Offer>),
    Unpublish(Target),
}

/// Ends the writer thread and says how it ended.
#[derive(Debug)]
pub(super) struct WriterThread {
    inbox: SyncSender<Message>,
    /// Resolves when the thread ends: an error is a commit that failed for good.
    pub(super) ended: oneshot::Receiver<Result<(), JournalError>>,
}

impl WriterThread {
    /// Asks the thread to commit what is pending and end. Waits in a full inbox's line.
    pub(super) fn stop(&self) {
        // An error means that it has ended already.
        let _ = self.inbox.send(Message::Stop);
    }
}

/// Rebuilds the core from the journal and starts the writer.
pub(super) fn start<J: Journal>(
    master: MasterKey,
    network: Network,
    mut journal: J,
    outlets: Outlets,
) -> Result<(Exchange, WriterThread), StartError> {
    let stored = journal.load()?;
    let (core, output) = Core::restore(master, network, seed()?, stored, clock::now());
    let (inbox, queue) = sync_channel(INBOX_MAX);
    let snapshot = Arc::new(ArcSwap::new(Snapshot::of(&core)));
    let meter = Arc::new(Meter::new(core.client_id()));
    let exchange = Exchange {
        inbox: inbox.clone(),
        snapshot: Arc::clone(&snapshot),
        next_reply: Arc::new(AtomicU64::new(0)),
        client_id: core.client_id(),
        network: core.network().clone(),
        meter: Arc::clone(&meter),
    };
    let (report, ended) = oneshot::channel();
    let pending = Pending { events: output.events, since: Instant::now() };
    let mut writer =
        Writer { core: Some(core), journal, pending, snapshot, outlets, responders: HashMap::new(), meter };
    thread::Builder::new().name("writer".into()).spawn(move || {
        writer.release(output.effects);
        let result = writer.run(&queue);
        // Whoever hears that it ended may open the data directory again at once.
        drop(writer);
        // Nobody may be left to hear it.
        let _ = report.send(result);
    })?;
    Ok((exchange, WriterThread { inbox, ended }))
}

/// Why the writer did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Journal(#[from] JournalError),
    /// No thread, or no randomness.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

/// Events that wait to be committed, and since when.
struct Pending {
    events: Vec<Event>,
    since: Instant,
}

impl Pending {
    fn add(&mut self, events: Vec<Event>) {
        if self.events.is_empty() {
            self.since = Instant::now();
        }
        self.events.extend(events);
    }

    fn is_due(&self) -> bool {
        !self.events.is_empty()
            && (self.events.len() >= LAZY_MAX || self.since.elapsed() >= LAZY_AFTER || self.must_be_durable())
    }

    fn must_be_durable(&self) -> bool {
        self.events.iter().any(Event::must_be_durable)
    }

    /// Waits for space on the disk, with the latest of the events.
    fn postpone(&mut self) {
        let surplus = self.events.len().saturating_sub(LAZY_MAX / 2);
        self.events.drain(..surplus);
        self.since = Instant::now();
    }
}

struct Writer<J> {
    /// Taken out only while it is rebuilt.
    core: Option<Core>,
    journal: J,
    pending: Pending,
    snapshot: Arc<ArcSwap<Snapshot>>,
    outlets: Outlets,
    responders: HashMap<ReplyTo, Responder>,
    meter: Arc<Meter>,
}

impl<J: Journal> Writer<J> {
    fn run(&mut self, queue: &Receiver<Message>) -> Result<(), JournalError> {
        loop {
            let first = match queue.recv_timeout(self.pause(clock::now())) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
            };
            let (batch, stop) = self.take_batch(first, queue);
            self.handle(batch)?;
            if stop {
                self.flush()?;
                let waiting = self.core.as_mut().map(Core::let_callers_go);
                self.release(waiting.unwrap_or_default());
                return Ok(());
            }
        }
    }

    /// How long nothing has to be done.
    fn pause(&self, now: UnixMillis) -> Duration {
        let timer = self.core.as_ref().and_then(Core::next_timeout).map_or(IDLE_MAX, |at| at.since(now));
        let lazy = if self.pending.events.is_empty() {
            IDLE_MAX
        } else {
            LAZY_AFTER.saturating_sub(self.pending.since.elapsed())
        };
        timer.min(lazy).min(IDLE_MAX)
    }

    fn take_batch(&mut self, first: Option<Message>, queue: &Receiver<Message>) -> (Vec<Input>, bool) {
        let mut batch = Vec::new();
        for message in first.into_iter().chain(queue.try_iter()) {
            match message {
                Message::Stop => return (batch, true),
                Message::Input(input, responder) => {
                    self.responders.extend(responder);
                    batch.push(*input);
                }
            }
            if batch.len() >= BATCH_MAX {
                break;
            }
        }
        if batch.is_empty() {
            batch.push(Input::Tick);
        } else {
            self.meter.took_batch(batch.len());
        }
        (batch, false)
    }

    fn handle(&mut self, batch: Vec<Input>) -> Result<(), JournalError> {
        let Some(mut core) = self.core.take() else { unreachable!("the core is put back after each batch") };
        let mut released = Vec::new();
        let (pending, journal, snapshot) = (&mut self.pending, &mut self.journal, &self.snapshot);
        let meter = &self.meter;
        let commit_due = |core: &Core, events: Vec<Event>| {
            let changed = !events.is_empty();
            pending.add(events);
            if pending.is_due() {
                match commit(journal, &pending.events, meter) {
                    Ok(()) => pending.events.clear(),
                    // The network would tell it again: no reason to give up what memory knows.
                    Err(JournalError::Full) if !pending.must_be_durable() => pending.postpone(),
                    Err(error) => return Err(error),
                }
            }
            meter.pending.set(pending.events.len());
            // Timers close expired offers, and records are refused, without an event: cheap enough to show after every batch.
            let shown = snapshot.load();
            if changed
                || core.state().market.available.len() != shown.state.market.available.len()
                || core.counters() != shown.counters
            {
                snapshot.store(Snapshot::of(core));
            }
            Ok(())
        };
        match run_batch(&mut core, clock::now(), batch, commit_due, |effects| released = effects) {
            Ok(()) => {
                self.core = Some(core);
                self.release(released);
                Ok(())
            }
            Err(exchange::BatchError { error: JournalError::Full, withheld }) => self.rebuild(core, withheld),
            Err(exchange::BatchError { error, .. }) => Err(error),
        }
    }

    /// The disk is full: memory goes back to what is stored, and everybody hears that nothing happened.
    fn rebuild(&mut self, failed: Core, withheld: Vec<Effect>) -> Result<(), JournalError> {
        tracing::error!("the disk of the data directory is full: writes are refused until there is space");
        self.pending.events.clear();
        let stored = self.journal.load()?;
        let seed = seed().map_err(|error| JournalError::Failed(error.to_string()))?;
        let (core, Output { events, effects }) =
            exchange::rebuild(failed, withheld, stored, seed, clock::now());
        self.pending.add(events);
        self.snapshot.store(Snapshot::of(&core));
        self.core = Some(core);
        self.release(effects);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.pending.events.is_empty() {
            return Ok(());
        }
        match commit(&mut self.journal, &self.pending.events, &self.meter) {
            Err(JournalError::Full) if !self.pending.must_be_durable() => Ok(()),
            result => result,
        }
    }

    /// Lets effects go. A receiver that is gone has stopped waiting, or the node is stopping: the store knows what is open.
    fn release(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { to, reply } => {
                    self.meter.replied(&reply);
                    if let Some(Responder::Owner(responder)) = self.responders.remove(&to) {
                        let _ = responder.send(reply);
                    }
                }
                Effect::Answer { to, answer } => {
                    self.meter.answered(&answer);
                    if let Some(Responder::Bidder(responder)) = self.responders.remove(&to) {
                        let _ = responder.send(answer);
                    }
                }
                Effect::Ask(bid) => drop(self.outlets.asks.send(bid)),
                Effect::Publish(offer) => drop(self.outlets.publications.send(Publication::Publish(offer))),
                Effect::Unpublish(target) => {
                    drop(self.outlets.publications.send(Publication::Unpublish(target)));
                }
                Effect::Fetch(target) => drop(self.outlets.fetches.send(target)),
            }
        }
    }
}

fn commit(journal: &mut impl Journal, events: &[Event], meter: &Meter) -> Result<(), JournalError> {
    let started = Instant::now();
    let result = journal.commit(events);
    match &result {
        Ok(()) => meter.committed(events, started.elapsed()),
        Err(error) => meter.not_committed(matches!(error, JournalError::Full)),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{CommandError, Done, IdempotencyKey, OfferRef},
        market::{Acceptance, Currency, IdMint, NewOffer, Side, Terms},
    };
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    /// A journal in memory that fails when it is told to.
    #[derive(Clone, Default)]
    struct Fake {
        events: Arc<Mutex<Vec<Event>>>,
        commits: Arc<AtomicUsize>,
        /// `Some(full)`: the next commits fail, as a full disk or for good.
        failing: Arc<Mutex<Option<bool>>>,
    }

    impl Journal for Fake {
        fn load(&mut self) -> Result<Vec<Event>, JournalError> {
            Ok(self.events.lock().unwrap().clone())
        }
        fn commit(&mut self, events: &[Event]) -> Result<(), JournalError> {
            match *self.failing.lock().unwrap() {
                Some(true) => return Err(JournalError::Full),
                Some(false) => return Err(JournalError::Failed("the disk is gone".into())),
                None => {}
            }
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.events.lock().unwrap().extend_from_slice(events);
            Ok(())
        }
    }

    fn started(journal: &Fake) -> (Exchange, WriterThread, mpsc::UnboundedReceiver<Publication>) {
        let (asks, _) = mpsc::unbounded_channel();
        let (publications, published) = mpsc::unbounded_channel();
        let (fetches, _) = mpsc::unbounded_channel();
        let outlets = Outlets { asks, publications, fetches };
        let network = "test".parse().unwrap();
        let (exchange, thread) =
            start(MasterKey::from_bytes([1; 32]), network, journal.clone(), outlets).unwrap();
        (exchange, thread, published)
    }

    fn new_offer() -> NewOffer {
        let (btc_quantity, offer_price) = ("1".parse().unwrap(), "100".parse().unwrap());
        let expires_at = clock::now().plus(Duration::from_hours(1));
        NewOffer {
            terms: Terms { side: Side::Sell, btc_quantity, offer_price, currency: Currency::USD },
            acceptance: Acceptance::First,
            expires_at,
            dies_at: expires_at,
            memo: None,
        }
    }

    fn counted(exchange: &Exchange, line: &str) -> bool {
        let mut page = crate::metrics::Page::default();
        exchange.meter.write(0, &mut page);
        page.finish().lines().any(|found| found == line)
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_in_the_journal_and_in_the_snapshot() {
        let journal = Fake::default();
        let (exchange, thread, _published) = started(&journal);
        let Ok(Done::Created { offer, again: false }) = exchange.create(new_offer(), None).await else {
            panic!()
        };
        assert!(exchange.snapshot().state.own.contains_key(&offer));
        assert!(
            journal
                .events
                .lock()
                .unwrap()
                .iter()
                .any(|e| matches!(e, Event::Own(own) if own.offer.id == offer))
        );
        thread.stop();
        assert!(thread.ended.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_commits() {
        let journal = Fake::default();
        let (exchange, _thread, _published) = started(&journal);
        let creates: Vec<_> = (0..500)
            .map(|_| {
                let exchange = exchange.clone();
                tokio::spawn(async move { exchange.create(new_offer(), None).await })
            })
            .collect();
        for create in creates {
            assert!(create.await.unwrap().is_ok());
        }
        let commits = journal.commits.load(Ordering::Relaxed);
        assert!(counted(&exchange, "vintner_batch_inputs_sum 500") && exchange.meter.waiting() == 0);
        assert!(counted(&exchange, &format!("vintner_commit_duration_seconds_count {commits}")));
        assert!(commits < 500, "{commits} commits for 500 offers");
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
        let journal = Fake::default();
        let (exchange, _thread, mut published) = started(&journal);
        exchange.create(new_offer(), None).await.unwrap();
        published.recv().await.unwrap();

        *journal.failing.lock().unwrap() = Some(true);
        let key = || Some(IdempotencyKey { key: "k".into(), request_sha256: [0; 32] });
        assert_eq!(exchange.create(new_offer(), key()).await, Err(CommandError::StorageFull));
        assert!(counted(&exchange, "vintner_commit_failures_total{reason=\"disk_full\"} 1"));
        assert!(
            counted(&exchange, "vintner_own_offer_changes_total{change=\"created\"} 1"),
            "what is durable only"
        );
        assert_eq!(exchange.snapshot().state.own.len(), 1, "memory went back to what is stored");
        // What is stored is published again by the rebuilt core; what was refused never is.
        assert!(matches!(published.recv().await, Some(Publication::Publish(_))));
        assert!(published.try_recv().is_err());

        *journal.failing.lock().unwrap() = None;
        let again = exchange.create(new_offer(), key()).await;
        assert!(matches!(again, Ok(Done::Created { again: false, .. })), "{again:?}");
    }

    #[tokio::test]
    async fn who_waits_for_a_maker_when_the_node_stops_hears_of_his_stored_bid() {
        let journal = Fake::default();
        let (exchange, thread, _published) = started(&journal);
        let (maker, network) = (MasterKey::from_bytes([2; 32]), "test".parse().unwrap());
        let id = IdMint::default().next(&network, &maker.client_key().public(), clock::now());
        let offer = Offer::create(&maker, &network, id, new_offer(), clock::now()).unwrap();
        let reference = OfferRef::Hash(offer.target());
        exchange.record(Arc::new(offer)).unwrap();
        let waiting = tokio::spawn({
            let exchange = exchange.clone();
            let minute = Duration::from_mins(1);
            async move { exchange.bid(reference, None, minute, minute, None).await }
        });
        while exchange.snapshot().state.bids_in_doubt == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        thread.stop();
        let reply = waiting.await.unwrap();
        assert!(matches!(reply, Ok(Done::Bid { again: false, .. })), "{reply:?}");
        assert!(thread.ended.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_commit_that_fails_for_good_ends_the_writer_and_acknowledges_nothing() {
        let journal = Fake::default();
        let (exchange, thread, mut published) = started(&journal);
        *journal.failing.lock().unwrap() = Some(false);
        assert_eq!(exchange.create(new_offer(), None).await, Err(CommandError::Stopping));
        assert!(matches!(thread.ended.await.unwrap(), Err(JournalError::Failed(_))));
        assert!(published.recv().await.is_none());
        assert!(matches!(exchange.create(new_offer(), None).await, Err(CommandError::Stopping)));
    }
}
