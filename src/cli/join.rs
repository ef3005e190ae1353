//! `vintner node --join`: a further node of the network that some node is in, in one line.
//!
//! That node is asked once, at the start: for its network, and for DHT nodes to start from. At its API it tells where its RPC is; at
//! its RPC it signs what it says. What was learnt is kept in the new node's data directory (`place`), so that the same line starts
//! the same node again, also while the node that it names is away.
//!
//! What is given beside `--join` stands, and where it contradicts what that node says, nothing is started.

mod place;

use self::place::{Memory, Place};
use super::{
    Exit,
    client::{Client, NoAnswer, Refused},
    exit::WrongUsage,
    settings::Settings,
};
use crate::{
    grenache::address::AddressPolicy,
    identity::{ClientId, Network},
    node::{clock, greeting},
};
use anyhow::{Result, anyhow, bail};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

/// How long the API may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one node that are tried.
const ADDRESSES_TRIED_MAX: usize = 5;

/// A node as it is named by `--join`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Its API, if it is one.
    url: String,
    host: String,
    port: u16,
    /// Whether the address may also be that of an RPC port.
    maybe_rpc: bool,
}

/// What the API says that matters here. Nodes of other versions may say more, or less.
#[derive(Debug, Deserialize)]
struct NodeAtApi {
    client_id: ClientId,
    network: Network,
    rpc: SocketAddr,
    #[serde(default)]
    advertised: Vec<SocketAddr>,
}

/// What was learnt of the network, and how this node may take part in it.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    /// `--join`, as it was given.
    join: String,
    network: Network,
    bootstrap: Vec<String>,
    /// Where this node listens unless told otherwise.
    listen: IpAddr,
    ipv6: bool,
    /// What to tell about how it was learnt.
    told: String,
}

/// Settings that are ready to be used.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) settings: Settings,
    /// What was chosen, for people, a line each.
    pub(super) notes: Vec<String>,
    chosen: Chosen,
    memory: Memory,
}

/// What was chosen here and not given.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    dir: bool,
    port: bool,
}

impl Settled {
    /// Whether another choice may help a node that ended so: another program was quicker.
    pub(super) fn may_choose_anew(&self, ended: Exit) -> bool {
        match ended {
            Exit::PortTaken => self.chosen.port,
            Exit::DataInUse => self.chosen.dir,
            _ => false,
        }
    }

    /// Keeps what the next start needs, in the data directory, once that is this node's.
    pub(super) fn remember(&self) {
        let Some(dir) = &self.settings.data_dir else { return };
        if let Err(error) = self.memory.save(dir) {
            tracing::warn!(%error, "what was learnt by --join is not kept; the next start asks again");
        }
    }
}

/// Asks the node that `--join` names. Where it is away and this machine has joined by it before, what it said then is used.
pub(super) async fn ask(given: &Settings) -> Result<Joining> {
    let join = given.join.clone().unwrap_or_default();
    let target = Target::parse(&join).map_err(WrongUsage::of)?;
    let asked = ask_target(&target, given.ipv6.unwrap_or(false)).await;
    let joining = match asked {
        Ok(found) => found.joining(join)?,
        Err(error) => match Memory::of(&join, given.data_dir.as_deref()) {
            Some((dir, memory)) if is_away(&error) => {
                let told = format!(
                    "nobody answers at {join}; this node starts from what it was told the last time ({})",
                    dir.display()
                );
                memory.joining(told)
            }
            _ => return Err(error),
        },
    };
    joining.agrees(given).map_err(WrongUsage::of)?;
    Ok(joining)
}

/// The settings of a node that has joined, without asking anybody: for commands that look at it.
pub(super) fn as_last_time(given: Settings) -> Result<Settings> {
    let join = given.join.clone().unwrap_or_default();
    let Some((dir, memory)) = Memory::of(&join, given.data_dir.as_deref()) else {
        bail!("no node here has joined by {join} yet; start it, or name its --data-dir");
    };
    Ok(memory.over(given, &dir))
}

/// Nobody there, which may be otherwise tomorrow.
fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(NoAnswer::Unreachable { .. } | NoAnswer::Silent { .. }))
            || cause.is::<Nobody>()
    })
}

/// The node does not answer in any way.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody answers at {at} ({reason}); start the node there, or name another one by the address of its API or its RPC"
)]
struct Nobody {
    at: String,
    reason: String,
}

impl NodeAtApi {
    fn is_who(&self, said: &greeting::Introduction) -> bool {
        self.client_id == said.client_id && self.network == said.network
    }
}

