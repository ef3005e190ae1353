//! Datagrams by hand, to and from a real `vintner grape` process.

use crate::{
    peers::{announced, krpc, puts, socket},
    support::{self, Grape, eventually, grape, vintner_grape},
};
use serde_json::json;
use std::{
    collections::{BTreeSet, HashMap},
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use vintner::{
    bep44::bencode_bytes,
    dht::core::bencode::{Raw, parse},
    identity::decode_hex,
};

fn query_as(id: u8, method: &str, args: &[u8], t: &[u8]) -> Vec<u8> {
    let mut out = b"d1:ad2:id".to_vec();
    out.extend_from_slice(&bencode_bytes(&[id; 20]));
    out.extend_from_slice(args);
    out.extend_from_slice(format!("e1:q{}:{method}1:t", method.len()).as_bytes());
    out.extend_from_slice(&bencode_bytes(t));
    out.extend_from_slice(b"1:y1:qe");
    out
}

fn query(method: &str, args: &[u8]) -> Vec<u8> {
    query_as(b'i', method, args, b"aa")
}

fn field<'a>(of: Raw<'a>, name: &[u8]) -> Option<Raw<'a>> {
    of.fields().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A field of an answer's `r`.
fn result<'a>(answer: &'a [u8], name: &[u8]) -> Option<Raw<'a>> {
    field(field(parse(answer).unwrap().raw, b"r")?, name)
}

fn error_code(answer: &[u8]) -> i64 {
    let error = field(parse(answer).unwrap().raw, b"e");
    error.and_then(|error| error.items().next()).and_then(Raw::int).unwrap_or(0)
}

async fn pair() -> (Grape, Grape) {
    let first = vintner_grape(&[], &["-b", "127.0.0.1"]).await;
    let second = vintner_grape(&[first.bootstrap()], &["-b", "127.0.0.1"]).await;
    // Each knows the other once an announcement reaches it.
    announced(&first, "first", 1).await;
    announced(&second, "second", 1).await;
    (first, second)
}

/// Statement 1, 2: transaction ids of 0 to 20 bytes come back as they were sent, always from the same node id.
#[tokio::test]
async fn pings_with_transaction_ids_of_any_length_are_answered() {
    let ours = vintner_grape(&[], &[]).await;
    let socket = socket();
    let mut ids = BTreeSet::new();
    for len in [0, 1, 2, 4, 8, 20] {
        let t = &b"0123456789abcdefghij"[..len];
        let answer = krpc(&socket, ours.dht, &query_as(b'i', "ping", b"", t));
        assert_eq!(field(parse(&answer).unwrap().raw, b"t").unwrap().bytes(), Some(t));
        ids.insert(result(&answer, b"id").unwrap().bytes().unwrap().to_vec());
    }
    assert!(ids.len() == 1 && ids.iter().all(|id| id.len() == 20));
}

/// Statement 5, 6, 7, 8, 9, 11, 15: the queries of BEP5 over a real socket: nodes of 26 bytes, tokens, peers of six bytes, the named
/// and the implied port, names of any length, 203 for a wrong token, and 204 for a method that nobody knows.
#[tokio::test]
async fn the_queries_of_bep5_are_answered() {
    let (ours, other) = pair().await;
    let socket = socket();
    let own = socket.local_addr().unwrap().port();
    let ask = |method: &str, args: &[u8]| krpc(&socket, ours.dht, &query(method, args));
    assert_eq!(error_code(&ask("vote", b"")), 204);
    let nodes = ask("find_node", &[b"6:target20:", &[7; 20][..]].concat());
    let nodes = result(&nodes, b"nodes").unwrap().bytes().unwrap().to_vec();
    assert!(
        nodes.len().is_multiple_of(26) && nodes.chunks(26).any(|node| node[24..] == other.dht.to_be_bytes())
    );
    for len in [0, 3, 13, 20, 21, 300, 900] {
        let info_hash = [b"9:info_hash", &*bencode_bytes(&vec![b'n'; len])].concat();
        let before = ask("get_peers", &info_hash);
        assert!(result(&before, b"values").is_none() && result(&before, b"nodes").is_some(), "{len}");
        let token = bencode_bytes(result(&before, b"token").unwrap().bytes().unwrap());
        let announce = |implied: &str, token: &[u8]| {
            [implied.as_bytes(), &info_hash, b"4:porti7e5:token", token].concat()
        };
        assert_eq!(error_code(&ask("announce_peer", &announce("", b"5:wrong"))), 203);
        assert!(result(&ask("get_peers", &info_hash), b"values").is_none());
        assert_eq!(error_code(&ask("announce_peer", &announce("", &token))), 0);
        assert_eq!(error_code(&ask("announce_peer", &announce("12:implied_porti1e", &token))), 0);
        let after = ask("get_peers", &info_hash);
        let values = result(&after, b"values").unwrap().items().map(|peer| peer.bytes().unwrap().to_vec());
        let values: BTreeSet<Vec<u8>> = values.collect();
        let peer = |port: u16| [&[127, 0, 0, 1], &port.to_be_bytes()[..]].concat();
        assert_eq!(values, [peer(7), peer(own)].into(), "{len}");
        assert!(result(&after, b"nodes").is_some());
    }
}

