use super::*;
use crate::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{Domain, KeyPair, MasterKey, Network},
    market::{Acceptance, Currency, IdMint, NewOffer, Side, Terms},
    time::UnixMillis,
};
use proptest::prelude::*;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
const HOUR: Duration = Duration::from_hours(1);

fn network() -> Network {
    "test".parse().unwrap()
}

fn master() -> MasterKey {
    MasterKey::from_bytes([1; 32])
}

fn offer() -> Offer {
    let new = NewOffer {
        terms: Terms {
            side: Side::Sell,
            btc_quantity: "1".parse().unwrap(),
            offer_price: "100".parse().unwrap(),
            currency: Currency::USD,
        },
        acceptance: Acceptance::First,
        expires_at: NOW.plus(HOUR),
        dies_at: NOW.plus(2 * HOUR),
        memo: None,
    };
    let id = IdMint::default().next(&network(), &master().client_key().public(), NOW);
    Offer::create(&master(), &network(), id, new, NOW).unwrap()
}

/// What a cheat signs, as everybody else reads it.
fn signed(key: &KeyPair, offer: &Offer, change: impl FnOnce(&mut OfferBody)) -> Offer {
    let mut body: OfferBody = (**offer).clone();
    change(&mut body);
    let v = bencode_bytes(&serde_json::to_vec(&body).unwrap());
    let item = VerifiedItem::sign(key, b"", body.sequence as i64, v).unwrap();
    Offer::read(item, &network(), None).unwrap()
}

fn later(offer: &Offer, change: impl FnOnce(&mut OfferBody)) -> Offer {
    signed(&master().record_key(offer.id.0), offer, |body| {
        body.sequence += 1;
        change(body);
    })
}

fn namesake(offer: &Offer) -> Offer {
    let other = MasterKey::from_bytes([9; 32]).record_key(offer.id.0);
    let statement = [&other.public().0[..], offer.id.0.as_bytes()].concat();
    let proof = Domain { network: &network(), kind: "proof" }.sign(&master().client_key(), &statement);
    signed(&other, offer, |body| body.proof = proof)
}

#[test]
fn what_is_fixed_does_not_change_whatever_the_sequence() {
    type Change = fn(&mut OfferBody);
    let first = offer();
    let changes: [Change; 4] = [
        |body| body.terms.side = Side::Buy,
        |body| body.terms.currency = "EUR".parse().unwrap(),
        |body| body.dies_at = body.dies_at.minus(Duration::from_millis(1)),
        |body| {
            body.id = IdMint::default().next(&network(), &body.client_id, NOW.plus(Duration::from_secs(1)));
            body.sequence += 5_000;
            let key = master().record_key(offer().id.0).public();
            let statement = [&key.0[..], body.id.0.as_bytes()].concat();
            let domain = Domain { network: &network(), kind: "proof" };
            body.proof = domain.sign(&master().client_key(), &statement);
        },
    ];
    for change in changes {
        let second = later(&first, change);
        for (one, other) in [(&first, &second), (&second, &first)] {
            assert_eq!(one.contradicts(other), Some(Contradiction::Fixed), "{:?}", second.terms);
            assert!(one.may_contradict(other.item()));
        }
    }
}

#[test]
fn price_quantity_expiry_and_memo_may_change_and_a_pause_is_no_end() {
    let first = offer();
    let paused = later(&first, |body| body.availability = false);
    let again = later(&paused, |body| body.availability = true);
    let other = later(&again, |body| {
        body.terms.offer_price = "7".parse().unwrap();
        body.terms.btc_quantity = "3".parse().unwrap();
        body.expires_at = Some(NOW.plus(HOUR / 2));
        body.memo = Some("cheap".into());
    });
    let all = [&first, &paused, &again, &other];
    for one in all {
        assert!(all.iter().all(|other| one.contradicts(other).is_none() && !one.is_closed()));
        assert!(!one.may_contradict(first.item()));
    }
    assert!(
        other.reprices(&first) && other.amends(&first) && !again.reprices(&first) && !again.amends(&first)
    );
}

#[test]
fn closed_is_final_also_as_it_was_written_before() {
    let first = offer();
    let closed = first.close(&master(), NOW).unwrap();
    assert!(closed.closed && closed.is_closed());
    // As it was closed before there was `closed`: without `expires_at`.
    let old = signed(&master().record_key(first.id.0), &closed, |body| body.closed = false);
    assert!(!old.closed && old.is_closed());
    for closed in [closed, old] {
        let again = later(&closed, |body| {
            (body.closed, body.availability, body.expires_at) = (false, true, Some(NOW.plus(HOUR)));
        });
        assert_eq!(closed.contradicts(&again), Some(Contradiction::Reopened));
        assert_eq!(again.contradicts(&closed), Some(Contradiction::Reopened));
        assert_eq!(first.contradicts(&closed), None, "it was open before");
        let once_more = closed.close(&master(), NOW.plus(HOUR)).unwrap();
        assert_eq!(closed.contradicts(&once_more), None);
    }
}

#[test]
fn two_records_of_one_id_and_two_values_of_one_sequence_are_proofs() {
    let first = offer();
    let other = namesake(&first);
    assert_ne!(first.target(), other.target());
    assert_eq!(first.contradicts(&other), Some(Contradiction::OneId));
    assert_eq!(other.contradicts(&first), Some(Contradiction::OneId));
    let key = master().record_key(first.id.0);
    let twin = signed(&key, &first, |body| body.memo = Some("another story".into()));
    assert_eq!(first.contradicts(&twin), Some(Contradiction::TwoValues));
    assert_eq!(first.contradicts(&first), None);
    assert!(!first.may_contradict(&MutableItem { v: [0][..].into(), ..(**first.item()).clone() }));
}

#[test]
fn what_is_closed_and_can_be_taken_is_no_offer() {
    let first = offer();
    let mut body: OfferBody = (*first).clone();
    body.closed = true;
    let v = bencode_bytes(&serde_json::to_vec(&body).unwrap());
    let item = VerifiedItem::sign(&master().record_key(first.id.0), b"", body.sequence as i64, v).unwrap();
    let error = Offer::read(item, &network(), None).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
}

proptest! {
    /// Honest makers: whatever they change of what they may, in whatever order it is read, proves nothing.
    #[test]
    fn no_history_of_an_honest_maker_contradicts_itself(
        steps in prop::collection::vec((any::<bool>(), 1_u64..1_000, 1_u64..1_000), 0..6),
        closes in any::<bool>(),
    ) {
        let mut history = vec![offer()];
        for (open, price, quantity) in steps {
            let next = later(history.last().unwrap(), |body| {
                body.availability = open;
                body.terms.offer_price = price.to_string().parse().unwrap();
                body.terms.btc_quantity = quantity.to_string().parse().unwrap();
            });
            history.push(next);
        }
        if closes {
            history.push(history.last().unwrap().close(&master(), NOW).unwrap());
        }
        for one in &history {
            for other in &history {
                prop_assert_eq!(one.contradicts(other), None);
                prop_assert!(!one.may_contradict(other.item()));
            }
        }
    }
}
