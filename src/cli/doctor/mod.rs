//! `vintner doctor`: is everything here as a node needs it, and if not, what to do.
//!
//! It is given the node's own settings, and works with the node running or stopped. It changes nothing: it makes no key, takes
//! no lock, and leaves no trace in anybody's routing table, since while the node is stopped it asks the DHT from the node's own
//! address and under its own id.
//!
//! `files` looks at the data directory, `running` asks the node itself, `ports`, `dht` and `clocks` are what their names say,
//! `report` prints.

mod clocks;
mod dht;
mod files;
mod ports;
mod report;
mod running;

use super::{
    Exit,
    client::duration,
    reach::Reach,
    settings::{Effective, SettingsArgs},
};
use crate::{node::clock, time::UnixMillis};
use anyhow::Result;
use clap::Args;
use report::Report;
use running::Running;
use std::time::Duration;

/// Check what a node needs: data directory, keys, ports, DHT, clock
///
/// Takes the settings of `vintner node`, from flags, environment and file alike; of a running node, --data-dir and --api are
/// enough. It changes nothing. One line a check: ok, warning or FAILED, what was found, what to do next.
///
/// Exit codes: 0 nothing failed, 1 something did.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: vintner doctor --config /etc/vintner/vintner.toml")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Check as if this machine's clock were so far ahead: to see the check find it
    #[arg(long, value_name = "DURATION", value_parser = duration, hide = true)]
    clock_ahead: Option<Duration>,
}

/// Makes all checks and prints them.
pub(crate) async fn run(args: DoctorArgs) -> Result<Exit> {
    let settings = args.settings.effective(None)?;
    let ahead = args.clock_ahead.unwrap_or_default();
    let report = examine(&settings, &move || clock::now().plus(ahead)).await;
    let exit = if report.is_well() { Exit::Done } else { Exit::Failed };
    report.print(args.json)?;
    Ok(exit)
}

/// The checks, each after those that it builds on.
async fn examine(settings: &Effective, now: &(dyn Fn() -> UnixMillis + Sync)) -> Report {
    let token_file = settings.token_path().map(|file| file.display().to_string());
    let mut report = Report::of(Reach::to(settings.api, token_file.as_deref()));
    let files = files::check(settings, &mut report);
    let running = running::check(settings, &files, &mut report).await;
    // What a running node says of itself counts more than settings that it may not have been started with.
    let mut settings = settings.clone();
    if let Running::Ours(node) = &running {
        settings.network.clone_from(&node.network);
    }
    let peers = clocks::Peers::new(&settings, &files);
    ports::check(&settings, &running, &peers, &mut report).await;
    let found = dht::check(&settings, &files, &running, &mut report).await;
    clocks::check(&peers, found, now, &mut report).await;
    report
}