impl Target {
    /// Whether both texts name one node: `127.0.0.1:4000` is `http://127.0.0.1:4000`.
    fn are_same(one: &str, other: &str) -> bool {
        let place = |text| Self::parse(text).map(|target| (target.host, target.port));
        one == other || matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
    }

    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            anyhow!(
                "--join {text:?} names no node; write the address of its API or its RPC, such as 127.0.0.1:4000"
            )
        };
        let maybe_rpc = !text.contains("://");
        let url = if maybe_rpc { format!("http://{text}") } else { text.to_owned() };
        let parsed = reqwest::Url::parse(&url).map_err(|_| wrong())?;
        let bare =
            matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.username().is_empty();
        let host = parsed.host_str().filter(|_| matches!(parsed.scheme(), "http" | "https") && bare);
        let host = host.ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let named_port =
            text.rsplit_once(':').is_some_and(|(_, port)| port.trim_end_matches('/').parse::<u16>().is_ok());
        let port = parsed.port_or_known_default().filter(|port| *port != 0 && (named_port || !maybe_rpc));
        Ok(Self { url, host, port: port.ok_or_else(wrong)?, maybe_rpc })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|error| Nobody { at: self.host.clone(), reason: error.to_string() })?;
        Ok(found
            .map(|at| SocketAddr::new(at.ip().to_canonical(), at.port()))
            .take(ADDRESSES_TRIED_MAX)
            .collect())
    }
}

/// What a node said, and where it was asked.
struct Found {
    said: greeting::Introduction,
    ipv6: bool,
}

async fn ask_target(target: &Target, ipv6: bool) -> Result<Found> {
    let addresses = target.addresses().await?;
    let api = Client::at(&target.url, None, false)?;
    let asked = tokio::time::timeout(ANSWER_WITHIN, api.get::<NodeAtApi>("/api/v1/node", &[])).await;
    let no_api = match asked {
        Ok(Ok(node)) => return introduced(&at_rpc(&node, &addresses), target, ipv6, Some(&node)).await,
        Ok(Err(error)) => error,
        Err(_) => Nobody {
            at: target.url.clone(),
            reason: format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
        }
        .into(),
    };
    match no_api.downcast_ref() {
        Some(NoAnswer::Unreachable { reason, .. }) => {
            return Err(
                Nobody { at: format!("{}:{}", target.host, target.port), reason: reason.clone() }.into()
            );
        }
        Some(NoAnswer::Foreign { .. } | NoAnswer::Silent { .. }) | None => {}
    }
    match no_api.downcast_ref::<Refused>() {
        Some(refused) if refused.code() == "unauthorized" => bail!(
            "the API at {} asks for its token, which --join does not send; join by the address of that node's RPC instead \
             (`vintner status` shows it there), which asks for none",
            target.url
        ),
        Some(refused) => bail!(
            "the API at {} does not answer this machine: {refused}; join by the address of that node's RPC instead",
            target.url
        ),
        None if !target.maybe_rpc => bail!(
            "{} is not the API of a vintner node; name the node by ADDR:PORT, without a scheme, if that is its RPC",
            target.url
        ),
        None => {}
    }
    introduced(&addresses, target, ipv6, None).await
}

/// Where the RPC of a node may be that was asked at its API: where it listens, then where it says that others reach it.
///
/// Nothing that reaches less far than the API itself: 127.0.0.1 there is another machine's, and here somebody else.
fn at_rpc(node: &NodeAtApi, api: &[SocketAddr]) -> Vec<SocketAddr> {
    let listens: Vec<SocketAddr> = if node.rpc.ip().is_unspecified() {
        api.iter().map(|at| SocketAddr::new(at.ip(), node.rpc.port())).collect()
    } else {
        vec![node.rpc]
    };
    let mut all = Vec::new();
    let nearest = api.iter().filter_map(|at| Scope::of(*at)).min();
    for at in listens.into_iter().chain(node.advertised.iter().copied()) {
        if !all.contains(&at) && Scope::of(at).is_some() && Scope::of(at) >= nearest {
            all.push(at);
        }
    }
    all.truncate(ADDRESSES_TRIED_MAX);
    all
}

/// Asks at each address until one answers as a node: as the one whose API was asked, if it was.
async fn introduced(
    addresses: &[SocketAddr],
    target: &Target,
    ipv6: bool,
    at_api: Option<&NodeAtApi>,
) -> Result<Found> {
    let mut last = None;
    for address in addresses {
        match greeting::introduction(*address, clock::now).await {
            // A forwarded port: behind the same address there may be another node here.
            Ok(said) if at_api.is_some_and(|node| !node.is_who(&said)) => {
                let other = format!(
                    "another node answers there, {:.8} of network {}",
                    said.client_id.to_string(),
                    said.network
                );
                last = Some((address, other));
            }
            Ok(said) => {
                return Ok(Found { said, ipv6: ipv6 || (address.is_ipv6() && !address.ip().is_loopback()) });
            }
            Err(error) => last = Some((address, error.to_string())),
        }
    }
    let at = format!("{}:{}", target.host, target.port);
    Err(match last {
        Some((address, error)) if at_api.is_some() => anyhow!(
            "the node whose API is at {at} cannot be asked at its RPC, {address} ({error}); a node that joins must reach that \
             port and the DHT's, so check that they are open (in a container: published) to this machine"
        ),
        Some((_, error)) => anyhow!(
            "{at} is neither a node's API nor its RPC ({error}); write the address of one of the two, such as 127.0.0.1:4000"
        ),
        None if at_api.is_some() => anyhow!(
            "the node whose API is at {at} names no address at which this machine can reach its RPC; a node that joins must reach \
             that port, so start it with an --rpc address that is reached from here, or join by another node"
        ),
        None => Nobody { at, reason: "it has no address".into() }.into(),
    })
}

