//! With the real thing: stock grapes from npm beside `vintner grape`, in one DHT. What runs on top of them, stock links and RPC
//! programs, is in `tests/grenache`.

use crate::{
    peers::{announced, found, puts_eventually, signed},
    support::{self, Answer, Grape, eventually, exchange, grape, stock_grape, vintner_grape},
    testnet::{bid, create, lists, until},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use vintner::{
    exchange::{BidOutcome, OfferRef},
    node::{Node, NodeConfig},
};

/// Two stock grapes and one of ours, all knowing of each other.
pub async fn ring() -> (Grape, Grape, Grape) {
    let first = stock_grape(&[]).await;
    let second = stock_grape(&[first.bootstrap()]).await;
    let ours = vintner_grape(&[first.bootstrap(), second.bootstrap()], &["-b", "127.0.0.1"]).await;
    (first, second, ours)
}

/// Statement 12: stock grapes find a name announced through ours, and ours one announced through them, of any length.
#[tokio::test]
async fn a_name_announced_through_any_grape_is_found_through_the_others() {
    let (first, second, ours) = ring().await;
    announced(&first, "rest:util:net", 1337).await;
    found(&ours, "rest:util:net", 1337).await;
    // Of twenty bytes, shorter and longer; a stock grape that looked for it before must not be in the way.
    let names = ["B", "test", "rest:util:net:2", "exactly:twenty:bytes", &"long:".repeat(50)];
    for (port, name) in (1338..).zip(names) {
        announced(&ours, name, port).await;
        found(&first, name, port).await;
        found(&second, name, port).await;
        let name = format!("{name}:back");
        announced(&second, &name, port).await;
        found(&ours, &name, port).await;
    }
}

/// Statement 20, 26, 33: a stock grape that verifies reads our signed value, nodes beside it or not, and hears our announcement.
#[tokio::test]
async fn our_signed_value_is_verified_and_its_announcement_heard_by_stock_grapes() {
    let (mut first, mut second, ours) = ring().await;
    let (data, target) = signed(1, 7, "größe", "");
    puts_eventually(&ours, data.clone(), &target).await;
    for reader in [&first, &second, &ours] {
        let got =
            eventually(reader.http, "get", json!(target), |answer| !answer.body.is_empty()).await.json();
        for field in ["v", "k", "sig", "seq"] {
            assert_eq!(got[field], data[field], "{field} of {got}");
        }
    }
    let name = format!("NEW_OFFER:{target}");
    announced(&ours, &name, 1337).await;
    for stock in [&mut first.process, &mut second.process] {
        assert_eq!(stock.event("announce").await["name"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_offer_is_heard_and_read_by_a_stock_grape_and_sold_across_stock_grapes() {
    let (mut first, second, ours) = ring().await;
    let dirs = tempfile::tempdir().unwrap();
    let bootstrap = vec![first.bootstrap(), second.bootstrap()];
    let node = async |name: &str| {
        let config = NodeConfig::local("test".parse().unwrap(), dirs.path().join(name), bootstrap.clone());
        let node = Node::start(config).await.unwrap();
        until("the node to know all the others", || async { node.status().dht.nodes >= 3 }).await;
        node
    };
    let (maker, taker) = (node("maker").await, node("taker").await);
    let offer = create(&maker, "100").await;
    let hash = maker.exchange().snapshot().state.find(OfferRef::Id(offer)).unwrap().target().to_string();
    // The nodes' own ids are announced too.
    let heard = async {
        loop {
            let name = first.process.event("announce").await["name"].as_str().unwrap().to_owned();
            if name.starts_with("NEW_OFFER") {
                break name;
            }
        }
    };
    assert_eq!(tokio::time::timeout(support::PATIENCE, heard).await.unwrap(), format!("NEW_OFFER:{hash}"));
    for grape in [&first, &second, &ours] {
        let got = eventually(grape.http, "get", json!(hash), |answer| !answer.body.is_empty()).await.json();
        let record: Value = serde_json::from_str(got["v"].as_str().unwrap()).unwrap();
        assert_eq!((&record["id"], &record["availability"]), (&json!(offer.to_string()), &json!(true)));
        assert_eq!(
            (got["seq"].as_u64(), got["k"].as_str().map(str::len)),
            (record["sequence"].as_u64(), Some(64))
        );
    }
    until("the offer to be listed", || async { lists(&taker, offer) }).await;
    let (_, outcome) = bid(&taker, offer, "100").await.unwrap();
    assert!(matches!(outcome, BidOutcome::Accepted(_)), "{outcome:?}");
    eventually(first.http, "get", json!(hash), |answer| answer.body.contains(r#"\"availability\":false"#))
        .await;
    maker.stop().await;
    taker.stop().await;
}

/// Statement 21, 23, 24, 25, 42: ours reads a stock grape's signed value; a refusal of all others comes as status 302 or 301 with
/// its text.
#[tokio::test]
async fn a_stock_grapes_signed_value_is_read_by_ours_and_old_ones_are_refused() {
    let (first, second, ours) = ring().await;
    let (data, target) = signed(2, 7, "seven", "");
    // Each stores it on the others, so after both every grape has it and none can accept an older one.
    for putter in [&first, &second] {
        eventually(putter.http, "put", data.clone(), |answer| answer.json() == json!(target)).await;
    }
    let got = eventually(ours.http, "get", json!(target), |answer| !answer.body.is_empty()).await.json();
    assert_eq!((&got["v"], &got["seq"]), (&json!("seven"), &json!(7)));

    let older = grape(ours.http, "put", signed(2, 6, "six", "").0).await;
    assert_eq!((older.status, older.json()), (302, json!("302 sequence number less than current")));
    assert!(!older.head.to_lowercase().contains("\nlocation:"), "{}", older.head);
    let (mut newer, _) = signed(2, 8, "eight", "");
    newer["cas"] = 3.into();
    let mismatch = grape(ours.http, "put", newer).await;
    assert_eq!((mismatch.status, mismatch.json()), (301, json!("301 CAS mismatch, re-read and try again")));

    let (salted, target) = signed(2, 1, "salted", "foobar");
    eventually(first.http, "put", salted, |answer| answer.json() == json!(target)).await;
    let with_salt = json!({"hash": target, "salt": "foobar"});
    let got = eventually(ours.http, "get", with_salt, |answer| !answer.body.is_empty()).await.json();
    assert_eq!(got["v"], "salted");
}

/// Statement 38, 39, 40, 41, 43: requests whose answers do not depend on who is asked: status, body and names of headers are a
/// stock grape's.
#[tokio::test]
async fn answers_are_byte_for_byte_those_of_a_stock_grape() {
    let stock_first = stock_grape(&[]).await;
    let stock = stock_grape(&[stock_first.bootstrap()]).await;
    let ours_first = vintner_grape(&[], &[]).await;
    let ours = vintner_grape(&[ours_first.bootstrap()], &[]).await;

    let long = "x".repeat(8193);
    let (key, short) = ("ab".repeat(32), "cd".repeat(32));
    let units = "é".repeat(1000);
    let put = |data: &str| format!(r#"{{"data":{data}}}"#);
    let puts = [
        r#"{"v":"hello"}"#.to_owned(),
        r#""text""#.to_owned(),
        r#"{"v":true}"#.to_owned(),
        r#"{"v":[1,"a",{"b":null,"a":-7.9}]}"#.to_owned(),
        r#"{"v":{"z":1,"a":"é"}}"#.to_owned(),
        r#"{"v":""}"#.to_owned(),
        "{}".to_owned(),
        "5".to_owned(),
        "null".to_owned(),
        r#"{"v":null}"#.to_owned(),
        format!(r#"{{"v":"{units}"}}"#),
        r#"{"v":"x","k":5}"#.to_owned(),
        r#"{"v":"x","k":true}"#.to_owned(),
        r#"{"v":"x","k":{}}"#.to_owned(),
        r#"{"v":"x","k":"abcd"}"#.to_owned(),
        r#"{"v":"x","k":"abcd","cas":null}"#.to_owned(),
        format!(r#"{{"v":"x","k":"{key}"}}"#),
        format!(r#"{{"v":"x","k":"{key}","sig":"{short}"}}"#),
        format!(r#"{{"v":"x","k":"{key}","sig":"{short}","seq":null}}"#),
        format!(r#"{{"v":"x","k":"{key}","sig":"{short}","seq":1,"salt":"{key}x"}}"#),
    ];
    let gets =
        [r#""zz""#, r#""""#, "5", "[]", "{}", "null", "true", r#"{"hash":7}"#, r#"{"hash":"ab","salt":5}"#];
    let announces = [
        r#"["a"]"#,
        r#"["a","1"]"#,
        r#"["a",1.5]"#,
        r#"["a",null]"#,
        r#""a""#,
        "[5,1]",
        "[null,1]",
        "[true,1]",
        "[{},1]",
        "[]",
    ];
    let lookups = [r#""nobody""#, r#""""#, "5", "null", "[]", "{}"];
    let mut cases: Vec<(String, String)> = Vec::new();
    cases.extend(puts.iter().map(|data| ("POST /put".to_owned(), put(data))));
    cases.extend(gets.iter().map(|data| ("POST /get".to_owned(), put(data))));
    cases.extend(announces.iter().map(|data| ("POST /announce".to_owned(), put(data))));
    cases.extend(lookups.iter().map(|data| ("POST /lookup".to_owned(), put(data))));
    for path in [
        "/",
        "/LOOKUP",
        "/Lookup",
        "/_lookup",
        "/-lookup",
        "/lookup-",
        "/lookup/",
        "/lookup?x",
        "//lookup",
        "/look-up",
        "/%6cookup",
    ] {
        cases.push((format!("PUT {path}"), r#"{"data":"nobody"}"#.to_owned()));
    }
    for body in ["", "null", "5", "[]", "garbage", "\u{feff}{}", "{}", "{\"data\":", &long] {
        for operation in ["put", "get", "announce", "lookup", "nothing"] {
            cases.push((format!("POST /{operation}"), body.to_owned()));
        }
    }
    for (line, body) in cases {
        let head = format!("{line} HTTP/1.1");
        let theirs = exchange(stock.http, &head, &body).await;
        let answer = exchange(ours.http, &head, &body).await;
        let shown: String = body.chars().take(200).collect();
        assert_eq!((answer.status, &answer.body), (theirs.status, &theirs.body), "{line} {shown}");
        assert_eq!(header_names(&answer), header_names(&theirs), "{line} {shown}");
    }
}

fn header_names(answer: &Answer) -> BTreeSet<String> {
    let names = answer.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.to_lowercase()).collect()
}
