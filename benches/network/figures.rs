//! What is measured: named numbers of one run, latencies, and what the kernel knows of processes.

use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs, time::Duration};

/// The figures of one system in one round, by name; `report` says what they mean.
pub(super) type Figures = BTreeMap<String, f64>;

/// The kernel counts processor time for everybody in hundredths of a second (`USER_HZ`), whatever its own clock does.
const TICK: Duration = Duration::from_millis(10);

/// Times of single requests.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds, by nearest rank; nothing when nothing was measured.
    pub(super) fn percentile_ms(&mut self, percent: usize) -> Option<f64> {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).map(|took| took.as_secs_f64() * 1e3)
    }

    /// Writes `<name>_p50_ms` and `<name>_p99_ms`.
    pub(super) fn report(&mut self, name: &str, figures: &mut Figures) {
        for percent in [50, 99] {
            if let Some(ms) = self.percentile_ms(percent) {
                figures.insert(format!("{name}_p{percent}_ms"), ms);
            }
        }
    }
}

/// Processor time of this process's main thread, which is the client.
pub(super) fn cpu_of_this_process() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/schedstat")
        .context("the kernel does not say what the client takes")?;
    let nanos =
        text.split(' ').next().and_then(|nanos| nanos.parse().ok()).context("/proc/self/schedstat")?;
    Ok(Duration::from_nanos(nanos))
}

/// Processor time that processes have taken so far, user and system, all threads.
pub(super) fn cpu_of(processes: &[u32]) -> Result<Duration> {
    let ticks = |process: &u32| -> Result<u32> {
        let path = format!("/proc/{process}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("process {process} has ended"))?;
        // The name, in parentheses, may contain anything; utime and stime are the 12th and 13th fields after it.
        let after = text.rsplit_once(") ").map_or("", |(_, after)| after);
        let fields: Vec<&str> = after.split(' ').collect();
        let field = |n: usize| fields.get(n).and_then(|field| field.parse::<u32>().ok());
        field(11).zip(field(12)).map(|(user, system)| user + system).context(path)
    };
    let total: u32 = processes.iter().map(ticks).sum::<Result<u32>>()?;
    Ok(TICK * total)
}

/// Resident memory of a process, in MB (10^6 bytes).
pub(super) fn resident_mb(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("process {process} has ended"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context(path)?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kib * 1024.0 / 1e6)
}

/// The middle of `values`; of an even number, the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}
