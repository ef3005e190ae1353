use super::*;
use crate::exchange::{
    BidAnswer, Input, OfferRef, Refusal,
    testing::{Bench, HOUR, MINUTE, NOW, asked, bid, has_reply, key, network, new_offer, reply, resigned},
};
use crate::market::{NewOffer, Via};

/// A maker, a taker that knows the maker's offer, and the offer.
fn pair() -> (Bench, Bench, Arc<Offer>) {
    let (mut maker, mut taker) = (Bench::new(1), Bench::new(2));
    let offer = maker.create();
    taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
    (maker, taker, offer)
}

fn heard(answer: BidAnswer) -> Heard {
    answer.verify(&network()).unwrap()
}

fn refusal(code: RefusalCode) -> Heard {
    Heard::Refused(Refusal { code, detail: "no".into() })
}

#[test]
fn a_bid_is_stored_sent_answered_and_both_sides_hold_the_same_trade() {
    let (mut maker, mut taker, offer) = pair();
    let output = taker.bid_on(&offer, MINUTE, None);
    let sent = asked(&output).remove(0);
    assert!(!has_reply(&output) && matches!(&output.events[0], Event::BidOut(_)));
    let answer = maker.receives(&sent).unwrap();
    let output = taker.hears(sent.id, Some(heard(answer)));
    assert_eq!(reply(&output), Ok(Done::Bid { bid: sent.id, again: false }));
    assert_eq!(taker.core.state().trades, maker.core.state().trades);
    assert!(taker.core.state().market.available.is_empty());
}

#[test]
fn bids_that_cannot_be_made_are_refused_at_home() {
    let (_, mut taker, offer) = pair();
    let own = taker.create();
    assert_eq!(reply(&taker.bid_on(&own, MINUTE, None)), Err(CommandError::OwnOffer(own.id)));
    let unknown = Bench::new(3).create();
    assert!(matches!(reply(&taker.bid_on(&unknown, MINUTE, None)), Err(CommandError::OfferNotFound(_))));
    let cheap = Input::PlaceBid {
        new: NewBid {
            offer: OfferRef::Hash(offer.target()),
            price: Some("99".parse().unwrap()),
            seen: Seen::default(),
            valid_for: MINUTE,
        },
        wait: MINUTE,
        idempotency: None,
        reply: ReplyTo(2),
    };
    assert!(matches!(reply(&taker.give(cheap)), Err(CommandError::Price { .. })));
    taker.now = NOW.plus(HOUR);
    let expired = reply(&taker.bid_on(&offer, MINUTE, None));
    assert_eq!(expired, Err(CommandError::OfferNotAvailable { offer: offer.id, status: "expired" }));
    assert!(taker.core.state().bids_out.is_empty());
}

#[test]
fn an_offer_that_is_sold_in_an_unknown_way_is_not_bid_on() {
    let (mut maker, mut taker) = (Bench::new(1), Bench::new(2));
    let new = NewOffer { acceptance: Acceptance::Unknown, ..new_offer() };
    let output = maker.give(Input::Create { new, idempotency: None, reply: ReplyTo(0) });
    let Ok(Done::Created { offer, .. }) = reply(&output) else { panic!() };
    let offer = maker.own(offer);
    taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
    let refused = reply(&taker.bid_on(&offer, MINUTE, None));
    assert_eq!(refused, Err(CommandError::AcceptanceUnknown(offer.id)));
}

#[test]
fn a_caller_that_waited_long_enough_is_told_of_the_bid_in_doubt() {
    let (_, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, Duration::from_secs(5), None)).remove(0);
    assert!(!has_reply(&taker.tick(Duration::from_millis(4999))));
    let output = taker.tick(Duration::from_millis(1));
    assert_eq!(reply(&output), Ok(Done::Bid { bid: sent.id, again: false }));
    assert_eq!(taker.core.state().bids_out[&sent.id].outcome, BidOutcome::InDoubt);
    // The answer comes later, and nobody is told twice.
    assert!(!has_reply(&taker.hears(sent.id, Some(refusal(RefusalCode::OfferNotAvailable)))));
}

