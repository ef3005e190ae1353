//! What a ring of stock grapes and ours goes through: names of every length, grapes that verify nothing, restarts, parted and
//! stopped nodes.

use crate::{
    grape::ring,
    peers::{announced, found, node_id, put_by_udp, puts_eventually, reaches, signed, value},
    support::{
        Grape, eventually, exchange, grape, stock_grape, stock_grape_with, vintner_grape, vintner_grape_on,
    },
    testnet,
};
use serde_json::json;
use std::time::{Duration, Instant};
use vintner::dht::DhtEvent;

/// Longer than joining takes, also on a busy machine, and shorter than what a stock grape makes one wait.
const SECONDS: Duration = Duration::from_secs(20);

/// A stock grape as its command starts it: it verifies nothing, and refuses signed values.
async fn plain_stock_grape(bootstrap: &[String]) -> Grape {
    stock_grape_with(bootstrap, json!({})).await
}

/// Statement 11, 12: names of 1 to 900 bytes are found through stock grapes and ours, whichever they were announced through.
#[tokio::test]
async fn names_of_any_length_go_both_ways() {
    let (first, second, ours) = ring().await;
    let lengths = [1, 3, 13, 20, 21, 300, 900];
    for (n, len) in lengths.into_iter().enumerate() {
        let (port, theirs, own) = (3000 + n as u16, "t".repeat(len), "o".repeat(len));
        announced(&first, &theirs, port).await;
        found(&ours, &theirs, port).await;
        announced(&ours, &own, port).await;
        found(&second, &own, port).await;
    }
}

/// Statement 20: a stock grape without `verify` passes signed values on to ours, which keeps them, and reads none itself; values
/// without a key go both ways.
#[tokio::test]
async fn a_stock_grape_that_verifies_nothing_still_passes_signed_values_on() {
    let plain = plain_stock_grape(&[]).await;
    let ours = vintner_grape(&[plain.bootstrap()], &["-b", "127.0.0.1"]).await;
    let (data, target) = signed(40, 1, "through the plain one", "");
    puts_eventually(&plain, data, &target).await;
    assert_eq!(value(&ours, json!(target)).await["v"], "through the plain one");
    let unread = grape(plain.http, "get", json!(target)).await;
    assert_eq!((unread.status, &*unread.body), (200, ""), "it believes no signature");

    // It refuses ours with a code that is not passed on, and we say what a stock grape says.
    let (refused, refused_target) = signed(41, 1, "for the plain one", "");
    let all_failed = grape(ours.http, "put", refused).await;
    assert_eq!((all_failed.status, all_failed.json()), (200, json!("All queries failed")));
    assert_eq!(value(&ours, json!(refused_target)).await["token"], json!(null), "the putter keeps it");

    let hello = "6d33adc2b6b2c14c3036feefb7fedbca1a880527";
    puts_eventually(&plain, json!({"v": "hello world"}), hello).await;
    assert_eq!(value(&ours, json!(hello)).await["v"], "hello world");
    let number = grape(ours.http, "put", json!({"v": [1, "a"]})).await.json();
    assert_eq!(value(&plain, number).await["v"], "1,a");
}

/// Statement 33: each announcement that ours accepts from a stock grape is an event with the name, repeats too, and the same the
/// other way round.
#[tokio::test]
async fn each_announcement_is_heard_on_the_other_side() {
    let (mut first, _second, _ours) = ring().await;
    let listener = testnet::grape(0, vec![first.bootstrap()]).await;
    reaches(&first, 3).await;
    let mut events = listener.events();
    let name = "größe:of:name";
    for _ in 0..3 {
        announced(&first, name, 1337).await;
    }
    announced(&first, "the:end", 1338).await;
    let mut heard = Vec::new();
    loop {
        let event = tokio::time::timeout(SECONDS, events.recv()).await.unwrap().unwrap();
        if let DhtEvent::Announce { name, from } = event {
            heard.push((String::from_utf8(name.to_vec()).unwrap(), from.port()));
            if from.port() == 1338 {
                break;
            }
        }
    }
    let expected = [(name, 1337), (name, 1337), (name, 1337), ("the:end", 1338)];
    assert_eq!(heard, expected.map(|(name, port)| (name.to_owned(), port)));

    for _ in 0..3 {
        listener.announce(b"from:ours", 1).await.unwrap();
    }
    listener.announce(b"the:very:end", 1).await.unwrap();
    let mut from_ours = 0;
    loop {
        match first.process.event("announce").await["name"].as_str().unwrap() {
            "from:ours" => from_ours += 1,
            "the:very:end" => break,
            _ => {}
        }
    }
    assert_eq!(from_ours, 3);
    listener.shutdown().await;
}

