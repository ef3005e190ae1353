//! The replication half of a node: what its driver does around the core. Everything goes from node to node as bytes.

use super::{
    plan::Broken,
    trade::stamp,
    world::{What, World},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use vintner::{
    bep44::{MutableItem, Target},
    exchange::Input as Trade,
    identity::ClientId,
    market::Offer,
    replication::core::{
        AnswerTo, Config, CopyHash, Core, Effect, Input, QuestionId, SignedHead, Stamp, UncheckedHead,
        Verdict, Version, Via,
        limits::{NEIGHBOURS_MAX, TALK_BYTES_MAX},
        talk::{Answer, Carried, Message, Question, read_frame, write_frame},
    },
};

/// What checking a signature takes.
const JUDGE_TIME: Duration = Duration::from_micros(150);
/// After so long a question, or a frame that nobody took, is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    /// A replication core that knows what the stores know.
    pub(crate) fn start_replication(&mut self, n: usize) {
        let (wall, now, seed) = (self.clock(n), self.now, rand::RngExt::random(&mut self.rng));
        let (key, address) = (self.nodes[n].key.clone(), self.peers[n].address);
        let config = Config { network: self.network.clone(), key, addresses: vec![address], has_open: false };
        let mut core = Core::new(config, seed, now, wall);
        let market = &self.nodes[n].store.state.market;
        for (target, offer) in &market.records {
            let held = stamp(offer);
            let twice = market.is_contradicted(target);
            let stamp = if twice { Stamp { version: Version::FRAUD, ..held } } else { held };
            let (maker, dies_at) = (offer.client_id, market.counts_until(offer));
            core.handle(now, wall, Input::Restored { maker, stamp, dies_at });
        }
        for head in self.peers[n].heads.values() {
            core.handle(now, wall, Input::RestoredHead(head.clone()));
        }
        self.peers[n].core = Some(core);
        self.give(n, Input::Tick);
    }

    pub(crate) fn give(&mut self, n: usize, input: Input) {
        let (wall, now) = (self.clock(n), self.now);
        let Some(core) = &mut self.peers[n].core else { return };
        core.handle(now, wall, input);
        self.carry_out(n);
    }

    fn carry_out(&mut self, n: usize) {
        let effects = self.peers[n].core.as_mut().map(Core::take_effects).unwrap_or_default();
        let mut frames: BTreeMap<ClientId, Vec<Message<Carried>>> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    if let Message::Head(head) = &message {
                        self.says(n, head);
                    }
                    let Some(message) = message.carry(|target| self.carried(n, target)) else { continue };
                    if !self.withholds(n, &message) {
                        frames.entry(to).or_default().push(message);
                    }
                }
                Effect::Ask { to, id, question, .. } => self.put_question(n, to, id, &question),
                Effect::Answer { to, answer } => self.put_answer(n, to, answer),
                Effect::Judge { copy, record, via } => {
                    self.after(JUDGE_TIME, n, What::Judge { copy, record, via });
                }
                Effect::JudgeHead { copy, head, via } => {
                    self.after(JUDGE_TIME, n, What::JudgeHead { copy, head, via });
                }
                Effect::Stale { maker, stale } => {
                    self.tell(|| format!("node {n} takes {maker:.8} for stale: {stale}"));
                    self.deliver(n, Trade::Stale { maker, stale });
                }
                Effect::KeepHead(head) => {
                    let signed = self.signed_heads.contains(head.bytes());
                    self.ledger.check(signed, || {
                        format!("node {n} believes a head that {} did not sign", head.maker)
                    });
                    self.peers[n].heads.insert(head.maker, head);
                }
                Effect::Seek => self.seek(n),
            }
        }
        for (to, messages) in frames {
            self.send(n, to, &messages);
        }
        self.wake_later(n);
    }

    /// A head leaves a node: if it is its own, it is genuine from now on.
    fn says(&mut self, n: usize, head: &Arc<[u8]>) {
        if head.starts_with(&self.nodes[n].id.0) && !self.signed_heads.contains(head) {
            self.signed_heads.insert(Arc::clone(head));
        }
    }

    fn wake_later(&mut self, n: usize) {
        let Some(at) = self.peers[n].core.as_ref().and_then(Core::next_timeout) else { return };
        if self.peers[n].wakes_at.is_none_or(|planned| at < planned) {
            self.peers[n].wakes_at = Some(at);
            self.after(at.since(self.now), n, What::Wake);
        }
    }

    /// A record as it is sent: the newest version, and of one that was signed twice both values.
    fn carried(&self, n: usize, target: &Target) -> Option<Carried> {
        let market = &self.nodes[n].core.as_ref()?.state().market;
        let item = |offer: &Offer| -> MutableItem { (**offer.item()).clone() };
        if let Some((one, other)) = market.equivocated.get(target) {
            return Some(Carried { item: item(one), twin: Some(item(other)) });
        }
        Some(Carried { item: item(market.records.get(target)?), twin: None })
    }

    pub(crate) fn send(&mut self, from: usize, to: ClientId, messages: &[Message<Carried>]) {
        let mut rest = messages;
        while !rest.is_empty() {
            let (bytes, written) = write_frame(rest);
            self.ledger.check(bytes.len() <= TALK_BYTES_MAX, || format!("a frame of {} bytes", bytes.len()));
            rest = &rest[written..];
            self.send_bytes(from, to, bytes.into());
        }
    }

    pub(crate) fn send_bytes(&mut self, from: usize, to: ClientId, bytes: Arc<[u8]>) {
        let there = self.by_id.get(&to).copied();
        if !there.is_some_and(|there| self.carry(from, there, &What::Frame { from, bytes })) {
            self.after(ANSWER_TIMEOUT, from, What::Sent { to, heard: None });
        }
    }

    fn put_question(&mut self, from: usize, to: ClientId, id: QuestionId, question: &Question) {
        let Some(there) = self.by_id.get(&to).copied() else {
            return self.after(ANSWER_TIMEOUT, from, What::Answered { id, from, bytes: None });
        };
        if let Question::Join { head, .. } = question {
            self.says(from, head);
        }
        let number = self.number();
        self.questions.insert(number, (from, id));
        let bytes = question.to_bytes().into();
        self.carry(from, there, &What::Asked { from, to: AnswerTo(number), bytes });
        // Whatever comes of it: the core knows what it has had an answer to.
        self.after(ANSWER_TIMEOUT, from, What::Answered { id, from: there, bytes: None });
    }

    fn put_answer(&mut self, n: usize, to: AnswerTo, answer: Answer<Target>) {
        let Some((asker, id)) = self.questions.get(&to.0).copied() else { return };
        match &answer {
            Answer::Joined { head, .. } => self.says(n, head),
            Answer::Heads(heads, _) => heads.iter().for_each(|head| self.says(n, head)),
            _ => {}
        }
        let answer = answer.carry(|target| self.carried(n, &target));
        let answer = if self.is_evil(n) { self.lie(n, answer) } else { answer };
        let bytes: Arc<[u8]> = answer.to_bytes().into();
        self.ledger.check(bytes.len() <= TALK_BYTES_MAX, || format!("an answer of {} bytes", bytes.len()));
        self.carry(n, asker, &What::Answered { id, from: n, bytes: Some(bytes) });
    }

    /// Something reached a node that is down, or that has forgotten that it asked.
    pub(crate) fn nobody_is_there(&mut self, n: usize, what: &What) {
        if let What::Frame { from, .. } = what {
            let to = self.nodes[n].id;
            self.after(ANSWER_TIMEOUT, *from, What::Sent { to, heard: None });
        }
    }

    pub(crate) fn gossip(&mut self, n: usize, what: What) {
        match what {
            What::Wake => {
                if self.peers[n].wakes_at.is_some_and(|at| at <= self.now) {
                    self.peers[n].wakes_at = None;
                    self.give(n, Input::Tick);
                }
            }
            What::Frame { from, bytes } => self.frame(n, from, &bytes),
            What::Sent { to, heard } => self.give(n, Input::Sent { to, heard }),
            What::Asked { from, to, bytes } => {
                let from = self.nodes[from].id;
                match Question::read(&bytes) {
                    Ok(question) => self.give(n, Input::Asked { from, question, to }),
                    Err(_) => self.give(n, Input::Garbled(from)),
                }
            }
            What::Answered { id, from, bytes } => {
                let answer = match bytes.map(|bytes| Answer::read(&bytes)) {
                    Some(Err(_)) => {
                        let liar = self.nodes[from].id;
                        self.give(n, Input::Garbled(liar));
                        None
                    }
                    Some(Ok(answer)) => Some(answer),
                    None => None,
                };
                self.give(n, Input::Answered { id, answer });
            }
            What::Judge { copy, record, via } => self.judge(n, copy, record, via),
            What::Judged { copy, verdict } => self.give(n, Input::Judged { copy, verdict }),
            What::JudgeHead { copy, head, via } => {
                let head = self.check_head(head);
                self.give(n, Input::JudgedHead { copy, head, via });
            }
            What::Met(found) => {
                for m in found {
                    let (client, addresses) = (self.nodes[m].id, vec![self.peers[m].address]);
                    self.give(n, Input::Met { client, addresses });
                }
            }
            _ => unreachable!("everything else is dealt with elsewhere"),
        }
        let neighbours = self.peers[n].core.as_ref().map_or(0, |core| core.status().neighbours.len());
        self.ledger.check(neighbours <= NEIGHBOURS_MAX, || format!("node {n} has {neighbours} neighbours"));
    }

    fn frame(&mut self, n: usize, from: usize, bytes: &[u8]) {
        let (sender, to) = (self.nodes[from].id, self.nodes[n].id);
        let heard =
            self.peers[n].core.as_ref().is_some_and(|core| core.status().neighbours.contains(&sender));
        if !self.carry(n, from, &What::Sent { to, heard: Some(heard) }) {
            self.after(ANSWER_TIMEOUT, from, What::Sent { to, heard: None });
        }
        match read_frame(bytes) {
            Ok(messages) => self.give(n, Input::Frame { from: sender, messages }),
            Err(_) => self.give(n, Input::Garbled(sender)),
        }
    }

    /// Checks a copy as a node's workers do: once for all nodes, since all come to the same.
    pub(crate) fn read(&mut self, item: MutableItem) -> Option<Arc<Offer>> {
        let copy = CopyHash::of_items([&item]);
        if let Some(known) = self.checked.get(&copy) {
            return known.clone();
        }
        if self.plan.broken == Some(Broken::Checks) {
            return Offer::from_own_store(item, &self.network).ok().map(Arc::new);
        }
        let read =
            item.verify().ok().and_then(|item| Offer::read(item, &self.network, None).ok()).map(Arc::new);
        self.checked.insert(copy, read.clone());
        read
    }

    fn check_head(&mut self, head: UncheckedHead) -> Option<SignedHead> {
        let bytes = Arc::clone(head.bytes());
        if let Some(known) = self.checked_heads.get(&bytes) {
            return known.clone();
        }
        let head = head.verify(&self.network);
        self.checked_heads.insert(bytes, head.clone());
        head
    }

    fn judge(&mut self, n: usize, copy: CopyHash, record: Carried, via: Via) {
        let stamp = record.stamp();
        let (one, other) = (self.read(record.item), record.twin.map(|twin| self.read(twin)));
        let (Some(stamp), Some(one)) = (stamp, one.filter(|_| other != Some(None))) else {
            self.tell(|| format!("node {n} was brought a forgery {via:?}"));
            return self.give(n, Input::Judged { copy, verdict: Verdict::Forged });
        };
        let other = other.flatten();
        if other.as_ref().is_some_and(|other| one.contradicts(other).is_none()) {
            return self.give(n, Input::Judged { copy, verdict: Verdict::Forged });
        }
        let (maker, mut dies_at) = (one.client_id, one.dies_at);
        match other {
            Some(other) => {
                dies_at = dies_at.max(other.dies_at);
                self.deliver(n, Trade::Fraud([one, other], via));
            }
            None if self.plan.broken == Some(Broken::Closings) && !one.availability => {}
            None => self.deliver(n, Trade::Record(one, via)),
        }
        // The exchange has it in its inbox; which of the two is sooner is open.
        let pause = Duration::from_millis(rand::RngExt::random_range(&mut self.rng, 0..5));
        self.after(pause, n, What::Judged { copy, verdict: Verdict::Genuine { maker, stamp, dies_at } });
    }
}