/// How far an address reaches: from this machine, from networks like this one, from everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Scope {
    Loopback,
    Private,
    Public,
}

impl Scope {
    /// `None`: nobody can be there.
    fn of(address: SocketAddr) -> Option<Self> {
        let allowed = |allow_private| AddressPolicy { allow_private }.allows(address);
        match (address.ip().to_canonical().is_loopback(), allowed(false), allowed(true)) {
            (true, ..) => Some(Self::Loopback),
            (_, true, _) => Some(Self::Public),
            (_, _, true) => Some(Self::Private),
            _ => None,
        }
    }
}

impl Found {
    fn joining(self, join: String) -> Result<Joining> {
        let Self { said, ipv6 } = self;
        let asked = said.address;
        let scope = Scope::of(asked).unwrap_or(Scope::Public);
        let bootstrap = to_start_from(&said.dht, asked, ipv6);
        if bootstrap.is_empty() {
            bail!(
                "the node at {asked} tells of no DHT node that can be reached from here; start it with a --dht address that \
                 this machine reaches, or join by another node"
            );
        }
        let listen = match scope {
            Scope::Loopback => Ipv4Addr::LOCALHOST.into(),
            // An address of this machine in that very network: others there reach it, and it is no address of everybody's.
            Scope::Private => towards(asked).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            Scope::Public => unspecified(asked.ip()),
        };
        let told = format!(
            "joining network {} by the node {:.8} at {asked}",
            said.network,
            said.client_id.to_string()
        );
        Ok(Joining { join, network: said.network, bootstrap, listen, ipv6, told })
    }
}

fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address of this machine from which `to` is reached. No packet is sent.
fn towards(to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((unspecified(to.ip()), 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

/// The DHT nodes that can be reached from where `asked` was: what is bound to every interface is there, what reaches less far is
/// left out.
fn to_start_from(told: &[SocketAddr], asked: SocketAddr, ipv6: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for at in told {
        let ip = if at.ip().is_unspecified() { asked.ip() } else { at.ip().to_canonical() };
        let at = SocketAddr::new(ip, at.port());
        let reaches = Scope::of(at) >= Scope::of(asked) && Scope::of(at).is_some() && (ipv6 || at.is_ipv4());
        if reaches && !all.contains(&at.to_string()) {
            all.push(at.to_string());
        }
    }
    all
}

impl Joining {
    /// Whether what is given beside `--join` says the same.
    fn agrees(&self, given: &Settings) -> Result<()> {
        let Self { join, network, bootstrap, .. } = self;
        if let Some(other) = given.network.as_ref().filter(|other| *other != network) {
            bail!(
                "the node at {join} is of network {network}, and --network says {other}; leave --network out, or join by a node \
                 of {other}"
            );
        }
        let other =
            given.bootstrap.as_ref().filter(|nodes| !nodes.iter().all(|node| bootstrap.contains(node)));
        if let Some(nodes) = other.or(given.bootstrap.as_ref().filter(|nodes| nodes.is_empty())) {
            bail!(
                "--bootstrap says {:?} and --join {join} says {:?}; leave one of the two out",
                nodes.join(","),
                bootstrap.join(",")
            );
        }
        Ok(())
    }

    /// Chooses what is not given: directory and ports that are free now.
    pub(super) fn settle(&self, given: Settings) -> Result<Settled> {
        let mut notes = vec![self.told.clone()];
        let place = Place::choose(self, &given, &mut notes)?;
        let port = given.api.is_none() || given.rpc.is_none() || given.dht.is_none();
        let chosen = Chosen { dir: given.data_dir.is_none(), port };
        let memory = place.memory(self);
        let settings = Settings {
            join: None,
            network: Some(self.network.clone()),
            bootstrap: given.bootstrap.clone().or_else(|| Some(self.bootstrap.clone())),
            ipv6: given.ipv6.or(Some(self.ipv6)),
            data_dir: Some(place.dir),
            api: Some(place.api),
            rpc: Some(place.rpc),
            dht: Some(place.dht),
            ..given
        };
        Ok(Settled { settings, notes, chosen, memory })
    }
}

#[cfg(test)]
mod tests;
