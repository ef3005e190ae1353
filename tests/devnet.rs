//! `vintner devnet` as a user runs it: one command, a whole network of processes, the tour of the README, a clean end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

#[path = "support/devnet.rs"]
mod running;

use running::{Devnet, GRAPES, NODES, PATIENCE, Ports, VINTNER};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

fn vintner(api: &str, args: &[&str]) -> Output {
    Command::new(VINTNER).args(args).args(["--json", "--api", api]).output().unwrap()
}

fn json(api: &str, args: &[&str]) -> Value {
    let output = vintner(api, args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {output:?}"))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn ids(api: &str) -> Vec<String> {
    let items = json(api, &["offers", "list"])["items"].clone();
    items.as_array().unwrap().iter().map(|offer| offer["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_tour_works_and_everything_is_there_again_after_a_restart() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::find());
    let [maker, other, taker] = [0, 1, 2].map(|node| ports.api(node));
    let mut devnet = Devnet::start(dir.path(), ports);
    devnet.ready();

    let offer = json(&maker, &["offers", "create", "--quantity", "0.5", "--price", "64000"]);
    let id = offer["id"].as_str().unwrap();
    for api in [&other, &taker] {
        until("the offer to be listed", || ids(api).contains(&id.to_owned()));
    }
    let bid = json(&taker, &["offers", "bid", id]);
    assert_eq!(bid["status"], "accepted", "{bid}");
    for api in [&maker, &other, &taker] {
        until("the offer to be gone", || ids(api).is_empty());
    }
    let late = vintner(&other, &["offers", "bid", id]);
    assert_eq!(late.status.code(), Some(1));
    assert!(format!("{late:?}").contains("offer_not_available"), "{late:?}");
    let open = json(&maker, &["offers", "create", "--quantity", "1", "--price", "100"]);
    let client_id = json(&maker, &["status"])["client_id"].clone();

    devnet.signal("-TERM");
    assert_eq!(devnet.ended(), Some(0));
    let mut devnet = Devnet::start(dir.path(), ports);
    devnet.ready();
    assert_eq!(json(&maker, &["status"])["client_id"], client_id);
    for api in [&maker, &taker] {
        assert_eq!(json(api, &["trades", "show", bid["trade_id"].as_str().unwrap()])["offer_id"], id);
    }
    for api in [&maker, &other, &taker] {
        until("the open offer to be listed again", || {
            ids(api).contains(&open["id"].as_str().unwrap().to_owned())
        });
    }

    // Killed without a chance to clean up, it leaves nobody behind: the ports are free again.
    devnet.signal("-KILL");
    devnet.ended();
    until("all children to end", || {
        (0..NODES).all(|node| TcpListener::bind((Ipv4Addr::LOCALHOST, ports.0 + node)).is_ok())
            && (0..GRAPES).all(|grape| UdpSocket::bind((Ipv4Addr::LOCALHOST, ports.0 + 30 + grape)).is_ok())
    });
}

/// Twenty-three processes of a debug build start at once.
const MANY_PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn twenty_nodes_start_together_and_list_the_same() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::find());
    let started = Instant::now();
    let mut devnet = Devnet::of(20, dir.path(), ports);
    devnet.ready_within(MANY_PATIENCE);
    println!("20 nodes and {GRAPES} grapes were ready after {:.1?}", started.elapsed());
    let apis: Vec<String> = (0..20).map(|node| ports.api(node)).collect();
    let mut made: Vec<String> = Vec::new();
    for api in apis.iter().step_by(4).cycle().take(10) {
        let offer = json(api, &["offers", "create", "--quantity", "0.5", "--price", "64000"]);
        made.push(offer["id"].as_str().unwrap().to_owned());
    }
    // Newest first, by time; ids of one millisecond by chance.
    made.sort();
    made.reverse();
    let created = Instant::now();
    for api in &apis {
        while ids(api) != made {
            assert!(created.elapsed() < MANY_PATIENCE, "{api} lists {:?}, not {made:?}", ids(api));
            thread::sleep(Duration::from_millis(50));
        }
    }
    println!("10 offers of 5 nodes were on every list {:.1?} after the last", created.elapsed());
    devnet.signal("-TERM");
    assert_eq!(devnet.ended(), Some(0));
}

#[test]
fn a_taken_port_is_named_and_nothing_is_started() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::find());
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.0 + 1)).unwrap();
    let output = Command::new(VINTNER)
        .args(["devnet", "--data-dir"])
        .arg(dir.path())
        .args(["--api-port", &ports.0.to_string(), "--rpc-port", &(ports.0 + 10).to_string()])
        .args(["--dht-port", &(ports.0 + 20).to_string(), "--grape-dht-port", &(ports.0 + 30).to_string()])
        .args(["--grape-http-port", &(ports.0 + 40).to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&(ports.0 + 1).to_string()) && said.contains("--api-port"), "{said}");
}

