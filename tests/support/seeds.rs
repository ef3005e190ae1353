//! Which seeds a simulation runs, and many of them side by side.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Runs the seeds below `seeds`, as many at a time as there are cores. Gives the sum of what the runs count, or the first seed that fails.
#[allow(dead_code, reason = "the simulation of the DHT has one seed")]
pub fn run_all<E>(seeds: u64, run: impl Fn(u64) -> Result<u64, E> + Sync) -> Result<u64, u64> {
    let [next, first_bad, sum] = [0, u64::MAX, 0].map(AtomicU64::new);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || seed > first_bad.load(Ordering::Relaxed) {
                        return;
                    }
                    match run(seed) {
                        Ok(count) => _ = sum.fetch_add(count, Ordering::Relaxed),
                        Err(_) => _ = first_bad.fetch_min(seed, Ordering::Relaxed),
                    }
                }
            });
        }
    });
    match first_bad.into_inner() {
        u64::MAX => Ok(sum.into_inner()),
        bad => Err(bad),
    }
}
