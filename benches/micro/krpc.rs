//! Datagrams of the DHT: read and written for every message.

use super::samples::Maker;
use criterion::{Criterion, Throughput};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};
use vintner::dht::{
    NodeId,
    core::{
        Contact, K,
        krpc::{Answer, Ask, SignedArgs, decode, write_query, write_reply},
    },
};

const OWN: NodeId = NodeId([7; 20]);
const TRANSACTION: [u8; 4] = *b"abcd";
/// As long as ours and those of stock grapes.
const TOKEN: [u8; 20] = [9; 20];
const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20_001);
/// Longer than any datagram here.
const DATAGRAM_BYTES: usize = 2048;

pub(super) fn benches(criterion: &mut Criterion) {
    let offer = Maker::new(1).offer();
    let item = offer.item();
    let (name, target) = (format!("NEW_OFFER:{}", offer.target()), offer.target());
    let signed = SignedArgs { k: item.k.0, sig: item.sig.0, seq: item.seq, salt: b"" };
    let contacts: Vec<Contact> = (0..K)
        .map(|n| Contact {
            id: NodeId([n as u8; 20]),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + n as u16)),
        })
        .collect();
    let put = Ask::Put { target: &target.0, token: &TOKEN, v: &item.v, signed: Some(signed), cas: None };
    let announce = Ask::Announce { name: name.as_bytes(), port: 1337, token: &TOKEN };
    let nodes = Answer { nodes: Some(&contacts), token: Some(&TOKEN), ..Answer::default() };
    let value =
        Answer { v: Some(&item.v), signed: Some((&item.k.0, &item.sig.0)), seq: Some(item.seq), ..nodes };

    let queries = [("put of an offer", put), ("announce", announce), ("get", Ask::Get { target: &target.0 })];
    for (what, ask) in queries {
        both(criterion, what, |out| write_query(out, TRANSACTION, &OWN, &ask));
    }
    for (what, answer) in [("answer with 20 nodes", nodes), ("answer with an offer", value)] {
        both(criterion, what, |out| write_reply(out, Some(&TRANSACTION), &OWN, FROM, &answer));
    }
}

/// Encodes into a buffer that is used again and again, as a node does, and decodes what that gave.
fn both(criterion: &mut Criterion, what: &str, write: impl Fn(&mut Vec<u8>)) {
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    write(&mut datagram);
    let mut group = criterion.benchmark_group("krpc");
    group.throughput(Throughput::Bytes(datagram.len() as u64));
    let mut out = Vec::with_capacity(DATAGRAM_BYTES);
    group.bench_function(format!("encode {what}"), |b| {
        b.iter(|| {
            out.clear();
            write(&mut out);
            black_box(&out);
        });
    });
    group.bench_function(format!("decode {what}"), |b| {
        b.iter(|| assert!(black_box(decode(black_box(&datagram))).is_some()));
    });
    group.finish();
}
