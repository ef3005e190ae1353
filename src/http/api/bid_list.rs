//! Which bids a list shows: own ones, or those on own offers; in doubt first.

use super::{
    fields::{Fields, choice, instant, parsed},
    page::{Cursor, PageQuery},
    problem::Problem,
};
use crate::{
    exchange::{BidInPlace, BidState, Span, State},
    http::types::{BidView, Page, Role},
    identity::{ClientId, PublicKey, decode_hex, encode_hex},
    market::{BidId, OfferId},
    time::UnixMillis,
};
use std::{cmp::Reverse, ops::Bound::Included};
use uuid::Uuid;

/// What a list of bids is asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    role: Role,
    state: Option<BidState>,
    offer: Option<OfferId>,
    maker: Option<ClientId>,
    bidder: Option<ClientId>,
    span: Span,
}

/// A list of bids, and which page of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BidQuery {
    wanted: Wanted,
    page: PageQuery<BidInPlace>,
}

impl Cursor for BidInPlace {
    fn write(&self) -> String {
        let (state, at, bidder, id) = self;
        let parts = [&[*state as u8][..], &at.0.to_be_bytes(), &bidder.0, id.0.as_bytes()];
        parts.map(encode_hex).concat()
    }
    fn read(text: &str) -> Option<Self> {
        let (state, text) = text.split_at_checked(2)?;
        let (at, text) = text.split_at_checked(16)?;
        let (bidder, id) = text.split_at_checked(64)?;
        let [state] = decode_hex::<1>(state)?;
        let state = BidState::ALL.into_iter().find(|known| *known as u8 == state)?;
        let at = UnixMillis(u64::from_be_bytes(decode_hex(at)?));
        Some((state, at, PublicKey(decode_hex(bidder)?), BidId(Uuid::from_bytes(decode_hex(id)?))))
    }
}

impl BidQuery {
    /// Reads the query of `GET /bids`.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let states = BidState::ALL.map(|state| (state.as_str(), state));
        let roles = [("taker", Role::Taker), ("maker", Role::Maker)];
        let wanted = Wanted {
            role: fields.optional("role", |text| choice(&text, &roles)).unwrap_or(Role::Taker),
            state: fields.optional("state", |text| choice(&text, &states)),
            offer: fields
                .optional("offer", |text| text.parse().map_err(|_| "is not the UUID of an offer".to_owned())),
            maker: fields.optional("maker", parsed),
            bidder: fields.optional("bidder", parsed),
            span: Span {
                since: fields.optional("since", |text| instant(&text)),
                until: fields.optional("until", |text| instant(&text)),
            },
        };
        let page = PageQuery::take(&mut fields, &("bids", wanted));
        fields.finish()?;
        Ok(Self { wanted, page })
    }

    /// One page, of a node that is `me`.
    pub(super) fn page(&self, state: &State, me: ClientId) -> Page<BidView> {
        let (mut items, mut last) = (Vec::new(), None);
        let mut places = self.places(state, me);
        for place in places.by_ref().take(self.page.limit) {
            last = Some(place);
            let (_, _, bidder, id) = place;
            items.extend(match self.wanted.role {
                Role::Taker => state.bids_out.get(&id).map(|bid| BidView::out(state, bid)),
                Role::Maker => state.bids_in.get(&(bidder, id)).map(|bid| BidView::incoming(bid)),
            });
        }
        let more = places.next().is_some();
        Page { items, next_cursor: last.filter(|_| more).map(|last| self.page.cursor(&last)) }
    }

    /// The places of the bids that are shown, from where the cursor stands. Of an own bid its id says when it was made.
    fn places<'s>(&'s self, state: &'s State, me: ClientId) -> Box<dyn Iterator<Item = BidInPlace> + 's> {
        let Wanted { role, offer, maker, bidder, span, .. } = self.wanted;
        let states = move |found| self.wanted.state.is_none_or(|wanted| wanted == found);
        let is_mine = |id: Option<ClientId>| id.is_none_or(|id| id == me);
        match role {
            Role::Taker if !is_mine(bidder) => Box::new(std::iter::empty()),
            Role::Maker if !is_mine(maker) => Box::new(std::iter::empty()),
            Role::Taker if offer.is_none() => {
                let after = self.page.before.map(|(state, _, _, id)| (state, id));
                let ids = state.lists.bids_out(states, maker, span, after);
                Box::new(ids.filter_map(move |id| out_place(state, id)))
            }
            Role::Maker if offer.is_none() && bidder.is_none() => {
                Box::new(state.lists.bids_in(states, span, self.page.before).copied())
            }
            _ => Box::new(self.few(state).into_iter()),
        }
    }

    /// Those on one offer, or of one bidder: found by that, then brought into order.
    fn few(&self, state: &State) -> Vec<BidInPlace> {
        let Wanted { role, offer, maker, bidder, span, .. } = self.wanted;
        let place = |of: ClientId, id: BidId| match role {
            Role::Taker => out_place(state, id),
            Role::Maker => {
                let bid = state.bids_in.get(&(of, id))?;
                Some((bid.state(), bid.at, of, id))
            }
        };
        let mut places: Vec<BidInPlace> = match (offer, bidder) {
            (Some(offer), _) => {
                let first = Included((offer, BidId(Uuid::nil()), ClientId::SMALLEST));
                let last = Included((offer, BidId(Uuid::max()), ClientId::LARGEST));
                let all = state.bids_by_offer.range((first, last));
                all.filter_map(|(_, id, of)| place(*of, *id)).collect()
            }
            (None, Some(bidder)) => {
                let (first, last) = (BidId(Uuid::nil()), BidId(Uuid::max()));
                let all = state.bids_in.range((Included((bidder, first)), Included((bidder, last))));
                all.filter_map(|((of, id), _)| place(*of, *id)).collect()
            }
            (None, None) => Vec::new(),
        };
        let made_by = |id: &BidId| state.bids_out.get(id).map(|bid| bid.bid.maker);
        places.retain(|(found, at, of, id)| {
            self.wanted.state.is_none_or(|wanted| wanted == *found)
                && span.holds(*at)
                && bidder.is_none_or(|bidder| bidder == *of)
                && (role == Role::Maker || maker.is_none_or(|maker| made_by(id) == Some(maker)))
        });
        let order = |(state, at, of, id): &BidInPlace| match role {
            Role::Taker => (*state, Reverse((UnixMillis(0), ClientId::SMALLEST, *id))),
            Role::Maker => (*state, Reverse((*at, *of, *id))),
        };
        places.sort_unstable_by_key(order);
        if let Some(before) = self.page.before {
            places.retain(|place| order(place) > order(&before));
        }
        places.truncate(self.page.limit + 1);
        places
    }
}

