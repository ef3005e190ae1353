//! Hears announcements, fetches the records they name, and hands what is genuine to the core.
//!
//! A record proves itself, so one that is put on this node (it is among the closest to it) is judged at once, without waiting
//! for its announcement. An announcement proves nothing and names no version: it is a hint to look. The item is then read from
//! this node's own DHT store, and from the network when that copy is missing or not news. Signatures were checked by the DHT;
//! the proof that binds the record to its maker is checked here, on the worker pool, many records in one job.

mod queue;

use super::{META_DHT_NODE, contacts::Contacts, dht_note, exchange::Exchange, publisher::ANNOUNCEMENT};
use crate::{
    bep44::{Target, VerifiedItem},
    dht::{Dht, DhtEvent, GetMode, Item},
    identity::Network,
    market::{Offer, RecordError, Via},
    metrics::{Counter, Gauge, Page},
    standing::OtherNetwork,
    workers::Workers,
};
use queue::{Look, QUEUE_MAX, Queue};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{
        broadcast::error::{RecvError, TryRecvError},
        mpsc,
    },
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Records that are being looked at.
const IN_FLIGHT_MAX: usize = 128;
/// Records that were put here and are judged in one job: about 2 ms of one worker's time.
const JUDGED_AT_ONCE: usize = 32;
/// Such jobs at the same time: while they run, the next ones grow.
const JUDGES_MAX: usize = 2;
/// Events taken at one wake-up.
const EVENTS_AT_ONCE: usize = 256;
/// Attempts to fetch a record that is not held: its announcement may overtake it.
const ATTEMPTS: u32 = 4;
/// The pause between them; it doubles.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);

/// Other networks that are remembered by their records.
const FOREIGN_MAX: usize = 8;
/// How long: records are announced each minute, or less often where there are many.
const FOREIGN_KEPT_FOR: Duration = Duration::from_mins(5);

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
    /// Networks of which records were heard, how many, and when the last.
    foreign: Mutex<BTreeMap<String, (u64, std::time::Instant)>>,
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

    /// A record of this network was heard, which is another than this node's.
    fn heard_foreign(&self, network: &str) {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.retain(|_, (_, at)| at.elapsed() < FOREIGN_KEPT_FOR);
        if foreign.len() < FOREIGN_MAX || foreign.contains_key(network) {
            let now = std::time::Instant::now();
            let (records, at) = foreign.entry(network.to_owned()).or_insert((0, now));
            (*records, *at) = (*records + 1, now);
        }
    }

    /// The networks other than this node's whose records were heard lately, the one heard most first.
    pub(super) fn other_networks(&self) -> Vec<OtherNetwork> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.retain(|_, (_, at)| at.elapsed() < FOREIGN_KEPT_FOR);
        let of = |(name, (records, _)): (&String, &(u64, _))| OtherNetwork {
            name: name.clone(),
            records: *records,
        };
        let mut networks: Vec<OtherNetwork> = foreign.iter().map(of).collect();
        networks.sort_by_key(|network| std::cmp::Reverse(network.records));
        networks
    }

    pub(super) fn write_bounds(&self, page: &mut Page) {
        page.bound("announcement_queue", self.queue_full.get());
        page.bound("dht_events", self.missed.get());
    }

    pub(super) fn refuse(&self, error: &RecordError) {
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
}

/// The hash in an announcement: `NEW_OFFER:<hash>`, also with a space after the colon.
fn announced(name: &[u8]) -> Option<Target> {
    let hash = name.strip_prefix(ANNOUNCEMENT.as_bytes())?;
    let hash = hash.strip_prefix(b" ").unwrap_or(hash);
    std::str::from_utf8(hash).ok()?.parse().ok()
}

