//! The keeper: takes back what an earlier run stored, and from then on writes down what changes.
//!
//! One task, which wakes every two seconds. What it writes is bounded by what the DHT node stores, not by what it is sent: an
//! item that was put ten times in between is met once.

use super::{
    frame,
    identity::{Identity, NODES_MAX},
    log::{self, Log},
    own::Own,
    record::Record,
    unix_ms,
};
use crate::{
    dht::{Dht, DhtError, NodeId, Stored, StoredWhat, Walk},
    metrics::{Counter, Gauge, Page},
    store::{DirLock, StoreError},
};
use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

/// How often changes are written: what a process that is killed loses at most, while the disk keeps up.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Rounds between two looks at the table for nodes that the next start may ask.
const ROUNDS_A_LOOK: u32 = 15;
/// Items taken of the DHT node, and given back to it, at a time: well below a millisecond of its task.
const AT_ONCE: usize = 500;
/// So few are written where the task is: waking a thread for them would cost more.
const INLINE_MAX: usize = 16;
/// The fastest that is written. 100,000 items that all change at once take six seconds, and meanwhile change no second time.
const BYTES_A_SECOND_MAX: u64 = 16 << 20;
/// The log is written anew when it is longer than this and twice what lives: so each byte is written three times at most.
const LOG_BYTES_FREE: u64 = 16 << 20;
/// ... or has more files than this: every start begins one.
const FILES_MAX: usize = 64;
/// ... or is this old, and longer than [`LOG_BYTES_FREE`]: by then no item in it lives.
const LOG_AGE_MAX: Duration = Duration::from_hours(2);
/// Peers that are looked at to be taken back, the newest; far more than a grape holds.
const PEERS_RESTORED_MAX: usize = 100_000;
/// How often it is looked whether others are known, before own announcements are told again.
const JOIN_POLL: Duration = Duration::from_millis(500);

/// What a grape knew when it last ran. Opened before the DHT node is started, which needs its id.
pub struct State {
    dir: PathBuf,
    address: SocketAddr,
    peer_max_age: Duration,
    identity: Identity,
    log: Log,
    lock: DirLock,
}

/// What the keeper has done.
#[derive(Debug, Default)]
pub struct KeeperMeter {
    restored: Gauge,
    bytes: Gauge,
    written: Counter,
    rewritten: Counter,
    failures: Counter,
    lost_bytes: Counter,
}

/// Keeps what a grape knows, until it is stopped. Dropping it loses the last two seconds.
pub struct Keeper {
    own: Own,
    meter: Arc<KeeperMeter>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The part of a keeper that hears of announcements. Clones share it.
#[derive(Clone)]
pub struct Notes {
    own: Own,
    meter: Arc<KeeperMeter>,
}

impl State {
    /// Locks `dir` (made if it is missing, for its owner only) for the node at `address`, whose announced peers live so long.
    ///
    /// # Errors
    /// When another process has the directory, or the system refuses it. Damage in it is no error.
    pub fn open(dir: &Path, address: SocketAddr, peer_max_age: Duration) -> Result<Self, StoreError> {
        let lock = DirLock::take(dir)?;
        let log = Log::open(dir)?;
        let identity = Identity::load(dir, address);
        Ok(Self { dir: dir.to_owned(), address, peer_max_age, identity, log, lock })
    }

    /// The id that this node had at this address.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.identity.id
    }

    /// Nodes that it knew, nearest first.
    #[must_use]
    pub fn known_nodes(&self) -> Vec<SocketAddr> {
        self.identity.nodes.clone()
    }

