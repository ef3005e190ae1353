//! What goes on in the network: nodes come, crash and return, keep their announcements and records alive, and look up those of
//! others. What was found of what should have been is counted.

use crate::net::{self, Net, Who, addr};
use rand::RngExt;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    dht::core::{GetMode, Item, NodeId, Now, OpId, Outcome, Request},
    identity::KeyPair,
};

/// Nodes that never crash, whom everybody joins through.
pub const BOOTSTRAP: u32 = 3;
/// One node in so many never crashes either: its record must be there from the first minute to the last.
const STEADY_ONE_IN: u32 = 20;
/// One node in so many keeps a signed record. All announce a service.
const RECORD_ONE_IN: u32 = 5;
/// What was announced or put by a node is expected to be found when it is up for so long, and by a node that is.
const SETTLED: Duration = Duration::from_secs(20);
/// Percent of the crashed that return, with their id, address and a few nodes that they knew.
const RETURN_PERCENT: u32 = 30;
/// How long they are away.
const AWAY: std::ops::Range<u64> = 10_000..300_000;

struct Alive {
    since: Now,
    at: usize,
}

/// What became of lookups of one kind.
#[derive(Clone, Copy, Default)]
pub struct Found {
    pub asked: u64,
    pub found: u64,
}

impl Found {
    pub fn share(self) -> f64 {
        if self.asked == 0 { 1.0 } else { self.found as f64 / self.asked as f64 }
    }
}

struct Question {
    asker: Who,
    owner: Who,
    asked: Now,
    record: bool,
}

#[derive(Default)]
pub struct Tally {
    pub announcements: Found,
    pub records: Found,
    /// Of records whose owner never crashed.
    pub steady_records: Found,
    pub took: Vec<Duration>,
    pub crashed: u64,
    pub joined: u64,
    pub returned: u64,
}

/// How good tables are.
#[derive(Clone, Copy, Default)]
pub struct Tables {
    /// Of the twenty nodes that are nearest to a node, how many it has in its table.
    pub near_known: f64,
    /// Of the nodes that a table would hand out, how many are down.
    pub dead: f64,
    pub size: f64,
}

pub struct Life {
    pub net: Net,
    pub tally: Tally,
    /// Lookups and gets a second, in the whole network.
    pub asked_a_second: u32,
    /// Parts of the nodes, in a thousand, that crash in a minute.
    pub churn_permille: u32,
    /// Whether those are asked for only who are on the other side of the partition that was.
    pub across: bool,
    up: Vec<Who>,
    alive: HashMap<Who, Alive>,
    returning: BTreeMap<(Now, Who), (NodeId, Vec<SocketAddr>)>,
    questions: HashMap<OpId, Question>,
    records: HashMap<Who, VerifiedItem>,
    serial: u64,
    /// Crashes owed, in thousandths.
    owed: u64,
}

