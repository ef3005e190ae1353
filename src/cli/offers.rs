//! `vintner offers`: create, list (`watch` keeps it up to date), show, withdraw, bid.

use super::{
    Exit,
    advice::Told,
    bids::print_bid,
    client::{Client, duration, id},
    currencies,
    exit::WrongUsage,
    output::{self, Column, facts, left, right, short, table},
    pages::{List, PAGE_MAX, PageArgs, more},
    reach::quoted,
    signals::Stop,
    watch,
};
use crate::{
    amount::{Price, Quantity},
    http::types::{BidStatus, BidView, OfferStatus, OfferView, Page, PublishedState, Side},
    market::Currency,
    node::clock,
    time::UnixMillis,
};
use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use std::{
    io::{BufRead, IsTerminal, stderr, stdin},
    time::Duration,
};

#[derive(Clone, Debug, Args)]
pub(crate) struct OffersCommand {
    #[command(subcommand)]
    command: OffersSub,
}

#[derive(Clone, Debug, Subcommand)]
enum OffersSub {
    Create(CreateArgs),
    List(ListArgs),
    /// Show an offer
    Show {
        /// Its id or its DHT hash
        #[arg(value_parser = id)]
        offer: String,
    },
    /// Take an own offer off the market
    Withdraw {
        /// Its id or its DHT hash
        #[arg(value_parser = id)]
        offer: String,
        /// Only while it still has this sequence
        #[arg(long, value_name = "SEQUENCE")]
        if_sequence: Option<u64>,
    },
    Bid(BidArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideArg {
    Sell,
    Buy,
}

impl SideArg {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sell => "sell",
            Self::Buy => "buy",
        }
    }
}

/// List a new offer
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: vintner offers create --quantity 0.5 --price 64000\n\n\
    A currency code that is one slip away from a known one (UDS) is asked about on a terminal. Elsewhere it is refused, with exit \
    code 2, unless --yes is given.")]
