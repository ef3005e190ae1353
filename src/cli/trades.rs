//! `vintner trades`: list, show.

use super::{
    Exit,
    client::{Client, id},
    offers::side,
    output::{self, facts, table},
};
use crate::http::types::{Page, Role, TradeView};
use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub(crate) struct TradesCommand {
    #[command(subcommand)]
    command: TradesSub,
}

#[derive(Clone, Debug, Subcommand)]
enum TradesSub {
    /// List trades, newest first
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Where the page before said to go on
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Show a trade; with --json with both signatures
    Show {
        /// The trade's id
        #[arg(value_parser = id)]
        trade: String,
    },
}

pub(crate) async fn run(command: TradesCommand, client: &Client) -> Result<Exit> {
    match command.command {
        TradesSub::List { limit, cursor } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<TradeView> = client.get("/api/v1/trades", &query).await?;
            list(&page, client.json)
        }
        TradesSub::Show { trade } => {
            let trade: TradeView = client.get(&format!("/api/v1/trades/{trade}"), &[]).await?;
            show(&trade, client.json)
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Maker => "maker",
        Role::Taker => "taker",
    }
}

fn list(page: &Page<TradeView>, json: bool) -> Result<Exit> {
    if json {
        output::print_json(page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        output::print("no trades; `vintner offers list` shows what can be bid on\n")?;
        return Ok(Exit::Done);
    }
    let row = |trade: &TradeView| {
        vec![
            trade.id.to_string(),
            role(trade.role).into(),
            side(trade.terms.side).into(),
            trade.terms.btc_quantity.to_string(),
            trade.price.to_string(),
            trade.terms.currency.to_string(),
            trade.executed_at.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    output::print(&table(&["ID", "AS", "MAKER DOES", "BTC", "PRICE", "IN", "AT"], &rows))?;
    if let Some(cursor) = &page.next_cursor {
        output::print(&format!("more: --cursor {cursor}\n"))?;
    }
    Ok(Exit::Done)
}

fn show(trade: &TradeView, json: bool) -> Result<Exit> {
    if json {
        output::print_json(trade)?;
        return Ok(Exit::Done);
    }
    output::print(&facts(&[
        ("trade", Some(trade.id.to_string())),
        ("as", Some(role(trade.role).into())),
        ("offer", Some(trade.offer_id.to_string())),
        ("hash", Some(trade.offer_hash.to_string())),
        ("bid", Some(trade.bid_id.to_string())),
        ("maker", Some(format!("{} ({}s)", trade.maker, side(trade.terms.side)))),
        ("taker", Some(trade.taker.to_string())),
        ("quantity", Some(format!("{} BTC", trade.terms.btc_quantity))),
        ("price", Some(format!("{} {}", trade.price, trade.terms.currency))),
        ("at", Some(trade.executed_at.to_string())),
    ]))?;
    Ok(Exit::Done)
}
