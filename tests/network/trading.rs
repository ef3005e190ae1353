//! The main job: list, find, bid, sell once.

use super::testnet::*;
use std::time::Duration;
use vintner::{
    exchange::{BidOutcome, CommandError, Done, OfferRef, OfferStatus, RefusalCode},
    node::Node,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_listed_everywhere_sold_once_and_gone_everywhere() {
    let net = Net::start(3, 3).await;
    let [maker, other, taker] = &net.nodes[..] else { unreachable!() };
    let offer = create(maker, "100").await;
    listed_everywhere(&net.nodes, offer).await;

    let (bid_id, outcome) = bid(taker, offer, "100").await.unwrap();
    let BidOutcome::Accepted(trade) = outcome else { panic!("{outcome:?}") };
    gone_everywhere(&net.nodes, offer).await;

    let [mine, theirs] = [maker, taker].map(|node| node.exchange().snapshot().state.trades[&trade].clone());
    assert_eq!(mine, theirs, "both sides hold the same trade");
    assert_eq!(
        (mine.trade().maker, mine.trade().taker),
        (maker.exchange().client_id(), taker.exchange().client_id())
    );
    assert_eq!((mine.bid().id, mine.trade().price), (bid_id, "100".parse().unwrap()));
    let late = bid(other, offer, "100").await.unwrap_err();
    assert!(matches!(late, CommandError::OfferNotAvailable { .. }), "{late:?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_simultaneous_bidders_make_exactly_one_trade_two_hundred_times() {
    let net = Net::start(3, 3).await;
    let [maker, left, right] = &net.nodes[..] else { unreachable!() };
    for round in 0..200 {
        let offer = create(maker, "100").await;
        listed_everywhere(&net.nodes, offer).await;
        let (a, b) = tokio::join!(bid(left, offer, "100"), bid(right, offer, "101"));
        let accepted = [&a, &b].iter().filter(|bid| matches!(bid, Ok((_, BidOutcome::Accepted(_))))).count();
        let refused = |bid: &Result<_, CommandError>| match bid {
            Ok((_, BidOutcome::Refused(refusal))) => refusal.code == RefusalCode::OfferNotAvailable,
            Err(CommandError::OfferNotAvailable { .. }) => true,
            _ => false,
        };
        assert_eq!(accepted, 1, "round {round}: {a:?} {b:?}");
        assert!(refused(&a) || refused(&b), "round {round}: {a:?} {b:?}");
    }
    assert_eq!(maker.status().offers.trades, 200);
    assert_eq!(left.status().offers.trades + right.status().offers.trades, 200);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_and_a_bid_at_the_same_instant_have_one_winner() {
    let net = Net::start(1, 2).await;
    let [maker, taker] = &net.nodes[..] else { unreachable!() };
    for _ in 0..50 {
        let offer = create(maker, "100").await;
        listed_everywhere(&net.nodes, offer).await;
        let (withdrawn, bid) =
            tokio::join!(maker.exchange().withdraw(OfferRef::Id(offer), None), bid(taker, offer, "100"));
        let sold = matches!(bid, Ok((_, BidOutcome::Accepted(_))));
        assert_eq!(withdrawn.is_ok(), !sold, "{withdrawn:?} {bid:?}");
        gone_everywhere(&net.nodes, offer).await;
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_below_the_ask_is_refused_by_the_bidders_own_node() {
    let net = Net::start(1, 2).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    let refused = bid(&net.nodes[1], offer, "99.99999999").await.unwrap_err();
    assert!(matches!(refused, CommandError::Price { .. }), "{refused:?}");
    assert!(lists(&net.nodes[0], offer));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_whose_grapes_come_up_late_joins_by_itself() {
    let port = free_port();
    let mut net = Net::start(0, 0).await;
    net.bootstrap = vec![format!("127.0.0.1:{port}")];
    net.add_node().await;
    net.add_node().await;
    let offer = create(&net.nodes[0], "100").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!lists(&net.nodes[1], offer), "nothing connects the two nodes yet");
    net.grapes.push(grape(port, Vec::new()).await);
    listed_everywhere(&net.nodes, offer).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_that_is_down_leaves_the_bid_in_doubt_until_it_is_back() {
    let mut net = Net::start(2, 2).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    let maker_id = net.nodes[0].exchange().client_id();
    net.nodes[0].stop().await;

    let wait = Duration::from_millis(300);
    let taker = net.nodes[1].clone();
    let placed = taker.exchange().bid(new_bid(OfferRef::Id(offer), None), wait, None).await;
    let Ok(Done::Bid { bid, .. }) = placed else { panic!("{placed:?}") };
    assert_eq!(outcome(&taker, bid), BidOutcome::InDoubt);

    // The taker is restarted meanwhile: the bid is still being asked.
    taker.stop().await;
    net.nodes[1] = Node::start(net.config(1)).await.unwrap();
    assert_eq!(outcome(&net.nodes[1], bid), BidOutcome::InDoubt);
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    assert_eq!(net.nodes[0].exchange().client_id(), maker_id);
    let taker = &net.nodes[1];
    until("the bid to be answered", || async { outcome(taker, bid) != BidOutcome::InDoubt }).await;
    let BidOutcome::Accepted(trade) = outcome(taker, bid) else { panic!("{:?}", outcome(taker, bid)) };
    assert!(net.nodes[0].exchange().snapshot().state.trades.contains_key(&trade));
    gone_everywhere(&net.nodes, offer).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_maker_still_owns_announces_and_sells() {
    let mut net = Net::start(2, 3).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let state = net.nodes[0].exchange().snapshot().state.clone();
    assert_eq!(
        state.status(state.find(OfferRef::Id(offer)).unwrap(), net.nodes[0].exchange().now()),
        OfferStatus::Open
    );
    let (_, outcome) = bid(&net.nodes[2], offer, "100").await.unwrap();
    assert!(matches!(outcome, BidOutcome::Accepted(_)), "{outcome:?}");
    gone_everywhere(&net.nodes, offer).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_later_learns_what_was_offered_before() {
    let mut net = Net::start(2, 1).await;
    let offer = create(&net.nodes[0], "100").await;
    let maker = net.nodes[0].clone();
    until("the offer to be published", || async { maker.status().outbox.unpublished == 0 }).await;
    // Told by its renewal, which comes once a minute; a restart of the maker announces at once.
    net.add_node().await;
    net.joined().await;
    net.nodes[0].stop().await;
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    listed_everywhere(&net.nodes, offer).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_old_store_notices_that_the_network_knows_better() {
    let mut net = Net::start(2, 2).await;
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    let backup = net.dir(0).with_file_name("backup");
    copy(&net.dir(0), &backup);
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    net.joined().await;
    let (_, outcome) = bid(&net.nodes[1], offer, "100").await.unwrap();
    assert!(matches!(outcome, BidOutcome::Accepted(_)), "{outcome:?}");
    until("the sale to be published", || async { net.nodes[0].status().outbox.unpublished == 0 }).await;
    net.nodes[0].stop().await;

    // The old copy believes that the offer is open; the DHT holds the newer, closed version.
    std::fs::remove_dir_all(net.dir(0)).unwrap();
    copy(&backup, &net.dir(0));
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let restored = net.nodes[0].clone();
    until("the node to notice", || async { restored.status().store_behind }).await;
    let refused = restored.exchange().create(new_offer("1", restored.exchange().now()), None).await;
    assert_eq!(refused, Err(CommandError::StoreBehind));
    let recovered = restored.recover().await.unwrap();
    let [(id, Some(sold))] = &recovered.offers[..] else { panic!("{recovered:?}") };
    assert_eq!((*id, sold.trade().taker), (offer, net.nodes[1].exchange().client_id()));
    assert_eq!((recovered.trades.len(), recovered.told, recovered.not_reached.len()), (1, 1, 0));
    assert!(!restored.status().store_behind && !lists(&restored, offer));
    create(&restored, "100").await;
    net.stop().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
