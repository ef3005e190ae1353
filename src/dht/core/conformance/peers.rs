//! Names: who may announce what, for how long it is known, and what is told of it.

use super::*;
use std::collections::BTreeSet;

/// Statement 6: `get_peers` is answered with a token always, and with nodes also beside peers.
#[test]
fn get_peers_is_answered_with_a_token_and_nodes_in_any_case() {
    let mut bench = Bench::new();
    for known in [false, true] {
        if known {
            bench.know(2);
            let token = bench.token(1);
            assert_eq!(bench.code(1, &Ask::Announce { name: b"here", port: 5, token: &token }), 0);
        }
        for (name, values) in [(&b"nobody"[..], false), (b"here", known)] {
            let answer = bench.ask(1, &Ask::GetPeers { name });
            assert_eq!(field(&answer, b"r", b"values").is_some(), values);
            assert!(reply(&answer).token.is_some_and(|token| !token.is_empty()));
            let nodes = field(&answer, b"r", b"nodes").unwrap().bytes().unwrap();
            assert_eq!(nodes.len(), 26 * usize::from(known));
        }
    }
}

/// Statement 7: `values` are strings of six bytes, at most 100 of them, another choice each time.
#[test]
fn peers_come_as_strings_of_six_bytes_and_at_most_a_hundred_of_them() {
    let mut bench = Bench::new();
    for n in 0..300 {
        bench.core.peers.announce(b"name", addr(n), Now::ZERO);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let answer = bench.ask(1, &Ask::GetPeers { name: b"name" });
        let values: Vec<_> = field(&answer, b"r", b"values").unwrap().items().collect();
        assert!(values.len() <= 100 && values.len() >= 80, "{}", values.len());
        assert!(values.iter().all(|value| value.bytes().unwrap().len() == 6));
        let peers: BTreeSet<_> = reply(&answer).peers().collect();
        assert_eq!(peers.len(), values.len(), "none comes twice");
        seen.extend(peers);
    }
    assert!(seen.len() > 250, "{}", seen.len());
}

#[test]
fn a_full_reply_fits_a_datagram_with_values_and_nodes() {
    let mut bench = Bench::new();
    for n in 0..40u8 {
        let contact = Contact { id: NodeId([n.wrapping_mul(37); 20]), addr: addr(u16::from(n) + 500) };
        bench.core.tables.of_mut(&contact.addr).unwrap().answered(contact, Now::ZERO);
    }
    for n in 0..300 {
        bench.core.peers.announce(b"name", addr(n), Now::ZERO);
    }
    let answer = bench.ask(1, &Ask::GetPeers { name: b"name" });
    assert_eq!((reply(&answer).contacts().count(), reply(&answer).peers().count()), (20, 96));
    // The largest value leaves room for fewer nodes.
    let item =
        VerifiedItem::sign(&crate::identity::KeyPair::from_seed(&[1; 32]), b"", 1, bencode_bytes(&[0; 996]))
            .unwrap();
    assert_eq!(bench.put(&item, item.sig.0, None), 0);
    let answer = bench.ask(1, &Ask::Get { target: &item.target().0 });
    assert_eq!(reply(&answer).v, Some(&item.v[..]));
    assert!((3..20).contains(&reply(&answer).contacts().count()));
}

/// Statement 8: an announcement stores the sender's address with the port that it names, or with the datagram's own port where
/// `implied_port` is not 0.
#[test]
fn an_announcement_stores_the_senders_address_with_the_named_or_the_implied_port() {
    let mut bench = Bench::new();
    let token = bencode_bytes(&bench.token(1));
    let own = addr(1).port();
    for (name, implied, port, stored) in [
        ("named", "", "4:porti7e", Some(7)),
        ("zero", "12:implied_porti0e", "4:porti7e", Some(7)),
        ("one", "12:implied_porti1e", "4:porti7e", Some(own)),
        ("other", "12:implied_porti-3e", "4:porti7e", Some(own)),
        ("alone", "12:implied_porti1e", "", Some(own)),
        ("odd", "12:implied_porti1e", "4:porti0e", Some(own)),
        ("nothing", "", "", None),
        ("none", "", "4:porti0e", None),
        ("large", "", "4:porti65536e", None),
        ("negative", "", "4:porti-7e", None),
        ("text", "", "4:port1:7", None),
    ] {
        let info_hash = format!("9:info_hash{}:{name}", name.len());
        let args = [implied.as_bytes(), info_hash.as_bytes(), port.as_bytes(), b"5:token", &token].concat();
        let code = code_of(&bench.query(1, "announce_peer", &args));
        assert_eq!(code, if stored.is_some() { 0 } else { 203 }, "{name}");
        assert_eq!(
            bench.peers_of(2, name.as_bytes()),
            Vec::from_iter(stored.map(|port| at(1, port))),
            "{name}"
        );
    }
}

/// Statement 9: a wrong token is error 203, whatever it looks like, and nothing is stored or told.
#[test]
fn a_wrong_token_stores_nothing() {
    let mut bench = Bench::new();
    let good = bench.token(1);
    let mut altered = good.clone();
    altered[0] ^= 1;
    let longer = [&good[..], b"x"].concat();
    for token in [&altered[..], &longer, &good[1..], b"", b"wrong", &[0; 20], &[7; 500]] {
        assert_eq!(bench.code(1, &Ask::Announce { name: b"name", port: 5, token }), 203);
        let put = Ask::Put { target: &[0; 20], token, v: b"1:x", signed: None, cas: None };
        assert_eq!(bench.code(1, &put), 203);
        let item = signed(1, 1, "x");
        let put = Ask::Put { target: &[0; 20], token, v: &item.v, signed: Some(args(&item)), cas: None };
        assert_eq!(bench.code(1, &put), 203);
    }
    assert_eq!((bench.core.status().peers, bench.core.status().items), (0, 0));
    assert_eq!(bench.core.status().verifications, 0, "the token is looked at first");
    assert!(!bench.events.iter().any(|event| matches!(event, DhtEvent::Announce { .. })));
}

