//! Which offers a list shows, newest first or by price, in bounded time.

use super::{
    fields::{BOOL, Fields, choice, decimal, parsed},
    page::PageQuery,
    problem::Problem,
};
use crate::{
    amount::{Price, Quantity},
    bep44::Target,
    exchange::{OfferStatus, PricePlace, State},
    http::types::{OfferView, Page},
    identity::ClientId,
    market::{Currency, Offer, OfferId, Side},
    time::UnixMillis,
};
use std::{
    ops::Bound::{self, Excluded, Included, Unbounded},
    sync::Arc,
};
use uuid::Uuid;

/// Offers that one request looks at, at most, once it has found one: about 5 ms.
const SCAN_MAX: usize = 10_000;
/// Makers that a list can leave out.
pub(super) const EXCLUDED_MAX: usize = 16;

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Newest first.
    Newest,
    /// The lowest price first, and of equal ones the oldest.
    Price,
    /// The other way round.
    PriceDown,
}

/// What a list is asked for, but for the page.
#[derive(Clone, Debug)]
struct Wanted {
    mine: Option<bool>,
    /// `None` is all.
    available: Option<bool>,
    /// Also those of makers that are silent.
    stale: bool,
    side: Option<Side>,
    currency: Option<Currency>,
    price: (Option<Price>, Option<Price>),
    quantity: (Option<Quantity>, Option<Quantity>),
    sort: Sort,
    maker: Option<ClientId>,
    /// Makers that are left out.
    excluded: Vec<ClientId>,
}

/// Where an offer stands in a list: its price (which counts where the list is sorted by it), its id, its hash.
type Place = (Price, Uuid, Target);

fn place(offer: &Offer) -> Place {
    (offer.terms.offer_price, offer.id.0, offer.target())
}

/// A list of offers, and which page of it.
#[derive(Clone, Debug)]
pub(super) struct OfferQuery {
    wanted: Wanted,
    page: PageQuery<Place>,
}

type Candidates<'s> = Box<dyn Iterator<Item = &'s Arc<Offer>> + 's>;

