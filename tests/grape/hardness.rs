//! The Grape HTTP API against clients that are slow, greedy or hostile, over raw sockets.

use crate::support::exchange;
use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use vintner::{
    dht::{Dht, DhtConfig},
    http::grape::{self as api, LIMITS, Options},
    listener::Limits,
    workers::Workers,
};

const PATIENCE: Duration = Duration::from_secs(30);
const PLACES: usize = 8;
/// Short enough to wait for, long enough for a busy machine.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);

struct Grape {
    http: SocketAddr,
    dht: Dht,
    server: api::Server,
}

impl Grape {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        Self::at("127.0.0.1:0", change).await
    }

    async fn at(address: &str, change: impl FnOnce(&mut Options)) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let config = DhtConfig::new("127.0.0.1:0".parse().unwrap(), Vec::new(), seed);
        let dht = Dht::start(config, Workers::start(1).unwrap()).await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let limits = Limits { connections_max: PLACES, header_timeout: LONG, write_timeout: LONG, ..LIMITS };
        let mut options = Options { limits, body_timeout: LONG, ..Options::default() };
        change(&mut options);
        let server = api::serve(listener, dht.clone(), options).unwrap();
        Self { http: server.local_addr(), dht, server }
    }

    /// It still does its work.
    async fn answers(&self) {
        let answer = exchange(self.http, "POST /lookup HTTP/1.1", r#"{"data":"name"}"#).await;
        assert_eq!((answer.status, &*answer.body), (200, "[]"));
    }

    async fn connect_and_say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn metric(&self, line: &str) -> u64 {
        let page = exchange(self.http, "GET /metrics HTTP/1.1", "").await.body;
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {line} in {page}"))
    }

    async fn stop(self) {
        self.server.shutdown().await;
        self.dht.shutdown().await;
    }
}

/// What comes until the other side closes.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset closes, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_and_bodies_that_never_end_hold_nobody_up() {
    let ours = Grape::start(|_| {}).await;
    let mut slow = Vec::new();
    for n in 0..3 * PLACES {
        let head = "POST /lookup HTTP/1.1\r\nhost: localhost\r\nx: ";
        slow.push(ours.connect_and_say(&head[..=n % head.len()]).await);
        ours.answers().await;
    }
    assert!(ours.metric("vintner_bound_hits_total{bound=\"grape_connections\"}").await > 0);
    ours.stop().await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_closed() {
    let ours = Grape::start(|options| options.limits.header_timeout = SHORT).await;
    let mut slow = ours.connect_and_say("POST /lookup HTTP/1.1\r\n").await;
    let started = Instant::now();
    // A byte now and then does not help.
    while slow.write_all(b"x").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "it may go on for ever");
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(started.elapsed() >= SHORT / 2);
    ours.answers().await;
    ours.stop().await;
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_refused_and_frees_its_place() {
    let ours = Grape::start(|options| options.body_timeout = SHORT).await;
    let head = "POST /lookup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let mut slow = Vec::new();
    for _ in 0..PLACES {
        slow.push(ours.connect_and_say(head).await);
    }
    // All places are taken by requests under way; the next one gets one as soon as the first is refused.
    ours.answers().await;
    for stream in slow {
        let answer = until_closed(stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("ERR_GRAPE_PAYLOAD_TIMEOUT"),
            "{answer}"
        );
    }
    ours.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_end_their_connection() {
    let ours = Grape::start(|options| options.limits.write_timeout = SHORT).await;
    let mut greedy = TcpStream::connect(ours.http).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    // It asks until nothing more is taken from it, and reads nothing.
    let asking = async { while greedy.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, asking).await.expect("it is closed");
    let closed = async {
        while ours.metric("vintner_grape_connections ").await > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("its place is free");
    ours.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_long_or_no_http_are_refused() {
    let ours = Grape::start(|_| {}).await;
    let long = format!("POST /lookup HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("POST /lookup HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let target = format!("POST /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(20_000));
    for (request, answer) in [
        (&long[..], "HTTP/1.1 431 "),
        (&many, "HTTP/1.1 431 "),
        (&target, "HTTP/1.1 4"),
        // What does not even begin as HTTP/1 is closed without a word.
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", ""),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        ("POST /lookup HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 400 "),
        (
            "POST /lookup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 ",
        ),
        ("POST /lookup HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: nonsense\r\n\r\n", "HTTP/1.1 400 "),
    ] {
        let mut stream = TcpStream::connect(ours.http).await.unwrap();
        // The end may be cut off by the refusal.
        let _ = stream.write_all(request.as_bytes()).await;
        let found = until_closed(stream).await;
        assert!(found.starts_with(answer) && !found.starts_with("HTTP/1.1 2"), "{request:.60}: {found}");
        ours.answers().await;
    }
    ours.stop().await;
}

#[tokio::test]
async fn bodies_without_end_are_refused_early_and_deep_ones_are_no_json() {
    let ours = Grape::start(|_| {}).await;
    let head = "POST /lookup HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut endless = ours.connect_and_say(head).await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000)).into_bytes();
    let answer = async {
        let (mut read, mut write) = endless.split();
        let mut answer = Vec::new();
        let writing = async { while write.write_all(&chunk).await.is_ok() {} };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = writing => { let _ = read.read_to_end(&mut answer).await; }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is closed");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("ERR_GRAPE_PAYLOAD_SIZE"), "{answer}");
    for body in ["[".repeat(8000), r#"{"data":"#.repeat(900), "9".repeat(8000), "\u{feff}{}".to_owned()] {
        let answer = exchange(ours.http, "POST /lookup HTTP/1.1", &body).await;
        let expected =
            if body.starts_with('9') { r#""ERR_GRAPE_LOOKUP""# } else { "ERR_GRAPE_PAYLOAD_INVALID" };
        // JavaScript reads a number that is too large as infinite.
        assert!(answer.body == expected || body.starts_with('9'), "{body:.20} {answer:?}");
    }
    ours.answers().await;
    ours.stop().await;
}

#[tokio::test]
async fn one_address_gets_its_share_of_connections_only() {
    // Nothing is sent: the system only says which of its addresses it would use. The share is not for loopback.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let own = own
        .expect("this test needs a network address other than loopback; connect the machine to a network")
        .ip();
    let ours = Grape::at(&format!("{own}:0"), |options| options.limits.connections_per_ip_max = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream =
            ours.connect_and_say("POST /lookup HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
        assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
        held.push(stream);
    }
    let refused = TcpStream::connect(ours.http).await.unwrap();
    assert_eq!(until_closed(refused).await, "");
    drop(held.pop());
    let again = async {
        loop {
            let mut stream = TcpStream::connect(ours.http).await.unwrap();
            let _ = stream.write_all(b"POST /foo HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}").await;
            if until_closed(stream).await.ends_with(r#""ERR_REQ_NOTFOUND""#) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place that was given back");
    ours.stop().await;
}
