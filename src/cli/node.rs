//! `vintner node`: one trading node with its API.

use super::{
    Exit,
    logs::{self, LogFormat},
    output,
    settings::SettingsArgs,
    signals::Stop,
};
use crate::{http::api, node::Node};
use anyhow::{Context, Result};

/// Run a trading node
///
/// Each setting comes from its flag, else from the environment (VINTNER_*), else from the file, else from its default. As it
/// stands it joins the network that `vintner devnet` runs on this machine.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: vintner node --data-dir ~/trading --bootstrap grape.example:20001\n\
    VINTNER_LOG sets what is logged, such as `debug` or `vintner::dht=trace,info`.")]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Print the settings as they would be used, as TOML, and end
    #[arg(long)]
    print_config: bool,
}

/// Runs until it is asked to stop, or cannot go on.
pub(crate) async fn run(args: NodeArgs, log_format: Option<LogFormat>, stop: Stop) -> Result<Exit> {
    let settings = args.settings.effective(log_format)?;
    if args.print_config {
        output::print(&settings.to_toml()?)?;
        return Ok(Exit::Done);
    }
    logs::start(settings.log_format);
    // Listened to from here on, without a gap: the first process of a container is never ended by a signal that it does not hear.
    let mut asked = std::pin::pin!(stop.asked());
    let node = tokio::select! {
        started = Node::start(settings.node()) => started.context("the node did not start")?,
        // What it has not started yet keeps nothing that an orderly end would save.
        asked = &mut asked => return asked.map(|()| Exit::Done),
    };
    let serving = match start_api(&settings, &node).await {
        Ok(serving) => serving,
        Err(error) => {
            node.stop().await;
            return Err(error);
        }
    };
    let url = format!("http://{}", serving.local_addr());
    tracing::info!(
        client_id = %node.exchange().client_id(), network = %node.exchange().network(),
        data_dir = %settings.data_dir.display(), "node started"
    );
    tracing::info!("the API is at {url}/api/v1, its description at {url}/swagger-ui");
    let exit = tokio::select! {
        asked = &mut asked => asked.map(|()| Exit::Done),
        reason = node.failed() => Err(anyhow::anyhow!("{reason}; look at the disk, then start the node again")),
    };
    tracing::info!("stopping");
    // Together: a caller that waits for a bid's answer is told by the node's end that it is in doubt.
    tokio::join!(serving.shutdown(), node.stop());
    exit
}

async fn start_api(settings: &super::settings::Effective, node: &Node) -> Result<crate::listener::Serving> {
    Ok(api::start(settings.api()?, node.clone()).await?)
}
