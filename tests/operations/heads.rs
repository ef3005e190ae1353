//! Reasons that come from what others sign of themselves, on a real process beside a node whose heads a test writes.

use super::{
    standing::{api, readyz, reason, when},
    testnet::{
        Net, PATIENCE, network_name,
        process::{NodeProcess, Process},
        until,
    },
};
use data_encoding::BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use vintner::{
    grenache::{
        address::AddressPolicy,
        client::{Client, ClientConfig},
        envelope::VerifiedRequest,
        server::{Commands, ServerConfig, serve},
        service::{LIMITS, RATE},
    },
    identity::KeyPair,
    listener::Serving,
    node::clock,
    replication::core::{
        Head, Root,
        talk::{Answer, Carried, Message, Question, write_frame},
    },
    standing::Code,
    time::UnixMillis,
    workers::Workers,
};

const HOUR: Duration = Duration::from_hours(1);

/// A node that holds nothing, is everybody's neighbour, and says of itself what it is told to say.
struct Teller {
    key: KeyPair,
    address: SocketAddr,
    said: Arc<Mutex<Head>>,
    client: Client,
    serving: Serving,
}

fn wrap(bytes: &[u8]) -> String {
    format!("b{}", BASE64.encode(bytes))
}

/// The root over no records.
fn nothing() -> Root {
    Root(Sha256::digest([]).into())
}