/// A fourth node, by one line, in a directory of its own. It ends with the test.
struct Joined {
    child: std::process::Child,
    /// What it logged until its API was there.
    said: String,
    api: String,
}

impl Joined {
    fn start(cwd: &std::path::Path, join: &str) -> Self {
        let mut command = Command::new(VINTNER);
        command.args(["node", "--until-stdin-ends", "--join", join]).current_dir(cwd);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let api = lines.by_ref().find_map(|line| {
            said.push_str(&line);
            said.push('\n');
            let (_, url) = line.split_once("the API is at ")?;
            Some(url.split("/api").next()?.to_owned())
        });
        thread::spawn(move || lines.for_each(drop));
        Self { child, api: api.unwrap_or_else(|| panic!("it did not start: {said}")), said }
    }

    fn client_id(&self) -> String {
        json(&self.api, &["status"])["client_id"].as_str().unwrap().to_owned()
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn further_nodes_join_by_one_line_and_are_the_same_ones_when_they_are_started_again() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), Ports::find());
    let cwd = tempfile::tempdir().unwrap();
    // So that the defaults are taken, by this test or by somebody else.
    let _api = TcpListener::bind((Ipv4Addr::LOCALHOST, 4000));
    let _rpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 1337));
    let _dht = UdpSocket::bind((Ipv4Addr::LOCALHOST, 20_011));
    let mut devnet = Devnet::start(dir.path(), ports);
    devnet.ready();
    let (api, rpc) = (format!("127.0.0.1:{}", ports.0), format!("127.0.0.1:{}", ports.0 + 10));

    // By the API, and a second one beside it by the RPC.
    let first = Joined::start(cwd.path(), &api);
    for text in [
        "network devnet",
        "joined/devnet/node-1",
        "127.0.0.1:4000 is taken",
        ":1337 is taken",
        ":20011 is taken",
    ] {
        assert!(first.said.contains(text), "{text} is not in {}", first.said);
    }
    let second = Joined::start(cwd.path(), &rpc);
    assert!(second.said.contains("joined/devnet/node-2"), "{}", second.said);
    let (one, two) = (first.client_id(), second.client_id());
    assert_ne!(one, two);
    let offer = json(&first.api, &["offers", "create", "--quantity", "0.5", "--price", "64000"]);
    let id = offer["id"].as_str().unwrap().to_owned();
    for api in [&second.api, &ports.api(2)] {
        until("the offer to be listed", || ids(api).contains(&id));
    }
    let bid = json(&second.api, &["offers", "bid", &id]);
    assert_eq!(bid["status"], "accepted", "{bid}");

    // The same line is the same node, on the same ports.
    let at = second.api.clone();
    second.stop();
    let second = Joined::start(cwd.path(), &rpc);
    assert_eq!((second.client_id(), &second.api), (two.clone(), &at));
    // Also where it is started first, while the directory of the other line is free.
    first.stop();
    second.stop();
    let second = Joined::start(cwd.path(), &rpc);
    assert_eq!(second.client_id(), two, "{}", second.said);
    let first = Joined::start(cwd.path(), &api);
    assert_eq!(first.client_id(), one, "{}", first.said);
    second.stop();

    // What contradicts the network is refused, and starts nothing.
    for (more, text) in [
        (["--network", "vintner"], "of network devnet"),
        (["--bootstrap", "127.0.0.1:1"], "leave one of the two out"),
    ] {
        let refused = Command::new(VINTNER)
            .args(["node", "--join", &api])
            .args(more)
            .current_dir(cwd.path())
            .output()
            .unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && said.contains(text), "{said}");
    }
    // By a variable, and shown without a start.
    let shown = Command::new(VINTNER)
        .args(["node", "--print-config"])
        .env("VINTNER_JOIN", format!("http://{api}"))
        .current_dir(cwd.path())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in
        ["network = \"devnet\"", "data_dir = \".vintner/joined/devnet/node-3\"", "allow_private = true"]
    {
        assert!(shown.lines().any(|found| found == line), "{line} is not in {shown}");
    }
    assert!(
        shown.contains(&format!("\"127.0.0.1:{}\"", ports.0 + 20)),
        "the DHT of the node that was named: {shown}"
    );

    // The node that it named is away: it starts all the same, from the others.
    first.stop();
    devnet.signal("-TERM");
    assert_eq!(devnet.ended(), Some(0));
    let first = Joined::start(cwd.path(), &api);
    assert!(first.said.contains("nobody answers at") && first.client_id() == one, "{}", first.said);
    let nobody = Command::new(VINTNER)
        .args(["node", "--join", "127.0.0.1:1"])
        .current_dir(cwd.path())
        .output()
        .unwrap();
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(
        nobody.status.code() == Some(1)
            && said.contains("nobody answers at 127.0.0.1:1")
            && said.contains("next: start the node there"),
        "{said}"
    );
}
