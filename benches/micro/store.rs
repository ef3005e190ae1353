//! Commits by batch size: one transaction, one sync of the disk, whatever is in it.

use super::samples::{Maker, master, network};
use criterion::{BatchSize, Criterion, Throughput};
use vintner::{
    exchange::{Event, OwnOffer},
    store::Store,
};

/// A single create, and up to the most that the writer puts into one transaction.
const BATCHES: [usize; 4] = [1, 8, 64, 256];

pub(super) fn benches(criterion: &mut Criterion) {
    // On the disk that Cargo builds on. In memory a sync would cost nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory beside the build");
    let client = master(1).client_key().public();
    let mut store = Store::open(dir.path(), &network(), client).expect("a new store");
    let mut maker = Maker::new(1);
    let mut group = criterion.benchmark_group("store");
    for size in BATCHES {
        group.throughput(Throughput::Elements(size as u64));
        let mut events = || -> Vec<Event> {
            let offers = maker.offers(size).into_iter();
            offers.map(|offer| Event::Own(OwnOffer { offer, closed: None, published: None })).collect()
        };
        group.bench_function(format!("commit {size} new offers"), |b| {
            b.iter_batched(
                &mut events,
                |events| store.commit(&events).expect("a commit"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
