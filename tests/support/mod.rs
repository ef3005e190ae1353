//! What several of these tests need: one HTTP exchange by hand, a `vintner grape` process, and the stock programs.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A status, the head and the body of an HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Sends `request` as it is and reads until the other side closes.
pub async fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A body that was refused half-way ends with a reset; what was answered before it counts.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends `body` with `head` (request line and further headers, without Host and Content-Length).
pub async fn exchange(address: SocketAddr, head: &str, body: &str) -> Answer {
    let request = format!(
        "{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(address, request.as_bytes()).await
}

/// `POST /<operation>` with `{"rid": ..., "data": data}`.
pub async fn grape(address: SocketAddr, operation: &str, data: Value) -> Answer {
    let body = json!({"rid": "r1", "data": data}).to_string();
    exchange(address, &format!("POST /{operation} HTTP/1.1"), &body).await
}

/// Asks until `good` says so: what the DHT knows takes a moment to arrive.
pub async fn eventually(
    address: SocketAddr,
    operation: &str,
    data: Value,
    good: impl Fn(&Answer) -> bool,
) -> Answer {
    let started = std::time::Instant::now();
    loop {
        let answer = grape(address, operation, data.clone()).await;
        if good(&answer) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{operation} {data} still answers {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process that prints lines; it ends with the test.
pub struct Process {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { name: name.to_owned(), child, lines }
    }

    /// The next line it prints.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{} prints nothing more", self.name));
        line.unwrap().unwrap_or_else(|| panic!("{} has ended; see its error output above", self.name))
    }

    /// Writes a line to its input.
    pub async fn write_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("its input is a pipe");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads its input");
    }

    /// The next JSON line whose event is `event`.
    pub async fn event(&mut self, event: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line().await).unwrap();
            if line["event"] == event {
                return line;
            }
            assert_ne!(line["event"], "failed", "{}: {line}", self.name);
        }
    }

    /// Sends it a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// Waits until it ends by itself. Closes its input.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(mut self) -> std::process::ExitStatus {
        self.signal("TERM").await;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends when told").unwrap()
    }
}

/// A grape of either kind: where its DHT and its HTTP API are.
pub struct Grape {
    pub process: Process,
    pub dht: u16,
    pub http: SocketAddr,
}

impl Grape {
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.dht)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// Starts `vintner grape`.
pub async fn vintner_grape(bootstrap: &[String], more: &[&str]) -> Grape {
    vintner_grape_on(0, bootstrap, more).await
}

/// Starts `vintner grape` on this UDP port.
pub async fn vintner_grape_on(dht: u16, bootstrap: &[String], more: &[&str]) -> Grape {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vintner"));
    let dht = dht.to_string();
    command.args(["grape", "--dp", &dht, "--aph", "0", "--bn", &bootstrap.join(",")]).args(more);
    let mut process = Process::start("vintner grape", &mut command);
    let line = process.line().await;
    let words: Vec<&str> = line.split([' ', ',']).collect();
    let dht: SocketAddr = words.iter().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    let http = words.iter().find_map(|word| word.strip_prefix("http://")?.parse().ok());
    Grape { process, dht: dht.port(), http: http.unwrap_or_else(|| panic!("{line}")) }
}

/// One of the stock programs under `tests/peers`.
pub fn stock(script: &str, arguments: &[&str]) -> Process {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    assert!(
        peers.join("node_modules/grenache-grape").is_dir(),
        "the stock Grenache programs are not installed: run tests/peers/install.sh (make test does it by itself)"
    );
    Process::start(script, Command::new("node").arg(peers.join(script)).args(arguments))
}

/// Starts a stock grape that verifies signed values.
pub async fn stock_grape(bootstrap: &[String]) -> Grape {
    stock_grape_with(bootstrap, json!({"verify": true})).await
}

/// Starts a stock grape with options of `tests/peers/grape.js`.
pub async fn stock_grape_with(bootstrap: &[String], mut options: Value) -> Grape {
    options["bootstrap"] = json!(bootstrap);
    let mut process = stock("grape.js", &[&options.to_string()]);
    let ready = process.event("ready").await;
    let port = |name: &str| u16::try_from(ready[name].as_u64().unwrap()).unwrap();
    Grape { dht: port("dht"), http: SocketAddr::from(([127, 0, 0, 1], port("http"))), process }
}
