//! Gathers the facts of which [`crate::standing`] makes the account, and tells the log what begins and what ends.
//!
//! A task looks once a second, and whoever is asked how the node stands looks then: the answer is true of that moment. A look reads
//! snapshots and counters, and goes through the node's own offers only when some of them changed.

use super::{Inner, Node, clock, exchange::Snapshot};
use crate::{
    exchange::{BidOut, BidOutcome, OwnOffer},
    market::{BidId, OfferId},
    replication::core::Status,
    standing::{
        Account, Changes, ClockVote, DhtFacts, Facts, HeadFacts, Level, OtherFacts, OutboxFacts, ReachFacts,
        Reason, ReplicaFacts, StoreFacts,
    },
    time::{Now, UnixMillis},
};
use imbl::OrdMap;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// How often the facts are looked at when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The account of a running node.
#[derive(Debug)]
pub(super) struct Standing {
    started: Instant,
    account: Mutex<Account>,
    outbox: Mutex<Outbox>,
}

/// What waits to be told to others, as of a snapshot.
#[derive(Debug, Default)]
struct Outbox {
    /// What was looked through. Not the snapshot: that would keep a whole market of then for as long as the owner does nothing.
    own: OrdMap<OfferId, OwnOffer>,
    bids_out: OrdMap<BidId, Arc<BidOut>>,
    unpublished: usize,
    unpublished_since: Option<UnixMillis>,
    in_doubt_since: Option<UnixMillis>,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), account: Mutex::default(), outbox: Mutex::default() }
    }

    fn look(&self, wall: UnixMillis, facts: &Facts) -> Vec<Reason> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that two who look at once do not go back.
        let now = Now::from_start(self.started.elapsed());
        // Told under the lock too: the log has them in the order in which they happened.
        tell(&account.look(now, wall, facts));
        account.reasons()
    }

    fn outbox(&self, snapshot: &Arc<Snapshot>, wall: UnixMillis) -> OutboxFacts {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.is_of(snapshot);
        let age = |since: Option<UnixMillis>| since.map_or(Duration::ZERO, |at| wall.since(at));
        OutboxFacts {
            unpublished: outbox.unpublished,
            unpublished_for: age(outbox.unpublished_since),
            in_doubt: snapshot.state.bids_in_doubt,
            in_doubt_for: age(outbox.in_doubt_since),
        }
    }
}

impl Outbox {
    /// Looks through what is the node's own, unless none of it changed.
    fn is_of(&mut self, snapshot: &Arc<Snapshot>) {
        let state = &snapshot.state;
        // At the first look both sides are empty or differ.
        let is_same = self.own.ptr_eq(&state.own) && self.bids_out.ptr_eq(&state.bids_out);
        if is_same {
            return;
        }
        (self.unpublished, self.unpublished_since) = (0, None);
        for own in state.own.values().filter(|own| !is_out(own)) {
            let at = UnixMillis(own.offer.sequence);
            self.unpublished += 1;
            self.unpublished_since = Some(self.unpublished_since.map_or(at, |since| since.min(at)));
        }
        // The newest first, and no further than the last of them: bids that are settled make the long tail.
        let in_doubt = state.bids_out.values().rev().filter(|bid| bid.outcome == BidOutcome::InDoubt);
        self.in_doubt_since = in_doubt.take(state.bids_in_doubt).map(|bid| bid.bid.created_at).min();
        (self.own, self.bids_out) = (state.own.clone(), state.bids_out.clone());
    }
}

/// Whether the DHT has its newest version.
pub(super) fn is_out(own: &OwnOffer) -> bool {
    own.published.is_some_and(|published| published.sequence == own.offer.sequence)
}

impl Inner {
    fn facts(&self, snapshot: &Arc<Snapshot>, wall: UnixMillis) -> Facts {
        let (view, dht, known) = (self.replica.load(), self.dht.status(), self.others.known());
        let vote = |(address, ahead_ms): (SocketAddr, i64)| {
            let ip = address.ip().to_canonical();
            ClockVote { ip, port: address.port(), ahead_ms }
        };
        Facts {
            store: StoreFacts {
                behind: snapshot.state.is_behind(),
                cannot_write: self.exchange.disk().cannot_write(),
                key: self.exchange.disk().key_trouble(),
            },
            dht: DhtFacts {
                nodes: dht.nodes_good,
                bootstrap: self.config.bootstrap.clone(),
                unresolved: self.dht.unresolved().to_vec(),
            },
            reach: ReachFacts {
                reachability: self.reach.load().reachability.clone(),
                not_connected_to: self.contacts.reach().found(),
                this_machine_only: self.contacts.reach().is_for_this_machine_only(),
            },
            replica: replica_facts(&view.status, view.looked, view.looked_in_dht),
            others: OtherFacts {
                heard_at: known.heard_at,
                alone_since: known.alone_since,
                unreachable: view.silent.len(),
                example: view.silent.first().map(|(_, why)| why.clone()),
            },
            clocks: self.clocks.ahead_ms(wall).into_iter().map(vote).collect(),
            other_networks: self.heard.other_networks(),
            outbox: self.standing.outbox(snapshot, wall),
        }
    }

    /// The reasons of this moment.
    pub(super) fn reasons(&self) -> Vec<Reason> {
        let wall = clock::now();
        self.standing.look(wall, &self.facts(&self.exchange.snapshot(), wall))
    }
}

impl Node {
    /// The account of how the node stands at this moment, the gravest reason first.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        self.inner.reasons()
    }

    /// Looks until the node is gone.
    pub(super) async fn watch_standing(node: Weak<Inner>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(inner) = node.upgrade() else { return };
            inner.reasons();
        }
    }
}

/// What the replication core says of itself, and whether its searches for others came to an end.
#[must_use]
pub fn replica_facts(status: &Status, looked: bool, looked_in_dht: bool) -> ReplicaFacts {
    ReplicaFacts {
        looked,
        looked_in_dht,
        neighbours: status.neighbours.len(),
        neighbours_wanted: status.neighbours_wanted,
        caught_up: status.caught_up,
        behind: status.behind,
        behind_for: status.behind_for,
        makers: status.makers,
        stale: status.stale,
        stale_lately: status.silent_lately,
        heads: HeadFacts { future: status.heads_future, past: status.heads_past },
    }
}

/// Each reason once when it begins, and once when it ends.
fn tell(changes: &Changes) {
    for Reason { code, detail, .. } in &changes.begun {
        match code.level() {
            Level::Fail => tracing::error!(%code, "cannot trade: {detail}; {}", code.advice()),
            Level::Sync => tracing::warn!(%code, "not synced: {detail}; {}", code.advice()),
            Level::Warn => tracing::warn!(%code, "{detail}; {}", code.advice()),
        }
    }
    for (Reason { code, .. }, lasted) in &changes.ended {
        tracing::info!(%code, "over after {} s: {}", lasted.as_secs(), code.meaning());
    }
}
