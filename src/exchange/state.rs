//! What the events add up to.
//!
//! Each [`Event`] is one fact with everything that must be stored for it; applying an event twice changes nothing more. The
//! state is made of persistent maps: a clone costs a few pointers, shares everything that did not change, and is what readers
//! are shown.

use super::{Unlisted, limits, lists::Lists};
use crate::{
    amount::Price,
    bep44::Target,
    identity::{ClientId, Signed},
    market::{Bid, BidId, Currency, Offer, OfferId, Side, TradeId, TradeReceipt},
    time::UnixMillis,
};
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

use super::{CommandError, OfferRef, Refusal};

/// A fact that is made durable. What it says of one thing replaces what an earlier one said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An own offer as it is now.
    Own(OwnOffer),
    /// How far an own record's newest version reached.
    Published(OfferId, Published),
    /// An own offer died and is forgotten.
    OwnForgotten(OfferId),
    /// Another maker's record: the newest version known here.
    Heard(Arc<Offer>),
    /// Another maker's record died and is forgotten.
    Forgotten(Target),
    /// The maker of the first one's record contradicts itself: the two versions, or records, that prove it.
    Equivocated(Arc<Offer>, Arc<Offer>),
    /// A record is on no list any more, and what is held of it does not say why.
    Unlisted(Target, Unlisted),
    /// An own bid as it is now.
    BidOut(Arc<BidOut>),
    /// An own refused bid is forgotten.
    BidOutForgotten(BidId),
    /// A bid on an own offer, answered.
    BidIn(Arc<BidIn>),
    /// A refused bid on an own offer is forgotten.
    BidInForgotten(ClientId, BidId),
    /// A trade, ours as maker or as taker.
    Traded(Arc<TradeReceipt>),
    /// What a request with an idempotency key made.
    Remembered(Arc<Idempotent>),
    /// An idempotency key is forgotten.
    IdempotencyForgotten(String),
    /// The network holds this version of an own record, which this store lacks.
    Ahead(Arc<Offer>),
    /// The owner has taken over what the network held.
    Recovered,
}

impl Event {
    /// Whether it must be on disk before anything is done or shown: all but what the network would tell again. That an own
    /// offer is forgotten must be: a bid on it is refused without a memory of its own, and a clock that is set back at the next
    /// start would bring the offer back.
    #[must_use]
    pub fn must_be_durable(&self) -> bool {
        !matches!(self, Self::Heard(_) | Self::Forgotten(_) | Self::Published(..))
    }
}

/// How an own offer came to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A bid was accepted.
    Sold(TradeId),
    /// The owner took it back.
    Withdrawn,
    /// Taken over, closed, from the network after the store was lost or restored.
    Recovered,
}

/// An offer of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnOffer {
    /// The newest version of the record.
    pub offer: Arc<Offer>,
    /// `None` while nobody closed it.
    pub closed: Option<Closed>,
    /// How far the newest published version reached.
    pub published: Option<Published>,
}

/// How far a version of an own record reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Which version.
    pub sequence: u64,
    /// DHT nodes that store it.
    pub stored_on: u32,
    /// DHT nodes that accepted its announcement.
    pub announced_to: u32,
    /// When.
    pub at: UnixMillis,
}

/// What became of an own bid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BidOutcome {
    /// The maker has not answered yet: it may be sold or not.
    InDoubt,
    /// Sold to us.
    Accepted(TradeId),
    /// Not sold to us, finally.
    Refused(Refusal),
    /// The maker never answered, and the owner waits no longer. A trade that comes all the same still counts.
    GivenUp {
        /// When the owner said so.
        at: UnixMillis,
    },
}

/// A bid of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BidOut {
    /// What was signed.
    pub bid: Signed<Bid>,
    /// What became of it.
    pub outcome: BidOutcome,
}

/// A bid on an own offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BidIn {
    /// What its bidder signed.
    pub bid: Signed<Bid>,
    /// The answer that it got, and gets whenever it is repeated.
    pub answer: Result<TradeId, Refusal>,
    /// When it was answered.
    pub at: UnixMillis,
}

