//! Stock links of both versions on our grapes.

use crate::{
    rings::{Ring, VERSIONS},
    support::stock,
};
use serde_json::{Value, json};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

/// What a link of `version` on our grape of `ring` is told at each of `steps`.
async fn link(ring: &Ring, version: &str, steps: &[Value]) -> Vec<Value> {
    let list = Value::from(steps.to_vec()).to_string();
    let mut process = stock("link.js", &[version, &ring.url(), &list]);
    let mut told = Vec::new();
    for _ in steps {
        told.push(process.event("done").await);
    }
    told
}

/// The data of a put, and where it is found.
fn signed(key: u8, seq: i64, text: &str) -> (Value, String) {
    let key = KeyPair::from_seed(&[key; 32]);
    let item = VerifiedItem::sign(&key, b"", seq, bencode_bytes(text.as_bytes())).unwrap();
    let data = json!({"v": text, "k": item.k.to_string(), "sig": encode_hex(&item.sig.0), "seq": seq});
    (data, item.target().to_string())
}

/// Statement 51: announce, once and again and again, and lookup; what is not found is `ERR_GRAPE_LOOKUP_EMPTY`.
#[tokio::test]
async fn stock_links_announce_and_look_up_through_our_grapes() {
    for ring in Ring::both().await {
        // What is found later tells that the ring is joined; a link would keep an empty lookup for ten seconds.
        ring.announce("link:joined", 1399).await;
        for (at, version) in VERSIONS.into_iter().enumerate() {
            let (once, always) = (format!("link:once:{version}"), format!("link:always:{version}"));
            let port = 1400 + at;
            let steps = [
                json!(["announce", once, port, {}]),
                json!(["lookup", once, {}]),
                json!(["startAnnouncing", always, port + 10, {"interval": 100}]),
                json!(["lookup", always, {}]),
                json!(["lookup", "nobody", {}]),
            ];
            let list = Value::from(steps.to_vec()).to_string();
            let mut process = stock("link.js", &[version, &ring.url(), &list]);
            let mut told = Vec::new();
            for _ in &steps {
                told.push(process.event("done").await);
            }
            assert!(
                told[0]["error"].is_null() && told[0]["result"].as_u64() >= Some(1),
                "{version}: {}",
                told[0]
            );
            assert_eq!(told[1]["result"], json!([format!("127.0.0.1:{port}")]), "{version}");
            assert!(told[2]["error"].is_null(), "{version}: {}", told[2]);
            assert_eq!(told[3]["result"], json!([format!("127.0.0.1:{}", port + 10)]), "{version}");
            assert_eq!(told[4]["error"], "ERR_GRAPE_LOOKUP_EMPTY", "{version}");
            ring.finds(&always, u16::try_from(port + 10).unwrap()).await;
        }
    }
}

/// Statement 51: `startAnnouncing` keeps a service known for longer than a grape remembers one announcement.
#[tokio::test]
async fn what_a_stock_link_keeps_announcing_outlives_what_our_grape_remembers() {
    let other = crate::support::vintner_grape(&[], &["-b", "127.0.0.1", "--dpa", "1000"]).await;
    let more = ["-b", "127.0.0.1", "--dpa", "1000"];
    let ours = crate::support::vintner_grape(&[other.bootstrap()], &more).await;
    let ring = Ring { ours, others: vec![other] };
    for version in VERSIONS {
        let name = format!("link:kept:{version}");
        let steps = json!([["startAnnouncing", name, 1450, {"interval": 200}]]).to_string();
        let mut process = stock("link.js", &[version, &ring.url(), &steps]);
        assert!(process.event("done").await["error"].is_null());
        ring.finds(&name, 1450).await;
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        ring.finds(&name, 1450).await;
        drop(process);
        // And is forgotten once nobody announces it.
        let gone = |answer: &crate::support::Answer| answer.json() == json!([]);
        crate::support::eventually(ring.ours.http, "lookup", json!(name), gone).await;
    }
}

