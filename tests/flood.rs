//! A flood of hostile datagrams against a real grape, and what else it is asked meanwhile.
//!
//! `make flood` sends 50,000 a second for a minute: garbage, valid queries from many loopback addresses, answers to queries that
//! nobody sent, puts with bad signatures and bad tokens, announcements without end. The grape must not end, its memory must not
//! grow, and lookups through its HTTP API, of names that were just announced through another grape, must stay quick. As part of
//! `make test` it takes a few seconds, with bounds that a busy machine keeps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{Grape, eventually, exchange, grape, vintner_grape};
use vintner::dht::{
    NodeId,
    core::krpc::{Ask, Message, SignedArgs, decode, write_query},
};

/// Hostile datagrams a second.
const RATE: u64 = 50_000;
/// Addresses that they come from.
const SOURCES: u8 = 200;
/// Of these, the ones that send forgeries only.
const FORGERS: usize = 4;
/// How long the flood lasts as part of `make test`, and how fast it is: tests run side by side.
const SHORT: Duration = Duration::from_secs(4);
const SHORT_RATE: u64 = 5_000;
/// More than a grape whose stores are full takes.
const MEMORY_BYTES_MAX: f64 = 100e6;
/// How much it may grow in the second half of the flood, when the stores are full.
const GROWTH_BYTES_MAX: f64 = 4e6;
/// The slowest of a hundred lookups.
const P99_MAX: Duration = Duration::from_millis(100);
/// What a lookup may take on a machine that runs other tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of many senders, with a write token of its own.
struct Source {
    udp: UdpSocket,
    token: Vec<u8>,
}

impl Source {
    /// On 127.x.y.z, as a node that the grape gives a token to.
    fn new(n: u8, target: SocketAddr) -> Self {
        let udp = UdpSocket::bind((Ipv4Addr::new(127, n / 16 + 1, n, 1), 0)).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut query = Vec::new();
        write_query(&mut query, *b"aaaa", &NodeId([n; 20]), &Ask::Get { target: &[n; 20] });
        udp.send_to(&query, target).unwrap();
        let mut buffer = [0; 2000];
        let token = loop {
            let len = udp.recv(&mut buffer).unwrap();
            if let Some(Message::Reply { reply, .. }) = decode(&buffer[..len]) {
                break reply.token.unwrap().to_vec();
            }
        };
        udp.set_nonblocking(true).unwrap();
        Self { udp, token }
    }
}

/// Writes one hostile datagram; of a forger, a put with a bad signature or a bad token.
fn hostile(rng: &mut StdRng, forger: bool, token: &[u8], out: &mut Vec<u8>) {
    let (id, name, target) = (NodeId(rng.random()), rng.random::<[u8; 20]>(), rng.random::<[u8; 20]>());
    let put = |out: &mut Vec<u8>, token: &[u8], sig: [u8; 64]| {
        let signed = SignedArgs { k: [7; 32], sig, seq: 1, salt: &name };
        let ask = Ask::Put { target: &target, token, v: b"6:forged", signed: Some(signed), cas: None };
        write_query(out, *b"aaaa", &id, &ask);
    };
    match rng.random_range(if forger { 8..10 } else { 0..12 }) {
        0 => out.extend((0..rng.random_range(0..400)).map(|_| rng.random::<u8>())),
        1 => {
            write_query(out, *b"aaaa", &id, &Ask::Ping);
            out.truncate(rng.random_range(0..out.len()));
        }
        2 => write_query(out, *b"aaaa", &id, &Ask::Ping),
        3 => write_query(out, *b"aaaa", &id, &Ask::FindNode { target: &target, both: false }),
        4 => write_query(out, *b"aaaa", &id, &Ask::GetPeers { name: &name }),
        5 => write_query(out, *b"aaaa", &id, &Ask::Get { target: &target }),
        6 | 7 => {
            out.extend_from_slice(b"d1:rd2:id20:");
            out.extend_from_slice(&id.0);
            out.extend_from_slice(b"5:nodes26:");
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&[127, 0, 0, 1, 0, 9]);
            out.extend_from_slice(b"e1:t4:");
            out.extend_from_slice(&rng.random::<[u8; 4]>());
            out.extend_from_slice(b"1:y1:re");
        }
        8 => put(out, token, [rng.random(); 64]),
        9 => put(out, &rng.random::<[u8; 8]>(), [1; 64]),
        10 => write_query(
            out,
            *b"aaaa",
            &id,
            &Ask::Announce { name: &name, port: rng.random_range(1..9999), token },
        ),
        _ => {
            let ask = Ask::Put { target: &target, token, v: b"20:", signed: None, cas: None };
            write_query(out, *b"aaaa", &id, &ask);
            // Each another value, stored.
            let at = out.windows(6).position(|part| part == b"1:v20:").unwrap() + 6;
            out.splice(at..at, name);
        }
    }
}

