//! `vintner grape`: a DHT node with the Grape HTTP API, started as `grape` of grenache-grape 1.0.0 is.
//!
//! It takes that command's flags, so that start scripts keep working. Two defaults differ, because the stock ones are traps:
//! HTTP listens on loopback unless `-b` is given (stock: on every interface), and peers expire and payloads are bounded, as in a
//! grape that is started by a program (stock: never, and not at all).
//!
//! [`script`] reads arguments as the stock command does, [`settings`] says where each setting comes from, [`status`] asks a grape that runs.

pub(in crate::cli) mod script;
mod settings;
mod status;

use self::settings::{Effective, Settings};
use super::{
    Exit,
    exit::WrongUsage,
    logs::{self, LogFormat},
    output,
    path::UserPath,
    signals::Stop,
};
use crate::{
    address::bind::advice,
    dht::{Dht, DhtConfig, DhtError},
    grape::{Keeper, State},
    http::grape,
    store::StoreError,
    workers::Workers,
};
use anyhow::{Context, Result};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpListener;

/// How long to wait for the first nodes before saying that the grape is up anyway: a bootstrap node may come later.
const JOIN_PATIENCE: Duration = Duration::from_secs(3);
const JOIN_POLL: Duration = Duration::from_millis(20);

/// Run a grape: a DHT node with the Grape HTTP API and no market
///
/// Takes the flags of the stock `grape` command (grenache-grape 1.x), so that a start script written for it runs. Each setting
/// comes from its flag, else from the environment (VINTNER_GRAPE_*), else from the file, else from its default.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples: vintner grape --dp 20001 --aph 30001 --bn 127.0.0.1:20002,127.0.0.1:20003\n          \
    vintner grape --status --aph 30001\n\
    VINTNER_LOG sets what is logged, such as `debug` or `vintner::dht=trace,info`."
)]
pub(super) struct GrapeArgs {
    #[command(flatten)]
    settings: Settings,

    /// No effect, in a stock grape neither
    #[arg(long = "dc", visible_alias = "dht_concurrency", value_name = "N")]
    _dht_concurrency: Option<String>,

    /// No effect here: write tokens are kept with their nodes, so there are no tables of them to limit
    #[arg(long = "dht_maxTables", value_name = "N")]
    _dht_max_tables: Option<String>,

    /// No effect, in a stock grape neither
    #[arg(long = "cache_maxAge", value_name = "MS")]
    _cache_max_age: Option<String>,

    /// What was made of arguments that make no sense.
    #[arg(skip)]
    pub(super) warnings: Vec<String>,

    /// TOML file of settings, with the long names of the flags: dht_port = 20001
    #[arg(long, env = "VINTNER_GRAPE_CONFIG", value_name = "FILE")]
    config: Option<UserPath>,

    /// Print the settings as they would be used, as TOML, and end
    #[arg(long)]
    print_config: bool,

    /// Show what a running grape is doing, and end
    ///
    /// It is found by --aph (and -b), else by --data-dir, else at 127.0.0.1:30001.
    #[arg(long, conflicts_with = "print_config")]
    status: bool,

    /// With --status: print JSON
    #[arg(long, requires = "status")]
    json: bool,
}

/// Runs until it is asked to stop, or does the one thing that was asked.
pub(super) async fn run(args: GrapeArgs, log_format: Option<LogFormat>, stop: Stop) -> Result<Exit> {
    let file = args.config.as_deref().map(Settings::of_file).transpose().map_err(WrongUsage::of)?;
    let settings = args.settings.or(file.unwrap_or_default());
    if args.status {
        return status::run(&settings, args.json).await;
    }
    let settings = settings.effective(log_format).map_err(WrongUsage::of)?;
    let warnings = || args.warnings.iter().chain(&settings.warnings);
    if args.print_config {
        warnings().for_each(|warning| output::tell(&format!("warning: {warning}")));
        output::print(&settings.to_toml()?)?;
        return Ok(Exit::Done);
    }
    logs::start(settings.log_format);
    warnings().for_each(|warning| tracing::warn!("{warning}"));
    // Listened to from the start: no signal ends the first process of a container before it listens.
    let mut stop = std::pin::pin!(stop.asked());
    let running = tokio::select! {
        started = Running::start(&settings) => started?,
        stopped = &mut stop => return stopped.map(|()| Exit::Done),
    };
    tokio::select! {
        stopped = &mut stop => stopped?,
        () = joined(&running.dht) => {
            running.tell();
            stop.await?;
        }
    }
    running.stop().await;
    Ok(Exit::Done)
}

/// A grape at work.
struct Running {
    dht: Dht,
    serving: grape::Server,
    keeper: Option<Keeper>,
}

impl Running {
    async fn start(settings: &Effective) -> Result<Self> {
        let http = settings.http();
        let listener = TcpListener::bind(http).await.map_err(|error| {
            let next = advice(&error, "--aph, or another address with -b");
            anyhow::Error::new(error).context(format!("cannot listen on TCP {http} for HTTP; {next}"))
        })?;
        let workers = Workers::start(std::thread::available_parallelism().map_or(1, usize::from))
            .context("cannot start the threads that check signatures")?;
        let (dht, keeper) = start_dht(settings, workers, listener.local_addr()?).await?;
        let options = grape::Options {
            payload_bytes_max: settings.check_max_payload_size as usize,
            allowed_origins: settings.allow_origin.clone(),
            events: settings.events,
            notes: keeper.as_ref().map(Keeper::notes),
            ..grape::Options::default()
        };
        let serving = grape::serve(listener, dht.clone(), options)?;
        Ok(Self { dht, serving, keeper })
    }