/// Statement 51: what twelve stock links keep announcing at their own pace, 60 to 180 s, is found at any moment of ten minutes on grapes
/// with their default settings.
#[tokio::test]
#[ignore = "takes ten minutes: make test-long"]
async fn what_stock_links_announce_at_their_own_pace_is_always_found() {
    let first = crate::support::vintner_grape(&[], &[]).await;
    let ours = crate::support::vintner_grape(&[first.bootstrap()], &[]).await;
    let third = crate::support::vintner_grape(&[first.bootstrap(), ours.bootstrap()], &[]).await;
    let ring = Ring { ours, others: vec![first, third] };
    ring.announce("link:joined", 1399).await;
    let name = |n: usize| format!("link:default:{n}");
    let mut links = Vec::new();
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let mine: Vec<usize> = (0..12).filter(|n| n % VERSIONS.len() == at).collect();
        let steps: Vec<Value> =
            mine.iter().map(|n| json!(["startAnnouncing", name(*n), 1500 + n, {}])).collect();
        let mut process = stock("link.js", &[version, &ring.url(), &Value::from(steps).to_string()]);
        for _ in mine {
            assert!(process.event("done").await["error"].is_null());
        }
        links.push(process);
    }
    let started = std::time::Instant::now();
    let (mut asked, mut found) = (0, 0);
    while started.elapsed() < std::time::Duration::from_mins(10) {
        for n in 0..12 {
            let answer = crate::support::grape(ring.others[1].http, "lookup", json!(name(n))).await;
            asked += 1;
            found += u32::from(answer.json() == json!([format!("127.0.0.1:{}", 1500 + n)]));
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    println!("{found} of {asked} look-ups found their service");
    assert!(asked > 1000 && found == asked, "{found} of {asked} look-ups found their service");
}

/// Statement 51: immutable and signed values; a grape's 301 and 302 reach the link as codes; a miss is `""` to 1.0.x and
/// `undefined` to 0.7.x.
#[tokio::test]
async fn stock_links_put_and_get_through_our_grapes() {
    for ring in Ring::both().await {
        ring.announce("link:joined", 1399).await;
        for (at, version) in (1..).zip(VERSIONS) {
            let (seven, target) = signed(at, 7, "größe");
            let (six, _) = signed(at, 6, "six");
            let (mut nine, _) = signed(at, 9, "nine");
            nine["cas"] = 3.into();
            let hello = "6d33adc2b6b2c14c3036feefb7fedbca1a880527";
            let told = link(
                &ring,
                version,
                &[
                    json!(["put", {"v": "hello world"}]),
                    json!(["get", hello]),
                    json!(["put", seven]),
                    json!(["get", target]),
                    json!(["put", six]),
                    json!(["put", nine]),
                    json!(["get", "00".repeat(20)]),
                ],
            )
            .await;
            assert_eq!((&told[0]["error"], &told[0]["result"]), (&Value::Null, &json!(hello)), "{version}");
            assert_eq!(told[1]["result"]["v"], "hello world", "{version}");
            assert_eq!((&told[2]["error"], &told[2]["result"]), (&Value::Null, &json!(target)), "{version}");
            assert_eq!(
                (&told[3]["result"]["v"], &told[3]["result"]["seq"]),
                (&json!("größe"), &json!(7)),
                "{version}"
            );
            assert_eq!(
                (&told[4]["error"], &told[4]["code"]),
                (&json!("302 sequence number less than current"), &json!(302))
            );
            let mismatch = json!("301 CAS mismatch, re-read and try again");
            assert_eq!((&told[5]["error"], &told[5]["code"]), (&mismatch, &json!(301)), "{version}");
            let (kind, value) =
                if version == "0.7" { ("undefined", Value::Null) } else { ("string", json!("")) };
            assert_eq!((&told[6]["type"], &told[6]["result"]), (&json!(kind), &value), "{version}");
            assert!(told[6]["error"].is_null(), "{version}");
        }
    }
}

/// Statement 51: a link's own `putMutable` works in neither version, whatever the grape: 0.7.13 lacks the library that it signs with,
/// 1.0.2 lacks the method. A signed `put` takes its place, as above.
#[tokio::test]
async fn a_stock_links_own_signing_works_in_no_version() {
    let ring = Ring::of_ours().await;
    let keys = json!({"keys": {"publicKey": "ab", "secretKey": "cd"}});
    for (version, said) in [("0.7", "ed is not defined"), ("1.0", "no putMutable")] {
        let told = link(&ring, version, &[json!(["putMutable", {"seq": 1, "v": "x"}, keys])]).await;
        assert_eq!(told[0]["error"], said, "{version}");
    }
}