impl OfferQuery {
    /// Reads the query of `GET /offers`.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let availability = [("true", Some(true)), ("false", Some(false)), ("all", None)];
        let sorts = [("price", Sort::Price), ("-price", Sort::PriceDown)];
        let wanted = Wanted {
            mine: fields.optional("mine", |text| choice(&text, &BOOL)),
            available: fields
                .optional("availability", |text| choice(&text, &availability))
                .unwrap_or(Some(true)),
            stale: fields.optional("include", |text| choice(&text, &[("stale", true)])).unwrap_or(false),
            side: fields.optional("side", |text| choice(&text, &[("sell", Side::Sell), ("buy", Side::Buy)])),
            currency: fields.optional("currency", parsed),
            price: (
                fields.optional("min_price", |text| decimal(&text)),
                fields.optional("max_price", |text| decimal(&text)),
            ),
            quantity: (
                fields.optional("min_quantity", |text| decimal(&text)),
                fields.optional("max_quantity", |text| decimal(&text)),
            ),
            sort: fields.optional("sort", |text| choice(&text, &sorts)).unwrap_or(Sort::Newest),
            maker: fields.optional("client_id", parsed),
            excluded: fields.optional("exclude", makers).unwrap_or_default(),
        };
        if wanted.sort != Sort::Newest && fields.is_right() {
            if wanted.currency.is_none() {
                fields.refuse("sort", "needs `currency`: prices in different currencies have no order");
            } else if wanted.available != Some(true) && wanted.mine != Some(true) {
                fields.refuse("sort", "is of offers that can be taken, or of own ones: leave `availability` out, or ask for `mine=true`");
            }
        }
        let page = PageQuery::take(&mut fields, &("offers", &wanted));
        fields.finish()?;
        Ok(Self { wanted, page })
    }

    fn passes(&self, state: &State, offer: &Offer, now: UnixMillis) -> bool {
        fn within<T: Ord>(value: &T, (min, max): &(Option<T>, Option<T>)) -> bool {
            min.as_ref().is_none_or(|min| value >= min) && max.as_ref().is_none_or(|max| value <= max)
        }
        let wanted = &self.wanted;
        let mine = || state.own.get(&offer.id).is_some_and(|own| own.offer.target() == offer.target());
        let open = || state.status(offer, now) == OfferStatus::Open;
        wanted.maker.is_none_or(|maker| maker == offer.client_id)
            && !wanted.excluded.contains(&offer.client_id)
            && wanted.side.is_none_or(|side| side == offer.terms.side)
            && wanted.currency.is_none_or(|currency| currency == offer.terms.currency)
            && within(&offer.terms.offer_price, &wanted.price)
            && within(&offer.terms.btc_quantity, &wanted.quantity)
            && wanted.mine.is_none_or(|wanted| wanted == mine())
            && wanted.available.is_none_or(|wanted| wanted == open())
            && (wanted.stale || !state.market.is_stale(offer))
    }

    /// The offers to look at, in their order, from where the cursor stands. The shortest list that holds all that can pass.
    fn candidates<'s>(&self, state: &'s State, now: UnixMillis) -> Candidates<'s> {
        match (self.wanted.sort, self.wanted.currency) {
            (Sort::Price | Sort::PriceDown, Some(_)) if self.wanted.mine == Some(true) => {
                self.own_by_price(state, now)
            }
            (Sort::Price | Sort::PriceDown, Some(currency)) => self.by_price(state, currency),
            _ => self.of_maker(state).unwrap_or_else(|| self.newest(state)),
        }
    }

    /// One maker's, newest first, where it has few enough to be put in order for each page.
    fn of_maker<'s>(&self, state: &'s State) -> Option<Candidates<'s>> {
        let before = self.page.before.map(|(_, id, hash)| (OfferId(id), hash));
        let place = |offer: &Offer| (offer.id, offer.target());
        let mut held: Vec<_> = state.market.records_of(self.wanted.maker?).take(SCAN_MAX + 1).collect();
        if held.len() > SCAN_MAX {
            return None;
        }
        held.retain(|offer| before.is_none_or(|before| place(offer) < before));
        held.sort_by_cached_key(|offer| std::cmp::Reverse(place(offer)));
        Some(Box::new(held.into_iter()))
    }

    fn newest<'s>(&self, state: &'s State) -> Candidates<'s> {
        let before = self.page.before.map(|(_, id, hash)| (OfferId(id), hash));
        let market = &state.market;
        if self.wanted.mine == Some(true) {
            // One offer an id, so the id alone orders them.
            let range = (Unbounded, before.map_or(Unbounded, |(id, _)| Excluded(id)));
            return Box::new(state.own.range(range).rev().map(|(_, own)| &own.offer));
        }
        let range = (Unbounded, before.map_or(Unbounded, Excluded));
        if self.wanted.available == Some(true) {
            let fresh = market.available.range(range).rev().map(|(_, offer)| offer);
            if !self.wanted.stale {
                return Box::new(fresh);
            }
            let stale = market.available_stale.range(range).rev().map(|(_, offer)| offer);
            return Box::new(merged(fresh, stale, |one, other| {
                (one.id, one.target()) > (other.id, other.target())
            }));
        }
        Box::new(market.by_id.range(range).rev().filter_map(|(_, hash)| market.records.get(hash)))
    }

    /// What can be taken in one currency, from the index of prices: one side, or both merged.
    fn by_price<'s>(&self, state: &'s State, currency: Currency) -> Candidates<'s> {
        let Wanted { side, price: (min, max), .. } = self.wanted;
        let (before, down) = (self.page.before, self.wanted.sort == Sort::PriceDown);
        let market = &state.market;
        let of_side = |buys: bool| -> Candidates<'s> {
            if side.is_some_and(|side| (side == Side::Buy) != buys) {
                return Box::new(std::iter::empty());
            }
            let at = |(price, id, hash): Place| (currency, buys, price, OfferId(id), hash);
            let lowest = (min.unwrap_or(Price::MIN), Uuid::nil(), Target([0; 20]));
            let highest = (max.unwrap_or(Price::MAX), Uuid::max(), Target([0xff; 20]));
            let offer = |(.., hash): &'s PricePlace| market.records.get(hash);
            if down {
                let end = before
                    .filter(|before| *before <= highest)
                    .map_or(Included(at(highest)), |b| Excluded(at(b)));
                let range = (Included(at(lowest)), end);
                return if is_empty(range) {
                    Box::new(std::iter::empty())
                } else {
                    Box::new(market.by_price.range(range).rev().filter_map(offer))
                };
            }
            let start =
                before.filter(|before| *before >= lowest).map_or(Included(at(lowest)), |b| Excluded(at(b)));
            let range = (start, Included(at(highest)));
            if is_empty(range) {
                Box::new(std::iter::empty())
            } else {
                Box::new(market.by_price.range(range).filter_map(offer))
            }
        };
        Box::new(merged(of_side(false), of_side(true), move |one, other| (place(one) > place(other)) == down))
    }

    /// Own ones are few enough to be put in order for each page.
    fn own_by_price<'s>(&self, state: &'s State, now: UnixMillis) -> Candidates<'s> {
        let down = self.wanted.sort == Sort::PriceDown;
        let before = |offer: &Offer| {
            self.page.before.is_some_and(|at| if down { place(offer) >= at } else { place(offer) <= at })
        };
        let own = state.own.values().map(|own| &own.offer);
        let mut own: Vec<_> = own.filter(|offer| !before(offer) && self.passes(state, offer, now)).collect();
        own.sort_by_cached_key(|offer| place(offer));
        if down {
            own.reverse();
        }
        Box::new(own.into_iter())
    }

    /// One page; `None` where so many offers had to be looked at for the first entry that [`OfferQuery::search`] should.
    pub(super) fn page(&self, state: &State, now: UnixMillis) -> Option<Page<OfferView>> {
        let page = self.look(state, now, SCAN_MAX);
        (!page.items.is_empty() || page.next_cursor.is_none()).then_some(page)
    }

    /// One page, however long its first entry takes: a second in the fullest market there can be. It is empty only where nothing
    /// comes after it.
    pub(super) fn search(&self, state: &State, now: UnixMillis) -> Page<OfferView> {
        self.look(state, now, usize::MAX)
    }

    /// Looks at [`SCAN_MAX`] offers, or, until there is an entry, at `most`.
    fn look(&self, state: &State, now: UnixMillis, most: usize) -> Page<OfferView> {
        let mut items = Vec::new();
        let mut candidates = self.candidates(state, now).peekable();
        let mut last = None;
        for (looked_at, offer) in (1_usize..).zip(candidates.by_ref()) {
            last = Some(place(offer));
            if self.passes(state, offer, now) {
                items.push(OfferView::of(state, offer, now));
            }
            if items.len() >= self.page.limit || looked_at >= if items.is_empty() { most } else { SCAN_MAX } {
                break;
            }
        }
        let more = candidates.peek().is_some();
        Page { items, next_cursor: last.filter(|_| more).map(|last| self.page.cursor(&last)) }
    }
}

/// Client ids with commas between them.
fn makers(text: String) -> Result<Vec<ClientId>, String> {
    let makers: Vec<_> = text.split(',').map(|id| parsed(id.to_owned())).collect::<Result<_, _>>()?;
    if makers.len() > EXCLUDED_MAX {
        return Err(format!("names {} makers; {EXCLUDED_MAX} at most", makers.len()));
    }
    Ok(makers)
}

/// A range that a map would panic at.
fn is_empty((from, to): (Bound<PricePlace>, Bound<PricePlace>)) -> bool {
    match (from, to) {
        (Included(from), Included(to)) => from > to,
        (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from >= to,
        _ => false,
    }
}

/// Two lists as one; no offer is on both.
fn merged<'s>(
    one: impl Iterator<Item = &'s Arc<Offer>>,
    other: impl Iterator<Item = &'s Arc<Offer>>,
    is_first: impl Fn(&Offer, &Offer) -> bool,
) -> impl Iterator<Item = &'s Arc<Offer>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if !is_first(first, second) => other.next(),
        (None, _) => other.next(),
        _ => one.next(),
    })
}

#[cfg(test)]
mod tests;