/// What a request with an idempotency key made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotent {
    /// The caller's key.
    pub key: String,
    /// SHA-256 of the request.
    pub request_sha256: [u8; 32],
    /// What it made.
    pub made: Made,
    /// When.
    pub at: UnixMillis,
}

/// The thing that a request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// An offer.
    Offer(OfferId),
    /// A bid.
    Bid(BidId),
}

/// How an offer stands, for people and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferStatus {
    /// It can be taken.
    Open,
    /// A trade took it.
    Sold,
    /// Its own maker took it back (known for own offers only).
    Withdrawn,
    /// Closed by its maker; others do not learn why.
    Closed,
    /// Its time is over.
    Expired,
    /// Its maker signed two contradicting versions, or signs such ones all the time: nobody should trust it.
    Equivocated,
    /// Its maker changed its price or quantity, which this version of the program does not follow: it cannot be taken here.
    Changed,
    /// Its maker does not sell for now, and may again.
    Paused,
}

impl OfferStatus {
    /// The word in JSON and in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sold => "sold",
            Self::Withdrawn => "withdrawn",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Equivocated => "equivocated",
            Self::Changed => "changed",
            Self::Paused => "paused",
        }
    }
}

/// An offer's place by currency, side (whether its maker buys) and price; of equal ones the oldest comes first.
pub type PricePlace = (Currency, bool, Price, OfferId, Target);

fn by_price(offer: &Offer) -> PricePlace {
    let terms = &offer.terms;
    (terms.currency, terms.side == Side::Buy, terms.offer_price, offer.id, offer.target())
}

/// The records: every live one in the network that this node knows, its own included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Market {
    /// The newest version of each record.
    pub records: OrdMap<Target, Arc<Offer>>,
    /// Which records carry an id. One each, unless a maker cheats with its own ids.
    pub by_id: OrdSet<(OfferId, Target)>,
    /// Those that can be taken, oldest first, of makers that are there.
    pub available: OrdMap<(OfferId, Target), Arc<Offer>>,
    /// Both of these by currency and price, for lists that are sorted by it.
    pub by_price: OrdSet<PricePlace>,
    /// Those that could be taken if their makers were there.
    pub available_stale: OrdMap<(OfferId, Target), Arc<Offer>>,
    /// Makers that have been silent for too long. Known anew after each start.
    pub stale: OrdSet<ClientId>,
    /// Which records a maker has.
    pub by_maker: OrdSet<(ClientId, Target)>,
    /// Records whose makers contradict themselves, with the proof: the first of the two is the record's own.
    pub equivocated: OrdMap<Target, (Arc<Offer>, Arc<Offer>)>,
    /// Records that are on no list for another reason. One that is not held is not listed when it comes, either.
    pub unlisted: OrdMap<Target, Unlisted>,
    /// How many proofs are held against a maker.
    pub proofs_against: OrdMap<ClientId, usize>,
}

/// Everything that a node remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whose it is: tells trades as maker from those as taker.
    pub me: Option<ClientId>,
    /// All records.
    pub market: Market,
    /// Own offers that are not dead.
    pub own: OrdMap<OfferId, OwnOffer>,
    /// Own bids.
    pub bids_out: OrdMap<BidId, Arc<BidOut>>,
    /// Bids on own offers.
    pub bids_in: OrdMap<(ClientId, BidId), Arc<BidIn>>,
    /// Bids by their offer: on own ones by whom, on others' ones own.
    pub bids_by_offer: OrdSet<(OfferId, BidId, ClientId)>,
    /// All trades.
    pub trades: OrdMap<TradeId, Arc<TradeReceipt>>,
    /// All trades by their two sides.
    pub trades_of: OrdSet<(ClientId, TradeId)>,
    /// Which trade took an offer.
    pub sold: OrdMap<Target, TradeId>,
    /// What requests with idempotency keys made.
    pub idempotency: OrdMap<String, Arc<Idempotent>>,
    /// Own records of which the network has a newer version than this store.
    pub ahead: OrdMap<Target, Arc<Offer>>,
    /// Bids and trades in the orders in which they are listed.
    pub lists: Lists,
    /// How many own bids have no answer.
    pub bids_in_doubt: usize,
    /// How many, by maker; none is there with none.
    pub bids_in_doubt_of: OrdMap<ClientId, usize>,
    /// How many own bids were given up.
    pub bids_given_up: usize,
    /// How many bids on own offers were refused.
    pub bids_in_refused: usize,
}

