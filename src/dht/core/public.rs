//! One core and strangers of the public network: what they get before they have shown that they are there, and after; and what
//! a source may send. On private addresses none of this binds (`conformance` has those).

use super::{
    krpc::{Ask, Message, SignedArgs, decode, write_query},
    simulation::{addr, config, signed},
    *,
};
use crate::bep44::bencode_bytes;
use proptest::prelude::*;
use std::time::Duration;

const STRANGER: NodeId = NodeId([9; 20]);

struct Bench {
    core: Core,
    now: Now,
    bytes_in: usize,
    bytes_out: usize,
}

fn public(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from(([8, a, b, 8], 6881))
}

impl Bench {
    fn new() -> Self {
        let mut core = Core::new(config(addr(0), &[]), [1; 32], Now::ZERO);
        core.handle(Now::ZERO, Input::Timeout);
        while core.next_output().is_some() {}
        Self { core, now: Now::ZERO, bytes_in: 0, bytes_out: 0 }
    }

    /// With nodes and peers to give, and an item.
    fn full() -> Self {
        let mut bench = Self::new();
        for n in 0..40u8 {
            let contact = Contact { id: NodeId([n.wrapping_mul(37); 20]), addr: public(u16::from(n) + 900) };
            bench.core.tables.of_mut(&contact.addr).unwrap().answered(contact, Now::ZERO);
        }
        for n in 0..300 {
            bench.core.peers.announce(&[7; 20], public(n + 2000), Now::ZERO);
        }
        bench.core.store_item(Now::ZERO, big(), Payer::Own);
        bench.core.store_item(Now::ZERO, small(), Payer::Own);
        bench
    }

    /// All that is sent to a node after its datagram.
    fn send(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.core.handle(self.now, Input::Datagram { from, bytes });
        while let Some(output) = self.core.next_output() {
            if let Output::Verify { id, item } = output {
                let verdict = item.verify().map_or(Verdict::Bad, Verdict::Good);
                self.core.handle(self.now, Input::Verified { id, verdict });
            }
        }
        let sent: Vec<_> =
            self.core.datagrams().filter(|(to, _)| *to == from).map(|(_, bytes)| bytes.to_vec()).collect();
        self.core.clear_datagrams();
        self.bytes_in += bytes.len();
        self.bytes_out += sent.iter().map(Vec::len).sum::<usize>();
        sent
    }

    fn ask(&mut self, from: SocketAddr, ask: &Ask<'_>) -> Vec<Vec<u8>> {
        let mut query = Vec::new();
        write_query(&mut query, *b"abcd", &STRANGER, ask);
        self.send(from, &query)
    }

    /// The answer among what was sent: its token, peers, nodes, and value.
    fn answer(&mut self, from: SocketAddr, ask: &Ask<'_>) -> (Vec<u8>, usize, usize, Option<Vec<u8>>) {
        let sent = self.ask(from, ask);
        let read = sent.iter().find_map(|bytes| match decode(bytes) {
            Some(Message::Reply { t: b"abcd", reply, .. }) => Some((
                reply.token.unwrap_or_default().to_vec(),
                reply.peers().count(),
                reply.contacts().count(),
                reply.v.map(<[u8]>::to_vec),
            )),
            _ => None,
        });
        read.unwrap()
    }
}

fn big() -> Item {
    Item::Immutable(bencode_bytes(&[b'x'; 1000]))
}

fn small() -> Item {
    Item::Immutable(bencode_bytes(b"small"))
}

/// Answers a ping of the core.
fn pong(query: &[u8], id: NodeId) -> Vec<u8> {
    let t = bencode::parse(query).unwrap().raw.fields().find(|(key, _)| *key == b"t").unwrap().1;
    let mut out = b"d1:rd2:id20:".to_vec();
    out.extend_from_slice(&id.0);
    out.extend_from_slice(b"e1:t");
    out.extend_from_slice(t.encoded());
    out.extend_from_slice(b"1:y1:re");
    out
}