struct CreateArgs {
    /// How much bitcoin
    #[arg(long, visible_alias = "btc-quantity", value_name = "BTC")]
    quantity: Quantity,
    /// The price for one bitcoin
    #[arg(long, visible_alias = "offer-price", value_name = "PRICE")]
    price: Price,
    /// What you do
    #[arg(long, default_value = "sell")]
    side: SideArg,
    /// What is paid with
    #[arg(long, value_name = "CODE", default_value_t = Currency::USD)]
    currency: Currency,
    /// A word to the takers, public
    #[arg(long, value_name = "TEXT")]
    memo: Option<String>,
    /// Do not ask about a currency that looks mistyped
    #[arg(long)]
    yes: bool,
    /// How long it can be taken, such as 90s, 5m, 24h or 7d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<Duration>,
    /// A name for this request: repeated with it, it is carried out once only [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// List offers that can be taken, newest first
#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Only this node's own
    #[arg(long)]
    mine: bool,
    /// Also those that cannot be taken
    #[arg(long)]
    all: bool,
    /// Also those of makers that have been silent for minutes; nobody may answer a bid on them
    #[arg(long)]
    stale: bool,
    /// Only where the maker does this
    #[arg(long)]
    side: Option<SideArg>,
    /// Only in this currency
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    /// Lowest price
    #[arg(long, value_name = "PRICE")]
    min_price: Option<Price>,
    /// Highest price
    #[arg(long, value_name = "PRICE")]
    max_price: Option<Price>,
    /// Lowest quantity
    #[arg(long, value_name = "BTC")]
    min_quantity: Option<Quantity>,
    /// Highest quantity
    #[arg(long, value_name = "BTC")]
    max_quantity: Option<Quantity>,
    /// Only this maker's
    #[arg(long, value_name = "CLIENT_ID", value_parser = id)]
    maker: Option<String>,
    /// None of these makers'
    #[arg(long, value_name = "CLIENT_ID,...", value_parser = id, value_delimiter = ',')]
    exclude: Vec<String>,
    /// By price instead of by age: the lowest first; -price: the highest. Needs --currency
    #[arg(long, requires = "currency", allow_hyphen_values = true)]
    sort: Option<SortArg>,
    #[command(flatten)]
    page: PageArgs,
    /// Keep the list up to date; when not on a terminal, or with --json, one line a change
    #[arg(long, conflicts_with = "cursor")]
    watch: bool,
    /// How often --watch asks the node, from 1s to 1h
    #[arg(long, value_name = "DURATION", value_parser = watch::interval, default_value = "2s", requires = "watch")]
    interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortArg {
    #[value(name = "price")]
    Price,
    #[value(name = "-price")]
    PriceDown,
}

/// Bid on an offer; without --price at the offer's own
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "A bid is for what the offer is when the node signs it. Say what you saw, by --if-sequence, or by --side, --quantity, --price \
    and --currency: if the offer is another by then, the bid is refused. One that names neither a sequence nor side and quantity \
    is refused for 10 s after a change.\n\n\
    Exit codes: 0 sold to you, 1 refused, 3 in doubt (the maker has not answered; the node goes on asking)."
)]
struct BidArgs {
    /// The offer's id or DHT hash
    #[arg(value_parser = id)]
    offer: String,
    /// The price for one bitcoin
    #[arg(long, value_name = "PRICE")]
    price: Option<Price>,
    /// Only while the offer still has this sequence, which `offers show` prints
    #[arg(long, value_name = "SEQUENCE")]
    if_sequence: Option<u64>,
    /// Only if the maker does this
    #[arg(long)]
    side: Option<SideArg>,
    /// Only if the offer is for this much bitcoin
    #[arg(long, visible_alias = "btc-quantity", value_name = "BTC")]
    quantity: Option<Quantity>,
    /// Only if it is paid with this
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    /// How long the bid is firm, such as 90s, 5m or 24h [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    valid_for: Option<Duration>,
    /// How long to wait for the maker's answer, at most 30s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// A name for this request: repeated with it, it is carried out once only [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(command: OffersCommand, client: &Client, stop: Stop) -> Result<Exit> {
    match command.command {
        OffersSub::Create(args) => create(args, client).await,
        OffersSub::List(args) if args.watch => {
            let limit = args.page.limit.min(PAGE_MAX);
            let query = [args.query(), vec![("limit", limit.to_string())]].concat();
            watch::run(client, &query, args.interval, stop).await
        }
        OffersSub::List(args) => list(&args, client).await,
        OffersSub::Show { offer } => {
            let offer: OfferView = client.get(&format!("/api/v1/offers/{offer}"), &[]).await?;
            let printed = print_offer(&offer, client.json)?;
            if !client.json && !offer.mine && offer.status == OfferStatus::Open {
                let OfferView { id, sequence, .. } = &offer;
                let next = format!(
                    "next: `vintner offers bid {id} --if-sequence {sequence}` bids on it as it stands here"
                );
                output::tell(&client.reach.repeat(&next));
            }
            Ok(printed)
        }
        OffersSub::Withdraw { offer, if_sequence } => {
            let path = format!("/api/v1/offers/{offer}");
            let offer: OfferView = client.delete(&path, if_sequence).await?;
            print_offer(&offer, client.json)
        }
        OffersSub::Bid(args) => bid(args, client).await,
    }
}

