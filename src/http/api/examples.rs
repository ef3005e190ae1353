//! What the answers of the API look like: one sale, told by each kind of answer. The description shows them with the schemas, so
//! that nobody reads `"string"` where a hash stands.

use crate::standing;
use serde_json::{Value, json};

const OFFER: &str = "01a1fc28-3e5f-7000-80fe-3be73643e1da";
const HASH: &str = "c7bfaa9e790edae0a25f33c5a9808ea0add419cb";
const MAKER: &str = "8d9de9489b35f40a86bf51addabb0376f642b2d9ccc1780f4ea8ec78f243228c";
const TAKER: &str = "15be3c20f1d3a0a25f7e12f1cb3af3f0c3f6ea02cd8ad33b3c2ad8dc2e1fa0a4";
const BID: &str = "01a1fc28-3fab-7f41-8a6a-d97467cb1156";
const TRADE: &str = "01a1fc28-3fac-7487-b17f-a0cb64a1911c";
/// Of the right form; it signs nothing.
const SIGNATURE: &str =
    "hkwRCkSEYN7G9W3byvBzalmpk2NhmS0IPf_xsJIAQckzgpNUv3FmC7MAOqgzyWF_SyA7Drc3rp9TevUVAm-yAQ";

/// How such a text begins: the whole of it would fill the page.
fn signed_text(id: &str) -> String {
    format!("{{\"network\":\"devnet\",\"id\":\"{id}\", and so on")
}

/// By the name of the schema.
pub(super) fn all() -> [(&'static str, Value); 6] {
    [
        ("OfferView", offer()),
        ("BidView", bid()),
        ("TradeView", trade()),
        ("NodeView", node()),
        (
            "RecoveredView",
            json!({
                "recovered": 0, "offers": [], "trades": [], "trades_recovered": 0, "trades_contradicting": 0,
                "nodes_asked": 2, "nodes_not_reached": []
            }),
        ),
        ("ProblemView", problem()),
    ]
}

fn offer() -> Value {
    json!({
        "id": OFFER,
        "hash": HASH,
        "client_id": MAKER,
        "mine": true,
        "side": "sell",
        "btc_quantity": "0.5",
        "offer_price": "64000",
        "currency": "USD",
        "sequence": 1_795_231_858_271_u64,
        "availability": true,
        "status": "open",
        "stale": false,
        "created_at": "2026-11-21T03:30:58.271Z",
        "expires_at": "2026-11-22T03:30:58.271Z",
        "dies_at": "2026-11-23T03:30:58.271Z",
        "acceptance": "first",
        "published": {
            "state": "published",
            "sequence": 1_795_231_858_271_u64,
            "stored_on": 5,
            "announced_to": 5,
            "at": "2026-11-21T03:30:58.283Z",
        },
    })
}

fn bid() -> Value {
    json!({
        "id": BID,
        "mine": true,
        "offer_id": OFFER,
        "offer_hash": HASH,
        "maker": MAKER,
        "bidder": TAKER,
        "price": "64000",
        "terms": { "side": "sell", "btc_quantity": "0.5", "offer_price": "64000", "currency": "USD" },
        "created_at": "2026-11-21T03:30:58.603Z",
        "valid_until": "2026-11-21T03:35:58.603Z",
        "status": "accepted",
        "trade_id": TRADE,
        "trade": trade(),
    })
}

fn trade() -> Value {
    json!({
        "id": TRADE,
        "role": "taker",
        "you": "bought",
        "counterparty": MAKER,
        "network": "devnet",
        "maker": MAKER,
        "taker": TAKER,
        "offer_id": OFFER,
        "offer_hash": HASH,
        "bid_id": BID,
        "side": "sell",
        "btc_quantity": "0.5",
        "offer_price": "64000",
        "currency": "USD",
        "price": "64000",
        "executed_at": "2026-11-21T03:30:58.604Z",
        "signatures": {
            "trade": { "text": signed_text(TRADE), "sig": SIGNATURE },
            "bid": { "text": signed_text(BID), "sig": SIGNATURE },
        },
    })
}

fn node() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "client_id": MAKER,
        "network": "devnet",
        "ready": true,
        "reasons": [{
            "code": "few_neighbours",
            "level": "warn",
            "since": "2026-11-21T03:32:11.480Z",
            "meaning": standing::Code::FewNeighbours.meaning(),
            "advice": standing::Code::FewNeighbours.advice(),
            "detail": "1 of the 2 nodes that are looked for pass records on",
        }],
        "started_at": "2026-11-21T03:30:41.105Z",
        "rpc": "127.0.0.1:1337",
        "advertised": ["127.0.0.1:1337"],
        "dht": {
            "node_id": "f3147da37eff47a48a2b870c5f7958c91579bea8",
            "address": "127.0.0.1:20011",
            "nodes": 5,
            "items": 4,
            "peers": 2,
        },
        "peers": [{ "client_id": TAKER, "address": "127.0.0.1:1339", "seen_at": "2026-11-21T03:30:58.600Z" }],
        "replication": {
            "synced": true,
            "behind": 0,
            "makers": 1,
            "stale": 0,
            "neighbours": [TAKER],
            "records": 1,
        },
        "offers": { "listed": 1, "records": 1, "own": 1, "trades": 0 },
        "store": { "path": "/home/you/vintner", "bytes": 61_440, "schema_version": 1, "behind": false },
        "outbox": { "bids_in_doubt": 0, "unpublished": 0 },
        "heard": { "announcements": 3, "dropped": 0, "refused": 0 },
    })
}

fn problem() -> Value {
    json!({
        "type": "urn:vintner:problem:validation_failed",
        "title": "Some fields are not valid",
        "status": 422,
        "detail": "/btc_quantity is missing",
        "code": "validation_failed",
        "retryable": false,
        "errors": [{ "pointer": "/btc_quantity", "detail": "is missing" }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::types::{BidView, NodeView, OfferView, ProblemView, RecoveredView, TradeView};
    use serde::{Serialize, de::DeserializeOwned};

    /// What is left of an example once it was read as an answer of its kind.
    fn again<T: Serialize + DeserializeOwned>(example: &Value) -> Value {
        serde_json::to_value(T::deserialize(example).unwrap()).unwrap()
    }

    #[test]
    fn every_example_is_an_answer_of_its_kind_to_the_last_field() {
        for (name, example) in all() {
            let read = match name {
                "OfferView" => again::<OfferView>(&example),
                "BidView" => again::<BidView>(&example),
                "TradeView" => again::<TradeView>(&example),
                "NodeView" => again::<NodeView>(&example),
                "RecoveredView" => again::<RecoveredView>(&example),
                "ProblemView" => again::<ProblemView>(&example),
                other => panic!("{other} is not read here"),
            };
            assert_eq!(read, example, "{name}");
        }
    }
}