impl State {
    /// What the node `me` remembers at first: nothing.
    #[must_use]
    pub fn of(me: ClientId) -> Self {
        Self { me: Some(me), ..Self::default() }
    }

    /// Makes `event` true here.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Own(own) => {
                self.market.hold(&own.offer);
                self.own.insert(own.offer.id, own.clone());
            }
            Event::Published(id, published) => {
                if let Some(own) = self.own.get_mut(id) {
                    own.published = Some(*published);
                }
            }
            Event::OwnForgotten(id) => {
                if let Some(own) = self.own.remove(id) {
                    self.forget(own.offer.target());
                }
            }
            Event::Heard(offer) => self.market.hold(offer),
            Event::Forgotten(target) => self.forget(*target),
            Event::Equivocated(first, second) => self.market.prove(first, second),
            Event::Unlisted(target, why) => {
                self.market.unlisted.insert(*target, *why);
                self.market.close(*target);
            }
            Event::BidOut(bid) => self.hold_bid_out(bid),
            Event::BidOutForgotten(id) => {
                if let Some(forgotten) = self.bids_out.remove(id) {
                    self.lists.remove_bid_out(&forgotten);
                    let bid = &forgotten.bid;
                    self.bids_by_offer.remove(&(bid.offer_id, bid.id, bid.bidder));
                }
            }
            Event::BidIn(bid) => self.hold_bid_in(bid),
            Event::BidInForgotten(bidder, id) => {
                if let Some(forgotten) = self.bids_in.remove(&(*bidder, *id)) {
                    self.lists.remove_bid_in(&forgotten);
                    self.bids_in_refused -= usize::from(forgotten.answer.is_err());
                    self.bids_by_offer.remove(&(forgotten.bid.offer_id, *id, *bidder));
                }
            }
            Event::Traded(receipt) => {
                let trade = receipt.trade();
                self.sold.insert(trade.offer_hash, trade.id);
                self.market.close(trade.offer_hash);
                for side in [trade.maker, trade.taker] {
                    self.trades_of.insert((side, trade.id));
                }
                let as_maker = |receipt: &TradeReceipt| self.me == Some(receipt.trade().maker);
                if let Some(before) = self.trades.insert(trade.id, Arc::clone(receipt)) {
                    self.lists.remove_trade(before.trade(), as_maker(&before));
                }
                self.lists.add_trade(trade, as_maker(receipt));
            }
            Event::Remembered(idempotent) => {
                self.idempotency.insert(idempotent.key.clone(), Arc::clone(idempotent));
            }
            Event::IdempotencyForgotten(key) => {
                self.idempotency.remove(key);
            }
            Event::Ahead(offer) => {
                if self.ahead.len() < limits::AHEAD_MAX || self.ahead.contains_key(&offer.target()) {
                    self.ahead.insert(offer.target(), Arc::clone(offer));
                }
            }
            Event::Recovered => self.ahead = OrdMap::new(),
        }
        // A record that arrives after the trade that took it must not look open.
        if let Event::Own(OwnOffer { offer, .. }) | Event::Heard(offer) = event
            && self.sold.contains_key(&offer.target())
        {
            self.market.close(offer.target());
        }
    }

    fn hold_bid_out(&mut self, bid: &Arc<BidOut>) {
        let in_doubt = |b: &BidOut| usize::from(b.outcome == BidOutcome::InDoubt);
        let given_up = |b: &BidOut| usize::from(matches!(b.outcome, BidOutcome::GivenUp { .. }));
        self.bids_in_doubt += in_doubt(bid);
        if in_doubt(bid) > 0 {
            *self.bids_in_doubt_of.entry(bid.bid.maker).or_default() += 1;
        }
        self.bids_given_up += given_up(bid);
        self.bids_by_offer.insert((bid.bid.offer_id, bid.bid.id, bid.bid.bidder));
        if let Some(before) = self.bids_out.insert(bid.bid.id, Arc::clone(bid)) {
            self.bids_in_doubt -= in_doubt(&before);
            if in_doubt(&before) > 0 {
                self.one_less_in_doubt(before.bid.maker);
            }
            self.bids_given_up -= given_up(&before);
            self.lists.remove_bid_out(&before);
        }
        self.lists.add_bid_out(bid);
    }

    fn one_less_in_doubt(&mut self, maker: ClientId) {
        let left = self.bids_in_doubt_of.get(&maker).map_or(0, |held| held - 1);
        if left == 0 {
            self.bids_in_doubt_of.remove(&maker);
        } else {
            self.bids_in_doubt_of.insert(maker, left);
        }
    }

    fn hold_bid_in(&mut self, bid: &Arc<BidIn>) {
        self.bids_in_refused += usize::from(bid.answer.is_err());
        self.bids_by_offer.insert((bid.bid.offer_id, bid.bid.id, bid.bid.bidder));
        if let Some(before) = self.bids_in.insert((bid.bid.bidder, bid.bid.id), Arc::clone(bid)) {
            self.bids_in_refused -= usize::from(before.answer.is_err());
            self.lists.remove_bid_in(&before);
        }
        self.lists.add_bid_in(bid);
    }

    /// Lists every record anew that says that it can be taken: those that had expired by a clock that was wrong.
    pub(super) fn list_anew(&mut self) {
        for offer in self.market.records.values().cloned().collect::<Vec<_>>() {
            self.market.hold(&offer);
            if self.sold.contains_key(&offer.target()) {
                self.market.close(offer.target());
            }
        }
    }

    /// The trades that this node has with `other`, by their ids from after `after` on.
    pub fn trades_with(
        &self,
        other: ClientId,
        after: Option<TradeId>,
    ) -> impl Iterator<Item = &Arc<TradeReceipt>> {
        let from = (other, after.unwrap_or(TradeId(uuid::Uuid::nil())));
        let theirs = self.trades_of.range(from..).take_while(move |(of, _)| *of == other);
        theirs.filter(move |(_, id)| Some(*id) != after).filter_map(|(_, id)| self.trades.get(id))
    }

    /// Whether the network knows more of this node's own records than it does itself.
    pub fn is_behind(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn forget(&mut self, target: Target) {
        let Some(maker) = self.market.forget(target) else { return };
        for offer in self.market.records_of(maker).cloned().collect::<Vec<_>>() {
            if !self.sold.contains_key(&offer.target()) {
                self.market.hold(&offer);
            }
        }
    }

    /// The record that `reference` names.
    ///
    /// # Errors
    /// [`CommandError::OfferNotFound`], and [`CommandError::Ambiguous`] when an id names more than one record: its maker cheats,
    /// and whoever named it saw one of them.
    pub fn find(&self, reference: OfferRef) -> Result<&Arc<Offer>, CommandError> {
        let target = match reference {
            OfferRef::Hash(target) => Some(target),
            OfferRef::Id(id) => {
                let mut found = self.market.named(id);
                match (found.next(), found.next()) {
                    (Some(first), Some(second)) if !cfg!(mutant = "terms_ambiguous_id_taken") => {
                        return Err(CommandError::Ambiguous { id, two_of_them: [first, second] });
                    }
                    (first, _) => first,
                }
            }
        };
        let held = target.and_then(|target| self.market.records.get(&target));
        held.ok_or_else(|| CommandError::OfferNotFound(reference.to_string()))
    }

    /// How `offer` stands at `now`.
    pub fn status(&self, offer: &Offer, now: UnixMillis) -> OfferStatus {
        let target = offer.target();
        if self.market.is_distrusted(offer) {
            return OfferStatus::Equivocated;
        }
        if self.sold.contains_key(&target) {
            return OfferStatus::Sold;
        }
        match self.own.get(&offer.id).filter(|own| own.offer.target() == target).and_then(|own| own.closed) {
            Some(Closed::Sold(_)) => OfferStatus::Sold,
            Some(Closed::Withdrawn) => OfferStatus::Withdrawn,
            Some(Closed::Recovered) => OfferStatus::Closed,
            None if offer.is_closed() => OfferStatus::Closed,
            None if offer.expires_at.is_none_or(|until| now >= until) => OfferStatus::Expired,
            None if self.market.unlisted.contains_key(&target) => OfferStatus::Changed,
            None if !offer.availability => OfferStatus::Paused,
            None => OfferStatus::Open,
        }
    }
}

