//! The Grape HTTP API over real sockets: the exchanges that stock programs depend on, byte for byte, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

#[path = "grape/events.rs"]
mod events;
#[path = "grape/hardness.rs"]
mod hardness;
#[path = "support/ports.rs"]
mod ports;
#[path = "grape/settings.rs"]
mod settings;
#[path = "grape/state.rs"]
mod state;
mod support;

use serde_json::json;
use support::{Grape, eventually, exchange, grape, raw, vintner_grape};
use tokio::process::Command;
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

async fn pair() -> (Grape, Grape) {
    let first = vintner_grape(&[], &[]).await;
    let second = vintner_grape(&[first.bootstrap()], &["--check_maxPayloadSize", "500"]).await;
    (first, second)
}

/// Statement 38, 39, 40, 43: the error strings of announce and lookup, misses, bad JSON and unknown paths, byte for byte.
#[tokio::test]
async fn errors_are_what_a_stock_grape_says() {
    let (ours, _other) = pair().await;
    let cases = [
        ("POST /lookup", r#"{"rid":"r1","data":"rest:util:net"}"#, 200, "[]"),
        ("POST /lookup", r#"{"data":""}"#, 200, r#""ERR_GRAPE_LOOKUP""#),
        ("POST /lookup", r#"{"data":5}"#, 200, r#""ERR_GRAPE_LOOKUP""#),
        ("POST /lookup", "{}", 200, r#""ERR_GRAPE_LOOKUP""#),
        ("POST /lookup", "5", 200, r#""ERR_GRAPE_LOOKUP""#),
        ("POST /lookup", "null", 500, "Cannot read properties of null (reading 'data')"),
        ("POST /lookup", "garbage", 500, "ERR_GRAPE_PAYLOAD_INVALID"),
        ("GET /lookup", "", 500, "ERR_GRAPE_PAYLOAD_INVALID"),
        ("POST /foo", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
        ("POST /", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
        ("POST /lookup?x=1", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
        ("POST /announce", r#"{"data":"abc"}"#, 200, r#""ERR_GRAPE_ANNOUNCE""#),
        ("POST /announce", r#"{"data":["abc","1337"]}"#, 200, r#""ERR_GRAPE_SERVICE_PORT""#),
        ("POST /announce", r#"{"data":["abc",65536]}"#, 200, r#""ERR_GRAPE_SERVICE_PORT""#),
        ("POST /announce", r#"{"data":["abc",-1]}"#, 200, r#""ERR_GRAPE_SERVICE_PORT""#),
        ("POST /get", r#"{"data":"zz"}"#, 200, ""),
        ("POST /get", r#"{"data":"0000000000000000000000000000000000000000"}"#, 200, ""),
        ("POST /get", r#"{"rid":"r"}"#, 500, "Cannot read properties of undefined (reading 'salt')"),
        ("POST /get", r#"{"data":{}}"#, 200, r#""ERR_GRAPE_GENERIC""#),
        ("POST /put", "{}", 500, "Cannot read properties of undefined (reading 'k')"),
    ];
    for (line, body, status, expected) in cases {
        let answer = exchange(ours.http, &format!("{line} HTTP/1.1"), body).await;
        assert_eq!((answer.status, &*answer.body), (status, expected), "{line} {body}");
        assert!(!answer.head.contains("content-type"), "{}", answer.head);
        assert!(answer.head.contains(&format!("content-length: {}", expected.len())), "{}", answer.head);
    }
}

/// Statement 12, 17, 38, 39, 43: announce counts, lookup lists, put gives 40 hex digits, get an object; method and content type
/// do not matter.
#[tokio::test]
async fn names_and_values_go_from_one_grape_to_the_other() {
    let (ours, other) = pair().await;
    eventually(ours.http, "announce", json!(["rest:util:net", 1337]), |a| a.json() == json!(1)).await;
    assert_eq!(grape(other.http, "lookup", json!("rest:util:net")).await.json(), json!(["127.0.0.1:1337"]));
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let head = format!("{method} /Lookup HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded");
        let answer = exchange(other.http, &head, r#"{"data":"rest:util:net"}"#).await;
        assert_eq!(answer.json(), json!(["127.0.0.1:1337"]), "{method}");
    }
    assert_eq!(grape(ours.http, "announce", json!(["svc0", 0])).await.json(), json!(1));
    let own_port = json!([format!("127.0.0.1:{}", ours.dht)]);
    assert_eq!(grape(other.http, "lookup", json!("svc0")).await.json(), own_port);

    let hello = "6d33adc2b6b2c14c3036feefb7fedbca1a880527";
    assert_eq!(grape(ours.http, "put", json!({"v": "hello world"})).await.body, format!("\"{hello}\""));
    let held = grape(ours.http, "get", json!(hello)).await.json();
    assert_eq!((&held["v"], &held["token"]), (&json!("hello world"), &json!(null)));
    let asked = grape(ours.http, "get", json!({"hash": hello.to_uppercase(), "cache": false})).await.json();
    assert_eq!(asked["v"], "hello world");
    let number = grape(ours.http, "put", json!({"v": 5})).await.json();
    assert_eq!(grape(other.http, "get", number).await.json()["v"], "5");
}

/// Statement 38: a grape alone says that there are no nodes to query, with status 200.
#[tokio::test]
async fn a_grape_alone_has_nobody_to_ask() {
    let ours = vintner_grape(&[], &[]).await;
    assert_eq!(grape(ours.http, "announce", json!(["name", 1])).await.body, r#""No nodes to query""#);
    assert_eq!(grape(ours.http, "lookup", json!("name")).await.body, "[]");
}

/// Statement 40, 41: a body over the limit is 413 in plain text; the longest one is read.
#[tokio::test]
async fn bodies_over_the_limit_are_refused_and_keep_alive_works() {
    let (ours, small) = pair().await;
    let long = "x".repeat(501);
    let answer = exchange(small.http, "POST /lookup HTTP/1.1", &long).await;
    assert_eq!((answer.status, &*answer.body), (413, "ERR_GRAPE_PAYLOAD_SIZE"));
    let answer = exchange(ours.http, "POST /lookup HTTP/1.1", &"x".repeat(8193)).await;
    assert_eq!(answer.status, 413);
    let answer = exchange(ours.http, "POST /lookup HTTP/1.1", &"x".repeat(8192)).await;
    assert_eq!(answer.status, 500);

    let two = "POST /a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}\
               POST /b HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}";
    let answer = raw(ours.http, two.as_bytes()).await;
    assert!(answer.head.contains("connection: keep-alive") && answer.head.contains("keep-alive: timeout=5"));
    assert!(answer.body.matches("ERR_REQ_NOTFOUND").count() == 2, "{answer:?}");
}

/// Statement 41: a body over the limit is refused before it has come in whole, and the connection ends.
#[tokio::test]
async fn a_body_over_the_limit_is_refused_early_and_the_connection_ends() {
    let ours = vintner_grape(&[], &[]).await;
    let head = "POST /put HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\n";
    // Nothing comes after these, so that an answer, and an end, can only come early.
    for request in [
        format!("{head}content-length: 1000000\r\n\r\n{}", "x".repeat(8193)),
        format!("{head}transfer-encoding: chunked\r\n\r\n2500\r\n{}", "x".repeat(8193)),
    ] {
        let answer = raw(ours.http, request.as_bytes()).await;
        assert_eq!((answer.status, &*answer.body), (413, "ERR_GRAPE_PAYLOAD_SIZE"));
        assert!(!answer.head.contains("content-type"), "{}", answer.head);
    }
    assert_eq!(grape(ours.http, "lookup", json!("still")).await.body, "[]");
}

/// Statement 42: where all others refuse with 302 or 301, that is the status, with the text as a JSON string and no Location.
#[tokio::test]
async fn refusals_of_a_version_become_statuses() {
    let (ours, _other) = pair().await;
    let put = |seq: i64, text: &str| {
        let key = KeyPair::from_seed(&[1; 32]);
        let item = VerifiedItem::sign(&key, b"", seq, bencode_bytes(text.as_bytes())).unwrap();
        json!({"v": text, "k": item.k.to_string(), "sig": encode_hex(&item.sig.0), "seq": seq})
    };
    eventually(ours.http, "put", put(5, "five"), |answer| answer.json().as_str().map(str::len) == Some(40))
        .await;
    let mut swap = put(6, "six");
    swap["cas"] = 4.into();
    for (data, status, text) in [
        (put(4, "four"), 302, "302 sequence number less than current"),
        (put(5, "other"), 302, "302 sequence number less than current"),
        (swap, 301, "301 CAS mismatch, re-read and try again"),
    ] {
        let answer = grape(ours.http, "put", data).await;
        assert_eq!((answer.status, answer.json()), (status, json!(text)));
        assert!(!answer.head.to_lowercase().contains("\nlocation:"), "{}", answer.head);
    }
    let again = grape(ours.http, "put", put(5, "five")).await;
    assert_eq!(again.status, 200, "an identical renewal is welcome: {again:?}");
}

#[tokio::test]
async fn web_pages_and_foreign_names_are_refused() {
    let (ours, _other) = pair().await;
    let body = r#"{"data":"name"}"#;
    for origin in ["https://example.org", "http://localhost:30001", "null"] {
        let head = format!("POST /lookup HTTP/1.1\r\norigin: {origin}");
        let answer = exchange(ours.http, &head, body).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.body.contains("Origin"), "{}", answer.body);
    }
    let request = |host: &str| {
        format!(
            "POST /lookup HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{body}"
        )
    };
    assert_eq!(raw(ours.http, request("evil.example").as_bytes()).await.status, 403);
    assert_eq!(raw(ours.http, request("localhost").as_bytes()).await.status, 200);

    let open = vintner_grape(&[], &["-b", "0.0.0.0"]).await;
    let address = ([127, 0, 0, 1], open.http.port()).into();
    assert_eq!(raw(address, request("grape.example").as_bytes()).await.status, 200);
    let page = exchange(address, "POST /lookup HTTP/1.1\r\norigin: https://example.org", body).await;
    assert_eq!(page.status, 403);
}

/// A page that the owner names gets what its browser needs; all others are refused as before, also when they look alike.
#[tokio::test]
async fn pages_that_are_named_may_use_the_api_and_no_others() {
    let more =
        ["--allow-origin", "https://trade.example", "--allow-origin", "http://localhost:8080", "--events"];
    let ours = vintner_grape(&[], &more).await;
    let body = r#"{"data":"name"}"#;
    let ask = |origin: &str, first: &str| format!("{first} HTTP/1.1\r\norigin: {origin}");
    for origin in ["https://trade.example", "http://localhost:8080"] {
        let answer = exchange(ours.http, &ask(origin, "POST /lookup"), body).await;
        assert_eq!((answer.status, &*answer.body), (200, "[]"), "{origin}");
        assert!(
            answer.head.contains(&format!("access-control-allow-origin: {origin}\r\n")),
            "{}",
            answer.head
        );
        assert!(answer.head.contains("vary: Origin\r\n"), "{}", answer.head);
        // Errors can be read, too.
        let answer = exchange(ours.http, &ask(origin, "POST /lookup"), "garbage").await;
        assert_eq!(answer.status, 500);
        assert!(
            answer.head.contains(&format!("access-control-allow-origin: {origin}\r\n")),
            "{}",
            answer.head
        );
        // What a browser asks before it sends JSON.
        let asks = "access-control-request-method: POST\r\naccess-control-request-headers: content-type,x-other\r\n\
                    access-control-request-private-network: true";
        let answer = exchange(ours.http, &format!("{}\r\n{asks}", ask(origin, "OPTIONS /lookup")), "").await;
        assert_eq!((answer.status, &*answer.body), (204, ""), "{origin}");
        for line in [
            &*format!("access-control-allow-origin: {origin}"),
            "access-control-allow-methods: GET, POST",
            "access-control-allow-headers: content-type,x-other",
            "access-control-allow-private-network: true",
            "access-control-max-age: 600",
            "vary: Origin",
        ] {
            assert!(answer.head.contains(&format!("{line}\r\n")), "{line} is not in {}", answer.head);
        }
        assert!(!answer.head.contains("allow-credentials"), "{}", answer.head);
        // A proxy before the grape may pass on the name that the page knows.
        let request = format!(
            "POST /lookup HTTP/1.1\r\nhost: trade.example\r\norigin: {origin}\r\nconnection: close\r\n\
             content-length: 15\r\n\r\n{body}"
        );
        assert_eq!(raw(ours.http, request.as_bytes()).await.status, 200);
    }
    for origin in [
        "http://trade.example",
        "https://trade.example:8443",
        "https://trade.example.evil.example",
        "https://TRADE.example",
        "https://trade.example,http://localhost:8080",
        "http://localhost:8081",
        "null",
        "",
    ] {
        for first in ["POST /lookup", "OPTIONS /lookup", "GET /events", "GET /metrics"] {
            let head = format!("{}\r\naccess-control-request-method: POST", ask(origin, first));
            let answer = exchange(ours.http, &head, body).await;
            assert_eq!(answer.status, 403, "{origin} {first}");
            assert!(answer.body.contains("--allow-origin"), "{}", answer.body);
            assert!(!answer.head.contains("access-control-"), "{}", answer.head);
        }
    }
    // A program is answered as always: OPTIONS is a method like any other.
    let answer = exchange(ours.http, "OPTIONS /lookup HTTP/1.1", body).await;
    assert_eq!((answer.status, &*answer.body), (200, "[]"));
    assert!(!answer.head.contains("access-control-"), "{}", answer.head);
}

/// Statement 38: what JavaScript reads as JSON and others do not: half a surrogate pair, as a cut name has it, and numbers beyond
/// every double.
#[tokio::test]
async fn texts_that_only_javascript_reads_are_read() {
    let (ours, other) = pair().await;
    let announce = |body: &'static str| eventually_one(&ours, body);
    announce(r#"{"rid":1e400,"data":["cut \ud83d",1337]}"#).await;
    let name = "{\"data\":\"cut \u{fffd}\"}";
    assert_eq!(exchange(other.http, "POST /lookup HTTP/1.1", name).await.body, r#"["127.0.0.1:1337"]"#);
    let cut = r#"{"data":"cut \ud83d"}"#;
    assert_eq!(exchange(other.http, "POST /lookup HTTP/1.1", cut).await.body, r#"["127.0.0.1:1337"]"#);
    for (head, body, said) in [
        ("POST /announce", r#"{"data":["n",1e400]}"#, "ERR_GRAPE_SERVICE_PORT"),
        ("POST /put", r#"{"data":{"v":1e400}}"#, "v holds a number beyond 2^53"),
    ] {
        let answer = exchange(ours.http, &format!("{head} HTTP/1.1"), body).await;
        assert_eq!((answer.status, answer.json()), (200, json!(said)), "{body}");
    }
}

/// Differences on purpose: an own signed value with a salt is held here, and read without it; a request has at most 100 header
/// lines, a name 1,024 bytes.
#[tokio::test]
async fn what_ours_does_otherwise_is_as_its_page_says() {
    let (ours, _other) = pair().await;
    let key = KeyPair::from_seed(&[7; 32]);
    let item = VerifiedItem::sign(&key, &[1, 2], 1, bencode_bytes(b"salted")).unwrap();
    let put = json!({"v": "salted", "k": item.k.to_string(), "sig": encode_hex(&item.sig.0), "seq": 1, "salt": "[1,2]"});
    let target = json!(item.target().to_string());
    eventually(ours.http, "put", put, |answer| answer.json() == target).await;
    let got = grape(ours.http, "get", target).await.json();
    assert_eq!((&got["v"], &got["token"]), (&json!("salted"), &json!(null)));

    let lines = |n: usize| (0..n).fold(String::new(), |lines, n| lines + &format!("\r\nx-{n}: 1"));
    let head = |n| format!("POST /lookup HTTP/1.1{}", lines(n));
    assert_eq!(exchange(ours.http, &head(90), r#"{"data":"n"}"#).await.status, 200);
    assert_eq!(exchange(ours.http, &head(101), r#"{"data":"n"}"#).await.status, 431);
    let long = grape(ours.http, "announce", json!(["n".repeat(1025), 1])).await;
    assert_eq!(long.json(), json!("the name has 1025 bytes; at most 1024 are possible"));
}

async fn eventually_one(on: &Grape, body: &str) {
    let started = std::time::Instant::now();
    while exchange(on.http, "POST /announce HTTP/1.1", body).await.body != "1" {
        assert!(started.elapsed() < support::PATIENCE, "nobody took {body}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Statement 44: a grape starts with every flag of the stock command, those without effect too.
#[tokio::test]
async fn the_command_starts_with_every_flag_of_the_stock_one() {
    let flags = "--bind 127.0.0.1 --dht_concurrency 32 --dht_maxTables 7 --dht_maxValues 8 --dht_peer_maxAge 9000 \
                 --cache_maxAge 10 --dht_nodeLiveness 11 --check_maxPayloadSize 500";
    let ours = vintner_grape(&[], &flags.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(grape(ours.http, "lookup", json!("name")).await.body, "[]");
    assert_eq!(grape(ours.http, "lookup", json!("n".repeat(500))).await.status, 413);
}

/// Statement 44: a missing flag, and a wrong number, end the command with code 2 and say which.
#[tokio::test]
async fn the_command_ends_cleanly_and_says_what_is_wrong() {
    let ours = vintner_grape(&[], &[]).await;
    let vintner = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vintner"));
        command.arg("grape").args(arguments);
        command
    };
    let (http, dht) = (ours.http.port().to_string(), ours.dht.to_string());
    for (arguments, code, text) in [
        (&["--dp", "0", "--aph", &*http, "--bn", ""][..], 4, "cannot listen on TCP"),
        (&["--dp", &*dht, "--aph", "0", "--bn", ""], 4, "cannot listen on UDP"),
        (&["--dp", "1", "--aph", "2"], 2, "--bn"),
        (&["--dp", "x", "--aph", "2", "--bn", ""], 2, "give a port"),
        (&["--dp", "1", "--aph", "2", "--bn", "", "--data-dir"], 2, "--data-dir"),
        (&["--dp", "1", "--aph", "2", "--bn", "", "--allow-origin", "*"], 2, "give one page's origin"),
    ] {
        let output = vintner(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    assert!(vintner(&["--help"]).output().await.unwrap().status.success());
    assert!(ours.process.terminate().await.success());
}
