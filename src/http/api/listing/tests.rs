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

fn page(query: &str, state: &State, now: UnixMillis) -> Page<OfferView> {
    let query = OfferQuery::read(query).unwrap();
    query.page(state, now).unwrap_or_else(|| query.search(state, now))
}

fn all_of(state: &State, query: &str, now: UnixMillis) -> Vec<OfferView> {
    let (mut cursor, mut items) = (String::new(), Vec::new());
    for _ in 0..100 {
        let page = page(&format!("{query}{cursor}"), state, now);
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
        let page = page(&query, state, NOW);
        seen.extend(page.items.iter().map(|offer| (offer.id, offer.hash)));
        cursor = page.next_cursor.map_or_else(String::new, |next| format!("&cursor={next}"));
    }
    assert!(seen.len() == 30 && seen.windows(2).all(|w| w[0] > w[1]), "{seen:?}");
}

#[test]
fn one_makers_offers_are_listed_alone_or_left_out_in_every_order() {
    let mut state = state();
    for offer in offers(4, 10) {
        state.apply(&Event::Heard(offer));
    }
    let [mine, theirs, others, nobody] =
        [1, 2, 4, 5].map(|seed| MasterKey::from_bytes([seed; 32]).client_key().public());
    let makers = |query: &str| -> Vec<_> {
        let items = all_of(&state, query, NOW);
        let places: Vec<_> = items.iter().map(|offer| (offer.id, offer.hash)).collect();
        assert!(query.contains("sort") || places.is_sorted_by(|one, other| one > other), "{query}");
        let of: BTreeSet<_> = items.iter().map(|offer| offer.client_id).collect();
        let all = if query.contains("side") { 5 } else { 10 };
        assert_eq!(items.len(), of.len() * all, "{query}");
        of.into_iter().collect()
    };
    for order in ["limit=3", "limit=3&sort=price&currency=USD", "limit=30&side=sell"] {
        assert_eq!(makers(&format!("{order}&client_id={theirs}")), [theirs]);
        assert_eq!(makers(&format!("{order}&client_id={nobody}")), []);
        assert_eq!(makers(&format!("{order}&exclude={theirs},{mine}")), [others]);
        assert_eq!(makers(&format!("{order}&exclude={theirs}&client_id={theirs}")), []);
        assert_eq!(makers(&format!("{order}&exclude={nobody}")).len(), 3);
    }
    let many = vec![nobody.to_string(); EXCLUDED_MAX + 1].join(",");
    for wrong in [many.as_str(), "", "7,", &nobody.to_string()[1..]] {
        assert!(OfferQuery::read(&format!("exclude={wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn what_few_offers_pass_is_found_behind_any_number_of_others() {
    let mut state = State::default();
    let many = offers(2, SCAN_MAX as u64 + 20);
    let (first, middle) = (Arc::clone(&many[0]), Arc::clone(&many[5]));
    for offer in many {
        state.apply(&Event::Heard(offer));
    }
    for (filter, found) in [
        ("max_quantity=0.00000001", vec![&first]),
        ("max_price=0.000006&min_price=0.000006", vec![&middle]),
        ("currency=EUR", vec![]),
    ] {
        let query = OfferQuery::read(filter).unwrap();
        assert!(query.page(&state, NOW).is_none(), "{filter}: it is not looked for on a thread that serves");
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = page(&format!("{filter}{cursor}"), &state, NOW);
            assert!(!page.items.is_empty() || page.next_cursor.is_none(), "{filter}");
            seen.extend(page.items.iter().map(|offer| offer.hash));
            let Some(next) = page.next_cursor else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, found.iter().map(|offer| offer.target()).collect::<Vec<_>>(), "{filter}");
    }
}

#[test]
fn a_page_that_ends_with_the_list_has_no_cursor() {
    let page = page("mine=true&limit=10", &state(), NOW);
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
    let page = page("currency=USD&sort=price&limit=1", &state(), NOW);
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
