//! Who gets which record: gossip, heads and anti-entropy, as a state machine.
//!
//! Pure: messages, answers and times go in, messages, questions and answers come out. Three ways lead to every replica, and each
//! repairs what the one before missed:
//!
//! 1. **Gossip** (`tree`): a record that is new here goes on to the neighbours. To some at once (*eager*), to the others by its name
//!    (*lazy*); who hears something twice asks for names only, who hears a name and no record asks for it. So the eager links
//!    become a tree, and the lazy ones mend it (PlumTree). The neighbours (`neighbours`) are a few nodes on both sides of each
//!    link, chosen at random among those whose heads are fresh (HyParView's active view; the passive one is the heads).
//! 2. **Heads** (`makers`): each minute every maker signs a root over all its records. Whoever holds something else asks for what
//!    it lacks (`jobs`): a neighbour, or the maker. A maker that signs no more is *stale*.
//! 3. **Comparison** (`compare`): each minute everything is compared with one other node, for the sake of makers that are gone.
//!
//! All this only ever adds: a replica is the union of the newest versions that it heard of, and absence says nothing. The records
//! themselves are not here but in the exchange core. This one has their [`index`], names what should be sent, and is told what is
//! held. Nothing goes on before its signatures were checked, because only what is held goes on.

mod compare;
mod head;
pub mod index;
mod io;
mod jobs;
pub mod limits;
mod makers;
mod neighbours;
pub mod talk;
#[cfg(test)]
mod tests;
mod timers;
mod tree;
mod version;
mod wire;

pub use crate::market::Via;
pub use head::{Head, Root, SignedHead, UncheckedHead};
pub use io::{AnswerTo, Config, Counters, Effect, Input, QuestionId, Status, Verdict};
pub use version::{CopyHash, Stamp, ValueHash, Version};
pub use wire::Malformed;

use self::{
    compare::Compare,
    index::Index,
    jobs::Jobs,
    makers::{Makers, OffTime},
    neighbours::Neighbours,
    talk::{Answer, Carried, Message, Question},
    timers::{Timer, Timers},
    tree::Tree,
};
use crate::{
    bep44::Target,
    identity::{ClientId, KeyPair, Network},
    time::{Now, UnixMillis},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, net::SocketAddr};

/// One node's part in replication.
#[derive(Debug)]
pub struct Core {
    me: ClientId,
    key: KeyPair,
    network: Network,
    addresses: Vec<SocketAddr>,
    rng: StdRng,
    now: Now,
    wall: UnixMillis,
    index: Index,
    makers: Makers,
    neighbours: Neighbours,
    tree: Tree,
    jobs: Jobs,
    compare: Option<Compare>,
    /// Whether a comparison has come to its end.
    compared: bool,
    started: Now,
    /// Whether time has begun: what was restored is complete.
    has_begun: bool,
    /// Whether a comparison with a neighbour has come to its end since there was none.
    compared_beside: bool,
    caught_up: bool,
    off_time: BTreeMap<ClientId, (Now, OffTime)>,
    knows_own: bool,
    /// Copies that are being checked, and who brought them, the first first.
    judging: BTreeMap<CopyHash, Vec<ClientId>>,
    asked: BTreeMap<QuestionId, (ClientId, Asked)>,
    next_question: u64,
    timers: Timers,
    counters: Counters,
    effects: Vec<Effect>,
}

/// What a question was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Join,
    Leave,
    Heads,
    Overall,
    Roots,
    /// A part of the comparison of this maker's records.
    Job(ClientId),
}

