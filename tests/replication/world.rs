//! A network of replication cores in virtual time: links with latency and loss, partitions, crashes, clocks that differ.
//!
//! Signatures are not checked here: a table knows what was really signed, and that is what a check says. So thousands of nodes fit
//! into one thread.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use vintner::{
    bep44::{MutableItem, Target},
    identity::{ClientId, KeyPair, Network, PublicKey, Signature},
    replication::core::{
        AnswerTo, Config, CopyHash, Core, Effect, Input, QuestionId, Root, SignedHead, Stamp, UncheckedHead,
        ValueHash, Verdict, Version, Via,
        talk::{Answer, Carried, Message, News, Question, read_frame, write_frame},
    },
    time::{Now, UnixMillis},
};

pub const START: UnixMillis = UnixMillis(1_795_262_400_000);
/// What checking a signature takes.
const JUDGE_TIME: Duration = Duration::from_micros(150);
/// After so long a question is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How the world treats messages.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub latency: (Duration, Duration),
    pub loss: f64,
}

/// A record as its maker knows it.
#[derive(Clone, Debug)]
pub struct Record {
    pub maker: ClientId,
    pub item: MutableItem,
    pub twin: Option<MutableItem>,
    pub dies_at: UnixMillis,
    /// Stands for what is fixed for a record's life: two versions that differ in it are a proof of fraud.
    pub terms: u8,
}

impl Record {
    fn carried(&self) -> Carried {
        Carried { item: self.item.clone(), twin: self.twin.clone() }
    }

    fn stamp(&self) -> Stamp {
        self.carried().stamp().unwrap()
    }
}

pub struct Node {
    pub id: ClientId,
    key: KeyPair,
    address: SocketAddr,
    /// `None` while it is down.
    pub core: Option<Core>,
    /// What is held, and is kept when it goes down.
    pub replica: BTreeMap<Target, Record>,
    pub stale: BTreeSet<ClientId>,
    heads: BTreeMap<ClientId, SignedHead>,
    /// How far its clock is ahead, in milliseconds.
    pub ahead_ms: i64,
    /// Where it is in a partition: only nodes of one side hear each other.
    pub side: u8,
    /// It lies to the others.
    pub is_evil: bool,
    started: u64,
    next_wake: Option<Now>,
    pub bytes_sent: u64,
}

#[derive(Clone, Debug)]
enum What {
    Wake,
    Frame { from: usize, bytes: Vec<u8> },
    Sent { to: ClientId, heard: Option<bool> },
    Asked { from: usize, id: QuestionId, question: Vec<u8> },
    Answered { id: QuestionId, answer: Option<Vec<u8>> },
    Judged { copy: CopyHash, record: Carried, via: Via },
    JudgedHead { copy: CopyHash, head: UncheckedHead, via: Via },
}

struct Event {
    node: usize,
    /// The run of the node that it is for: what was for an earlier one is lost.
    run: u64,
    what: What,
}