/// Statement 34, 36: ours, started before its only bootstrap node, joins by itself, and the name that failed before is announced
/// at once, without a lookup in between.
#[tokio::test]
async fn a_grape_started_first_joins_a_stock_grape_that_comes_later() {
    let port = testnet::free_port();
    let ours = vintner_grape(&[format!("127.0.0.1:{port}")], &["-b", "127.0.0.1"]).await;
    let alone = grape(ours.http, "announce", json!(["name", 1337])).await;
    assert_eq!((alone.status, alone.json()), (200, json!("No nodes to query")));
    let stock = stock_grape_with(&[], json!({"dht": port})).await;
    let started = Instant::now();
    eventually(ours.http, "announce", json!(["name", 1337]), |answer| answer.json() == json!(1)).await;
    assert!(started.elapsed() < SECONDS, "{:?}", started.elapsed());
    found(&stock, "name", 1337).await;
}

/// Statement 35: ours, restarted on its port with what it keeps, is the same node to a stock grape, which announces on it at once.
#[tokio::test]
async fn a_restart_on_the_same_port_keeps_the_id_and_the_stock_grapes() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", dir.path().to_str().unwrap(), "-b", "127.0.0.1"];
    let stock = stock_grape(&[]).await;
    let ours = vintner_grape(&[stock.bootstrap()], &flags).await;
    reaches(&stock, 1).await;
    let (port, id) = (ours.dht, node_id(ours.dht));
    assert!(ours.process.terminate().await.success());
    let again = vintner_grape_on(port, &[stock.bootstrap()], &flags).await;
    assert_eq!(node_id(port), id);
    let announced = grape(stock.http, "announce", json!(["after", 1338])).await;
    assert_eq!(announced.json(), json!(1), "at the first attempt");
    found(&again, "after", 1338).await;
}

