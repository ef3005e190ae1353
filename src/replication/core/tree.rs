//! Gossip over eager and lazy links (PlumTree: Leitão, Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007), with these changes:
//!
//! - There is a tree for each maker, not one for all. In one tree for all, what starts at a leaf climbs to the root before it comes down,
//!   and makers that send at the same time cut each other's branches. Each maker's head goes round every minute, so its tree has
//!   grown before its records need it, and it is the tree of the shortest ways.
//! - A link is eager or lazy for what goes over it, not for both directions: who gets something twice says so to the later one.
//! - Whoever's name for something came before the thing itself is nearer to its maker: it takes the place of the one that sent it.
//! - What goes round is named by record and version (or maker and counter), not by its bytes. So an old version is never sent when a
//!   newer one is held, and nobody has to keep messages for those who ask later: the replica is the memory.
//! - A record is passed on when it is held, not when it arrives: nobody helps to spread what he has not checked.
//! - What the DHT brings is *early*: it is held, but sent on (but for its name) only when the tree brings its own copy. Otherwise one
//!   record would enter the tree in many places, and the tree would be pruned wherever they meet. When somebody names such a record and
//!   the tree's copy does not follow, the tree is broken here (who gets two things over two ways in turns has cut both): the link to
//!   whoever named it becomes eager, as it does when a thing is asked for.

use super::{
    Core, SignedHead, Stamp, Timer, UncheckedHead, Via,
    limits::{HAVE_AFTER, HAVE_EVERY, MISSING_MAX, NEWS_MAX, SOURCES_MAX, WANT_AFTER, WANT_AGAIN_AFTER},
    talk::{Carried, Message, News},
};
use crate::{bep44::Target, identity::ClientId, time::Now};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// How many of the latest news are remembered by how they came.
const RECENT_MAX: usize = 16_384;

/// How something that is held came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    /// Through the tree, or it was made here: a second copy is one too many.
    Duly,
    /// Through the DHT: the tree's copy is still to come, and to be sent on.
    Early,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What others have and the tree has not brought, and who has it.
    pub(super) missing: BTreeMap<News, VecDeque<ClientId>>,
    recent: BTreeMap<News, Came>,
    order: VecDeque<News>,
    have_timer: bool,
    /// Names leave no sooner.
    have_from: Now,
}

impl Tree {
    fn remember(&mut self, news: News, came: Came) {
        if self.recent.insert(news, came).is_none() {
            self.order.push_back(news);
            if self.order.len() > RECENT_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.recent.remove(&oldest);
            }
        }
    }

    /// Whether this is held and the tree's copy still to come.
    fn is_early(&self, news: &News) -> bool {
        self.recent.get(news) == Some(&Came::Early)
    }

    /// A neighbour is gone, and what it has with it.
    pub(super) fn forget(&mut self, peer: &ClientId) {
        self.missing.retain(|_, sources| {
            sources.retain(|source| source != peer);
            !sources.is_empty()
        });
    }
}

impl Core {
    /// Sends a record on that is held from now on.
    pub(super) fn spread_record(&mut self, maker: ClientId, stamp: Stamp, via: Via) {
        self.spread(News::Record(stamp), maker, via, || Message::Record(stamp.target));
    }

    pub(super) fn spread_head(&mut self, head: &SignedHead, via: Via) {
        self.spread(Self::head_news(head), head.maker, via, || Message::Head(head.bytes().clone()));
    }

    fn spread(&mut self, news: News, maker: ClientId, via: Via, message: impl Fn() -> Message<Target>) {
        let was_early = self.tree.is_early(&news);
        let named_by = self.tree.missing.remove(&news).and_then(|sources| sources.front().copied());
        self.tree.remember(news, if via == Via::Dht { Came::Early } else { Came::Duly });
        if let Via::Gossip(from) = via
            && let Some(nearer) =
                named_by.filter(|nearer| !was_early && *nearer != from && self.neighbours.contains(nearer))
        {
            self.send(nearer, Message::Graft(vec![maker]));
        }
        // What was asked for, many others hold already, or ask for as well. That a maker lives they may not know.
        let is_head = matches!(news, News::Head { .. });
        for (peer, is_eager) in self.neighbours.links(&maker) {
            match via {
                Via::Gossip(from) | Via::Fetched(from) if from == peer => {}
                Via::Own | Via::Gossip(_) if is_eager => self.send(peer, message()),
                Via::Fetched(_) if !is_head => {}
                Via::Own | Via::Gossip(_) | Via::Dht | Via::Fetched(_) => self.neighbours.owe(peer, news),
            }
        }
        self.time_have();
    }

    pub(super) fn time_have(&mut self) {
        if !self.tree.have_timer && self.neighbours.owes_any() {
            self.tree.have_timer = true;
            self.timers.set(self.now.plus(HAVE_AFTER).max(self.tree.have_from), Timer::Have);
        }
    }

    pub(super) fn send_have(&mut self) {
        self.tree.have_timer = false;
        self.tree.have_from = self.now.plus(HAVE_EVERY);
        for (peer, mut news) in self.neighbours.take_owed() {
            news.retain(|news| self.is_newest(news));
            for news in news.chunks(NEWS_MAX) {
                self.send(peer, Message::Have(news.to_vec()));
            }
        }
    }

    fn head_held(&self, maker: &ClientId) -> Option<&SignedHead> {
        if *maker == self.me { self.makers.own() } else { self.makers.head(maker) }
    }

    /// Whether nothing later is held.
    fn is_newest(&self, news: &News) -> bool {
        match news {
            News::Record(stamp) => self.index.newest(&stamp.target) == Some(stamp.version),
            News::Head { maker, counter } => {
                self.head_held(maker).is_some_and(|head| head.counter == *counter)
            }
        }
    }

