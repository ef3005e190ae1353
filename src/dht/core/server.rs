//! Answers to other nodes' queries.
//!
//! Every answer fits [`REPLY_BYTES_MAX`] and carries nodes that were seen to answer. A put is looked at from the cheapest check
//! to the dearest: token, sizes, known bytes, cas and sequence, and only then the signature, which is checked elsewhere.
//!
//! Whoever has not shown yet that it is there ([`proof`](super::proof)) gets what fits twice the bytes of its query: first the write
//! token, then a node, then peers or a value if it fits whole, then more nodes. Such an answer says so (`cut`), and a node of ours
//! asks again with the token. Others are proven by the ping that came with it before they ask a second time.

use super::{
    Core, Deed, DhtEvent, ID_BYTES, Item, Now, Payer, Target, Verdict, Verifying,
    bencode::string_len,
    family::Family,
    items::{Refused, mutable_item, value_fits},
    krpc::{
        self, Answer, NODE_BYTES, NODE6_BYTES, Problem, Query, Samples, SignedArgs, Wanted, addr_len, code,
    },
    mainline::UNFIT_NAME,
    table::K,
    token::TOKEN_BYTES,
};
use crate::bep44::SALT_BYTES_MAX;
use std::net::SocketAddr;

/// Every datagram of ours stays within this: libtorrent reads 1,500 bytes, an Ethernet frame carries 1,472.
pub(super) const REPLY_BYTES_MAX: usize = 1400;
/// What surrounds an answer's fields: id and envelope, without the asker's address and the transaction id.
const ENVELOPE_BYTES: usize = 57;
/// What surrounds the fields of an answer that is cut short: no address, and the mark that says so.
const CUT_ENVELOPE_BYTES: usize = 51;
/// A token with its key.
const TOKEN_FIELD_BYTES: usize = 9 + TOKEN_BYTES;
/// Key and length of `nodes`; key and end of `values`.
const LIST_BYTES: usize = 12;
/// Keys, signature and sequence of a mutable value.
const SIGNED_BYTES: usize = 6 + 32 + 8 + 64 + 27;
/// `interval`, `num` and `samples` with their keys, without the samples.
const SAMPLE_FIELDS_BYTES: usize = 64;
/// Peers in one reply; 20 nodes fit beside them.
const PEERS_IN_REPLY_MAX: usize = 100;

const BAD_TOKEN: Problem = Problem { code: code::PROTOCOL, text: "bad token" };

/// A mutable put whose signature is being checked.
pub(super) struct PendingPut {
    pub(super) from: SocketAddr,
    t: Option<Box<[u8]>>,
    cas: Option<i64>,
}

impl Core {
    pub(super) fn answer(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: Option<&[u8]>,
        query: Result<Query<'_>, Problem>,
    ) {
        match query {
            Ok(Query::Ping) => self.send_reply(from, t, &Answer::default()),
            Ok(
                Query::FindNode { target: name, .. }
                | Query::GetPeers { name, .. }
                | Query::Announce { name, .. }
                | Query::Sample { target: name, .. },
            ) if !self.is_fit_name(name) => self.send_error(from, t, UNFIT_NAME),
            Ok(Query::Sample { target, want }) => self.answer_sample(now, from, t, target, want),
            Ok(Query::FindNode { target, want }) => {
                self.answer_nodes(from, t, target, want, Answer::default(), 0);
            }
            Ok(Query::GetPeers { name, token, want }) => {
                self.see_token(now, from, token);
                self.answer_peers(now, from, t, name, want);
            }
            Ok(Query::Announce { name, port, token }) => {
                self.answer_announce(now, from, t, name, port, token);
            }
            Ok(Query::Get { target, seq, token, want }) => {
                self.see_token(now, from, token);
                self.answer_get(now, from, t, Target(target), seq, want);
            }
            Ok(Query::Put { token, v, signed, cas }) => {
                if !self.token_is_good(now, from, token) {
                    self.send_error(from, t, BAD_TOKEN);
                } else if value_fits(v) {
                    match signed {
                        None => self.answer_put_immutable(now, from, t, v),
                        Some(signed) => self.answer_put_mutable(now, from, t, v, signed, cas),
                    }
                } else {
                    self.send_error(
                        from,
                        t,
                        Problem { code: code::VALUE_TOO_BIG, text: "message (v field) too big" },
                    );
                }
            }
            Err(problem) => self.send_error(from, t, problem),
        }
    }

    /// Whether a write may be done; who may is proven by it.
    fn token_is_good(&mut self, now: Now, from: SocketAddr, token: &[u8]) -> bool {
        let good = self.tokens.accepts(token, from.ip(), now);
        if good {
            self.proofs.prove(from.ip(), now);
            self.answer_bytes_max = REPLY_BYTES_MAX;
        } else {
            self.admission.charge(from, Deed::BadToken, now);
        }
        good
    }

    /// A question may carry a token too. Only where it would change anything is it looked at.
    fn see_token(&mut self, now: Now, from: SocketAddr, token: Option<&[u8]>) {
        if let Some(token) = token.filter(|_| self.is_cut()) {
            self.token_is_good(now, from, token);
        }
    }

