//! Virtual time, the network, and what the drivers of a real node do around its core.

use super::{
    Report,
    ledger::{Ledger, consistent},
    node::Node,
    people::{self, Crook},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use vintner::{
    bep44::Target,
    exchange::{
        BatchError, BidAnswer, Effect, Event, Input, NotNow, Output, Refusal, RefusalCode, ReplyTo, run_batch,
    },
    grenache::envelope::{RequestDigest, RpcRefusal, SignedReply, SignedRequest},
    identity::{KeyPair, MasterKey, Network, Signed, SignedText},
    market::{Bid, Offer, Via},
};

/// How long a bidder's driver waits for a reply.
const REPLY_TIMEOUT_MS: u64 = 3_000;
/// How long the world stays calm after it heals: well beyond the longest pause between two questions about a bid.
const CALM_MS: u64 = 3 * 3_600_000;
/// Longer than anything is kept that is not kept for ever.
const WEEKS_MS: u64 = 45 * 24 * 3_600_000;
const HOUR_MS: u64 = 3_600_000;
/// A run that does more than this goes round in circles.
const HAPPENINGS_MAX: u64 = 400_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    Node(usize),
    Stranger,
}

/// One request under way.
struct Ask {
    asker: Asker,
    life: u64,
    request: SignedRequest,
    bid: Signed<Bid>,
}

/// A bid that a node is deciding on.
struct Call {
    ask: u64,
    digest: RequestDigest,
    bid: Signed<Bid>,
}

pub(super) enum Happening {
    Wake(usize),
    Record(usize, Arc<Offer>),
    Request(u64),
    Reply(u64, SignedReply),
    Timeout(u64),
    Published(usize, u64, Arc<Offer>),
    Flush(usize),
    Start(usize),
    Act,
    Heal,
    Gossip,
    Settled,
}

/// What goes wrong in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    DiskFull,
    CrashBeforeCommit,
    CrashAfter(usize),
}

pub(super) struct World {
    pub rng: StdRng,
    pub now: u64,
    pub nodes: Vec<Node>,
    pub ledger: Ledger,
    pub crook: Crook,
    pub stranger: KeyPair,
    mallory: KeyPair,
    pub network: Network,
    /// Every version of every record that was ever handed to the network, verified as a node would.
    pub history: Vec<Arc<Offer>>,
    known: BTreeSet<(Target, u64, Vec<u8>)>,
    pub healed: bool,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    asks: BTreeMap<u64, Ask>,
    calls: BTreeMap<u64, Call>,
    numbers: u64,
    hasher: DefaultHasher,
    happenings: u64,
    crashes: u64,
    verbose: bool,
    pub loss: f64,
    delay_max_ms: u64,
    crash: f64,
}