/// The events that a node listens to.
pub(super) fn is_heard(event: &DhtEvent) -> bool {
    match event {
        DhtEvent::Announce { name, .. } => announced(name).is_some(),
        DhtEvent::Stored(item) => item.salt.is_empty(),
        DhtEvent::Address { .. } => true,
        // The DHT logs its warnings itself.
        DhtEvent::Warning(_) | DhtEvent::Node { .. } | DhtEvent::Peer { .. } | DhtEvent::Ready => false,
    }
}

/// The worker behind [`Listener`].
pub(super) struct Ears {
    pub dht: Dht,
    pub exchange: Exchange,
    pub contacts: Contacts,
    pub workers: Workers,
    pub heard: Arc<Heard>,
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
        let mut looks = JoinSet::<(Target, bool)>::new();
        let mut judges = JoinSet::<Vec<(Target, bool)>>::new();
        loop {
            let later = queue.next_due();
            tokio::select! {
                event = events.recv() => {
                    let mut next = event;
                    for taken in 1..=EVENTS_AT_ONCE {
                        match next {
                            Ok(event) => ears.hear(event, &mut queue),
                            Err(RecvError::Lagged(missed)) => ears.heard.missed.add(missed),
                            Err(RecvError::Closed) => return,
                        }
                        if taken == EVENTS_AT_ONCE {
                            break;
                        }
                        next = match events.try_recv() {
                            Ok(event) => Ok(event),
                            Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                        };
                    }
                }
                Some(target) = wanted.recv() => ears.add(queue.add(target, Look::Network)),
                Some(target) = fetches.recv() => ears.add(queue.add(target, Look::Network)),
                Some(done) = judges.join_next() => {
                    for (target, is_record) in done.unwrap_or_default() {
                        ears.add(queue.settle(target, is_record, Instant::now()));
                    }
                }
                Some(done) = looks.join_next() => {
                    if let Ok((target, too_soon)) = done {
                        queue.looked(&target);
                        ears.add(!too_soon || queue.look_later(target, Instant::now()));
                    }
                }
                () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {
                    ears.heard.queue_full.add(queue.take_due(Instant::now()));
                }
            }
            while judges.len() < JUDGES_MAX {
                let batch = queue.take_brought(JUDGED_AT_ONCE);
                if batch.is_empty() {
                    break;
                }
                let ears = Arc::clone(&ears);
                judges.spawn(async move { ears.judge_brought(batch).await });
            }
            while looks.len() < IN_FLIGHT_MAX {
                let Some((target, look)) = queue.next() else { break };
                let ask_network = look == Look::Network || !queue.asked_recently(target, Instant::now());
                looks.spawn(look_at(Arc::clone(&ears), target, look, ask_network));
            }
            ears.heard.waiting.set(queue.waiting());
        }
    }

    fn hear(&self, event: DhtEvent, queue: &mut Queue) {
        match event {
            DhtEvent::Announce { name, .. } => {
                if let Some(target) = announced(&name) {
                    self.heard.announcements.inc();
                    self.add(queue.announced(target, Instant::now()));
                }
            }
            // Offers have no salt; whatever else is stored here is no business of ours.
            DhtEvent::Stored(item) if item.salt.is_empty() => self.add(queue.bring(item)),
            DhtEvent::Address { ip, node_id } => {
                tracing::info!(%ip, %node_id, "the network sees this node at this address");
                self.exchange.note(META_DHT_NODE, dht_note(node_id, self.dht.local_addr()));
            }
            DhtEvent::Stored(_)
            | DhtEvent::Warning(_)
            | DhtEvent::Node { .. }
            | DhtEvent::Peer { .. }
            | DhtEvent::Ready => {}
        }
    }

    /// Counts what found no room.
    fn add(&self, found_room: bool) {
        if !found_room {
            self.heard.queue_full.inc();
        }
    }

    /// What is known of this record, if the item is news about it.
    fn is_news(&self, item: &VerifiedItem) -> Option<Unjudged> {
        let known = self.exchange.snapshot().state.market.records.get(&item.target()).cloned();
        let is_news = known.as_ref().is_none_or(|known| {
            let held = known.item();
            item.seq > held.seq || (item.seq == held.seq && item.v != held.v) || known.may_contradict(item)
        });
        is_news.then(|| Unjudged { item: item.clone(), known })
    }

    /// Reads the record and hands it to the core if it is news. True when only the network can tell, and may not be asked now:
    /// where a copy is stored, a newer one is brought too.
    async fn look(&self, target: Target, look: Look, ask_network: bool) -> bool {
        let stored = if look == Look::Hint { self.dht.local(target).await } else { None };
        let is_stored = stored.is_some();
        if let Some(Item::Mutable(item)) = stored
            && let Some(news) = self.is_news(&item)
        {
            self.judge(vec![news], true).await;
            return false;
        }
        if !ask_network {
            return !is_stored;
        }
        let mut pause = ATTEMPT_PAUSE;
        for attempt in 1..=ATTEMPTS {
            if let Ok(Some(found)) = self.dht.get(target, b"", GetMode::Network).await {
                if let Item::Mutable(item) = found.item
                    && let Some(news) = self.is_news(&item)
                {
                    self.judge(vec![news], true).await;
                }
                return false;
            }
            let is_held = self.exchange.snapshot().state.market.records.contains_key(&target);
            if is_held || attempt == ATTEMPTS {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        false
    }

    /// Judges what was put here; says of each whether it is a record, good or bad.
    async fn judge_brought(&self, items: Vec<VerifiedItem>) -> Vec<(Target, bool)> {
        let targets: Vec<Target> = items.iter().map(VerifiedItem::target).collect();
        let news = items.iter().filter_map(|item| self.is_news(item)).collect();
        let no_records = self.judge(news, false).await;
        targets.into_iter().map(|target| (target, !no_records.contains(&target))).collect()
    }

    /// Hands to the core what is genuine, and counts what is not. Gives those that are no records of this market at all; these
    /// count as refused only when they were `announced`.
    async fn judge(&self, news: Vec<Unjudged>, announced: bool) -> Vec<Target> {
        // Mostly gossip was there first.
        if news.is_empty() {
            return Vec::new();
        }
        let network = self.exchange.network().clone();
        let count = news.len() as u64;
        let workers = self.workers.clone();
        let read = move || news.into_iter().map(|news| news.read(&network, &workers)).collect::<Vec<_>>();
        let Ok(verdicts) = self.workers.run(read).await else {
            self.heard.busy.add(count);
            return Vec::new();
        };
        let mut no_records = Vec::new();
        for Judged { target, is_new, verdict } in verdicts {
            match verdict {
                Ok(offer) => {
                    let maker = offer.client_id;
                    if self.exchange.record(Arc::new(offer), Via::Dht).is_err() {
                        self.heard.busy.inc();
                    }
                    if is_new && maker != self.exchange.client_id() {
                        self.contacts.seek(maker);
                    }
                }
                Err(error) => {
                    if let RecordError::WrongNetwork(network) = &error {
                        self.heard.heard_foreign(network);
                    }
                    let is_none = matches!(&error, RecordError::Malformed(_) | RecordError::WrongNetwork(_));
                    if is_none && !announced {
                        no_records.push(target);
                        continue;
                    }
                    self.heard.refuse(&error);
                    tracing::debug!(%target, %error, "a record was refused");
                }
            }
        }
        no_records
    }
}

/// An item that is news, and what was known of its record before.
struct Unjudged {
    item: VerifiedItem,
    known: Option<Arc<Offer>>,
}

struct Judged {
    target: Target,
    is_new: bool,
    verdict: Result<Offer, RecordError>,
}

impl Unjudged {
    fn read(self, network: &Network, workers: &Workers) -> Judged {
        let (target, is_new) = (self.item.target(), self.known.is_none());
        let check = |k: &_, bytes: &_, sig: &_| workers.check(k, bytes, sig);
        Judged { target, is_new, verdict: Offer::read_by(self.item, network, self.known.as_deref(), check) }
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
}
