//! Strangers on the DHT and liars among the makers.

use super::testnet::*;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use vintner::{
    bep44::{MutableItem, Target, VerifiedItem, bdecode_bytes, bencode_bytes},
    dht::{Dht, Put},
    exchange::{BidAnswer, BidOutcome, CommandError, Done, OfferRef, OfferStatus, Refusal, RefusalCode},
    grenache::{
        envelope::VerifiedRequest,
        server::{self, Commands, ServerConfig},
        service::{LIMITS, RATE},
    },
    identity::{Domain, KeyPair, MasterKey, Network, Signature, Signed, SignedText},
    listener::Serving,
    market::{Bid, IdMint, Offer, OfferId, Trade, TradeId, TradeReceipt},
    node::{Node, clock},
    workers::Workers,
};

/// Somebody with a DHT node and keys, who writes whatever he likes.
struct Stranger {
    dht: Dht,
    master: MasterKey,
    mint: IdMint,
}

impl Stranger {
    async fn join(net: &Net) -> Self {
        let dht = grape(0, net.bootstrap.clone()).await;
        let all = net.grapes.len() + net.nodes.len();
        until("the stranger to join", || async { dht.status().nodes_good >= all }).await;
        Self { dht, master: MasterKey::from_bytes([9; 32]), mint: IdMint::default() }
    }

    fn offer_on(&mut self, network: &Network) -> Offer {
        let now = clock::now();
        let id = self.mint.next(network, &self.master.client_key().public(), now);
        Offer::create(&self.master, network, id, new_offer("100", now), now).unwrap()
    }

    /// Re-signs an offer's JSON after a change, with the right record key.
    fn changed(&self, offer: &Offer, change: impl FnOnce(&mut serde_json::Value)) -> VerifiedItem {
        Self::changed_by(&self.master.record_key(offer.id.0), offer, change)
    }

    fn changed_by(key: &KeyPair, offer: &Offer, change: impl FnOnce(&mut serde_json::Value)) -> VerifiedItem {
        let mut json: serde_json::Value =
            serde_json::from_slice(bdecode_bytes(&offer.item().v).unwrap()).unwrap();
        change(&mut json);
        let seq = json["sequence"].as_i64().unwrap();
        let v = bencode_bytes(&serde_json::to_vec(&json).unwrap());
        VerifiedItem::sign(key, b"", seq, v).unwrap()
    }

    /// Puts and announces, whether or not anybody accepts it.
    async fn publish(&self, item: VerifiedItem) {
        let target = item.target();
        let _ = self.dht.put(Put::Mutable { item, cas: None }).await;
        self.announce(target).await;
    }

    async fn announce(&self, target: Target) {
        self.dht.announce(format!("NEW_OFFER:{target}").as_bytes(), 1337).await.unwrap();
    }
}

