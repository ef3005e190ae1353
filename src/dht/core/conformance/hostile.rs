//! Datagrams that a stock grape ignores, answers although they are odd, or dies of. This node answers each as BEP5 and BEP44
//! say, or not at all, and goes on.

use super::*;

/// What a datagram gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gets {
    Reply,
    Error(i64),
    Nothing,
}

/// Stands for a good token.
const TOKEN: &str = "5:token1:t";
const ID20: &str = "2:id20:iiiiiiiiiiiiiiiiiiii";

fn q(method: &str, args: &str) -> Vec<u8> {
    format!("d1:a{args}1:q{}:{method}1:t4:abcd1:y1:qe", method.len()).into_bytes()
}

fn dict(args: &str) -> String {
    format!("d{ID20}{args}e")
}

fn k(len: usize) -> String {
    format!("1:k{len}:{}", "k".repeat(len))
}

fn sig() -> String {
    format!("3:sig64:{}", "s".repeat(64))
}

/// Whether each is answered as it should be, with a good token where it has one, and a ping after it too. So many items are stored
/// in the end, and no peers.
fn each_gets(cases: &[(Gets, Vec<u8>)], items: usize) {
    let mut bench = Bench::new();
    let token = [b"5:token", &*bencode_bytes(&bench.token(1))].concat();
    for (gets, datagram) in cases {
        let shown = String::from_utf8_lossy(datagram);
        let at = datagram.windows(TOKEN.len()).position(|part| part == TOKEN.as_bytes());
        let datagram = match at {
            Some(at) => [&datagram[..at], &token, &datagram[at + TOKEN.len()..]].concat(),
            None => datagram.clone(),
        };
        let got = match bench.send(1, &datagram).as_deref().map(decode) {
            None => Gets::Nothing,
            Some(Some(Message::Reply { .. })) => Gets::Reply,
            Some(Some(Message::Error { code, .. })) => Gets::Error(code),
            other => panic!("{shown}: {other:?}"),
        };
        assert_eq!(got, *gets, "{shown}");
        assert_eq!(bench.code(2, &Ask::Ping), 0, "after {shown}");
    }
    assert_eq!((bench.core.status().peers, bench.core.status().items), (0, items));
}

/// Statement 16: each single datagram that ends a stock grape's process is answered with error 203.
#[test]
fn datagrams_that_end_a_stock_grape_get_an_error() {
    let mut cases = vec![
        format!("d1:a{}1:t4:abcd1:y1:qe", dict("")).into_bytes(),
        q("find_node", &dict("6:targeti5e")),
        q("find_node", &dict("6:targetl1:ae")),
        q("get_peers", &dict("9:info_hashi5e")),
        q("get", &dict("6:targeti5e")),
        q("announce_peer", &dict("9:info_hashi5e4:porti5e5:token1:t")),
        q("announce_peer", &dict("9:info_hash1:a4:porti5e5:tokeni5e")),
        q("put", &dict("5:tokeni5e1:v1:x")),
    ];
    let token = "5:token1:t1:v1:x";
    for signed in [
        format!("3:seqi1e{}", sig()),
        format!("1:ki5e3:seqi1e{}", sig()),
        format!("{}4:salti5e3:seqi1e{}", k(32), sig()),
        format!("{}3:seqi1e", k(32)),
        format!("{}3:seqi1e{}", k(2), sig()),
        format!("{}3:seqi1e{}", k(33), sig()),
    ] {
        cases.push(q("put", &dict(&format!("{signed}{token}"))));
    }
    let cases: Vec<_> = cases.into_iter().map(|datagram| (Gets::Error(203), datagram)).collect();
    each_gets(&cases, 0);
}

