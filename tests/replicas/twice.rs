//! The data directory of an earlier day, and bids that come before the network has said so.

use crate::testnet::{Net, bid, create, gone_everywhere, listed_everywhere, network_name, until};
use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, time::Duration};
use vintner::{
    exchange::{BidOutcome, OfferRef},
    grenache::{
        address::AddressPolicy,
        client::{Client, ClientConfig},
    },
    identity::{ClientId, MasterKey, Signed},
    market::{Bid, BidId, OfferId},
    node::{Node, clock},
    workers::Workers,
};

/// A data directory as it was before a sale: the maker learns of the sale before it decides on a bid.
#[tokio::test(flavor = "multi_thread")]
async fn a_maker_with_the_store_of_an_earlier_day_sells_nothing_twice() {
    let mut net = Net::start(1, 3).await;
    for node in &net.nodes {
        until("neighbours", || async { !node.replica().status.neighbours.is_empty() }).await;
    }
    let offer = create(&net.nodes[0], "100").await;
    listed_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    let (dir, backup) = (net.dir(0), net.dir(0).with_extension("backup"));
    copy(&dir, &backup);
    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let (_, sold) = bid(&net.nodes[1], offer, "100").await.unwrap();
    assert!(matches!(sold, BidOutcome::Accepted(_)), "{sold:?}");
    gone_everywhere(&net.nodes, offer).await;
    net.nodes[0].stop().await;
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&backup, &dir).unwrap();

    net.nodes[0] = Node::start(net.config(0)).await.unwrap();
    let maker = net.nodes[0].status();
    // By hand, as a stranger's node would that has not heard of the sale.
    let mut refused = BTreeSet::new();
    for n in 0..200 {
        let code = ask_by_hand(maker.client_id, maker.rpc, &net.nodes[0], offer, n).await;
        assert!(["starting", "store_behind"].contains(&&*code), "{code}");
        if refused.insert(code) && net.nodes[0].status().store_behind {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused.contains("starting"), "{refused:?}");
    until("the maker to know it", || async { net.nodes[0].status().store_behind }).await;
    net.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Bids on an offer as it was, and gives the code of what the maker says instead of deciding.
async fn ask_by_hand(maker: ClientId, rpc: SocketAddr, node: &Node, offer: OfferId, n: u8) -> String {
    let state = node.exchange().snapshot();
    let record = state.state.find(OfferRef::Id(offer)).unwrap();
    let key = MasterKey::from_bytes([200; 32]).client_key();
    let now = clock::now();
    let bid = Bid {
        network: network_name(),
        id: BidId(uuid::Uuid::from_u128(u128::from(n) + 1)),
        bidder: key.public(),
        maker,
        offer_id: offer,
        offer_hash: record.target(),
        terms: record.terms,
        price: record.terms.offer_price,
        created_at: now,
        valid_until: now.plus(Duration::from_mins(5)),
    };
    let bid = Signed::sign(&key, bid);
    let body = serde_json::to_string(&serde_json::json!({ "bid": bid.source() })).unwrap();
    let policy = AddressPolicy { allow_private: true };
    let config = ClientConfig { network: network_name(), policy, timeout: Duration::from_secs(10) };
    let client = Client::new(config, Workers::start(1).unwrap()).unwrap();
    let reply = client.call_signed(rpc, &key, maker, "offer:bid", &body, clock::now).await.unwrap();
    reply.outcome.expect_err("the maker decides nothing").code
}