#[test]
fn the_same_idempotency_key_makes_one_bid_and_tells_everybody_who_waits() {
    let (_, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, MINUTE, Some(key("k", 1)))).remove(0);
    let output = taker.bid_on(&offer, MINUTE, Some(key("k", 1)));
    assert!(asked(&output).is_empty() && !has_reply(&output));
    assert_eq!(
        reply(&taker.bid_on(&offer, MINUTE, Some(key("k", 2)))),
        Err(CommandError::IdempotencyKeyReuse)
    );
    let output = taker.hears(sent.id, Some(refusal(RefusalCode::OfferNotAvailable)));
    assert_eq!(output.effects.iter().filter(|e| matches!(e, Effect::Reply { .. })).count(), 2);
    let again = reply(&taker.bid_on(&offer, MINUTE, Some(key("k", 1))));
    assert_eq!(again, Ok(Done::Bid { bid: sent.id, again: true }));
}

#[test]
fn no_answer_is_asked_again_with_the_same_bid_after_growing_pauses() {
    let (_, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, Duration::ZERO, None)).remove(0);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        taker.hears(sent.id, None);
        let mut pause = Duration::ZERO;
        let again = loop {
            pause += Duration::from_millis(10);
            assert!(pause < ASK_AGAIN_MAX * 2, "it is not asked again");
            let again = asked(&taker.tick(Duration::from_millis(10)));
            if !again.is_empty() {
                break again;
            }
        };
        assert_eq!(again, std::slice::from_ref(&sent));
        pauses.push(pause);
    }
    assert!(pauses[0] < ASK_AGAIN_MIN * 2 && pauses[3] > pauses[0], "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= ASK_AGAIN_MAX.mul_f64(1.26)), "{pauses:?}");
}

#[test]
fn a_bid_in_doubt_is_asked_again_at_once_after_a_restart_and_beyond_its_deadline() {
    let (mut maker, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, MINUTE, None)).remove(0);
    taker.now = sent.valid_until.plus(HOUR);
    assert_eq!(asked(&taker.restart()), std::slice::from_ref(&sent));
    maker.now = taker.now;
    let answer = maker.receives(&sent).unwrap();
    taker.hears(sent.id, Some(heard(answer)));
    let outcome = &taker.core.state().bids_out[&sent.id].outcome;
    assert!(matches!(outcome, BidOutcome::Refused(r) if r.code == RefusalCode::BidExpired), "{outcome:?}");
}

#[test]
fn a_trade_about_another_bid_is_no_answer() {
    let (mut maker, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, MINUTE, None)).remove(0);
    let other = maker.receives(&bid(3, &offer, |_| {})).unwrap();
    let output = taker.hears(sent.id, Some(heard(other)));
    assert!(output.events.is_empty() && output.effects.is_empty());
    assert_eq!(taker.core.counters().answers_mismatched, 1);
    assert_eq!(taker.core.state().bids_in_doubt, 1);
}

#[test]
fn an_answer_stands_whatever_comes_after_it() {
    let (_, mut taker, offer) = pair();
    let sent = asked(&taker.bid_on(&offer, MINUTE, None)).remove(0);
    let output = taker.hears(sent.id, Some(refusal(RefusalCode::OfferNotAvailable)));
    assert!(output.effects.iter().any(|e| matches!(e, Effect::Fetch(t) if *t == offer.target())));
    for late in [None, Some(refusal(RefusalCode::PriceBelowAsk))] {
        assert!(taker.hears(sent.id, late).events.is_empty());
    }
}

#[test]
fn only_so_many_callers_wait_for_one_bid() {
    let (_, mut taker, offer) = pair();
    taker.bid_on(&offer, MINUTE, Some(key("k", 1)));
    for _ in 1..WAITERS_A_BID_MAX {
        assert!(!has_reply(&taker.bid_on(&offer, MINUTE, Some(key("k", 1)))));
    }
    assert!(has_reply(&taker.bid_on(&offer, MINUTE, Some(key("k", 1)))));
}

#[test]
fn callers_of_a_core_that_is_thrown_away_are_told_what_is_stored() {
    let (_, mut taker, offer) = pair();
    let stored = asked(&taker.bid_on(&offer, MINUTE, None)).remove(0);
    let log = taker.log.clone();
    taker.bid_on(&offer, MINUTE, None);
    taker.log = log;
    let old = std::mem::replace(&mut taker.core, Bench::new(2).core);
    taker.restart();
    let mut output = Output::default();
    taker.core.take_over_callers(old.waiting, &mut output);
    let replies: Vec<_> = output
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Reply { reply, .. } => reply.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(replies.len(), 2);
    assert!(replies.contains(&Ok(Done::Bid { bid: stored.id, again: false })));
    assert!(replies.contains(&Err(CommandError::StorageFull)));
}

