//! `GET /events`, as a client of server-sent events reads it.

use crate::support::{eventually, exchange, grape, vintner_grape};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use vintner::{
    dht::{Dht, DhtConfig},
    http::grape::{self as api, LIMITS, Options},
    listener::Limits,
    workers::Workers,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// No event here is as long; all are ASCII.
const EVENT_BYTES_MAX: usize = 8192;
/// Announcements between two looks at how many were told.
const BATCH: u32 = 250;

/// A listener: what it has read and not yet taken.
struct Listener {
    stream: TcpStream,
    text: String,
}

impl Listener {
    async fn open(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap(), address).await
    }

    /// One that takes little before it reads.
    async fn open_small(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::on(socket.connect(address).await.unwrap(), address).await
    }

    async fn on(mut stream: TcpStream, address: SocketAddr) -> Self {
        let request = format!("GET /events HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    /// The next event of this name; others are passed over. The chunks of the transfer are seen through, since an event's lines
    /// stand together.
    async fn next(&mut self, name: &str) -> Value {
        let wanted = format!("event: {name}\ndata: ");
        let found = async {
            loop {
                if let Some((_, rest)) = self.text.split_once(&wanted)
                    && let Some((data, rest)) = rest.split_once("\n\n")
                {
                    let data = serde_json::from_str(data).unwrap();
                    self.text = rest.into();
                    return data;
                }
                // What was looked through is not looked through again, but for an event that is cut in two.
                self.text.drain(..self.text.len().saturating_sub(EVENT_BYTES_MAX));
                let mut bytes = vec![0; 65_536];
                let read = self.stream.read(&mut bytes).await.unwrap();
                assert!(read > 0, "no {name} before the end");
                self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {name} came"))
    }
}

#[tokio::test]
async fn a_listener_hears_what_a_stock_grape_would_emit() {
    let ours = vintner_grape(&[], &["--events", "-b", "127.0.0.1"]).await;
    let mut listener = Listener::open(ours.http).await;
    assert_eq!(listener.next("ready").await, Value::Null, "also who comes later");
    assert!(listener.text.len() < 100 && !listener.text.contains("event: ready"), "once: {}", listener.text);
    let other = vintner_grape(&[ours.bootstrap()], &[]).await;
    let node = listener.next("node").await;
    assert_eq!(node["address"], other.bootstrap());
    assert_eq!(node["id"].as_str().unwrap().len(), 40);
    let name = "rest:util:net\nevent: ready";
    eventually(other.http, "announce", json!([name, 1337]), |answer| answer.json() == json!(1)).await;
    assert_eq!(listener.next("announce").await, name, "a name cannot make an event of its own");
    // An own announcement is heard where a host is given.
    eventually(ours.http, "announce", json!(["own", 7]), |answer| answer.json() == json!(1)).await;
    assert_eq!(listener.next("announce").await, "own");
    eventually(ours.http, "lookup", json!("own"), |answer| answer.json() == json!(["127.0.0.1:7"])).await;
    assert_eq!(listener.next("peer").await, "127.0.0.1:7");
    // Nobody waits for a listener at the end.
    assert!(ours.process.terminate().await.success());
    let mut rest = String::new();
    listener.stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the answer has an orderly end: {rest}");
}

#[tokio::test]
async fn a_failed_start_is_a_warning_and_ready_all_the_same() {
    let ours = vintner_grape(&["127.0.0.1:9".to_owned()], &["--events"]).await;
    let mut listener = Listener::open(ours.http).await;
    assert_eq!(listener.next("ready").await, Value::Null);
}

#[tokio::test]
async fn without_the_flag_the_path_is_none_of_a_stock_grape() {
    let ours = vintner_grape(&[], &[]).await;
    for (line, body, status, expected) in [
        ("GET /events", "", 500, "ERR_GRAPE_PAYLOAD_INVALID"),
        ("GET /events", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
        ("POST /events", "{}", 200, r#""ERR_REQ_NOTFOUND""#),
    ] {
        let answer = exchange(ours.http, &format!("{line} HTTP/1.1"), body).await;
        assert_eq!((answer.status, &*answer.body), (status, expected), "{line} {body}");
    }
    let with = vintner_grape(&[], &["--events"]).await;
    for line in ["POST /events", "GET /events?x", "GET /Events"] {
        let answer = exchange(with.http, &format!("{line} HTTP/1.1"), "{}").await;
        assert_eq!((answer.status, &*answer.body), (200, r#""ERR_REQ_NOTFOUND""#), "{line}");
    }
    let page = exchange(with.http, "GET /events HTTP/1.1\r\norigin: https://evil.example", "").await;
    assert_eq!(page.status, 403);
    assert_eq!(grape(with.http, "lookup", json!("name")).await.body, "[]");
}

/// A grape in this process, whose channel of events is short.
async fn short() -> (Dht, api::Server) {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut config = DhtConfig::new("127.0.0.1:0".parse().unwrap(), Vec::new(), seed);
    (config.host, config.events_max) = (Some("127.0.0.1".parse().unwrap()), 16);
    let dht = Dht::start(config, Workers::start(1).unwrap()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Who reads slowly is not to be closed meanwhile.
    let limits = Limits { write_timeout: Duration::from_hours(1), ..LIMITS };
    let options = Options { events: true, limits, ..Options::default() };
    let server = api::serve(listener, dht.clone(), options).unwrap();
    (dht, server)
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_how_much_it_missed_and_holds_nobody_up() {
    let (dht, server) = short().await;
    let mut slow = Listener::open_small(server.local_addr()).await;
    slow.next("ready").await;
    let (mut quick, name) = (Listener::open(server.local_addr()).await, [b'x'; 1000]);
    quick.next("ready").await;
    // Nobody takes note of these announcements; they are told here, until all that lies between the two is full: then a batch
    // is told to the quick one only.
    let told = async || {
        let page = exchange(server.local_addr(), "GET /metrics HTTP/1.1", "").await.body;
        let told = page.lines().find_map(|line| line.strip_prefix("vintner_grape_events_total "));
        told.and_then(|told| told.parse::<u32>().ok()).unwrap()
    };
    let (mut n, mut before) = (0u32, 0);
    while told().await - before > BATCH + 1 || n < 2 * BATCH {
        before = told().await;
        for _ in 0..BATCH {
            n += 1;
            let _ = dht.announce(&[format!("{n:08}").as_bytes(), &name].concat(), 1).await;
        }
        let _ = dht.announce(format!("mark {n}").as_bytes(), 1).await;
        while !quick.next("announce").await.as_str().unwrap().starts_with("mark") {}
        assert!(n < 40_000, "40 MB were taken from nobody's hand");
    }
    assert!(slow.next("lost").await.as_u64().unwrap() > 0);
    server.shutdown().await;
    dht.shutdown().await;
}

#[tokio::test]
async fn listeners_beyond_the_bound_are_refused_until_one_leaves() {
    let (dht, server) = short().await;
    let mut listeners = Vec::new();
    for _ in 0..64 {
        let mut listener = Listener::open(server.local_addr()).await;
        listener.next("ready").await;
        listeners.push(listener);
    }
    let refused = exchange(server.local_addr(), "GET /events HTTP/1.1", "").await;
    assert!(refused.status == 503 && refused.body.contains("64 listeners"), "{refused:?}");
    drop(listeners.pop());
    let again = async {
        while exchange(server.local_addr(), "GET /metrics HTTP/1.1", "")
            .await
            .body
            .contains("_listeners 64\n")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Listener::open(server.local_addr()).await.next("ready").await
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place for the next one");
    server.shutdown().await;
    dht.shutdown().await;
}