    /// Whether the answer at hand goes to somebody who may not be sent all.
    fn is_cut(&self) -> bool {
        self.answer_bytes_max < REPLY_BYTES_MAX
    }

    fn send_reply(&mut self, to: SocketAddr, t: Option<&[u8]>, answer: &Answer<'_>) {
        let (own, cut) = (self.own_at(&to), self.is_cut());
        let answer = Answer { cut, ..*answer };
        let fits = self.answer_bytes_max;
        let sent = self.outbox.write_within(fits, to, |out| krpc::write_reply(out, t, &own, to, &answer));
        self.counters.answers_cut += u64::from(cut && sent);
        self.counters.dropped.answers += u64::from(!sent);
    }

    fn send_error(&mut self, to: SocketAddr, t: Option<&[u8]>, problem: Problem) {
        let fits = self.answer_bytes_max;
        if self.outbox.write_within(fits, to, |out| krpc::write_error(out, t, to, problem)) {
            self.counters.errors_out.count(problem.code);
        } else {
            self.counters.dropped.answers += 1;
        }
    }

    /// The bytes that are left for an answer's fields.
    fn room(&self, to: SocketAddr, t: Option<&[u8]>) -> usize {
        let transaction = string_len(t.map_or(0, <[u8]>::len));
        let envelope =
            if self.is_cut() { CUT_ENVELOPE_BYTES } else { ENVELOPE_BYTES + addr_len(to) } + transaction;
        self.answer_bytes_max.saturating_sub(envelope)
    }

    /// Answers with as many of the nearest nodes as fit beside `taken` bytes of other fields.
    fn answer_nodes(
        &mut self,
        to: SocketAddr,
        t: Option<&[u8]>,
        target: &[u8],
        want: Wanted,
        answer: Answer<'_>,
        taken: usize,
    ) {
        let through = Family::of(&to);
        let mut room = self.room(to, t).saturating_sub(taken);
        let mut lists = std::mem::take(&mut self.answer_buffers);
        for (family, table) in self.tables.iter().filter(|(family, _)| want.has(*family, through)) {
            let Some(nodes) = lists.get_mut(family) else { continue };
            let fits = room.saturating_sub(LIST_BYTES) / node_bytes(family);
            table.closest(target, fits.min(K), nodes);
            room -= (LIST_BYTES + nodes.len() * node_bytes(family)).min(room);
        }
        let cut = self.is_cut();
        let sent = |list: &&Vec<_>, family| want.has(family, through) && !(cut && list.is_empty());
        let list = |family| lists.get(family).filter(|list| sent(list, family)).map(Vec::as_slice);
        let answer = Answer { nodes: list(Family::V4), nodes6: list(Family::V6), ..answer };
        self.send_reply(to, t, &answer);
        self.answer_buffers = lists;
    }

    fn answer_peers(&mut self, now: Now, from: SocketAddr, t: Option<&[u8]>, name: &[u8], want: Wanted) {
        self.peers.expire(now);
        let token = self.tokens.give(from.ip(), now);
        let (family, each) = (Family::of(&from), string_len(addr_len(from)));
        let nodes = if self.is_cut() { 1 } else { K };
        let others = TOKEN_FIELD_BYTES + 2 * LIST_BYTES + nodes * node_bytes(family);
        let room = self.room(from, t).saturating_sub(others);
        let mut peers = std::mem::take(&mut self.peers_buffer);
        let fits = PEERS_IN_REPLY_MAX.min(room / each);
        self.peers.pick(name, Some(family), fits, &mut self.rng, &mut peers);
        let taken = TOKEN_FIELD_BYTES + if peers.is_empty() { 0 } else { LIST_BYTES + peers.len() * each };
        let values = (!peers.is_empty()).then_some(&peers[..]);
        self.answer_nodes(
            from,
            t,
            name,
            want,
            Answer { token: Some(&token), peers: values, ..Answer::default() },
            taken,
        );
        self.peers_buffer = peers;
    }

    fn answer_sample(&mut self, now: Now, from: SocketAddr, t: Option<&[u8]>, target: &[u8], want: Wanted) {
        self.peers.expire(now);
        let sample = self.peers.sample(now, &mut self.rng);
        let others = SAMPLE_FIELDS_BYTES + LIST_BYTES + node_bytes(Family::of(&from));
        let fits = self.room(from, t).saturating_sub(others) / ID_BYTES;
        let names = &sample.names[..sample.names.len().min(fits)];
        let taken = SAMPLE_FIELDS_BYTES + ID_BYTES * names.len();
        let samples = Some(Samples { interval: sample.interval, num: sample.num, names });
        self.answer_nodes(from, t, target, want, Answer { samples, ..Answer::default() }, taken);
    }

    fn answer_announce(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: Option<&[u8]>,
        name: &[u8],
        port: Option<u16>,
        token: &[u8],
    ) {
        if !self.token_is_good(now, from, token) {
            return self.send_error(from, t, BAD_TOKEN);
        }
        self.peer_announced(now, name, SocketAddr::new(from.ip(), port.unwrap_or(from.port())));
        self.send_reply(from, t, &Answer::default());
    }

