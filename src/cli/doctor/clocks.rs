//! This machine's clock beside other nodes': what they sign with their answer to a hello.

use super::{files::Files, report::Report};
use crate::{
    cli::settings::Effective,
    grenache::{
        address::AddressPolicy,
        client::{CallError, Client, ClientConfig},
        envelope::CLOCK_SKEW_MAX,
    },
    identity::{KeyPair, Network},
    node::{
        clock,
        greeting::{Greeted, greet},
    },
    time::UnixMillis,
    workers::Workers,
};
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinSet;

/// Nodes asked: half of them can be wrong before the middle one is.
const ASKED_MAX: usize = 9;
/// How long one may take.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// Machines that keep time by NTP are milliseconds apart; half a way around the world adds a part of a second.
const DIFFERENCE_WARNING: Duration = Duration::from_secs(5);

/// Who asks: a client with a key of the moment, so that the node's own key is not needed.
pub(super) struct Peers {
    key: KeyPair,
    network: Network,
    allow_private: bool,
    /// The node that is examined, which must not be compared with itself.
    own: Option<String>,
}

impl Peers {
    pub(super) fn new(settings: &Effective, files: &Files) -> Self {
        let mut seed = [0; 32];
        // Without randomness the key is a known one: nothing that it signs is worth forging.
        let _ = getrandom::fill(&mut seed);
        Self {
            key: KeyPair::from_seed(&seed),
            network: settings.network.clone(),
            allow_private: settings.allow_private,
            own: files.client_id.clone(),
        }
    }

    /// Asks the examined node itself, wherever it listens.
    pub(super) async fn ask_own(&self, address: SocketAddr) -> Result<Greeted, String> {
        let client = self.client(true).map_err(|error| error.to_string())?;
        let asked = greet(&client, &self.key, &self.network, address, clock::now);
        match tokio::time::timeout(ASK_WITHIN, asked).await {
            Ok(met) => met.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ASK_WITHIN.as_secs())),
        }
    }

    fn client(&self, allow_private: bool) -> anyhow::Result<Client> {
        let policy = AddressPolicy { allow_private };
        let config = ClientConfig { network: self.network.clone(), policy, timeout: ASK_WITHIN };
        Ok(Client::new(config, Workers::start(1)?)?)
    }

    /// How far others' clocks are ahead of this machine's, in milliseconds, sorted.
    async fn differences(
        &self,
        addresses: Vec<SocketAddr>,
        now: &(dyn Fn() -> UnixMillis + Sync),
    ) -> anyhow::Result<Vec<i64>> {
        let client = self.client(self.allow_private)?;
        // What `now` says is asked here once, so that the tasks need only its distance from the system's clock.
        let shift = now().since(clock::now());
        let mut asked = JoinSet::new();
        for address in addresses.into_iter().take(ASKED_MAX) {
            let (client, key, network) = (client.clone(), self.key.clone(), self.network.clone());
            asked.spawn(async move {
                let asked = greet(&client, &key, &network, address, || clock::now().plus(shift));
                tokio::time::timeout(ASK_WITHIN, asked).await
            });
        }
        let mut differences = Vec::new();
        while let Some(done) = asked.join_next().await {
            match done {
                Ok(Ok(Ok(met))) if self.own.as_deref() != Some(&met.client_id.to_string()) => {
                    differences.push(met.ahead_ms);
                }
                Ok(Ok(Err(error @ CallError::NotBelieved { .. }))) => tracing::debug!(%error, "not compared"),
                _ => {}
            }
        }
        differences.sort_unstable();
        Ok(differences)
    }
}

/// Compares.
pub(super) async fn check(
    peers: &Peers,
    addresses: Vec<SocketAddr>,
    now: &(dyn Fn() -> UnixMillis + Sync),
    report: &mut Report,
) {
    const NAME: &str = "clock";
    let differences = match peers.differences(addresses, now).await {
        Ok(differences) => differences,
        Err(error) => return report.error(NAME, error),
    };
    let by = "set it by the network's time: `timedatectl set-ntp true`";
    let Some(middle) = differences.get(differences.len() / 2).copied() else {
        report.warning(
            NAME,
            format!(
                "it shows {}; no other node of network {} answered to compare it with",
                now(),
                peers.network
            ),
            format!("check it yourself, or {by}"),
        );
        return;
    };
    let apart = Duration::from_millis(middle.unsigned_abs());
    let (whom, than) = match differences.len() {
        1 => ("1 other node".to_owned(), "one of the two clocks is wrong"),
        n => (format!("{n} other nodes"), "bids and offers are refused as too old or from the future"),
    };
    let side = if middle < 0 { "ahead of" } else { "behind" };
    let detail = format!("it is {} {side} {whom}", words(apart));
    if apart > CLOCK_SKEW_MAX {
        report.failed(NAME, format!("{detail}: {than}"), by);
    } else if apart > DIFFERENCE_WARNING {
        report.warning(NAME, detail, by);
    } else {
        report.ok(NAME, format!("it is {} ms from {whom}", apart.as_millis()));
    }
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