fn records(node: &Node) -> usize {
    node.status().offers.records
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_records_are_not_listed_and_honest_ones_beside_them_are() {
    let net = Net::start(2, 2).await;
    let mut stranger = Stranger::join(&net).await;
    let network = network_name();

    let mut forged = Vec::new();
    let offer = stranger.offer_on(&network);
    // Somebody else's signature: no DHT node of ours stores it, and none of ours lists it.
    let bad_signature = MutableItem { sig: Signature([1; 64]), ..offer.item().clone().into_inner() };
    forged.push(VerifiedItem::from_own_store(bad_signature));
    let offer = stranger.offer_on(&network);
    forged.push(stranger.changed(&offer, |json| json["proof"] = Signature([7; 64]).to_string().into()));
    let victim = net.nodes[0].exchange().client_id();
    let offer = stranger.offer_on(&network);
    forged.push(stranger.changed(&offer, |json| json["client_id"] = victim.to_string().into()));
    let other: Network = "elsewhere".parse().unwrap();
    forged.push(stranger.offer_on(&other).item().clone());
    let offer = stranger.offer_on(&network);
    forged.push(stranger.changed(&offer, |json| json["memo"] = "x".repeat(150).into()));
    let offer = stranger.offer_on(&network);
    forged.push(stranger.changed(&offer, |json| json["dies_at"] = 5.into()));
    let offer = stranger.offer_on(&network);
    forged.push(stranger.changed(&offer, |json| json["btc_quantity"] = "-1".into()));
    for item in &forged {
        stranger.publish(item.clone()).await;
    }
    // A hash that nobody stores.
    stranger.announce(Target([0x55; 20])).await;

    let honest = stranger.offer_on(&network);
    stranger.publish(honest.item().clone()).await;
    listed_everywhere(&net.nodes, honest.id).await;
    for node in &net.nodes {
        let state = &node.exchange().snapshot().state;
        for item in &forged {
            assert!(!state.market.records.contains_key(&item.target()), "a forged record is held");
        }
        assert_eq!(records(node), 1);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_offer_is_not_listed() {
    let net = Net::start(1, 1).await;
    let mut stranger = Stranger::join(&net).await;
    let offer = stranger.offer_on(&network_name());
    let soon = clock::now().plus(Duration::from_secs(2));
    stranger.publish(stranger.changed(&offer, |json| json["expires_at"] = soon.0.into())).await;
    listed_everywhere(&net.nodes, offer.id).await;
    gone_everywhere(&net.nodes, offer.id).await;
    assert_eq!(records(&net.nodes[0]), 1, "it is kept, as expired, until it dies");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_replayed_changes_nothing() {
    let net = Net::start(2, 2).await;
    let mut stranger = Stranger::join(&net).await;
    let open = stranger.offer_on(&network_name());
    stranger.publish(open.item().clone()).await;
    listed_everywhere(&net.nodes, open.id).await;
    let closed = open.close(&stranger.master, clock::now()).unwrap();
    stranger.publish(closed.item().clone()).await;
    gone_everywhere(&net.nodes, open.id).await;

    stranger.publish(open.item().clone()).await;
    let marker = stranger.offer_on(&network_name());
    stranger.publish(marker.item().clone()).await;
    listed_everywhere(&net.nodes, marker.id).await;
    for node in &net.nodes {
        assert!(!lists(node, open.id), "a replayed old version was listed again");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_values_of_one_sequence_take_the_record_off_the_list() {
    // One grape holds the first value, a second network's grape the other: an honest grape refuses the second.
    let net = Net::start(1, 1).await;
    let mut stranger = Stranger::join(&net).await;
    let offer = stranger.offer_on(&network_name());
    stranger.publish(offer.item().clone()).await;
    listed_everywhere(&net.nodes, offer.id).await;
    let twin = stranger.changed(&offer, |json| json["memo"] = "another story".into());
    stranger.publish(twin).await;
    let marker = stranger.offer_on(&network_name());
    stranger.publish(marker.item().clone()).await;
    listed_everywhere(&net.nodes, marker.id).await;
    // The DHT's rule already keeps the second value out: equal sequences with other bytes are refused with 302.
    let state = &net.nodes[0].exchange().snapshot().state;
    let held = state.find(OfferRef::Id(offer.id)).unwrap();
    assert_eq!(held.item(), offer.item(), "an equal sequence must not overwrite");
    net.stop().await;
}

/// Waits until every node knows that the maker of these contradicts itself.
async fn found_out_everywhere(nodes: &[Node], targets: &[Target]) {
    until("everybody to find it out", || async {
        nodes.iter().all(|node| {
            let state = &node.exchange().snapshot().state;
            targets.iter().all(|target| state.market.is_contradicted(target))
        })
    })
    .await;
    for node in nodes {
        let state = &node.exchange().snapshot().state;
        assert!(state.market.available.is_empty());
        for target in targets {
            let held = state.find(OfferRef::Hash(*target)).unwrap();
            assert_eq!(state.status(held, clock::now()), OfferStatus::Equivocated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_that_changes_sides_while_somebody_decides_sells_and_buys_nothing() {
    let net = Net::start(2, 2).await;
    let mut stranger = Stranger::join(&net).await;
    let bait = stranger.offer_on(&network_name());
    stranger.publish(bait.item().clone()).await;
    listed_everywhere(&net.nodes, bait.id).await;
    let switch = stranger.changed(&bait, |json| {
        json["sequence"] = (bait.sequence + 1).into();
        json["side"] = "buy".into();
        json["btc_quantity"] = "21000000".into();
    });
    stranger.publish(switch).await;
    found_out_everywhere(&net.nodes, &[bait.target()]).await;
    for node in &net.nodes {
        let bid = new_bid(OfferRef::Id(bait.id), Some("100".parse().unwrap()));
        let refused = node.exchange().bid(bid, Duration::ZERO, None).await.unwrap_err();
        let why = CommandError::OfferNotAvailable { offer: bait.id, status: "equivocated" };
        assert_eq!(refused, why);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_records_of_one_id_are_off_every_list_and_a_bid_by_that_id_takes_neither() {
    let net = Net::start(2, 2).await;
    let mut stranger = Stranger::join(&net).await;
    let cheap = stranger.offer_on(&network_name());
    stranger.publish(cheap.item().clone()).await;
    listed_everywhere(&net.nodes, cheap.id).await;
    let key = MasterKey::from_bytes([77; 32]).record_key(cheap.id.0);
    let statement = [&key.public().0[..], cheap.id.0.as_bytes()].concat();
    let network = network_name();
    let proof = Domain { network: &network, kind: "proof" }.sign(&stranger.master.client_key(), &statement);
    let dear = Stranger::changed_by(&key, &cheap, |json| {
        json["proof"] = proof.to_string().into();
        json["btc_quantity"] = "21000000".into();
        json["offer_price"] = "999999".into();
    });
    let targets = [cheap.target(), dear.target()];
    stranger.publish(dear).await;
    found_out_everywhere(&net.nodes, &targets).await;
    for node in &net.nodes {
        let bid = |offer| node.exchange().bid(new_bid(offer, None), Duration::ZERO, None);
        let refused = bid(OfferRef::Id(cheap.id)).await.unwrap_err();
        assert!(matches!(refused, CommandError::Ambiguous { .. }), "{refused}");
        for target in targets {
            let refused = bid(OfferRef::Hash(target)).await.unwrap_err();
            assert!(matches!(refused, CommandError::OfferNotAvailable { .. }), "{refused}");
        }
    }
    net.stop().await;
}

/// A maker with its own key whose RPC answers whatever `answer` says.
async fn lying_maker(
    stranger: &Stranger,
    answer: impl Fn(Signed<Bid>) -> BidAnswer + Send + Sync + 'static,
) -> Serving {
    let key = stranger.master.client_key();
    let client_id = key.public();
    let answer = Arc::new(answer);
    let commands = Commands::default()
        .on("hello", move |request: VerifiedRequest, _| async move {
            let hello: serde_json::Value = serde_json::from_str(request.body()).unwrap();
            let card = serde_json::json!({
                "v": 1, "network": "test", "kind": "node", "client_id": client_id, "addresses": [], "nonce": hello["nonce"],
            });
            Ok(card.to_string())
        })
        .on("offer:bid", move |request: VerifiedRequest, _| {
            let answer = Arc::clone(&answer);
            async move {
                let body: serde_json::Value = serde_json::from_str(request.body()).unwrap();
                let bid: SignedText = serde_json::from_value(body["bid"].clone()).unwrap();
                let bid = Signed::verify(bid, &network_name()).unwrap();
                Ok(serde_json::to_string(&answer(bid)).unwrap())
            }
        });
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = tcp.local_addr().unwrap();
    let config = ServerConfig {
        network: network_name(),
        key,
        clock: Arc::new(clock::now),
        rate: RATE,
        known: Arc::default(),
        limits: LIMITS,
    };
    let serving = server::serve(tcp, config, commands, Workers::start(1).unwrap()).unwrap();
    stranger.dht.announce(client_id.to_string().as_bytes(), address.port()).await.unwrap();
    serving
}

async fn bid_on_a_liar(answer: impl Fn(Signed<Bid>) -> BidAnswer + Send + Sync + 'static) -> BidOutcome {
    let net = Net::start(1, 1).await;
    let mut stranger = Stranger::join(&net).await;
    let _serving = lying_maker(&stranger, answer).await;
    let offer = stranger.offer_on(&network_name());
    stranger.publish(offer.item().clone()).await;
    listed_everywhere(&net.nodes, offer.id).await;
    let outcome = ask(&net.nodes[0], offer.id).await;
    net.stop().await;
    outcome
}

async fn ask(node: &Node, offer: OfferId) -> BidOutcome {
    let wait = Duration::from_secs(3);
    match node.exchange().bid(new_bid(OfferRef::Id(offer), None), wait, None).await.unwrap() {
        Done::Bid { bid, .. } => outcome(node, bid),
        other => panic!("{other:?}"),
    }
}

/// A trade about `bid` in the name of the maker with this seed.
fn trade(seed: u8, bid: Signed<Bid>) -> Trade {
    let key = MasterKey::from_bytes([seed; 32]).client_key();
    let receipt = TradeReceipt::accept(&key, TradeId(uuid::Uuid::from_u128(1)), bid, clock::now());
    (**receipt.trade()).clone()
}

fn signed(seed: u8, trade: Trade) -> SignedText {
    let trade = Trade { maker: MasterKey::from_bytes([seed; 32]).client_key().public(), ..trade };
    Signed::sign(&MasterKey::from_bytes([seed; 32]).client_key(), trade).source().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_of_the_same_kind_of_maker_is_believed() {
    let accepted = bid_on_a_liar(|bid| BidAnswer::Accepted { trade: signed(9, trade(9, bid)) });
    assert!(matches!(accepted.await, BidOutcome::Accepted(_)));
    let refused = bid_on_a_liar(|_| {
        BidAnswer::Refused(Refusal { code: RefusalCode::OfferNotAvailable, detail: "too late".into() })
    });
    assert!(matches!(refused.await, BidOutcome::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refusal_that_is_a_book_three_hundred_bytes_are_kept() {
    let refused = bid_on_a_liar(|_| {
        BidAnswer::Refused(Refusal { code: RefusalCode::Refused, detail: "no ".repeat(10_000) })
    });
    let BidOutcome::Refused(refusal) = refused.await else { panic!("not refused") };
    assert_eq!(refusal.detail, "no ".repeat(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_signed_by_somebody_else_is_no_answer() {
    let outcome = bid_on_a_liar(|bid| BidAnswer::Accepted { trade: signed(8, trade(9, bid)) });
    assert_eq!(outcome.await, BidOutcome::InDoubt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_at_another_price_is_no_answer() {
    let outcome = bid_on_a_liar(|bid| {
        let dearer = Trade { price: "5000".parse().unwrap(), ..trade(9, bid) };
        BidAnswer::Accepted { trade: signed(9, dearer) }
    });
    assert_eq!(outcome.await, BidOutcome::InDoubt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_with_a_broken_signature_is_no_answer() {
    let outcome = bid_on_a_liar(|bid| BidAnswer::Accepted {
        trade: SignedText { sig: Signature([3; 64]), ..signed(9, trade(9, bid)) },
    });
    assert_eq!(outcome.await, BidOutcome::InDoubt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_at_the_makers_place_is_not_believed() {
    let net = Net::start(1, 1).await;
    let mut stranger = Stranger::join(&net).await;
    // Anybody can announce anybody's id; this one answers every request as if it were a stock service, unsigned.
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(|body: String| async move {
        let frame: serde_json::Value = serde_json::from_str(&body).unwrap();
        serde_json::json!([frame[0], null, {"answer": "refused", "code": "offer_not_available", "detail": "sold"}]).to_string()
    });
    tokio::spawn(async move { axum::serve(tcp, app).await });
    let maker = stranger.master.client_key().public();
    stranger.dht.announce(maker.to_string().as_bytes(), port).await.unwrap();
    let offer = stranger.offer_on(&network_name());
    stranger.publish(offer.item().clone()).await;
    listed_everywhere(&net.nodes, offer.id).await;
    assert_eq!(ask(&net.nodes[0], offer.id).await, BidOutcome::InDoubt);
    net.stop().await;
}
