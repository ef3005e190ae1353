//! `vintner trades`: list, show.

use super::{
    Exit,
    client::{Client, id},
    instant::Instant,
    offers::{SideArg, side},
    output::{self, Column, facts, left, right, short, table},
    pages::{List, PageArgs, as_flags, more},
};
use crate::{
    http::types::{Did, Role, TradeView},
    market::Currency,
};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Clone, Debug, Args)]
pub(crate) struct TradesCommand {
    #[command(subcommand)]
    command: TradesSub,
}

#[derive(Clone, Debug, Subcommand)]
enum TradesSub {
    List(ListArgs),
    /// Show a trade; with --json with both signatures
    Show {
        /// The trade's id
        #[arg(value_parser = id)]
        trade: String,
    },
}

/// List trades, newest first
#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Only those in which this node made the offer, or the bid
    #[arg(long)]
    role: Option<RoleArg>,
    /// Only those in which the maker did this
    #[arg(long)]
    side: Option<SideArg>,
    /// Only those in this currency
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    /// Nothing before this: a time (RFC 3339), or how long ago, such as 90s, 24h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Instant>,
    /// Nothing from this time on, given like --since
    #[arg(long, value_name = "TIME")]
    until: Option<Instant>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    Maker,
    Taker,
}

pub(crate) async fn run(command: TradesCommand, client: &Client) -> Result<Exit> {
    match command.command {
        TradesSub::List(args) => list(&args, client).await,
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

impl ListArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let role = |arg| if arg == RoleArg::Maker { Role::Maker } else { Role::Taker };
        let given = [
            ("role", self.role.map(|arg| self::role(role(arg)).to_owned())),
            ("side", self.side.map(|side| side.as_str().to_owned())),
            ("currency", self.currency.map(|currency| currency.to_string())),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

async fn list(args: &ListArgs, client: &Client) -> Result<Exit> {
    let query = args.query();
    let flags: String = as_flags(&query);
    let page = List { path: "/api/v1/trades", query }.get::<TradeView>(client, &args.page).await?;
    if client.json {
        output::print_json(&page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        output::print(
            &client.reach.repeat("no such trades; `vintner offers list` shows what can be bid on\n"),
        )?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    output::print(&table(&COLUMNS, &rows))?;
    output::print(&more(client, "vintner trades list", &flags, &args.page, &page))?;
    Ok(Exit::Done)
}

const COLUMNS: [Column; 7] =
    [left("ID"), left("WITH"), right("BTC"), right("PRICE"), left("IN"), left("AT"), left("AS")];

/// What this node did, and with whom.
fn with(trade: &TradeView, other: &str) -> String {
    match trade.you {
        Did::Sold => format!("you sold to {other}"),
        Did::Bought => format!("you bought from {other}"),
    }
}

/// A trade on one line.
fn row(trade: &TradeView) -> Vec<String> {
    vec![
        trade.id.to_string(),
        with(trade, &short(&trade.counterparty)),
        trade.terms.btc_quantity.to_string(),
        trade.price.to_string(),
        trade.terms.currency.to_string(),
        trade.executed_at.to_string(),
        role(trade.role).into(),
    ]
}

fn show(trade: &TradeView, json: bool) -> Result<Exit> {
    if json {
        output::print_json(trade)?;
        return Ok(Exit::Done);
    }
    output::print(&facts(&[
        ("trade", Some(trade.id.to_string())),
        ("what", Some(with(trade, &trade.counterparty.to_string()))),
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
