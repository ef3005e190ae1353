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
    market::{Currency, Offer, OfferId, Side},
    time::UnixMillis,
};
use std::{
    ops::Bound::{self, Excluded, Included, Unbounded},
    sync::Arc,
};
use uuid::Uuid;

/// Offers that one request looks at, at most: about 5 ms. A filter that few pass gives short pages with a cursor.
const SCAN_MAX: usize = 10_000;

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
        wanted.side.is_none_or(|side| side == offer.terms.side)
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
            _ => self.newest(state),
        }
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

    /// One page.
    pub(super) fn page(&self, state: &State, now: UnixMillis) -> Page<OfferView> {
        let mut items = Vec::new();
        let mut candidates = self.candidates(state, now).peekable();
        let mut last = None;
        for offer in candidates.by_ref().take(SCAN_MAX) {
            last = Some(place(offer));
            if self.passes(state, offer, now) {
                items.push(OfferView::of(state, offer, now));
                if items.len() >= self.page.limit {
                    break;
                }
            }
        }
        let more = candidates.peek().is_some();
        Page { items, next_cursor: last.filter(|_| more).map(|last| self.page.cursor(&last)) }
    }
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
mod tests {
    use super::*;
    use crate::{
        exchange::{Event, OwnOffer},
        identity::{MasterKey, Network},
        market::{Acceptance, IdMint, NewOffer, Terms},
    };
    use proptest::prelude::*;
    use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

    const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

    fn offers(seed: u8, count: u64) -> Vec<Arc<Offer>> {
        let (master, network) = (MasterKey::from_bytes([seed; 32]), "test".parse::<Network>().unwrap());
        let mut mint = IdMint::default();
        let make = |n| {
            let new = NewOffer {
                terms: Terms {
                    side: if n % 2 == 0 { Side::Sell } else { Side::Buy },
                    btc_quantity: Quantity::from_units(n + 1).unwrap(),
                    offer_price: Price::from_units((n + 1) * 100).unwrap(),
                    currency: Currency::USD,
                },
                acceptance: Acceptance::First,
                expires_at: NOW.plus(Duration::from_secs(60 + n)),
                dies_at: NOW.plus(Duration::from_hours(24)),
                memo: None,
            };
            let id = mint.next(&network, &master.client_key().public(), NOW);
            Arc::new(Offer::create(&master, &network, id, new, NOW).unwrap())
        };
        (0..count).map(make).collect()
    }

    fn state() -> State {
        let mut state = State::default();
        for offer in offers(1, 10) {
            state.apply(&Event::Own(OwnOffer { offer, closed: None, published: None }));
        }
        for offer in offers(2, 10) {
            state.apply(&Event::Heard(offer));
        }
        let mut closed = offers(3, 1).remove(0);
        closed = Arc::new(closed.close(&MasterKey::from_bytes([3; 32]), NOW).unwrap());
        state.apply(&Event::Heard(closed));
        state
    }

    fn all(query: &str, now: UnixMillis) -> Vec<OfferView> {
        all_of(&state(), query, now)
    }