fn service(who: Who) -> (Arc<[u8]>, SocketAddr) {
    // Names spread over the id space, as client ids do; their first bytes decide.
    let hash = u64::from(who + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let name = [&hash.to_be_bytes()[..], format!("service {who}").as_bytes()].concat();
    (name.into(), SocketAddr::new(addr(who).ip(), 1000))
}

fn is_steady(who: Who) -> bool {
    who < BOOTSTRAP || who.is_multiple_of(STEADY_ONE_IN)
}

fn has_record(who: Who) -> bool {
    who.is_multiple_of(RECORD_ONE_IN)
}

impl Life {
    /// A network of so many nodes that join one after the other within a minute.
    pub fn begin(seed: u64, nodes: u32) -> Self {
        let mut life = Self {
            net: Net::new(seed, (0..BOOTSTRAP).collect()),
            tally: Tally::default(),
            asked_a_second: 0,
            churn_permille: 0,
            across: false,
            up: Vec::new(),
            alive: HashMap::new(),
            returning: BTreeMap::new(),
            questions: HashMap::new(),
            records: HashMap::new(),
            serial: 0,
            owed: 0,
        };
        let pause = Duration::from_mins(1) / nodes;
        for _ in 0..nodes {
            life.join();
            life.net.run(life.net.now.plus(pause));
        }
        life
    }

    fn join(&mut self) {
        let who = self.net.add();
        self.arrived(who);
    }

    fn arrived(&mut self, who: Who) {
        self.alive.insert(who, Alive { since: self.net.now, at: self.up.len() });
        self.up.push(who);
        let (name, to) = service(who);
        let record = has_record(who).then(|| self.record(who));
        self.net.with(who, |core, now| {
            core.keep_announced(now, name, to.port()).unwrap();
            if let Some(item) = record {
                core.keep_item(now, Item::Mutable(item)).unwrap();
            }
        });
    }

    fn record(&mut self, who: Who) -> VerifiedItem {
        let sign = || {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&who.to_be_bytes());
            let v = bencode_bytes(
                format!("an offer of {who}, about as long as one is: {}", "x".repeat(400)).as_bytes(),
            );
            VerifiedItem::sign(&KeyPair::from_seed(&seed), b"", 1, v).unwrap()
        };
        self.records.entry(who).or_insert_with(sign).clone()
    }

    /// Stops a node for good, and nobody comes instead.
    pub fn leave(&mut self, who: Who) {
        self.net.crash(who);
        if let Some(alive) = self.alive.remove(&who) {
            self.forget_place(alive.at);
        }
    }

    fn forget_place(&mut self, at: usize) {
        self.up.swap_remove(at);
        if let Some(moved) = self.up.get(at) {
            self.alive.entry(*moved).and_modify(|other| other.at = at);
        }
    }

    fn crash(&mut self, who: Who) {
        let (Some(kept), Some(alive)) = (self.net.crash(who), self.alive.remove(&who)) else { return };
        self.forget_place(alive.at);
        self.tally.crashed += 1;
        if self.net.rng.random_range(0..100) < RETURN_PERCENT {
            let away = Duration::from_millis(self.net.rng.random_range(AWAY));
            self.returning.insert((self.net.now.plus(away), who), kept);
        } else {
            self.join();
            self.tally.joined += 1;
        }
    }

    /// Lets time pass, in which nodes come and go and ask.
    pub fn run(&mut self, time: Duration) {
        let until = self.net.now.plus(time);
        let tick = Duration::from_secs(1) / self.asked_a_second.max(1);
        while self.net.now < until {
            self.churn(tick);
            if self.asked_a_second > 0 {
                self.ask();
            }
            self.net.run(self.net.now.plus(tick));
            self.count();
        }
    }

    fn churn(&mut self, tick: Duration) {
        // Of one node in a thousand minutes, in microseconds.
        self.owed += self.up.len() as u64 * u64::from(self.churn_permille) * tick.as_micros() as u64;
        let one = 1000 * Duration::from_mins(1).as_micros() as u64;
        while self.owed >= one {
            self.owed -= one;
            let who = self.up[self.net.rng.random_range(0..self.up.len())];
            if !is_steady(who) {
                self.crash(who);
            }
        }
        while let Some((&(at, who), _)) = self.returning.first_key_value()
            && at <= self.net.now
        {
            let Some((_, (id, known))) = self.returning.pop_first() else { break };
            self.net.start(who, Some(id), known);
            self.arrived(who);
            self.tally.returned += 1;
        }
    }

    fn settled(&self, who: Who) -> bool {
        self.alive.get(&who).is_some_and(|alive| self.net.now.since(alive.since) >= SETTLED)
    }

    /// Somebody looks up what somebody else announced or put.
    fn ask(&mut self) {
        self.serial += 1;
        let record = self.serial.is_multiple_of(2);
        let asker = self.up[self.net.rng.random_range(0..self.up.len())];
        // A few attempts to meet somebody who has what is looked for.
        let pick = (0..40).map(|_| self.up[self.net.rng.random_range(0..self.up.len())]).collect::<Vec<_>>();
        let owner = pick.into_iter().find(|&owner| {
            let reachable = !self.net.parted || self.net.side(asker) == self.net.side(owner);
            let across = !self.across || self.net.side(asker) != self.net.side(owner);
            owner != asker && self.settled(owner) && (!record || has_record(owner)) && reachable && across
        });
        let Some(owner) = owner.filter(|_| self.settled(asker)) else { return };
        let request = if record {
            let target = self.record(owner).target();
            Request::Get { target, salt: Arc::default(), mode: GetMode::Network }
        } else {
            Request::Lookup { name: service(owner).0 }
        };
        let op = OpId(self.serial);
        self.questions.insert(op, Question { asker, owner, asked: self.net.now, record });
        self.net.start_op(asker, op, request);
    }

    fn count(&mut self) {
        for (op, at, outcome) in std::mem::take(&mut self.net.done) {
            let Some(question) = self.questions.remove(&op) else { continue };
            let Question { asker, owner, asked, record } = question;
            // Who crashed meanwhile, or returned, is not asked about.
            let stayed = |who| self.alive.get(who).is_some_and(|alive| alive.since <= asked);
            if !stayed(&asker) || !stayed(&owner) {
                continue;
            }
            let found = match outcome {
                Outcome::Peers(Ok(peers)) => peers.contains(&service(owner).1),
                Outcome::Item(Ok(item)) => {
                    item.is_some_and(|found| found.item == Item::Mutable(self.record(owner)))
                }
                _ => false,
            };
            let kind = if record { &mut self.tally.records } else { &mut self.tally.announcements };
            kind.asked += 1;
            kind.found += u64::from(found);
            if !found {
                self.print_missed(&question, at.since(asked));
            }
            if record && is_steady(owner) {
                self.tally.steady_records.asked += 1;
                self.tally.steady_records.found += u64::from(found);
            }
            self.tally.took.push(at.since(asked));
        }
        // An asker that crashed never ends.
        let now = self.net.now;
        self.questions.retain(|_, question| now.since(question.asked) < Duration::from_mins(1));
    }

    /// Who holds a record that was not found: of the twenty nearest to it, and of all.
    fn holders(&mut self, owner: Who) -> (usize, usize) {
        let target = self.record(owner).target();
        let distance = |id: NodeId| -> [u8; 20] { std::array::from_fn(|at| id.0[at] ^ target.0[at]) };
        let up = self.up.iter().filter_map(|&who| Some((distance(self.net.core(who)?.node_id()), who)));
        let up: BTreeMap<_, _> = up.collect();
        let mut holds = Vec::new();
        for who in up.into_values() {
            self.net.with(who, |core, _| holds.push(core.local(&target).is_some()));
        }
        let count = |of: &[bool]| of.iter().filter(|holds| **holds).count();
        (count(&holds[..holds.len().min(20)]), count(&holds))
    }

    /// Says of something that was not found how old everybody was: enough to look for the reason, with the seed.
    fn print_missed(&mut self, question: &Question, took: Duration) {
        let Question { asker, owner, asked, record } = *question;
        let up = |who: &Who| self.alive.get(who).map(|alive| asked.since(alive.since).as_secs());
        let (owner_up, asker_up) = (up(&owner), up(&asker));
        let held = if record { format!("{:?}", self.holders(owner)) } else { String::new() };
        println!(
            "  missed at {:?}: {} of {owner} (up {owner_up:?} s) by {asker} (up {asker_up:?} s) after {took:?} {held}",
            asked.since_start(),
            if record { "record" } else { "service" },
        );
    }

    /// Looks at the tables of up to so many nodes that are up for a while.
    pub fn tables(&self, sample: usize) -> Tables {
        let ids: Vec<(NodeId, Who)> =
            self.up.iter().filter_map(|&who| Some((self.net.core(who)?.node_id(), who))).collect();
        let settled: Vec<Who> = self.up.iter().copied().filter(|who| self.settled(*who)).collect();
        let step = (settled.len() / sample).max(1);
        let mut sum = Tables::default();
        let mut count = 0.0;
        for &who in settled.iter().step_by(step) {
            let Some(core) = self.net.core(who) else { continue };
            let known = core.known_nodes();
            let own = core.node_id();
            let mut near: Vec<_> =
                ids.iter().filter(|(_, other)| *other != who && self.settled(*other)).collect();
            let distance = |id: &NodeId| -> [u8; 20] { std::array::from_fn(|at| id.0[at] ^ own.0[at]) };
            near.sort_by_key(|(id, _)| distance(id));
            near.truncate(20);
            let have = near.iter().filter(|(_, other)| known.contains(&addr(*other))).count();
            sum.near_known += have as f64 / near.len().max(1) as f64;
            let down = known.iter().filter(|node| !self.up_at(**node)).count();
            sum.dead += down as f64 / known.len().max(1) as f64;
            sum.size += known.len() as f64;
            count += 1.0;
        }
        Tables { near_known: sum.near_known / count, dead: sum.dead / count, size: sum.size / count }
    }

    fn up_at(&self, node: SocketAddr) -> bool {
        self.alive.contains_key(&net::who(node))
    }

    pub fn nodes(&self) -> usize {
        self.up.len()
    }
}
