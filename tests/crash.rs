//! kill -9 of real processes, right after and at random moments around every create and every bid: nothing acknowledged is lost,
//! nothing is sold twice, and both sides end with the same word.
//!
//! `VINTNER_CRASH_SEED` replays a run's choices (the machine's timing is its own); `VINTNER_CRASH_ROUNDS` makes it longer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod testnet;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use testnet::{
    process::{NodeProcess, Process, grape},
    until,
};

/// A grape, a maker and two bidders.
struct World {
    _grape: Process,
    maker: NodeProcess,
    bidders: [NodeProcess; 2],
    /// What the maker acknowledged as created.
    offers: Vec<String>,
    /// Every trade that anybody was told of: offer to trade.
    trades: HashMap<String, String>,
    _dirs: tempfile::TempDir,
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_acknowledged_and_sells_nothing_twice() {
    let seed = variable("VINTNER_CRASH_SEED", uuid::Uuid::now_v7().as_u64_pair().1);
    let rounds = variable("VINTNER_CRASH_ROUNDS", 50);
    println!("VINTNER_CRASH_SEED={seed} VINTNER_CRASH_ROUNDS={rounds}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::start().await;
    for round in 0..rounds {
        match round % 3 {
            0 => world.kill_around_create(&mut rng, round).await,
            1 => world.kill_around_bid(&mut rng, round, false).await,
            _ => world.kill_around_bid(&mut rng, round, true).await,
        }
    }
    world.check_all().await;
}

impl World {
    async fn start() -> Self {
        let dirs = tempfile::tempdir().unwrap();
        let (grape, bootstrap) = grape();
        let node = |name: &str| NodeProcess::start(&dirs.path().join(name), &bootstrap);
        let (maker, bidders) = (node("maker"), [node("left"), node("right")]);
        for node in [&maker, &bidders[0], &bidders[1]] {
            node.ready().await;
        }
        Self { _grape: grape, maker, bidders, offers: Vec::new(), trades: HashMap::new(), _dirs: dirs }
    }

    /// Creates with an idempotency key until it is acknowledged; a repeated request makes no second offer.
    async fn create(&self, key: &str) -> String {
        for _ in 0..100 {
            let body = json!({"btc_quantity": "1", "offer_price": "100"});
            if let Some((201, offer)) = self.maker.post("/offers", key, body).await {
                return offer["id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no offer could be created")
    }

    async fn kill_around_create(&mut self, rng: &mut StdRng, round: u64) {
        let key = format!("create-{round}");
        let delay = Duration::from_micros(rng.random_range(0..4000));
        let body = json!({"btc_quantity": "1", "offer_price": "100"});
        let acknowledged = {
            let request = self.maker.post("/offers", &key, body);
            tokio::pin!(request);
            tokio::select! {
                answer = &mut request => answer,
                () = tokio::time::sleep(delay) => None,
            }
        };
        self.maker.process.kill_9();
        self.maker.restart();
        self.maker.ready().await;
        if let Some((status, offer)) = acknowledged {
            assert_eq!(status, 201, "{offer}");
            let id = offer["id"].as_str().unwrap();
            let kept = self.maker.get(&format!("/offers/{id}")).await.unwrap();
            assert_eq!(
                (&kept["id"], &kept["hash"]),
                (&offer["id"], &offer["hash"]),
                "an acknowledged offer was lost"
            );
            assert_eq!(self.create(&key).await, id, "the same request made a second offer");
        }
        let offer = self.create(&key).await;
        for bidder in &self.bidders {
            until("the offer to be listed after the crash", || bidder.lists(&offer)).await;
        }
        self.offers.push(offer);
    }

    async fn kill_around_bid(&mut self, rng: &mut StdRng, round: u64, kill_maker: bool) {
        let offer = self.create(&format!("create-{round}")).await;
        for bidder in &self.bidders {
            until("the offer to be listed", || bidder.lists(&offer)).await;
        }
        let delay = Duration::from_micros(rng.random_range(0..8000));
        let keys = [format!("left-{round}"), format!("right-{round}")];
        let told = {
            let bids = async {
                tokio::join!(bid(&self.bidders[0], &offer, &keys[0]), bid(&self.bidders[1], &offer, &keys[1]))
            };
            tokio::pin!(bids);
            tokio::select! {
                told = &mut bids => Some(told),
                () = tokio::time::sleep(delay) => None,
            }
        };
        let victim = if kill_maker { &mut self.maker } else { &mut self.bidders[0] };
        victim.process.kill_9();
        victim.restart();
        victim.ready().await;
        // Who was told "yes" before the crash must find it again.
        let told = told.map_or_else(Vec::new, |(a, b)| vec![a, b]);
        let accepted_before: Vec<Value> =
            told.into_iter().flatten().filter(|b| b["status"] == "accepted").collect();

        let mut accepted = Vec::new();
        for (bidder, key) in self.bidders.iter().zip(&keys) {
            if let Some(trade) = settle(bidder, &offer, key).await {
                accepted.push(trade);
            }
        }
        assert_eq!(
            accepted.len(),
            1,
            "round {round}: offer {offer} has {} trades: {accepted:?}",
            accepted.len()
        );
        for before in accepted_before {
            assert_eq!(
                before["trade_id"],
                json!(accepted[0]),
                "round {round}: an acknowledged trade changed"
            );
        }
        self.trades.insert(offer.clone(), accepted.remove(0));
        self.offers.push(offer);
        self.check_maker().await;
    }

    /// The maker has exactly the trades that the takers were told of.
    async fn check_maker(&self) {
        let trades = self.maker.trades().await;
        for (offer, trade) in &self.trades {
            let of_offer: Vec<&Value> = trades.iter().filter(|t| t["offer_id"] == json!(offer)).collect();
            assert_eq!(of_offer.len(), 1, "offer {offer}: {of_offer:?}");
            assert_eq!(of_offer[0]["id"], json!(trade), "maker and taker disagree on offer {offer}");
        }
    }

    async fn check_all(&self) {
        self.check_maker().await;
        for offer in &self.offers {
            assert!(
                self.maker.get(&format!("/offers/{offer}")).await.is_some_and(|o| o["id"] == json!(offer))
            );
            if self.trades.contains_key(offer) {
                for node in [&self.maker, &self.bidders[0], &self.bidders[1]] {
                    until("a sold offer to be gone", || async { !node.lists(offer).await }).await;
                }
            }
        }
        for bidder in &self.bidders {
            let node = bidder.get("/node").await.unwrap();
            assert_eq!(node["outbox"]["bids_in_doubt"], json!(0), "{node}");
        }
    }
}

/// One request; the bid as the node shows it when it answered with one.
async fn bid(bidder: &NodeProcess, offer: &str, key: &str) -> Option<Value> {
    let (status, answer) =
        bidder.post(&format!("/offers/{offer}/bids"), key, json!({"price": "100"})).await?;
    (status == 201 || status == 202).then_some(answer)
}

/// Repeats the request until its outcome is known: the trade, or that there is none.
async fn settle(bidder: &NodeProcess, offer: &str, key: &str) -> Option<String> {
    for _ in 0..300 {
        let path = format!("/offers/{offer}/bids");
        match bidder.post(&path, key, json!({"price": "100"})).await {
            Some((201, bid)) => return Some(bid["trade_id"].as_str().unwrap().to_owned()),
            Some((409, problem)) => {
                assert_eq!(problem["code"], "offer_not_available", "{problem}");
                return None;
            }
            // A node that was killed within milliseconds of hearing of an offer may have to hear of it again. Then it had not
            // bid either: a bid is never on disk without the offer that it is for.
            Some((404, problem)) => {
                assert_eq!(problem["code"], "offer_not_found", "{problem}");
                return None;
            }
            Some((202, _)) | None => {}
            Some((status, answer)) => panic!("{status}: {answer}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the bid {key} on {offer} stays in doubt")
}
