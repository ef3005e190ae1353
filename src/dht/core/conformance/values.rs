//! Puts and gets of values as others send them (BEP44).

use super::*;

fn put<'a>(token: &'a [u8], v: &'a [u8]) -> Ask<'a> {
    Ask::Put { target: &[0; 20], token, v, signed: None, cas: None }
}

/// Statement 17: a value of any bencoded type is stored under the SHA-1 of its bytes, and read back as it was sent.
#[test]
fn a_value_of_any_type_is_stored_under_its_hash() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let mut targets = Vec::new();
    for v in [
        "5:hello",
        "0:",
        "i5e",
        "i0e",
        "i-7e",
        "le",
        "li1e1:al1:bee",
        "de",
        "d1:ai1e1:bl1:xd0:leeee",
        "3:\u{e9}x",
    ] {
        assert_eq!(bench.code(1, &put(&token, v.as_bytes())), 0, "{v}");
        let target = Target::of_value(v.as_bytes());
        let answer = bench.ask(2, &Ask::Get { target: &target.0 });
        assert_eq!(field(&answer, b"r", b"v").unwrap().encoded(), v.as_bytes());
        for part in [&b"k"[..], b"seq", b"sig", b"salt"] {
            assert!(field(&answer, b"r", part).is_none());
        }
        targets.push(target);
    }
    assert_eq!(targets[0].to_string(), "e28910ea0adb94dd45ced75fbff3e135c01bc437");
    for v in ["i05e", "i-0e", "01:x", "d1:bi1e1:ai1ee", "d1:ai1e1:ai2ee"] {
        assert_eq!(bench.code(1, &put(&token, v.as_bytes())), 203, "{v} is not canonical");
    }
    assert_eq!(bench.core.status().items, targets.len());
}

/// Statement 18: a string of 1,000 bytes is stored (a little more than BEP44 asks for), one of 1,001 is error 205, as is another
/// value of more than 1,000 bytes as it is encoded.
#[test]
fn values_up_to_a_thousand_bytes_are_stored_and_longer_ones_refused() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let string = |content: usize| bencode_bytes(&vec![b'x'; content]).to_vec();
    let list = |content: usize| [b"l", &string(content)[..], b"e"].concat();
    for (v, code) in
        [(string(1000), 0), (string(1001), 205), (list(994), 0), (list(995), 205), (string(1200), 205)]
    {
        assert_eq!(bench.code(1, &put(&token, &v)), code, "{}", v.len());
        assert_eq!(bench.core.local(&Target::of_value(&v)).is_some(), code == 0);
    }
    let key = crate::identity::KeyPair::from_seed(&[1; 32]);
    for (content, code) in [(1000, 0), (1001, 205)] {
        // Our own `sign` refuses both; stock grapes sign them.
        let (seq, v) = (content as i64, string(content));
        let sig = key.sign(format!("3:seqi{seq}e1:v{}", String::from_utf8(v.clone()).unwrap()).as_bytes());
        let signed = Some(SignedArgs { k: key.public().0, sig: sig.0, seq, salt: b"" });
        assert_eq!(
            bench.code(1, &Ask::Put { target: &[0; 20], token: &token, v: &v, signed, cas: None }),
            code
        );
    }
}

/// Statement 19: the three test vectors of BEP44 are stored under the targets that it names.
#[test]
fn the_test_vectors_of_bep44_are_stored_where_it_says() {
    let k = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"
        .parse::<crate::identity::PublicKey>();
    let k = k.unwrap().0;
    let vectors = [
        (
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
             1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
            &b""[..],
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
        ),
        (
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
             df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
            b"foobar",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
        ),
    ];
    let mut bench = Bench::new();
    let token = bench.token(1);
    let v = b"12:Hello World!";
    for (sig, salt, target) in vectors {
        let sig = crate::identity::decode_hex(sig).unwrap();
        let signed = Some(SignedArgs { k, sig, seq: 1, salt });
        assert_eq!(bench.code(1, &Ask::Put { target: &[0; 20], token: &token, v, signed, cas: None }), 0);
        let answer = bench.ask(2, &Ask::Get { target: &target.parse::<Target>().unwrap().0 });
        assert_eq!((reply(&answer).v, reply(&answer).signed), (Some(&v[..]), Some((k, sig, 1))));
    }
    assert_eq!(bench.code(1, &put(&token, v)), 0);
    let target: Target = "e5f96f6f38320f0f33959cb4d3d656452117aadb".parse().unwrap();
    assert_eq!(bench.core.local(&target), Some(Item::Immutable(v[..].into())));
}

/// Statement 26: an answer to `get` carries nodes beside the value, as BEP44 says (a stock grape leaves them out).
#[test]
fn a_value_comes_with_nodes_beside_it() {
    let mut bench = Bench::new();
    bench.know(3);
    let token = bench.token(1);
    assert_eq!(bench.code(1, &put(&token, b"1:x")), 0);
    let item = signed(1, 5, "five");
    assert_eq!(bench.put(&item, item.sig.0, None), 0);
    for target in [Target::of_value(b"1:x"), item.target(), Target([7; 20])] {
        let answer = bench.ask(1, &Ask::Get { target: &target.0 });
        assert_eq!(field(&answer, b"r", b"nodes").unwrap().bytes().unwrap().len(), 26);
        assert!(field(&answer, b"r", b"token").is_some());
        assert_eq!(field(&answer, b"r", b"v").is_some(), target != Target([7; 20]));
    }
}

/// Statement 28: values stay for two hours from their last put whatever others announce; beyond the bound, the one that was not
/// put or read for longest goes first.
#[test]
fn values_outlive_announcements_and_go_by_last_use_or_after_two_hours() {
    let mut bench = Bench::new();
    let value = |n: usize| bencode_bytes(n.to_string().as_bytes());
    let target = |n: usize| Target::of_value(&value(n)).0;
    let max = bench.core.config.items_max;
    let token = bench.token(1);
    for n in 0..max {
        assert_eq!(bench.code(1, &put(&token, &value(n))), 0);
    }
    for n in 0..5000 {
        let name = format!("name {n}");
        assert_eq!(bench.code(1, &Ask::Announce { name: name.as_bytes(), port: 5, token: &token }), 0);
    }
    assert_eq!(bench.core.status().items, max);
    // The oldest is read, so the second goes when one more comes.
    assert!(reply(&bench.ask(2, &Ask::Get { target: &target(0) })).v.is_some());
    assert_eq!(bench.code(1, &put(&token, &value(max))), 0);
    for (n, held) in [(0, true), (1, false), (2, true), (max, true)] {
        assert_eq!(reply(&bench.ask(2, &Ask::Get { target: &target(n) })).v.is_some(), held, "{n}");
    }
    bench.wait(Duration::from_hours(1));
    let token = bench.token(1);
    assert_eq!(bench.code(1, &put(&token, &value(0))), 0, "put again");
    bench.wait(Duration::from_secs(3599));
    assert_eq!(bench.core.status().items, max);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.core.status().items, 1);
    assert!(reply(&bench.ask(2, &Ask::Get { target: &target(0) })).v.is_some());
}
