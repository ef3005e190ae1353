//! Which offers a list shows, newest first, in bounded time.

use super::{
    fields::{Fields, choice},
    page::{Cursor, PageQuery},
    problem::Problem,
};
use crate::{
    amount::{Price, Quantity},
    bep44::Target,
    exchange::{OfferStatus, State},
    http::types::{OfferView, Page},
    market::{Currency, Offer, OfferId, Side},
    time::UnixMillis,
};
use std::{
    fmt,
    ops::Bound::{Excluded, Unbounded},
    str::FromStr,
    sync::Arc,
};
use uuid::Uuid;

/// Offers that one request looks at, at most: about 5 ms. A filter that few pass gives short pages with a cursor.
const SCAN_MAX: usize = 10_000;

/// What a list is asked for.
#[derive(Clone, Debug)]
pub(super) struct OfferQuery {
    mine: Option<bool>,
    /// `None` is all.
    available: Option<bool>,
    side: Option<Side>,
    currency: Option<Currency>,
    price: (Option<Price>, Option<Price>),
    quantity: (Option<Quantity>, Option<Quantity>),
    page: PageQuery<(Uuid, Target)>,
}

const BOOL: [(&str, bool); 2] = [("true", true), ("false", false)];

fn parsed<T: FromStr<Err: fmt::Display>>(text: String) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl OfferQuery {
    /// Reads the query of `GET /offers`.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let availability = [("true", Some(true)), ("false", Some(false)), ("all", None)];
        let read = Self {
            mine: fields.optional("mine", |text| choice(&text, &BOOL)),
            available: fields
                .optional("availability", |text| choice(&text, &availability))
                .unwrap_or(Some(true)),
            side: fields.optional("side", |text| choice(&text, &[("sell", Side::Sell), ("buy", Side::Buy)])),
            currency: fields.optional("currency", parsed),
            price: (fields.optional("min_price", parsed), fields.optional("max_price", parsed)),
            quantity: (fields.optional("min_quantity", parsed), fields.optional("max_quantity", parsed)),
            page: PageQuery::take(&mut fields),
        };
        fields.finish()?;
        Ok(read)
    }

    fn passes(&self, state: &State, offer: &Offer, now: UnixMillis) -> bool {
        fn within<T: Ord>(value: &T, (min, max): &(Option<T>, Option<T>)) -> bool {
            min.as_ref().is_none_or(|min| value >= min) && max.as_ref().is_none_or(|max| value <= max)
        }
        let mine = || state.own.get(&offer.id).is_some_and(|own| own.offer.target() == offer.target());
        let open = || state.status(offer, now) == OfferStatus::Open;
        self.side.is_none_or(|side| side == offer.terms.side)
            && self.currency.is_none_or(|currency| currency == offer.terms.currency)
            && within(&offer.terms.offer_price, &self.price)
            && within(&offer.terms.btc_quantity, &self.quantity)
            && self.mine.is_none_or(|wanted| wanted == mine())
            && self.available.is_none_or(|wanted| wanted == open())
    }

    /// The offers to look at, newest first, from where the cursor stands. The shortest list that holds all that can pass.
    fn candidates<'s>(&self, state: &'s State) -> Box<dyn Iterator<Item = &'s Arc<Offer>> + 's> {
        let before = self.page.before.map(|(id, hash)| (OfferId(id), hash));
        let market = &state.market;
        if self.mine == Some(true) {
            // One offer an id, so the id alone orders them.
            let range = (Unbounded, before.map_or(Unbounded, |(id, _)| Excluded(id)));
            return Box::new(state.own.range(range).rev().map(|(_, own)| &own.offer));
        }
        let range = (Unbounded, before.map_or(Unbounded, Excluded));
        if self.available == Some(true) {
            return Box::new(market.available.range(range).rev().map(|(_, offer)| offer));
        }
        Box::new(market.by_id.range(range).rev().filter_map(|(_, hash)| market.records.get(hash)))
    }

    /// One page.
    pub(super) fn page(&self, state: &State, now: UnixMillis) -> Page<OfferView> {
        let mut items = Vec::new();
        let mut candidates = self.candidates(state).peekable();
        let mut last = None;
        for offer in candidates.by_ref().take(SCAN_MAX) {
            last = Some((offer.id.0, offer.target()));
            if self.passes(state, offer, now) {
                items.push(OfferView::of(state, offer, now));
                if items.len() >= self.page.limit {
                    break;
                }
            }
        }
        let more = candidates.peek().is_some();
        Page { items, next_cursor: last.filter(|_| more).map(|last| last.write()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{Event, OwnOffer},
        identity::{MasterKey, Network},
        market::{Acceptance, IdMint, NewOffer, Terms},
    };
    use std::time::Duration;

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
        let (state, mut cursor, mut items) = (state(), String::new(), Vec::new());
        for _ in 0..100 {
            let page = OfferQuery::read(&format!("{query}{cursor}")).unwrap().page(&state, now);
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
        assert_eq!(count("min_quantity=0.0000001"), 2);
        assert_eq!(count("mine=true&side=sell&max_quantity=0.00000003"), 2);
    }

    #[test]
    fn an_offer_leaves_the_list_the_moment_it_expires() {
        let later = NOW.plus(Duration::from_secs(65));
        assert_eq!(all("limit=2", later).len(), 8);
        assert_eq!(all("availability=false", later).len(), 13);
    }

    #[test]
    fn a_page_that_ends_with_the_list_has_no_cursor() {
        let page = OfferQuery::read("mine=true&limit=10").unwrap().page(&state(), NOW);
        assert_eq!((page.items.len(), page.next_cursor), (10, None));
    }

    #[test]
    fn unknown_and_wrong_parameters_are_refused() {
        for query in [
            "x=1",
            "limit=0",
            "limit=1001",
            "limit=a",
            "mine=yes",
            "side=SELL",
            "min_price=-1",
            "cursor=zz",
            "limit=1&limit=2",
            "currency=usd",
        ] {
            assert!(OfferQuery::read(query).is_err(), "{query}");
        }
    }
}