impl Teller {
    /// `thinks_for`: how long it takes to say that it becomes a neighbour.
    async fn start((records, root): (u32, Root), thinks_for: Duration) -> Self {
        let key = KeyPair::from_seed(&[9; 32]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let head = Head {
            maker: key.public(),
            counter: 1,
            at: clock::now(),
            records,
            root,
            addresses: vec![address],
        };
        let said = Arc::new(Mutex::new(head));
        let config = ServerConfig {
            network: network_name(),
            key: key.clone(),
            clock: Arc::new(clock::now),
            rate: RATE,
            known: Arc::default(),
            limits: LIMITS,
        };
        let (asker, heads) = (key.clone(), Arc::clone(&said));
        let commands = Commands::default()
            .on("hello", move |request, from| {
                let card = card(&request, address, from);
                async move { Ok(card) }
            })
            .on("gossip", |_, _| async { Ok(json!({"neighbour": true}).to_string()) })
            .on("ask", move |request, _| {
                let head = heads.lock().unwrap().clone().sign(&network_name(), &asker);
                let (is_join, answer) = answer(&request, head.bytes());
                async move {
                    tokio::time::sleep(if is_join { thinks_for } else { Duration::ZERO }).await;
                    Ok(answer)
                }
            });
        let serving = serve(listener, config, commands, Workers::start(1).unwrap()).unwrap();
        let policy = AddressPolicy { allow_private: true };
        let config = ClientConfig { network: network_name(), policy, timeout: Duration::from_secs(20) };
        let client = Client::new(config, Workers::start(1).unwrap()).unwrap();
        Self { key, address, said, client, serving }
    }

    /// Signs another head and brings it to the node.
    async fn says(&self, node: &NodeProcess, at: UnixMillis, records: u32, root: Root) {
        let head = {
            let mut said = self.said.lock().unwrap();
            let counter = said.counter + 1;
            *said = Head { counter, at, records, root, ..said.clone() };
            said.clone().sign(&network_name(), &self.key)
        };
        let view = node.get("/node").await.unwrap();
        let (rpc, id) = (view["rpc"].as_str().unwrap(), view["client_id"].as_str().unwrap());
        let frame = wrap(&write_frame(&[Message::Head(head.bytes().clone())]).0);
        let (rpc, id) = (rpc.parse().unwrap(), id.parse().unwrap());
        let taken = self.client.call_signed(rpc, &self.key, id, "gossip", &frame, clock::now).await.unwrap();
        let taken: Value = serde_json::from_str(&taken.outcome.unwrap()).unwrap();
        assert_eq!(taken["neighbour"], true, "what a stranger says of itself counts for nothing");
    }

    /// What a node says whose clock is right and that has no offers.
    async fn says_that_all_is_well(&self, node: &NodeProcess) {
        self.says(node, clock::now(), 0, nothing()).await;
    }
}

fn card(request: &VerifiedRequest, address: SocketAddr, from: SocketAddr) -> String {
    let hello: Value = serde_json::from_str(request.body()).unwrap();
    let id = KeyPair::from_seed(&[9; 32]).public().to_string();
    json!({
        "v": 1, "network": network_name(), "kind": "node", "client_id": id, "addresses": [address],
        "nonce": hello["nonce"], "seen": from.ip(),
    })
    .to_string()
}

/// Whether it was asked to be a neighbour, and what it answers.
fn answer(request: &VerifiedRequest, head: &Arc<[u8]>) -> (bool, String) {
    let bytes = request.body().strip_prefix('b').and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let question = Question::read(&bytes.unwrap()).unwrap();
    let answer: Answer<Carried> = match question {
        Question::Join { .. } => Answer::Joined { accepted: true, head: head.clone() },
        Question::Leave => Answer::Left,
        Question::Heads(None) => Answer::Heads(vec![head.clone()], false),
        Question::Heads(Some(_)) => Answer::Heads(Vec::new(), false),
        Question::Overall(_) => Answer::Overall(nothing()),
        Question::Roots(..) => Answer::Roots(Vec::new(), false),
        Question::Maker(..) | Question::Bucket(..) => Answer::Stamps(Vec::new()),
        Question::Records(_) => Answer::Records(Vec::new()),
    };
    (matches!(question, Question::Join { .. }), wrap(&answer.to_bytes()))
}

/// A node that logs, beside the only other one of its network.
async fn beside(net: &Net, dir: &Path, teller: &Teller) -> (NodeProcess, PathBuf) {
    until("the grapes to know each other", || async {
        net.grapes[0].announce(b"test", teller.address.port()).await.is_ok()
    })
    .await;
    let log = dir.join("log");
    let (args, api) = NodeProcess::arguments(&dir.join("data"), &net.bootstrap.join(","));
    let process = Process::spawn_logging(&args, File::create(&log).unwrap());
    (NodeProcess::of(process, args, &api, None), log)
}

/// Both, once they are neighbours. The other begins with a head over so many records.
async fn pair(net: &Net, dir: &Path, records: (u32, Root)) -> (NodeProcess, Teller, PathBuf) {
    let teller = Teller::start(records, Duration::ZERO).await;
    let (node, log) = beside(net, dir, &teller).await;
    until("them to be neighbours", || async {
        let view = node.get("/node").await.unwrap_or_default();
        view["replication"]["neighbours"] == json!([teller.key.public().to_string()])
    })
    .await;
    (node, teller, log)
}

async fn synced(node: &NodeProcess) {
    until("the node to be synced", || async { readyz(node, "?sync=true").starts_with("HTTP/1.1 200") }).await;
}

/// Waits until the log says so often that this began or ended. What begins at a start must last a moment before it does.
async fn logged(log: &Path, code: Code, times: usize) -> Vec<String> {
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(log).unwrap();
        text.lines().filter(|line| line.contains(&format!("code={code}"))).map(str::to_owned).collect()
    };
    until("it to be logged", || async { lines().len() >= times }).await;
    lines()
}

