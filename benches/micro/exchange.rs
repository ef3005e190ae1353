//! What the core does for one input, and what readers' snapshots cost, on a node that knows a thousand offers of others.

use super::samples::{Maker, NOW, master, network, new_offer, signed_bid};
use arc_swap::ArcSwap;
use criterion::Criterion;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use vintner::{
    exchange::{Core, Event, Input, Output, OwnOffer, ReplyTo},
    market::{Offer, Via},
    node::Snapshot,
};

/// Offers of others that are known before.
const KNOWN: usize = 1000;
/// Inputs of one core, then it is made anew: the state stays of one size, and making it is not measured.
const CHUNK: usize = 256;
/// The nodes on the bench.
const OWN: u16 = 1;
const OTHER: u16 = 2;
const BIDDER: u16 = 3;

fn core(events: impl IntoIterator<Item = Event>) -> Core {
    Core::restore(master(OWN), network(), [1; 32], events, NOW).0
}

fn heard(offers: &[Arc<Offer>]) -> impl Iterator<Item = Event> {
    offers.iter().map(|offer| Event::Heard(Arc::clone(offer)))
}

/// The time that `each` takes for `count` inputs of a fresh core each [`CHUNK`].
fn timed(
    count: u64,
    fresh: impl Fn() -> Core,
    inputs: &[Input],
    mut each: impl FnMut(&mut Core, Input),
) -> Duration {
    let (mut left, mut total) = (usize::try_from(count).unwrap_or(usize::MAX), Duration::ZERO);
    while left > 0 {
        let mut core = fresh();
        let chunk = inputs[..inputs.len().min(left)].to_vec();
        left -= chunk.len();
        let start = Instant::now();
        for input in chunk {
            each(&mut core, input);
        }
        total += start.elapsed();
    }
    total
}

/// Hands it over; something must come of it, or nothing is measured.
fn handle(core: &mut Core, input: Input) -> Output {
    let mut output = Output::default();
    core.handle(NOW, input, &mut output);
    assert!(!output.events.is_empty(), "an input without effect");
    output
}

pub(super) fn benches(criterion: &mut Criterion) {
    let mut others = Maker::new(OTHER);
    let (known, new) = (others.offers(KNOWN), others.offers(CHUNK));
    let own = Maker::new(OWN).offers(CHUNK);
    let own_events = || {
        let event = |offer: &Arc<Offer>| {
            Event::Own(OwnOffer { offer: Arc::clone(offer), closed: None, published: None })
        };
        own.iter().map(event)
    };
    let create: Vec<Input> = (0..CHUNK)
        .map(|n| Input::Create { new: new_offer(), idempotency: None, reply: ReplyTo(n as u64) })
        .collect();
    let bids: Vec<Input> = own
        .iter()
        .map(|offer| Input::BidReceived { bid: signed_bid(BIDDER, offer), reply: ReplyTo(0) })
        .collect();
    let records: Vec<Input> = new.into_iter().map(|offer| Input::Record(offer, Via::Dht)).collect();

    let mut group = criterion.benchmark_group("core");
    let empty = || core(heard(&known));
    group.bench_function("create", |b| {
        b.iter_custom(|n| timed(n, empty, &create, |core, input| drop(handle(core, input))));
    });
    group.bench_function("incoming bid, accepted", |b| {
        let fresh = || core(heard(&known).chain(own_events()));
        b.iter_custom(|n| timed(n, fresh, &bids, |core, input| drop(handle(core, input))));
    });
    group.bench_function("incoming record", |b| {
        b.iter_custom(|n| timed(n, empty, &records, |core, input| drop(handle(core, input))));
    });
    // What readers hold keeps the old state alive, so the next change copies its path: both belong to the price.
    let snapshot = ArcSwap::new(shown(&empty()));
    group.bench_function("incoming record, and a snapshot for readers", |b| {
        b.iter_custom(|n| {
            timed(n, empty, &records, |core, input| {
                drop(handle(core, input));
                snapshot.store(shown(core));
            })
        });
    });
    group.finish();
}

fn shown(core: &Core) -> Arc<Snapshot> {
    Arc::new(Snapshot { state: core.state().clone(), counters: core.counters() })
}
