//! The commands. Only here are arguments, environment, files of settings and signals read.
//!
//! `node`, `grape` and `devnet` run until they are told to stop; all others ask a running node over its REST API and end.
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 in doubt (a bid whose maker has not answered yet), 4 a port is taken,
//! 5 the data directory is in use, 6 it cannot be used (`exit`).

#![deny(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "`output` says when something cannot be written"
)]

mod addresses;
mod advice;
mod backup;
mod bids;
mod client;
mod completions;
mod container;
mod currencies;
mod devnet;
mod doctor;
mod exit;
mod grape;
mod healthcheck;
mod instant;
mod join;
mod logs;
mod node;
mod offers;
mod open_files;
mod output;
mod pages;
mod path;
mod ports;
mod reach;
mod recover;
mod settings;
mod signals;
mod status;
mod supervisor;
mod trades;
mod watch;

use clap::{Args, CommandFactory, Parser, Subcommand};
use client::{Client, Refused};
use exit::Exit;
use logs::LogFormat;
use reach::Reach;
use std::{ffi::OsString, io::ErrorKind, process::ExitCode};

/// A peer-to-peer exchange node
///
/// `vintner devnet` starts a whole network on this machine; `vintner offers list` shows what it trades.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
struct CliOf<C: Subcommand> {
    #[command(subcommand)]
    command: C,

    /// How long-running commands log, on standard error [default: human]
    #[arg(long, global = true, env = "VINTNER_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Stop when standard input ends: how `devnet` stops its children, also when it is killed itself
    #[arg(long, global = true, hide = true)]
    until_stdin_ends: bool,
}

type Cli = CliOf<Command>;

#[derive(Debug, Subcommand)]
enum Command {
    Node(Box<node::NodeArgs>),
    Grape(Box<grape::GrapeArgs>),
    Devnet(devnet::DevnetArgs),
    /// Create, list, show and withdraw offers, and bid on them
    Offers(Remote<offers::OffersCommand>),
    /// List and show bids, and give up those whose makers are gone
    Bids(Remote<bids::BidsCommand>),
    /// List and show trades
    Trades(Remote<trades::TradesCommand>),
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Show how the node stands
    Status(Remote<status::StatusArgs>),
    /// Take over what other nodes know of this node's own trades and offers
    ///
    /// For a node whose data directory was lost, restored from a backup, or copied. Every node that is known is asked for the trades
    /// that it has with this one; own offers that the network knows better are closed. It may take half a minute.
    Recover(Remote<recover::RecoverArgs>),
    Doctor(Box<doctor::DoctorArgs>),
    Backup(backup::BackupArgs),
    /// Print the OpenAPI description of the REST API
    Openapi,
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// The one command whose process should be small. Describing all the others to the parser costs half a megabyte of code and
/// memory that is never used again.
#[derive(Debug, Subcommand)]
enum GrapeOnly {
    Grape(Box<grape::GrapeArgs>),
}

impl Command {
    /// How the node is reached that the command asks.
    fn reach(&self) -> Reach {
        match self {
            Self::Offers(Remote { to, .. })
            | Self::Bids(Remote { to, .. })
            | Self::Trades(Remote { to, .. })
            | Self::Status(Remote { to, .. })
            | Self::Recover(Remote { to, .. }) => Reach::of(to),
            _ => Reach::default(),
        }
    }
}

/// Reads the arguments.
fn parse() -> Result<Cli, clap::Error> {
    if std::env::args_os().nth(1).is_none_or(|command| command != "grape") {
        return Cli::try_parse();
    }
    // What starts a stock grape starts ours.
    let mut command = CliOf::<GrapeOnly>::command();
    command.build();
    let mut said = std::env::args_os();
    let mut arguments: Vec<OsString> = said.by_ref().take(2).collect();
    let heeded =
        command.find_subcommand("grape").map(|grape| grape::script::heed(grape, said)).unwrap_or_default();
    arguments.extend(heeded.arguments);
    let CliOf { command: GrapeOnly::Grape(mut args), log_format, until_stdin_ends } =
        CliOf::try_parse_from(arguments)?;
    args.warnings = heeded.warnings;
    Ok(CliOf { command: Command::Grape(args), log_format, until_stdin_ends })
}

/// A command that asks a running node.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
struct Remote<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    to: client::ClientArgs,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            return match printed {
                _ if error.use_stderr() => Exit::Usage,
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    report(output::not_written(error), &Reach::default())
                }
                _ => Exit::Done,
            }
            .into();
        }
    };
    if matches!(cli.command, Command::Node(_) | Command::Grape(_) | Command::Devnet(_)) {
        open_files::allow();
    }
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            output::tell(&format!(
                "error: cannot start the runtime: {error}\nnext: free some memory or threads and try again"
            ));
            return Exit::Failed.into();
        }
    };
    let reach = cli.command.reach();
    let exit = runtime.block_on(run(cli));
    // A read of standard input that never ends must not keep the process.
    runtime.shutdown_background();
    exit.unwrap_or_else(|error| report(error, &reach)).into()
}

/// A grape lives on one thread, as a stock grape does: its requests and its datagrams go through one DHT task anyway, and on one
/// thread they meet there without waking anybody. All else leaves half
/// of the cores to the threads that write, check signatures and move datagrams: a second idle thread would be woken by the first.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    match command {
        Command::Grape(_) => Builder::new_current_thread().enable_all().build(),
        _ => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            Builder::new_multi_thread().worker_threads((cores / 2).max(1)).enable_all().build()
        }
    }
}

fn report(error: anyhow::Error, reach: &Reach) -> Exit {
    match error.downcast_ref::<Refused>() {
        Some(refused) => refused.report(reach),
        None => output::tell(&reach.repeat(&advice::Told::of(&error).to_string())),
    }
    Exit::of(&error)
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let stop = signals::Stop::new(cli.until_stdin_ends);
    match cli.command {
        Command::Node(args) => node::run(*args, cli.log_format, stop).await,
        Command::Grape(args) => grape::run(*args, cli.log_format, stop).await,
        Command::Devnet(args) => {
            logs::start(cli.log_format.unwrap_or_default());
            devnet::run(args, stop).await
        }
        Command::Offers(Remote { command, to }) => offers::run(command, &Client::new(&to)?, stop).await,
        Command::Bids(Remote { command, to }) => bids::run(command, &Client::new(&to)?).await,
        Command::Trades(Remote { command, to }) => trades::run(command, &Client::new(&to)?).await,
        Command::Status(Remote { to, .. }) => status::run(&Client::new(&to)?).await,
        Command::Recover(Remote { to, .. }) => recover::run(&Client::new(&to)?).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Openapi => {
            output::print(crate::http::api::openapi_json())?;
            Ok(Exit::Done)
        }
        Command::Doctor(args) => doctor::run(*args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    }
}
