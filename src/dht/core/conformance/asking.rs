//! What this node asks others, and what it makes of their answers, true or not.

use super::*;
use std::collections::BTreeSet;

/// Statement 3: every query of ours has a transaction id of four bytes, the one form that all others answer.
#[test]
fn every_query_has_a_transaction_id_of_four_bytes() {
    let mut bench = Bench::new();
    bench.befriend(1);
    let name: Arc<[u8]> = b"name"[..].into();
    let requests = [
        Request::Lookup { name: Arc::clone(&name) },
        Request::Announce { name, port: 5 },
        Request::Get { target: Target([1; 20]), salt: Arc::default(), mode: GetMode::Network },
        Request::Put(Put::Immutable(bencode_bytes(b"x"))),
    ];
    let mut asked = BTreeSet::new();
    let mut answer_all = |bench: &mut Bench| {
        for query in bench.queries_to(1) {
            let (_, t) = parse(&query).unwrap().raw.fields().find(|(key, _)| *key == b"t").unwrap();
            assert_eq!(t.bytes().unwrap().len(), 4);
            asked.insert((t.bytes().unwrap().to_vec(), String::from_utf8(method(&query)).unwrap()));
            bench.reply_to(1, &query, b"5:token1:t");
        }
    };
    for (n, request) in requests.into_iter().enumerate() {
        bench.input(Input::Start { op: OpId(n as u64), request });
        answer_all(&mut bench);
        answer_all(&mut bench);
        assert_eq!(bench.outcomes.len(), n + 1);
    }
    bench.wait(Duration::from_mins(1));
    answer_all(&mut bench);
    let methods: BTreeSet<&str> = asked.iter().map(|(_, method)| &**method).collect();
    assert_eq!(methods, ["announce_peer", "find_node", "get", "get_peers", "put"].into());
}

/// Statement 4: an answer counts only from the address that was asked and under the number that was sent.
#[test]
fn an_answer_from_elsewhere_or_with_another_number_does_not_count() {
    let mut bench = Bench::new();
    bench.befriend(1);
    bench.input(Input::Start { op: OpId(1), request: Request::Lookup { name: b"n"[..].into() } });
    let query = bench.queries_to(1).pop().unwrap();
    let peers = b"5:token1:t6:valuesl6:\x01\x01\x01\x01\0\x01e";
    bench.reply_to(2, &query, &peers[..]);
    let wrong = query.clone();
    bench.reply_to(1, &[&wrong[..wrong.len() - 8], b"\0", &wrong[wrong.len() - 7..]].concat(), &peers[..]);
    let mut other_port = answer_of(1, &query, &peers[..]);
    bench.input(Input::Datagram { from: at(1, 9), bytes: &other_port });
    other_port.truncate(other_port.len() - 2);
    bench.input(Input::Datagram { from: addr(1), bytes: &other_port });
    assert_eq!(bench.outcomes, []);
    bench.reply_to(1, &query, &peers[..]);
    assert!(matches!(&bench.outcomes[..], [Outcome::Peers(Ok(peers))] if peers.len() == 1));
}

/// Statement 25: of the answers to a `get`, the highest sequence wins whose hash and signature are good, in whatever order they come.
#[test]
fn the_highest_good_sequence_is_what_a_get_returns() {
    let (three, five, other) = (signed(1, 3, "three"), signed(1, 5, "five"), signed(2, 9, "nine"));
    let forged = SignedArgs { k: five.k.0, sig: [1; 64], seq: 8, salt: b"" };
    let mut answers = [
        (args(&three), &three.v),
        (args(&five), &five.v),
        (forged, &five.v),
        (args(&other), &other.v),
        (args(&three), &five.v),
    ];
    for _ in 0..answers.len() {
        answers.rotate_left(1);
        let mut bench = Bench::new();
        (1..=5).for_each(|n| bench.know(n));
        let request = Request::Get { target: five.target(), salt: Arc::default(), mode: GetMode::Network };
        bench.input(Input::Start { op: OpId(1), request });
        for n in 1..=5 {
            assert_eq!(bench.outcomes, [], "the others may have a newer one");
            let get = bench.queries_to(n).into_iter().find(|query| method(query) == b"get").unwrap();
            let (args, v) = &answers[usize::from(n) - 1];
            bench.reply_to(n, &get, &value_fields(args, v));
        }
        match &bench.outcomes[..] {
            [Outcome::Item(Ok(Some(found)))] => assert_eq!(found.item, Item::Mutable(five.clone())),
            other => panic!("{other:?}"),
        }
    }
}