impl Core {
    /// A core that holds nothing and knows nobody. `seed` must be unpredictable: it chooses the neighbours.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], now: Now, wall: UnixMillis) -> Self {
        let Config { network, key, addresses, has_open } = config;
        let mut core = Self {
            me: key.public(),
            key,
            network,
            addresses,
            rng: StdRng::from_seed(seed),
            now,
            wall,
            index: Index::default(),
            makers: Makers::default(),
            neighbours: Neighbours::default(),
            tree: Tree::default(),
            jobs: Jobs::default(),
            compare: None,
            compared: false,
            started: now,
            has_begun: false,
            compared_beside: false,
            caught_up: false,
            off_time: BTreeMap::new(),
            knows_own: !has_open,
            judging: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_question: 0,
            timers: Timers::default(),
            counters: Counters::default(),
            effects: Vec::new(),
        };
        core.start_timers();
        core
    }

    fn start_timers(&mut self) {
        for timer in [Timer::Beat, Timer::Upkeep, Timer::Bury] {
            self.timers.set(self.now, timer);
        }
        // A new neighbour is compared with sooner.
        self.timers.set(self.now.plus(limits::COMPARE_EVERY), Timer::Compare);
    }

    /// Takes one input. `now` never goes back; `wall` may, and is read as standing still. What was restored comes first; time begins with
    /// the first other input, such as [`Input::Tick`].
    pub fn handle(&mut self, now: Now, wall: UnixMillis, input: Input) {
        self.now = self.now.max(now);
        self.wall = self.wall.max(wall);
        let restores = matches!(input, Input::Restored { .. } | Input::RestoredHead(_));
        match input {
            Input::Held { maker, stamp, dies_at, via } => self.held(maker, stamp, dies_at, via),
            Input::Fraud { target, dies_at } => self.fraud(target, dies_at),
            Input::Restored { maker, stamp, dies_at } => self.restored(maker, stamp, dies_at),
            Input::RestoredHead(head) => self.restored_head(head),
            Input::Judged { copy, verdict } => self.judged(copy, verdict),
            Input::JudgedHead { copy, head, via } => self.judged_head(copy, head, via),
            Input::Frame { from, messages } => self.frame(from, messages),
            Input::Garbled(from) => self.punish(from),
            Input::Sent { to, heard } => self.sent(to, heard),
            Input::Asked { from, question, to } => self.asked(from, question, to),
            Input::Answered { id, answer } => self.answered(id, answer),
            Input::Met { client, addresses } => self.met(client, addresses),
            Input::Moved(addresses) => self.moved(addresses),
            Input::Tick => {}
        }
        // A head that is signed before all is there names what others know better, and they look in vain for what it says.
        if !restores || cfg!(mutant = "replica_signs_what_is_half_restored") {
            self.begin();
            self.tick();
        }
    }

    /// All that the store held was told: is it what the heads say that it held?
    fn begin(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let heads: Vec<ClientId> = self.behind().map(|head| head.maker).collect();
            for maker in heads {
                self.settled(maker);
            }
        }
    }

    /// What follows, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When time alone will have something to do.
    pub fn next_timeout(&self) -> Option<Now> {
        self.timers.next()
    }

    /// Where this node says that it is.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Who this node is.
    pub fn client_id(&self) -> ClientId {
        self.me
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What is held, by maker.
    pub fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let is_off = |peer: &ClientId, kind| self.off_time.get(peer).is_some_and(|(_, off)| *off == kind);
        let off = |kind| self.neighbours.ids().filter(|peer| is_off(peer, kind)).count();
        Status {
            neighbours: self.neighbours.ids().collect(),
            makers: self.makers.len(),
            stale: self.makers.stale(),
            behind: self.makers.behind() + usize::from(self.neighbours.awaits_heads()),
            behind_for: self.makers.behind_for(self.now),
            silent_lately: self.makers.silent_lately(),
            neighbours_wanted: self.neighbours.wanted(),
            caught_up: self.caught_up,
            heads_future: off(OffTime::Future),
            heads_past: off(OffTime::Past),
            records: self.index.len(),
            knows_own: self.knows_own,
        }
    }

    /// The heads of the makers of whom less is held than their heads say.
    pub fn behind(&self) -> impl Iterator<Item = &Head> {
        self.makers.lacking().map(|head| &**head)
    }

    fn tick(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Beat => self.beat(),
                Timer::Upkeep => self.upkeep(),
                Timer::Compare => self.start_compare(),
                Timer::Bury => {
                    self.index.forget_dead(self.wall);
                    self.forget_makers();
                    self.timers.set(self.now.plus(limits::HEAD_EVERY), Timer::Bury);
                }
                Timer::Have => self.send_have(),
                Timer::Want(news) => self.want(news),
                Timer::Stale(maker) => self.look_stale(maker),
                Timer::Settled(maker) => self.settled(maker),
                Timer::JobLate(maker) => self.job_late(maker),
            }
        }
        self.ask_new_neighbours();
        self.ask_for_heads();
        self.start_jobs();
        self.knows_own |= self.was_told_of_own();
        self.look_whether_caught_up();
    }

    /// What one neighbour knows must have come once; from then on news does, and heads say when something does not.
    fn look_whether_caught_up(&mut self) {
        if self.neighbours.ids().next().is_none() {
            (self.caught_up, self.compared_beside) = (false, false);
        } else if !self.caught_up {
            let compared = self.compared_beside || self.can_ask_no_neighbour();
            let all_came = compared && !self.neighbours.awaits_heads() && self.judging.is_empty();
            self.caught_up = all_came && self.jobs.is_idle() && self.makers.behind() == 0;
        }
    }

    /// Whether somebody has shown what it holds of this node's own records, and nothing of it is still being fetched; or nobody does.
    fn was_told_of_own(&self) -> bool {
        let up_for = self.now.since(self.started);
        let is_alone = self.neighbours.ids().next().is_none();
        self.compared && !self.jobs.is_about(&self.me)
            || is_alone && up_for >= limits::ALONE_AFTER
            || up_for >= limits::KNOWS_OWN_AFTER
    }

    fn send(&mut self, to: ClientId, message: Message<Target>) {
        self.effects.push(Effect::Send { to, message });
    }

    /// Asks somebody whose addresses are known. Returns whether they are.
    fn ask(&mut self, to: ClientId, question: Question, asked: Asked) -> Option<QuestionId> {
        let addresses = self.addresses_of(&to)?;
        let id = QuestionId(self.next_question);
        self.next_question += 1;
        self.asked.insert(id, (to, asked));
        self.effects.push(Effect::Ask { to, addresses, id, question });
        Some(id)
    }

    fn asked(&mut self, from: ClientId, question: Question, to: AnswerTo) {
        let answer = match question {
            Question::Join { urgent, head } => self.asked_to_join(from, urgent, &head),
            Question::Leave => {
                self.left(from);
                Answer::Left
            }
            Question::Heads(after) => self.tell_heads(after),
            Question::Overall(at) if self.may_be_told(at) => Answer::Overall(self.index.overall(at).root),
            Question::Roots(at, after) if self.may_be_told(at) => {
                let (roots, more) = self.index.roots(after, at, limits::ROOTS_AN_ANSWER_MAX);
                Answer::Roots(roots.into_iter().map(|(maker, summary)| (maker, summary.root)).collect(), more)
            }
            Question::Maker(maker, at) if self.may_be_told(at) => self.tell_maker(&maker, at),
            Question::Bucket(maker, at, bucket) if self.may_be_told(at) => {
                let stamps = self.index.stamps(&maker, bucket..=bucket, at);
                Answer::Stamps(stamps.take(limits::STAMPS_AN_ANSWER_MAX).collect())
            }
            Question::Records(targets) => {
                let first = usize::from(cfg!(mutant = "replica_page_lacks_its_first"));
                let held = targets.into_iter().filter(|t| self.index.newest(t).is_some());
                Answer::Records(held.skip(first).collect())
            }
            Question::Overall(_) | Question::Roots(..) | Question::Maker(..) | Question::Bucket(..) => {
                self.counters.not_told += 1;
                Answer::NotTold
            }
        };
        self.effects.push(Effect::Answer { to, answer });
    }

    /// What was held long ago is not computed for whoever asks, and what will be held is not known.
    fn may_be_told(&self, at: UnixMillis) -> bool {
        self.wall.since(at) <= limits::AS_OF_MAX && at.since(self.wall) <= limits::FUTURE_MAX
    }

    fn tell_maker(&mut self, maker: &ClientId, at: UnixMillis) -> Answer<Target> {
        let buckets = self.index.buckets(maker, at);
        let records: usize = buckets.iter().map(|(_, summary)| summary.records as usize).sum();
        if records > limits::STAMPS_AN_ANSWER_MAX {
            return Answer::Buckets(buckets);
        }
        let kept = records - usize::from(cfg!(mutant = "replica_list_lacks_its_last") && records > 0);
        Answer::Stamps(self.index.stamps(maker, 0..=u8::MAX, at).take(kept).collect())
    }

    fn answered(&mut self, id: QuestionId, answer: Option<Answer<Carried>>) {
        let Some((from, asked)) = self.asked.remove(&id) else { return };
        if answer.is_none() && asked != Asked::Leave {
            self.unreachable(from);
        }
        match asked {
            Asked::Join => self.join_answered(from, answer),
            Asked::Leave => {}
            Asked::Heads => self.heads_answered(from, answer),
            Asked::Overall | Asked::Roots => self.compare_answered(from, answer),
            Asked::Job(maker) => self.job_answered(maker, id, from, answer),
        }
    }

    /// Whether this copy is being checked already; then `from` is noted as one more that brought it, once.
    fn is_being_judged(&mut self, copy: &CopyHash, from: ClientId) -> bool {
        let Some(bringers) = self.judging.get_mut(copy) else { return false };
        if !bringers.contains(&from) {
            bringers.push(from);
        }
        true
    }

    /// Has a record checked, unless it says nothing new or is being checked already. Returns whether it is on its way.
    fn judge(&mut self, from: ClientId, record: Carried, via: Via) -> bool {
        let copy = CopyHash::of_items(std::iter::once(&record.item).chain(&record.twin));
        if self.is_being_judged(&copy, from) {
            return true;
        }
        if self.judging.len() >= limits::JUDGED_AT_ONCE_MAX {
            self.counters.over_judged += 1;
            return false;
        }
        self.judging.insert(copy, vec![from]);
        self.effects.push(Effect::Judge { copy, record, via });
        true
    }

    fn judged(&mut self, copy: CopyHash, verdict: Verdict) {
        let Some(bringers) = self.judging.remove(&copy) else { return };
        match verdict {
            Verdict::Genuine { maker, stamp, dies_at } => {
                bringers.iter().skip(1).for_each(|from| self.prune(*from, maker));
                if dies_at <= self.wall {
                    // The exchange keeps nothing of the dead; here they are known, since others count them still.
                    self.index.hold(maker, stamp, dies_at);
                }
                // What is newer of this node's own records than its store is kept beside it.
                if self.index.covers(&stamp) || maker == self.me {
                    self.job_progress(maker, &stamp.target);
                }
            }
            Verdict::Busy => self.counters.over_judged += 1,
            Verdict::Forged => bringers.into_iter().for_each(|from| self.punish(from)),
        }
    }

    /// Its maker may have gone meanwhile, and then no head will ever say so.
    fn restored(&mut self, maker: ClientId, stamp: Stamp, dies_at: UnixMillis) {
        if self.index.hold(maker, stamp, dies_at) && maker != self.me {
            self.makers.holds(maker, self.now, &mut self.timers);
        }
    }

    /// A version is held from now on; it was checked and, if it is an own one, stored.
    fn held(&mut self, maker: ClientId, stamp: Stamp, dies_at: UnixMillis, via: Via) {
        if !self.index.hold(maker, stamp, dies_at) {
            return;
        }
        if maker != self.me {
            self.makers.holds(maker, self.now, &mut self.timers);
        }
        self.spread_record(maker, stamp, via);
        self.job_progress(maker, &stamp.target);
    }

    /// The maker of a record contradicts itself in it; the proof is kept.
    fn fraud(&mut self, target: Target, dies_at: UnixMillis) {
        if !cfg!(mutant = "replica_keeps_fraud_to_itself")
            && self.index.hold_fraud(target, dies_at)
            && let Some(maker) = self.index.maker(&target)
        {
            self.spread_record(maker, Stamp { target, version: Version::FRAUD }, Via::Own);
        }
    }
}
