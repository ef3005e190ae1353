use super::*;
use crate::market::IdMint;

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);
const DAY: Duration = Duration::from_hours(24);

fn network() -> Network {
    "test".parse().unwrap()
}
fn master(seed: u8) -> MasterKey {
    MasterKey::from_bytes([seed; 32])
}
fn new_offer() -> NewOffer {
    NewOffer {
        terms: Terms {
            side: Side::Sell,
            btc_quantity: "1.5".parse().unwrap(),
            offer_price: "100".parse().unwrap(),
            currency: Currency::USD,
        },
        acceptance: Acceptance::First,
        expires_at: NOW.plus(DAY),
        dies_at: NOW.plus(2 * DAY),
        memo: Some("cash only".into()),
    }
}
fn create(new: NewOffer) -> Result<Offer, RecordError> {
    let master = master(1);
    let id = IdMint::default().next(&network(), &master.client_key().public(), NOW);
    Offer::create(&master, &network(), id, new, NOW)
}
/// Signs a changed JSON with the record's own key, as a cheating maker would.
fn resigned(offer: &Offer, change: impl FnOnce(&mut serde_json::Value)) -> VerifiedItem {
    let mut json: serde_json::Value = serde_json::from_slice(bdecode_bytes(&offer.item.v).unwrap()).unwrap();
    change(&mut json);
    let seq = json["sequence"].as_i64().unwrap_or_default();
    let v = bencode_bytes(&serde_json::to_vec(&json).unwrap());
    VerifiedItem::sign(&master(1).record_key(offer.id.0), b"", seq, v).unwrap()
}

#[test]
fn a_created_offer_reads_back_equal() {
    let offer = create(new_offer()).unwrap();
    assert_eq!(Offer::read(offer.item.clone(), &network(), None).unwrap(), offer);
    assert!(offer.is_available(NOW) && !offer.is_available(NOW.plus(DAY)) && !offer.is_dead(NOW.plus(DAY)));
}

#[test]
fn a_closed_offer_keeps_its_identity_and_nothing_to_take() {
    let offer = create(new_offer()).unwrap();
    let closed = offer.close(&master(1), NOW).unwrap();
    assert_eq!(closed.sequence, offer.sequence + 1);
    assert_eq!((closed.target(), closed.id, closed.terms), (offer.target(), offer.id, offer.terms));
    assert!(!closed.is_available(NOW) && closed.memo.is_none());
    assert_eq!(Offer::read(closed.item.clone(), &network(), Some(&offer)).unwrap(), closed);
}

#[test]
fn a_sequence_never_falls_behind_the_clock_or_itself() {
    let offer = create(new_offer()).unwrap();
    assert_eq!(offer.close(&master(1), NOW.plus(DAY)).unwrap().sequence, NOW.plus(DAY).0);
    assert_eq!(offer.close(&master(1), NOW.minus(DAY)).unwrap().sequence, offer.sequence + 1);
}

#[test]
fn a_record_that_names_another_maker_is_refused() {
    let offer = create(new_offer()).unwrap();
    let other = master(2).client_key().public();
    let stolen = resigned(&offer, |json| json["client_id"] = other.to_string().into());
    assert!(matches!(Offer::read(stolen, &network(), None), Err(RecordError::Field { field: "id", .. })));
    // Also with an id that fits the other maker: then the proof fails.
    let id = IdMint::default().next(&network(), &other, NOW);
    let forged = resigned(&offer, |json| {
        json["client_id"] = other.to_string().into();
        json["id"] = id.to_string().into();
    });
    assert_eq!(Offer::read(forged, &network(), None), Err(RecordError::WrongProof));
}

#[test]
fn a_known_version_saves_the_proof_only_when_it_is_the_same() {
    let offer = create(new_offer()).unwrap();
    let forged = resigned(&offer, |json| json["proof"] = Signature([7; 64]).to_string().into());
    assert_eq!(Offer::read(forged, &network(), Some(&offer)), Err(RecordError::WrongProof));
}

#[test]
fn fields_out_of_range_are_refused() {
    let offer = create(new_offer()).unwrap();
    let far = LIFETIME_MAX.as_millis() as u64 + 1;
    let cases: [(&str, serde_json::Value); 11] = [
        ("v", 2.into()),
        ("kind", "order".into()),
        ("sequence", 5.into()),
        ("sequence", (1u64 << 53).into()),
        ("dies_at", (offer.id.created_at().0 + far).into()),
        ("expires_at", (offer.dies_at.0 + 1).into()),
        ("expires_at", offer.id.created_at().0.into()),
        ("expires_at", serde_json::Value::Null),
        ("memo", "x".repeat(MEMO_BYTES_MAX + 1).into()),
        ("memo", "a\nb".into()),
        ("btc_quantity", "0".into()),
    ];
    for (name, value) in cases {
        let item = resigned(&offer, |json| json[name] = value.clone());
        assert!(Offer::read(item, &network(), None).is_err(), "{name} = {value}");
    }
}

#[test]
fn another_network_and_a_value_that_is_no_json_are_refused() {
    let offer = create(new_offer()).unwrap();
    let other: Network = "other".parse().unwrap();
    assert_eq!(Offer::read(offer.item.clone(), &other, None), Err(RecordError::WrongNetwork("test".into())));
    let key = master(1).record_key(offer.id.0);
    for v in [bencode_bytes(b"hello"), bencode_bytes(b""), b"i5e"[..].into(), b"le"[..].into()] {
        let item = VerifiedItem::sign(&key, b"", 1, v).unwrap();
        assert!(matches!(Offer::read(item, &network(), None), Err(RecordError::Malformed(_))));
    }
}

#[test]
fn unknown_fields_are_ignored_and_an_unknown_acceptance_is_known_as_such() {
    let offer = create(new_offer()).unwrap();
    let item = resigned(&offer, |json| {
        json["colour"] = "red".into();
        json["acceptance"] = "best".into();
    });
    let read = Offer::read(item, &network(), None).unwrap();
    assert_eq!(read.acceptance, Some(Acceptance::Unknown));
}

#[test]
fn the_longest_offer_fits_into_the_limit_of_creation() {
    let longest = NewOffer {
        terms: Terms {
            side: Side::Sell,
            btc_quantity: "20999999.99999999".parse().unwrap(),
            offer_price: "99999999999.99999999".parse().unwrap(),
            currency: "ABCDEFGH".parse().unwrap(),
        },
        memo: Some("\"".repeat(MEMO_BYTES_MAX)),
        ..new_offer()
    };
    let network: Network = "n".repeat(32).parse().unwrap();
    let master = master(1);
    let id = IdMint::default().next(&network, &master.client_key().public(), NOW);
    let offer = Offer::create(&master, &network, id, longest, NOW).unwrap();
    assert!(offer.item.v.len() <= RECORD_BYTES_AT_CREATION_MAX, "{}", offer.item.v.len());
}
