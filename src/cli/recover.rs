//! `vintner recover`.

use super::{Exit, client::Client, output};
use crate::http::types::{RecoveredView, Role, Side, TradeView};
use anyhow::Result;
use clap::Args;
use std::fmt::Write;

/// No arguments beside where the node is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RecoverArgs {}

pub(crate) async fn run(client: &Client) -> Result<Exit> {
    let done: RecoveredView = client.post_plain("/api/v1/node/recover").await?;
    if client.json {
        output::print_json(&done)?;
    } else {
        output::print(&client.reach.repeat(&told(&done)))?;
    }
    Ok(Exit::Done)
}

/// What became of each offer, then the trades that none of these offers explains, then who could not be asked.
fn told(done: &RecoveredView) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    for offer in &done.offers {
        let id = offer.offer_id;
        let trade = done.trades.iter().find(|trade| Some(trade.id) == offer.trade_id);
        line(match (trade, offer.trade_id) {
            (Some(trade), _) => format!("offer {id}: {}", deal(trade)),
            (None, Some(trade)) => format!("offer {id}: sold, trade {trade}"),
            (None, None) => format!("offer {id}: closed; what became of it nobody told"),
        });
    }
    let explained = |trade: &&TradeView| done.offers.iter().any(|offer| offer.trade_id == Some(trade.id));
    for trade in done.trades.iter().filter(|trade| !explained(trade)) {
        line(format!("offer {}: {}", trade.offer_id, deal(trade)));
    }
    if done.trades_recovered > done.trades.len() {
        line(format!("and {} trades more: `vintner trades list`", done.trades_recovered - done.trades.len()));
    }
    if done.recovered == 0 && done.trades_recovered == 0 {
        line(format!(
            "nothing to recover: {} other nodes know nothing that this node does not",
            done.nodes_asked
        ));
    } else {
        line(format!("{} offers were taken over from the network, all closed", done.recovered));
        line(format!(
            "{} trades were taken over from {} other nodes",
            done.trades_recovered, done.nodes_asked
        ));
    }
    if done.trades_contradicting > 0 {
        line(format!(
            "{} trades that others show contradict what this node holds and were left: see the node's log",
            done.trades_contradicting
        ));
    }
    if !done.nodes_not_reached.is_empty() {
        line(format!(
            "{} known nodes could not be asked; repeat this when they are back:",
            done.nodes_not_reached.len()
        ));
        done.nodes_not_reached.iter().for_each(|node| line(format!("  {node}")));
    }
    text
}

/// A trade from this node's side.
fn deal(trade: &TradeView) -> String {
    let is_maker = trade.role == Role::Maker;
    let sells = (trade.terms.side == Side::Sell) == is_maker;
    let (verb, other) =
        (if sells { "sold to" } else { "bought from" }, if is_maker { trade.taker } else { trade.maker });
    let (quantity, price, currency) = (trade.terms.btc_quantity, trade.price, trade.terms.currency);
    format!("{verb} {other}: {quantity} BTC for {price} {currency} each, trade {}", trade.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_became_of_each_offer_is_told_on_a_line() {
        let (maker, taker) = ("11".repeat(32), "22".repeat(32));
        let [offer, other, bid, trade] =
            [1, 2, 3, 4].map(|n| format!("01a1fc28-3e5f-7000-80fe-00000000000{n}"));
        let signed = json!({"text": "{}", "sig": "A".repeat(86)});
        let done = json!({
            "recovered": 2,
            "offers": [
                {"offer_id": offer, "status": "sold", "trade_id": trade},
                {"offer_id": other, "status": "closed"},
            ],
            "trades": [{
                "id": trade, "role": "maker", "you": "sold", "counterparty": taker, "network": "test", "maker": maker, "taker": taker,
                "offer_id": offer, "offer_hash": "ab".repeat(20), "bid_id": bid, "side": "sell",
                "btc_quantity": "0.5", "offer_price": "100", "currency": "USD", "price": "101",
                "executed_at": "2026-11-21T03:30:58.271Z", "signatures": {"trade": signed, "bid": signed},
            }],
            "trades_recovered": 1, "trades_contradicting": 0, "nodes_asked": 3, "nodes_not_reached": [taker],
        });
        let done: RecoveredView = serde_json::from_value(done).unwrap();
        let lines = told(&done);
        let expected = format!("offer {offer}: sold to {taker}: 0.5 BTC for 101 USD each, trade {trade}\n");
        assert!(lines.starts_with(&expected), "{lines}");
        assert!(lines.contains(&format!("offer {other}: closed")), "{lines}");
        assert!(
            lines.contains("1 known nodes could not be asked") && lines.contains(&format!("  {taker}\n"))
        );
    }
}
