//! `make bench-micro`: what single steps cost, by criterion. `docs/benchmarks.md` says how to read them.
//!
//! Each measures one public function on inputs like those of a running node; no sockets, no other process.

mod exchange;
mod krpc;
mod records;
mod replica;
mod samples;
mod store;
mod table;

use criterion::Criterion;
use std::time::{Duration, SystemTime};

fn main() -> std::io::Result<()> {
    if let Some(dir) = replica::to_start_from() {
        return replica::start(&dir);
    }
    let start = SystemTime::now();
    // Twenty samples of three seconds in all: a change of a few percent shows, and the whole takes a minute and a half.
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    records::benches(&mut criterion);
    krpc::benches(&mut criterion);
    exchange::benches(&mut criterion);
    store::benches(&mut criterion);
    criterion.final_summary();
    table::write(start, &replica::starts())
}