fn new_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Asks about a currency that looks mistyped: who is at a terminal says whether it is meant, who is not must have said so.
async fn is_meant(currency: Currency) -> Result<bool> {
    let near = currencies::meant(currency);
    if near.is_empty() {
        return Ok(true);
    }
    let near = near.join(", ");
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(WrongUsage::of(anyhow!(
            "{currency} is no widely known currency, did you mean {near}; correct --currency, or say --yes if it is meant"
        )));
    }
    output::ask(&format!(
        "{currency} is no widely known currency; did you mean {near}? Go on with {currency}? [y/N] "
    ));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.context("the question was interrupted; say --yes instead")?;
    let answer = answer.context("the answer cannot be read; say --yes instead")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn create(args: CreateArgs, client: &Client) -> Result<Exit> {
    if !args.yes && !is_meant(args.currency).await? {
        output::tell("nothing was done; correct --currency");
        return Ok(Exit::Failed);
    }
    let mut body = Map::new();
    body.insert("btc_quantity".into(), args.quantity.to_string().into());
    body.insert("offer_price".into(), args.price.to_string().into());
    body.insert("side".into(), args.side.as_str().into());
    body.insert("currency".into(), args.currency.as_str().into());
    if let Some(memo) = args.memo {
        body.insert("memo".into(), memo.into());
    }
    if let Some(lifetime) = args.expires_in {
        body.insert("expires_at".into(), clock::now().plus(lifetime).to_string().into());
    }
    let key = args.idempotency_key.unwrap_or_else(new_key);
    let (_, offer): (_, OfferView) = client.post("/api/v1/offers", &body, &key).await?;
    print_offer(&offer, client.json)
}

