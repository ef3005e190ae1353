//! The task that owns the core.

use super::{
    Hits, Inbox, Message,
    asks::{Ask, Asked, Asks, Came},
    judge::{Case, Judge},
    limits::{AGAIN_AFTER, CLOSED_AFTER, KEEP_EVERY, TAKEN_AT_ONCE, TALK_TIMEOUT},
    line::Line,
    post::{Post, carried},
    seek::{Seeker, Sought},
};
use crate::{
    dht::Dht,
    exchange::State,
    grenache::{client::Client, service::KnownSources},
    identity::{ClientId, KeyPair, Network},
    market::{Offer, Via},
    node::{
        Exchange,
        anchors::{self, ANCHORS_MAX, Anchor, META_ANCHORS},
        clock,
        contacts::Contacts,
        listener::Heard,
        others::{META_OTHERS, Others},
        status::ReplicaView,
        writer::News,
    },
    replication::core::{AnswerTo, Config, Core, Effect, Input, SignedHead, Stamp, Version},
    time::Now,
    workers::Workers,
};
use arc_swap::ArcSwap;
use std::{
    collections::{HashMap, VecDeque},
    mem,
    net::SocketAddr,
    sync::Arc,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// What the task works with.
pub(in crate::node) struct Setup {
    pub exchange: Exchange,
    pub dht: Dht,
    pub client: Client,
    pub contacts: Contacts,
    pub workers: Workers,
    pub heard: Arc<Heard>,
    pub key: KeyPair,
    pub network: Network,
    /// Where this node's RPC is; nothing when only others can tell.
    pub addresses: Vec<SocketAddr>,
    pub seed: [u8; 32],
    /// Heads from an earlier run.
    pub heads: Vec<SignedHead>,
    /// Neighbours of an earlier run.
    pub anchors: Vec<Anchor>,
    /// Where the neighbours are: they have more to say than others.
    pub known: Arc<KnownSources>,
    /// What the owner is shown.
    pub view: Arc<ArcSwap<ReplicaView>>,
    /// Whether there is anybody else.
    pub others: Arc<Others>,
    pub rpc_port: u16,
}

/// The core, and what is under way for it.
pub(in crate::node) struct Task {
    core: Core,
    started: Instant,
    exchange: Exchange,
    contacts: Contacts,
    judge: Judge,
    post: Post,
    answers: HashMap<AnswerTo, oneshot::Sender<Vec<u8>>>,
    next_answer: u64,
    asks: Asks,
    seeker: Seeker,
    seeking: Option<JoinHandle<Sought>>,
    /// The first search has come to its end.
    looked: bool,
    /// One of them with a DHT that could be asked.
    looked_in_dht: bool,
    /// When somebody was met first.
    met_at: Option<Instant>,
    /// Where nobody answered in the last of them.
    silent: Arc<[(SocketAddr, String)]>,
    rpc_port: u16,
    others: Arc<Others>,
    /// Own offers that were closed a moment ago.
    closed: VecDeque<(Instant, Arc<Offer>)>,
    /// Makers whose state the exchange core has not been told yet: its inbox was full.
    stale: VecDeque<(ClientId, bool)>,
    /// Heads that the store has not been given yet.
    heads: Vec<SignedHead>,
    /// What the store was given last.
    anchors: Vec<Anchor>,
    keep_at: Instant,
    known: Arc<KnownSources>,
    view: Arc<ArcSwap<ReplicaView>>,
}

impl Task {
    /// Works until the exchange core is gone.
    pub(in crate::node) async fn run(setup: Setup, inbox: Inbox, news: mpsc::UnboundedReceiver<News>) {
        let (verdicts, found) = mpsc::unbounded_channel();
        // A hash for each record that is held: not where others wait.
        let Inbox { sender, queue, hits } = inbox;
        let new = move || Self::new(setup, sender, verdicts, hits);
        let task = tokio::task::spawn_blocking(move || (new(), queue));
        if let Ok((task, queue)) = task.await {
            task.work(queue, news, found).await;
        }
    }

    fn new(
        setup: Setup,
        inbox: mpsc::Sender<Message>,
        verdicts: mpsc::UnboundedSender<Vec<Input>>,
        hits: Arc<Hits>,
    ) -> Self {
        let Setup {
            exchange,
            dht,
            client,
            contacts,
            workers,
            heard,
            key,
            network,
            addresses,
            seed,
            heads,
            anchors,
            known,
            view,
            others,
            rpc_port,
        } = setup;
        let (started, wall) = (Instant::now(), clock::now());
        let snapshot = exchange.snapshot();
        let has_open = snapshot.state.own.values().any(|own| own.closed.is_none());
        let config = Config { network: network.clone(), key: key.clone(), addresses, has_open };
        let mut core = Core::new(config, seed, Now::ZERO, wall);
        let mut give = |input| core.handle(Now::ZERO, wall, input);
        restore(&snapshot.state, &mut give);
        for head in heads {
            give(Input::RestoredHead(head));
        }
        // All is there now.
        give(Input::Tick);
        for Anchor { client, addresses } in anchors {
            give(Input::Met { client, addresses });
        }
        let line = Line { client: client.clone(), contacts: contacts.clone() };
        Self {
            core,
            started,
            judge: Judge { exchange: exchange.clone(), workers, heard, verdicts },
            asks: Asks::new(line.clone()),
            post: Post::new(line, hits),
            answers: HashMap::new(),
            next_answer: 0,
            seeker: Seeker { dht, client, contacts: contacts.clone(), key, network, inbox },
            seeking: None,
            looked: false,
            looked_in_dht: false,
            met_at: None,
            silent: Arc::default(),
            rpc_port,
            others,
            closed: VecDeque::new(),
            stale: VecDeque::new(),
            heads: Vec::new(),
            anchors: Vec::new(),
            keep_at: started + KEEP_EVERY,
            exchange,
            contacts,
            known,
            view,
        }
    }

    async fn work(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut found: mpsc::UnboundedReceiver<Vec<Input>>,
    ) {
        loop {
            self.work_off();
            let wake_at = self.wake_at();
            tokio::select! {
                some = news.recv() => {
                    let Some(some) = some else { return };
                    self.news(some);
                    for _ in 1..TAKEN_AT_ONCE {
                        let Ok(some) = news.try_recv() else { break };
                        self.news(some);
                    }
                }
                Some(message) = inbox.recv() => {
                    self.message(message);
                    for _ in 1..TAKEN_AT_ONCE {
                        let Ok(message) = inbox.try_recv() else { break };
                        self.message(message);
                    }
                }
                Some(inputs) = found.recv() => {
                    self.verdicts(inputs);
                    for _ in 1..TAKEN_AT_ONCE {
                        let Ok(inputs) = found.try_recv() else { break };
                        self.verdicts(inputs);
                    }
                }
                delivered = self.post.delivered() => {
                    self.give(Input::Sent { to: delivered.to, heard: delivered.heard });
                }
                asked = self.asks.answered() => self.told(asked),
                sought = sought(&mut self.seeking) => self.sought(sought),
                () = sleep_until(wake_at) => self.on_time(),
            }
        }
    }

    fn give(&mut self, input: Input) {
        self.core.handle(Now::from_start(self.started.elapsed()), clock::now(), input);
    }

    fn wake_at(&self) -> Instant {
        let timer = self.core.next_timeout().map(|at| self.started + at.since_start());
        let again = (!self.stale.is_empty()).then(|| Instant::now() + AGAIN_AFTER);
        let closed = self.closed.front().map(|(at, _)| *at);
        let sooner = [timer, self.post.next_due(), again, closed].into_iter().flatten().min();
        sooner.map_or(self.keep_at, |at| at.min(self.keep_at))
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some((_, offer)) = self.closed.pop_front_if(|(at, _)| *at <= now) {
            self.held(&offer, Via::Own);
        }
        self.give(Input::Tick);
    }

    /// The exchange core has something new.
    fn news(&mut self, news: News) {
        match news {
            News::Own(offer) if offer.availability => self.held(&offer, Via::Own),
            News::Own(offer) => self.closed.push_back((Instant::now() + CLOSED_AFTER, offer)),
            News::Held(offer, via) => self.held(&offer, via),
            News::Fraud { target, dies_at } => self.give(Input::Fraud { target, dies_at }),
        }
    }

    fn held(&mut self, offer: &Offer, via: Via) {
        if let Some(stamp) = stamp(offer) {
            self.give(Input::Held { maker: offer.client_id, stamp, dies_at: offer.dies_at, via });
        }
    }

    /// A search came to its end.
    fn sought(&mut self, sought: Sought) {
        let Sought { in_dht, met_self, mut silent } = sought;
        (self.looked, self.looked_in_dht) = (true, self.looked_in_dht | in_dht);
        let own = self.core.addresses();
        let found = silent.len();
        silent.retain(|(address, _)| !own.contains(address));
        // Behind an address translation that does not lead back, the node's own announcement looks like somebody who does not answer.
        let is_hidden = !met_self && found == silent.len();
        let myself = silent.iter().position(|(address, _)| is_hidden && address.port() == self.rpc_port);
        if let Some(at) = myself {
            silent.swap_remove(at);
        }
        self.silent = silent.into();
    }

    /// Another node of the network signed something.
    fn heard(&self) {
        if let Some(note) = self.others.heard(clock::now()) {
            self.exchange.note(META_OTHERS, note);
        }
    }

    /// Another node has something.
    fn message(&mut self, message: Message) {
        if matches!(message, Message::Frame { .. } | Message::Asked { .. } | Message::Met { .. }) {
            self.heard();
        }
        match message {
            Message::Frame { from, messages } => self.give(Input::Frame { from, messages }),
            Message::Asked { from, question, reply } => {
                let to = AnswerTo(self.next_answer);
                self.next_answer += 1;
                self.answers.insert(to, reply);
                self.give(Input::Asked { from, question, to });
            }
            Message::Garbled(from) => self.give(Input::Garbled(from)),
            Message::Met { client, addresses } => {
                self.met_at.get_or_insert_with(Instant::now);
                self.give(Input::Met { client, addresses });
            }
            Message::Moved(addresses) => self.give(Input::Moved(addresses)),
        }
    }

    /// A question was answered, or not.
    fn told(&mut self, Asked { id, to, came }: Asked) {
        let answer = match came {
            Came::Answer(answer) => Some(answer),
            Came::Nothing => None,
            Came::Nonsense => {
                self.give(Input::Garbled(to));
                None
            }
        };
        self.give(Input::Answered { id, answer });
    }

    fn verdicts(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            self.give(input);
        }
    }

    /// Does everything that follows.
    fn work_off(&mut self) {
        loop {
            let effects = self.core.take_effects();
            if effects.is_empty() {
                break;
            }
            let mut cases = Vec::new();
            for effect in effects {
                self.effect(effect, &mut cases);
            }
            let said = self.judge.judge(cases);
            self.verdicts(said);
        }
        let (exchange, core) = (&self.exchange, &self.core);
        let addresses = |peer: &ClientId| core.addresses_of(peer).unwrap_or_default();
        self.post.send_due(|| exchange.snapshot(), addresses);
        while let Some((maker, stale)) = self.stale.pop_front() {
            if self.exchange.stale(maker, stale).is_err() {
                self.stale.push_front((maker, stale));
                break;
            }
        }
        if self.keep_at <= Instant::now() {
            self.keep();
        }
        let (status, counters) = (self.core.status(), self.core.counters());
        if status.neighbours != self.view.load().status.neighbours {
            let addresses =
                status.neighbours.iter().filter_map(|peer| self.core.addresses_of(peer)).flatten();
            self.known.store(Arc::new(addresses.map(|address| address.ip().to_canonical()).collect()));
        }
        // Who was met first is being asked whether it becomes a neighbour: it is not known yet that nobody can be reached.
        let asks = |at: &Instant| status.neighbours.is_empty() && at.elapsed() < TALK_TIMEOUT;
        let is_done = !self.met_at.as_ref().is_some_and(asks);
        let (looked, looked_in_dht) = (self.looked && is_done, self.looked_in_dht && is_done);
        let silent = Arc::clone(&self.silent);
        self.view.store(Arc::new(ReplicaView { status, counters, looked, looked_in_dht, silent }));
    }

    fn effect(&mut self, effect: Effect, cases: &mut Vec<Case>) {
        match effect {
            Effect::Send { to, message } => self.post.add(to, message),
            Effect::Ask { to, addresses, id, question } => {
                self.asks.add(to, Ask { id, addresses, question });
            }
            Effect::Answer { to, answer } => {
                if let Some(reply) = self.answers.remove(&to) {
                    let snapshot = self.exchange.snapshot();
                    let answer = answer.carry(|target| carried(&snapshot.state.market, &target));
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(answer.to_bytes());
                }
            }
            Effect::Judge { copy, record, via } => cases.push(Case::Record { copy, record, via }),
            Effect::JudgeHead { copy, head, via } => cases.push(Case::Head { copy, head, via }),
            Effect::Stale { maker, stale } => self.stale.push_back((maker, stale)),
            Effect::KeepHead(head) => {
                self.heard();
                self.contacts.learn(head.maker, &head.addresses);
                self.heads.push(head);
            }
            Effect::Seek => {
                if self.seeking.is_none() {
                    self.seeking = Some(tokio::spawn(self.seeker.clone().run()));
                }
            }
        }
    }

    /// Gives the store what the next start begins with.
    fn keep(&mut self) {
        self.keep_at = Instant::now() + KEEP_EVERY;
        if !self.heads.is_empty() {
            self.exchange.keep_heads(mem::take(&mut self.heads));
        }
        let of_core = self.core.anchors(ANCHORS_MAX).into_iter();
        let anchors: Vec<Anchor> = of_core
            .map(|(client, named)| Anchor { client, addresses: self.contacts.in_order(&client, named) })
            .collect();
        if !anchors.is_empty() && anchors != self.anchors {
            self.exchange.note(META_ANCHORS, anchors::note(&anchors));
            self.anchors = anchors;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(seeking) = &self.seeking {
            seeking.abort();
        }
    }
}

/// What the search that is under way shows. Pending while none is.
async fn sought(seeking: &mut Option<JoinHandle<Sought>>) -> Sought {
    let Some(search) = seeking else { return std::future::pending().await };
    let sought = search.await.unwrap_or_default();
    *seeking = None;
    sought
}

/// Tells the core what the store held.
fn restore(state: &State, give: &mut impl FnMut(Input)) {
    for (target, offer) in &state.market.records {
        let is_fraud = state.market.is_contradicted(target);
        let version = if is_fraud { Some(Version::FRAUD) } else { Version::of(offer.item()) };
        if let Some(version) = version {
            let stamp = Stamp { target: *target, version };
            give(Input::Restored {
                maker: offer.client_id,
                stamp,
                dies_at: state.market.counts_until(offer),
            });
        }
    }
}

fn stamp(offer: &Offer) -> Option<Stamp> {
    Some(Stamp { target: offer.target(), version: Version::of(offer.item())? })
}
