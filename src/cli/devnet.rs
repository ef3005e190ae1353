//! `vintner devnet`: a whole network on this machine, as child processes of this program.

use super::{
    Exit, output,
    path::UserPath,
    ports::{Port, flags, taken},
    signals::Stop,
    supervisor::Task,
};
use crate::address::bind::advice;
use anyhow::{Context, Result, bail};
use std::{net::Ipv4Addr, path::Path, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// Grapes and nodes at most: beyond it one machine says little about a network, and ports of different kinds would meet.
const EACH_MAX: u16 = 100;
/// How often the nodes are asked whether they are ready.
const POLL: Duration = Duration::from_millis(100);
/// How long one such question may take.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take before the wait is explained.
const PATIENCE: Duration = Duration::from_secs(30);

/// Run a whole network on this machine: grapes, and trading nodes that find each other through them
///
/// Everything stops with it, and is there again at the next start: identities, offers and trades are kept in the data directory.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevnetArgs {
    /// How many grapes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(EACH_MAX)))]
    grapes: u16,
    /// How many trading nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(EACH_MAX)))]
    nodes: u16,
    /// Where everything is kept
    #[arg(long, env = "VINTNER_DEVNET_DIR", value_name = "DIR", default_value = ".vintner/devnet")]
    data_dir: UserPath,
    /// The market's name: by default not that of a node that is started by itself, so that trials and trading never meet
    #[arg(long, value_name = "NAME", default_value = "devnet")]
    network: crate::identity::Network,
    /// Port of the first node's API
    #[arg(long, value_name = "PORT", default_value_t = 4000)]
    api_port: u16,
    /// Port of the first node's RPC
    #[arg(long, value_name = "PORT", default_value_t = 1337)]
    rpc_port: u16,
    /// UDP port of the first node's DHT
    #[arg(long, value_name = "PORT", default_value_t = 20_011)]
    dht_port: u16,
    /// UDP port of the first grape's DHT
    #[arg(long, value_name = "PORT", default_value_t = 20_001)]
    grape_dht_port: u16,
    /// Port of the first grape's HTTP API
    #[arg(long, value_name = "PORT", default_value_t = 30_001)]
    grape_http_port: u16,
}

/// Runs until it is asked to stop.
pub(crate) async fn run(args: DevnetArgs, stop: Stop) -> Result<Exit> {
    args.check_ports()?;
    std::fs::create_dir_all(&args.data_dir)
        .with_context(|| format!("{} cannot be made; choose another --data-dir", args.data_dir.display()))?;
    let program = std::env::current_exe().context("this program cannot find itself to start its children")?;
    let (stopping, told) = watch::channel(false);
    let mut children = JoinSet::new();
    for task in args.tasks(&program) {
        children.spawn(task.keep_running(told.clone()));
    }
    let outcome = tokio::select! {
        asked = stop.asked() => asked,
        failed = first_failure(&mut children) => failed,
        never = args.watch() => never,
    };
    output::print_if_possible("devnet   | stopping\n");
    stopping.send_replace(true);
    while children.join_next().await.is_some() {}
    output::print_if_possible("devnet   | stopped\n");
    outcome.map(|()| Exit::Done)
}

/// The first child that cannot be kept running.
async fn first_failure(children: &mut JoinSet<Result<()>>) -> Result<()> {
    match children.join_next().await {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a child's watcher failed"),
        Some(Ok(Ok(()))) | None => bail!("a child ended without being asked to; start again"),
    }
}

fn port(base: u16, n: u16) -> Result<u16> {
    base.checked_add(n).with_context(|| format!("there are no ports above 65535; choose a base below {base}"))
}

impl DevnetArgs {
    /// Names the ports that other programs have, all at once, before anything is started.
    fn check_ports(&self) -> Result<()> {
        let blocks = [
            (self.api_port, self.nodes, false, "--api-port"),
            (self.rpc_port, self.nodes, false, "--rpc-port"),
            (self.grape_http_port, self.grapes, false, "--grape-http-port"),
            (self.dht_port, self.nodes, true, "--dht-port"),
            (self.grape_dht_port, self.grapes, true, "--grape-dht-port"),
        ];
        let mut ports = Vec::new();
        for (base, count, udp, flag) in blocks {
            for n in 0..count {
                ports.push(Port { at: (Ipv4Addr::LOCALHOST, port(base, n)?).into(), udp, flag });
            }
        }
        if let Some((taken, error)) = taken(ports.iter().copied()) {
            let all: Vec<String> =
                taken.iter().map(|port| format!("{} port {}", port.kind(), port.at.port())).collect();
            return Err(anyhow::Error::new(error).context(format!(
                "{} cannot be had; stop what uses them (another devnet? `make stop-all`), or choose other ports with {}",
                all.join(", "),
                flags(&taken)
            )));
        }
        for port in ports {
            port.bind().map_err(|error| {
                let next = advice(&error, port.flag);
                let what = format!("{} port {} cannot be had; {next}", port.kind(), port.at.port());
                anyhow::Error::new(error).context(what)
            })?;
        }
        Ok(())
    }

