//! Pings, transaction ids, the nodes that are handed out, and who is taken into the table.

use super::*;
use crate::dht::core::id::nearer;

/// Statement 1: a ping is answered with the 20 bytes of this node's id, which stay the same for as long as it runs.
#[test]
fn a_ping_is_answered_with_an_id_that_never_changes() {
    let mut bench = Bench::new();
    let own = bench.core.node_id();
    for n in 0..30 {
        let answer = bench.ask(n, &Ask::Ping);
        assert_eq!(field(&answer, b"r", b"id").unwrap().bytes(), Some(&own.0[..]));
        bench.wait(Duration::from_mins(7));
    }
}

/// Statement 2: a transaction id of 0, 1, 2, 4, 8 or 20 bytes comes back as it was sent (up to 32), and none where none was sent.
#[test]
fn transaction_ids_of_any_length_are_echoed() {
    let mut bench = Bench::new();
    for len in [0usize, 1, 2, 4, 8, 20, 32] {
        let t = "t".repeat(len);
        let query = format!("d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t{len}:{t}1:y1:qe");
        let answer = bench.send(1, query.as_bytes()).unwrap();
        assert!(matches!(decode(&answer), Some(Message::Reply { t: echo, .. }) if echo == t.as_bytes()));
    }
    let answer = bench.send(1, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:y1:qe").unwrap();
    assert!(parse(&answer).unwrap().raw.fields().all(|(key, _)| key != b"t"), "{answer:?}");
}

/// Statement 5: `find_node` is answered with entries of 26 bytes, the nearest nodes first, in at most 1,400 bytes.
#[test]
fn find_node_is_answered_with_the_nearest_nodes_in_order() {
    let mut bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(5);
    for n in 0..200 {
        bench.core.node_answered(Now::ZERO, Contact { id: NodeId(rng.random()), addr: addr(n + 500) });
    }
    let mut known = Vec::new();
    bench.core.tables.of_mut(&addr(0)).unwrap().closest(&[0; 20], usize::MAX, &mut known);
    assert!(known.len() > 60, "{}", known.len());
    for len in [0usize, 3, 20, 21, 900] {
        let target: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        let answer = bench.ask(1, &Ask::FindNode { target: &target, both: false });
        let nodes = field(&answer, b"r", b"nodes").unwrap().bytes().unwrap();
        assert_eq!(nodes.len(), 20 * 26);
        let ids: Vec<NodeId> =
            nodes.chunks(26).map(|entry| NodeId(entry[..20].try_into().unwrap())).collect();
        let order = |a: &NodeId, b: &NodeId| nearer(&target, a, b);
        assert!(ids.windows(2).all(|pair| order(&pair[0], &pair[1]).is_le()), "{len}");
        let mut others = known.iter().filter(|node| !ids.contains(&node.id));
        assert!(others.all(|node| order(&ids[19], &node.id).is_le()), "{len}");
        for (entry, contact) in nodes.chunks(26).zip(reply(&answer).contacts()) {
            assert_eq!(entry[20..], addr_bytes(contact.addr));
        }
    }
}

/// Statement 15: a method that nobody knows is answered with error 204, and nothing else happens.
#[test]
fn an_unknown_method_is_an_error_and_no_more() {
    let mut bench = Bench::new();
    for method in ["vote", "", "PING", "get_peer", &"m".repeat(900)] {
        assert_eq!(code_of(&bench.query(1, method, b"")), 204, "{method}");
    }
    assert_eq!(code_of(&bench.query(1, "ping", b"")), 0);
}

/// Statement 29: who says `ro: 1` is answered, but never pinged nor taken into the table.
#[test]
fn read_only_and_mute_nodes_do_not_enter_the_table() {
    let mut bench = Bench::new();
    bench.send(1, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping2:roi1e1:t1:t1:y1:qe");
    assert_eq!(bench.queries_to(1).iter().filter(|query| query.ends_with(b"1:y1:qe")).count(), 0);
    bench.send(2, b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t1:t1:y1:qe");
    assert_eq!(bench.queries_to(2).iter().filter(|query| query.ends_with(b"1:y1:qe")).count(), 1);
    bench.wait(Duration::from_secs(1));
    bench.wait(Duration::from_secs(5));
    assert_eq!((bench.core.status().nodes, bench.core.status().queries_in_flight), (0, 0));
    // An answer that nobody asked for teaches nothing.
    bench.send(3, b"d1:rd2:id20:aaaaaaaaaaaaaaaaaaaae1:t4:abcd1:y1:re");
    assert_eq!(bench.core.status().nodes, 0);
    bench.befriend(4);
}

#[test]
fn an_answer_tells_the_asker_its_address() {
    let answer = Bench::new().ask(258, &Ask::Ping);
    assert!(answer.starts_with(b"d2:ip6:\x0a\x00\x01\x02\x4e\x20"), "{answer:?}");
}