    /// Gives the DHT node back what it stored, which is known when this returns, and begins to keep what changes. `http` is where
    /// the grape's HTTP API listens, for `--status`.
    ///
    /// # Errors
    /// When the DHT node has stopped.
    pub async fn restore(self, dht: &Dht, http: SocketAddr) -> Result<Keeper, DhtError> {
        let meter = Arc::new(KeeperMeter::default());
        let own = Own::new(self.peer_max_age);
        let started = Instant::now();
        let walk = dht.walk_from_now().await?;
        let back = Back { dht, own: &own, meter: &meter, now_ms: unix_ms(), read: 0, taken: 0 };
        let live_bytes = back.all(&self.log).await?;
        let (stop, stopped) = watch::channel(false);
        let mut writer = Writer {
            stopped,
            dht: dht.clone(),
            dir: self.dir,
            address: SocketAddr::new(self.address.ip(), dht.local_addr().port()),
            identity: Identity { id: Some(dht.node_id()), http: Some(http), nodes: self.identity.nodes },
            log: Some(self.log),
            walk,
            anew: None,
            live_bytes,
            anew_at: started,
            own: own.clone(),
            meter: Arc::clone(&meter),
            failing: false,
            _lock: self.lock,
        };
        if meter.restored.get() > 0 {
            let ms = started.elapsed().as_millis();
            tracing::info!("{} items and peers of the last run are back, in {ms} ms", meter.restored.get());
        }
        writer.save_identity();
        let task = tokio::spawn(writer.run());
        Ok(Keeper { own, meter, stop, task })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({})", self.dir.display())
    }
}

impl Keeper {
    /// For whoever makes announcements, and shows what is counted.
    #[must_use]
    pub fn notes(&self) -> Notes {
        Notes { own: self.own.clone(), meter: Arc::clone(&self.meter) }
    }

    /// Writes down what is left, while the DHT node still runs, and lets the directory go.
    pub async fn stop(self) {
        // It may have stopped by itself, with the DHT node.
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

impl Notes {
    /// A service was announced through this grape.
    pub fn announced(&self, name: &[u8], port: u16) {
        self.own.announced(name, port, unix_ms());
    }

    /// What was counted.
    #[must_use]
    pub fn meter(&self) -> &Arc<KeeperMeter> {
        &self.meter
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

impl KeeperMeter {
    /// Writes it down; zeros for a grape that keeps nothing.
    pub fn write(&self, page: &mut Page) {
        page.gauge("vintner_grape_state_restored", "Items and peers that the last start took back")
            .is(self.restored.get());
        page.gauge("vintner_grape_state_bytes", "The log of what the grape stores, on disk")
            .is(self.bytes.get());
        for (name, help, counter) in [
            ("vintner_grape_state_written_bytes_total", "Bytes written to the log", &self.written),
            ("vintner_grape_state_rewritten_total", "How often the log was written anew", &self.rewritten),
            ("vintner_grape_state_failures_total", "Writes that the disk refused", &self.failures),
            (
                "vintner_grape_state_lost_bytes_total",
                "Bytes of the log that were damaged and left out",
                &self.lost_bytes,
            ),
        ] {
            page.counter(name, help).is(counter.get());
        }
    }
}

/// Taking back what an earlier run stored.
struct Back<'a> {
    dht: &'a Dht,
    own: &'a Own,
    meter: &'a KeeperMeter,
    now_ms: u64,
    read: usize,
    taken: usize,
}

impl Back<'_> {
    /// Returns about how many bytes of the log live.
    async fn all(mut self, log: &Log) -> Result<u64, DhtError> {
        let mut peers: HashMap<(Arc<[u8]>, SocketAddr), u64> = HashMap::new();
        for path in log.paths() {
            let shown = path.display().to_string();
            let read = match spawn_blocking(move || log::read(&path)).await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => {
                    tracing::warn!(%error, path = shown, "a file of the grape's state cannot be read, and is left out");
                    continue;
                }
                Err(_) => continue,
            };
            if read.lost_bytes > 0 {
                self.meter.lost_bytes.add(read.lost_bytes);
                tracing::warn!(
                    path = shown,
                    "{} damaged bytes of the grape's state are left out",
                    read.lost_bytes
                );
            }
            self.items(read.records, &mut peers).await?;
        }
        self.peers(peers).await?;
        self.meter.restored.set(self.taken);
        self.meter.bytes.set(log.bytes() as usize);
        Ok(log.bytes() * self.taken as u64 / self.read.max(1) as u64)
    }

    async fn items(
        &mut self,
        records: Vec<(u64, Record)>,
        peers: &mut HashMap<(Arc<[u8]>, SocketAddr), u64>,
    ) -> Result<(), DhtError> {
        let mut items = Vec::new();
        self.read += records.len();
        for (since_ms, record) in records {
            match record {
                Record::Item(item) => items.push(self.aged(since_ms, StoredWhat::Item(item))),
                Record::Peer { name, addr } => {
                    peers.insert((name, addr), since_ms);
                }
                Record::Own { name, port } => {
                    self.own.restore(since_ms, name, port, self.now_ms);
                }
            }
            if items.len() >= AT_ONCE {
                self.taken += self.dht.restore_stored(std::mem::take(&mut items)).await?;
            }
        }
        self.taken += self.dht.restore_stored(items).await?;
        Ok(())
    }

    /// The DHT node wants the oldest first.
    async fn peers(&mut self, peers: HashMap<(Arc<[u8]>, SocketAddr), u64>) -> Result<(), DhtError> {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by_key(|(_, since_ms)| *since_ms);
        peers.drain(..peers.len().saturating_sub(PEERS_RESTORED_MAX));
        for some in peers.chunks(AT_ONCE) {
            let stored = some.iter().map(|((name, addr), since_ms)| {
                self.aged(*since_ms, StoredWhat::Peer { name: Arc::clone(name), addr: *addr })
            });
            self.taken += self.dht.restore_stored(stored.collect()).await?;
        }
        Ok(())
    }

    fn aged(&self, since_ms: u64, what: StoredWhat) -> Stored {
        Stored { what, age: Duration::from_millis(self.now_ms.saturating_sub(since_ms)) }
    }
}

/// The task that writes.
struct Writer {
    dht: Dht,
    dir: PathBuf,
    address: SocketAddr,
    identity: Identity,
    /// Away while another thread writes to it.
    log: Option<Log>,
    walk: Walk,
    anew: Option<Anew>,
    /// About how many bytes of the log live.
    live_bytes: u64,
    anew_at: Instant,
    own: Own,
    meter: Arc<KeeperMeter>,
    failing: bool,
    stopped: watch::Receiver<bool>,
    _lock: DirLock,
}

/// The log is being written anew.
struct Anew {
    /// Files that can be deleted when everything has been written.
    old_files: usize,
    /// Where the walk over the changes was.
    resume: Walk,
}

impl Writer {
    async fn run(mut self) {
        let again = tokio::spawn(announce_again(self.dht.clone(), self.own.alive(unix_ms())));
        for round in 1u32.. {
            tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => {}
                // Told to stop, or dropped.
                _ = self.stopped.changed() => break,
            }
            if self.round().await.is_err() {
                break;
            }
            if round % ROUNDS_A_LOOK == 0 {
                self.look_at_table().await;
            }
        }
        again.abort();
        self.end().await;
    }