/// Statement 18, 20, 24: puts over a real socket: 1,000 bytes are stored and 1,001 are not, a bad signature is 206 and a long salt
/// 207.
#[tokio::test]
async fn puts_over_the_bounds_or_forged_are_refused() {
    let ours = vintner_grape(&[], &[]).await;
    let socket = socket();
    let ask = |method: &str, args: &[u8]| krpc(&socket, ours.dht, &query(method, args));
    let answer = ask("get", &[b"6:target20:", &[7; 20][..]].concat());
    let token = bencode_bytes(result(&answer, b"token").unwrap().bytes().unwrap());
    let put =
        |signed: &[u8], v: &[u8]| error_code(&ask("put", &[signed, b"5:token", &token, b"1:v", v].concat()));
    assert_eq!(put(b"", &bencode_bytes(&[b'x'; 1000])), 0);
    assert_eq!(put(b"", &bencode_bytes(&[b'x'; 1001])), 205);
    let k = [b"1:k32:", &[9; 32][..]].concat();
    let sig = [b"3:seqi1e3:sig64:", &[9; 64][..]].concat();
    assert_eq!(put(&[&k[..], &sig].concat(), b"1:x"), 206);
    let salt = [b"4:salt65:", &[9; 65][..]].concat();
    assert_eq!(put(&[&k[..], &salt, &sig].concat(), b"1:x"), 207);
}

/// Statement 28: what was put stays there while others announce ten thousand peers.
#[tokio::test]
async fn a_flood_of_announcements_leaves_values_alone() {
    let (ours, other) = pair().await;
    let target = puts(&other, json!({"v": "still here"})).await;
    let socket = socket();
    let token = token(&socket, &ours);
    for n in 0..10_000u32 {
        let name = n.to_string();
        let args = format!("9:info_hash{}:{name}4:porti7e5:token", name.len());
        let announce = query("announce_peer", &[args.as_bytes(), &token].concat());
        if n % 100 == 0 {
            krpc(&socket, ours.dht, &announce);
        } else {
            socket.send_to(&announce, SocketAddr::from(([127, 0, 0, 1], ours.dht))).unwrap();
        }
    }
    let target: [u8; 20] = decode_hex(&target).unwrap();
    let quiet = self::socket();
    let got = krpc(&quiet, ours.dht, &query("get", &[b"6:target20:", &target[..]].concat()));
    assert_eq!(result(&got, b"v").unwrap().bytes(), Some(&b"still here"[..]));
}

fn token(socket: &UdpSocket, of: &Grape) -> Arc<[u8]> {
    let answer = krpc(socket, of.dht, &query("get_peers", b"9:info_hash1:x"));
    bencode_bytes(result(&answer, b"token").unwrap().bytes().unwrap())
}

/// Statement 7, 31: of 400 peers under one name, a reply holds at most 100 in a datagram of at most 1,400 bytes, and a lookup over
/// HTTP returns at most 100, none twice.
#[tokio::test]
async fn a_crowded_name_is_answered_with_a_hundred_peers() {
    let (ours, other) = pair().await;
    let socket = socket();
    let token = token(&socket, &ours);
    for port in 10_000..10_400 {
        let args = format!("9:info_hash7:crowded4:porti{port}e5:token");
        let announce = query("announce_peer", &[args.as_bytes(), &token].concat());
        assert_eq!(error_code(&krpc(&socket, ours.dht, &announce)), 0);
    }
    let answer = krpc(&socket, ours.dht, &query("get_peers", b"9:info_hash7:crowded"));
    let values = result(&answer, b"values").unwrap().items().count();
    assert!(values > 80 && values <= 100 && answer.len() <= 1400, "{values} in {} bytes", answer.len());
    for grape_ in [&ours, &other] {
        let found = grape(grape_.http, "lookup", json!("crowded")).await.json();
        let found: BTreeSet<String> =
            serde_json::from_value(found.clone()).unwrap_or_else(|_| panic!("{found}"));
        assert!(found.len() > 80 && found.len() <= 100, "{}", found.len());
    }
    let found = grape(ours.http, "lookup", json!("crowded")).await.json();
    let all: Vec<&str> = found.as_array().unwrap().iter().map(|peer| peer.as_str().unwrap()).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
}

