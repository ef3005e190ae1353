//! Signed values: signatures, sequences, cas and salt (BEP44).

use super::*;
use crate::identity::KeyPair;

/// Statement 20: a signed value is stored once its signature was checked; with a bad one it is error 206 and never stored.
#[test]
fn a_signed_value_is_stored_only_when_its_signature_is_good() {
    let mut bench = Bench::new();
    let (five, other) = (signed(1, 5, "five"), signed(2, 5, "five"));
    let mut flipped = five.sig.0;
    flipped[63] ^= 1;
    for sig in [other.sig.0, flipped, [0; 64], signed(1, 6, "five").sig.0, signed(1, 5, "six").sig.0] {
        assert_eq!(bench.put(&five, sig, None), 206);
        assert_eq!(bench.core.local(&five.target()), None);
    }
    assert_eq!(bench.put(&five, five.sig.0, None), 0);
    let answer = bench.ask(2, &Ask::Get { target: &five.target().0 });
    assert_eq!(
        (reply(&answer).v, reply(&answer).signed),
        (Some(&five.v[..]), Some((five.k.0, five.sig.0, 5)))
    );
    let seven = signed(1, 7, "seven");
    assert_eq!(bench.put(&seven, five.sig.0, None), 206);
    assert_eq!(bench.core.local(&five.target()), Some(Item::Mutable(five)), "what was there stays");
}

/// Statement 21: a lower sequence is error 302, and an equal one with another value too.
#[test]
fn an_older_version_or_another_one_of_the_same_number_is_refused() {
    let mut bench = Bench::new();
    let five = signed(1, 5, "five");
    assert_eq!(bench.put(&five, five.sig.0, None), 0);
    for item in [signed(1, 4, "four"), signed(1, 0, "five"), signed(1, 5, "other")] {
        assert_eq!(bench.put(&item, item.sig.0, None), 302, "{}", item.seq);
        assert_eq!(bench.core.local(&five.target()), Some(Item::Mutable(five.clone())));
    }
    let six = signed(1, 6, "six");
    assert_eq!(bench.put(&six, six.sig.0, None), 0);
    assert_eq!(bench.put(&five, five.sig.0, None), 302);
    assert_eq!(bench.core.local(&six.target()), Some(Item::Mutable(six)));
}

/// Statement 22: the very version that is stored is taken again, without another check of its signature, and lives anew.
#[test]
fn an_identical_version_is_a_renewal() {
    let mut bench = Bench::new();
    let five = signed(1, 5, "five");
    assert_eq!(bench.put(&five, five.sig.0, None), 0);
    let checks = bench.core.status().verifications;
    for _ in 0..3 {
        bench.wait(Duration::from_mins(90));
        assert_eq!(bench.put(&five, five.sig.0, None), 0);
        assert_eq!(bench.core.status().verifications, checks, "known bytes are not verified again");
    }
    bench.wait(Duration::from_mins(119));
    assert_eq!(bench.core.local(&five.target()), Some(Item::Mutable(five)));
}

/// Statement 23: a `cas` that is not the stored sequence is error 301, before the sequence is looked at; where nothing is stored
/// it does not matter.
#[test]
fn cas_is_compared_before_the_sequence_and_only_with_what_is_stored() {
    let mut bench = Bench::new();
    let (one, five, six) = (signed(1, 1, "one"), signed(1, 5, "five"), signed(1, 6, "six"));
    assert_eq!(bench.put(&five, five.sig.0, Some(3)), 0, "nothing is stored");
    assert_eq!(bench.put(&one, one.sig.0, Some(1)), 301, "the sequence is too low as well");
    assert_eq!(bench.put(&one, one.sig.0, Some(5)), 302);
    assert_eq!(bench.put(&six, six.sig.0, Some(4)), 301);
    assert_eq!(bench.put(&six, six.sig.0, Some(6)), 301);
    assert_eq!(bench.core.local(&five.target()), Some(Item::Mutable(five.clone())));
    assert_eq!(bench.put(&six, six.sig.0, Some(5)), 0);
    let k = bencode_bytes(&five.k.0);
    let args = [b"3:cas1:51:k", &k[..], b"3:seqi7e3:sig64:", &[0; 64], b"5:token1:x1:v1:x"].concat();
    assert_eq!(code_of(&bench.query(1, "put", &args)), 203, "a cas that is no number");
}