impl ListArgs {
    /// As the API is asked.
    fn query(&self) -> Vec<(&'static str, String)> {
        let text = |value: Option<String>, name| value.map(|value| (name, value));
        [
            self.mine.then(|| ("mine", "true".into())),
            self.all.then(|| ("availability", "all".into())),
            self.stale.then(|| ("include", "stale".into())),
            self.side.map(|side| ("side", side.as_str().into())),
            text(self.currency.map(|currency| currency.to_string()), "currency"),
            text(self.min_price.map(|price| price.to_string()), "min_price"),
            text(self.max_price.map(|price| price.to_string()), "max_price"),
            text(self.min_quantity.map(|quantity| quantity.to_string()), "min_quantity"),
            text(self.max_quantity.map(|quantity| quantity.to_string()), "max_quantity"),
            text(self.maker.clone(), "client_id"),
            (!self.exclude.is_empty()).then(|| ("exclude", self.exclude.join(","))),
            self.sort.map(|sort| ("sort", if sort == SortArg::Price { "price" } else { "-price" }.into())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The same as a shell is asked.
    fn flags(&self) -> String {
        let flag = |(name, value): (&str, String)| match name {
            "mine" => " --mine".into(),
            "availability" => " --all".into(),
            "include" => " --stale".into(),
            "client_id" => format!(" --maker {}", quoted(&value)),
            "sort" => format!(" --sort={value}"),
            name => format!(" --{} {}", name.replace('_', "-"), quoted(&value)),
        };
        self.query().into_iter().map(flag).collect()
    }
}

async fn list(args: &ListArgs, client: &Client) -> Result<Exit> {
    let list = List { path: "/api/v1/offers", query: args.query() };
    let page: Page<OfferView> = list.get(client, &args.page).await?;
    if client.json {
        output::print_json(&page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() && page.next_cursor.is_none() {
        let none = "no offers; `vintner offers create --quantity 0.5 --price 64000` makes one\n";
        output::print(&client.reach.repeat(none))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    output::print(&table(&COLUMNS, &rows))?;
    output::print(&more(client, "vintner offers list", &args.flags(), &args.page, &page))?;
    Ok(Exit::Done)
}

/// What [`row`] shows.
pub(crate) const COLUMNS: [Column; 8] = [
    left("ID"),
    left("SIDE"),
    right("BTC"),
    right("PRICE"),
    left("IN"),
    left("STATUS"),
    left("EXPIRES"),
    left("MAKER"),
];

/// An offer on one line.
pub(crate) fn row(offer: &OfferView) -> Vec<String> {
    vec![
        offer.id.to_string(),
        side(offer.side).into(),
        offer.btc_quantity.to_string(),
        offer.offer_price.to_string(),
        offer.currency.to_string(),
        status(offer),
        offer.expires_at.map_or_else(String::new, |at| at.to_string()),
        if offer.mine { "own".into() } else { short(&offer.client_id) },
    ]
}

fn status(offer: &OfferView) -> String {
    let status = offer.status.as_str();
    if offer.stale { format!("{status}, stale") } else { status.into() }
}

pub(crate) fn side(side: Side) -> &'static str {
    match side {
        Side::Sell => "sell",
        Side::Buy => "buy",
    }
}

fn print_offer(offer: &OfferView, json: bool) -> Result<Exit> {
    if json {
        output::print_json(offer)?;
        return Ok(Exit::Done);
    }
    let published = offer.published.as_ref().map(|published| match published.state {
        PublishedState::Pending => "pending".to_owned(),
        PublishedState::Published => format!(
            "on {} DHT nodes, announced to {}",
            published.stored_on.unwrap_or_default(),
            published.announced_to.unwrap_or_default()
        ),
    });
    let maker = if offer.mine { "this node".into() } else { offer.client_id.to_string() };
    output::print(&facts(&[
        ("id", Some(offer.id.to_string())),
        ("hash", Some(offer.hash.to_string())),
        ("status", Some(status(offer))),
        ("side", Some(side(offer.side).into())),
        ("quantity", Some(format!("{} BTC", offer.btc_quantity))),
        ("price", Some(format!("{} {}", offer.offer_price, offer.currency))),
        ("maker", Some(maker)),
        ("sequence", Some(offer.sequence.to_string())),
        ("created", Some(offer.created_at.to_string())),
        ("expires", offer.expires_at.map(|at| at.to_string())),
        ("memo", offer.memo.clone()),
        ("published", published),
        ("trade", offer.trade_id.map(|id| id.to_string())),
    ]))?;
    Ok(Exit::Done)
}

async fn bid(args: BidArgs, client: &Client) -> Result<Exit> {
    let mut body = Map::new();
    if let Some(price) = args.price {
        body.insert("price".into(), price.to_string().into());
    }
    let seen = [
        ("side", args.side.map(|side| side.as_str().to_owned())),
        ("btc_quantity", args.quantity.map(|quantity| quantity.to_string())),
        ("currency", args.currency.map(|currency| currency.to_string())),
    ];
    for (name, value) in seen {
        if let Some(value) = value {
            body.insert(name.into(), value.into());
        }
    }
    let milliseconds = |time: Duration| Value::from(time.as_millis() as u64);
    if let Some(valid_for) = args.valid_for {
        body.insert("valid_for_ms".into(), milliseconds(valid_for));
    }
    if let Some(wait) = args.wait {
        body.insert("wait_ms".into(), milliseconds(wait));
    }
    let key = args.idempotency_key.unwrap_or_else(new_key);
    let path = format!("/api/v1/offers/{}/bids", args.offer);
    let (_, bid): (_, BidView) = client.post_if(&path, &body, &key, args.if_sequence).await?;
    let printed = print_bid(&bid, client.json);
    match bid.status {
        BidStatus::InDoubt => {}
        // By a request that is repeated.
        BidStatus::GivenUp => return printed.map(|()| Exit::InDoubt),
        BidStatus::Accepted | BidStatus::Refused => return printed.map(|()| Exit::Done),
    }
    // Told first, and with its own exit code: whoever took it for a refusal would bid again.
    let until: UnixMillis = bid.valid_until.0;
    let told = format!(
        "in doubt: the maker has not answered; the bid is firm until {until}, and the node goes on asking\n\
         next: `vintner bids show {}` tells what became of it; do not bid again",
        bid.id
    );
    output::tell(&client.reach.repeat(&told));
    if let Err(error) = printed {
        output::tell(&Told::of(&error).to_string());
    }
    Ok(Exit::InDoubt)
}
