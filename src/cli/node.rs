//! `vintner node`: one trading node with its API.

use super::{
    Exit,
    client::{Client, ClientArgs},
    healthcheck, join,
    logs::{self, LogFormat},
    output,
    ports::{Port, flags, taken},
    settings::{Effective, Settings, SettingsArgs},
    signals::Stop,
    status,
};
use crate::{
    http::api,
    listener::Serving,
    node::{Node, NodeConfig},
    store,
};
use anyhow::{Context, Result};

/// Run a trading node
///
/// Each setting comes from its flag, else from the environment (VINTNER_*), else from the file, else from its default. By default
/// it is a node of network `vintner` that starts from a grape on this machine. To join the network of a node that runs, such as
/// one of `vintner devnet`, name that node: --join 127.0.0.1:4000.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples: vintner node --join 127.0.0.1:4000\n          \
    vintner node --data-dir ~/trading --rpc 0.0.0.0:1337 --dht 0.0.0.0:20011 --bootstrap grape.example:20001\n\
    VINTNER_LOG sets what is logged, such as `debug` or `vintner::dht=trace,info`.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    command: Option<NodeCommand>,

    #[command(flatten)]
    settings: SettingsArgs,

    /// Begin a new store although the one that this key had is missing
    ///
    /// What was only in it is given up: trades that no other node holds, open offers, bids without an answer. Say it once, then
    /// run `vintner recover`, which asks the other nodes for what they know.
    #[arg(long)]
    new_store: bool,

    /// Print the settings as they would be used, as TOML, and end
    #[arg(long)]
    print_config: bool,
}

/// What is said to a node that runs, about itself.
#[derive(Clone, Debug, clap::Subcommand)]
enum NodeCommand {
    /// Say that there is no other node of the network any more
    ///
    /// For a node that says `none_reachable` though the others are gone for good: it is a network of one from then on, and synced, until
    /// somebody else is heard of.
    ConfirmAlone(ClientArgs),
}

/// How often a port or a directory is chosen anew that another program was quicker to take.
const CHOICES_MAX: usize = 10;

/// Runs until it is asked to stop, or cannot go on.
pub(crate) async fn run(args: NodeArgs, log_format: Option<LogFormat>, stop: Stop) -> Result<Exit> {
    if let Some(NodeCommand::ConfirmAlone(to)) = &args.command {
        return status::confirm_alone(&Client::new(to)?).await;
    }
    let given = args.settings.given(log_format)?;
    if args.print_config {
        return print_config(given).await;
    }
    logs::start(given.log_format.unwrap_or_default());
    // Listened to from here on, without a gap: the first process of a container is never ended by a signal that it does not hear.
    let mut asked = std::pin::pin!(stop.asked());
    let (settings, node, serving) = tokio::select! {
        started = start(given, args.new_store) => started?,
        // What it has not started yet keeps nothing that an orderly end would save.
        asked = &mut asked => return asked.map(|()| Exit::Done),
    };
    let url = format!("http://{}", serving.local_addr());
    tracing::info!(
        client_id = %node.exchange().client_id(), network = %node.exchange().network(),
        data_dir = %settings.data_dir.display(), "node started"
    );
    tracing::info!("the API is at {url}/api/v1, its description at {url}/swagger-ui");
    if let Some(file) = settings.token_path() {
        tracing::info!("the API wants the token in {}", file.display());
    }
    let exit = tokio::select! {
        asked = &mut asked => asked.map(|()| Exit::Done),
        failure = node.failed() => Err(failure.into()),
    };
    tracing::info!("stopping");
    // Together: a caller that waits for a bid's answer is told by the node's end that it is in doubt.
    tokio::join!(serving.shutdown(), node.stop());
    // Also one that failed while it was asked to stop, or in its last commit, did not end well.
    match node.failure() {
        Some(failure) => Err(failure.into()),
        None => exit,
    }
}

async fn print_config(given: Settings) -> Result<Exit> {
    let (settings, notes) = if given.join.is_some() {
        let settled = join::ask(&given).await?.settle(given)?;
        (settled.settings, settled.notes)
    } else {
        (given, Vec::new())
    };
    let notes = notes.into_iter().map(|note| format!("# {note}"));
    let lines: Vec<String> = notes.chain([settings.finish()?.to_toml()?]).collect();
    output::print(&lines.join("\n"))?;
    Ok(Exit::Done)
}

/// Starts a node and its API. One that joins chooses ports and directory, again where another program was quicker.
async fn start(given: Settings, new_store: bool) -> Result<(Effective, Node, Serving)> {
    if given.join.is_none() {
        return start_with(given.finish()?, new_store).await;
    }
    let joining = join::ask(&given).await?;
    let mut choices = 0;
    loop {
        choices += 1;
        let settled = joining.settle(given.clone())?;
        let started = start_with(settled.settings.clone().finish()?, new_store).await;
        match started {
            Err(error) if choices < CHOICES_MAX && settled.may_choose_anew(Exit::of(&error)) => {
                tracing::debug!(%error, "another program was quicker; choosing anew");
            }
            Err(error) => return Err(error),
            Ok(started) => {
                settled.notes.iter().for_each(|note| tracing::info!("{note}"));
                settled.remember();
                return Ok(started);
            }
        }
    }
}

/// One that is taken is named by whoever listens there; where more are, another node is likely there, and all are named.
/// A data directory that is in use says more: it is the very same node.
fn look_at_ports(settings: &Effective) -> Result<()> {
    if store::holder(&settings.data_dir).is_ok_and(|holder| holder.is_some()) {
        return Ok(());
    }
    let ports = [
        Port::tcp(settings.api, "--api"),
        Port::tcp(settings.rpc, "--rpc"),
        Port::udp(settings.dht.into(), "--dht"),
    ];
    let Some((taken, error)) = taken(ports).filter(|(taken, _)| taken.len() > 1) else { return Ok(()) };
    let all: Vec<String> = taken.iter().map(|port| format!("{} {}", port.kind(), port.at)).collect();
    Err(anyhow::Error::new(error).context(format!(
        "{} are taken, by another node it seems; to join its network beside it, run `vintner node --join {}`, or choose other \
         ports with {}",
        all.join(", "),
        healthcheck::reachable(settings.api),
        flags(&taken)
    )))
}

async fn start_with(settings: Effective, new_store: bool) -> Result<(Effective, Node, Serving)> {
    look_at_ports(&settings)?;
    let node =
        Node::start(NodeConfig { new_store, ..settings.node() }).await.context("the node did not start")?;
    match start_api(&settings, &node).await {
        Ok(serving) => Ok((settings, node, serving)),
        Err(error) => {
            node.stop().await;
            Err(error)
        }
    }
}

async fn start_api(settings: &Effective, node: &Node) -> Result<Serving> {
    Ok(api::start(settings.api()?, node.clone()).await?)
}
