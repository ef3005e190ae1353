//! A replica of 100,000 records as a node has it after its start: how soon it is there, and what it takes.
//!
//! Memory that was used before is not given back as a whole, so each start is a process of its own: this program calls itself.

use super::{
    samples::{Maker, NOW, master, network},
    table,
};
use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use vintner::{
    exchange::{Core, Event},
    node::Snapshot,
    replication::core::{self as replication, Input, Stamp, Version},
    store::Store,
    time::Now,
};

const RECORDS: usize = 100_000;
/// How many makers have them: few large ones, and many small ones, whose records lie far from each other in the index.
const MAKERS: [usize; 2] = [100, 20_000];
/// Each figure is the median of so many starts.
const STARTS: usize = 7;
/// Events in one commit while the store is filled.
const BATCH: usize = 2_000;
/// The node whose replica it is.
const OWN: u16 = 0;
/// What a start is told by.
const DIR_VARIABLE: &str = "VINTNER_BENCH_START_FROM";

/// The data directory that this process is to start from, when it was called for that.
pub(super) fn to_start_from() -> Option<PathBuf> {
    env::var_os(DIR_VARIABLE).map(Into::into)
}

/// What one start took.
struct Start {
    open: Duration,
    load: Duration,
    restore: Duration,
    index: Duration,
    /// Of all threads, from open to a served snapshot.
    processor: Duration,
    /// Resident, what an empty process takes left out.
    bytes: u64,
}

impl Start {
    /// Until readers are served.
    fn served(&self) -> Duration {
        self.open + self.load + self.restore
    }
}

/// Measures starts, unless the command line asks for other steps only.
pub(super) fn starts() -> Vec<(String, String)> {
    let mut asked = env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    let is_asked_for = asked.peek().is_none() || asked.any(|asked| "replica".contains(&asked));
    if !is_asked_for || !env::args().any(|argument| argument == "--bench") {
        return Vec::new();
    }
    MAKERS.into_iter().flat_map(starts_with).collect()
}

fn starts_with(makers: usize) -> Vec<(String, String)> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory beside the build");
    let value_bytes = fill(dir.path(), makers);
    let starts: Vec<Start> = (0..STARTS).map(|_| start_apart(dir.path())).collect();
    let time = |of: fn(&Start) -> Duration| table::time(median(starts.iter().map(of)).as_nanos() as f64);
    let bytes = median(starts.iter().map(|start| start.bytes)) / RECORDS as u64;
    let rows = [
        ("open the store", time(|start| start.open)),
        ("read its records", time(|start| start.load)),
        ("rebuild the exchange core, and a snapshot", time(|start| start.restore)),
        ("from open to a served snapshot", time(Start::served)),
        ("the same, processor time", time(|start| start.processor)),
        ("rebuild the index of versions", time(|start| start.index)),
        ("resident memory a record", format!("{bytes} B, {value_bytes} of them its value")),
    ];
    let name = |row| format!("replica of {RECORDS} records of {makers} makers: {row}");
    let rows: Vec<_> = rows.map(|(row, value)| (name(row), value)).into();
    for (name, value) in &rows {
        println!("{name}: {value}");
    }
    rows
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// A store with the records of others, as they arrive: not in the order of their hashes. Returns the mean length of their values.
fn fill(dir: &Path, makers: usize) -> usize {
    let mut store = open(dir);
    let mut makers: Vec<Maker> = (0..makers).map(|n| Maker::new(1 + n as u16)).collect();
    let (mut value_bytes, count) = (0, makers.len());
    for batch in 0..RECORDS / BATCH {
        let offers = (0..BATCH).map(|n| {
            let maker = (batch * BATCH + n) % count;
            makers[maker].offer()
        });
        let events: Vec<Event> = offers.map(Event::Heard).collect();
        for event in &events {
            let Event::Heard(offer) = event else { continue };
            value_bytes += offer.item().v.len();
        }
        store.commit(&events).expect("a commit");
    }
    value_bytes / RECORDS
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &network(), master(OWN).client_key().public()).expect("a store")
}

/// One start in a process of its own.
fn start_apart(dir: &Path) -> Start {
    let program = env::current_exe().expect("the path of this program");
    let output = Command::new(program).env(DIR_VARIABLE, dir).stderr(Stdio::inherit()).output();
    let text = String::from_utf8(output.expect("a process").stdout).expect("text");
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let numbers: [u64; 6] = numbers.try_into().expect("a start that worked");
    let [open, load, restore, index, processor, bytes] = numbers;
    let [open, load, restore, index, processor] =
        [open, load, restore, index, processor].map(Duration::from_nanos);
    Start { open, load, restore, index, processor, bytes }
}

/// What such a process does: what a node does at its start, without its sockets.
pub(super) fn start(dir: &Path) -> std::io::Result<()> {
    let (before, used_before) = (resident()?, processor_time()?);
    let mut lap = Lap(Instant::now());
    let mut store = open(dir);
    let open = lap.next();
    let events = store.load(NOW).expect("the facts");
    let load = lap.next();
    let (core, _) = Core::restore(master(OWN), network(), [1; 32], events, NOW);
    let snapshot = Arc::new(Snapshot { state: core.state().clone(), counters: core.counters() });
    let (restore, processor) = (lap.next(), processor_time()?.saturating_sub(used_before));
    let config = replication::Config {
        network: network(),
        key: master(OWN).client_key(),
        addresses: vec!["127.0.0.1:1337".parse().expect("an address")],
        has_open: false,
    };
    let mut replica = replication::Core::new(config, [1; 32], Now::ZERO, NOW);
    for offer in snapshot.state.market.records.values() {
        let version = Version::of(offer.item()).expect("a sequence");
        let stamp = Stamp { target: offer.target(), version };
        let (maker, dies_at) = (offer.client_id, offer.dies_at);
        replica.handle(Now::ZERO, NOW, Input::Restored { maker, stamp, dies_at });
    }
    let index = lap.next();
    assert_eq!((replica.status().records, core.state().market.records.len()), (RECORDS, RECORDS));
    let laps = [open, load, restore, index, processor].map(|lap| lap.as_nanos().to_string());
    println!("{} {}", laps.join(" "), resident()?.saturating_sub(before));
    black_box((store, core, snapshot, replica));
    Ok(())
}

struct Lap(Instant);

impl Lap {
    fn next(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

/// What this process used of the processors: user and system, in steps of 10 ms.
fn processor_time() -> std::io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name, which may have spaces in it, comes the third field.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of this process, in bytes.
fn resident() -> std::io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    Ok(kilobytes * 1024)
}