/// Statement 27: our `put` names the target, which the mainline crate demands and the others ignore.
#[test]
fn a_put_of_ours_names_its_target() {
    let item = signed(1, 5, "five");
    let puts = [Put::Immutable(bencode_bytes(b"x")), Put::Mutable { item, cas: None }];
    for put in puts {
        let mut bench = Bench::new();
        bench.befriend(1);
        bench.core.contacts.keep_token(addr(1), b"token", bench.now);
        bench.input(Input::Start { op: OpId(1), request: Request::Put(put.clone()) });
        let write = bench.queries_to(1).pop().unwrap();
        assert_eq!(method(&write), b"put");
        assert_eq!(field(&write, b"a", b"target").unwrap().bytes(), Some(&put.item().target().0[..]));
    }
}

/// Statement 31: a lookup returns at most 100 distinct addresses, however many are told and how often.
#[test]
fn a_lookup_returns_at_most_a_hundred_addresses_and_none_twice() {
    let mut bench = Bench::new();
    (1..=4).for_each(|n| bench.know(n));
    bench.input(Input::Start { op: OpId(1), request: Request::Lookup { name: b"n"[..].into() } });
    for n in 1..=4 {
        let query = bench.queries_to(n).into_iter().find(|query| method(query) == b"get_peers").unwrap();
        let mut fields = b"5:token1:t6:valuesl".to_vec();
        for peer in 0..1000 {
            // Half of them are the same at each.
            let peer = if peer % 2 == 0 { peer } else { peer + 1000 * n };
            write_bytes(&mut fields, &addr_bytes(addr(peer)));
        }
        fields.push(b'e');
        bench.reply_to(n, &query, &fields);
    }
    let [Outcome::Peers(Ok(found))] = &bench.outcomes[..] else { panic!("{:?}", bench.outcomes) };
    assert_eq!((found.len(), found.iter().collect::<BTreeSet<_>>().len()), (100, 100));
}

/// Statement 32: equal lookups that overlap are one: each node is asked once, and all callers get its answer.
#[test]
fn callers_who_want_the_same_at_the_same_time_share_one_lookup() {
    let mut bench = Bench::new();
    bench.befriend(1);
    for op in 0..20 {
        bench.input(Input::Start { op: OpId(op), request: Request::Lookup { name: b"n"[..].into() } });
    }
    let queries = bench.queries_to(1);
    assert_eq!(queries.len(), 1);
    bench.reply_to(1, &queries[0], b"5:token1:t6:valuesl6:\x01\x01\x01\x01\0\x01e");
    assert_eq!(bench.outcomes.len(), 20);
    assert!(
        bench.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Peers(Ok(peers)) if peers.len() == 1))
    );
}

/// Whoever counts as dead and says anything is asked at once whether it is, and alive with its answer; an error is an answer too.
#[test]
fn a_node_that_says_anything_is_asked_at_once_and_alive_with_its_answer() {
    for says in ["a query", "a late answer", "what nobody can read", "an error"] {
        let mut bench = Bench::new();
        bench.befriend(1);
        let look_up =
            |op, name: &[u8]| Input::Start { op: OpId(op), request: Request::Lookup { name: name.into() } };
        bench.input(look_up(1, b"one"));
        let query = bench.queries_to(1).pop().unwrap();
        for _ in 0..30 {
            bench.wait(Duration::from_millis(100));
        }
        assert_eq!(bench.core.status().nodes_good, 0, "it has failed");
        bench.queries_to(1);
        match says {
            "a query" => {
                let mut ping = Vec::new();
                write_query(&mut ping, *b"ping", &friend(1), &Ask::Ping);
                bench.send(1, &ping);
            }
            "a late answer" => bench.reply_to(1, &query, b"5:token1:t"),
            "what nobody can read" => bench.input(Input::Datagram { from: addr(1), bytes: b"d1:y1:r" }),
            _ => {
                // There is nobody else, so it is asked.
                bench.input(look_up(2, b"two"));
                let query = bench.queries_to(1).pop().unwrap();
                let (_, t) = parse(&query).unwrap().raw.fields().find(|(key, _)| *key == b"t").unwrap();
                let error = [b"d1:eli203e1:xe1:t4:", t.bytes().unwrap(), b"1:y1:ee"].concat();
                bench.input(Input::Datagram { from: addr(1), bytes: &error });
            }
        }
        if says != "an error" {
            let mut pings = bench
                .queries_to(1)
                .into_iter()
                .filter(|query| query.ends_with(b"1:y1:qe") && method(query) == b"ping");
            let ping = pings.next_back().unwrap_or_else(|| panic!("it is not asked after {says}"));
            bench.reply_to(1, &ping, b"");
        }
        assert_eq!(bench.core.status().nodes_good, 1, "after {says}");
        assert!(!bench.core.contacts.is_avoided(addr(1), bench.now), "after {says}");
    }
}

