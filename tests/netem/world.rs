//! Nodes on the links, people who use them over REST, and a book of what they were told.

use crate::{
    links::{Links, address, desk, namespace},
    testnet::process::{NodeProcess, Process},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use vintner::exchange::limits::ASK_AGAIN_AFTER_DEADLINE_MAX;

/// Node processes.
pub(crate) const NODES: usize = 12;
/// Grapes, on hosts of their own after those of the nodes.
const GRAPES: usize = 3;
/// How long anything but equality may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a bid may stay in doubt: one whose deadline has passed is asked again this seldom.
const ANSWERED_WITHIN: Duration = ASK_AGAIN_AFTER_DEADLINE_MAX.saturating_add(PATIENCE);
/// How often a node is asked whether it has something.
const POLL: Duration = Duration::from_millis(10);

pub(crate) struct World {
    pub(crate) nodes: Vec<NodeProcess>,
    _grapes: Vec<Process>,
    pub(crate) links: Links,
    book: Mutex<Book>,
    _dirs: TempDir,
}

/// What was acknowledged.
struct Book {
    rng: StdRng,
    /// Offers: which node made it, and its hash.
    offers: BTreeMap<String, (usize, String)>,
    withdrawn: BTreeSet<String>,
    /// Accepted bids: the trade of the offer, and which node bid.
    trades: BTreeMap<String, (String, usize)>,
    /// Bids of which no outcome was told, by node: the path and the key with which to ask again.
    doubtful: Vec<(usize, String, String)>,
    keys: u64,
}

impl Book {
    fn key(&mut self) -> String {
        self.keys += 1;
        format!("netem-{}", self.keys)
    }
}

impl World {
    pub(crate) async fn start(seed: u64) -> Self {
        let links = Links::new(NODES + GRAPES, seed);
        let dirs = tempfile::tempdir().unwrap();
        let hosts: Vec<String> = (NODES..NODES + GRAPES).map(|n| format!("{}:20001", address(n))).collect();
        let grape = |n: usize| {
            let others: Vec<&str> =
                hosts.iter().filter(|other| **other != hosts[n]).map(String::as_str).collect();
            let host = address(NODES + n);
            let args = ["grape", "-b", &host, "--dp", "20001", "--aph", "30001", "--bn", &others.join(",")];
            Process::spawn_within(&namespace(NODES + n), &args.map(str::to_owned))
        };
        let started = Instant::now();
        let grapes = (0..GRAPES).map(grape).collect();
        let node = |n: usize| {
            let api = format!("{}:4000", desk(n));
            let (rpc, dht) = (format!("{}:1337", address(n)), format!("{}:20011", address(n)));
            let dir = dirs.path().join(format!("node-{}", n + 1)).display().to_string();
            let args = ["node", "--api", &api, "--rpc", &rpc, "--dht", &dht, "--data-dir", &dir];
            let more = ["--bootstrap", &hosts.join(","), "--network", "netem", "--allow-private"];
            let args = args.into_iter().chain(more).chain(["--insecure-no-token"]).map(str::to_owned);
            NodeProcess::start_with(args.collect(), &api, Some(namespace(n)))
        };
        let nodes: Vec<NodeProcess> = (0..NODES).map(node).collect();
        let book = Book {
            rng: StdRng::seed_from_u64(seed),
            offers: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            trades: BTreeMap::new(),
            doubtful: Vec::new(),
            keys: 0,
        };
        let world = Self { nodes, _grapes: grapes, links, book: Mutex::new(book), _dirs: dirs };
        let ready = world.when_all("to have neighbours", |node| async {
            let view = node.get("/node").await;
            view.is_some_and(|view| {
                view["ready"] == true
                    && view["replication"]["neighbours"].as_array().is_some_and(|n| n.len() > 1)
            })
        });
        ready.await;
        println!("{NODES} nodes are ready and have neighbours after {:.1?}", started.elapsed());
        world
    }

    /// Waits until all nodes are so.
    async fn when_all<'w, F: Future<Output = bool>>(
        &'w self,
        what: &str,
        is_so: impl Fn(&'w NodeProcess) -> F,
    ) {
        let started = Instant::now();
        for (n, node) in self.nodes.iter().enumerate() {
            while !is_so(node).await {
                assert!(
                    started.elapsed() < PATIENCE,
                    "waited {PATIENCE:?} in vain for node {} {what}",
                    n + 1
                );
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Creates an offer; its id. What is answered by 201 is kept in the book.
    async fn create(&self, maker: usize) -> String {
        let key = self.book.lock().unwrap().key();
        let started = Instant::now();
        loop {
            let body = json!({"btc_quantity": "1", "offer_price": "100"});
            if let Some((201, offer)) = self.nodes[maker].post("/offers", &key, body).await {
                let [id, hash] = ["id", "hash"].map(|name| offer[name].as_str().unwrap().to_owned());
                self.book.lock().unwrap().offers.insert(id.clone(), (maker, hash));
                return id;
            }
            assert!(started.elapsed() < PATIENCE, "node {} creates no offer", maker + 1);
            tokio::time::sleep(POLL).await;
        }
    }

    async fn knows(&self, node: usize, offer: &str) -> bool {
        self.nodes[node].get(&format!("/offers/{offer}")).await.is_some_and(|view| view["id"] == *offer)
    }

    /// Creates `count` offers one after another; how long each took to be on all nodes.
    pub(crate) async fn announce(&self, count: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for n in 0..count {
            let offer = self.create(n % NODES).await;
            let started = Instant::now();
            self.arrives(&offer, &(0..NODES).collect::<Vec<_>>()).await;
            times.push(started.elapsed());
        }
        times
    }
    /// Waits until all these nodes know the offer.
    async fn arrives(&self, offer: &str, nodes: &[usize]) {
        let (started, mut waiting) = (Instant::now(), nodes.to_vec());
        while !waiting.is_empty() {
            let mut still = Vec::new();
            for node in waiting {
                if !self.knows(node, offer).await {
                    still.push(node);
                }
            }
            waiting = still;
            assert!(
                started.elapsed() < PATIENCE,
                "offer {offer} does not come to the nodes {waiting:?} (from 0)"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// A market among these nodes for so long: offers that stay, offers that two others want at once, offers taken back, the last two
    /// sometimes of one offer at one time.
    pub(crate) async fn trade(&self, among: &[usize], lasts: Duration) {
        let until = Instant::now() + lasts;
        let lane = || self.deals(among, until);
        tokio::join!(lane(), lane(), lane());
    }

    async fn deals(&self, among: &[usize], until: Instant) {
        while Instant::now() < until {
            let (people, kind) = {
                let rng = &mut self.book.lock().unwrap().rng;
                let first = rng.random_range(0..among.len());
                let other = |n: usize| among[(first + n) % among.len()];
                (
                    [among[first], other(1), other(2 + rng.random_range(0..among.len() - 2))],
                    rng.random_range(0..6),
                )
            };
            let [maker, one, two] = people;
            let offer = self.create(maker).await;
            match kind {
                0 | 1 => {}
                2 => self.withdraw(maker, &offer).await,
                3 => {
                    self.arrives(&offer, &[one]).await;
                    tokio::join!(self.bid(one, &offer), self.withdraw(maker, &offer));
                }
                _ => {
                    self.arrives(&offer, &[one, two]).await;
                    tokio::join!(self.bid(one, &offer), self.bid(two, &offer));
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn withdraw(&self, maker: usize, offer: &str) {
        // Refused when a bid was faster.
        if let Some((200, _)) = self.nodes[maker].withdraw(offer).await {
            self.book.lock().unwrap().withdrawn.insert(offer.to_owned());
        }
    }

    async fn bid(&self, bidder: usize, offer: &str) {
        let key = self.book.lock().unwrap().key();
        self.bid_with(bidder, offer, key).await;
    }

    /// Bids, and keeps the outcome in the book. Returns whether there is one.
    async fn bid_with(&self, bidder: usize, offer: &str, key: String) -> bool {
        let answer = self.nodes[bidder].post(&format!("/offers/{offer}/bids"), &key, json!({})).await;
        let mut book = self.book.lock().unwrap();
        match answer {
            Some((201, bid)) => {
                let trade = bid["trade_id"].as_str().unwrap().to_owned();
                let before = book.trades.insert(offer.to_owned(), (trade.clone(), bidder));
                assert!(before.is_none_or(|before| before.0 == trade), "offer {offer} was sold twice");
                true
            }
            Some((409, problem)) => {
                assert_eq!(problem["code"], "offer_not_available", "{problem}");
                true
            }
            Some((202, _)) | None => {
                book.doubtful.push((bidder, offer.to_owned(), key));
                false
            }
            Some((status, problem)) => panic!("a bid was answered by {status}: {problem}"),
        }
    }

    /// A bid whose maker is on the other side: it stays in doubt.
    pub(crate) async fn doubtful_bid(&self, bidder: usize, maker: usize) {
        let of_maker = |(id, made): (&String, &(usize, String))| (made.0 == maker).then(|| id.clone());
        let offers: Vec<String> = self.book.lock().unwrap().offers.iter().filter_map(of_maker).collect();
        for offer in offers {
            let view = self.nodes[bidder].get(&format!("/offers/{offer}")).await.unwrap_or_default();
            if view["status"] == "open" {
                let key = self.book.lock().unwrap().key();
                assert!(!self.bid_with(bidder, &offer, key).await, "an answer came through the partition");
                return;
            }
        }
        panic!("node {} has no open offer", maker + 1);
    }

    async fn replicas(&self) -> Vec<Option<BTreeMap<String, u64>>> {
        let mut replicas = Vec::new();
        for node in &self.nodes {
            replicas.push(node.replica().await);
        }
        replicas
    }

    /// Waits until all nodes hold the same versions of the same records; how long that took.
    pub(crate) async fn equal(&self, within: Duration) -> Duration {
        let (started, mut told_at) = (Instant::now(), Duration::ZERO);
        loop {
            let replicas = self.replicas().await;
            if replicas[0].is_some() && replicas.iter().all(|replica| *replica == replicas[0]) {
                return started.elapsed();
            }
            assert!(started.elapsed() < within, "after {within:?}: {}", told(&replicas));
            if started.elapsed() > told_at + Duration::from_secs(10) {
                told_at = started.elapsed();
                println!("  after {told_at:.0?} {}", told(&replicas));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How far the replicas differ, in words.
    pub(crate) async fn difference(&self) -> String {
        told(&self.replicas().await)
    }

    /// Nothing acknowledged is lost, no offer has two trades, and both sides of each trade say the same of it.
    pub(crate) async fn check(&self) {
        loop {
            let Some((bidder, offer, key)) = self.book.lock().unwrap().doubtful.pop() else { break };
            let started = Instant::now();
            while !self.bid_with(bidder, &offer, key.clone()).await {
                self.book.lock().unwrap().doubtful.pop();
                assert!(started.elapsed() < ANSWERED_WITHIN, "the bid {key} on {offer} stays in doubt");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        // A bid of the last moment may still have sold one.
        self.equal(PATIENCE).await;
        let replica = self.nodes[0].replica().await.unwrap();
        let mut sides: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for node in &self.nodes {
            for trade in node.trades().await {
                sides.entry(trade["offer_id"].as_str().unwrap().to_owned()).or_default().push(trade);
            }
        }
        let book = self.book.lock().unwrap();
        for (id, (_, hash)) in &book.offers {
            let sequence = replica.get(hash).unwrap_or_else(|| panic!("the offer {id} was lost"));
            let closed = book.withdrawn.contains(id) || book.trades.contains_key(id);
            assert!(!closed || *sequence > 0, "offer {id} was closed, and the lists show it open");
            assert!(
                !(book.withdrawn.contains(id) && sides.contains_key(id)),
                "offer {id} was withdrawn and sold"
            );
        }
        for (offer, (trade, _)) in &book.trades {
            let sides = sides.get(offer).unwrap_or_else(|| panic!("the trade {trade} was lost"));
            assert!(
                sides.iter().all(|side| side["id"] == **trade),
                "offer {offer} has two trades: {sides:?}"
            );
        }
        for (offer, sides) in &sides {
            let [one, other] = &sides[..] else { panic!("offer {offer} has not two sides: {sides:?}") };
            for name in [
                "id",
                "maker",
                "taker",
                "offer_hash",
                "bid_id",
                "terms",
                "price",
                "executed_at",
                "signatures",
            ] {
                assert_eq!(one[name], other[name], "the sides of {offer} disagree on its {name}");
            }
            assert_ne!(one["role"], other["role"]);
            assert!(book.trades.contains_key(offer), "nobody was told of the trade of {offer}");
        }
    }

    /// What a host sends while nobody does anything, in words.
    pub(crate) async fn at_rest(&self, lasts: Duration) -> String {
        let before = self.links.packets();
        tokio::time::sleep(lasts).await;
        let after = self.links.packets();
        let rate = |count: u64| count as f64 / lasts.as_secs_f64() / (NODES + GRAPES) as f64;
        format!(
            "at rest a host sends {:.1} packets of UDP and {:.1} of TCP in a second, {:.1} kB",
            rate(after.udp - before.udp),
            rate(after.tcp - before.tcp),
            rate(after.bytes - before.bytes) / 1000.0
        )
    }

    pub(crate) fn summary(&self) -> String {
        let packets = self.links.packets();
        let book = self.book.lock().unwrap();
        format!(
            "{} offers, {} withdrawn, {} sold; {} packets of UDP and {} of TCP, {} of them lost",
            book.offers.len(),
            book.withdrawn.len(),
            book.trades.len(),
            packets.udp,
            packets.tcp,
            packets.lost
        )
    }
}

fn told(replicas: &[Option<BTreeMap<String, u64>>]) -> String {
    let all: BTreeSet<(&String, &u64)> = replicas.iter().flatten().flatten().collect();
    let newest: BTreeMap<&String, &u64> = all.into_iter().collect();
    let lacks = |replica: &Option<BTreeMap<String, u64>>| {
        let held = replica.as_ref()?;
        Some(newest.iter().filter(|(hash, sequence)| held.get(**hash) != Some(**sequence)).count())
    };
    let lacking: Vec<String> =
        replicas.iter().map(lacks).map(|n| n.map_or("no answer".into(), |n| n.to_string())).collect();
    format!("the nodes lack [{}] of {} records in their newest version", lacking.join(", "), newest.len())
}
