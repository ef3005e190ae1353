//! The parts of the simulator; `tests/simulation.rs` tells what they are for.

mod ledger;
mod node;
#[allow(dead_code, reason = "the simulator of whole nodes uses more of it")]
mod people;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run that broke no rule amounted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub trace_hash: u64,
    pub happenings: u64,
    pub trades: u64,
    pub refusals: u64,
    pub given_up: u64,
    pub crashes: u64,
}

/// Runs one seed. A panic inside the core is a broken rule like any other.
pub(crate) fn run(seed: u64, verbose: bool) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| world::World::new(seed, verbose).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
