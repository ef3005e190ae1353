//! Orders in which own bids, received bids and trades are listed, kept as they come, so that a page costs what it shows and not
//! what is stored.
//!
//! Every list stands still under its reader's feet as far as it can: a bid moves from one state to a later one only, and the
//! states are listed in that order, so whoever pages through may meet a bid twice but never misses one.

use super::{BidIn, BidOut, BidOutcome};
use crate::{
    identity::ClientId,
    market::{BidId, Currency, Side, Trade, TradeId},
    time::UnixMillis,
};
use imbl::OrdSet;
use std::ops::{Bound, Bound::Excluded, Bound::Included};
use uuid::Uuid;

/// How a bid stands, in the order in which bids are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BidState {
    /// The maker has not answered.
    InDoubt,
    /// The maker never answered, and the owner waits no longer.
    GivenUp,
    /// Sold.
    Accepted,
    /// Not sold.
    Refused,
}

impl BidState {
    /// All of them, in the order of lists.
    pub const ALL: [Self; 4] = [Self::InDoubt, Self::GivenUp, Self::Accepted, Self::Refused];

    /// The word in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InDoubt => "in_doubt",
            Self::GivenUp => "given_up",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

impl BidOutcome {
    /// In one word.
    pub fn state(&self) -> BidState {
        match self {
            Self::InDoubt => BidState::InDoubt,
            Self::GivenUp { .. } => BidState::GivenUp,
            Self::Accepted(_) => BidState::Accepted,
            Self::Refused(_) => BidState::Refused,
        }
    }
}

impl BidIn {
    /// In one word: a received bid is answered when it comes.
    pub fn state(&self) -> BidState {
        if self.answer.is_ok() { BidState::Accepted } else { BidState::Refused }
    }
}

/// From when, inclusive, until when, exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Nothing before it.
    pub since: Option<UnixMillis>,
    /// Nothing from it on.
    pub until: Option<UnixMillis>,
}

impl Span {
    /// Whether `at` lies within.
    pub fn holds(&self, at: UnixMillis) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Which trades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TradesWanted {
    /// Those of this node as maker, or as taker.
    pub as_maker: Option<bool>,
    /// What their makers did.
    pub side: Option<Side>,
    /// What was paid with.
    pub currency: Option<Currency>,
    /// When their makers decided.
    pub span: Span,
}

/// Where a received bid stands in its list.
pub type BidInPlace = (BidState, UnixMillis, ClientId, BidId);
/// Trades by currency (`None`: by none), by part (as maker), by side (the maker buys), and then by time.
type TradePlace = (Option<Currency>, bool, bool, UnixMillis, TradeId);

/// The orders. What they hold is bounded by the maps that they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    bids_out: OrdSet<(BidState, BidId)>,
    bids_of_maker: OrdSet<(ClientId, BidState, BidId)>,
    bids_in: OrdSet<BidInPlace>,
    trades: OrdSet<TradePlace>,
}

/// The smallest id of an instant. Ids carry 48 bits of milliseconds (RFC 9562).
fn first_at(at: UnixMillis) -> BidId {
    BidId(Uuid::from_u128(u128::from(at.0.min((1 << 48) - 1)) << 80))
}

const LAST: BidId = BidId(Uuid::max());
const FIRST: BidId = BidId(Uuid::nil());

/// The ids of a span, those before `before`.
fn ids(span: Span, before: Option<BidId>) -> (Bound<BidId>, Bound<BidId>) {
    let end = span.until.map(first_at).into_iter().chain(before).min();
    (Included(span.since.map_or(FIRST, first_at)), end.map_or(Included(LAST), Excluded))
}

