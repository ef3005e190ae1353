//! Signing and verifying, the largest share of what an offer costs a processor.

use super::samples::{Maker, bid, master, network, signed_bid};
use criterion::{BatchSize, Criterion};
use std::hint::black_box;
use vintner::{
    identity::Signed,
    market::{Bid, Offer},
};

pub(super) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let mut maker = Maker::new(1);
    let offer = maker.offer();
    // The record's key is derived, the proof signed by the client key, the item by the record's.
    group.bench_function("create", |b| b.iter(|| maker.offer()));
    group.bench_function("close", |b| {
        b.iter(|| black_box(&offer).close(&master(1), super::samples::NOW).expect("a closed offer"));
    });
    let item = offer.item().clone().into_inner();
    group.bench_function("verify the item's signature", |b| {
        b.iter_batched(
            || item.clone(),
            |item| item.verify().expect("its own signature"),
            BatchSize::SmallInput,
        );
    });
    // JSON, fields, and the proof's signature.
    group.bench_function("read a verified item", |b| {
        b.iter_batched(
            || offer.item().clone(),
            |item| Offer::read(item, &network(), None).expect("an offer"),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("read a newer version", |b| {
        b.iter_batched(
            || offer.item().clone(),
            |item| Offer::read(item, &network(), Some(&offer)).expect("an offer"),
            BatchSize::SmallInput,
        );
    });
    group.finish();

    let mut group = criterion.benchmark_group("bid");
    let (key, plain) = (master(2).client_key(), bid(2, &offer));
    group.bench_function("sign", |b| {
        b.iter_batched(|| plain.clone(), |bid| Signed::sign(&key, bid), BatchSize::SmallInput);
    });
    let source = signed_bid(2, &offer).source().clone();
    group.bench_function("verify", |b| {
        b.iter_batched(
            || source.clone(),
            |source| Signed::<Bid>::verify(source, &network()).expect("its own signature"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