    /// Writes what has changed, and goes on with writing anew where that is due.
    async fn round(&mut self) -> Result<(), DhtError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let (bytes, files) = (log.bytes(), log.paths().len());
        let too_long = bytes > LOG_BYTES_FREE + 2 * self.live_bytes;
        let too_old = bytes > LOG_BYTES_FREE && self.anew_at.elapsed() > LOG_AGE_MAX;
        if self.anew.is_none() && (too_long || too_old || files > FILES_MAX) {
            self.anew = Some(Anew { old_files: log.close(), resume: self.walk });
            self.walk = Walk::default();
        }
        if self.write_changes(true).await? && self.write_own(self.anew.is_some()).await {
            self.anew_done();
        }
        Ok(())
    }

    /// Writes what the walk meets; whether it came to the end.
    async fn write_changes(&mut self, paced: bool) -> Result<bool, DhtError> {
        loop {
            let (stored, walk) = self.dht.walk_stored(self.walk, AT_ONCE).await?;
            let (now_ms, count) = (unix_ms(), stored.len());
            let records = stored.into_iter().map(|Stored { what, age }| {
                let record = match what {
                    StoredWhat::Item(item) => Record::Item(item),
                    StoredWhat::Peer { name, addr } => Record::Peer { name, addr },
                };
                (now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)), record)
            });
            let Some(bytes) = self.write(records.collect()).await else { return Ok(false) };
            self.walk = walk;
            if count < AT_ONCE {
                return Ok(true);
            }
            if paced && *self.stopped.borrow() {
                return Ok(false);
            }
            if paced {
                tokio::time::sleep(Duration::from_micros(bytes * 1_000_000 / BYTES_A_SECOND_MAX)).await;
            }
        }
    }

    async fn write_own(&mut self, everything: bool) -> bool {
        let records = self.own.to_write(everything, unix_ms());
        self.write(records).await.is_some()
    }

    /// Writes records; how many bytes, or nothing when the disk refused.
    async fn write(&mut self, records: Vec<(u64, Record)>) -> Option<u64> {
        if records.is_empty() {
            return Some(0);
        }
        let mut log = self.log.take()?;
        let inline = records.len() <= INLINE_MAX;
        let append = move || {
            let mut frames = Vec::new();
            for (since_ms, record) in &records {
                frame::write(&mut frames, |out| record.write(*since_ms, out));
            }
            let done = log.append(&frames).map(|()| frames.len() as u64);
            (log, done)
        };
        let (log, done) = if inline { append() } else { spawn_blocking(append).await.ok()? };
        self.meter.bytes.set(log.bytes() as usize);
        self.log = Some(log);
        match done {
            Ok(bytes) => {
                self.meter.written.add(bytes);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the grape's state can be written again");
                }
                Some(bytes)
            }
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    /// The disk refused. A grape goes on without its state; it is tried again in the next round.
    fn refused(&mut self, error: &io::Error) {
        self.meter.failures.inc();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                %error, dir = %self.dir.display(),
                "the grape's state cannot be written; it is tried every {} s, and a restart would lose what changes until then",
                WRITE_EVERY.as_secs()
            );
        }
    }

    /// Everything that lives stands in new files: the old ones can go, once the new ones are on the disk.
    fn anew_done(&mut self) {
        let (Some(anew), Some(log)) = (self.anew.take(), &mut self.log) else { return };
        match log.sync() {
            Ok(()) => {
                log.delete(anew.old_files);
                self.live_bytes = log.bytes();
                self.anew_at = Instant::now();
                self.meter.bytes.set(self.live_bytes as usize);
                self.meter.rewritten.inc();
            }
            Err(error) => self.refused(&error),
        }
    }

    async fn look_at_table(&mut self) {
        let Ok(nodes) = self.dht.known_nodes().await else { return };
        let nodes: Vec<SocketAddr> = nodes.into_iter().take(NODES_MAX).collect();
        // An empty table is one that the network was cut off from: those of before are still the best to ask.
        let nodes = if nodes.is_empty() { self.identity.nodes.clone() } else { nodes };
        // On the public network the id changes with the address that others see.
        let now = Identity { id: Some(self.dht.node_id()), nodes, ..self.identity.clone() };
        if now != self.identity {
            self.identity = now;
            self.save_identity();
        }
    }

    fn save_identity(&mut self) {
        if let Err(error) = self.identity.save(&self.dir, self.address) {
            self.refused(&error);
        }
    }

    /// What is left; a log that is being written anew stays as it is, beside the old one.
    async fn end(&mut self) {
        if let Some(anew) = self.anew.take() {
            self.walk = anew.resume;
        }
        if self.write_changes(false).await.is_ok() {
            self.write_own(false).await;
            self.look_at_table().await;
        }
        if let Some(Err(error)) = self.log.as_ref().map(Log::sync) {
            self.refused(&error);
        }
    }
}

/// Tells the network again of what was announced here before the restart, one after the other, once somebody is there.
async fn announce_again(dht: Dht, announcements: Vec<(Arc<[u8]>, u16)>) {
    if announcements.is_empty() {
        return;
    }
    while dht.status().nodes_good == 0 {
        tokio::time::sleep(JOIN_POLL).await;
    }
    for (name, port) in announcements {
        // Who does not accept it now hears of it from the service itself.
        let _ = dht.announce(&name, port).await;
    }
}

#[cfg(test)]
mod tests;
