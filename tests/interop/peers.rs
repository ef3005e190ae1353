//! The others as these tests drive them: programs that take and give a line of JSON each, and what is asked of grapes.

use crate::support::{self, Answer, Grape, Process, eventually, grape, stock};
use mainline::Dht;
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};
use vintner::{
    bep44::{VerifiedItem, bencode_bytes},
    identity::{KeyPair, encode_hex},
};

/// How a node id stands in an answer.
const ID_KEY: &[u8] = b"2:id20:";

/// A program that answers each line of JSON with one that has the same `n`.
pub struct Peer {
    process: Process,
    commands: u64,
    /// Its UDP port.
    pub dht: u16,
}

impl Peer {
    async fn new(mut process: Process) -> Self {
        let ready = process.event("ready").await;
        Self { process, commands: 0, dht: u16::try_from(ready["dht"].as_u64().unwrap()).unwrap() }
    }

    /// A libtorrent session; see `tests/peers/libtorrent_peer.py`.
    pub async fn libtorrent(bootstrap: &[String]) -> Self {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        let python = peers.join(".venv/bin/python");
        assert!(
            python.is_file(),
            "libtorrent is not installed: run tests/peers/install.sh (make test does it by itself)"
        );
        let mut command = tokio::process::Command::new(python);
        command.arg(peers.join("libtorrent_peer.py")).args(bootstrap);
        let mut session = Self::new(Process::start("libtorrent", &mut command)).await;
        // It answers for others only once it knows somebody, beside those that it joined through.
        session.until(json!({"do": "nodes"}), |known| known["nodes"] != 0).await;
        session
    }

    /// The DHT library under a stock grape; see `tests/peers/bittorrent-dht.js`.
    pub async fn library(bootstrap: &[String]) -> Self {
        let bootstrap: Vec<&str> = bootstrap.iter().map(|node| &**node).collect();
        Self::new(stock("bittorrent-dht.js", &bootstrap)).await
    }

    pub async fn ask(&mut self, mut command: Value) -> Value {
        self.commands += 1;
        command["n"] = self.commands.into();
        self.process.write_line(&command.to_string()).await;
        let answer: Value = serde_json::from_str(&self.process.line().await).unwrap();
        assert_eq!(answer["n"], command["n"]);
        answer
    }