/// Sends until told to stop, a little every millisecond.
fn flood(target: SocketAddr, rate: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let sources: Vec<Source> = (0..SOURCES).map(|n| Source::new(n, target)).collect();
    let mut rng = StdRng::seed_from_u64(1);
    let (started, mut done, mut out) = (Instant::now(), 0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        // What a machine that was away missed is not made up for all at once.
        done = done.max(due.saturating_sub(rate / 50));
        while done < due {
            let forger = rng.random_range(0..4) == 0;
            let source = &sources[rng.random_range(if forger { 0..FORGERS } else { FORGERS..sources.len() })];
            out.clear();
            hostile(&mut rng, forger, &source.token, &mut out);
            // A full queue of the system drops it, as a full line would.
            sent.fetch_add(u64::from(source.udp.send_to(&out, target).is_ok()), Ordering::Relaxed);
            done += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A number on the page that Prometheus reads.
async fn metric(of: &Grape, name: &str) -> f64 {
    let page = exchange(of.http, "GET /metrics HTTP/1.1", "").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}\n{page}")).parse().unwrap()
}

async fn received(of: &Grape) -> f64 {
    let mut all = 0.0;
    for name in [
        "vintner_dht_queries_received_total",
        "vintner_dht_malformed_total",
        "vintner_dht_unasked_total",
        "vintner_bound_hits_total{bound=\"dht_datagrams\"}",
    ] {
        all += metric(of, name).await;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_hostile_datagrams_is_survived_beside_quick_lookups_in_constant_memory() {
    let seconds = std::env::var("VINTNER_FLOOD_SECONDS").ok().map(|text| text.parse().unwrap());
    let (lasts, rate) = seconds.map_or((SHORT, SHORT_RATE), |seconds| (Duration::from_secs(seconds), RATE));
    let victim = vintner_grape(&[], &[]).await;
    let helper = vintner_grape(&[victim.bootstrap()], &[]).await;
    let third = vintner_grape(&[victim.bootstrap(), helper.bootstrap()], &[]).await;
    eventually(helper.http, "announce", json!(["first", 1]), |answer| answer.json() == json!(2)).await;
    eventually(victim.http, "lookup", json!("first"), |answer| answer.json() == json!(["127.0.0.1:1"])).await;

    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, victim.dht));
    let generator = {
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        thread::spawn(move || flood(target, rate, &stop, &sent))
    };
    while sent.load(Ordering::Relaxed) == 0 {
        assert!(!generator.is_finished());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (started, mut took, mut half, mut n) = (Instant::now(), Vec::new(), None, 0);
    let (sent_before, received_before) = (sent.load(Ordering::Relaxed), received(&victim).await);
    let cpu_before = metric(&victim, "process_cpu_seconds_total").await;
    while started.elapsed() < lasts {
        n += 1;
        let name = format!("service {n}");
        let noted = grape(helper.http, "announce", json!([name, 4000])).await.json();
        assert!(noted.as_u64().is_some_and(|nodes| nodes >= 1), "{noted}");
        let asked = Instant::now();
        let lookup = tokio::time::timeout(PATIENCE, grape(victim.http, "lookup", json!(name))).await.unwrap();
        took.push(asked.elapsed());
        assert_eq!(lookup.json(), json!(["127.0.0.1:4000"]), "{name}");
        if half.is_none() && started.elapsed() > lasts / 2 {
            half = Some(metric(&victim, "process_resident_memory_bytes").await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (elapsed, memory) =
        (started.elapsed().as_secs_f64(), metric(&victim, "process_resident_memory_bytes").await);
    let cpu = metric(&victim, "process_cpu_seconds_total").await - cpu_before;
    let sent = sent.load(Ordering::Relaxed) - sent_before;
    let received = received(&victim).await - received_before;
    let dropped = metric(&victim, "vintner_bound_hits_total{bound=\"dht_datagrams\"}").await;
    stop.store(true, Ordering::Relaxed);
    generator.join().unwrap();
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let half = half.unwrap_or(memory);
    println!(
        "{:.0} datagrams a second sent, {:.0} received, {:.0}% of these not parsed; {:.0}% of a core; {} lookups: p50 {p50:?}, p99 \
         {p99:?}, slowest {:?}; memory {:.1} MB half-way, {:.1} MB at the end",
        sent as f64 / elapsed,
        received / elapsed,
        100.0 * dropped / received,
        100.0 * cpu / elapsed,
        took.len(),
        took.last().unwrap(),
        half / 1e6,
        memory / 1e6,
    );
    assert!(received > 0.0 && dropped > 0.0, "the flood arrived, and misdeeds were shut out");
    assert!(memory < MEMORY_BYTES_MAX, "{memory} bytes");
    if seconds.is_some() {
        assert!(memory - half < GROWTH_BYTES_MAX, "it grew from {half} to {memory} bytes");
        assert!(p99 < P99_MAX, "{p99:?}");
    }
    for alive in [victim, helper, third] {
        assert!(alive.process.terminate().await.success());
    }
}
