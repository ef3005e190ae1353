//! The writer: the one thread that owns the exchange core and its journal.
//!
//! It drains its inbox into a batch, has the core handle it, commits everything that must be durable in one transaction, shows
//! readers the new snapshot, and only then lets effects go. While it waits for the disk the inbox fills, so the next batch is
//! larger: group commit needs no timer. Hints, which the network would tell again (other makers' records), are no part of a commit
//! that somebody waits for; they have one of their own every [`LAZY_AFTER`]. Heads of makers have to wait until nobody does (`heads`).

mod behind;
mod heads;

use super::{
    clock,
    diary::{Diary, Told},
    disk::Disk,
    exchange::{Exchange, Snapshot},
    meter::Meter,
};
use crate::{
    bep44::Target,
    exchange::{
        self, BidAnswer, BidOutcome, BidState, Core, Done, Effect, Event, Input, MaxNotional, NotNow, Output,
        RefusalCode, Reply, ReplyTo, Span, Turn, run_batch,
    },
    identity::{MasterKey, Network, Signed},
    market::{Bid, Offer, Via},
    replication::core::SignedHead,
    time::UnixMillis,
};
use arc_swap::ArcSwap;
use behind::Behind;
use heads::WaitingHeads;
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
    /// Everything that was committed, as events that rebuild the state; what others made only as far as it is not dead at `now`.
    fn load(&mut self, now: UnixMillis) -> Result<Vec<Event>, JournalError>;
    /// All or nothing, and on disk on return.
    fn commit(&mut self, events: &[Event]) -> Result<(), JournalError>;
    /// Remembers what makers say of all their records, which may be lost.
    fn keep_heads(&mut self, heads: &[SignedHead]) -> Result<(), JournalError>;
    /// Remembers something that is no event and may be lost.
    fn note(&mut self, name: &'static str, value: &str) -> Result<(), JournalError>;
    /// Whether what is committed goes where a next start finds it, and, when `probes`, whether there is room.
    fn check(&mut self, probes: bool) -> Result<(), JournalError>;
}

/// Why something was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// No space: nothing was written, and the next try may succeed.
    #[error("the disk is full")]
    Full,
    /// Anything else: the process must stop rather than go on with memory ahead of disk.
    #[error("{0}")]
    Failed(String),
    /// The same, and a next start would meet it again: damaged, gone, not to be written.
    #[error("{0}")]
    Unusable(String),
}

impl JournalError {
    /// Whether starting again as it is will meet the same: only a person can mend it.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Unusable(_))
    }
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
    /// Keep these over a restart, if it costs nobody time.
    Heads(Vec<SignedHead>),
    /// Remember this beside the events.
    Note(&'static str, String),
    /// Look whether the store is still itself, and, when `probes`, whether there is room.
    Check {
        probes: bool,
    },
    /// The same, and say whether it was stored.
    NoteSurely(&'static str, String, oneshot::Sender<Result<(), JournalError>>),
    /// Commit what is pending and end.
    Stop,
}

/// Where effects go that are not replies. The channels have no bound of their own: what they carry is bounded by the core's
/// limits (one question a bid in doubt) or is taken off at once into a map by record (publications, news).
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) asks: mpsc::UnboundedSender<(Signed<Bid>, Turn)>,
    pub(super) publications: mpsc::UnboundedSender<Publication>,
    pub(super) fetches: mpsc::UnboundedSender<Target>,
    pub(super) news: mpsc::UnboundedSender<News>,
}

/// What replication is told.
#[derive(Debug)]
pub(super) enum News {
    /// This version of an own record is durable.
    Own(Arc<Offer>),
    /// This version of another's is held.
    Held(Arc<Offer>, Via),
    /// Two values of one sequence of this record are.
    Fraud { target: Target, dies_at: UnixMillis },
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
    (master, network, max_notional): (MasterKey, Network, MaxNotional),
    mut journal: J,
    outlets: Outlets,
) -> Result<(Exchange, WriterThread), StartError> {
    let now = clock::now();
    let stored = journal.load(now)?;
    let (mut core, output) = Core::restore(master, network, seed()?, stored, now);
    core.guard_by(max_notional);
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
        disk: Arc::default(),
    };
    let (report, ended) = oneshot::channel();
    let pending = Pending { events: output.events, since: Instant::now() };
    let in_doubt =
        core.state().lists.bids_out(|state| state == BidState::InDoubt, None, Span::default(), None);
    let diary = Diary::start(core.client_id(), in_doubt.collect())?;
    let mut writer = Writer {
        diary,
        core: Some(core),
        journal,
        pending,
        heads: WaitingHeads::default(),
        snapshot,
        outlets,
        responders: HashMap::new(),
        meter,
        disk: Arc::clone(&exchange.disk),
        behind: Behind::of(&exchange.snapshot().state),
        check: None,
    };
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

