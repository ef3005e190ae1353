//! `vintner bids`: list, show, give up.

use super::{
    Exit,
    client::{Client, id},
    instant::Instant,
    output::{self, Column, facts, left, right, short, table},
    pages::{List, PageArgs, as_flags, more},
};
use crate::http::types::{BidStatus, BidView, Role, Side};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Clone, Debug, Args)]
pub(crate) struct BidsCommand {
    #[command(subcommand)]
    command: BidsSub,
}

#[derive(Clone, Debug, Subcommand)]
enum BidsSub {
    List(ListArgs),
    /// Show a bid and what became of it
    ///
    /// Exit codes: 0 accepted, 1 refused, 3 in doubt or given up.
    Show {
        /// The bid's id
        #[arg(value_parser = id)]
        bid: String,
    },
    /// No longer wait for the answer to a bid whose maker never comes back
    ///
    /// Possible when the bid's deadline is over and the offer's record is dead; `bids show` says from when. It withdraws nothing: had
    /// the maker sold, the trade stands, and is recorded whenever it comes. Exit codes: 0 given up, 1 refused.
    GiveUp {
        /// The bid's id
        #[arg(value_parser = id)]
        bid: String,
    },
}

/// List bids: those in doubt first, then those given up, accepted, refused; of each the newest first
#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Bids that came to this node, instead of its own
    #[arg(long)]
    received: bool,
    /// Only those that stand so
    #[arg(long)]
    state: Option<StateArg>,
    /// Only those on this offer, by its id
    #[arg(long, value_name = "ID", value_parser = id)]
    offer: Option<String>,
    /// Only those on offers of this client id
    #[arg(long, value_name = "CLIENT_ID", value_parser = id)]
    maker: Option<String>,
    /// Only those of this client id
    #[arg(long, value_name = "CLIENT_ID", value_parser = id)]
    bidder: Option<String>,
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
#[value(rename_all = "snake_case")]
enum StateArg {
    #[value(alias = "in-doubt")]
    InDoubt,
    #[value(alias = "given-up")]
    GivenUp,
    Accepted,
    Refused,
}

impl StateArg {
    fn as_str(self) -> &'static str {
        match self {
            Self::InDoubt => "in_doubt",
            Self::GivenUp => "given_up",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

pub(crate) async fn run(command: BidsCommand, client: &Client) -> Result<Exit> {
    match command.command {
        BidsSub::List(args) => list(&args, client).await,
        BidsSub::Show { bid } => {
            let bid: BidView = client.get(&format!("/api/v1/bids/{bid}"), &[]).await?;
            print_bid(&bid, client.json)?;
            Ok(match bid.status {
                BidStatus::Accepted => Exit::Done,
                BidStatus::Refused => Exit::Failed,
                BidStatus::InDoubt | BidStatus::GivenUp => Exit::InDoubt,
            })
        }
        BidsSub::GiveUp { bid } => {
            let bid: BidView = client.post_plain(&format!("/api/v1/bids/{bid}/give-up")).await?;
            print_bid(&bid, client.json)?;
            Ok(Exit::Done)
        }
    }
}

impl ListArgs {
    /// As the API is asked, and as a shell is.
    fn asked(&self) -> (Vec<(&'static str, String)>, String) {
        let given = [
            ("state", self.state.map(|state| state.as_str().to_owned())),
            ("offer", self.offer.clone()),
            ("maker", self.maker.clone()),
            ("bidder", self.bidder.clone()),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut query: Vec<_> = given.collect();
        let mut flags: String = as_flags(&query);
        if self.received {
            query.push(("role", "maker".into()));
            flags.insert_str(0, " --received");
        }
        (query, flags)
    }
}

async fn list(args: &ListArgs, client: &Client) -> Result<Exit> {
    let (query, flags) = args.asked();
    let page = List { path: "/api/v1/bids", query }.get::<BidView>(client, &args.page).await?;
    if client.json {
        output::print_json(&page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        output::print(
            &client.reach.repeat("no such bids; `vintner offers list` shows what can be bid on\n"),
        )?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    output::print(&table(&COLUMNS, &rows))?;
    let given_up = |bid: &&BidView| bid.give_up_from.is_some();
    if page.items.iter().any(|bid| given_up(&bid)) {
        let command = client.reach.command("vintner bids give-up ID");
        output::print(&format!(
            "a bid whose maker never comes back can be given up from then on: `{command}`\n"
        ))?;
    }
    output::print(&more(client, "vintner bids list", &flags, &args.page, &page))?;
    Ok(Exit::Done)
}

const COLUMNS: [Column; 8] = [
    left("ID"),
    left("STATUS"),
    left("WITH"),
    right("BTC"),
    right("PRICE"),
    left("IN"),
    left("MADE"),
    left("GIVE UP FROM"),
];

/// A bid on one line.
fn row(bid: &BidView) -> Vec<String> {
    let (sells, mine) = (bid.terms.side == Side::Sell, bid.mine);
    let with = match (mine, sells) {
        (true, true) => format!("you buy from {}", short(&bid.maker)),
        (true, false) => format!("you sell to {}", short(&bid.maker)),
        (false, true) => format!("you sell to {}", short(&bid.bidder)),
        (false, false) => format!("you buy from {}", short(&bid.bidder)),
    };
    vec![
        bid.id.to_string(),
        bid.status.as_str().into(),
        with,
        bid.terms.btc_quantity.to_string(),
        bid.price.to_string(),
        bid.terms.currency.to_string(),
        bid.created_at.to_string(),
        bid.give_up_from.map_or_else(String::new, |at| at.to_string()),
    ]
}

/// Prints one bid.
pub(crate) fn print_bid(bid: &BidView, json: bool) -> Result<()> {
    if json {
        return output::print_json(bid);
    }
    let refusal = bid.refusal.as_ref().map(|refusal| format!("{}: {}", refusal.code, refusal.detail));
    let role = if bid.mine { Role::Taker } else { Role::Maker };
    output::print(&facts(&[
        ("bid", Some(bid.id.to_string())),
        ("status", Some(bid.status.as_str().into())),
        ("offer", Some(bid.offer_id.to_string())),
        ("quantity", Some(format!("{} BTC", bid.terms.btc_quantity))),
        ("price", Some(format!("{} {}", bid.price, bid.terms.currency))),
        ("maker", (role == Role::Taker).then(|| bid.maker.to_string())),
        ("bidder", (role == Role::Maker).then(|| bid.bidder.to_string())),
        ("firm until", Some(bid.valid_until.to_string())),
        ("received", bid.received_at.map(|at| at.to_string())),
        ("give up from", bid.give_up_from.map(|at| at.to_string())),
        ("given up", bid.given_up_at.map(|at| at.to_string())),
        ("trade", bid.trade_id.map(|id| id.to_string())),
        ("refused", refusal),
    ]))
}