#[test]
fn a_refused_token_is_fetched_again_for_the_target_and_the_write_repeated_once() {
    let mut bench = Bench::new();
    bench.befriend(1);
    bench.core.contacts.keep_token(addr(1), b"old", bench.now);
    bench.input(Input::Start { op: OpId(1), request: Request::Put(Put::Immutable(bencode_bytes(b"x"))) });
    let write = bench.queries_to(1).pop().unwrap();
    assert_eq!(method(&write), b"put");
    bench.error_to(1, &write, 203);
    let get = bench.queries_to(1).pop().unwrap();
    assert_eq!(method(&get), b"get");
    bench.reply_to(1, &get, b"5:token3:new");
    let write = bench.queries_to(1).pop().unwrap();
    assert!(write.windows(12).any(|part| part == b"5:token3:new"));
    bench.reply_to(1, &write, b"");
    assert!(matches!(bench.outcomes[..], [Outcome::Put(Ok(PutOutcome { acked: 1, asked: 1, .. }))]));
}

#[test]
fn a_stock_grapes_302_is_success_when_it_holds_our_bytes() {
    for (held, good) in [(signed(1, 5, "five"), true), (signed(1, 5, "other"), false)] {
        let mut bench = Bench::new();
        bench.befriend(1);
        bench.core.contacts.keep_token(addr(1), b"t", bench.now);
        let put = Put::Mutable { item: signed(1, 5, "five"), cas: None };
        bench.input(Input::Start { op: OpId(1), request: Request::Put(put) });
        let write = bench.queries_to(1).pop().unwrap();
        bench.error_to(1, &write, 302);
        let get = bench.queries_to(1).pop().unwrap();
        bench.reply_to(1, &get, &value_fields(&args(&held), &held.v));
        match &bench.outcomes[..] {
            [Outcome::Put(Ok(PutOutcome { acked: 1, read_back: 1, refused_302: 0, .. }))] => assert!(good),
            [Outcome::Put(Err(OpError::Refused(Refusal { code: 302, .. })))] => assert!(!good),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn forged_values_are_not_believed() {
    let wanted = signed(1, 5, "five");
    let forged = SignedArgs { k: wanted.k.0, sig: [1; 64], seq: 9, salt: b"" };
    let stolen = signed(2, 9, "nine");
    let stolen = SignedArgs { k: stolen.k.0, sig: stolen.sig.0, seq: 9, salt: b"" };
    for args in [Some(forged), Some(stolen), None] {
        let mut bench = Bench::new();
        bench.befriend(1);
        let request = Request::Get { target: wanted.target(), salt: Arc::default(), mode: GetMode::Network };
        bench.input(Input::Start { op: OpId(1), request });
        let get = bench.queries_to(1).pop().unwrap();
        let mut fields = Vec::new();
        if let Some(args) = args {
            bencode::write_field(&mut fields, "k", &args.k);
            fields.extend_from_slice(b"3:seqi9e");
            bencode::write_field(&mut fields, "sig", &args.sig);
        }
        fields.extend_from_slice(b"1:v4:nine");
        bench.reply_to(1, &get, &fields);
        assert_eq!(bench.outcomes, [Outcome::Item(Ok(None))]);
    }
}