fn map<T, U>(bound: Bound<T>, f: impl FnOnce(T) -> U) -> Bound<U> {
    match bound {
        Included(value) => Included(f(value)),
        Excluded(value) => Excluded(f(value)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Ranges of which the first is empty make a map panic.
fn is_empty<T: Ord>(from: &Bound<T>, to: &Bound<T>) -> bool {
    match (from, to) {
        (Included(from), Included(to)) => from > to,
        (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from >= to,
        _ => false,
    }
}

impl Lists {
    pub(super) fn add_bid_out(&mut self, bid: &BidOut) {
        let (state, id) = (bid.outcome.state(), bid.bid.id);
        self.bids_out.insert((state, id));
        self.bids_of_maker.insert((bid.bid.maker, state, id));
    }

    pub(super) fn remove_bid_out(&mut self, bid: &BidOut) {
        let (state, id) = (bid.outcome.state(), bid.bid.id);
        self.bids_out.remove(&(state, id));
        self.bids_of_maker.remove(&(bid.bid.maker, state, id));
    }

    pub(super) fn add_bid_in(&mut self, bid: &BidIn) {
        self.bids_in.insert((bid.state(), bid.at, bid.bid.bidder, bid.bid.id));
    }

    pub(super) fn remove_bid_in(&mut self, bid: &BidIn) {
        self.bids_in.remove(&(bid.state(), bid.at, bid.bid.bidder, bid.bid.id));
    }

    fn places(trade: &Trade, as_maker: bool) -> [TradePlace; 2] {
        let (buys, at) = (trade.terms.side == Side::Buy, trade.executed_at);
        [None, Some(trade.terms.currency)].map(|currency| (currency, as_maker, buys, at, trade.id))
    }

    pub(super) fn add_trade(&mut self, trade: &Trade, as_maker: bool) {
        for place in Self::places(trade, as_maker) {
            self.trades.insert(place);
        }
    }

    pub(super) fn remove_trade(&mut self, trade: &Trade, as_maker: bool) {
        for place in Self::places(trade, as_maker) {
            self.trades.remove(&place);
        }
    }

    /// Own bids, by state, each state's newest first: those after `after`.
    pub fn bids_out(
        &self,
        states: impl Fn(BidState) -> bool,
        maker: Option<ClientId>,
        span: Span,
        after: Option<(BidState, BidId)>,
    ) -> impl Iterator<Item = BidId> {
        let states = BidState::ALL.into_iter().filter(move |state| states(*state));
        let states = states.filter(move |state| after.is_none_or(|(at, _)| *state >= at));
        states.flat_map(move |state| -> Box<dyn Iterator<Item = BidId> + '_> {
            let before = after.filter(|(at, _)| *at == state).map(|(_, id)| id);
            let (from, to) = ids(span, before);
            if is_empty(&from, &to) {
                return Box::new(std::iter::empty());
            }
            match maker {
                None => {
                    let range = (map(from, |id| (state, id)), map(to, |id| (state, id)));
                    Box::new(self.bids_out.range(range).rev().map(|(_, id)| *id))
                }
                Some(maker) => {
                    let range = (map(from, |id| (maker, state, id)), map(to, |id| (maker, state, id)));
                    Box::new(self.bids_of_maker.range(range).rev().map(|(_, _, id)| *id))
                }
            }
        })
    }

    /// Received bids, by state, each state's newest first: those after `after`.
    pub fn bids_in(
        &self,
        states: impl Fn(BidState) -> bool,
        span: Span,
        after: Option<BidInPlace>,
    ) -> impl Iterator<Item = &BidInPlace> {
        let states = BidState::ALL.into_iter().filter(move |state| states(*state));
        let states = states.filter(move |state| after.is_none_or(|(at, ..)| *state >= at));
        states.flat_map(move |state| -> Box<dyn Iterator<Item = &BidInPlace> + '_> {
            let first = |at| (state, at, ClientId::SMALLEST, FIRST);
            let before = after.filter(|(at, ..)| *at == state);
            let end = span.until.map(first).into_iter().chain(before).min();
            let from = Included(first(span.since.unwrap_or_default()));
            let to = match end {
                Some(end) => Excluded(end),
                None => Included((state, UnixMillis(u64::MAX), ClientId::LARGEST, LAST)),
            };
            if is_empty(&from, &to) {
                return Box::new(std::iter::empty());
            }
            Box::new(self.bids_in.range((from, to)).rev())
        })
    }

    /// Trades, the newest first: those before `before`.
    pub fn trades(
        &self,
        wanted: TradesWanted,
        before: Option<(UnixMillis, TradeId)>,
    ) -> impl Iterator<Item = TradeId> {
        const NONE: TradeId = TradeId(Uuid::nil());
        let end = wanted.span.until.map(|until| (until, NONE)).into_iter().chain(before).min();
        let since = wanted.span.since.unwrap_or_default();
        let classes = [(true, true), (true, false), (false, true), (false, false)].into_iter();
        let classes = classes.filter(|(as_maker, buys)| {
            wanted.as_maker.is_none_or(|wanted| wanted == *as_maker)
                && wanted.side.is_none_or(|side| (side == Side::Buy) == *buys)
        });
        let mut lists: Vec<_> = classes
            .filter_map(|(as_maker, buys)| {
                let place = |at, id| (wanted.currency, as_maker, buys, at, id);
                let from = Included(place(since, NONE));
                let to = match end {
                    Some((at, id)) => Excluded(place(at, id)),
                    None => Included(place(UnixMillis(u64::MAX), TradeId(Uuid::max()))),
                };
                let places = (!is_empty(&from, &to)).then(|| self.trades.range((from, to)).rev());
                places.map(Iterator::peekable)
            })
            .collect();
        std::iter::from_fn(move || {
            let newest = lists.iter_mut().enumerate();
            let newest = newest.filter_map(|(n, list)| list.peek().map(|(.., at, id)| ((*at, *id), n)));
            let (_, n) = newest.max()?;
            lists[n].next().map(|(.., id)| *id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        amount::{Price, Quantity},
        exchange::testing::network,
        identity::{MasterKey, PublicKey, Signed},
        market::{Bid, Terms, TradeReceipt},
    };
    use proptest::prelude::*;
    use std::time::Duration;

    fn id(at: u64, n: u64) -> Uuid {
        Uuid::from_u128((u128::from(at) << 80) | u128::from(n))
    }

    fn trade(n: u64, at: u64, currency: &str, side: Side) -> TradeReceipt {
        let (maker, taker) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        let bid = Bid {
            network: network(),
            id: BidId(id(at, n)),
            bidder: taker.client_key().public(),
            maker: maker.client_key().public(),
            offer_id: crate::market::OfferId(Uuid::nil()),
            offer_hash: crate::bep44::Target([0; 20]),
            terms: Terms {
                side,
                btc_quantity: Quantity::from_units(1).unwrap(),
                offer_price: Price::from_units(1).unwrap(),
                currency: currency.parse().unwrap(),
            },
            price: Price::from_units(1).unwrap(),
            created_at: UnixMillis(at),
            valid_until: UnixMillis(at).plus(Duration::from_secs(1)),
        };
        let bid = Signed::sign(&taker.client_key(), bid);
        TradeReceipt::accept(&maker.client_key(), TradeId(id(at, n)), bid, UnixMillis(at))
    }

    fn wanted() -> impl Strategy<Value = TradesWanted> {
        let side = prop_oneof![Just(None), Just(Some(Side::Sell)), Just(Some(Side::Buy))];
        let currency = prop_oneof![Just(None), Just(Some("USD")), Just(Some("EUR"))];
        let time = || proptest::option::of((0..12_u64).prop_map(UnixMillis));
        (any::<Option<bool>>(), side, currency, time(), time()).prop_map(
            |(as_maker, side, currency, since, until)| TradesWanted {
                as_maker,
                side,
                currency: currency.map(|code| code.parse().unwrap()),
                span: Span { since, until },
            },
        )
    }

    proptest! {
        #[test]
        fn trades_are_those_that_a_scan_finds_whatever_is_asked_and_wherever_it_goes_on(
            kinds in proptest::collection::vec((0..10_u64, any::<bool>(), any::<bool>(), any::<bool>()), 0..40),
            wanted in wanted(), from in 0..40_usize,
        ) {
            let mut lists = Lists::default();
            let mut all = Vec::new();
            for (n, (at, usd, buys, as_maker)) in kinds.into_iter().enumerate() {
                let side = if buys { Side::Buy } else { Side::Sell };
                let receipt = trade(n as u64, at, if usd { "USD" } else { "EUR" }, side);
                lists.add_trade(receipt.trade(), as_maker);
                all.push((receipt, as_maker));
            }
            all.sort_by_key(|(receipt, _)| std::cmp::Reverse((receipt.trade().executed_at, receipt.trade().id)));
            let scan: Vec<_> = all.iter().filter(|(receipt, as_maker)| {
                let trade = receipt.trade();
                wanted.as_maker.is_none_or(|wanted| wanted == *as_maker)
                    && wanted.side.is_none_or(|side| side == trade.terms.side)
                    && wanted.currency.is_none_or(|currency| currency == trade.terms.currency)
                    && wanted.span.holds(trade.executed_at)
            }).map(|(receipt, _)| (receipt.trade().executed_at, receipt.trade().id)).collect();
            let before = scan.get(from).copied();
            let rest = if before.is_some() { &scan[from + 1..] } else { &scan[..] };
            let found: Vec<_> = lists.trades(wanted, before).collect();
            prop_assert_eq!(found, rest.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            for (receipt, as_maker) in &all {
                lists.remove_trade(receipt.trade(), *as_maker);
            }
            prop_assert_eq!(lists, Lists::default());
        }

        #[test]
        fn bids_are_those_that_a_scan_finds_in_doubt_first(
            kinds in proptest::collection::vec((0..10_u64, 0..4_usize, 0..3_u8), 0..40),
            state in proptest::option::of(0..4_usize), maker in proptest::option::of(0..3_u8),
            since in proptest::option::of(0..12_u64), until in proptest::option::of(0..12_u64), from in 0..40_usize,
        ) {
            let (mut lists, mut all) = (Lists::default(), Vec::new());
            for (n, (at, state, maker)) in kinds.into_iter().enumerate() {
                let (state, bid) = (BidState::ALL[state], BidId(id(at, n as u64)));
                lists.bids_out.insert((state, bid));
                lists.bids_of_maker.insert((PublicKey([maker; 32]), state, bid));
                lists.bids_in.insert((state, UnixMillis(at), PublicKey([maker; 32]), bid));
                all.push((state, at, maker, bid));
            }
            all.sort_by_key(|(state, at, maker, bid)| (*state, std::cmp::Reverse((*at, *maker, *bid))));
            let span = Span { since: since.map(UnixMillis), until: until.map(UnixMillis) };
            let state = state.map(|state| BidState::ALL[state]);
            let wanted = |found: BidState| state.is_none_or(|state| state == found);
            let fits = |(state, at, ..): &&(BidState, u64, u8, BidId)| {
                wanted(*state) && span.holds(UnixMillis(*at))
            };
            let scan: Vec<_> = all.iter().filter(fits).collect();
            let place = |(state, at, maker, bid): &(BidState, u64, u8, BidId)| {
                (*state, UnixMillis(*at), PublicKey([*maker; 32]), *bid)
            };
            let before = scan.get(from).map(|bid| place(bid));
            let rest = if before.is_some() { &scan[from + 1..] } else { &scan[..] };
            let found: Vec<_> = lists.bids_in(wanted, span, before).copied().collect();
            prop_assert_eq!(found, rest.iter().map(|bid| place(bid)).collect::<Vec<_>>());

            // Own bids stand by their ids, which the node makes itself: by time.
            let mut own = all.clone();
            own.retain(|bid| fits(&bid) && maker.is_none_or(|maker| maker == bid.2));
            own.sort_by_key(|(state, _, _, bid)| (*state, std::cmp::Reverse(*bid)));
            let before = own.get(from).map(|(state, .., bid)| (*state, *bid));
            let rest = if before.is_some() { &own[from + 1..] } else { &own[..] };
            let maker = maker.map(|maker| PublicKey([maker; 32]));
            let found: Vec<_> = lists.bids_out(wanted, maker, span, before).collect();
            prop_assert_eq!(found, rest.iter().map(|(.., bid)| *bid).collect::<Vec<_>>());
        }
    }
}
