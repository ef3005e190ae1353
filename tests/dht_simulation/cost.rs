//! What one lookup costs in a calm ring of a hundred. A stock grape asks 27 to 31 nodes there.

use crate::life::Life;
use rand::RngExt;
use std::{sync::Arc, time::Duration};
use vintner::{
    bep44::Target,
    dht::core::{GetMode, OpId, Request},
};

const NODES: u32 = 100;
const LOOKUPS: u64 = 60;
const STOCK_ASKS: f64 = 31.0;

#[test]
fn a_lookup_in_a_ring_of_a_hundred_asks_no_more_nodes_than_a_stock_grape() {
    let mut life = Life::begin(3, NODES);
    life.run(Duration::from_mins(1));
    for (what, is_get) in [("get_peers", false), ("get", true)] {
        let (mut queries, mut datagrams, mut bytes) = (0, 0, 0);
        for n in 0..LOOKUPS {
            let asker = life.net.rng.random_range(0..NODES);
            let target: [u8; 20] = life.net.rng.random();
            let request = if is_get {
                Request::Get { target: Target(target), salt: Arc::default(), mode: GetMode::Network }
            } else {
                Request::Lookup { name: target[..].into() }
            };
            let asked = life.net.core(asker).unwrap().status().queries_out;
            let traffic = life.net.traffic(asker);
            life.net.done.clear();
            life.net.start_op(asker, OpId(n), request);
            while life.net.done.is_empty() {
                life.net.run(life.net.now.plus(Duration::from_millis(1)));
            }
            // What the asker does besides in this half second is little, and is counted too.
            queries += life.net.core(asker).unwrap().status().queries_out - asked;
            let cost = life.net.traffic(asker).since(traffic);
            (datagrams, bytes) = (datagrams + cost.datagrams, bytes + cost.bytes);
        }
        let of_one = |sum: u64| sum as f64 / LOOKUPS as f64;
        println!(
            "{what} at {NODES} nodes: {:.1} queries, {:.1} datagrams, {:.0} bytes with IP and UDP headers",
            of_one(queries),
            of_one(datagrams),
            of_one(bytes)
        );
        assert!(of_one(queries) <= STOCK_ASKS);
    }
}