/// Statement 16: what a stock grape answers with silence gets BEP5's errors here, where it is a query at all.
#[test]
fn queries_that_a_stock_grape_ignores_get_an_error() {
    let announce = |args: &str| q("announce_peer", &dict(args));
    let put = |args: &str| q("put", &dict(args));
    let errors = [
        (204, q("nonsense", &dict(""))),
        (204, q("vote", &dict(&format!("6:target20:{}", "t".repeat(20))))),
        (203, b"d1:q9:get_peers1:t4:abcd1:y1:qe".to_vec()),
        (203, q("get", &dict(""))),
        (203, q("find_node", &dict(""))),
        (203, q("get_peers", &dict(""))),
        (203, announce("9:info_hash1:n5:token1:t")),
        (203, announce("9:info_hash1:n4:porti0e5:token1:t")),
        (203, announce("9:info_hash1:n4:porti-1e5:token1:t")),
        (203, announce("9:info_hash1:n4:porti65536e5:token1:t")),
        (203, announce("9:info_hash1:n4:port1:x5:token1:t")),
        (203, announce("4:porti5e5:token1:t")),
        (203, announce("9:info_hash1:n4:porti5e")),
        (203, put("5:token1:t")),
        (203, put("1:v1:x")),
        (203, put("5:token1:x1:vi0e")),
        (206, put(&format!("{}3:seqi1e{}5:token1:t1:v1:x", k(32), sig()))),
        (203, put(&format!("{}{}5:token1:t1:v1:x", k(32), sig()))),
        (203, put(&format!("{}3:seqi-1e{}5:token1:t1:v1:x", k(32), sig()))),
    ];
    each_gets(&errors.map(|(code, datagram)| (Gets::Error(code), datagram)), 0);
    // A good token is what counts: these are like any other.
    let good = [put("5:token1:t1:vi0e"), q("put", "d5:token1:t1:v1:xe")];
    each_gets(&good.map(|datagram| (Gets::Reply, datagram)), 2);
}

/// Statement 16: what is no message gets nothing, and what is odd but clear gets its answer, as from a stock grape.
#[test]
fn noise_gets_nothing_and_odd_queries_their_answer() {
    let nothing = [
        b"".to_vec(),
        b"d".to_vec(),
        b"x".repeat(1400),
        b"l".repeat(1400),
        b"d1:ad2:id20:".to_vec(),
        format!("d1:a{}1:q4:ping1:t4:abcd1:y1:xe", dict("")).into_bytes(),
        format!("d1:a{}1:q4:ping1:t4:abcd1:yi5ee", dict("")).into_bytes(),
        format!("d1:a{}1:q4:ping1:t4:abcde", dict("")).into_bytes(),
        // Answers that nobody waits for.
        b"d1:rd2:id20:iiiiiiiiiiiiiiiiiiiie1:t4:abcd1:y1:re".to_vec(),
        b"d1:eli203e1:xe1:t4:abcd1:y1:ee".to_vec(),
        b"d1:r1:x1:t4:abcd1:y1:re".to_vec(),
        b"d1:ei5e1:t4:abcd1:y1:ee".to_vec(),
        b"de".to_vec(),
    ];
    let answered = [
        q("ping", "de"),
        q("ping", "d2:id3:abce"),
        q("ping", "d2:idi5ee"),
        q("ping", "le"),
        q("ping", "4:text"),
        b"d1:q4:ping1:t4:abcd1:y1:qe".to_vec(),
        q("find_node", "d6:target0:e"),
        q("find_node", &format!("d6:target900:{}e", "t".repeat(900))),
        q("get_peers", "d9:info_hash0:e"),
        // Unsorted, and with fields that nobody knows.
        format!("d1:y1:q1:v4:LT001:t4:abcd1:q4:ping2:xxd1:ai1ee1:a{}e", dict("4:wantl2:n4e")).into_bytes(),
    ];
    let cases = nothing.map(|datagram| (Gets::Nothing, datagram)).into_iter();
    each_gets(&cases.chain(answered.map(|datagram| (Gets::Reply, datagram))).collect::<Vec<_>>(), 0);
    let mut bench = Bench::new();
    for datagram in
        [&b"d1:q4:ping1:t4:abcd1:y1:qe"[..], b"", b"d1:rd2:id20:iiiiiiiiiiiiiiiiiiiie1:t4:abcd1:y1:re"]
    {
        assert_eq!(bench.send_from(at(1, 0), datagram), None, "nothing can be sent to port 0");
    }
}
