//! The core itself: identity, state, timers, and the dispatch of inputs.

use super::{
    Effect, Event, Input, MaxNotional, ReplyTo, State,
    changes::Changes,
    limits::BID_WAIT_MAX,
    pressure::Pressure,
    timers::{Timer, Timers},
};
use crate::{
    bep44::Target,
    identity::{ClientId, KeyPair, MasterKey, Network},
    market::{BidId, IdMint, Offer},
    time::UnixMillis,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// What one or more inputs lead to. The events must be durable before any effect is released: see [`super::run_batch`].
#[derive(Debug, Default)]
pub struct Output {
    /// In the order in which they became true.
    pub events: Vec<Event>,
    /// In the order in which they follow.
    pub effects: Vec<Effect>,
}

/// How often something was dropped, refused or found odd; for metrics and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that were already known, or older.
    pub records_known: u64,
    /// Records that were already dead.
    pub records_dead: u64,
    /// Records from the future that waited.
    pub records_parked: u64,
    /// What was dropped because a bound was reached.
    pub over: OverLimit,
    /// Records whose makers were caught contradicting themselves.
    pub equivocations: u64,
    /// Answers to own bids that did not belong to them.
    pub answers_mismatched: u64,
}

/// What was refused, dropped or forgotten before its time, by the bound in [`super::limits`] that was reached. Bounds at which
/// an owner's command is refused are told to the owner instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverLimit {
    /// Records of others: `RECORDS_MAX`, or a neighbour's share of it under pressure.
    pub records: u64,
    /// Records from the future: `PARKED_MAX`.
    pub parked: u64,
    /// Proofs of fraud: `EQUIVOCATIONS_MAX`, `PROOFS_A_MAKER_MAX`.
    pub equivocations: u64,
    /// Own records that the network knows better: `AHEAD_MAX`.
    pub ahead: u64,
    /// Refusals given: `BIDS_IN_REFUSED_MAX`.
    pub refusals_given: u64,
    /// Refusals received: `BIDS_OUT_REFUSED_MAX`.
    pub refusals_received: u64,
    /// Callers that could not wait for a bid's answer: `WAITERS_A_BID_MAX`.
    pub waiters: u64,
}

/// How one own bid without an answer is being asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    pub attempts: u32,
    pub in_flight: bool,
    /// It was made before this start.
    pub resumed: bool,
    /// When it is asked again.
    pub again_at: Option<UnixMillis>,
}

/// Who waits for the answer to an own bid, and whether an earlier request had made the bid.
pub(super) type Waiting = HashMap<BidId, Vec<(ReplyTo, bool)>>;

/// One node's part in the exchange.
#[derive(Debug)]
pub struct Core {
    pub(super) master: MasterKey,
    pub(super) client_key: KeyPair,
    pub(super) client_id: ClientId,
    pub(super) network: Network,
    pub(super) state: State,
    pub(super) counters: Counters,
    pub(super) mint: IdMint,
    pub(super) rng: StdRng,
    pub(super) now: UnixMillis,
    pub(super) timers: Timers,
    pub(super) asking: HashMap<BidId, Asking>,
    pub(super) waiting: Waiting,
    pub(super) parked: BTreeMap<Target, Arc<Offer>>,
    pub(super) pressure: Pressure,
    pub(super) changes: Changes,
    /// Nothing of its own is forgotten before: the clock has leapt.
    pub(super) forgets_from: UnixMillis,
    pub(super) max_notional: MaxNotional,
}

impl Core {
    /// A core with nothing in it. `seed` must be unpredictable: ids of bids and trades come from it.
    #[must_use]
    pub fn new(master: MasterKey, network: Network, seed: [u8; 32]) -> Self {
        let client_key = master.client_key();
        let client_id = client_key.public();
        Self {
            client_id,
            master,
            client_key,
            network,
            state: State::of(client_id),
            counters: Counters::default(),
            mint: IdMint::default(),
            rng: StdRng::from_seed(seed),
            now: UnixMillis(0),
            timers: Timers::default(),
            asking: HashMap::new(),
            waiting: HashMap::new(),
            parked: BTreeMap::new(),
            pressure: Pressure::default(),
            changes: Changes::default(),
            forgets_from: UnixMillis(0),
            max_notional: MaxNotional::default(),
        }
    }