/// Statement 10: a token is good for at least five and at most ten minutes, from the address that it was given to (any port).
#[test]
fn a_token_lives_between_five_and_ten_minutes_and_for_one_address() {
    for given_at in (0..600).step_by(7).map(Duration::from_secs) {
        let mut bench = Bench::new();
        bench.wait(given_at);
        let token = bench.token(1);
        let mut write = Vec::new();
        write_query(&mut write, *b"abcd", &ID, &Ask::Announce { name: b"name", port: 5, token: &token });
        let mut code = |after: Duration, from| {
            bench.now = Now::ZERO.plus(given_at).plus(after);
            code_of(&bench.send_from(from, &write).unwrap())
        };
        let (own, other_port, other) = (addr(1), at(1, 9), addr(2));
        for after in [Duration::ZERO, Duration::from_mins(1), Duration::from_mins(5)] {
            assert_eq!((code(after, own), code(after, other_port)), (0, 0), "{given_at:?} {after:?}");
            assert_eq!(code(after, other), 203, "another address");
        }
        assert_eq!(code(Duration::from_mins(10), own), 203, "{given_at:?}");
        assert_eq!(code(Duration::from_hours(1), own), 203);
    }
}

#[test]
fn an_announcement_needs_the_token_of_its_address() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let announce = Ask::Announce { name: b"name", port: 5, token: &token };
    assert_eq!(bench.code(2, &announce), 203);
    assert_eq!(bench.core.status().peers, 0);
    assert_eq!(bench.code(1, &announce), 0);
    let implied = [
        b"d1:ad12:implied_porti1e9:info_hash4:name4:porti7e5:token",
        &bencode_bytes(&token)[..],
        b"e1:q13:announce_peer1:t1:t1:y1:qe",
    ]
    .concat();
    assert!(bench.send(1, &implied).is_some());
    let answer = bench.ask(3, &Ask::GetPeers { name: b"name" });
    let mut peers: Vec<_> = reply(&answer).peers().map(|peer| peer.port()).collect();
    peers.sort_unstable();
    assert_eq!(peers, [5, 20_000]);
    bench.now = bench.now.plus(Duration::from_mins(10));
    assert_eq!(bench.code(1, &announce), 203);
}

/// Statement 11: names of 0, 3, 13, 20, 21, 300 and 900 bytes are taken in `get_peers` and `announce_peer`, up to 1,024.
#[test]
fn names_of_any_length_up_to_the_bound_are_stored() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    for len in [0, 3, 13, 20, 21, 300, 900, NAME_BYTES_MAX] {
        let name = vec![b'n'; len];
        assert_eq!(bench.code(1, &Ask::Announce { name: &name, port: 5, token: &token }), 0);
        let answer = bench.ask(1, &Ask::GetPeers { name: &name });
        assert_eq!(reply(&answer).peers().count(), 1, "{len}");
    }
    assert_eq!(bench.code(1, &Ask::GetPeers { name: &[0; NAME_BYTES_MAX + 1] }), 203);
}

/// Statement 30: a peer is there for two thirds of its age A after its last announcement, and gone by four thirds of it.
#[test]
fn a_peer_vanishes_around_the_end_of_its_age_from_the_last_announcement() {
    for age in [3000, 120_000, 999_999].map(Duration::from_millis) {
        let mut bench = Bench::new();
        bench.core.peers = Peers::new(100, age, bench.core.node_id(), bench.core.ranges);
        for _ in 0..3 {
            let token = bench.token(1);
            assert_eq!(bench.code(1, &Ask::Announce { name: b"name", port: 5, token: &token }), 0);
            bench.wait(age * 2 / 3);
            assert_eq!(bench.peers_of(2, b"name"), [at(1, 5)], "{age:?}");
        }
        bench.wait(age * 2 / 3);
        assert_eq!(bench.peers_of(2, b"name"), [], "{age:?}");
    }
}

/// Statement 33: each accepted announcement is an event with the name's bytes, repeats too; an own one only where a host is given.
#[test]
fn every_accepted_announcement_is_an_event_and_an_own_one_only_with_a_host() {
    let mut bench = Bench::new();
    let token = bench.token(1);
    let heard = |bench: &mut Bench| {
        let events = std::mem::take(&mut bench.events);
        events.into_iter().filter(|event| matches!(event, DhtEvent::Announce { .. })).collect::<Vec<_>>()
    };
    let name: Arc<[u8]> = b"name"[..].into();
    let event = |from| DhtEvent::Announce { name: b"name"[..].into(), from };
    for _ in 0..2 {
        bench.code(1, &Ask::Announce { name: &name, port: 5, token: &token });
        assert_eq!(heard(&mut bench), [event(at(1, 5))]);
    }
    bench.code(1, &Ask::Announce { name: &name, port: 5, token: b"bad" });
    let own =
        |op| Input::Start { op: OpId(op), request: Request::Announce { name: b"name"[..].into(), port: 7 } };
    bench.input(own(1));
    assert_eq!(heard(&mut bench), []);
    let host = std::net::IpAddr::from([192, 0, 2, 1]);
    bench.core.config.host = Some(host);
    bench.input(own(2));
    assert_eq!(heard(&mut bench), [event(SocketAddr::from((host, 7)))]);
    assert_eq!(bench.core.status().peers, 2);
}