/// Statement 37: with a stock grape stopped in the middle of the ring, each lookup through ours takes less than a second, each of
/// a name that nobody has asked for before.
#[tokio::test]
async fn a_stopped_stock_grape_does_not_hold_up_lookups_through_ours() {
    let (first, second, ours) = ring().await;
    let stopped = stock_grape(&[first.bootstrap(), ours.bootstrap()]).await;
    let other = vintner_grape(&[first.bootstrap(), second.bootstrap()], &["-b", "127.0.0.1"]).await;
    announced(&ours, "service", 1337).await;
    reaches(&stopped, 4).await;
    stopped.process.signal("STOP").await;
    let mut slowest = Duration::ZERO;
    for n in 0..30 {
        let started = Instant::now();
        assert_eq!(grape(other.http, "lookup", json!(format!("nobody {n}"))).await.json(), json!([]));
        slowest = slowest.max(started.elapsed());
    }
    let started = Instant::now();
    assert_eq!(grape(other.http, "lookup", json!("service")).await.json(), json!(["127.0.0.1:1337"]));
    slowest = slowest.max(started.elapsed());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// What stock grapes hold is read through ours: values nested deeper and longer than ours takes itself. And ours takes everything
/// that is at most 1,000 bytes long, however deep, over HTTP and UDP alike, which all stock grapes carry.
#[tokio::test]
async fn values_are_read_as_long_and_as_deep_as_stock_grapes_hold_them() {
    let plain = stock_grape_with(&[], json!({"payload": 1_000_000})).await;
    // A stock grape says where a value is only when another one takes it.
    let second = stock_grape_with(&[plain.bootstrap()], json!({})).await;
    let ours = vintner_grape(&[plain.bootstrap()], &["-b", "127.0.0.1"]).await;
    let other = vintner_grape(&[plain.bootstrap()], &["-b", "127.0.0.1"]).await;
    reaches(&plain, 3).await;
    reaches(&ours, 3).await;
    let deep = |n: usize| "[".repeat(n) + "\"x\"" + &"]".repeat(n);
    for (at, v) in [deep(33), deep(130), deep(498), deep(2000), json!({"a": "b".repeat(3000)}).to_string()]
        .iter()
        .enumerate()
    {
        let body = format!(r#"{{"data":{{"v":{v}}}}}"#);
        let put = exchange(plain.http, "POST /put HTTP/1.1", &body).await;
        let target = put.json();
        assert_eq!(target.as_str().map(str::len), Some(40), "{at}: {}", put.body);
        let shown = if at == 4 { "[object Object]" } else { "x" };
        assert_eq!(value(&ours, json!({"hash": target, "cache": false})).await["v"], shown, "{at}");
    }

    // 498 lists around a string of one letter are 999 bytes.
    for (n, fits) in [
        (33, true),
        (126, true),
        (127, true),
        (300, true),
        (498, true),
        (499, false),
        (509, false),
        (700, false),
    ] {
        // Another value at each length, so that it is not held already.
        let v = deep(n).replace('x', "y");
        let body = format!(r#"{{"data":{{"v":{v}}}}}"#);
        let put = exchange(ours.http, "POST /put HTTP/1.1", &body).await;
        assert_eq!(put.status, 200, "{n}: {}", put.body);
        if fits {
            let hash = json!({"hash": put.json(), "cache": false});
            assert_eq!(value(&plain, put.json()).await["v"], "y", "{n}");
            assert_eq!(value(&other, hash).await["v"], "y", "{n}");
        } else {
            assert_eq!(put.json(), json!("v must be less than 1000 bytes in put()"), "{n}");
        }
        let bencoded = "l".repeat(n) + "1:y" + &"e".repeat(n);
        let code = put_by_udp(ours.dht, bencoded.as_bytes());
        assert_eq!(code, if fits { 0 } else { 205 }, "{n}");
    }
    drop(second);
}

/// A value that stock grapes cannot carry is refused before it is sent; one that they keep silent about, from whoever, stops nobody.
#[tokio::test]
async fn what_stock_grapes_cannot_carry_is_refused_and_their_silence_stops_nothing() {
    let (first, second, ours) = ring().await;
    for v in
        [json!(0), json!(false), json!(-0.5), json!({"\u{e000}": 1, "\u{1f600}": 2}), json!({"__proto__": 1})]
    {
        let refused = grape(ours.http, "put", json!({"v": v})).await;
        assert!(
            refused.json().as_str().is_some_and(|said| said.starts_with("the value cannot be put: ")),
            "{v}: {}",
            refused.body
        );
    }
    for v in [json!([0]), json!({"a": 0}), json!(-1), json!(""), json!([]), json!({}), json!("\u{1f600}")] {
        let target = grape(ours.http, "put", json!({"v": v})).await.json();
        assert_eq!(target.as_str().map(str::len), Some(40), "{v}: {target}");
        value(&second, target).await;
    }
    // Whatever goes on, each announcement works, and each name is found.
    let value_of_nobody = json!({"v": "e", "k": "ab".repeat(32), "sig": "cd".repeat(64), "seq": 1});
    for n in 0..20 {
        grape(first.http, "put", json!({"v": 0})).await;
        grape(ours.http, "put", value_of_nobody.clone()).await;
        let name = format!("in between {n}");
        let announced = grape(ours.http, "announce", json!([name, 1400 + n])).await.json();
        assert!(announced.as_u64() >= Some(1), "{n}: {announced}");
        found(&ours, &name, 1400 + n).await;
    }
}