/// The log has each once when it began, with what to do, and once when it ended, so many times over.
async fn assert_logged(log: &Path, code: Code, times: usize) {
    let lines = logged(log, code, 2 * times).await;
    assert_eq!(lines.len(), 2 * times, "{lines:?}");
    for lines in lines.chunks(2) {
        assert!(lines[0].contains("WARN") && lines[0].contains("not synced: "), "{lines:?}");
        assert!(lines[0].contains(code.advice()), "{lines:?}");
        assert!(lines[1].contains("INFO") && lines[1].contains("over after "), "{lines:?}");
        assert!(lines[1].contains(code.meaning()), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_whose_time_does_not_fit_are_told_while_most_neighbours_sign_such() {
    let (net, dir) = (Net::start(2, 0).await, tempfile::tempdir().unwrap());
    let (node, teller, log) = pair(&net, dir.path(), (0, nothing())).await;
    synced(&node).await;
    let code = Code::HeadsRefused;
    let times = [(clock::now().plus(HOUR), "too far in the future"), (clock::now().minus(HOUR), "so old")];
    for (n, (at, word)) in times.into_iter().enumerate() {
        teller.says(&node, at, 0, nothing()).await;
        let told = when(&node, code, true).await;
        assert!(told["detail"].as_str().unwrap().contains(word), "{told}");
        let answer = readyz(&node, "?sync=true");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(code.as_str()), "{answer}");
        assert!(readyz(&node, "").starts_with("HTTP/1.1 200"));
        logged(&log, code, 2 * n + 1).await;
        teller.says_that_all_is_well(&node).await;
        when(&node, code, false).await;
        synced(&node).await;
    }
    assert_logged(&log, code, 2).await;
    teller.serving.shutdown().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_that_signs_for_more_than_anybody_gives_leaves_a_node_behind_until_it_says_otherwise() {
    let (net, dir) = (Net::start(2, 0).await, tempfile::tempdir().unwrap());
    let (node, teller, log) = pair(&net, dir.path(), (0, nothing())).await;
    synced(&node).await;
    let code = Code::Behind;
    assert!(reason(&node, code).await.is_none());
    teller.says(&node, clock::now(), 1, Root([7; 32])).await;
    let told = when(&node, code, true).await;
    assert!(told["detail"].as_str().unwrap().contains("less of 1 maker than"), "{told}");
    let (exit, out, err) = super::run(&["healthcheck", "--api", &api(&node)]);
    assert!(exit == 0 && out.contains("sync behind: "), "{exit} {out} {err}");
    assert!(readyz(&node, "?sync=true").starts_with("HTTP/1.1 503"));
    logged(&log, code, 1).await;
    teller.says_that_all_is_well(&node).await;
    when(&node, code, false).await;
    synced(&node).await;
    assert_logged(&log, code, 1).await;
    teller.serving.shutdown().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_get_what_there_is_at_its_start_is_not_yet_synced() {
    let (net, dir) = (Net::start(2, 0).await, tempfile::tempdir().unwrap());
    let (node, teller, log) = pair(&net, dir.path(), (1, Root([7; 32]))).await;
    let code = Code::NotYetSynced;
    until("the node to say what it fetches", || async {
        let told = reason(&node, code).await.unwrap_or_default();
        told["detail"].as_str().is_some_and(|detail| detail.contains("lacks of 1 maker"))
    })
    .await;
    assert!(readyz(&node, "?sync=true").starts_with("HTTP/1.1 503"));
    assert!(reason(&node, Code::Behind).await.is_none(), "it is said once");
    logged(&log, code, 1).await;
    teller.says_that_all_is_well(&node).await;
    when(&node, code, false).await;
    synced(&node).await;
    assert_logged(&log, code, 1).await;
    teller.serving.shutdown().await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_that_is_met_thinks_about_it_nobody_is_called_out_of_reach() {
    let (net, dir) = (Net::start(2, 0).await, tempfile::tempdir().unwrap());
    let teller = Teller::start((0, nothing()), Duration::from_secs(2)).await;
    let (node, _) = beside(&net, dir.path(), &teller).await;
    until("the API", || async { node.get("/node").await.is_some() }).await;
    let (mut is_learning, started) = (false, Instant::now());
    loop {
        assert!(started.elapsed() < PATIENCE, "it never says yes");
        let view = node.get("/node").await.unwrap();
        if view["replication"]["neighbours"].as_array().is_some_and(|some| !some.is_empty()) {
            break;
        }
        let told = reasons(&view);
        assert!(!told.contains(&"none_reachable"), "{view:#}");
        is_learning |= told.contains(&"not_yet_synced");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_learning);
    synced(&node).await;
    teller.serving.shutdown().await;
    net.stop().await;
}

fn reasons(view: &Value) -> Vec<&str> {
    view["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}
