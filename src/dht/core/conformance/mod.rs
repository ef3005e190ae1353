//! One core against hand-made datagrams: what others may send, and what they get.
//!
//! A doc comment that begins `Statement N` says which statement of docs/grape-compatibility.md a test proves;
//! tests/conformance.rs holds the two together.

mod asking;
mod hostile;
mod items;
mod nodes;
mod peers;
mod values;

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
        self.send_from(at(from, addr(from).port()), bytes)
    }

    fn send_from(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        self.sent.clear();
        self.input(Input::Datagram { from, bytes });
        let answers = self.sent.iter().filter(|(to, bytes)| {
            assert!(bytes.len() <= 1400);
            *to == from && !matches!(decode(bytes), Some(Message::Query { .. }))
        });
        let answers: Vec<_> = answers.map(|(_, bytes)| bytes.clone()).collect();
        assert!(answers.len() <= 1);
        answers.into_iter().next()
    }

    /// Sends a query whose arguments (all but the id) are written out; what came back.
    fn query(&mut self, from: u16, method: &str, args: &[u8]) -> Vec<u8> {
        self.send(from, &query(method, args)).unwrap_or_else(|| panic!("no answer to {method}"))
    }

    fn ask(&mut self, from: u16, ask: &Ask<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write_query(&mut out, *b"abcd", &ID, ask);
        self.send(from, &out).unwrap()
    }

    /// Zero for an answer, otherwise the code of the error.
    fn code(&mut self, from: u16, ask: &Ask<'_>) -> i64 {
        code_of(&self.ask(from, ask))
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

    /// Puts node `n` into the table as one that has answered.
    fn know(&mut self, n: u16) {
        self.core.node_answered(self.now, Contact { id: friend(n), addr: addr(n) });
    }

    /// What this node stores for a name, asked for by `from`.
    fn peers_of(&mut self, from: u16, name: &[u8]) -> Vec<SocketAddr> {
        let answer = self.ask(from, &Ask::GetPeers { name });
        let mut peers: Vec<_> = reply(&answer).peers().collect();
        peers.sort();
        peers
    }

    /// Answers a query of ours: `fields` are those that sort after `id`.
    fn reply_to(&mut self, n: u16, query: &[u8], fields: &[u8]) {
        self.input(Input::Datagram { from: addr(n), bytes: &answer_of(n, query, fields) });
    }

    fn error_to(&mut self, n: u16, query: &[u8], code: i64) {
        let error = finished(query, format!("d1:eli{code}e1:xe").into_bytes(), b"1:y1:ee");
        self.input(Input::Datagram { from: addr(n), bytes: &error });
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

/// The address of node `n` with another port.
fn at(n: u16, port: u16) -> SocketAddr {
    let mut addr = addr(n);
    addr.set_port(port);
    addr
}

/// An address as it stands in messages.
fn addr_bytes(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    krpc::write_addr(&mut bytes, addr);
    bytes
}

/// A query as it stands on the wire: `args` are the encoded arguments but the id, those first that sort before it.
fn query(method: &str, args: &[u8]) -> Vec<u8> {
    let mut out = b"d1:ad2:id20:iiiiiiiiiiiiiiiiiiii".to_vec();
    out.extend_from_slice(args);
    out.extend_from_slice(format!("e1:q{}:{method}1:t4:abcd1:y1:qe", method.len()).as_bytes());
    out
}

/// Zero for an answer, otherwise the code of the error.
fn code_of(answer: &[u8]) -> i64 {
    match decode(answer) {
        Some(Message::Reply { t: b"abcd", .. }) => 0,
        Some(Message::Error { t: b"abcd", code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// Node `n`'s answer to a query of ours.
fn answer_of(n: u16, query: &[u8], fields: &[u8]) -> Vec<u8> {
    let mut out = b"d1:rd2:id20:".to_vec();
    out.extend_from_slice(&friend(n).0);
    out.extend_from_slice(fields);
    out.push(b'e');
    finished(query, out, b"1:y1:re")
}

fn finished(query: &[u8], mut out: Vec<u8>, end: &[u8]) -> Vec<u8> {
    let (_, t) = parse(query).unwrap().raw.fields().find(|(key, _)| *key == b"t").unwrap();
    out.extend_from_slice(b"1:t");
    out.extend_from_slice(t.encoded());
    out.extend_from_slice(end);
    out
}

/// A field of a query's arguments or of an answer (`part` is `a` or `r`).
fn field<'a>(datagram: &'a [u8], part: &[u8], name: &[u8]) -> Option<bencode::Raw<'a>> {
    let (_, part) = parse(datagram).unwrap().raw.fields().find(|(key, _)| *key == part)?;
    part.fields().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The fields of an answer to `get` that carry a signed value.
fn value_fields(args: &SignedArgs<'_>, v: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    bencode::write_field(&mut fields, "k", &args.k);
    fields.extend_from_slice(format!("3:seqi{}e", args.seq).as_bytes());
    bencode::write_field(&mut fields, "sig", &args.sig);
    fields.extend_from_slice(b"1:v");
    fields.extend_from_slice(v);
    fields
}

fn args(item: &VerifiedItem) -> SignedArgs<'_> {
    SignedArgs { k: item.k.0, sig: item.sig.0, seq: item.seq, salt: &item.salt }
}

fn method(query: &[u8]) -> Vec<u8> {
    let raw = parse(query).unwrap().raw;
    raw.fields().find(|(key, _)| *key == b"q").unwrap().1.bytes().unwrap().to_vec()
}