fn the_ping(sent: &[Vec<u8>]) -> &[u8] {
    let is_ping = |bytes: &&Vec<u8>| matches!(decode(bytes), Some(Message::Query { .. }));
    sent.iter().find(is_ping).unwrap()
}

#[test]
fn a_stranger_gets_twice_his_bytes_with_a_token_and_all_once_he_used_it() {
    let mut bench = Bench::full();
    let get = Ask::Get { target: &big().target().0 };
    let (token, _, nodes, v) = bench.answer(public(1), &get);
    assert!(!token.is_empty() && nodes >= 1);
    assert_eq!(v, None, "it would not fit");
    let (_, _, _, v) = bench.answer(public(1), &Ask::Get { target: &small().target().0 });
    assert_eq!(v.as_deref(), Some(&b"5:small"[..]), "a small one fits");
    let (_, peers, nodes, _) = bench.answer(public(1), &Ask::GetPeers { name: &[7; 20] });
    assert!((1..10).contains(&peers) && nodes >= 1, "{peers} {nodes}");
    assert!(bench.bytes_out <= 2 * bench.bytes_in);

    let announce = Ask::Announce { name: b"name", port: 1, token: &token };
    bench.ask(public(1), &announce);
    assert_eq!(bench.core.status().proven, 1);
    let (_, _, nodes, v) = bench.answer(public(1), &get);
    assert!(v.is_some_and(|v| v == **big().v()) && nodes >= 3);
    let (_, peers, nodes, _) = bench.answer(public(1), &Ask::GetPeers { name: &[7; 20] });
    assert!(peers > 90 && nodes == 20, "{peers} {nodes}");
    bench.now = bench.now.plus(Duration::from_mins(15));
    assert_eq!(bench.answer(public(1), &get).3, None, "a proof grows old");
}

#[test]
fn a_stranger_who_answers_the_ping_is_proven_and_enters_the_table() {
    let mut bench = Bench::new();
    bench.core.store_item(Now::ZERO, big(), Payer::Own);
    let sent = bench.ask(public(1), &Ask::Get { target: &big().target().0 });
    let forged = pong(the_ping(&sent), STRANGER);
    bench.send(public(2), &forged);
    assert_eq!(bench.core.status().proven, 0, "from another address");
    bench.send(public(1), &forged);
    assert_eq!((bench.core.status().proven, bench.core.status().nodes), (1, 1));
    let (_, _, _, v) = bench.answer(public(1), &Ask::Get { target: &big().target().0 });
    assert!(v.is_some());
}

#[test]
fn a_question_asked_again_with_the_token_is_answered_whole() {
    let mut bench = Bench::full();
    let target = big().target();
    let (token, ..) = bench.answer(public(1), &Ask::Get { target: &target.0 });
    let (_, _, _, v) = bench.answer(public(2), &Ask::GetAgain { target: &target.0, token: &token });
    assert_eq!(v, None, "another's token");
    let (_, _, _, v) = bench.answer(public(1), &Ask::GetAgain { target: &target.0, token: &token });
    assert!(v.is_some());
}

#[test]
fn a_flood_of_forged_senders_leaves_nothing_behind() {
    let mut bench = Bench::new();
    for n in 0..20_000 {
        bench.ask(public(n), &Ask::Ping);
    }
    let status = bench.core.status();
    assert_eq!((status.queries_in_flight, status.proven, status.nodes), (0, 0, 0));
    assert!(bench.bytes_out <= 2 * bench.bytes_in);
    assert!(!bench.core.rpc.is_waiting());
}