/// Statement 30: with `--dpa 3000` a service that was announced once is there for two seconds and gone after six, also for who
/// looks it up all the time.
#[tokio::test]
async fn a_service_that_stopped_vanishes_from_lookups() {
    let short = ["--dpa", "3000", "-b", "127.0.0.1"];
    let ours = vintner_grape(&[], &short).await;
    let other = vintner_grape(&[ours.bootstrap()], &short).await;
    announced(&ours, "warm:up", 1).await;
    let before = Instant::now();
    assert_eq!(grape(ours.http, "announce", json!(["service", 1337])).await.json(), json!(1));
    let announced = Instant::now();
    while announced.elapsed() < Duration::from_secs(7) {
        let asked = announced.elapsed();
        for grape_ in [&ours, &other] {
            let found = grape(grape_.http, "lookup", json!("service")).await.json();
            if before.elapsed() < Duration::from_secs(2) {
                assert_eq!(found, json!(["127.0.0.1:1337"]), "after {asked:?}");
            } else if asked > Duration::from_secs(6) {
                assert_eq!(found, json!([]), "after {asked:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The transaction ids under which each name was asked for: a query that is sent again keeps its own.
type Asked = HashMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// A node by hand: it answers every query with its id and a token, and `get_peers` late with one peer, after an answer that is
/// none (from another address, and with another transaction id).
struct FakeNode {
    asked: Arc<Mutex<Asked>>,
    socket: UdpSocket,
}

impl FakeNode {
    const LATE: Duration = Duration::from_millis(100);

    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asked = Arc::new(Mutex::new(Asked::new()));
        let (answers, counts) = (socket.try_clone().unwrap(), Arc::clone(&asked));
        // It ends with the test's process: a thread that waits for datagrams holds nothing else up.
        thread::spawn(move || {
            let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
            let mut buffer = [0; 2000];
            while let Ok((len, from)) = answers.recv_from(&mut buffer) {
                let Ok(message) = parse(&buffer[..len]) else { continue };
                let (Some(t), Some(args)) = (field(message.raw, b"t"), field(message.raw, b"a")) else {
                    continue;
                };
                let name = field(args, b"info_hash").and_then(Raw::bytes);
                let answer = |peer: u8, t: &[u8]| {
                    let mut out = b"d1:rd2:id20:ffffffffffffffffffff5:token1:t".to_vec();
                    if name.is_some() {
                        out.extend_from_slice(
                            &[b"6:valuesl6:", &[127, 0, 0, peer, 0, peer][..], b"e"].concat(),
                        );
                    }
                    out.extend_from_slice(b"e1:t");
                    out.extend_from_slice(t);
                    out.extend_from_slice(b"1:y1:re");
                    out
                };
                if let Some(name) = name {
                    counts.lock().unwrap().entry(name.to_vec()).or_default().insert(t.encoded().to_vec());
                    stranger.send_to(&answer(8, t.encoded()), from).unwrap();
                    answers.send_to(&answer(9, b"4:wron"), from).unwrap();
                    thread::sleep(Self::LATE);
                }
                answers.send_to(&answer(7, t.encoded()), from).unwrap();
            }
        });
        Self { asked, socket }
    }

    fn times_asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name.as_bytes()).map_or(0, BTreeSet::len)
    }
}

/// Statement 4, 32: twelve equal lookups at one time ask a node once, and what comes from another address or with another
/// transaction id is not its answer.
#[tokio::test]
async fn equal_lookups_ask_a_node_once_and_believe_only_its_own_answer() {
    let fake = FakeNode::start();
    let ours = vintner_grape(&[format!("127.0.0.1:{}", fake.socket.local_addr().unwrap().port())], &[]).await;
    eventually(ours.http, "lookup", json!("warm:up"), |answer| answer.json() == json!(["127.0.0.7:7"])).await;
    let lookups: Vec<_> = (0..12)
        .map(|_| {
            let http = ours.http;
            tokio::spawn(async move { grape(http, "lookup", json!("wanted")).await.json() })
        })
        .collect();
    for lookup in lookups {
        assert_eq!(
            tokio::time::timeout(support::PATIENCE, lookup).await.unwrap().unwrap(),
            json!(["127.0.0.7:7"])
        );
    }
    assert_eq!(fake.times_asked("wanted"), 1);
}