    /// The line that scripts wait for.
    fn tell(&self) {
        let (dht, http) = (self.dht.local_addr(), self.serving.local_addr());
        output::print_if_possible(&format!("grape ready: DHT on UDP {dht}, HTTP on http://{http}\n"));
    }

    /// What was asked is answered, then what is known is kept, while there is still somebody who knows it.
    async fn stop(self) {
        self.serving.shutdown().await;
        if let Some(keeper) = self.keeper {
            keeper.stop().await;
        }
        self.dht.shutdown().await;
    }
}

/// The DHT node; with a data directory it knows what it knew before anybody can ask.
async fn start_dht(
    settings: &Effective,
    workers: Workers,
    http: SocketAddr,
) -> Result<(Dht, Option<Keeper>)> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random numbers")?;
    let mut config = settings.dht(seed);
    let Some(dir) = &settings.data_dir else { return Ok((listen(config, workers).await?, None)) };
    let state = match State::open(dir, settings.identity_address(), settings.peer_max_age()) {
        Ok(state) => state,
        // Two that write to one directory would take each other's node id.
        Err(error @ StoreError::Locked { .. }) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the data directory cannot be used: this grape runs on, and keeps nothing; mend it and start again");
            return Ok((listen(config, workers).await?, None));
        }
    };
    config.node_id = state.node_id();
    config.known_nodes = state.known_nodes();
    let dht = listen(config, workers).await?;
    let keeper = state.restore(&dht, http).await?;
    Ok((dht, Some(keeper)))
}

/// Starts it; the port is the one setting that can be wrong for the system.
async fn listen(config: DhtConfig, workers: Workers) -> Result<Dht> {
    Dht::start(config, workers).await.map_err(|error| match error {
        DhtError::Bind { addr, source } => {
            let next = advice(&source, "--dp");
            anyhow::Error::new(source).context(format!("cannot listen on UDP {addr} for the DHT; {next}"))
        }
        error => error.into(),
    })
}

/// Ends when other nodes are known, there are none to know, or patience has run out.
async fn joined(dht: &Dht) {
    let join = async {
        while !dht.status().bootstrapped {
            tokio::time::sleep(JOIN_POLL).await;
        }
    };
    if tokio::time::timeout(JOIN_PATIENCE, join).await.is_err() {
        tracing::warn!("no bootstrap node has answered yet; this grape goes on trying");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::net::{IpAddr, Ipv4Addr};

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: GrapeArgs,
    }
    fn parse(line: &str) -> Result<GrapeArgs, clap::Error> {
        Command::try_parse_from(std::iter::once("grape").chain(line.split(' '))).map(|command| command.args)
    }

    /// Statement 44: every flag and alias of the stock command is taken, also those without effect.
    #[test]
    fn every_stock_flag_and_alias_is_taken() {
        let short = "-b 127.0.0.1 --dp 20001 --aph 30001 --bn 127.0.0.1:20002,h:1 --dc 32 --dht_maxTables 7 \
                     --dht_maxValues 8 --dht_peer_maxAge 9 --cache_maxAge 10 --dnl 11 --check_maxPayloadSize 12";
        let long = "--bind 127.0.0.1 --dht_port 20001 --api_port 30001 --bootstrap 127.0.0.1:20002,h:1 \
                    --dht_concurrency 32 --dht_maxTables 7 --dht_maxValues 8 --dpa 9 --cache_maxAge 10 \
                    --dht_nodeLiveness 11 --check_maxPayloadSize 12";
        for line in [short, long, &short.replace("-b ", "--b ")] {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let used = parse(&line).unwrap().settings.effective(None).unwrap();
            let config = used.dht([0; 32]);
            assert_eq!(config.listen.port(), 20_001);
            assert_eq!(config.bootstrap, ["127.0.0.1:20002", "h:1"]);
            assert_eq!(config.host, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            assert_eq!((config.items_max, config.peer_max_age.as_millis()), (8, 9));
            assert_eq!((config.node_liveness.as_millis(), used.check_max_payload_size), (11, 12));
            assert_eq!(used.api_port, 30_001);
        }
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let used = parse("--dp 1 --aph 2 --bn ").unwrap().settings.effective(None).unwrap();
        let config = used.dht([0; 32]);
        assert!(used.bind.is_none() && config.host.is_none() && config.bootstrap.is_empty() && !used.events);
        assert_eq!((config.peer_max_age.as_millis(), used.check_max_payload_size), (420_000, 8192));
        assert!(used.data_dir.is_none());
    }

    /// Statement 44: a missing flag is an error.
    #[test]
    fn a_missing_setting_and_a_wrong_value_are_refused() {
        for line in ["--dp 1 --aph 2", "--dp 1 --bn x", "--aph 1 --bn x"] {
            assert!(parse(line).unwrap().settings.effective(None).is_err(), "{line}");
        }
        for line in
            ["--dp x --aph 2 --bn x", "--dp 1 --aph 2 --bn x -b example.org", "--dp 1 --aph 2 --bn x --json"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