#[test]
fn read_only_strangers_are_not_pinged() {
    let mut bench = Bench::new();
    let sent = bench.send(public(1), b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping2:roi1e1:t1:t1:y1:qe");
    assert!(matches!(&sent[..], [one] if matches!(decode(one), Some(Message::Reply { .. }))));
}

#[test]
fn a_source_over_its_rate_is_not_read_but_for_answers_to_our_queries() {
    let mut bench = Bench::new();
    let host = SocketAddr::from(([8, 8, 8, 8], 6881));
    // It becomes known, and is asked.
    let sent = bench.ask(host, &Ask::Ping);
    bench.send(host, &pong(the_ping(&sent), STRANGER));
    bench.core.check(bench.now, host);
    let check = bench.core.datagrams().next().unwrap().1.to_vec();
    bench.core.clear_datagrams();
    for n in 0..3000 {
        bench.ask(SocketAddr::new(host.ip(), 1000 + n), &Ask::Ping);
    }
    let queries = bench.core.status().queries_in;
    assert!((900..1100).contains(&queries), "{queries}");
    assert!(bench.core.status().dropped.datagrams >= 1900);
    assert_eq!(bench.ask(host, &Ask::Ping), Vec::<Vec<u8>>::new(), "a query of the awaited is not answered");
    let before = bench.core.status().answers_in;
    bench.send(host, &pong(&check, STRANGER));
    assert_eq!(bench.core.status().answers_in, before + 1);
    bench.now = bench.now.plus(Duration::from_secs(5));
    assert!(!bench.ask(host, &Ask::Ping).is_empty());
}

#[test]
fn bad_signatures_cost_a_source_its_rate() {
    let mut bench = Bench::new();
    let host = SocketAddr::from(([8, 8, 8, 8], 6881));
    let (token, ..) = bench.answer(host, &Ask::Get { target: &[1; 20] });
    for seq in 0..2000 {
        let item = signed(1, seq, "forged");
        let args = SignedArgs { k: item.k.0, sig: [1; 64], seq, salt: b"" };
        let put = Ask::Put { target: &[0; 20], token: &token, v: &item.v, signed: Some(args), cas: None };
        bench.ask(host, &put);
    }
    let status = bench.core.status();
    assert!((30..100).contains(&status.verifications), "{}", status.verifications);
    assert_eq!(status.bad_signatures, status.verifications);
}

fn any_query() -> impl Strategy<Value = Vec<u8>> {
    let written = (0..5usize, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, name)| {
        let mut out = Vec::new();
        let (big, small) = (big().target().0, small().target().0);
        let ask = match kind {
            0 => Ask::Ping,
            1 => Ask::FindNode { target: &name, both: true },
            2 => Ask::GetPeers { name: &[7; 20] },
            3 => Ask::Get { target: &big },
            _ => Ask::Get { target: &small },
        };
        write_query(&mut out, *b"abcd", &STRANGER, &ask);
        out
    });
    let tiny = prop::sample::select(vec![
        b"d1:y1:qe".to_vec(),
        b"d1:q4:ping1:y1:qe".to_vec(),
        b"d1:q4:ping1:t0:1:y1:qe".to_vec(),
        b"d1:ade1:q9:get_peers1:t1:a1:y1:qe".to_vec(),
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t0:1:y1:qe".to_vec(),
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa6:target1:ae1:q9:find_node1:t1:t1:y1:qe".to_vec(),
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa6:target1:ae1:q17:sample_infohashes1:t1:t1:y1:qe".to_vec(),
        b"d1:ad9:info_hash1:a4:porti5e5:token1:te1:q13:announce_peer1:t1:t1:y1:qe".to_vec(),
    ]);
    prop_oneof![written, tiny, prop::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn no_datagram_of_a_stranger_brings_him_more_than_twice_its_bytes(queries in prop::collection::vec(any_query(), 1..20)) {
        let mut bench = Bench::full();
        for query in queries {
            let (bytes_in, bytes_out) = (bench.bytes_in, bench.bytes_out);
            bench.send(public(1), &query);
            prop_assert!(bench.bytes_out - bytes_out <= 2 * (bench.bytes_in - bytes_in));
        }
        // What may follow without a datagram of his, such as a query repeated, counts too.
        for _ in 0..20 {
            bench.now = bench.now.plus(Duration::from_millis(500));
            bench.core.handle(bench.now, Input::Timeout);
            bench.bytes_out += bench.core.datagrams().filter(|(to, _)| *to == public(1)).map(|(_, b)| b.len()).sum::<usize>();
            bench.core.clear_datagrams();
        }
        prop_assert!(bench.bytes_out <= 2 * bench.bytes_in);
    }
}