    fn all_of(state: &State, query: &str, now: UnixMillis) -> Vec<OfferView> {
        let (mut cursor, mut items) = (String::new(), Vec::new());
        for _ in 0..100 {
            let page = OfferQuery::read(&format!("{query}{cursor}")).unwrap().page(state, now);
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
        panic!("the list has no end")
    }

    #[test]
    fn pages_of_every_size_show_each_offer_once_newest_first() {
        for limit in [1, 3, 7, 20, 21, 1000] {
            let items = all(&format!("limit={limit}"), NOW);
            assert_eq!(items.len(), 20, "limit {limit}");
            assert!(items.windows(2).all(|w| (w[0].id, w[0].hash) > (w[1].id, w[1].hash)));
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let count = |query: &str| all(query, NOW).len();
        assert_eq!(count("mine=true&limit=3"), 10);
        assert_eq!(count("mine=false"), 10);
        assert_eq!(count("availability=all"), 21);
        assert_eq!(count("availability=false&limit=1"), 1);
        assert_eq!(count("side=buy"), 10);
        assert_eq!(count("currency=EUR"), 0);
        assert_eq!(count("min_price=0.00000200&max_price=0.000003"), 4);
        assert_eq!(count("min_price=2e-6&max_price=3E-06"), 4);
        assert_eq!(count("min_quantity=0.0000001"), 2);
        assert_eq!(count("mine=true&side=sell&max_quantity=0.00000003"), 2);
    }

    #[test]
    fn an_offer_leaves_the_list_the_moment_it_expires() {
        let later = NOW.plus(Duration::from_secs(65));
        assert_eq!(all("limit=2", later).len(), 8);
        assert_eq!(all("availability=false", later).len(), 13);
    }

    /// The maker of `seed` is silent, and nine of its offers could be taken if it were there; a tenth is closed.
    fn state_with_a_silent_maker(seed: u8) -> State {
        let (mut state, mut theirs) = (state(), offers(seed, 10));
        theirs[4] = Arc::new(theirs[4].close(&MasterKey::from_bytes([seed; 32]), NOW).unwrap());
        state.market.stale.insert(theirs[0].client_id);
        for offer in theirs {
            state.apply(&Event::Heard(offer));
        }
        assert_eq!((state.market.available.len(), state.market.available_stale.len()), (20, 9));
        state
    }

    #[test]
    fn offers_of_silent_makers_are_on_no_list_that_does_not_ask_for_them() {
        let state = state_with_a_silent_maker(4);
        let count = |query: &str| {
            let items = all_of(&state, query, NOW);
            (items.iter().filter(|offer| !offer.stale).count(), items.iter().filter(|o| o.stale).count())
        };
        for (query, fresh, stale) in [
            ("limit=2", 20, 9),
            ("availability=all&limit=3", 21, 10),
            ("availability=false&limit=4", 1, 1),
            ("mine=false", 10, 9),
            ("side=buy&limit=1", 10, 5),
            ("min_quantity=0.0000001", 2, 1),
            ("mine=true", 10, 0),
        ] {
            assert_eq!(count(query), (fresh, 0), "{query}");
            assert_eq!(count(&format!("{query}&include=stale")), (fresh, stale), "{query}");
        }
    }

    #[test]
    fn a_cursor_goes_on_where_it_stood_when_a_maker_falls_silent_or_returns() {
        let (silent, mut there) = (state_with_a_silent_maker(4), state());
        for offer in offers(4, 10) {
            there.apply(&Event::Heard(offer));
        }
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        for state in [&silent, &there].into_iter().cycle().take(30) {
            let query = format!("availability=all&include=stale&limit=1{cursor}");
            let page = OfferQuery::read(&query).unwrap().page(state, NOW);
            seen.extend(page.items.iter().map(|offer| (offer.id, offer.hash)));
            cursor = page.next_cursor.map_or_else(String::new, |next| format!("&cursor={next}"));
        }
        assert!(seen.len() == 30 && seen.windows(2).all(|w| w[0] > w[1]), "{seen:?}");
    }

    #[test]
    fn a_page_that_ends_with_the_list_has_no_cursor() {
        let page = OfferQuery::read("mine=true&limit=10").unwrap().page(&state(), NOW);
        assert_eq!((page.items.len(), page.next_cursor), (10, None));
    }

    /// Prices of offers in a list, and whether each is its maker's purchase.
    fn prices(state: &State, query: &str) -> Vec<(u64, bool)> {
        let items = all_of(state, query, NOW).into_iter();
        items.map(|offer| (offer.offer_price.units(), offer.side == Side::Buy.into())).collect()
    }

    #[test]
    fn lists_are_sorted_by_price_both_ways_and_cut_into_pages_of_any_size() {
        let state = state_with_a_silent_maker(4);
        for (query, count) in [
            ("currency=USD", 20),
            ("currency=USD&side=buy", 10),
            ("currency=USD&include=stale", 29),
            ("currency=USD&mine=true", 10),
            ("currency=USD&mine=true&availability=all", 10),
            ("currency=USD&mine=false", 10),
            ("currency=USD&min_price=0.00000300&max_price=0.000006", 8),
            ("currency=USD&min_price=2&max_price=1", 0),
            ("currency=EUR", 0),
        ] {
            let up = prices(&state, &format!("{query}&sort=price"));
            assert_eq!(up.len(), count, "{query}");
            assert!(up.windows(2).all(|w| w[0].0 <= w[1].0), "{query}: {up:?}");
            let mut down = prices(&state, &format!("{query}&sort=-price"));
            for limit in [1, 2, 5, 7] {
                assert_eq!(prices(&state, &format!("{query}&sort=price&limit={limit}")), up, "{query}");
                assert_eq!(prices(&state, &format!("{query}&sort=-price&limit={limit}")), down, "{query}");
            }
            down.reverse();
            assert_eq!(up, down, "{query}");
        }
    }

    #[test]
    fn a_sale_takes_an_offer_off_the_list_by_price_too() {
        let mut state = state();
        let (master, sold) = (MasterKey::from_bytes([2; 32]), offers(2, 1).remove(0));
        assert_eq!(prices(&state, "currency=USD&sort=price&mine=false").len(), 10);
        state.apply(&Event::Heard(Arc::new(sold.close(&master, NOW).unwrap())));
        assert_eq!(prices(&state, "currency=USD&sort=price&mine=false").len(), 9);
        assert_eq!(state.market.by_price.len(), state.market.available.len());
    }

    #[test]
    fn sorting_by_price_needs_one_currency_and_offers_that_have_a_price_today() {
        for (query, why) in [
            ("sort=price", "needs `currency`"),
            ("sort=-price&mine=true", "needs `currency`"),
            ("sort=price&currency=USD&availability=all", "can be taken"),
            ("sort=quantity&currency=USD", "is not one of price, -price"),
        ] {
            let problem = format!("{:?}", OfferQuery::read(query).unwrap_err());
            assert!(problem.contains(why), "{query}: {problem}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_filters_and_order() {
        let page = OfferQuery::read("currency=USD&sort=price&limit=1").unwrap().page(&state(), NOW);
        let cursor = page.next_cursor.unwrap();
        assert!(OfferQuery::read(&format!("currency=USD&sort=price&cursor={cursor}")).is_ok());
        for other in ["currency=USD", "currency=USD&sort=-price", "currency=USD&sort=price&side=buy"] {
            assert!(OfferQuery::read(&format!("{other}&cursor={cursor}")).is_err(), "{other}");
        }
    }

    #[test]
    fn unknown_and_wrong_parameters_are_refused() {
        for query in [
            "x=1",
            "limit=0",
            "limit=1001",
            "limit=a",
            "limit=%2B5",
            "limit=+5",
            "limit=",
            "mine=yes",
            "side=SELL",
            "min_price=-1",
            "cursor=zz",
            "limit=1&limit=2",
            "currency=usd",
            "include=",
            "include=fresh",
            "include=stale&include=stale",
        ] {
            assert!(OfferQuery::read(query).is_err(), "{query}");
        }
    }

    /// Offers of five makers; to sign them takes longer than all the rest.
    static OFFERS: LazyLock<Vec<Arc<Offer>>> = LazyLock::new(|| (1..=5).flat_map(|m| offers(m, 6)).collect());

    proptest! {
        #[test]
        fn pages_are_the_list_cut_in_pieces_whoever_is_silent(
            silent in prop::collection::btree_set(2_usize..=5, 0..4),
            closed in prop::collection::btree_set(6_usize..30, 0..6),
            limit in 1_usize..9,
            availability in prop::sample::select(vec!["true", "false", "all"]),
            include in any::<bool>(),
            buys in any::<bool>(),
        ) {
            let (mut state, mut expected) = (State::default(), BTreeSet::new());
            for maker in &silent {
                state.market.stale.insert(OFFERS[(maker - 1) * 6].client_id);
            }
            for (n, offer) in OFFERS.iter().enumerate() {
                let (maker, open) = (n / 6 + 1, !closed.contains(&n));
                let offer = if open {
                    Arc::clone(offer)
                } else {
                    Arc::new(offer.close(&MasterKey::from_bytes([maker as u8; 32]), NOW).unwrap())
                };
                state.apply(&match maker {
                    1 => Event::Own(OwnOffer { offer: Arc::clone(&offer), closed: None, published: None }),
                    _ => Event::Heard(Arc::clone(&offer)),
                });
                let stale = silent.contains(&maker);
                if (include || !stale)
                    && (availability == "all" || open == (availability == "true"))
                    && (!buys || offer.terms.side == Side::Buy)
                {
                    expected.insert((offer.id, offer.target(), stale));
                }
            }
            let query = format!(
                "limit={limit}&availability={availability}{}{}",
                if include { "&include=stale" } else { "" },
                if buys { "&side=buy" } else { "" },
            );
            let shown = all_of(&state, &query, NOW).into_iter().map(|offer| (offer.id, offer.hash, offer.stale));
            prop_assert_eq!(shown.collect::<Vec<_>>(), expected.into_iter().rev().collect::<Vec<_>>());
        }
    }
}
