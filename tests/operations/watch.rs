//! `vintner offers list --watch`, as a pipe reads it and as a terminal shows it.

use super::{
    run,
    testnet::{
        PATIENCE,
        process::{NodeProcess, vintner},
    },
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// A watch whose lines are read; it does not outlive the test.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Watch {
    fn start(node: &NodeProcess, more: &[&str]) -> Self {
        let args = ["offers", "list", "--watch", "--interval", "1s", "--api", node.url()];
        let mut command = vintner(&[&args[..], more].concat());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, lines: lines(out), errors: lines(err) }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn create(node: &NodeProcess, key: &str, price: &str) -> String {
    let body = json!({"btc_quantity": "1", "offer_price": price});
    let (status, offer) = node.post("/offers", key, body).await.unwrap();
    assert_eq!(status, 201);
    offer["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_a_line_also_across_a_restart_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::start(dir.path(), "");
    // Without a grape it is never ready, but it lists its own offers.
    super::testnet::until("the API", || async { node.get("/node").await.is_some() }).await;
    let first = create(&node, "a", "100").await;
    let (text, json) = (Watch::start(&node, &[]), Watch::start(&node, &["--json"]));
    assert!(text.line().starts_with(&format!("+ {first}  sell  1  100  USD  open")), "{first}");
    let change: Value = serde_json::from_str(&json.line()).unwrap();
    assert_eq!((&change["change"], &change["offer"]["id"]), (&"came".into(), &first.clone().into()));

    assert!(node.process.terminate().0.success());
    assert!(text.errors.recv_timeout(PATIENCE).unwrap().contains("does not answer"));
    node.restart();
    assert!(text.errors.recv_timeout(PATIENCE).unwrap().contains("answers again"));
    let second = create(&node, "b", "200").await;
    assert!(text.line().starts_with(&format!("+ {second}")));
    let (code, _, err) = run(&["offers", "withdraw", &first, "--api", node.url()]);
    assert_eq!(code, 0, "{err}");
    assert!(text.line().starts_with(&format!("- {first}")));
    let changes: Vec<Value> =
        (0..2).map(|_| serde_json::from_str::<Value>(&json.line()).unwrap()["change"].clone()).collect();
    assert_eq!(changes, ["came", "went"]);
    assert_eq!((text.interrupt(), json.interrupt()), (Some(0), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_it_also_when_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), "");
    super::testnet::until("the API", || async { node.get("/node").await.is_some() }).await;
    create(&node, "a", "100").await;
    let args = ["offers", "list", "--watch", "--interval", "1h", "--api", node.url()];
    let mut child = vintner(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it writes to nobody");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_node_that_was_never_there_is_said_at_once() {
    let free = super::testnet::free_port();
    let (code, out, err) = run(&["offers", "list", "--watch", "--api", &format!("127.0.0.1:{free}")]);
    assert!(
        code == 1 && out.is_empty() && err.contains("no node answers") && err.contains("\nnext: "),
        "{err}"
    );
    for wrong in
        [&["--interval", "1s"][..], &["--watch", "--interval", "100d"], &["--watch", "--cursor", "x"]]
    {
        assert_eq!(run(&[&["offers", "list"], wrong].concat()).0, 2, "{wrong:?}");
    }
}