#[test]
fn a_maker_that_is_back_is_asked_at_once_and_only_once() {
    let (mut maker, mut taker) = (Bench::new(1), Bench::new(2));
    let offer = maker.create();
    taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
    let bid = asked(&taker.bid_on(&offer, Duration::ZERO, None)).remove(0);
    for _ in 0..20 {
        taker.hears(bid.id, None);
        taker.tick(MINUTE);
    }
    taker.hears(bid.id, None);
    let back = |stale| Input::Stale { maker: offer.client_id, stale };
    assert!(asked(&taker.give(back(true))).is_empty());
    for times in [1, 0, 0] {
        taker.give(back(true));
        assert_eq!(asked(&taker.give(back(false))).len(), times, "it is under way");
    }
    taker.hears(bid.id, None);
    let next = taker.core.next_timeout().unwrap();
    taker.now = next;
    assert_eq!(asked(&taker.tick(Duration::ZERO)).len(), 1);
    taker.hears(bid.id, None);
    assert!(taker.core.next_timeout().unwrap() > next.plus(MINUTE), "there is one timer, not one a return");
}

/// A taker that holds an offer of each of these makers.
fn market(makers: impl IntoIterator<Item = u8>) -> (Bench, Vec<Arc<Offer>>) {
    let mut taker = Bench::new(2);
    let offers = makers.into_iter().map(|seed| {
        let offer = Bench::new(seed).create();
        taker.give(Input::Record(Arc::clone(&offer), Via::Dht));
        offer
    });
    let offers = offers.collect();
    (taker, offers)
}

#[test]
fn one_maker_has_an_eighth_of_the_bids_in_doubt_and_others_the_rest() {
    let (mut taker, offers) = market([10, 11]);
    let bid = |taker: &mut Bench, n: usize| reply(&taker.bid_on(&offers[n], Duration::ZERO, None));
    let share = BIDS_IN_DOUBT_MAX / BIDS_IN_DOUBT_SHARE;
    for _ in 0..share {
        bid(&mut taker, 0).unwrap();
    }
    let maker = offers[0].client_id;
    let full = Err(CommandError::MakerLimit { maker, held: share, max: share });
    assert_eq!(bid(&mut taker, 0), full);
    bid(&mut taker, 1).unwrap();
    assert_eq!(taker.core.state().bids_in_doubt_of[&maker], share);
    // What another has, it has not; each answer is a place.
    let first: Vec<BidId> = taker.core.state().bids_out.keys().take(2).copied().collect();
    for id in first {
        assert!(bid(&mut taker, 0).is_err());
        taker.hears(id, Some(refusal(RefusalCode::OfferNotAvailable)));
    }
    bid(&mut taker, 0).unwrap();
    assert!(bid(&mut taker, 0).is_err());
    // And over a restart.
    taker.restart();
    assert!(bid(&mut taker, 0).is_err() && bid(&mut taker, 1).is_ok());
}

#[test]
fn a_bid_is_asked_first_once_and_after_a_restart_never() {
    let (_, mut taker, offer) = pair();
    let turns = |output: &Output| {
        let turns = output.effects.iter().filter_map(|effect| match effect {
            Effect::Ask(_, turn) => Some(*turn),
            _ => None,
        });
        turns.collect::<Vec<_>>()
    };
    let output = taker.bid_on(&offer, Duration::ZERO, None);
    assert_eq!(turns(&output), [Turn::First]);
    taker.hears(asked(&output)[0].id, None);
    taker.now = taker.core.next_timeout().unwrap();
    assert_eq!(turns(&taker.tick(Duration::ZERO)), [Turn::Again]);
    assert_eq!(turns(&taker.restart()), [Turn::Again]);
}

