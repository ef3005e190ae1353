//! Hears announcements, fetches the records they name, and hands what is genuine to the core.
//!
//! An announcement proves nothing and names no version: it is a hint to look. The item is read from this node's own DHT store,
//! where a put usually brought it a moment ago, and from the network when that copy is missing or not news. Signatures were
//! checked by the DHT; the proof that binds the record to its maker is checked here, on the worker pool.

use super::{contacts::Contacts, exchange::Exchange, publisher::ANNOUNCEMENT};
use crate::{
    bep44::{Target, VerifiedItem},
    dht::{Dht, DhtEvent, GetMode, Item},
    market::{Offer, RecordError},
    metrics::{Counter, Gauge, Page},
    workers::Workers,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Records that wait to be looked at. An announcement beyond it is dropped: it comes again within a minute.
const QUEUE_MAX: usize = 16_384;
/// Records that are being looked at.
const IN_FLIGHT_MAX: usize = 128;
/// How often the network is asked at most about a record that is held already and whose own copy is no news.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Records of which that is remembered.
const ASKED_MAX: usize = 100_000;
/// Attempts to fetch a record that is not held: its announcement may overtake it.
const ATTEMPTS: u32 = 4;
/// The pause between them; it doubles.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);
/// How far apart known records are read again after a restart: 50 a second.
const REVISIT_APART: Duration = Duration::from_millis(20);

/// Announcements and records, counted.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Announcements of offers.
    pub announcements: Counter,
    /// Records that wait to be looked at.
    pub waiting: Gauge,
    /// Dropped because [`QUEUE_MAX`] records waited.
    queue_full: Counter,
    /// Announcements that were lost because this task was too far behind the DHT.
    missed: Counter,
    /// Dropped because the workers or the writer were busy; they count it too.
    busy: Counter,
    malformed: Counter,
    other_network: Counter,
    bad_field: Counter,
    bad_proof: Counter,
}

impl Heard {
    /// Hints that were dropped because a bound was reached.
    pub(super) fn dropped(&self) -> u64 {
        self.queue_full.get() + self.missed.get() + self.busy.get()
    }

    /// Records that were refused, by reason.
    pub(super) fn refused(&self) -> [(&'static str, u64); 4] {
        [
            ("malformed", self.malformed.get()),
            ("other_network", self.other_network.get()),
            ("bad_field", self.bad_field.get()),
            ("bad_proof", self.bad_proof.get()),
        ]
    }

    pub(super) fn write_bounds(&self, page: &mut Page) {
        page.bound("announcement_queue", self.queue_full.get());
        page.bound("dht_events", self.missed.get());
    }

    fn refuse(&self, error: &RecordError) {
        match error {
            RecordError::Malformed(_) => &self.malformed,
            RecordError::WrongNetwork(_) => &self.other_network,
            RecordError::Field { .. } => &self.bad_field,
            RecordError::WrongProof => &self.bad_proof,
        }
        .inc();
    }
}

/// A handle to ask for a record; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    wanted: mpsc::Sender<Target>,
    pub(super) heard: Arc<Heard>,
}

impl Listener {
    pub(super) fn new() -> (Self, mpsc::Receiver<Target>) {
        let (wanted, queue) = mpsc::channel(QUEUE_MAX);
        (Self { wanted, heard: Arc::default() }, queue)
    }

    /// Has a record read again from the network.
    pub(super) fn fetch(&self, target: Target) {
        if self.wanted.try_send(target).is_err() {
            self.heard.queue_full.inc();
        }
    }

    /// After a restart: what changed while this node was away? One after the other, in no hurry.
    pub(super) async fn revisit(self, exchange: Exchange) {
        let snapshot = exchange.snapshot();
        let own = exchange.client_id();
        let records = snapshot.state.market.available.values();
        let targets: Vec<Target> =
            records.filter(|offer| offer.client_id != own).map(|o| o.target()).collect();
        drop(snapshot);
        for target in targets {
            self.fetch(target);
            tokio::time::sleep(REVISIT_APART).await;
        }
    }
}

/// The hash in an announcement: `NEW_OFFER:<hash>`, also with a space after the colon.
fn announced(name: &[u8]) -> Option<Target> {
    let hash = name.strip_prefix(ANNOUNCEMENT.as_bytes())?;
    let hash = hash.strip_prefix(b" ").unwrap_or(hash);
    std::str::from_utf8(hash).ok()?.parse().ok()
}

/// Whether only the network may answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// An announcement: the own store's copy will do when it is news.
    Hint,
    /// Somebody has reason to think that what we hold is old.
    Network,
}

