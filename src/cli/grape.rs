//! `vintner grape`: a DHT node with the Grape HTTP API, started as `grape` of grenache-grape 1.0.0 is.
//!
//! It takes that command's flags, so that start scripts keep working. Two defaults differ, because the stock ones are traps:
//! HTTP listens on loopback unless `-b` is given (stock: on every interface), and peers expire and payloads are bounded as in a
//! grape that is started by a program (stock: never, and not at all).

use super::signals::Stop;
use crate::{
    dht::{Dht, DhtConfig, NodeId},
    http::grape,
    listener::Serving,
    workers::Workers,
};
use anyhow::{Context, Result};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::TcpListener;

/// How long to wait for the first nodes before saying that the grape is up anyway: a bootstrap node may come later.
const JOIN_PATIENCE: Duration = Duration::from_secs(3);
const JOIN_POLL: Duration = Duration::from_millis(20);
/// The largest `--check_maxPayloadSize`: each connection may hold that much.
const PAYLOAD_BYTES_LIMIT: u64 = 16 * 1024 * 1024;
/// The largest `--dht_maxValues`, 1.5 GB of values.
const VALUES_LIMIT: u64 = 1_000_000;

/// Run a grape: a DHT node with the Grape HTTP API and no market
///
/// Takes the flags of the stock `grape` command (grenache-grape 1.x), so that a start script written for it runs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: vintner grape --dp 20001 --aph 30001 --bn 127.0.0.1:20002,127.0.0.1:20003")]
pub struct GrapeArgs {
    /// Address that HTTP listens on, and under which this grape knows its own announcements [default: 127.0.0.1 for HTTP]
    ///
    /// Without it, only programs on this machine reach the HTTP API (a stock grape would listen on every interface). The DHT's
    /// UDP port is open on every interface in any case.
    #[arg(short = 'b', long = "bind", alias = "b", value_name = "ADDRESS", value_parser = bind_address)]
    bind: Option<IpAddr>,

    /// UDP port of the DHT (0: a free one)
    #[arg(long = "dp", visible_alias = "dht_port", value_name = "PORT")]
    dht_port: u16,

    /// TCP port of the HTTP API (0: a free one)
    #[arg(long = "aph", visible_alias = "api_port", value_name = "PORT")]
    api_port: u16,

    /// DHT nodes to join, `host:port,host:port`; an empty text for none
    #[arg(long = "bn", visible_alias = "bootstrap", value_name = "NODES")]
    bootstrap: String,

    /// No effect, in a stock grape neither
    #[arg(long = "dc", visible_alias = "dht_concurrency", value_name = "N")]
    _dht_concurrency: Option<u64>,

    /// No effect here: write tokens are kept with their nodes, so there are no tables of them to limit
    #[arg(long = "dht_maxTables", value_name = "N")]
    _dht_max_tables: Option<u64>,

    /// Values stored at most; the least recently used goes first
    #[arg(long = "dht_maxValues", value_name = "N", default_value_t = 5000,
          value_parser = clap::value_parser!(u64).range(1..=VALUES_LIMIT))]
    dht_max_values: u64,

    /// How long an announced peer is known without being announced again, in ms; 0 for ever
    #[arg(long = "dht_peer_maxAge", visible_alias = "dpa", value_name = "MS", default_value_t = 120_000)]
    dht_peer_max_age: u64,

    /// No effect, in a stock grape neither
    #[arg(long = "cache_maxAge", value_name = "MS")]
    _cache_max_age: Option<u64>,

    /// How long a node may be silent before it is pinged, in ms
    #[arg(long = "dnl", visible_alias = "dht_nodeLiveness", value_name = "MS", default_value_t = 300_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    dht_node_liveness: u64,

    /// The longest HTTP body, in bytes
    #[arg(long = "check_maxPayloadSize", value_name = "BYTES", default_value_t = grape::PAYLOAD_BYTES_MAX as u64,
          value_parser = clap::value_parser!(u64).range(1..=PAYLOAD_BYTES_LIMIT))]
    check_max_payload_size: u64,

    /// File that keeps the DHT node id, so that a restart on the same port is the same node to the others
    #[arg(long = "id-file", value_name = "FILE")]
    id_file: Option<PathBuf>,
}

/// An IP address; `localhost` is the one name that means the same everywhere.
fn bind_address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "give an IP address of this machine, such as 127.0.0.1 or 0.0.0.0".to_owned())
}

