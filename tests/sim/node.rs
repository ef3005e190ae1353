//! One simulated computer: a core, a store that survives crashes, a clock of its own.

use super::people::network;
use std::{collections::VecDeque, sync::Arc};
use vintner::{
    exchange::{Core, Event, Input, Output, State},
    identity::{ClientId, KeyPair, MasterKey, Signed},
    market::TradeReceipt,
    time::UnixMillis,
};

/// When virtual time begins: 2026-11-21T12:00:00Z.
pub(super) const EPOCH: u64 = 1_795_262_400_000;

/// What survives: committed events, and what they add up to.
#[derive(Default)]
pub(super) struct Store {
    pub log: Vec<Event>,
    pub state: State,
    /// Handed over and believed to be stored by the core; nothing in it must be durable yet, and a crash loses it.
    pub deferred: Vec<Event>,
}

impl Store {
    /// Makes these events durable, and with them what was put off.
    pub(super) fn commit(&mut self, events: Vec<Event>) {
        let mut all = std::mem::take(&mut self.deferred);
        all.extend(events);
        for event in &all {
            self.state.apply(event);
        }
        self.log.append(&mut all);
    }

    /// Puts an old backup in the store's place.
    pub(super) fn cut(&mut self, len: usize) {
        self.log.truncate(len);
        self.deferred.clear();
        self.state = State::default();
        for event in &self.log {
            self.state.apply(event);
        }
    }
}

pub(super) struct Node {
    pub master: MasterKey,
    pub key: KeyPair,
    pub id: ClientId,
    /// `None` while the node is down.
    pub core: Option<Core>,
    /// Counts lives, so that nothing meant for an earlier one reaches a later one.
    pub life: u64,
    /// How far its clock is from the world's, in milliseconds.
    pub skew: i64,
    pub store: Store,
    pub inbox: VecDeque<Input>,
    pub wake_at: Option<u64>,
    pub disk_full_until: u64,
    pub backup: Option<usize>,
}

impl Node {
    pub(super) fn new(seed: u8, skew: i64) -> Self {
        let master = MasterKey::from_bytes([seed; 32]);
        let key = master.client_key();
        let id = key.public();
        Self {
            master,
            key,
            id,
            core: None,
            life: 0,
            skew,
            store: Store::default(),
            inbox: VecDeque::new(),
            wake_at: None,
            disk_full_until: 0,
            backup: None,
        }
    }

    pub(super) fn clock(&self, now: u64) -> UnixMillis {
        UnixMillis((EPOCH + now).saturating_add_signed(self.skew))
    }

    /// What this node tells another that asks for their trades: read there as it arrives.
    pub(super) fn shows(&self, to: &ClientId) -> Vec<Arc<TradeReceipt>> {
        let theirs = self.store.state.trades_with(*to, None);
        let read = |receipt: &Arc<TradeReceipt>| {
            let trade = Signed::verify(receipt.trade().source().clone(), &network()).unwrap();
            let bid = Signed::verify(receipt.bid().source().clone(), &network()).unwrap();
            Arc::new(TradeReceipt::pair(trade, bid).unwrap())
        };
        theirs.map(read).collect()
    }

    /// A core rebuilt from the store alone.
    pub(super) fn restored(&self, seed: [u8; 32], now: u64) -> (Core, Output) {
        Core::restore(self.master.clone(), network(), seed, self.store.log.iter().cloned(), self.clock(now))
    }
}