/// The worker behind [`Listener`].
pub(super) struct Ears {
    pub dht: Dht,
    pub exchange: Exchange,
    pub contacts: Contacts,
    pub workers: Workers,
    pub heard: Arc<Heard>,
}

/// What waits, each record once.
#[derive(Default)]
struct Queue {
    order: VecDeque<Target>,
    waiting: HashMap<Target, Look>,
    in_flight: HashSet<Target>,
    asked: HashMap<Target, Instant>,
    /// Announced again too soon to ask again: asked then.
    later: BTreeSet<(Instant, Target)>,
}

impl Queue {
    /// False when it is full.
    fn add(&mut self, target: Target, look: Look) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&target) {
            if look == Look::Network {
                *waiting = look;
            }
            return true;
        }
        if self.waiting.len() >= QUEUE_MAX {
            return false;
        }
        self.waiting.insert(target, look);
        self.order.push_back(target);
        true
    }

    /// The next record that is not being looked at already.
    fn next(&mut self) -> Option<(Target, Look)> {
        for _ in 0..self.order.len() {
            let target = self.order.pop_front()?;
            if self.in_flight.contains(&target) {
                self.order.push_back(target);
                continue;
            }
            self.in_flight.insert(target);
            return self.waiting.remove(&target).map(|look| (target, look));
        }
        None
    }

    /// Whether the network was asked about this record a moment ago; notes that it is now.
    fn asked_recently(&mut self, target: Target) -> bool {
        let now = Instant::now();
        if self.asked.len() >= ASKED_MAX {
            self.asked.retain(|_, at| now.duration_since(*at) < ASK_AGAIN_AFTER);
        }
        let recently = self.asked.get(&target).is_some_and(|at| now.duration_since(*at) < ASK_AGAIN_AFTER);
        if !recently && self.asked.len() < ASKED_MAX {
            self.asked.insert(target, now);
        }
        recently
    }

    /// Has a record that was asked for a moment ago looked at when it may be asked for again: its announcement may have told of
    /// what happened since, such as a sale. False when too many wait.
    fn look_later(&mut self, target: Target) -> bool {
        let at = self.asked.get(&target).copied().unwrap_or_else(Instant::now) + ASK_AGAIN_AFTER;
        if self.later.len() >= QUEUE_MAX {
            return false;
        }
        self.later.insert((at, target));
        true
    }

    /// Queues what was put off until `now`; gives how many found no room.
    fn take_due(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some(&(at, target)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, target));
            dropped += u64::from(!self.add(target, Look::Hint));
        }
        dropped
    }
}

impl Ears {
    /// Listens until the DHT stops.
    pub(super) async fn run(
        self,
        mut wanted: mpsc::Receiver<Target>,
        mut fetches: mpsc::UnboundedReceiver<Target>,
    ) {
        let mut events = self.dht.events();
        let ears = Arc::new(self);
        let mut queue = Queue::default();
        let mut looks = JoinSet::new();
        loop {
            let later = queue.later.first().map(|(at, _)| *at);
            tokio::select! {
                event = events.recv() => match event {
                    Ok(DhtEvent::Announce { name, .. }) => ears.hear(&name, &mut queue),
                    Ok(DhtEvent::Warning(warning)) => tracing::warn!("DHT: {warning}"),
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => ears.heard.missed.add(missed),
                    Err(RecvError::Closed) => return,
                },
                Some(target) = wanted.recv() => ears.add(target, Look::Network, &mut queue),
                Some(target) = fetches.recv() => ears.add(target, Look::Network, &mut queue),
                Some(done) = looks.join_next() => {
                    if let Ok((target, too_soon)) = done {
                        queue.in_flight.remove(&target);
                        if too_soon && !queue.look_later(target) {
                            ears.heard.queue_full.inc();
                        }
                    }
                }
                () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {
                    ears.heard.queue_full.add(queue.take_due(Instant::now()));
                }
            }
            while looks.len() < IN_FLIGHT_MAX {
                let Some((target, look)) = queue.next() else { break };
                let ask_network = look == Look::Network || !queue.asked_recently(target);
                looks.spawn(look_at(Arc::clone(&ears), target, look, ask_network));
            }
            ears.heard.waiting.set(queue.waiting.len() + queue.later.len());
        }
    }

    fn hear(&self, name: &[u8], queue: &mut Queue) {
        if let Some(target) = announced(name) {
            self.heard.announcements.inc();
            self.add(target, Look::Hint, queue);
        }
    }