    fn grape_addresses(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        (0..self.grapes).map(|n| (n, format!("127.0.0.1:{}", self.grape_dht_port + n)))
    }

    /// The children, with the very command lines that one would type.
    fn tasks(&self, program: &Path) -> Vec<Task> {
        let task = |name: String, args: Vec<String>| Task { name, program: program.into(), args };
        let grape = |n: u16| {
            let others: Vec<String> =
                self.grape_addresses().filter(|(other, _)| *other != n).map(|(_, address)| address).collect();
            let line = [
                "grape".into(),
                "--dp".into(),
                (self.grape_dht_port + n).to_string(),
                "--aph".into(),
                (self.grape_http_port + n).to_string(),
                "--bn".into(),
                others.join(","),
                "-b".into(),
                "127.0.0.1".into(),
                "--data-dir".into(),
                self.data_dir.join(format!("grape-{}", n + 1)).display().to_string(),
            ];
            task(format!("grape-{}", n + 1), line.into())
        };
        let all: Vec<String> = self.grape_addresses().map(|(_, address)| address).collect();
        let node = |n: u16| {
            let line = [
                "node".into(),
                "--api".into(),
                format!("127.0.0.1:{}", self.api_port + n),
                "--rpc".into(),
                format!("127.0.0.1:{}", self.rpc_port + n),
                "--dht".into(),
                format!("127.0.0.1:{}", self.dht_port + n),
                "--bootstrap".into(),
                all.join(","),
                "--data-dir".into(),
                self.data_dir.join(format!("node-{}", n + 1)).display().to_string(),
                "--name".into(),
                format!("node-{}", n + 1),
                "--network".into(),
                self.network.to_string(),
            ];
            task(format!("node-{}", n + 1), line.into())
        };
        (0..self.grapes).map(grape).chain((0..self.nodes).map(node)).collect()
    }

    /// Says once when every node can trade. Never ends well: the network runs on.
    async fn watch(&self) -> Result<()> {
        // An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(ASK_WITHIN).no_proxy().build();
        let http = http.context("the HTTP client did not start")?;
        let started = std::time::Instant::now();
        let mut explained = false;
        for n in 0..self.nodes {
            let url = format!("http://127.0.0.1:{}/readyz", self.api_port + n);
            while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                if started.elapsed() > PATIENCE && !explained {
                    explained = true;
                    output::print_if_possible(&format!(
                        "devnet   | node-{} is not ready yet; {url} says why\n",
                        n + 1
                    ));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        output::print_if_possible(&format!(
            "devnet   | network ready: {} grapes, {} nodes; the first node's API is http://127.0.0.1:{}\n",
            self.grapes, self.nodes, self.api_port
        ));
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::net::TcpListener;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: DevnetArgs,
    }

    #[test]
    fn the_default_network_is_the_documented_one() {
        let args = Command::try_parse_from(["devnet"]).unwrap().args;
        let tasks = args.tasks(Path::new("vintner"));
        let lines: Vec<String> = tasks.iter().map(|task| task.args.join(" ")).collect();
        assert_eq!(
            lines[0],
            "grape --dp 20001 --aph 30001 --bn 127.0.0.1:20002,127.0.0.1:20003 -b 127.0.0.1 \
             --data-dir .vintner/devnet/grape-1"
        );
        assert_eq!(
            lines[5],
            "node --api 127.0.0.1:4002 --rpc 127.0.0.1:1339 --dht 127.0.0.1:20013 \
             --bootstrap 127.0.0.1:20001,127.0.0.1:20002,127.0.0.1:20003 --data-dir .vintner/devnet/node-3 --name node-3 \
             --network devnet"
        );
        assert_eq!(tasks.len(), 6);
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let line = ["devnet", "--nodes", "1", "--grapes", "1", "--api-port", &port];
        let error = Command::try_parse_from(line).unwrap().args.check_ports().unwrap_err().to_string();
        assert!(error.contains(&port) && error.contains("--api-port"), "{error}");
    }
}
