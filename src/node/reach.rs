//! The driver of [`crate::reach`]: asks others to dial back, answers those who ask ([`dial_back`]), and tells whoever has to know when
//! this node turns out to be somewhere else: the answer to a hello, the heads, the card in the DHT.

mod dial_back;
mod private;

pub(super) use dial_back::{DIAL_BACK, DIAL_TIMEOUT, Dialer};
pub(super) use private::Private;

use super::{
    clock,
    contacts::{Card, Contacts},
    exchange::Exchange,
    replication::Replication,
    rpc::Addresses,
};
use crate::{
    dht::{Dht, Item},
    grenache::client::Client,
    identity::{ClientId, KeyPair},
    reach::{Peer, Reach, Reachability},
    time::Now,
};
use arc_swap::ArcSwap;
use dial_back::Expected;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// How often somebody is looked for who may dial back.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Peers that are looked at, those who were there last.
const PEERS_MAX: usize = 64;
/// What waits for the task. What finds no room is said again sooner or later.
const NOTES_MAX: usize = 64;
/// How long a first meeting waits for the dial back: those who are asked to be neighbours should know where this node is.
const SETTLED_WITHIN: Duration = Duration::from_millis(1_500);

/// Where this node is for others.
#[derive(Clone, Debug, Default)]
pub(super) struct ReachView {
    pub reachability: Reachability,
    pub addresses: Vec<SocketAddr>,
}

/// What the task is told.
enum Note {
    /// A node that was greeted says from where it was asked; whoever waits is told when it has dialed back, or will not.
    Seen { by: Peer, ip: IpAddr, settled: Option<oneshot::Sender<()>> },
    /// A request came from there.
    Arrived(IpAddr),
}

/// Whoever hears something about where this node is says it here. Clones share it.
#[derive(Clone)]
pub(super) struct Whereabouts {
    notes: mpsc::Sender<Note>,
    /// Nobody is asked: the settings say it all.
    is_settled: bool,
    expected: Expected,
}

/// The other end, for the task.
pub(super) struct Notes(mpsc::Receiver<Note>);

impl Whereabouts {
    pub(super) fn new(reach: &Reach) -> (Self, Notes) {
        let (notes, queue) = mpsc::channel(NOTES_MAX);
        (Self { notes, is_settled: !reach.asks(), expected: Expected::default() }, Notes(queue))
    }

    /// `client` at `address` says that it was asked from `ip`.
    pub(super) fn seen(&self, client: ClientId, address: SocketAddr, ip: IpAddr) {
        if !self.is_settled {
            let note = Note::Seen { by: Peer { client, address }, ip, settled: None };
            _ = self.notes.try_send(note);
        }
    }

    /// The same, and waits a moment until it has dialed back, if it is asked to.
    pub(super) async fn settle(&self, client: ClientId, address: SocketAddr, ip: IpAddr) {
        if self.is_settled {
            return;
        }
        let (settled, done) = oneshot::channel();
        let note = Note::Seen { by: Peer { client, address }, ip, settled: Some(settled) };
        if self.notes.try_send(note).is_ok() {
            // The task drops the other end when there is nothing to wait for.
            _ = tokio::time::timeout(SETTLED_WITHIN, done).await;
        }
    }

    /// Another node's request came from there.
    pub(super) fn arrived(&self, from: IpAddr) {
        if !self.is_settled {
            _ = self.notes.try_send(Note::Arrived(from));
        }
    }

    /// A hello came: is it one that was asked for?
    pub(super) fn greeted(&self, by: ClientId, nonce: &str) {
        self.expected.came(by, nonce);
    }
}

/// What the task works with.
pub(super) struct Task {
    pub reach: Reach,
    pub whereabouts: Whereabouts,
    pub client: Client,
    pub contacts: Contacts,
    pub replication: Replication,
    pub exchange: Exchange,
    pub dht: Dht,
    pub key: KeyPair,
    /// What the answer to a hello names.
    pub addresses: Addresses,
    pub view: Arc<ArcSwap<ReachView>>,
}

impl Task {
    /// Works for as long as the node does.
    pub(super) async fn run(mut self, Notes(mut notes): Notes) {
        if self.whereabouts.is_settled {
            return;
        }
        let started = Instant::now();
        let now = || Now::from_start(started.elapsed());
        let mut dials = JoinSet::new();
        let mut waiting: Vec<(ClientId, oneshot::Sender<()>)> = Vec::new();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut asked = Vec::new();
            let mut done = None;
            tokio::select! {
                note = notes.recv() => match note {
                    Some(Note::Seen { by, ip, settled }) => {
                        self.reach.seen(now(), by, ip);
                        asked = self.reach.ask(now(), [by]);
                        if let Some(settled) = settled.filter(|_| !asked.is_empty()) {
                            waiting.push((by.client, settled));
                        }
                    }
                    Some(Note::Arrived(from)) => self.reach.arrived(now(), from),
                    None => return,
                },
                Some(dialed) = dials.join_next() => {
                    if let Ok((by, answer)) = dialed {
                        self.reach.dialed(now(), by, answer);
                        done = Some(by.client);
                    }
                }
                _ = look.tick() => {
                    let peers = self.contacts.all().into_iter().take(PEERS_MAX);
                    let peers = peers.map(|(client, contact)| Peer { client, address: contact.address });
                    asked = self.reach.ask(now(), peers);
                }
            }
            for peer in asked {
                let port = self.reach.dialed_port();
                let expected = self.whereabouts.expected.clone();
                dials.spawn(dial_back::ask(self.client.clone(), self.key.clone(), expected, peer, port));
            }
            self.show(now()).await;
            // Only now: whoever waited goes on with the new addresses.
            waiting.retain(|(client, settled)| Some(*client) != done && !settled.is_closed());
        }
    }

    /// Tells everybody who has to know.
    async fn show(&self, now: Now) {
        let view = ReachView {
            reachability: self.reach.reachability(now),
            addresses: self.reach.addresses().to_vec(),
        };
        let before = self.view.swap(Arc::new(view.clone()));
        if before.addresses == view.addresses {
            return;
        }
        let addresses = view.addresses;
        tracing::info!(?addresses, "other nodes are told that this one is here");
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).clone_from(&addresses);
        self.replication.moved(addresses.clone()).await;
        keep_card(&self.dht, &self.exchange, &self.key, &addresses).await;
    }
}

/// Puts the item under the client key that says where this node is, or lets an earlier one be forgotten.
async fn keep_card(dht: &Dht, exchange: &Exchange, key: &KeyPair, addresses: &[SocketAddr]) {
    let card = Card::new(exchange.network(), exchange.client_id(), addresses);
    let kept = match card.item(key, clock::now()).filter(|_| !addresses.is_empty()) {
        Some(item) => dht.keep_item(Item::Mutable(item)).await,
        None => dht.forget_item(exchange.client_id().target()).await,
    };
    if let Err(error) = kept {
        tracing::debug!(%error, "the DHT does not say where this node is");
    }
}