fn out_place(state: &State, id: BidId) -> Option<BidInPlace> {
    let bid = state.bids_out.get(&id)?;
    Some((bid.outcome.state(), bid.bid.created_at, bid.bid.bidder, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bep44::Target,
        exchange::{BidIn, BidOut, BidOutcome, Event, Refusal, RefusalCode},
        identity::{MasterKey, Signed},
        market::{Bid, IdMint, Side, Terms},
    };
    use std::{sync::Arc, time::Duration};

    const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

    fn client(seed: u8) -> ClientId {
        MasterKey::from_bytes([seed; 32]).client_key().public()
    }

    fn offer(n: u64) -> OfferId {
        IdMint::default().next(&"test".parse().unwrap(), &client(9), NOW.plus(Duration::from_secs(n)))
    }

    fn bid(n: u64, bidder: u8, maker: u8) -> Signed<Bid> {
        let at = NOW.plus(Duration::from_secs(n));
        let bid = Bid {
            network: "test".parse().unwrap(),
            id: BidId(Uuid::from_u128((u128::from(at.0) << 80) | u128::from(n))),
            bidder: client(bidder),
            maker: client(maker),
            offer_id: offer(n % 4),
            offer_hash: Target([n as u8; 20]),
            terms: Terms {
                side: Side::Sell,
                btc_quantity: "1".parse().unwrap(),
                offer_price: "1".parse().unwrap(),
                currency: "USD".parse().unwrap(),
            },
            price: "1".parse().unwrap(),
            created_at: at,
            valid_until: at.plus(Duration::from_mins(5)),
        };
        Signed::sign(&MasterKey::from_bytes([bidder; 32]).client_key(), bid)
    }

    fn refusal() -> Refusal {
        Refusal { code: RefusalCode::Refused, detail: "no".into() }
    }

    /// Own bids 0 to 19 on offers of two makers, and bids 20 to 39 of two others on own offers.
    fn state() -> State {
        let mut state = State::of(client(1));
        for n in 0..20 {
            let outcome = match n % 3 {
                0 => BidOutcome::InDoubt,
                1 => BidOutcome::GivenUp { at: NOW },
                _ => BidOutcome::Refused(refusal()),
            };
            let bid = bid(n, 1, if n < 10 { 2 } else { 3 });
            state.apply(&Event::BidOut(Arc::new(BidOut { bid, outcome })));
        }
        for n in 20..40 {
            let (bid, at) = (bid(n, if n < 30 { 4 } else { 5 }, 1), NOW.plus(Duration::from_secs(n)));
            state.apply(&Event::BidIn(Arc::new(BidIn { bid, answer: Err(refusal()), at })));
        }
        state
    }

    fn all(query: &str) -> Vec<BidView> {
        let (state, mut cursor, mut items) = (state(), String::new(), Vec::new());
        for _ in 0..100 {
            let page = BidQuery::read(&format!("{query}{cursor}")).unwrap().page(&state, client(1));
            assert!(!page.items.is_empty() || page.next_cursor.is_none(), "an empty page with a cursor");
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
        panic!("the list has no end")
    }

    #[test]
    fn pages_of_every_size_show_each_bid_once_those_in_doubt_first() {
        let whole = all("limit=1000");
        assert_eq!(whole.len(), 20);
        let order = |bid: &BidView| (bid.status, Reverse(bid.created_at));
        assert!(whole.windows(2).all(|w| order(&w[0]) < order(&w[1])));
        assert!(whole.iter().all(|bid| bid.mine) && whole[0].status.as_str() == "in_doubt");
        for limit in [1, 3, 7, 19, 20] {
            assert_eq!(all(&format!("limit={limit}")), whole);
            assert_eq!(all(&format!("role=maker&limit={limit}")), all("role=maker"));
        }
        assert!(all("role=maker").iter().all(|bid| !bid.mine && bid.received_at.is_some()));
    }

    #[test]
    fn filters_keep_what_they_say_and_page_as_well() {
        let (second, third) = (client(2), client(3));
        let cases = [
            ("state=in_doubt".into(), 7),
            ("state=given_up".into(), 7),
            ("state=accepted".into(), 0),
            (format!("maker={second}"), 10),
            (format!("maker={third}&state=refused"), 3),
            (format!("offer={}", offer(1).0), 5),
            (format!("offer={}&state=in_doubt", offer(0).0), 2),
            (format!("offer={}&maker={second}", offer(1).0), 3),
            (format!("bidder={}", client(1)), 20),
            (format!("bidder={second}"), 0),
            (format!("since={}", NOW.plus(Duration::from_secs(15))), 5),
            (format!("until={}&maker={second}", NOW.plus(Duration::from_secs(3))), 3),
            (format!("offer={}&since={}", offer(1).0, NOW.plus(Duration::from_secs(5))), 4),
            ("role=maker".into(), 20),
            ("role=maker&state=in_doubt".into(), 0),
            (format!("role=maker&bidder={}", client(4)), 10),
            (format!("role=maker&bidder={}&offer={}", client(4), offer(1).0), 3),
            (format!("role=maker&offer={}", offer(1).0), 5),
            (format!("role=maker&maker={second}"), 0),
            (format!("role=maker&since={}", NOW.plus(Duration::from_secs(38))), 2),
        ];
        for (query, count) in cases {
            let query = query.replace('+', "%2B");
            let found = all(&query);
            assert_eq!(found.len(), count, "{query}");
            assert_eq!(all(&format!("{query}&limit=1")), found, "{query}");
            let order = |bid: &BidView| (bid.status, Reverse(bid.created_at));
            assert!(found.windows(2).all(|w| order(&w[0]) < order(&w[1])), "{query}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_filters() {
        let state = state();
        let page = BidQuery::read("state=in_doubt&limit=1").unwrap().page(&state, client(1));
        let cursor = page.next_cursor.unwrap();
        assert!(BidQuery::read(&format!("state=in_doubt&limit=5&cursor={cursor}")).is_ok());
        for other in ["", "state=refused&", "role=maker&"] {
            let problem = BidQuery::read(&format!("{other}cursor={cursor}")).unwrap_err();
            assert!(format!("{problem:?}").contains("other filters"), "{problem:?}");
        }
    }

    #[test]
    fn unknown_and_wrong_parameters_are_refused() {
        for query in ["x=1", "state=open", "role=me", "offer=1", "maker=1", "since=yesterday", "cursor=zz"] {
            assert!(BidQuery::read(query).is_err(), "{query}");
        }
    }
}