/// A seed that nobody can guess.
pub(super) fn seed() -> io::Result<[u8; 32]> {
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

    /// What is committed now: everything when something has waited for long enough, else what must be durable.
    fn take_due(&mut self) -> Vec<Event> {
        if self.events.len() >= LAZY_MAX || self.since.elapsed() >= LAZY_AFTER {
            std::mem::take(&mut self.events)
        } else if must_be_durable(&self.events) {
            exchange::take_due(&mut self.events)
        } else {
            Vec::new()
        }
    }

    /// Keeps what was due until there is space on the disk, or the latest of it.
    fn postpone(&mut self, mut due: Vec<Event>) {
        due.append(&mut self.events);
        self.events = due;
        let surplus = self.events.len().saturating_sub(LAZY_MAX / 2);
        self.events.drain(..surplus);
        self.since = Instant::now();
    }
}

fn must_be_durable(events: &[Event]) -> bool {
    events.iter().any(Event::must_be_durable)
}

struct Writer<J> {
    /// Told last, when the others are dropped: it waits for the log.
    diary: Diary,
    /// Taken out only while it is rebuilt.
    core: Option<Core>,
    journal: J,
    pending: Pending,
    heads: WaitingHeads,
    snapshot: Arc<ArcSwap<Snapshot>>,
    outlets: Outlets,
    responders: HashMap<ReplyTo, Responder>,
    meter: Arc<Meter>,
    disk: Arc<Disk>,
    behind: Behind,
    /// That the store is to be looked at, and how.
    check: Option<bool>,
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
            if let Some(probes) = self.check.take() {
                self.check_store(probes)?;
            }
            if !self.handle(batch)? {
                self.heads.keep_due(&mut self.journal);
            }
            if stop {
                self.flush()?;
                self.heads.keep_all(&mut self.journal);
                let waiting = self.core.as_mut().map(Core::let_callers_go);
                self.release(waiting.unwrap_or_default());
                return Ok(());
            }
        }
    }

    /// Also when nobody waits for a commit: whether it would be one.
    fn check_store(&mut self, probes: bool) -> Result<(), JournalError> {
        match self.journal.check(probes) {
            Ok(()) if probes => self.disk.committed(true),
            Ok(()) => {}
            Err(JournalError::Full) => self.disk.committed(false),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How long nothing has to be done.
    fn pause(&self, now: UnixMillis) -> Duration {
        let timer = self.core.as_ref().and_then(Core::next_timeout).map_or(IDLE_MAX, |at| at.since(now));
        let lazy = if self.pending.events.is_empty() {
            IDLE_MAX
        } else {
            LAZY_AFTER.saturating_sub(self.pending.since.elapsed())
        };
        timer.min(lazy).min(self.heads.due_in().unwrap_or(IDLE_MAX)).min(IDLE_MAX)
    }

    fn take_batch(&mut self, first: Option<Message>, queue: &Receiver<Message>) -> (Vec<Input>, bool) {
        let mut batch = Vec::new();
        for message in first.into_iter().chain(queue.try_iter()) {
            match message {
                Message::Stop => return (batch, true),
                Message::Heads(heads) => self.heads.add(heads),
                Message::Check { probes } => self.check = Some(probes),
                Message::Note(name, value) => {
                    if let Err(error) = self.journal.note(name, &value) {
                        tracing::warn!(name, %error, "something small was not stored; it will be found out anew");
                    }
                }
                Message::NoteSurely(name, value, stored) => {
                    let outcome = self.journal.note(name, &value);
                    // Whoever asked may have stopped waiting.
                    drop(stored.send(outcome));
                }
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

    /// Returns whether somebody's wait was in it: something had to be durable.
    fn handle(&mut self, batch: Vec<Input>) -> Result<bool, JournalError> {
        let Some(mut core) = self.core.take() else { unreachable!("the core is put back after each batch") };
        let mut released = Vec::new();
        let (pending, journal, snapshot) = (&mut self.pending, &mut self.journal, &self.snapshot);
        let (meter, disk, behind) = (&self.meter, &self.disk, &mut self.behind);
        let (mut waited_for, mut told) = (false, Vec::new());
        let commit_due = |core: &Core, events: Vec<Event>| {
            let changed = !events.is_empty();
            waited_for = must_be_durable(&events);
            told.extend(events.iter().filter_map(Told::of));
            pending.add(events);
            let due = pending.take_due();
            if !due.is_empty() {
                match commit(journal, &due, (meter, disk)) {
                    Ok(()) => behind.found(&due),
                    // The network would tell it again: no reason to give up what memory knows.
                    Err(JournalError::Full) if !must_be_durable(&due) => pending.postpone(due),
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
                for told in told {
                    self.diary.tell(told);
                }
                self.release(released);
                Ok(waited_for)
            }
            Err(exchange::BatchError { error: JournalError::Full, withheld }) => {
                self.rebuild(core, withheld)?;
                Ok(true)
            }
            Err(exchange::BatchError { error, .. }) => Err(error),
        }
    }

    /// The disk is full: memory goes back to what is stored, and everybody hears that nothing happened.
    fn rebuild(&mut self, failed: Core, withheld: Vec<Effect>) -> Result<(), JournalError> {
        tracing::error!("the disk of the data directory is full: writes are refused until there is space");
        self.pending.events.clear();
        let now = clock::now();
        let stored = self.journal.load(now)?;
        let seed = seed().map_err(|error| JournalError::Failed(error.to_string()))?;
        let (core, Output { events, effects }) = exchange::rebuild(failed, withheld, stored, seed, now);
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
        match commit(&mut self.journal, &self.pending.events, (&self.meter, &self.disk)) {
            Err(JournalError::Full) if !must_be_durable(&self.pending.events) => Ok(()),
            result => result,
        }
    }

    /// Whoever placed a bid hears that it is in doubt: so does the log.
    fn tell_of_doubt(&mut self, reply: &Reply) {
        let Ok(Done::Bid { bid, .. }) = reply else { return };
        let bid = self.core.as_ref().and_then(|core| core.state().bids_out.get(bid));
        if let Some(bid) = bid.filter(|bid| bid.outcome == BidOutcome::InDoubt) {
            self.diary.tell(Told::InDoubt(Arc::clone(bid)));
        }
    }

    /// Lets effects go, what somebody waits for before what goes to other nodes. A receiver that is gone has stopped waiting, or the
    /// node is stopping: the store knows what is open.
    fn release(&mut self, effects: Vec<Effect>) {
        let is_waited_for = |effect: &Effect| matches!(effect, Effect::Reply { .. } | Effect::Answer { .. });
        let (first, then): (Vec<_>, Vec<_>) = effects.into_iter().partition(is_waited_for);
        for effect in first.into_iter().chain(then) {
            self.behind.refused(&effect);
            match effect {
                Effect::Reply { to, reply } => {
                    self.meter.replied(&reply);
                    self.tell_of_doubt(&reply);
                    if let Some(Responder::Owner(responder)) = self.responders.remove(&to) {
                        let _ = responder.send(reply);
                    }
                }
                Effect::Answer { to, answer } => {
                    self.meter.answered(&answer);
                    // The others are remembered, which is an event.
                    if let Ok(BidAnswer::Refused(refusal)) = &answer
                        && refusal.code == RefusalCode::OfferNotFound
                    {
                        self.diary.tell(Told::Stranger(refusal.code));
                    }
                    if let Some(Responder::Bidder(responder)) = self.responders.remove(&to) {
                        let _ = responder.send(answer);
                    }
                }
                Effect::Ask(bid, turn) => drop(self.outlets.asks.send((bid, turn))),
                Effect::Publish(offer) => {
                    drop(self.outlets.news.send(News::Own(Arc::clone(&offer))));
                    drop(self.outlets.publications.send(Publication::Publish(offer)));
                }
                Effect::Held(offer, via) => drop(self.outlets.news.send(News::Held(offer, via))),
                Effect::Fraud { target, dies_at } => {
                    drop(self.outlets.news.send(News::Fraud { target, dies_at }));
                }
                Effect::Expired(offer) => self.diary.tell(Told::Expired(offer)),
                Effect::Unpublish(target) => {
                    drop(self.outlets.publications.send(Publication::Unpublish(target)));
                }
                Effect::Fetch(target) => drop(self.outlets.fetches.send(target)),
            }
        }
    }
}

fn commit(
    journal: &mut impl Journal,
    events: &[Event],
    (meter, disk): (&Meter, &Disk),
) -> Result<(), JournalError> {
    let started = Instant::now();
    let result = journal.commit(events);
    match &result {
        Ok(()) => {
            meter.committed(events, started.elapsed());
            disk.committed(true);
        }
        Err(error) => {
            let is_full = matches!(error, JournalError::Full);
            meter.not_committed(is_full);
            if is_full {
                disk.committed(false);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests;
