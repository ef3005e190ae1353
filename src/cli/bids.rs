//! `vintner bids`: show.

use super::{
    Exit,
    client::{Client, id},
    output::{self, facts},
};
use crate::http::types::{BidStatus, BidView};
use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub(crate) struct BidsCommand {
    #[command(subcommand)]
    command: BidsSub,
}

#[derive(Clone, Debug, Subcommand)]
enum BidsSub {
    /// Show a bid and what became of it
    ///
    /// Exit codes: 0 accepted, 1 refused, 3 in doubt.
    Show {
        /// The bid's id
        #[arg(value_parser = id)]
        bid: String,
    },
}

pub(crate) async fn run(command: BidsCommand, client: &Client) -> Result<Exit> {
    let BidsSub::Show { bid } = command.command;
    let bid: BidView = client.get(&format!("/api/v1/bids/{bid}"), &[]).await?;
    print_bid(&bid, client.json)?;
    Ok(match bid.status {
        BidStatus::Accepted => Exit::Done,
        BidStatus::Refused => Exit::Failed,
        BidStatus::InDoubt => Exit::InDoubt,
    })
}

/// Prints one bid.
pub(crate) fn print_bid(bid: &BidView, json: bool) -> Result<()> {
    if json {
        return output::print_json(bid);
    }
    let refusal = bid.refusal.as_ref().map(|refusal| format!("{}: {}", refusal.code, refusal.detail));
    output::print(&facts(&[
        ("bid", Some(bid.id.to_string())),
        ("status", Some(bid.status.as_str().into())),
        ("offer", Some(bid.offer_id.to_string())),
        ("quantity", Some(format!("{} BTC", bid.terms.btc_quantity))),
        ("price", Some(format!("{} {}", bid.price, bid.terms.currency))),
        ("firm until", Some(bid.valid_until.to_string())),
        ("trade", bid.trade_id.map(|id| id.to_string())),
        ("refused", refusal),
    ]))
}