impl World {
    pub(super) fn new(seed: u64, verbose: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..=6u8);
        let nodes = (0..count).map(|n| Node::new(n + 1, rng.random_range(-4_000..4_000))).collect();
        let mut world = Self {
            now: 0,
            nodes,
            ledger: Ledger::default(),
            crook: Crook::new(),
            stranger: MasterKey::from_bytes([201; 32]).client_key(),
            mallory: MasterKey::from_bytes([202; 32]).client_key(),
            network: people::network(),
            history: Vec::new(),
            known: BTreeSet::new(),
            healed: false,
            queue: BTreeMap::new(),
            order: 0,
            asks: BTreeMap::new(),
            calls: BTreeMap::new(),
            numbers: 0,
            hasher: DefaultHasher::new(),
            happenings: 0,
            crashes: 0,
            verbose,
            loss: rng.random_range(0.0..0.3),
            delay_max_ms: rng.random_range(5..3_000),
            crash: rng.random_range(0.0..0.04),
            rng,
        };
        for n in 0..world.nodes.len() {
            world.ledger.meet(world.nodes[n].id, n);
            world.after(0, Happening::Start(n));
        }
        world.after(10, Happening::Act);
        let heals_in = world.rng.random_range(60_000..240_000);
        world.after(heals_in, Happening::Heal);
        world
    }

    pub(super) fn run(mut self) -> Result<Report, String> {
        while let Some(((at, order), happening)) = self.queue.pop_first() {
            self.now = at;
            self.happenings += 1;
            (at, order).hash(&mut self.hasher);
            self.happen(happening);
            if self.happenings > HAPPENINGS_MAX {
                self.ledger.check(false, || "the run goes round in circles".into());
            }
            if let Some(rule) = self.ledger.broken.take() {
                return Err(format!("{rule} (at {} ms)", self.now));
            }
        }
        self.weeks_later();
        match self.ledger.broken.take() {
            Some(rule) => Err(format!("{rule} (weeks later)")),
            None => Ok(Report {
                trace_hash: self.hasher.finish(),
                happenings: self.happenings,
                trades: self.ledger.trades,
                refusals: self.ledger.refusals,
                given_up: self.ledger.given_up,
                crashes: self.crashes,
            }),
        }
    }

    pub(super) fn after(&mut self, ms: u64, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.now + ms, self.order), happening);
    }

    pub(super) fn trace(&mut self, what: impl FnOnce() -> String, mark: impl Hash) {
        mark.hash(&mut self.hasher);
        if self.verbose {
            println!("{:>9} ms  {:.300}", self.now, what());
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        !self.healed && self.rng.random_bool(p)
    }

    /// Hands something to the network: it arrives late, more than once, or never.
    fn carry(&mut self, make: impl Fn() -> Happening) {
        let copies = match () {
            () if self.chance(self.loss) => 0,
            () if self.chance(0.1) => 2,
            () => 1,
        };
        for _ in 0..copies {
            let slow = if self.chance(0.02) { 60_000 } else { 0 };
            let delay = self.rng.random_range(1..=self.delay_max_ms + slow);
            self.after(delay, make());
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(n) if self.nodes[n].wake_at == Some(self.now) => self.batch(n),
            Happening::Record(n, offer) => self.deliver(n, Input::Record(offer, Via::Dht)),
            Happening::Request(ask) => self.request(ask),
            Happening::Reply(ask, reply) => self.reply(ask, reply),
            Happening::Timeout(ask) => self.heard(ask, None),
            Happening::Published(n, life, offer) if self.nodes[n].life == life => {
                let (offer, sequence) = (offer.id, offer.sequence);
                self.deliver(n, Input::Published { offer, sequence, stored_on: 3, announced_to: 5 });
            }
            Happening::Flush(n) => self.flush(n),
            Happening::Start(n) => self.start(n),
            Happening::Act if !self.healed => {
                self.act();
                let pause = self.rng.random_range(20..2_000);
                self.after(pause, Happening::Act);
            }
            // For an earlier life, or an earlier plan.
            Happening::Wake(_) | Happening::Published(..) | Happening::Act => {}
            Happening::Heal => self.heal(),
            Happening::Gossip => self.gossip(),
            Happening::Settled => self.settled(),
        }
    }

    /// Puts an input into a node's inbox, if the node is up.
    pub(super) fn deliver(&mut self, n: usize, input: Input) {
        if self.nodes[n].core.is_some() {
            self.nodes[n].inbox.push_back(input);
            let soon = self.rng.random_range(0..8);
            self.wake(n, self.now + soon);
        }
    }

    fn wake(&mut self, n: usize, at: u64) {
        if self.nodes[n].wake_at.is_none_or(|before| before > at || before < self.now) {
            self.nodes[n].wake_at = Some(at);
            self.after(at - self.now, Happening::Wake(n));
        }
    }

    /// One turn of a node's only writer.
    fn batch(&mut self, n: usize) {
        self.nodes[n].wake_at = None;
        let Some(mut core) = self.nodes[n].core.take() else { return };
        let most = self.rng.random_range(1..=8);
        let most = most.min(self.nodes[n].inbox.len());
        let mut inputs: Vec<Input> = self.nodes[n].inbox.drain(..most).collect();
        if inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        let clock = self.nodes[n].clock(self.now);
        self.trace(|| format!("node {n} takes {inputs:?}"), (n, inputs.len()));
        let (fate, late) = (self.fate(n), self.chance(0.7));
        let (mut released, mut stored) = (Vec::new(), Vec::new());
        let result = run_batch(
            &mut core,
            clock,
            inputs,
            |_, events| {
                stored.clone_from(&events);
                store(&mut self.nodes[n], events, fate, late)
            },
            |effects| released = effects,
        );
        self.nodes[n].core = Some(core);
        if let Fate::CrashAfter(effects) = fate {
            released.truncate(effects);
        }
        let withheld = match result {
            Ok(()) => {
                self.committed(n, &stored);
                Vec::new()
            }
            Err(BatchError { withheld, .. }) => withheld,
        };
        for effect in released {
            self.release(n, effect);
        }
        match fate {
            Fate::Fine => self.next_turn(n),
            Fate::DiskFull => self.disk_full(n, withheld),
            Fate::CrashBeforeCommit | Fate::CrashAfter(_) => self.crash(n),
        }
    }

    fn fate(&mut self, n: usize) -> Fate {
        match () {
            () if self.chance(self.crash) => {
                if self.chance(0.4) {
                    Fate::CrashBeforeCommit
                } else {
                    Fate::CrashAfter(self.rng.random_range(0..5))
                }
            }
            () if self.nodes[n].disk_full_until > self.now => Fate::DiskFull,
            () => Fate::Fine,
        }
    }

    fn next_turn(&mut self, n: usize) {
        if !self.nodes[n].inbox.is_empty() {
            return self.wake(n, self.now + 1);
        }
        let timeout = self.nodes[n].core.as_ref().and_then(vintner::exchange::Core::next_timeout);
        if let Some(at) = timeout {
            let clock = self.nodes[n].clock(self.now);
            self.wake(n, self.now + at.0.saturating_sub(clock.0).max(1));
        }
    }

    fn committed(&mut self, n: usize, events: &[Event]) {
        let clock = self.nodes[n].clock(self.now);
        self.trace(|| format!("node {n} stores {events:?}"), events.len());
        self.ledger.committed(n, &self.nodes, events, clock);
        if !self.nodes[n].store.deferred.is_empty() {
            let later = self.rng.random_range(1..5_000);
            self.after(later, Happening::Flush(n));
        }
    }

    fn flush(&mut self, n: usize) {
        if self.nodes[n].disk_full_until <= self.now {
            self.nodes[n].store.commit(Vec::new());
        }
    }

    /// A commit was refused: memory is ahead of the disk, so it is thrown away; whoever waits is told that nothing happened.
    fn disk_full(&mut self, n: usize, withheld: Vec<Effect>) {
        self.nodes[n].store.deferred.clear();
        let Some(old) = self.nodes[n].core.take() else { unreachable!("only a running core commits") };
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let (stored, clock) = (self.nodes[n].store.log.clone(), self.nodes[n].clock(self.now));
        let (core, mut output) = vintner::exchange::rebuild(old, withheld, stored, seed, clock);
        self.nodes[n].core = Some(core);
        // The set of records to publish outlives the core, in its driver: what is under way is not begun again.
        output.effects.retain(|e| !matches!(e, Effect::Publish(offer) if self.known.contains(&key(offer))));
        self.first_words(n, output);
    }

    fn restored(&mut self, n: usize) -> (vintner::exchange::Core, Output) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.nodes[n].restored(seed, self.now)
    }

    /// What a restored core does first, committed before it is done like everything else.
    fn first_words(&mut self, n: usize, Output { events, effects }: Output) {
        self.nodes[n].store.commit(events.clone());
        self.committed(n, &events);
        for effect in effects {
            self.release(n, effect);
        }
        self.next_turn(n);
    }

    pub(super) fn crash(&mut self, n: usize) {
        self.trace(|| format!("node {n} CRASHES"), n);
        self.crashes += 1;
        self.ledger.hung_up(n);
        let node = &mut self.nodes[n];
        node.core = None;
        node.life += 1;
        node.wake_at = None;
        node.inbox.clear();
        node.store.deferred.clear();
        // Now and then for so long that offers of it die, and bids on them are given up.
        let long = self.chance(0.4);
        let down = self.rng.random_range(if long { 60_000..180_000 } else { 1..20_000 });
        self.after(down, Happening::Start(n));
    }

    fn start(&mut self, n: usize) {
        if self.nodes[n].core.is_some() {
            return;
        }
        if self.chance(0.3) {
            self.nodes[n].skew -= self.rng.random_range(0..5_000);
        }
        self.trace(|| format!("node {n} starts"), n);
        self.ledger.audit(n, &self.nodes, self.now);
        let (core, output) = self.restored(n);
        self.nodes[n].core = Some(core);
        self.first_words(n, output);
        if self.healed {
            self.gossip_to(n);
        }
    }

    /// An old backup takes the place of a node's store. The network knows better, and says so before anything else.
    pub(super) fn lose_store(&mut self, n: usize) {
        let Some(len) = self.nodes[n].backup else { return };
        let newest = |offer: &Offer| self.known.contains(&key(offer));
        if !self.nodes[n].store.state.own.values().all(|own| newest(&own.offer)) {
            return;
        }
        self.trace(|| format!("node {n} LOSES ITS STORE"), n);
        self.crash(n);
        self.ledger.store_lost(n);
        self.nodes[n].store.cut(len);
        self.start(n);
        let (id, clock) = (self.nodes[n].id, self.nodes[n].clock(self.now));
        let own: Vec<_> = self.history.iter().filter(|o| o.client_id == id).cloned().collect();
        let state = &self.nodes[n].store.state;
        let is_news = |o: &Arc<Offer>| state.own.get(&o.id).is_none_or(|own| own.offer.sequence < o.sequence);
        let behind = own.iter().any(|o| is_news(o) && !o.is_dead(clock));
        let Some(mut core) = self.nodes[n].core.take() else { return };
        let mut output = Output::default();
        for offer in own {
            core.handle(clock, Input::Record(offer, Via::Dht), &mut output);
        }
        let notices = core.state().is_behind();
        self.ledger.check(notices || !behind, || format!("node {n} does not see that its store is behind"));
        self.nodes[n].core = Some(core);
        self.first_words(n, output);
    }

    fn release(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Reply { to, reply } => {
                self.trace(|| format!("node {n} replies to {} {reply:?}", to.0), to.0);
                self.ledger.replied(n, &self.nodes, to, &reply);
            }
            Effect::Answer { to, answer } => self.answer(n, to, answer),
            Effect::Ask(bid, _) => {
                self.ledger.asks(n, &self.nodes, &bid);
                self.ask(Asker::Node(n), bid);
            }
            Effect::Publish(offer) => {
                self.ledger.publishes(n, &self.nodes, &offer);
                self.spread(&offer);
                if self.healed || self.chance(0.8) {
                    let (life, delay) = (self.nodes[n].life, self.rng.random_range(5..500));
                    self.after(delay, Happening::Published(n, life, offer));
                }
            }
            Effect::Unpublish(_) | Effect::Expired(_) | Effect::Held(..) | Effect::Fraud { .. } => {}
            Effect::Fetch(target) => {
                let found: Vec<_> = self.history.iter().filter(|o| o.target() == target).cloned().collect();
                if !found.is_empty() {
                    let offer = Arc::clone(&found[self.rng.random_range(0..found.len())]);
                    self.carry(|| Happening::Record(n, Arc::clone(&offer)));
                }
            }
        }
    }

    /// Gives a record to everybody, as gossip does.
    pub(super) fn spread(&mut self, offer: &Arc<Offer>) {
        if self.known.insert(key(offer)) {
            let item = offer.item().clone().into_inner().verify().unwrap();
            self.history.push(Arc::new(Offer::read(item, &self.network, None).unwrap()));
        }
        for n in 0..self.nodes.len() {
            if self.nodes[n].id != offer.client_id {
                self.carry(|| Happening::Record(n, Arc::clone(offer)));
            }
        }
    }

    pub(super) fn ask(&mut self, asker: Asker, bid: Signed<Bid>) {
        let (key, life, at) = match asker {
            Asker::Node(n) => (self.nodes[n].key.clone(), self.nodes[n].life, self.nodes[n].clock(self.now)),
            Asker::Stranger => (self.stranger.clone(), 0, bid.created_at),
        };
        let body = serde_json::to_string(bid.source()).unwrap();
        let request = SignedRequest::sign(&self.network, &key, bid.maker, "bid", body, at).unwrap();
        let ask = self.number();
        self.asks.insert(ask, Ask { asker, life, request, bid });
        self.carry(|| Happening::Request(ask));
        self.after(REPLY_TIMEOUT_MS, Happening::Timeout(ask));
    }

    /// A request reaches the node that it is for: checked as the RPC endpoint does, then decided.
    fn request(&mut self, number: u64) {
        let Some(ask) = self.asks.get(&number) else { return };
        let Some(n) = self.nodes.iter().position(|node| node.id == *ask.request.to()) else {
            return self.crook_answers(number);
        };
        let (stranger, clock) = (ask.asker == Asker::Stranger, self.nodes[n].clock(self.now));
        // A stranger's envelope is always fresh: only the bid in it may be old.
        let clock = if stranger { ask.bid.created_at } else { clock };
        let digest = ask.request.digest();
        let Ok(request) = ask.request.clone().verify(&self.network, &self.nodes[n].id, clock) else { return };
        let text: SignedText = serde_json::from_str(request.body()).unwrap();
        let Ok(bid) = Signed::<Bid>::verify(text, &self.network) else { return };
        if self.nodes[n].core.is_none() || bid.bidder != request.from() {
            return;
        }
        let to = self.number();
        self.calls.insert(to, Call { ask: number, digest, bid: bid.clone() });
        self.deliver(n, Input::BidReceived { bid, reply: ReplyTo(to) });
    }

    fn answer(&mut self, n: usize, to: ReplyTo, answer: Result<BidAnswer, NotNow>) {
        let Some(call) = self.calls.remove(&to.0) else {
            return self.ledger.check(false, || format!("node {n} answered {} twice or nobody", to.0));
        };
        self.trace(|| format!("node {n} answers bid {} {answer:?}", call.bid.id.0), answer.is_ok());
        if let Ok(answer) = &answer {
            self.ledger.answered(n, &self.nodes, &call.bid, answer);
        }
        let outcome = match answer {
            Ok(answer) => Ok(serde_json::to_string(&answer).unwrap()),
            Err(not_now) => Err(RpcRefusal::new("not_now", not_now.to_string(), true)),
        };
        let (key, at) = (self.nodes[n].key.clone(), self.nodes[n].clock(self.now));
        let reply = SignedReply::sign(&self.network, &key, &call.digest, at, outcome).unwrap();
        self.carry(|| Happening::Reply(call.ask, reply.clone()));
        if self.chance(0.1) {
            self.forge(call.ask, &call.bid, call.digest);
        }
    }

    /// Mallory answers first, in the maker's place.
    fn forge(&mut self, ask: u64, bid: &Signed<Bid>, digest: RequestDigest) {
        let sold = self.chance(0.5);
        let lie = people::forged(&self.mallory, bid, sold, u128::from(ask));
        let body = serde_json::to_string(&lie).unwrap();
        let at = bid.created_at;
        let reply = SignedReply::sign(&self.network, &self.mallory, &digest, at, Ok(body)).unwrap();
        self.after(1, Happening::Reply(ask, reply));
    }

    /// The crook answers bids with trades about others, until the world heals and he says no.
    fn crook_answers(&mut self, number: u64) {
        let Some(ask) = self.asks.get(&number) else { return };
        let answer = if self.healed {
            BidAnswer::Refused(Refusal { code: RefusalCode::OfferNotAvailable, detail: "gone".into() })
        } else {
            self.crook.wrong_trade(&ask.bid, u128::from(number))
        };
        let (digest, at) = (ask.request.digest(), ask.bid.created_at);
        let body = serde_json::to_string(&answer).unwrap();
        let reply = SignedReply::sign(&self.network, &self.crook.key, &digest, at, Ok(body)).unwrap();
        self.carry(|| Happening::Reply(number, reply.clone()));
    }

    /// What a bidder's driver does with a reply: verified, or no answer at all.
    fn reply(&mut self, number: u64, reply: SignedReply) {
        let Some(ask) = self.asks.get(&number) else { return };
        let outcome = reply.verify(&self.network, &ask.request).ok().and_then(|reply| reply.outcome.ok());
        let answer: Option<BidAnswer> = outcome.and_then(|body| serde_json::from_str(&body).ok());
        let heard = answer.and_then(|answer| answer.verify(&self.network).ok());
        self.heard(number, heard);
    }

    fn heard(&mut self, number: u64, heard: Option<vintner::exchange::Heard>) {
        // The first word ends the attempt; now and then a driver passes on a late one too.
        let late = self.chance(0.1);
        let Some(ask) = (if late { self.asks.get(&number) } else { None }) else {
            let Some(ask) = self.asks.remove(&number) else { return };
            return self.pass_on(ask.asker, ask.life, &ask.bid, heard);
        };
        let (asker, life, bid) = (ask.asker, ask.life, ask.bid.clone());
        self.pass_on(asker, life, &bid, heard);
    }

    fn pass_on(
        &mut self,
        asker: Asker,
        life: u64,
        bid: &Signed<Bid>,
        heard: Option<vintner::exchange::Heard>,
    ) {
        if let Asker::Node(n) = asker
            && self.nodes[n].life == life
        {
            self.deliver(n, Input::BidAnswered { bid: bid.id, heard });
        }
    }

    fn heal(&mut self) {
        self.trace(|| "THE WORLD HEALS".into(), ());
        self.healed = true;
        self.delay_max_ms = 50;
        for n in 0..self.nodes.len() {
            self.nodes[n].disk_full_until = 0;
            self.start(n);
            self.flush(n);
        }
        // Those who lost their store know it, as takers too; the others have nothing to recover.
        (0..self.nodes.len()).for_each(|n| self.recovers(n));
        self.after(60_000, Happening::Gossip);
        self.after(CALM_MS, Happening::Settled);
    }

    fn gossip(&mut self) {
        for n in 0..self.nodes.len() {
            self.gossip_to(n);
            self.makers_are_back(n);
        }
        // Often at first, then now and then: nothing new comes up.
        if self.now < CALM_MS / 4 {
            self.after(20 * 60_000, Happening::Gossip);
        }
    }

    /// Makers that were gone are back, and say so by their heads.
    fn makers_are_back(&mut self, n: usize) {
        for maker in
            self.nodes.iter().map(|node| node.id).chain([self.crook.key.public()]).collect::<Vec<_>>()
        {
            for stale in [true, false] {
                self.deliver(n, Input::Stale { maker, stale });
            }
        }
    }

    /// Everything that anybody ever published, old and new, in any order.
    fn gossip_to(&mut self, n: usize) {
        for i in 0..self.history.len() {
            let offer = Arc::clone(&self.history[i]);
            if offer.client_id != self.nodes[n].id {
                self.carry(|| Happening::Record(n, Arc::clone(&offer)));
            }
        }
    }

    fn settled(&mut self) {
        self.queue.clear();
        for n in 0..self.nodes.len() {
            self.nodes[n].inbox.push_back(Input::Tick);
            self.nodes[n].wake_at = Some(self.now);
            self.batch(n);
            self.flush(n);
        }
        self.queue.clear();
        self.ledger.settled(&self.nodes, self.now);
        for n in 0..self.nodes.len() {
            self.replica_is_right(n);
            self.replay_is_the_same(n);
        }
    }

    fn replica_is_right(&mut self, n: usize) {
        let Some(core) = self.nodes[n].core.as_ref() else { return };
        let (state, clock) = (core.state().clone(), self.nodes[n].clock(self.now));
        consistent(&state).unwrap_or_else(|rule| self.ledger.check(false, || format!("node {n}: {rule}")));
        for maker in 0..self.nodes.len() {
            let own: Vec<_> = self.nodes[maker].store.state.own.values().cloned().collect();
            for own in own.iter().filter(|own| !own.offer.is_dead(clock)) {
                let target = own.offer.target();
                let held = state.market.records.get(&target).map(|held| held.item().v.clone());
                self.ledger.check(held.as_ref() == Some(&own.offer.item().v), || {
                    format!("node {n} does not hold the newest version of offer {target} of node {maker}")
                });
                let listed = state.market.available.contains_key(&(own.offer.id, target));
                let open = own.closed.is_none() && own.offer.is_available(clock);
                self.ledger.check(listed == open, || {
                    format!("offer {target}: open is {open}, listed by node {n} is {listed}")
                });
            }
        }
        let crook = self.crook.key.public();
        for offer in self.history.iter().filter(|offer| offer.client_id == crook) {
            // Two values of one record, or two records of one id: no node, whatever it heard first, lists either.
            let other = |other: &&Arc<Offer>| {
                let is_fraud = if other.target() == offer.target() {
                    let fixed = |offer: &Offer| (offer.terms.side, offer.terms.currency, offer.dies_at);
                    fixed(other) != fixed(offer)
                        || other.sequence == offer.sequence && other != &offer
                        || other.sequence > offer.sequence && other.availability && !offer.availability
                } else {
                    other.id == offer.id
                };
                other.client_id == crook && is_fraud
            };
            let listed = state.market.available.contains_key(&(offer.id, offer.target()));
            let is_fraud = listed && self.history.iter().any(|o| other(&o));
            self.ledger
                .check(!is_fraud, || format!("node {n} lists {}, which is proven fraud", offer.target()));
        }
    }

    /// The store alone makes the very state that the node has.
    fn replay_is_the_same(&mut self, n: usize) {
        let (core, _) = self.restored(n);
        let same = self.nodes[n].core.as_ref().is_some_and(|live| live.state() == core.state());
        self.ledger.check(same, || format!("node {n} has a state that its store does not have"));
    }

    /// Everything is dead: what may be forgotten is.
    fn weeks_later(&mut self) {
        // What a node alone knows it keeps for an hour more, because weeks have passed at once: its clock may be wrong.
        for ms in [WEEKS_MS, HOUR_MS] {
            self.now += ms;
            for n in 0..self.nodes.len() {
                self.nodes[n].wake_at = Some(self.now);
                self.batch(n);
                self.queue.clear();
            }
        }
        for n in 0..self.nodes.len() {
            let Some(core) = self.nodes[n].core.as_ref() else { continue };
            let s = core.state();
            let left = [s.own.len(), s.market.records.len(), s.market.available.len(), s.idempotency.len()];
            let marked = s.market.equivocated.len() + s.market.unlisted.len() + s.market.proofs_against.len();
            let more = [marked, s.market.by_id.len(), s.bids_in_refused];
            let refused = s
                .bids_out
                .values()
                .filter(|b| matches!(b.outcome, vintner::exchange::BidOutcome::Refused(_)));
            let refused = refused.count();
            self.ledger.check(left == [0; 4] && more == [0; 3] && refused == 0, || {
                format!("node {n} does not forget what is dead: {left:?} {more:?} {refused}")
            });
        }
    }
}

fn key(offer: &Offer) -> (Target, u64, Vec<u8>) {
    (offer.target(), offer.sequence, offer.item().v.to_vec())
}

/// The store's part in a batch.
fn store(node: &mut Node, events: Vec<Event>, fate: Fate, late: bool) -> Result<(), Fate> {
    match fate {
        Fate::CrashBeforeCommit | Fate::DiskFull => Err(fate),
        Fate::Fine | Fate::CrashAfter(_) => {
            if late && events.iter().all(|event| !event.must_be_durable()) {
                node.store.deferred.extend(events);
            } else {
                node.store.commit(events);
            }
            Ok(())
        }
    }
}