impl Market {
    /// Holds this version of a record, in place of an earlier one.
    fn hold(&mut self, offer: &Arc<Offer>) {
        let target = offer.target();
        // A maker that cheats may give one record a second id, or a second maker: the first must not stay behind.
        if let Some(held) = self.records.get(&target).cloned() {
            if held.id != offer.id {
                self.by_id.remove(&(held.id, target));
            }
            if held.client_id != offer.client_id {
                self.by_maker.remove(&(held.client_id, target));
            }
            self.unlist(&held);
        }
        if offer.availability && !self.is_distrusted(offer) && !self.unlisted.contains_key(&target) {
            let list = if self.stale.contains(&offer.client_id) {
                &mut self.available_stale
            } else {
                &mut self.available
            };
            list.insert((offer.id, target), Arc::clone(offer));
            self.by_price.insert(by_price(offer));
        }
        self.by_id.insert((offer.id, target));
        self.by_maker.insert((offer.client_id, target));
        self.records.insert(target, Arc::clone(offer));
    }

    /// Takes this version, which is held, off the lists.
    fn unlist(&mut self, held: &Offer) {
        let key = (held.id, held.target());
        let listed = self.available.remove(&key).is_some()
            || !self.available_stale.is_empty() && self.available_stale.remove(&key).is_some();
        if listed {
            self.by_price.remove(&by_price(held));
        }
    }