pub struct World {
    pub now: Now,
    pub rng: StdRng,
    pub network: Network,
    pub nodes: Vec<Node>,
    pub weather: Weather,
    by_id: HashMap<ClientId, usize>,
    queue: BinaryHeap<Reverse<(Now, u64)>>,
    events: HashMap<u64, Event>,
    next_event: u64,
    /// Everything that was really signed.
    genuine: HashMap<CopyHash, (ClientId, UnixMillis, u8)>,
    heads: BTreeSet<Arc<[u8]>>,
    pub trace: u64,
    pub handled: u64,
    /// When each node held a version first.
    pub held_at: HashMap<(Target, u64), Vec<Now>>,
    cheats: BTreeSet<ClientId>,
    /// Versions that there are newer ones of.
    old: Vec<Record>,
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: Now::ZERO,
            rng: StdRng::seed_from_u64(seed),
            network: "sim".parse().unwrap(),
            nodes: Vec::new(),
            weather,
            by_id: HashMap::new(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            genuine: HashMap::new(),
            heads: BTreeSet::new(),
            trace: 0,
            handled: 0,
            held_at: HashMap::new(),
            cheats: BTreeSet::new(),
            old: Vec::new(),
        }
    }

    pub fn wall(&self, node: usize) -> UnixMillis {
        let ms = START.0 + self.now.since_start().as_millis() as u64;
        UnixMillis(ms.saturating_add_signed(self.nodes[node].ahead_ms))
    }

    /// Adds a node that is down.
    pub fn add(&mut self) -> usize {
        let n = self.nodes.len();
        let key = KeyPair::from_seed(&self.rng.random());
        let address = SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 5000));
        let id = key.public();
        self.by_id.insert(id, n);
        self.nodes.push(Node {
            id,
            key,
            address,
            core: None,
            replica: BTreeMap::new(),
            stale: BTreeSet::new(),
            heads: BTreeMap::new(),
            ahead_ms: 0,
            side: 0,
            is_evil: false,
            started: 0,
            next_wake: None,
            bytes_sent: 0,
        });
        n
    }

    pub fn start(&mut self, n: usize) {
        let (wall, now, seed) = (self.wall(n), self.now, self.rng.random());
        let node = &mut self.nodes[n];
        node.started += 1;
        node.next_wake = None;
        let config = Config {
            network: self.network.clone(),
            key: node.key.clone(),
            addresses: vec![node.address],
            has_open: false,
        };
        let mut core = Core::new(config, seed, now, wall);
        for record in node.replica.values() {
            let stamp = record.stamp();
            core.handle(now, wall, Input::Restored { maker: record.maker, stamp, dies_at: record.dies_at });
        }
        for head in node.heads.values() {
            core.handle(now, wall, Input::RestoredHead(head.clone()));
        }
        node.stale.clear();
        node.core = Some(core);
        self.give(n, Input::Tick);
    }

    /// Without warning.
    pub fn stop(&mut self, n: usize) {
        self.nodes[n].core = None;
    }

    pub fn give(&mut self, n: usize, input: Input) {
        let (wall, now) = (self.wall(n), self.now);
        let Some(core) = &mut self.nodes[n].core else { return };
        core.handle(now, wall, input);
        self.take_effects(n);
    }

    fn later(&mut self, pause: Duration, node: usize, what: What) {
        let (at, id) = (self.now.plus(pause), self.next_event);
        self.next_event += 1;
        self.queue.push(Reverse((at, id)));
        self.events.insert(id, Event { node, run: self.nodes[node].started, what });
    }

    fn latency(&mut self) -> Duration {
        let (min, max) = self.weather.latency;
        if min == max {
            min
        } else {
            Duration::from_micros(self.rng.random_range(min.as_micros() as u64..=max.as_micros() as u64))
        }
    }

    /// Whether something gets from one node to another now.
    fn arrives(&mut self, from: usize, to: usize) -> bool {
        self.nodes[from].side == self.nodes[to].side
            && (self.weather.loss == 0.0 || !self.rng.random_bool(self.weather.loss))
    }

    fn carry(&self, n: usize, target: &Target) -> Option<Carried> {
        self.nodes[n].replica.get(target).map(Record::carried)
    }

    fn take_effects(&mut self, n: usize) {
        loop {
            let effects = self.nodes[n].core.as_mut().map(Core::take_effects).unwrap_or_default();
            if effects.is_empty() {
                break;
            }
            let mut frames: BTreeMap<ClientId, Vec<Message<Carried>>> = BTreeMap::new();
            for effect in effects {
                match effect {
                    Effect::Send { to, message } => {
                        if let Message::Head(head) = &message {
                            self.saw_head(n, head);
                        }
                        let Some(message) = message.carry(|target| self.carry(n, target)) else { continue };
                        frames.entry(to).or_default().push(message);
                    }
                    Effect::Ask { to, id, question, .. } => self.ask(n, to, id, &question),
                    Effect::Answer { to, answer } => self.answer(n, to, answer),
                    Effect::Judge { copy, record, via } => {
                        self.later(JUDGE_TIME, n, What::Judged { copy, record, via });
                    }
                    Effect::JudgeHead { copy, head, via } => {
                        self.later(JUDGE_TIME, n, What::JudgedHead { copy, head, via });
                    }
                    Effect::Stale { maker, stale } => {
                        let set = &mut self.nodes[n].stale;
                        if stale {
                            set.insert(maker)
                        } else {
                            set.remove(&maker)
                        };
                    }
                    Effect::KeepHead(head) => _ = self.nodes[n].heads.insert(head.maker, head),
                    Effect::Seek => self.seek(n),
                }
            }
            for (to, messages) in frames {
                self.send_frames(n, to, &messages);
            }
        }
        self.wake_later(n);
    }

    /// An own head leaves its maker: it is genuine from now on.
    fn saw_head(&mut self, n: usize, bytes: &Arc<[u8]>) {
        let head = UncheckedHead::read(bytes).unwrap();
        if head.claim().maker == self.nodes[n].id {
            self.heads.insert(bytes.clone());
        }
    }

    fn wake_later(&mut self, n: usize) {
        let next = self.nodes[n].core.as_ref().and_then(Core::next_timeout);
        if let Some(at) = next
            && self.nodes[n].next_wake.is_none_or(|planned| at < planned || planned <= self.now)
        {
            self.nodes[n].next_wake = Some(at);
            self.later(at.since(self.now), n, What::Wake);
        }
    }

    fn send_frames(&mut self, from: usize, to: ClientId, messages: &[Message<Carried>]) {
        let mut rest = messages;
        while !rest.is_empty() {
            let (bytes, written) = write_frame(rest);
            rest = &rest[written..];
            self.nodes[from].bytes_sent += bytes.len() as u64;
            let there = self.by_id.get(&to).copied();
            match there.filter(|there| self.arrives(from, *there)) {
                Some(there) => {
                    let pause = self.latency();
                    self.later(pause, there, What::Frame { from, bytes });
                }
                None => self.later(ANSWER_TIMEOUT, from, What::Sent { to, heard: None }),
            }
        }
    }

    fn ask(&mut self, from: usize, to: ClientId, id: QuestionId, question: &Question) {
        if let Question::Join { head, .. } = question {
            self.saw_head(from, head);
        }
        let question = question.to_bytes();
        self.nodes[from].bytes_sent += question.len() as u64;
        let there = self.by_id.get(&to).copied();
        match there.filter(|there| self.nodes[*there].core.is_some() && self.arrives(from, *there)) {
            Some(there) => {
                let pause = self.latency();
                self.later(pause, there, What::Asked { from, id, question });
            }
            None => self.later(ANSWER_TIMEOUT, from, What::Answered { id, answer: None }),
        }
    }

    fn answer(&mut self, n: usize, to: AnswerTo, answer: Answer<Target>) {
        let (from, id) = ((to.0 >> 40) as usize, QuestionId(to.0 & ((1 << 40) - 1)));
        match &answer {
            Answer::Joined { head, .. } if !head.is_empty() => self.saw_head(n, head),
            Answer::Heads(heads, _) => heads.iter().for_each(|head| self.saw_head(n, head)),
            _ => {}
        }
        let answer = answer.carry(|target| self.carry(n, &target));
        let answer = if self.nodes[n].is_evil { self.lie(answer) } else { answer };
        let bytes = answer.to_bytes();
        self.nodes[n].bytes_sent += bytes.len() as u64;
        let answer = self.arrives(n, from).then_some(bytes);
        let pause = if answer.is_some() { self.latency() } else { ANSWER_TIMEOUT };
        self.later(pause, from, What::Answered { id, answer });
    }

    /// What an evil node answers: nothing, less, something else, or what it would have answered.
    fn lie(&mut self, answer: Answer<Carried>) -> Answer<Carried> {
        let stamps = |world: &mut Self| -> Vec<Stamp> {
            let random = |rng: &mut StdRng| Stamp {
                target: Target(rng.random()),
                version: Version { sequence: START.0, value: ValueHash(rng.random()) },
            };
            (0..20).map(|_| random(&mut world.rng)).collect()
        };
        match (answer, self.rng.random_range(0..4)) {
            (Answer::Records(mut records), 0) => {
                records.truncate(records.len() / 2);
                Answer::Records(records)
            }
            (Answer::Records(mut records), 1) => {
                for record in &mut records {
                    record.item.sig = Signature(self.rng.random());
                }
                Answer::Records(records)
            }
            (Answer::Records(_), 2) => Answer::Records(Vec::new()),
            (Answer::Stamps(_), 0) => Answer::Stamps(Vec::new()),
            (Answer::Stamps(mut listed), 1) => {
                listed.reverse();
                Answer::Stamps(listed)
            }
            (Answer::Stamps(_), 2) => Answer::Stamps(stamps(self)),
            (Answer::Overall(_), 0..3) => Answer::Overall(Root(self.rng.random())),
            (Answer::Roots(mut roots, more), 0..3) => {
                for (_, root) in &mut roots {
                    *root = Root(self.rng.random());
                }
                Answer::Roots(roots, more)
            }
            (Answer::Heads(mut heads, more), 0..2) => {
                heads.truncate(1);
                Answer::Heads(heads, more)
            }
            (Answer::Heads(heads, _), 2) => Answer::Heads(heads, true),
            (answer, _) => answer,
        }
    }

    /// An evil node sends its neighbours what nobody asked for: names of nothing, forged copies, old versions, much of everything.
    pub fn pester(&mut self, n: usize) {
        let Some(core) = &self.nodes[n].core else { return };
        let (neighbours, me) = (core.status().neighbours, self.nodes[n].id);
        for to in neighbours {
            let some: Vec<Record> = self.nodes[n].replica.values().take(5).cloned().collect();
            let mut messages = Vec::new();
            for record in some {
                let mut forged = record.carried();
                match self.rng.random_range(0..4) {
                    0 => forged.item.seq += 1000,
                    1 => forged.item.sig = Signature([0; 64]),
                    2 => messages.push(Message::Prune(vec![record.maker, me])),
                    _ => {}
                }
                messages.push(Message::Record(forged));
            }
            if let Some(old) = self.old.get(self.rng.random_range(0..self.old.len().max(1))) {
                messages.push(Message::Record(old.carried()));
            }
            let names =
                (0..100).map(|_| News::Head { maker: PublicKey(self.rng.random()), counter: u64::MAX });
            messages.push(Message::Have(names.collect()));
            if let Some(head) = self.nodes[n].heads.values().next() {
                let mut bytes = head.bytes().to_vec();
                bytes[39] ^= 0x40;
                messages.push(Message::Head(bytes.into()));
            }
            self.send_frames(n, to, &messages);
        }
    }

    /// The DHT knows some nodes of the same side that are up.
    fn seek(&mut self, n: usize) {
        let side = self.nodes[n].side;
        for _ in 0..8 {
            let other = self.rng.random_range(0..self.nodes.len());
            let found = &self.nodes[other];
            if other != n && found.core.is_some() && found.side == side {
                let (client, addresses) = (found.id, vec![found.address]);
                let (wall, now) = (self.wall(n), self.now);
                if let Some(core) = &mut self.nodes[n].core {
                    core.handle(now, wall, Input::Met { client, addresses });
                }
            }
        }
    }

    /// What the exchange core makes of a record that was checked.
    fn accept(&mut self, n: usize, record: Record, via: Via) {
        let (target, stamp) = (record.item.target(), record.stamp());
        if record.dies_at <= self.wall(n) {
            return;
        }
        let (now, maker, dies_at) = (self.now, record.maker, record.dies_at);
        let held = self.nodes[n].replica.get(&target);
        let is_fraud = record.twin.is_some()
            || held.is_some_and(|held| {
                let two_values = held.item.seq == record.item.seq && held.item.v != record.item.v;
                two_values || held.terms != record.terms
            });
        if is_fraud {
            if held.is_some_and(|held| held.twin.is_some()) {
                return;
            }
            let first = held.is_none();
            let twin = record.twin.clone().or_else(|| held.map(|held| held.item.clone()));
            let one = Version::of(&record.item).unwrap();
            self.nodes[n].replica.insert(target, Record { twin, ..record });
            if first {
                self.give(n, Input::Held { maker, stamp: Stamp { target, version: one }, dies_at, via });
            }
            self.give(n, Input::Fraud { target, dies_at });
        } else if held.is_none_or(|held| held.item.seq < record.item.seq && held.twin.is_none()) {
            self.held_at.entry((target, stamp.version.sequence)).or_default().push(now);
            self.nodes[n].replica.insert(target, record);
            self.give(n, Input::Held { maker, stamp, dies_at, via });
        }
    }

    /// A node makes a version of a record: the first when there is no `key`.
    pub fn make(&mut self, n: usize, key: Option<[u8; 32]>, lives: Duration) -> [u8; 32] {
        let key = key.unwrap_or_else(|| self.rng.random());
        let wall = self.wall(n);
        let target = Target::of_key(&key, b"");
        let before = self.nodes[n].replica.get(&target).cloned();
        let seq = before.as_ref().map_or(0, |held| held.item.seq + 1).max(wall.0 as i64);
        let dies_at = before.as_ref().map_or(wall.plus(lives), |held| held.dies_at);
        self.old.extend(before);
        let record = self.sign(n, key, seq, dies_at, 0);
        self.accept(n, record, Via::Own);
        key
    }

    /// A record that a node signs, told to nobody.
    pub fn sign(&mut self, n: usize, key: [u8; 32], seq: i64, dies_at: UnixMillis, terms: u8) -> Record {
        let v: [u8; 32] = self.rng.random();
        let value: Vec<u8> = v.iter().cycle().take(600).copied().collect();
        let item = MutableItem {
            k: PublicKey(key),
            seq,
            v: vintner::bep44::bencode_bytes(&value),
            sig: Signature([7; 64]),
            salt: [].into(),
        };
        let maker = self.nodes[n].id;
        self.genuine.insert(CopyHash::of_items([&item]), (maker, dies_at, terms));
        Record { maker, item, twin: None, dies_at, terms }
    }

    /// Whether a record is dead for its maker.
    pub fn is_dead(&self, n: usize, key: [u8; 32]) -> bool {
        let target = Target::of_key(&key, b"");
        self.nodes[n]
            .replica
            .get(&target)
            .is_none_or(|held| held.dies_at <= self.wall(n) || held.twin.is_some())
    }

    /// A maker signs another value of its newest sequence, or a later or earlier version on other terms, and somebody hears of it through the DHT.
    pub fn cheat(&mut self, n: usize, key: [u8; 32]) {
        let target = Target::of_key(&key, b"");
        let Some(held) = self.nodes[n].replica.get(&target).cloned() else { return };
        if self.is_dead(n, key) {
            return;
        }
        let (seq, terms) = match self.rng.random_range(0..3) {
            0 => (held.item.seq, 0),
            1 => (held.item.seq + 1, 1),
            _ => (held.item.seq - 1, 1),
        };
        let other = self.sign(n, key, seq, held.dies_at, terms);
        let up = self.up();
        if let Some(to) = up.get(self.rng.random_range(0..up.len().max(1))).copied().filter(|to| *to != n) {
            self.cheats.insert(self.nodes[n].id);
            self.bring(to, other);
        }
    }

    /// How many makers cheated.
    pub fn cheats(&self) -> usize {
        self.cheats.len()
    }

    /// Gives a node a record as if the DHT had brought it.
    pub fn bring(&mut self, n: usize, record: Record) {
        if self.nodes[n].core.is_some() {
            self.accept(n, record, Via::Dht);
        }
    }

    fn judge(&mut self, n: usize, copy: CopyHash, record: Carried, via: Via) {
        let found = [Some(&record.item), record.twin.as_ref()]
            .into_iter()
            .flatten()
            .map(|item| self.genuine.get(&CopyHash::of_items([item])).copied())
            .collect::<Option<Vec<_>>>();
        let Some(&[(maker, dies_at, terms), ..]) = found.as_deref() else {
            return self.give(n, Input::Judged { copy, verdict: Verdict::Forged });
        };
        let stamp = record.stamp().unwrap();
        self.give(n, Input::Judged { copy, verdict: Verdict::Genuine { maker, stamp, dies_at } });
        let Carried { item, twin } = record;
        self.accept(n, Record { maker, item, twin, dies_at, terms }, via);
    }

    fn happen(&mut self, Event { node, run, what }: Event) {
        let is_up = self.nodes[node].core.is_some() && self.nodes[node].started == run;
        match what {
            What::Frame { from, bytes } => {
                let is_there = self.nodes[node].core.is_some();
                let to = self.nodes[node].id;
                let heard = is_there.then(|| {
                    let core = self.nodes[node].core.as_ref();
                    core.is_some_and(|core| core.status().neighbours.contains(&self.nodes[from].id))
                });
                let heard = heard.filter(|_| self.arrives(node, from));
                let pause = if heard.is_some() { self.latency() } else { ANSWER_TIMEOUT };
                self.later(pause, from, What::Sent { to, heard });
                let from = self.nodes[from].id;
                match read_frame(&bytes) {
                    Ok(messages) => self.give(node, Input::Frame { from, messages }),
                    Err(_) => self.give(node, Input::Garbled(from)),
                }
            }
            What::Asked { from, id, question } => {
                if self.nodes[node].core.is_none() {
                    return self.later(ANSWER_TIMEOUT, from, What::Answered { id, answer: None });
                }
                let to = AnswerTo((from as u64) << 40 | id.0);
                let question = Question::read(&question).unwrap();
                let from = self.nodes[from].id;
                self.give(node, Input::Asked { from, question, to });
            }
            _ if !is_up => {}
            What::Wake => self.give(node, Input::Tick),
            What::Sent { to, heard } => self.give(node, Input::Sent { to, heard }),
            What::Answered { id, answer } => {
                let answer = answer.map(|bytes| Answer::read(&bytes).unwrap());
                self.give(node, Input::Answered { id, answer });
            }
            What::Judged { copy, record, via } => self.judge(node, copy, record, via),
            What::JudgedHead { copy, head, via } => {
                let head = self.heads.contains(head.bytes()).then(|| head.from_own_store());
                self.give(node, Input::JudgedHead { copy, head, via });
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(Reverse((at, id))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at;
            let Some(event) = self.events.remove(&id) else { continue };
            let mut hash = DefaultHasher::new();
            (self.trace, at, event.node, std::mem::discriminant(&event.what)).hash(&mut hash);
            self.trace = hash.finish();
            self.handled += 1;
            self.happen(event);
        }
        self.now = end;
    }

    /// The versions that a node lists: not dead, by target.
    pub fn listed(&self, n: usize) -> Vec<Stamp> {
        let wall = self.wall(n);
        self.nodes[n].replica.values().filter(|record| record.dies_at > wall).map(Record::stamp).collect()
    }

    /// The honest nodes that are up.
    pub fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].core.is_some() && !self.nodes[*n].is_evil).collect()
    }

    /// What is wrong with the network, if anything: replicas that differ.
    pub fn difference(&self) -> Option<String> {
        let up = self.up();
        let first = self.listed(*up.first()?);
        up.iter().find_map(|n| {
            let listed = self.listed(*n);
            (listed != first).then(|| {
                let missing = first.iter().filter(|stamp| !listed.contains(stamp)).count();
                let more = listed.iter().filter(|stamp| !first.contains(stamp)).count();
                format!(
                    "node {n} lists {} records, node {} {}: {missing} missing, {more} more",
                    listed.len(),
                    up[0],
                    first.len()
                )
            })
        })
    }
}