impl GrapeArgs {
    /// Runs until SIGTERM or Ctrl-C.
    pub async fn run(self) -> Result<()> {
        // Listened to from the start: no signal ends the first process of a container before it listens.
        let mut stop = std::pin::pin!(Stop::new(false).asked());
        let (dht, serving) = tokio::select! {
            started = self.start() => started?,
            stopped = &mut stop => return stopped,
        };
        tokio::select! {
            stopped = &mut stop => stopped?,
            () = joined(&dht) => {
                println!("grape ready: DHT on UDP {}, HTTP on http://{}", dht.local_addr(), serving.local_addr());
                stop.await?;
            }
        }
        serving.shutdown().await;
        dht.shutdown().await;
        Ok(())
    }

    async fn start(&self) -> Result<(Dht, Serving)> {
        let http = SocketAddr::new(self.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.api_port);
        let listener = TcpListener::bind(http).await.with_context(|| {
            format!(
                "cannot listen on TCP {http} for HTTP; choose another port with --aph, or stop what uses it"
            )
        })?;
        let workers = Workers::start(std::thread::available_parallelism().map_or(1, usize::from))
            .context("cannot start the threads that check signatures")?;
        let dht = Dht::start(self.dht_config()?, workers).await?;
        if let Some(file) = &self.id_file {
            keep_id(file, dht.local_addr().port(), dht.node_id())?;
        }
        let serving =
            grape::serve(listener, dht.clone(), self.check_max_payload_size as usize, grape::LIMITS)?;
        Ok((dht, serving))
    }

    fn dht_config(&self) -> Result<DhtConfig> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no random numbers")?;
        let bootstrap = self.bootstrap.split(',').map(str::trim).filter(|node| !node.is_empty());
        let listen = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.dht_port);
        let mut config = DhtConfig::new(listen, bootstrap.map(str::to_owned).collect(), seed);
        config.node_id = match &self.id_file {
            Some(file) => kept_id(file, self.dht_port)?,
            None => None,
        };
        config.host = match self.bind {
            Some(host) if !host.is_unspecified() => Some(host),
            _ => None,
        };
        config.items_max = self.dht_max_values as usize;
        config.peer_max_age = Duration::from_millis(self.dht_peer_max_age);
        config.node_liveness = Duration::from_millis(self.dht_node_liveness);
        Ok(config)
    }
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

/// The id kept for this port. Another port must have another id, or the nodes that know the old address keep asking there.
fn kept_id(file: &Path, port: u16) -> Result<Option<NodeId>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let bad = || format!("{} does not hold `port id`; delete it to get a new DHT node id", file.display());
    let (kept_port, id) = text.trim().split_once(' ').with_context(bad)?;
    let id = id.parse().ok().with_context(bad)?;
    Ok((kept_port == port.to_string()).then_some(id))
}

fn keep_id(file: &Path, port: u16, id: NodeId) -> Result<()> {
    fs::write(file, format!("{port} {id}\n")).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

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
            let args = parse(&line).unwrap();
            let config = args.dht_config().unwrap();
            assert_eq!(config.listen.port(), 20_001);
            assert_eq!(config.bootstrap, ["127.0.0.1:20002", "h:1"]);
            assert_eq!(config.host, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            assert_eq!((config.items_max, config.peer_max_age.as_millis()), (8, 9));
            assert_eq!((config.node_liveness.as_millis(), args.check_max_payload_size), (11, 12));
            assert_eq!(args.api_port, 30_001);
        }
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let args = parse("--dp 1 --aph 2 --bn ").unwrap();
        let config = args.dht_config().unwrap();
        assert!(args.bind.is_none() && config.host.is_none() && config.bootstrap.is_empty());
        assert_eq!((config.peer_max_age.as_millis(), args.check_max_payload_size), (120_000, 8192));
    }

    /// Statement 44: a missing flag is an error.
    #[test]
    fn a_missing_flag_and_a_wrong_value_are_refused() {
        for line in ["--dp 1 --aph 2", "--dp 1 --bn x", "--aph 1 --bn x", "--dp x --aph 2 --bn x"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--dp 1 --aph 2 --bn x -b example.org").is_err());
    }

    #[test]
    fn an_id_is_kept_for_its_port_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id");
        assert_eq!(kept_id(&file, 1).unwrap(), None);
        let id: NodeId = "ab".repeat(20).parse().unwrap();
        keep_id(&file, 1, id).unwrap();
        assert_eq!((kept_id(&file, 1).unwrap(), kept_id(&file, 2).unwrap()), (Some(id), None));
        fs::write(&file, "nonsense").unwrap();
        assert!(kept_id(&file, 1).is_err());
    }
}