    /// Stores a peer and tells of it.
    pub(super) fn peer_announced(&mut self, now: Now, name: &[u8], addr: SocketAddr) {
        self.peers.expire(now);
        let (name, evicted) = self.peers.announce(name, addr, now);
        self.counters.dropped.peers += evicted as u64;
        self.event(DhtEvent::Announce { name, from: addr });
    }

    fn answer_get(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: Option<&[u8]>,
        target: Target,
        newer_than: Option<i64>,
        want: Wanted,
    ) {
        self.items.expire(now);
        let token = self.tokens.give(from.ip(), now);
        let item = self.items.get(&target).cloned();
        let mut answer = Answer { token: Some(&token), ..Answer::default() };
        let mut taken = TOKEN_FIELD_BYTES;
        let item = item.filter(|item| !self.is_cut() || taken + item_bytes(item) <= self.room(from, t));
        match &item {
            None => {}
            Some(Item::Immutable(v)) => {
                answer.v = Some(v);
                taken += 3 + v.len();
            }
            Some(Item::Mutable(item)) => {
                answer.seq = Some(item.seq);
                taken += SIGNED_BYTES;
                // BEP44: who has this version already is told only its number.
                if newer_than.is_none_or(|seq| item.seq > seq) {
                    answer.v = Some(&item.v);
                    answer.signed = Some((&item.k.0, &item.sig.0));
                    taken += 3 + item.v.len();
                }
            }
        }
        self.answer_nodes(from, t, &target.0, want, answer, taken);
    }

    fn answer_put_immutable(&mut self, now: Now, from: SocketAddr, t: Option<&[u8]>, v: &[u8]) {
        self.store_item(now, Item::Immutable(v.into()), self.ranges.payer(from.ip()));
        self.send_reply(from, t, &Answer::default());
    }

    /// Puts somebody's item into the own store, or renews it.
    pub(super) fn store_item(&mut self, now: Now, item: Item, payer: Payer) {
        self.items.expire(now);
        self.counters.dropped.items += self.items.put(item, payer, now) as u64;
    }

    fn answer_put_mutable(
        &mut self,
        now: Now,
        from: SocketAddr,
        t: Option<&[u8]>,
        v: &[u8],
        signed: SignedArgs<'_>,
        cas: Option<i64>,
    ) {
        if signed.salt.len() > SALT_BYTES_MAX {
            let text = "salt (salt field) too big";
            return self.send_error(from, t, Problem { code: code::SALT_TOO_BIG, text });
        }
        let item = mutable_item(signed.k, signed.sig, signed.seq, signed.salt.into(), v);
        let target = item.target();
        if let Err(refused) = self.items.admits(&item, &target, cas) {
            return self.send_error(from, t, refused.problem());
        }
        if self.items.holds(&item, &target) {
            if let Some(held) = self.items.mutable(&target).cloned() {
                self.store_item(now, Item::Mutable(held), self.ranges.payer(from.ip()));
            }
            return self.send_reply(from, t, &Answer::default());
        }
        let pending = PendingPut { from, t: t.map(Box::from), cas };
        if self.verify(item, Verifying::Put(pending)).is_none() {
            self.send_error(from, t, BUSY);
        }
    }

    /// The signature of a put was checked. What is stored may have changed meanwhile, so the rules are applied again.
    pub(super) fn put_verified(&mut self, now: Now, pending: PendingPut, verdict: Verdict) {
        let PendingPut { from, t, cas } = pending;
        let t = t.as_deref();
        match verdict {
            Verdict::Good(item) => match self.items.admits(&item, &item.target(), cas) {
                Ok(()) => {
                    self.event(DhtEvent::Stored(item.clone()));
                    self.store_item(now, Item::Mutable(item), self.ranges.payer(from.ip()));
                    self.send_reply(from, t, &Answer::default());
                }
                Err(refused) => self.send_error(from, t, refused.problem()),
            },
            Verdict::Bad => {
                self.send_error(from, t, Problem { code: code::BAD_SIGNATURE, text: "invalid signature" });
            }
            Verdict::Busy => {
                self.counters.dropped.checks += 1;
                self.send_error(from, t, BUSY);
            }
        }
    }
}

/// The most that an item takes in an answer.
fn item_bytes(item: &Item) -> usize {
    3 + match item {
        Item::Immutable(v) => v.len(),
        Item::Mutable(item) => SIGNED_BYTES + item.v.len(),
    }
}

fn node_bytes(family: Family) -> usize {
    match family {
        Family::V4 => NODE_BYTES,
        Family::V6 => NODE6_BYTES,
    }
}

const BUSY: Problem = Problem { code: code::SERVER, text: "busy, try again" };

impl Refused {
    /// The texts are a stock grape's, because its HTTP API shows them to people.
    fn problem(self) -> Problem {
        match self {
            Self::CasMismatch => {
                Problem { code: code::CAS_MISMATCH, text: "CAS mismatch, re-read and try again" }
            }
            Self::SeqTooLow => Problem { code: code::SEQ_TOO_LOW, text: "sequence number less than current" },
        }
    }
}