/// Bids on `offer` for what `seen` says, and for nothing else.
fn bid_as_seen(taker: &mut Bench, offer: &Offer, price: Option<&str>, seen: Seen) -> Result<(), String> {
    let price = price.map(|price| price.parse().unwrap());
    let new = NewBid { offer: OfferRef::Hash(offer.target()), price, seen, valid_for: MINUTE };
    let bid = Input::PlaceBid { new, wait: Duration::ZERO, idempotency: None, reply: ReplyTo(2) };
    match reply(&taker.give(bid)) {
        Ok(_) => Ok(()),
        Err(CommandError::TermsChanged { why, .. }) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_bid_is_for_what_its_owner_saw_or_not_made() {
    let (_, mut taker, offer) = pair();
    let all = Seen {
        sequence: Some(offer.sequence),
        side: Some(Side::Sell),
        btc_quantity: Some(offer.terms.btc_quantity),
        currency: Some(offer.terms.currency),
    };
    for (other, says) in [
        (Seen { sequence: Some(7), ..all }, "names sequence 7"),
        (Seen { side: Some(Side::Buy), ..all }, "says that it buys"),
        (Seen { btc_quantity: "2".parse().ok(), ..all }, "names 2"),
        (Seen { currency: "EUR".parse().ok(), ..all }, "names EUR"),
    ] {
        let why = bid_as_seen(&mut taker, &offer, None, other).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
    assert!(taker.core.state().bids_out.is_empty());
    assert_eq!(bid_as_seen(&mut taker, &offer, None, all), Ok(()));
    assert_eq!(
        bid_as_seen(&mut taker, &offer, None, Seen::default()),
        Ok(()),
        "a first listing is no change"
    );
}

#[test]
fn after_a_change_a_bid_that_does_not_say_what_its_owner_saw_waits() {
    let (maker, mut taker, offer) = pair();
    let changed = resigned(&maker.master, &offer, |body| {
        body.sequence += 1;
        body.memo = Some("cash only".into());
    });
    taker.give(Input::Record(Arc::clone(&changed), Via::Dht));
    let nothing = Seen::default();
    assert!(bid_as_seen(&mut taker, &changed, None, nothing).unwrap_err().contains("new version"));
    assert!(bid_as_seen(&mut taker, &changed, Some("100"), nothing).is_err(), "a price alone says little");
    let named = Seen { sequence: Some(changed.sequence), ..nothing };
    assert_eq!(bid_as_seen(&mut taker, &changed, None, named), Ok(()));
    let side = Seen { side: Some(Side::Sell), ..nothing };
    assert!(bid_as_seen(&mut taker, &changed, Some("100"), side).is_err(), "nor does a side");
    let terms = Seen { btc_quantity: Some(offer.terms.btc_quantity), ..side };
    assert_eq!(bid_as_seen(&mut taker, &changed, None, terms), Ok(()));
    taker.now = taker.now.plus(CHANGE_IS_NEWS_FOR);
    assert_eq!(bid_as_seen(&mut taker, &changed, None, nothing), Ok(()));
}

#[test]
fn what_changed_by_a_clock_that_was_wrong_is_no_news_once_it_is_right() {
    let (maker, mut taker, offer) = pair();
    let changed = resigned(&maker.master, &offer, |body| {
        body.sequence += 1;
        body.memo = Some("cash only".into());
    });
    taker.give(Input::Record(Arc::clone(&changed), Via::Dht));
    assert!(bid_as_seen(&mut taker, &changed, None, Seen::default()).is_err());
    taker.now = taker.now.minus(HOUR);
    assert_eq!(bid_as_seen(&mut taker, &changed, None, Seen::default()), Ok(()));
}

#[test]
fn a_request_that_is_repeated_is_the_bid_that_it_made_whatever_the_offer_is_now() {
    let (maker, mut taker, offer) = pair();
    let seen = Seen { sequence: Some(offer.sequence), ..Seen::default() };
    let new = NewBid { offer: OfferRef::Id(offer.id), price: None, seen, valid_for: MINUTE };
    let bid = |taker: &mut Bench| {
        let (new, idempotency) = (new.clone(), Some(key("k", 1)));
        reply(&taker.give(Input::PlaceBid { new, wait: Duration::ZERO, idempotency, reply: ReplyTo(2) }))
    };
    let Ok(Done::Bid { bid: made, again: false }) = bid(&mut taker) else { panic!() };
    let changed = resigned(&maker.master, &offer, |body| body.sequence += 1);
    taker.give(Input::Record(changed, Via::Dht));
    assert_eq!(bid(&mut taker), Ok(Done::Bid { bid: made, again: true }));
}
