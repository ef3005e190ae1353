//! Virtual time, and what one node after the other does in it. The exchange half of a node is in `trade.rs`, the replication half in
//! `gossip.rs`, the DHT's in `mailbox.rs` or `ring.rs`, those who cheat in `malice.rs`, the final judgement in `verdict.rs`.

use super::{
    Report, Told,
    ledger::Ledger,
    links::Links,
    mailbox::Mailbox,
    node::Node,
    people::{self, Crook},
    plan::Plan,
    ring::Ring,
    trade::{Ask, Fate},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use vintner::{
    bep44::Target,
    exchange::{BidAnswer, Input as Trade},
    identity::{ClientId, MasterKey, Network, Signed},
    market::{Bid, Offer, Via},
    replication::core::{
        AnswerTo, CopyHash, Core as Replication, QuestionId, SignedHead, UncheckedHead, Verdict,
        talk::Carried,
    },
    time::{Now, UnixMillis},
};

/// A run in which a node does more than this goes round in circles.
const HAPPENINGS_A_NODE_MAX: u64 = 60_000;
/// Lines of the trace that are kept for the report of a failure.
const LINES_MAX: usize = 40;

/// The replication half of a node, and what else it has.
pub(crate) struct Peer {
    /// `None` while the node is down.
    pub core: Option<Replication>,
    pub address: SocketAddr,
    /// The heads that it keeps over a restart.
    pub heads: BTreeMap<ClientId, SignedHead>,
    pub wakes_at: Option<Now>,
    pub paused_until: Now,
    /// What the model of the DHT stores here, until the next crash.
    pub mailbox: BTreeMap<Target, Arc<Offer>>,
    /// Its other self, if it cheats.
    pub crook: Option<Crook>,
    /// What the next batch that stores something will meet.
    pub armed: Option<Fate>,
    /// Its owner put back an old store, and waits until the network has told what the node does not know any more.
    pub waits: bool,
}

/// Something that will happen to a node.
#[derive(Clone)]
pub(crate) enum What {
    Step(usize),
    Start,
    /// The exchange's turn.
    Batch,
    /// The replication's turn.
    Wake,
    Flush,
    Frame {
        from: usize,
        bytes: Arc<[u8]>,
    },
    Sent {
        to: ClientId,
        heard: Option<bool>,
    },
    Asked {
        from: usize,
        to: AnswerTo,
        bytes: Arc<[u8]>,
    },
    Answered {
        id: QuestionId,
        from: usize,
        bytes: Option<Arc<[u8]>>,
    },
    Judge {
        copy: CopyHash,
        record: Carried,
        via: Via,
    },
    Judged {
        copy: CopyHash,
        verdict: Verdict,
    },
    JudgeHead {
        copy: CopyHash,
        head: UncheckedHead,
        via: Via,
    },
    Request(u64),
    Reply(u64, Result<BidAnswer, ()>),
    TooLate(u64),
    Published(Arc<Offer>),
    /// The DHT put this on the node.
    Stored(Arc<Offer>),
    /// An announcement reached the node.
    Hint(Target),
    /// The DHT brought what was announced or asked for.
    Found(Arc<Offer>),
    /// The DHT knows these nodes of the network.
    Met(Vec<usize>),
    Heal,
    Notice,
    Look,
    End,
}

impl What {
    /// Whether it happens to the world, not to a running node.
    fn is_fate(&self) -> bool {
        matches!(
            self,
            Self::Step(_)
                | Self::Start
                | Self::Heal
                | Self::Notice
                | Self::Look
                | Self::End
                | Self::TooLate(_)
        )
    }

    /// Whether it belongs to the bids alone, which go on when everything else was looked at.
    fn is_about_bids(&self) -> bool {
        matches!(
            self,
            Self::Batch | Self::Flush | Self::Request(_) | Self::Reply(..) | Self::TooLate(_) | Self::End
        )
    }
}

struct Happening {
    node: usize,
    /// The life of the node that it is for.
    life: u64,
    what: What,
}

pub(crate) struct World {
    pub plan: Plan,
    pub now: Now,
    pub rng: StdRng,
    pub network: Network,
    pub nodes: Vec<Node>,
    pub peers: Vec<Peer>,
    pub by_id: HashMap<ClientId, usize>,
    pub links: Links,
    pub ledger: Ledger,
    pub mailbox: Mailbox,
    pub ring: Option<Ring>,
    pub healed: bool,
    /// What everybody published, the latest last.
    pub history: Vec<Arc<Offer>>,
    /// Copies that somebody signed who may.
    pub signed: HashSet<CopyHash>,
    /// Heads as they left their makers.
    pub signed_heads: HashSet<Arc<[u8]>>,
    /// What checking a copy showed: each is checked once for all nodes.
    pub checked: HashMap<CopyHash, Option<Arc<Offer>>>,
    pub checked_heads: HashMap<Arc<[u8]>, Option<SignedHead>>,
    pub asks: BTreeMap<u64, Ask>,
    pub calls: BTreeMap<u64, (u64, Signed<Bid>)>,
    pub questions: BTreeMap<u64, (usize, QuestionId)>,
    pub numbers: u64,
    queue: BTreeMap<(Now, u64), Happening>,
    order: u64,
    trace: u64,
    pub happenings: u64,
    pub bids_only: bool,
    pub agreed: bool,
    pub told: Told,
    /// What happened last, in words.
    lines: VecDeque<String>,
}

impl World {
    pub(crate) fn new(plan: Plan, told: Told) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed.rotate_left(32) ^ plan.nodes as u64);
        let nodes: Vec<Node> = (0..plan.nodes).map(|n| Node::new(n as u8 + 1, plan.skew_ms[n])).collect();
        let peers = (0..plan.nodes).map(|n| Peer {
            core: None,
            address: SocketAddr::from(([10, 0, 0, n as u8], 5000)),
            heads: BTreeMap::new(),
            wakes_at: None,
            paused_until: Now::ZERO,
            mailbox: BTreeMap::new(),
            crook: (n < plan.evil).then(|| Crook::with(MasterKey::from_bytes([n as u8 + 1; 32]))),
            armed: None,
            waits: false,
        });
        let mut world = Self {
            now: Now::ZERO,
            network: people::network(),
            by_id: nodes.iter().enumerate().map(|(n, node)| (node.id, n)).collect(),
            links: Links::new(&plan),
            ledger: Ledger::default(),
            mailbox: Mailbox::new(&plan, &mut rng),
            ring: plan.ring.then(|| Ring::new(&plan)),
            healed: false,
            history: Vec::new(),
            signed: HashSet::new(),
            signed_heads: HashSet::new(),
            checked: HashMap::new(),
            checked_heads: HashMap::new(),
            asks: BTreeMap::new(),
            calls: BTreeMap::new(),
            questions: BTreeMap::new(),
            numbers: 0,
            queue: BTreeMap::new(),
            order: 0,
            trace: plan.seed,
            happenings: 0,
            bids_only: false,
            agreed: false,
            told,
            lines: VecDeque::new(),
            peers: peers.collect(),
            nodes,
            rng,
            plan,
        };
        for n in 0..world.nodes.len() {
            if !world.is_evil(n) {
                world.ledger.meet(world.nodes[n].id, n);
            }
            let soon = world.rng.random_range(0..3_000);
            world.after_ms(soon, n, What::Start);
        }
        for (number, step) in world.plan.steps.clone().iter().enumerate() {
            world.after_ms(step.at_ms, step.node, What::Step(number));
        }
        let heals = world.plan.heals_ms;
        world.after_ms(heals, 0, What::Heal);
        world
    }

    pub(crate) fn run(mut self) -> Result<Report, (String, VecDeque<String>)> {
        while let Some(((at, order), happening)) = self.next() {
            self.now = at;
            self.happenings += 1;
            let words = [at.since_start().as_micros() as u64, order, happening.node as u64];
            for word in words {
                self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
            }
            let is_end = matches!(happening.what, What::End);
            self.happen(happening);
            if self.happenings > HAPPENINGS_A_NODE_MAX * self.nodes.len() as u64 {
                self.ledger.check(false, || "the run goes round in circles".into());
            }
            if let Some(rule) = self.ledger.broken.take() {
                return Err((format!("{rule} (at {} ms)", self.ms()), self.lines));
            }
            if is_end {
                break;
            }
        }
        Ok(Report {
            trace: self.trace ^ self.ring.as_ref().map_or(0, Ring::trace),
            happenings: self.happenings,
            trades: self.ledger.trades,
            refusals: self.ledger.refusals,
            records: self.history.len() as u64,
        })
    }

    /// What happens next. A ring of real DHT cores has a clock of its own, which goes along.
    fn next(&mut self) -> Option<((Now, u64), Happening)> {
        while let Some(ring) = self.ring.as_mut().filter(|_| !self.bids_only) {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = ring.next().filter(|at| next.is_none_or(|next| *at <= next)) else { break };
            self.now = at;
            ring.run(at);
            self.ring_spoke();
        }
        self.queue.pop_first()
    }

    pub(crate) fn ms(&self) -> u64 {
        self.now.since_start().as_millis() as u64
    }

    pub(crate) fn clock(&self, n: usize) -> UnixMillis {
        self.nodes[n].clock(self.ms())
    }

    pub(crate) fn is_evil(&self, n: usize) -> bool {
        n < self.plan.evil
    }

    pub(crate) fn is_up(&self, n: usize) -> bool {
        self.nodes[n].core.is_some()
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.told == Told::Nothing {
            return;
        }
        let line = format!("{:>7} ms  {:.200}", self.ms(), line());
        if self.told == Told::Aloud {
            println!("{line}");
        } else {
            self.lines.truncate(LINES_MAX - 1);
            self.lines.push_front(line);
        }
    }

    pub(crate) fn after(&mut self, pause: Duration, node: usize, what: What) {
        self.order += 1;
        let life = self.nodes[node].life;
        self.queue.insert((self.now.plus(pause), self.order), Happening { node, life, what });
    }

    pub(crate) fn after_ms(&mut self, ms: u64, node: usize, what: What) {
        self.after(Duration::from_millis(ms), node, what);
    }

    /// Sends something to another node. Returns whether any copy of it will arrive.
    pub(crate) fn carry(&mut self, from: usize, to: usize, what: &What) -> bool {
        let copies: Vec<Duration> = self.links.carry(from, to, self.ms()).collect();
        for pause in &copies {
            // A node that is down now may be up when it arrives; its next life knows nothing of it all the same.
            self.after(*pause, to, what.clone());
        }
        !copies.is_empty()
    }

    fn happen(&mut self, happening: Happening) {
        let Happening { node: n, life, what } = happening;
        let is_fate = what.is_fate();
        if self.bids_only && !what.is_about_bids() {
            return;
        }
        if !is_fate && (life != self.nodes[n].life || !self.is_up(n)) {
            return self.nobody_is_there(n, &what);
        }
        if !is_fate && self.peers[n].paused_until > self.now {
            let rest = self.peers[n].paused_until.since(self.now);
            return self.after(rest, n, what);
        }
        match what {
            What::Step(number) => self.step(number),
            What::Start => self.start(n),
            What::Batch => self.batch(n),
            What::Flush => self.flush(n),
            What::Request(ask) => self.request(n, ask),
            What::Reply(ask, answer) => self.reply(ask, answer),
            What::TooLate(ask) => self.reply(ask, Err(())),
            What::Published(offer) => {
                let (offer, sequence) = (offer.id, offer.sequence);
                self.deliver(n, Trade::Published { offer, sequence, stored_on: 3, announced_to: 5 });
            }
            What::Stored(offer) => self.stored(n, offer),
            What::Hint(target) => self.look_up(n, target),
            What::Found(offer) => self.deliver(n, Trade::Record(offer, Via::Dht)),
            What::Heal => self.heal(),
            What::Notice => self.all_notice(),
            What::Look => self.look(),
            What::End => self.end(),
            what => self.gossip(n, what),
        }
    }
}