    /// A core that continues where the store left off, and what it does first: publish what is not dead, ask what is in doubt.
    #[must_use]
    pub fn restore(
        master: MasterKey,
        network: Network,
        seed: [u8; 32],
        events: impl IntoIterator<Item = Event>,
        now: UnixMillis,
    ) -> (Self, Output) {
        let mut core = Self::new(master, network, seed);
        core.now = now;
        for event in events {
            core.make_true(&event);
        }
        let mut output = Output::default();
        core.tick(&mut output);
        // What expired in an earlier life was told then, or while nobody listened.
        output.effects.retain(|effect| !matches!(effect, Effect::Expired(_)));
        core.resume_publishing(&mut output);
        core.resume_asking(&mut output);
        (core, output)
    }

    /// Who this node is.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// The network it trades on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What is true now. Clone it for readers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was dropped or odd so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When time alone will have something to do: hand in [`Input::Tick`] then.
    pub fn next_timeout(&self) -> Option<UnixMillis> {
        self.timers.next()
    }

    /// Takes one input at `now`. A time that goes back a little is read as standing still, see [`super::limits::CLOCK_BACK_MAX`].
    pub fn handle(&mut self, now: UnixMillis, input: Input, output: &mut Output) {
        self.clock_says(now, output);
        self.tick(output);
        match input {
            Input::Create { new, idempotency, reply } => self.create(new, idempotency, reply, output),
            Input::Withdraw { offer, if_sequence, reply } => self.withdraw(offer, if_sequence, reply, output),
            Input::PlaceBid { new, wait, idempotency, reply } => {
                self.place_bid(new, wait.min(BID_WAIT_MAX), idempotency, reply, output);
            }
            Input::GiveUp { bid, reply } => self.give_up(bid, reply, output),
            Input::Recover { reply } => self.recover(reply, output),
            Input::TradesShown { receipts, reply } => self.trades_shown(receipts, reply, output),
            Input::Record(offer, via) => self.record(offer, via, output),
            Input::Fraud(values, via) => self.fraud(values, via, output),
            // A node is always there for itself, also when nobody else hears of it.
            Input::Stale { maker, .. } if maker == self.client_id => {}
            Input::Stale { maker, stale } => {
                self.state.market.set_stale(maker, stale);
                if !stale {
                    self.ask_who_is_back(maker, output);
                }
            }
            Input::BidReceived { bid, reply } => self.bid_received(bid, reply, output),
            Input::BidAnswered { bid, heard } => self.bid_answered(bid, heard, output),
            Input::Published { offer, sequence, stored_on, announced_to } => {
                self.published(offer, sequence, (stored_on, announced_to), output);
            }
            Input::Tick => {}
        }
    }

    /// Makes an event true in memory, and has it stored.
    pub(super) fn emit(&mut self, event: Event, output: &mut Output) {
        self.make_true(&event);
        output.events.push(event);
    }

    fn make_true(&mut self, event: &Event) {
        self.forget_replaced_timers(event);
        self.state.apply(event);
        if let Event::Own(own) = event {
            self.mint_has_made(own.offer.id);
        }
        self.set_timers(event);
    }

    /// A new UUIDv7 for a bid or a trade.
    pub(super) fn new_uuid(&mut self) -> Uuid {
        let mut random = [0; 10];
        self.rng.fill_bytes(&mut random);
        uuid::Builder::from_unix_timestamp_millis(self.now.0, &random).into_uuid()
    }

    pub(super) fn set_timer(&mut self, at: UnixMillis, timer: Timer) {
        self.timers.set(at, timer);
    }
}
