//! One core against hand-made datagrams: what others may send, and what they get.

use super::{
    bencode::{parse, write_bytes},
    krpc::{Ask, Message, Reply, SignedArgs, decode, write_query},
    simulation::{addr, config, signed},
    *,
};
use crate::bep44::{VerifiedItem, bencode_bytes};
use std::time::Duration;

const ID: NodeId = NodeId([9; 20]);

struct Bench {
    core: Core,
    now: Now,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    outcomes: Vec<Outcome>,
    events: Vec<DhtEvent>,
}

impl Bench {
    fn new() -> Self {
        let core = Core::new(config(addr(0), &[]), [1; 32], Now::ZERO);
        let mut bench =
            Self { core, now: Now::ZERO, sent: Vec::new(), outcomes: Vec::new(), events: Vec::new() };
        bench.input(Input::Timeout);
        bench
    }

    fn input(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Verify { id, item } => {
                    let verdict = item.verify().map_or(Verdict::Bad, Verdict::Good);
                    self.core.handle(self.now, Input::Verified { id, verdict });
                }
                Output::Done(_, outcome) => self.outcomes.push(outcome),
                Output::Event(event) => self.events.push(event),
                Output::Resolve => {}
            }
        }
        self.sent.extend(self.core.datagrams().map(|(to, bytes)| (to, bytes.to_vec())));
        self.core.clear_datagrams();
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.input(Input::Timeout);
    }

    /// Sends a datagram from a node; what came back to it, queries of ours left out.
    fn send(&mut self, from: u16, bytes: &[u8]) -> Option<Vec<u8>> {
        self.sent.clear();
        self.input(Input::Datagram { from: addr(from), bytes });
        let answers = self.sent.iter().filter(|(to, bytes)| {
            assert!(bytes.len() <= 1400);
            *to == addr(from) && !matches!(decode(bytes), Some(Message::Query { .. }))
        });
        let answers: Vec<_> = answers.map(|(_, bytes)| bytes.clone()).collect();
        assert!(answers.len() <= 1);
        answers.into_iter().next()
    }

    fn ask(&mut self, from: u16, ask: &Ask<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write_query(&mut out, *b"abcd", &ID, ask);
        self.send(from, &out).unwrap()
    }

    /// Zero for an answer, otherwise the code of the error.
    fn code(&mut self, from: u16, ask: &Ask<'_>) -> i64 {
        match decode(&self.ask(from, ask)) {
            Some(Message::Reply { t: b"abcd", .. }) => 0,
            Some(Message::Error { t: b"abcd", code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    fn token(&mut self, from: u16) -> Vec<u8> {
        let answer = self.ask(from, &Ask::Get { target: &[1; 20] });
        reply(&answer).token.unwrap().to_vec()
    }

    fn put(&mut self, item: &VerifiedItem, sig: [u8; 64], cas: Option<i64>) -> i64 {
        let token = self.token(1);
        let signed = Some(SignedArgs { k: item.k.0, sig, seq: item.seq, salt: &item.salt });
        let target = item.target().0;
        self.code(1, &Ask::Put { target: &target, token: &token, v: &item.v, signed, cas })
    }

    /// The queries that were sent to a node, and not looked at yet.
    fn queries_to(&mut self, n: u16) -> Vec<Vec<u8>> {
        let (to, rest) = self.sent.drain(..).partition(|(to, _)| *to == addr(n));
        self.sent = rest;
        to.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Makes node `n` known and good.
    fn befriend(&mut self, n: u16) {
        let mut ping = Vec::new();
        write_query(&mut ping, *b"ping", &friend(n), &Ask::Ping);
        self.send(n, &ping);
        let check = self.queries_to(n).pop().unwrap();
        self.reply_to(n, &check, b"");
        // The join that follows finds nobody else.
        for _ in 0..3 {
            self.wait(Duration::from_millis(300));
            for query in self.queries_to(n) {
                self.reply_to(n, &query, b"");
            }
        }
        assert_eq!(self.core.status().nodes_good, 1);
    }

    /// Answers a query of ours: `fields` are those that sort after `id`.
    fn reply_to(&mut self, n: u16, query: &[u8], fields: &[u8]) {
        let mut out = b"d1:rd2:id20:".to_vec();
        out.extend_from_slice(&friend(n).0);
        out.extend_from_slice(fields);
        out.push(b'e');
        self.finish_to(n, query, out, b"1:y1:re");
    }

    fn error_to(&mut self, n: u16, query: &[u8], code: i64) {
        self.finish_to(n, query, format!("d1:eli{code}e1:xe").into_bytes(), b"1:y1:ee");
    }

    fn finish_to(&mut self, n: u16, query: &[u8], mut out: Vec<u8>, end: &[u8]) {
        let (_, t) = parse(query).unwrap().raw.fields().find(|(key, _)| *key == b"t").unwrap();
        out.extend_from_slice(b"1:t");
        out.extend_from_slice(t.encoded());
        out.extend_from_slice(end);
        self.input(Input::Datagram { from: addr(n), bytes: &out });
    }
}

fn friend(n: u16) -> NodeId {
    NodeId([n as u8 + 100; 20])
}

fn reply(datagram: &[u8]) -> Reply<'_> {
    match decode(datagram) {
        Some(Message::Reply { reply, .. }) => reply,
        other => panic!("{other:?}"),
    }
}

fn method(query: &[u8]) -> Vec<u8> {
    let raw = parse(query).unwrap().raw;
    raw.fields().find(|(key, _)| *key == b"q").unwrap().1.bytes().unwrap().to_vec()
}

#[test]
fn transaction_ids_of_any_length_are_echoed() {
    let mut bench = Bench::new();
    for len in [0usize, 1, 2, 4, 8, 20, 32] {
        let t = "t".repeat(len);
        let query = format!("d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t{len}:{t}1:y1:qe");
        let answer = bench.send(1, query.as_bytes()).unwrap();
        assert!(matches!(decode(&answer), Some(Message::Reply { t: echo, .. }) if echo == t.as_bytes()));
    }
    assert!(bench.send(1, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:y1:qe").is_some());
}

#[test]
fn an_answer_tells_the_asker_its_address() {
    let answer = Bench::new().ask(258, &Ask::Ping);
    assert!(answer.starts_with(b"d2:ip6:\x0a\x00\x01\x02\x4e\x20"), "{answer:?}");
}

#[test]
fn a_full_reply_fits_a_datagram_with_values_and_nodes() {
    let mut bench = Bench::new();
    for n in 0..40u8 {
        let contact = Contact { id: NodeId([n.wrapping_mul(37); 20]), addr: addr(u16::from(n) + 500) };
        bench.core.tables.of_mut(&contact.addr).unwrap().answered(contact, Now::ZERO);
    }
    for n in 0..300 {
        bench.core.peers.announce(b"name", addr(n), Now::ZERO);
    }
    let answer = bench.ask(1, &Ask::GetPeers { name: b"name" });
    assert_eq!((reply(&answer).contacts().count(), reply(&answer).peers().count()), (20, 96));
    // The largest value leaves room for fewer nodes.
    let item =
        VerifiedItem::sign(&crate::identity::KeyPair::from_seed(&[1; 32]), b"", 1, bencode_bytes(&[0; 996]))
            .unwrap();
    assert_eq!(bench.put(&item, item.sig.0, None), 0);
    let answer = bench.ask(1, &Ask::Get { target: &item.target().0 });
    assert_eq!(reply(&answer).v, Some(&item.v[..]));
    assert!((3..20).contains(&reply(&answer).contacts().count()));
}

#[test]
fn an_announcement_needs_the_token_of_its_address() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let announce = Ask::Announce { name: b"name", port: 5, token: &token };
    assert_eq!(bench.code(2, &announce), 203);
    assert_eq!(bench.core.status().peers, 0);
    assert_eq!(bench.code(1, &announce), 0);
    let implied = [
        b"d1:ad12:implied_porti1e9:info_hash4:name4:porti7e5:token",
        &bencode_bytes(&token)[..],
        b"e1:q13:announce_peer1:t1:t1:y1:qe",
    ]
    .concat();
    assert!(bench.send(1, &implied).is_some());
    let answer = bench.ask(3, &Ask::GetPeers { name: b"name" });
    let mut peers: Vec<_> = reply(&answer).peers().map(|peer| peer.port()).collect();
    peers.sort_unstable();
    assert_eq!(peers, [5, 20_000]);
    bench.now = bench.now.plus(Duration::from_mins(10));
    assert_eq!(bench.code(1, &announce), 203);
}

#[test]
fn names_of_any_length_up_to_the_bound_are_stored() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    for len in [0, 3, 13, 20, 21, 300, NAME_BYTES_MAX] {
        let name = vec![b'n'; len];
        assert_eq!(bench.code(1, &Ask::Announce { name: &name, port: 5, token: &token }), 0);
        let answer = bench.ask(1, &Ask::GetPeers { name: &name });
        assert_eq!(reply(&answer).peers().count(), 1, "{len}");
    }
    assert_eq!(bench.code(1, &Ask::GetPeers { name: &[0; NAME_BYTES_MAX + 1] }), 203);
}

#[test]
fn puts_follow_bep44() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let immutable = |content: usize| bencode_bytes(&vec![b'x'; content]);
    for (content, code) in [(0, 0), (1000, 0), (1001, 205)] {
        let v = immutable(content);
        assert_eq!(
            bench.code(1, &Ask::Put { target: &[0; 20], token: &token, v: &v, signed: None, cas: None }),
            code
        );
    }
    assert_eq!(
        bench.code(1, &Ask::Put { target: &[0; 20], token: b"no", v: b"1:x", signed: None, cas: None }),
        203
    );
    let (one, five, other) = (signed(1, 1, "one"), signed(1, 5, "five"), signed(1, 5, "other"));
    assert_eq!(bench.put(&five, one.sig.0, None), 206);
    assert_eq!(bench.core.local(&five.target()), None);
    assert_eq!(bench.put(&five, five.sig.0, Some(3)), 0, "cas without a stored item");
    assert_eq!(bench.put(&one, one.sig.0, Some(1)), 301, "cas comes before the sequence");
    assert_eq!(bench.put(&one, one.sig.0, None), 302);
    assert_eq!(bench.put(&other, other.sig.0, None), 302);
    let checks = bench.core.status().verifications;
    assert_eq!(bench.put(&five, five.sig.0, None), 0);
    assert_eq!(bench.core.status().verifications, checks, "known bytes are not verified again");
    let answer = bench.ask(2, &Ask::Get { target: &five.target().0 });
    assert_eq!(reply(&answer).signed, Some((five.k.0, five.sig.0, 5)));
}

#[test]
fn salted_items_live_apart_and_long_salts_are_refused() {
    let mut bench = Bench::new();
    let key = crate::identity::KeyPair::from_seed(&[1; 32]);
    let salted = VerifiedItem::sign(&key, b"foobar", 1, bencode_bytes(b"x")).unwrap();
    assert_eq!(bench.put(&salted, salted.sig.0, None), 0);
    assert!(bench.core.local(&salted.target()).is_some());
    assert!(bench.core.local(&key.public().target()).is_none());
    let token = bench.token(1);
    let long = SignedArgs { k: salted.k.0, sig: salted.sig.0, seq: 1, salt: &[0; 65] };
    let put = Ask::Put { target: &[0; 20], token: &token, v: b"1:x", signed: Some(long), cas: None };
    assert_eq!(bench.code(1, &put), 207);
}

#[test]
fn who_has_this_version_is_told_only_its_number() {
    let mut bench = Bench::new();
    let item = signed(1, 5, "five");
    bench.put(&item, item.sig.0, None);
    for (seq, value) in [(4, true), (5, false), (6, false)] {
        let mut query = b"d1:ad3:seqi".to_vec();
        query.extend_from_slice(format!("{seq}e6:target").as_bytes());
        write_bytes(&mut query, &item.target().0);
        query.extend_from_slice(b"e1:q3:get1:t1:t1:y1:qe");
        let answer = bench.send(1, &query).unwrap();
        assert_eq!(reply(&answer).v.is_some(), value, "{seq}");
    }
}

#[test]
fn read_only_and_mute_nodes_do_not_enter_the_table() {
    let mut bench = Bench::new();
    bench.send(1, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping2:roi1e1:t1:t1:y1:qe");
    assert_eq!(bench.queries_to(1).iter().filter(|query| query.ends_with(b"1:y1:qe")).count(), 0);
    bench.send(2, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t1:t1:y1:qe");
    assert_eq!(bench.queries_to(2).iter().filter(|query| query.ends_with(b"1:y1:qe")).count(), 1);
    bench.wait(Duration::from_secs(1));
    bench.wait(Duration::from_secs(5));
    assert_eq!((bench.core.status().nodes, bench.core.status().queries_in_flight), (0, 0));
    // An answer that nobody asked for teaches nothing.
    bench.send(3, b"d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t4:abcd1:y1:re");
    assert_eq!(bench.core.status().nodes, 0);
    bench.befriend(4);
}

#[test]
fn an_answer_from_elsewhere_or_with_another_number_does_not_count() {
    let mut bench = Bench::new();
    bench.befriend(1);
    bench.input(Input::Start { op: OpId(1), request: Request::Lookup { name: b"n"[..].into() } });
    let query = bench.queries_to(1).pop().unwrap();
    let peers = b"5:token1:t6:valuesl6:\x01\x01\x01\x01\0\x01e";
    bench.reply_to(2, &query, &peers[..]);
    let wrong = query.clone();
    bench.reply_to(1, &[&wrong[..wrong.len() - 8], b"\0", &wrong[wrong.len() - 7..]].concat(), &peers[..]);
    assert_eq!(bench.outcomes, []);
    bench.reply_to(1, &query, &peers[..]);
    assert!(matches!(&bench.outcomes[..], [Outcome::Peers(Ok(peers))] if peers.len() == 1));
}

#[test]
fn a_refused_token_is_fetched_again_for_the_target_and_the_write_repeated_once() {
    let mut bench = Bench::new();
    bench.befriend(1);
    bench.core.contacts.keep_token(addr(1), b"old", bench.now);
    bench.input(Input::Start { op: OpId(1), request: Request::Put(Put::Immutable(bencode_bytes(b"x"))) });
    let write = bench.queries_to(1).pop().unwrap();
    assert_eq!(method(&write), b"put");
    bench.error_to(1, &write, 203);
    let get = bench.queries_to(1).pop().unwrap();
    assert_eq!(method(&get), b"get");
    bench.reply_to(1, &get, b"5:token3:new");
    let write = bench.queries_to(1).pop().unwrap();
    assert!(write.windows(12).any(|part| part == b"5:token3:new"));
    bench.reply_to(1, &write, b"");
    assert!(matches!(bench.outcomes[..], [Outcome::Put(Ok(PutOutcome { acked: 1, asked: 1, .. }))]));
}

#[test]
fn a_stock_grapes_302_is_success_when_it_holds_our_bytes() {
    for (held, good) in [(signed(1, 5, "five"), true), (signed(1, 5, "other"), false)] {
        let mut bench = Bench::new();
        bench.befriend(1);
        bench.core.contacts.keep_token(addr(1), b"t", bench.now);
        let put = Put::Mutable { item: signed(1, 5, "five"), cas: None };
        bench.input(Input::Start { op: OpId(1), request: Request::Put(put) });
        let write = bench.queries_to(1).pop().unwrap();
        bench.error_to(1, &write, 302);
        let get = bench.queries_to(1).pop().unwrap();
        let mut fields = b"".to_vec();
        bencode::write_field(&mut fields, "k", &held.k.0);
        fields.extend_from_slice(b"3:seqi5e");
        bencode::write_field(&mut fields, "sig", &held.sig.0);
        fields.extend_from_slice(b"1:v");
        fields.extend_from_slice(&held.v);
        bench.reply_to(1, &get, &fields);
        match &bench.outcomes[..] {
            [Outcome::Put(Ok(PutOutcome { acked: 1, read_back: 1, refused_302: 0, .. }))] => assert!(good),
            [Outcome::Put(Err(OpError::Refused(Refusal { code: 302, .. })))] => assert!(!good),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn forged_values_are_not_believed() {
    let wanted = signed(1, 5, "five");
    let forged = SignedArgs { k: wanted.k.0, sig: [1; 64], seq: 9, salt: b"" };
    let stolen = signed(2, 9, "nine");
    let stolen = SignedArgs { k: stolen.k.0, sig: stolen.sig.0, seq: 9, salt: b"" };
    for args in [Some(forged), Some(stolen), None] {
        let mut bench = Bench::new();
        bench.befriend(1);
        let request = Request::Get { target: wanted.target(), salt: Arc::default(), mode: GetMode::Network };
        bench.input(Input::Start { op: OpId(1), request });
        let get = bench.queries_to(1).pop().unwrap();
        let mut fields = Vec::new();
        if let Some(args) = args {
            bencode::write_field(&mut fields, "k", &args.k);
            fields.extend_from_slice(b"3:seqi9e");
            bencode::write_field(&mut fields, "sig", &args.sig);
        }
        fields.extend_from_slice(b"1:v4:nine");
        bench.reply_to(1, &get, &fields);
        assert_eq!(bench.outcomes, [Outcome::Item(Ok(None))]);
    }
}

#[test]
fn checks_beyond_the_bound_are_refused_and_not_queued() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    for n in 0..=VERIFYING_MAX as u64 {
        let mut k = [0; 32];
        k[..8].copy_from_slice(&n.to_be_bytes());
        let args = SignedArgs { k, sig: [0; 64], seq: 1, salt: b"" };
        let mut put = Vec::new();
        write_query(
            &mut put,
            *b"abcd",
            &ID,
            &Ask::Put { target: &[0; 20], token: &token, v: b"1:x", signed: Some(args), cas: None },
        );
        bench.core.handle(bench.now, Input::Datagram { from: addr(1), bytes: &put });
    }
    let outputs: Vec<_> = std::iter::from_fn(|| bench.core.next_output()).collect();
    assert_eq!(outputs.iter().filter(|o| matches!(o, Output::Verify { .. })).count(), VERIFYING_MAX);
    let (_, last) = bench.core.datagrams().last().unwrap();
    assert!(matches!(decode(last), Some(Message::Error { code: 202, .. })));
}

#[test]
fn every_accepted_announcement_is_an_event_and_an_own_one_only_with_a_host() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let heard = |bench: &mut Bench| {
        let events = std::mem::take(&mut bench.events);
        events.into_iter().filter(|event| matches!(event, DhtEvent::Announce { .. })).collect::<Vec<_>>()
    };
    let name: Arc<[u8]> = b"name"[..].into();
    let event = |from| DhtEvent::Announce { name: b"name"[..].into(), from };
    for _ in 0..2 {
        bench.code(1, &Ask::Announce { name: &name, port: 5, token: &token });
        assert_eq!(heard(&mut bench), [event(SocketAddr::new(addr(1).ip(), 5))]);
    }
    bench.code(1, &Ask::Announce { name: &name, port: 5, token: b"bad" });
    let own =
        |op| Input::Start { op: OpId(op), request: Request::Announce { name: b"name"[..].into(), port: 7 } };
    bench.input(own(1));
    assert_eq!(heard(&mut bench), []);
    let host = std::net::IpAddr::from([192, 0, 2, 1]);
    bench.core.config.host = Some(host);
    bench.input(own(2));
    assert_eq!(heard(&mut bench), [event(SocketAddr::from((host, 7)))]);
    assert_eq!(bench.core.status().peers, 2);
}
