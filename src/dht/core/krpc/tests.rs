use super::*;
use crate::dht::core::bencode::is_canonical;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}
fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)))
}
fn addr6() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)))
}
fn query(ask: &Ask<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_query(&mut out, *b"abcd", &NodeId([7; 20]), ask);
    out
}
/// What a query says once it was written and read.
fn read(datagram: &[u8]) -> Result<Query<'_>, Problem> {
    assert!(is_canonical(datagram));
    match decode(datagram) {
        Some(Message::Query { t: Some(b"abcd"), id: Some(NodeId([7, ..])), read_only: false, query }) => {
            query
        }
        other => panic!("{other:?}"),
    }
}
/// The code of the error that a query deserves; 0 when it is fine, -1 when it deserves nothing.
fn code_of(datagram: &[u8]) -> i64 {
    match decode(datagram) {
        Some(Message::Query { query, .. }) => query.err().map_or(0, |problem| problem.code),
        _ => -1,
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(datagram in bytes(300)) {
        let _ = decode(&datagram);
    }

    #[test]
    fn a_damaged_message_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let signed = SignedArgs { k: [1; 32], sig: [2; 64], seq: 3, salt: b"salt" };
        let ask = Ask::Put { target: &[4; 20], token: b"token", v: b"5:value", signed: Some(signed), cas: Some(2) };
        let mut datagram = query(&ask);
        let at = at.index(datagram.len());
        datagram[at] = byte;
        let _ = decode(&datagram);
        let _ = decode(&datagram[..cut.index(datagram.len())]);
    }

    #[test]
    fn names_targets_and_tokens_of_any_content_come_through(name in bytes(NAME_BYTES_MAX), token in bytes(40), port in 1u16.., both: bool) {
        let find = query(&Ask::FindNode { target: &name, both });
        let peers = query(&Ask::GetPeers { name: &name });
        let want = Wanted { n4: both, n6: both };
        prop_assert_eq!(read(&find), Ok(Query::FindNode { target: &name, want }));
        prop_assert_eq!(read(&peers), Ok(Query::GetPeers { name: &name, token: None, want: Wanted::default() }));
        let announce = query(&Ask::Announce { name: &name, port, token: &token });
        prop_assert_eq!(read(&announce), Ok(Query::Announce { name: &name, port: Some(port), token: &token }));
    }

    #[test]
    fn puts_come_through(k: [u8; 32], seq in 0i64.., salt in bytes(64), cas in any::<Option<i64>>(), content in bytes(500)) {
        let mut v = Vec::new();
        bencode::write_bytes(&mut v, &content);
        for signed in [None, Some(SignedArgs { k, sig: [9; 64], seq, salt: &salt })] {
            let put = query(&Ask::Put { target: &[1; 20], token: b"tk", v: &v, signed, cas });
            prop_assert_eq!(read(&put), Ok(Query::Put { token: b"tk", v: &v, signed, cas }));
        }
    }

    #[test]
    fn answers_come_through(
        t in proptest::option::of(bytes(32)),
        nodes in proptest::collection::vec((any::<[u8; 20]>(), addr()), 0..25),
        nodes6 in proptest::collection::vec((any::<[u8; 20]>(), addr6()), 0..25),
        peers in proptest::collection::vec(prop_oneof![addr(), addr6()], 0..100),
        to in prop_oneof![addr(), addr6()],
        seq in 0i64..,
        cut: bool,
    ) {
        let contacts = |nodes: Vec<([u8; 20], SocketAddr)>| -> Vec<Contact> {
            nodes.into_iter().map(|(id, addr)| Contact { id: NodeId(id), addr }).collect()
        };
        let (nodes, nodes6) = (contacts(nodes), contacts(nodes6));
        let answer = Answer {
            nodes: Some(&nodes),
            nodes6: Some(&nodes6),
            token: Some(b"token"),
            peers: Some(&peers),
            v: Some(b"1:x"),
            signed: Some((&[1; 32], &[2; 64])),
            seq: Some(seq),
            cut,
            samples: Some(Samples { interval: 60, num: 5, names: &[[9; 20], [8; 20]] }),
        };
        let mut out = Vec::new();
        write_reply(&mut out, t.as_deref(), &NodeId([7; 20]), to, &answer);
        prop_assert!(is_canonical(&out));
        match (decode(&out), &t) {
            (Some(Message::Reply { t: read, ip, reply }), Some(t)) => {
                prop_assert_eq!(ip, (!cut).then_some(to.ip()));
                prop_assert_eq!(read, &t[..]);
                prop_assert_eq!(reply.id, Some(NodeId([7; 20])));
                prop_assert_eq!(reply.contacts().collect::<Vec<_>>(), [&nodes[..], &nodes6].concat());
                prop_assert_eq!(reply.peers().collect::<Vec<_>>(), peers);
                prop_assert_eq!((reply.token, reply.v), (Some(&b"token"[..]), Some(&b"1:x"[..])));
                prop_assert_eq!(reply.cut, cut);
                prop_assert_eq!(reply.signed, Some(([1; 32], [2; 64], seq)));
            }
            (None, None) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn errors_come_through(t in bytes(32), to in prop_oneof![addr(), addr6()]) {
        let mut out = Vec::new();
        write_error(&mut out, Some(&t), to, Problem { code: 203, text: "why" });
        prop_assert!(is_canonical(&out));
        prop_assert_eq!(decode(&out), Some(Message::Error { t: &t, ip: Some(to.ip()), code: 203, text: "why".into() }));
    }
}

#[test]
fn what_is_not_a_message_deserves_nothing() {
    let long_t = format!("d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t33:{}1:y1:qe", "t".repeat(33));
    for noise in [
        "",
        "x",
        "de",
        "le",
        "i1e",
        "d1:y1:qe1",
        "d1:t2:aae",
        "d1:t2:aa1:y1:xe",
        "d1:t2:aa1:yi1ee",
        "d1:ti5e1:y1:qe",
        "d1:rde1:y1:re",
        "d1:t2:aa1:y1:ee",
        &long_t,
    ] {
        assert_eq!(decode(noise.as_bytes()), None, "{noise}");
    }
}

#[test]
fn odd_queries_get_the_right_error() {
    let id = "2:id20:aaaaaaaaaaaaaaaaaaaa";
    let k = format!("1:k32:{}", "k".repeat(32));
    let sig = format!("3:sig64:{}", "s".repeat(64));
    let q = |method: &str, args: &str| format!("d1:a{args}1:q{}:{method}1:t2:aa1:y1:qe", method.len());
    let long_name = format!("d{id}9:info_hash1025:{}e", "n".repeat(1025));
    for (code, datagram) in [
        (0, q("ping", "de")),
        (0, q("ping", "le")),
        (0, "d1:q4:ping1:t0:1:y1:qe".to_string()),
        (203, "d1:ade1:t2:aa1:y1:qe".to_string()),
        (204, q("vote", &format!("d{id}e"))),
        (204, q("vote", "le")),
        (203, q("find_node", "le")),
        (203, q("find_node", &format!("d{id}e"))),
        (203, q("find_node", &format!("d{id}6:targeti5ee"))),
        (203, q("find_node", &format!("d{id}6:targetl1:aee"))),
        (0, q("find_node", "d6:target0:e")),
        (203, q("get_peers", &format!("d{id}9:info_hashi5ee"))),
        (203, q("get_peers", &long_name)),
        (0, q("get_peers", "d9:info_hash0:e")),
        (203, q("get", &format!("d{id}6:targeti5ee"))),
        (203, q("get", &format!("d{id}6:target3:abce"))),
        (203, q("announce_peer", "d9:info_hash1:a4:porti5ee")),
        (203, q("announce_peer", "d9:info_hash1:a4:porti5e5:tokeni5ee")),
        (203, q("announce_peer", "d9:info_hash1:a4:porti0e5:token1:te")),
        (203, q("announce_peer", "d9:info_hash1:a4:porti65536e5:token1:te")),
        (203, q("announce_peer", "d9:info_hash1:a4:porti-1e5:token1:te")),
        (0, q("announce_peer", "d12:implied_porti1e9:info_hash1:a4:porti0e5:token1:te")),
        (203, q("put", "d5:token1:te")),
        (203, q("put", "d5:tokeni1e1:v1:xe")),
        (0, q("put", "d5:token1:t1:vi0ee")),
        (203, q("put", "d5:token1:t1:vi00ee")),
        (203, q("put", "d5:token1:t1:vd1:bi1e1:ai1eee")),
        (203, q("put", &format!("d{k}3:seqi1e5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d3:seqi1e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d1:ki5e3:seqi1e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d1:k2:kk3:seqi1e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d{k}4:salti5e3:seqi1e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d{k}{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d{k}3:seqi-1e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d{k}3:seqi9223372036854775808e{sig}5:token1:t1:v1:xe"))),
        (203, q("put", &format!("d3:cas1:x{k}3:seqi1e{sig}5:token1:t1:v1:xe"))),
        (0, q("put", &format!("d{k}3:seqi1e{sig}5:token1:t1:v1:xe"))),
    ] {
        assert_eq!(code_of(datagram.as_bytes()), code, "{datagram}");
    }
}

#[test]
fn an_envelope_out_of_order_is_read_all_the_same() {
    assert_eq!(code_of(b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:aaaaaaaaaaaaaaaaaaaaee"), 0);
}

#[test]
fn a_read_only_sender_says_so() {
    let datagram = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping2:roi1e1:t2:aa1:y1:qe";
    assert!(matches!(decode(datagram), Some(Message::Query { read_only: true, .. })));
}

#[test]
fn a_short_peer_ends_the_list_and_port_zero_is_skipped() {
    let datagram = b"d1:rd6:valuesl6:\x01\x01\x01\x01\0\x016:\x01\x01\x01\x01\0\08:\x02\x01\x01\x01\0\x02zz3:abc6:\x03\x01\x01\x01\0\x03ee1:t1:t1:y1:re";
    let Some(Message::Reply { reply, .. }) = decode(datagram) else { panic!("not a reply") };
    let peers: Vec<_> = reply.peers().map(|peer| peer.to_string()).collect();
    assert_eq!(peers, ["1.1.1.1:1", "2.1.1.1:2"]);
}

#[test]
fn a_value_with_half_a_signature_is_no_value() {
    let datagram = format!("d1:rd1:k32:{}1:v1:xe1:t1:t1:y1:re", "k".repeat(32));
    assert!(matches!(decode(datagram.as_bytes()), Some(Message::Reply { reply: Reply { v: None, .. }, .. })));
}