    pub(super) fn frame(&mut self, from: ClientId, messages: Vec<Message<Carried>>) {
        if !self.neighbours.heard(&from, self.now) {
            self.counters.strangers += 1;
            return;
        }
        for message in messages {
            match message {
                Message::Record(record) => self.record(from, record),
                Message::Head(bytes) => self.head(from, &bytes),
                Message::Have(news) => self.has(from, news),
                Message::Want(news) => self.wants(from, news),
                Message::Prune(makers) => self.neighbours.prune(&from, makers),
                Message::Graft(makers) => self.neighbours.graft(&from, &makers),
            }
        }
    }

    fn record(&mut self, from: ClientId, record: Carried) {
        self.counters.records_received += 1;
        let Some(stamp) = record.stamp() else { return self.punish(from) };
        match self.index.maker(&stamp.target).filter(|_| self.index.covers(&stamp)) {
            Some(maker) => {
                self.second_copy(from, maker, News::Record(stamp), || Message::Record(stamp.target));
            }
            None => _ = self.judge(from, record, Via::Gossip(from)),
        }
    }

    fn head(&mut self, from: ClientId, bytes: &Arc<[u8]>) {
        let Ok(head) = UncheckedHead::read(bytes) else { return self.punish(from) };
        let (maker, counter) = (head.claim().maker, head.claim().counter);
        if self.is_newer_head(&maker, counter) {
            self.judge_head(from, bytes, Via::Gossip(from));
        } else if maker == self.me {
            self.prune(from, maker);
        } else {
            self.second_copy(from, maker, News::Head { maker, counter }, || Message::Head(bytes.clone()));
        }
    }

    /// Something that is held came once more.
    fn second_copy(
        &mut self,
        from: ClientId,
        maker: ClientId,
        news: News,
        message: impl Fn() -> Message<Target>,
    ) {
        if self.tree.is_early(&news) {
            self.spread(news, maker, Via::Gossip(from), message);
        } else {
            self.prune(from, maker);
        }
    }

    /// Somebody sent what others of this node's neighbours send sooner.
    pub(super) fn prune(&mut self, from: ClientId, maker: ClientId) {
        self.counters.duplicates += 1;
        if self.neighbours.contains(&from) && !cfg!(mutant = "replica_never_prunes") {
            self.send(from, Message::Prune(vec![maker]));
        }
    }

    fn lacks(&self, news: &News) -> bool {
        match news {
            News::Record(stamp) => !self.index.covers(stamp),
            News::Head { maker, counter } => self.is_newer_head(maker, *counter),
        }
    }

    fn has(&mut self, from: ClientId, news: Vec<News>) {
        for news in news {
            if !self.lacks(&news) && !self.tree.is_early(&news) {
                continue;
            }
            if self.tree.missing.len() >= MISSING_MAX && !self.tree.missing.contains_key(&news) {
                self.counters.over_missing += 1;
                continue;
            }
            let sources = self.tree.missing.entry(news).or_default();
            if sources.is_empty() {
                self.timers.set(self.now.plus(WANT_AFTER), Timer::Want(news));
            }
            if sources.len() < SOURCES_MAX && !sources.contains(&from) {
                sources.push_back(from);
            }
        }
    }

    /// Nobody has sent what others have: asks the next of them, who sends such things at once from now on.
    pub(super) fn want(&mut self, news: News) {
        let source = self.tree.missing.get_mut(&news).and_then(VecDeque::pop_front);
        let Some(source) = source.filter(|_| self.lacks(&news)) else {
            self.tree.missing.remove(&news);
            if let Some(source) =
                source.filter(|_| self.tree.is_early(&news) && !cfg!(mutant = "replica_leaves_a_tree_broken"))
            {
                self.mend(news, source);
            }
            return;
        };
        if self.neighbours.contains(&source) {
            self.counters.wanted += 1;
            self.send(source, Message::Want(vec![news]));
        }
        self.timers.set(self.now.plus(WANT_AGAIN_AFTER), Timer::Want(news));
    }

    /// The tree has not brought what the DHT brought and this neighbour has.
    fn mend(&mut self, news: News, source: ClientId) {
        let News::Record(stamp) = news else { return };
        let Some(maker) = self.index.maker(&stamp.target).filter(|_| self.neighbours.contains(&source))
        else {
            return;
        };
        self.send(source, Message::Graft(vec![maker]));
        // Once is enough for all that waits for the same.
        let (tree, index) = (&mut self.tree, &self.index);
        let recent = &tree.recent;
        tree.missing.retain(|news, _| match news {
            News::Record(stamp) => {
                recent.get(news) != Some(&Came::Early) || index.maker(&stamp.target) != Some(maker)
            }
            News::Head { .. } => true,
        });
    }

    fn wants(&mut self, from: ClientId, news: Vec<News>) {
        let mut sent = BTreeSet::new();
        for news in news {
            match news {
                News::Record(stamp) if self.index.covers(&stamp) && sent.insert(stamp.target) => {
                    if let Some(maker) = self.index.maker(&stamp.target) {
                        self.neighbours.graft(&from, &[maker]);
                    }
                    self.send(from, Message::Record(stamp.target));
                }
                News::Head { maker, counter } => {
                    if let Some(head) = self.head_held(&maker).filter(|head| head.counter >= counter) {
                        let head = Message::Head(head.bytes().clone());
                        self.neighbours.graft(&from, &[maker]);
                        self.send(from, head);
                    }
                }
                News::Record(_) => {}
            }
        }
    }
}