    /// Takes a record off the list of those that can be taken; it is kept.
    pub(super) fn close(&mut self, target: Target) {
        if let Some(held) = self.records.get(&target).cloned() {
            self.unlist(&held);
        }
    }

    /// Takes a maker's offers off the list because nobody hears of it any more, or puts them back.
    pub(super) fn set_stale(&mut self, maker: ClientId, stale: bool) {
        let changed =
            if stale { self.stale.insert(maker).is_none() } else { self.stale.remove(&maker).is_some() };
        if !changed {
            return;
        }
        let records = self.records_of(maker).map(|offer| (offer.id, offer.target()));
        for key in records.collect::<Vec<_>>() {
            let (from, to) = if stale {
                (&mut self.available, &mut self.available_stale)
            } else {
                (&mut self.available_stale, &mut self.available)
            };
            if let Some(offer) = from.remove(&key) {
                to.insert(key, offer);
            }
        }
    }

    /// Whether this offer's maker has been silent for too long.
    pub fn is_stale(&self, offer: &Offer) -> bool {
        self.stale.contains(&offer.client_id)
    }

    /// Until when a record counts: one whose maker contradicts itself for as long as either of the two that prove it does.
    pub fn counts_until(&self, offer: &Offer) -> UnixMillis {
        let marked = self.marked_until(&offer.target());
        marked.map_or(offer.dies_at, |until| until.max(offer.dies_at))
    }

    /// What is held of a maker.
    pub fn records_of(&self, maker: ClientId) -> impl Iterator<Item = &Arc<Offer>> {
        let from = (maker, Target([0; 20]));
        let own = self.by_maker.range(from..).take_while(move |(of, _)| *of == maker);
        own.filter_map(|(_, target)| self.records.get(target))
    }

    /// Returns the maker that is no outcast any more because of it.
    fn forget(&mut self, target: Target) -> Option<ClientId> {
        let freed = self.forget_proof(target);
        self.unlisted.remove(&target);
        if let Some(offer) = self.records.remove(&target) {
            self.by_id.remove(&(offer.id, target));
            self.by_maker.remove(&(offer.client_id, target));
            self.unlist(&offer);
        }
        freed
    }
}
