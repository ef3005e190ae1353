//! `vintner devnet` as a process on free ports.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

pub const VINTNER: &str = env!("CARGO_BIN_EXE_vintner");
/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const GRAPES: u16 = 3;
pub const NODES: u16 = 3;

/// How often this process has looked for ports.
static SEARCHES: AtomicU32 = AtomicU32::new(0);

/// A hundred ports of which none is taken now: five blocks of ten or twenty.
#[derive(Clone, Copy)]
pub struct Ports(pub u16);

impl Ports {
    pub fn find() -> Self {
        let is_free = |port: u16| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        };
        // Below the range from which the system gives ports to whoever asks for any.
        // Each test of each process looks elsewhere first, so that two that look at once do not find the same.
        let first = std::process::id().wrapping_add(SEARCHES.fetch_add(1, Ordering::Relaxed)) % 150;
        let base = (0..150u16).map(|n| 12_000 + (first as u16 + n) % 150 * 100);
        Self(
            base.into_iter()
                .find(|base| (*base..base + 100).all(is_free))
                .expect("no hundred free ports in a row"),
        )
    }

    /// The base address of a node's API, counted from 0.
    pub fn api(self, node: u16) -> String {
        format!("http://127.0.0.1:{}", self.0 + node)
    }
}

/// The network; it ends with the test.
pub struct Devnet {
    child: Child,
    lines: Receiver<String>,
}

impl Devnet {
    pub fn start(dir: &Path, ports: Ports) -> Self {
        Self::of(NODES, dir, ports)
    }

    /// With so many nodes, twenty at most. More than ten need twice as many ports.
    pub fn of(nodes: u16, dir: &Path, ports: Ports) -> Self {
        let port = |block: u16| (ports.0 + block * nodes.max(10)).to_string();
        let mut child = Command::new(VINTNER)
            .args(["devnet", "--grapes", &GRAPES.to_string(), "--nodes", &nodes.to_string(), "--data-dir"])
            .arg(dir)
            .args(["--api-port", &port(0), "--rpc-port", &port(1), "--dht-port", &port(2)])
            .args(["--grape-dht-port", &port(3), "--grape-http-port", &port(4)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, lines }
    }

    pub fn ready(&self) {
        self.ready_within(PATIENCE);
    }

    pub fn ready_within(&self, patience: Duration) {
        let start = Instant::now();
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.contains("network ready") => return,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {
                    assert!(start.elapsed() < patience, "no `network ready` line");
                }
                Err(RecvTimeoutError::Disconnected) => panic!("devnet ended before it was ready"),
            }
        }
    }

    pub fn signal(&mut self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    pub fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("devnet does not end");
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Its children end with it: they watch their standard input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