    fn add(&self, target: Target, look: Look, queue: &mut Queue) {
        if !queue.add(target, look) {
            self.heard.queue_full.inc();
        }
    }

    fn held(&self, target: Target) -> Option<Arc<Offer>> {
        self.exchange.snapshot().state.market.records.get(&target).cloned()
    }

    /// Reads the record and hands it to the core if it is news. True when only the network can tell, and may not be asked now:
    /// where a copy is stored, a newer one is brought too.
    async fn look(&self, target: Target, look: Look, ask_network: bool) -> bool {
        let held = self.held(target);
        let is_news = |item: &VerifiedItem| {
            held.as_ref().is_none_or(|held| {
                let known = held.item();
                item.seq > known.seq || (item.seq == known.seq && item.v != known.v)
            })
        };
        let stored = if look == Look::Hint { self.dht.local(target).await } else { None };
        let is_stored = stored.is_some();
        if let Some(Item::Mutable(item)) = stored
            && is_news(&item)
        {
            self.judge(item, held).await;
            return false;
        }
        if !ask_network {
            return !is_stored;
        }
        let mut pause = ATTEMPT_PAUSE;
        for attempt in 1..=ATTEMPTS {
            if let Ok(Some(found)) = self.dht.get(target, b"", GetMode::Network).await {
                if let Item::Mutable(item) = found.item
                    && is_news(&item)
                {
                    self.judge(item, held).await;
                }
                return false;
            }
            if held.is_some() || attempt == ATTEMPTS {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        false
    }

    async fn judge(&self, item: VerifiedItem, held: Option<Arc<Offer>>) {
        let (network, target, is_new) = (self.exchange.network().clone(), item.target(), held.is_none());
        match self.workers.run(move || Offer::read(item, &network, held.as_deref())).await {
            Ok(Ok(offer)) => {
                let maker = offer.client_id;
                if self.exchange.record(Arc::new(offer)).is_err() {
                    self.heard.busy.inc();
                }
                if is_new && maker != self.exchange.client_id() {
                    self.contacts.seek(maker);
                }
            }
            Ok(Err(error)) => {
                self.heard.refuse(&error);
                tracing::debug!(%target, %error, "a record was refused");
            }
            Err(_busy) => self.heard.busy.inc(),
        }
    }
}

async fn look_at(ears: Arc<Ears>, target: Target, look: Look, ask_network: bool) -> (Target, bool) {
    let too_soon = ears.look(target, look, ask_network).await;
    (target, too_soon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read_with_and_without_a_space() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let target: Target = hash.parse().unwrap();
        assert_eq!(announced(format!("NEW_OFFER:{hash}").as_bytes()), Some(target));
        assert_eq!(announced(format!("NEW_OFFER: {hash}").as_bytes()), Some(target));
        for other in ["NEW_OFFER:", "NEW_OFFER:zz", "NEW_OFFER:  0123", "rest:util:net", ""] {
            assert_eq!(announced(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_record_waits_once_and_the_stronger_reason_wins() {
        let mut queue = Queue::default();
        let target = Target([1; 20]);
        assert!(
            queue.add(target, Look::Hint)
                && queue.add(target, Look::Network)
                && queue.add(target, Look::Hint)
        );
        assert!(queue.next().is_some_and(|next| next == (target, Look::Network)));
        assert!(queue.next().is_none());
        // While it is looked at, a new announcement waits.
        assert!(queue.add(target, Look::Hint));
        assert!(queue.next().is_none());
        queue.in_flight.remove(&target);
        assert!(queue.next().is_some());
    }

    #[test]
    fn what_is_announced_too_soon_to_ask_again_is_asked_later() {
        let (mut queue, target, asked) = (Queue::default(), Target([1; 20]), Instant::now());
        assert!(!queue.asked_recently(target) && queue.asked_recently(target));
        assert!(queue.look_later(target) && queue.look_later(target));
        assert_eq!(queue.later.len(), 1, "once, however often it was announced");
        assert_eq!(queue.take_due(asked), 0);
        assert!(queue.next().is_none());
        assert_eq!(queue.take_due(Instant::now() + ASK_AGAIN_AFTER), 0);
        assert!(queue.next().is_some_and(|next| next == (target, Look::Hint)));
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = Queue::default();
        for n in 0..QUEUE_MAX as u64 {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            assert!(queue.add(Target(bytes), Look::Hint));
        }
        assert!(!queue.add(Target([255; 20]), Look::Hint));
    }
}
