//! How the rest of the process talks to the exchange core: commands go to the writer's inbox, reads look at a snapshot.

use super::{
    clock,
    disk::Disk,
    meter::Meter,
    others::ConfirmError,
    writer::{Message, Responder},
};
use crate::{
    exchange::{
        BidAnswer, CommandError, Core, Counters, Heard, IdempotencyKey, Input, NewBid, NotNow, OfferRef,
        Reply, ReplyTo, State,
    },
    identity::{ClientId, Network, Signed},
    market::{Bid, BidId, NewOffer, Offer, OfferId, TradeReceipt, Via},
    replication::core::SignedHead,
    time::UnixMillis,
};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// What readers see: the state after the last commit.
#[derive(Debug)]
pub struct Snapshot {
    /// Everything the node remembers.
    pub state: State,
    /// What was dropped or odd so far.
    pub counters: Counters,
}

impl Snapshot {
    pub(super) fn of(core: &Core) -> Arc<Self> {
        Arc::new(Self { state: core.state().clone(), counters: core.counters() })
    }
}

/// A handle to the exchange core; clones share it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub(super) inbox: SyncSender<Message>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) next_reply: Arc<AtomicU64>,
    pub(super) client_id: ClientId,
    pub(super) network: Network,
    pub(super) meter: Arc<Meter>,
    pub(super) disk: Arc<Disk>,
}

impl Exchange {
    /// Who this node is.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// The network it trades on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The state after the last commit. Whoever got a reply sees at least what it was about.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// This machine's time.
    pub fn now(&self) -> UnixMillis {
        clock::now()
    }

    /// Lists an offer; the reply comes once it is durable.
    pub async fn create(&self, new: NewOffer, idempotency: Option<IdempotencyKey>) -> Reply {
        self.command(|reply| Input::Create { new, idempotency, reply }).await
    }

    /// Takes an own offer off the market.
    pub async fn withdraw(&self, offer: OfferRef, if_sequence: Option<u64>) -> Reply {
        self.command(|reply| Input::Withdraw { offer, if_sequence, reply }).await
    }

    /// Bids on an offer. The reply comes when the maker has answered or `wait` is over; the bid's outcome, which may be
    /// "in doubt", is in the snapshot.
    pub async fn bid(&self, new: NewBid, wait: Duration, idempotency: Option<IdempotencyKey>) -> Reply {
        self.command(|reply| Input::PlaceBid { new, wait, idempotency, reply }).await
    }

    /// No longer waits for the answer to an own bid.
    pub async fn give_up(&self, bid: BidId) -> Reply {
        self.command(|reply| Input::GiveUp { bid, reply }).await
    }

    /// Takes over, closed, what the network knows better of this node's own records.
    pub async fn recover(&self) -> Reply {
        self.command(|reply| Input::Recover { reply }).await
    }

    /// Takes over trades that another node showed, each verified.
    pub(super) async fn trades_shown(&self, receipts: Vec<Arc<TradeReceipt>>) -> Reply {
        self.command(|reply| Input::TradesShown { receipts, reply }).await
    }

    /// A verified bid came over RPC; gives the maker's answer once it is durable.
    pub(super) async fn bid_received(&self, bid: Signed<Bid>) -> Result<BidAnswer, CommandError> {
        let (responder, answer) = oneshot::channel::<Result<BidAnswer, NotNow>>();
        let reply = self.next_reply();
        self.send(Input::BidReceived { bid, reply }, Some((reply, Responder::Bidder(responder))))?;
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(NotNow::StoreBehind)) => Err(CommandError::StoreBehind),
            Ok(Err(NotNow::StorageFull)) => Err(CommandError::StorageFull),
            Ok(Err(NotNow::TradesFull)) => Err(CommandError::Busy),
            Err(_) => Err(CommandError::Stopping),
        }
    }

    /// A verified record came from the network. Dropped when the writer is behind: it will come again.
    pub(super) fn record(&self, offer: Arc<Offer>, via: Via) -> Result<(), CommandError> {
        self.send(Input::Record(offer, via), None)
    }

    /// A verified proof of fraud came. Dropped like a record.
    pub(super) fn fraud(&self, values: [Arc<Offer>; 2], via: Via) -> Result<(), CommandError> {
        self.send(Input::Fraud(values, via), None)
    }

    /// A maker has fallen silent, or is back.
    pub(super) fn stale(&self, maker: ClientId, stale: bool) -> Result<(), CommandError> {
        self.send(Input::Stale { maker, stale }, None)
    }

    /// What came of asking a bid. Must not be lost, or the bid would never be asked again: waits while the inbox is full.
    pub(super) async fn bid_answered(&self, bid: BidId, heard: Option<Heard>) {
        self.send_surely(Input::BidAnswered { bid, heard }).await;
    }

    /// How far a version of an own record reached.
    pub(super) async fn published(&self, offer: OfferId, sequence: u64, stored_on: u32, announced_to: u32) {
        self.send_surely(Input::Published { offer, sequence, stored_on, announced_to }).await;
    }

    async fn send_surely(&self, input: Input) {
        while let Err(CommandError::Busy) = self.send(input.clone(), None) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Keeps these heads of makers over a restart, when there is time for it. They are hints: in a full inbox they are lost.
    pub(super) fn keep_heads(&self, heads: Vec<SignedHead>) {
        if let Err(TrySendError::Full(_)) = self.inbox.try_send(Message::Heads(heads)) {
            self.meter.inbox_full.inc();
        }
    }

    /// What is known of the disk.
    pub(super) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Has the writer look whether the store is still itself, and, when `probes`, whether there is room. False once the writer is gone.
    pub(super) fn check_store(&self, probes: bool) -> bool {
        !matches!(self.inbox.try_send(Message::Check { probes }), Err(TrySendError::Disconnected(_)))
    }

    /// Remembers something small beside the events. In a full inbox it is lost: it is found out anew.
    pub(super) fn note(&self, name: &'static str, value: String) {
        let _ = self.inbox.try_send(Message::Note(name, value));
    }

    /// Remembers something small beside the events; it is durable when this returns.
    pub(super) async fn note_surely(&self, name: &'static str, value: String) -> Result<(), ConfirmError> {
        let (stored, outcome) = oneshot::channel();
        let sent = self.inbox.try_send(Message::NoteSurely(name, value, stored));
        sent.map_err(|_| ConfirmError::Busy)?;
        outcome.await.map_err(|_| ConfirmError::Busy)?.map_err(ConfirmError::NotStored)
    }

    async fn command(&self, input: impl FnOnce(ReplyTo) -> Input) -> Reply {
        let (responder, reply) = oneshot::channel();
        let to = self.next_reply();
        self.send(input(to), Some((to, Responder::Owner(responder))))?;
        reply.await.unwrap_or(Err(CommandError::Stopping))
    }

    fn next_reply(&self) -> ReplyTo {
        ReplyTo(self.next_reply.fetch_add(1, Ordering::Relaxed))
    }

    fn send(&self, input: Input, responder: Option<(ReplyTo, Responder)>) -> Result<(), CommandError> {
        match self.inbox.try_send(Message::Input(Box::new(input), responder)) {
            Ok(()) => {
                self.meter.sent.inc();
                Ok(())
            }
            Err(TrySendError::Full(_)) => {
                self.meter.inbox_full.inc();
                Err(CommandError::Busy)
            }
            Err(TrySendError::Disconnected(_)) => Err(CommandError::Stopping),
        }
    }
}