/// Statement 24: a salted value lives under SHA-1 of key and salt, its signature covers the salt, which is not returned; a salt
/// over 64 bytes is error 207, and an empty one is none.
#[test]
fn salted_items_live_apart_and_long_salts_are_refused() {
    let mut bench = Bench::new();
    let key = KeyPair::from_seed(&[1; 32]);
    for salt in [&b"foobar"[..], &[7; 64]] {
        let salted = VerifiedItem::sign(&key, salt, 1, bencode_bytes(b"x")).unwrap();
        let unsalted = VerifiedItem::sign(&key, b"", 1, bencode_bytes(b"x")).unwrap();
        assert_eq!(bench.put(&salted, unsalted.sig.0, None), 206, "the signature covers the salt");
        assert_eq!(bench.put(&salted, salted.sig.0, None), 0);
        let hashed = [&key.public().0[..], salt].concat();
        assert_eq!(salted.target(), Target::of_value(&hashed), "SHA-1 of both");
        assert!(bench.core.local(&salted.target()).is_some());
        assert!(bench.core.local(&key.public().target()).is_none());
        let answer = bench.ask(2, &Ask::Get { target: &salted.target().0 });
        assert!(field(&answer, b"r", b"v").is_some() && field(&answer, b"r", b"salt").is_none());
    }
    let token = bench.token(1);
    let long = SignedArgs { k: key.public().0, sig: [0; 64], seq: 1, salt: &[0; 65] };
    let put = Ask::Put { target: &[0; 20], token: &token, v: b"1:x", signed: Some(long), cas: None };
    assert_eq!(bench.code(1, &put), 207);

    let plain = VerifiedItem::sign(&key, b"", 1, bencode_bytes(b"x")).unwrap();
    let (k, sig, token) = (bencode_bytes(&plain.k.0), bencode_bytes(&plain.sig.0), bencode_bytes(&token));
    let args =
        [b"1:k", &k[..], b"4:salt0:3:seqi1e3:sig", &sig[..], b"5:token", &token[..], b"1:v1:x"].concat();
    assert_eq!(code_of(&bench.query(1, "put", &args)), 0);
    assert_eq!(bench.core.local(&key.public().target()), Some(Item::Mutable(plain)));
}

#[test]
fn who_has_this_version_is_told_only_its_number() {
    let mut bench = Bench::new();
    let item = signed(1, 5, "five");
    bench.put(&item, item.sig.0, None);
    for (seq, value) in [(4, true), (5, false), (6, false)] {
        let mut query = b"d1:ad3:seqi".to_vec();
        query.extend_from_slice(format!("{seq}e6:target").as_bytes());
        write_bytes(&mut query, &item.target().0);
        query.extend_from_slice(b"e1:q3:get1:t1:t1:y1:qe");
        let answer = bench.send(1, &query).unwrap();
        assert_eq!(reply(&answer).v.is_some(), value, "{seq}");
    }
}

#[test]
fn checks_beyond_the_bound_are_refused_and_not_queued() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    for n in 0..=VERIFYING_MAX as u64 {
        let mut k = [0; 32];
        k[..8].copy_from_slice(&n.to_be_bytes());
        let args = SignedArgs { k, sig: [0; 64], seq: 1, salt: b"" };
        let mut put = Vec::new();
        write_query(
            &mut put,
            *b"abcd",
            &ID,
            &Ask::Put { target: &[0; 20], token: &token, v: b"1:x", signed: Some(args), cas: None },
        );
        bench.core.handle(bench.now, Input::Datagram { from: addr(1), bytes: &put });
    }
    let outputs: Vec<_> = std::iter::from_fn(|| bench.core.next_output()).collect();
    assert_eq!(outputs.iter().filter(|o| matches!(o, Output::Verify { .. })).count(), VERIFYING_MAX);
    let (_, last) = bench.core.datagrams().last().unwrap();
    assert!(matches!(decode(last), Some(Message::Error { code: 202, .. })));
}