    /// Asks until `good` says so: what the DHT knows takes a moment to arrive.
    pub async fn until(&mut self, command: Value, good: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.ask(command.clone()).await;
            if good(&answer) {
                return answer;
            }
            assert!(started.elapsed() < support::PATIENCE, "{command} still answers {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A `mainline` client that has joined through a grape. It blocks; the grapes are processes of their own.
#[allow(deprecated, reason = "its other interface needs a library for streams, for nothing more")]
pub fn mainline_client(bootstrap: &[String]) -> Dht {
    let dht = Dht::builder().bootstrap(bootstrap).build().unwrap();
    assert!(dht.bootstrapped(), "a mainline client joins through ours");
    dht
}

/// A `mainline` node that also answers, on loopback.
pub fn mainline_server(bootstrap: &[String]) -> Dht {
    let mut builder = Dht::builder();
    builder.server_mode().bind_address([127, 0, 0, 1].into());
    if bootstrap.is_empty() {
        builder.no_bootstrap()
    } else {
        builder.bootstrap(bootstrap)
    };
    builder.build().unwrap()
}

/// The `data` of a put, signed by a key of this test, and where it goes.
pub fn signed(key: u8, seq: i64, text: &str, salt: &str) -> (Value, String) {
    let key = KeyPair::from_seed(&[key; 32]);
    let item = VerifiedItem::sign(&key, salt.as_bytes(), seq, bencode_bytes(text.as_bytes())).unwrap();
    let mut data = json!({"v": text, "k": item.k.to_string(), "sig": encode_hex(&item.sig.0), "seq": seq});
    if !salt.is_empty() {
        data["salt"] = salt.into();
    }
    (data, item.target().to_string())
}

/// Announces a name until somebody took note.
pub async fn announced(on: &Grape, name: &str, port: u16) {
    eventually(on.http, "announce", json!([name, port]), |answer| {
        answer.json().as_u64().is_some_and(|n| n >= 1)
    })
    .await;
}

/// Waits until what a stock grape announces reaches this many nodes. It takes a new name each time: for five minutes a stock grape
/// goes on announcing on those nodes only that it knew when it first met a name.
pub async fn reaches(on: &Grape, nodes: u64) {
    let started = Instant::now();
    for n in 0.. {
        let answer = grape(on.http, "announce", json!([format!("reaches:{nodes}:{n}"), 1])).await;
        if answer.json() == json!(nodes) {
            return;
        }
        assert!(started.elapsed() < support::PATIENCE, "it still announces on {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Looks a name up until the service on this port, and no other, is found.
pub async fn found(on: &Grape, name: &str, port: u16) {
    let expected = json!([format!("127.0.0.1:{port}")]);
    eventually(on.http, "lookup", json!(name), |answer| answer.json() == expected).await;
}

/// Asks a grape until it has a value under `data`, and gives it.
pub async fn value(grape: &Grape, data: Value) -> Value {
    eventually(grape.http, "get", data, |answer| answer.status == 200 && !answer.body.is_empty()).await.json()
}

/// Puts at once, and says where it went.
pub async fn puts(on: &Grape, data: Value) -> String {
    let answer = grape(on.http, "put", data).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Puts until somebody took it: a stock grape remembers for a while that it knew nobody.
pub async fn puts_eventually(on: &Grape, data: Value, target: &str) {
    eventually(on.http, "put", data, |answer: &Answer| answer.status == 200 && answer.json() == target).await;
}

/// Asks one KRPC question and gives the datagram that answers it, queries of the other side left out. It is asked again when the
/// answer takes a second: a socket's buffer may have been full.
pub fn krpc(socket: &UdpSocket, to: u16, query: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 2000];
    for _ in 0..support::PATIENCE.as_secs() {
        socket.send_to(query, SocketAddr::from(([127, 0, 0, 1], to))).unwrap();
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let answer = &buffer[..len];
            if from.port() == to && !answer.ends_with(b"1:y1:qe") {
                return answer.to_vec();
            }
        }
    }
    panic!("no answer to {}", String::from_utf8_lossy(query))
}

/// A socket on loopback for [`krpc`].
pub fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// The node id under which a node answers pings.
pub fn node_id(port: u16) -> Vec<u8> {
    let pong = krpc(&socket(), port, b"d1:ad2:id20:iiiiiiiiiiiiiiiiiiiie1:q4:ping1:t2:aa1:y1:qe");
    let key = pong.windows(ID_KEY.len()).position(|part| part == ID_KEY).expect("an id") + ID_KEY.len();
    pong[key..key + 20].to_vec()
}

/// Puts an unsigned value by a datagram of its own: 0 when it was taken, otherwise the code of the error.
pub fn put_by_udp(to: u16, v: &[u8]) -> i64 {
    let socket = socket();
    let question = b"d1:ad2:id20:iiiiiiiiiiiiiiiiiiii6:target20:tttttttttttttttttttte1:q3:get1:t2:aa1:y1:qe";
    let answer = krpc(&socket, to, question);
    let key = b"5:token";
    let token = answer.windows(key.len()).position(|part| part == key).expect("a token") + key.len();
    let digits = answer[token..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let bytes: usize = String::from_utf8_lossy(&answer[token..token + digits]).parse().unwrap();
    // With its length, as it is sent back.
    let token = &answer[token..=token + digits + bytes];
    let put =
        [b"d1:ad2:id20:iiiiiiiiiiiiiiiiiiii5:token", token, b"1:v", v, b"e1:q3:put1:t2:bb1:y1:qe"].concat();
    let answer = krpc(&socket, to, &put);
    match answer.strip_prefix(b"d1:eli") {
        None => 0,
        Some(rest) => String::from_utf8_lossy(&rest[..3]).parse().unwrap(),
    }
}
