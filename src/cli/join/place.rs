//! Where a node that joins lives: its directory under the network's name, its ports, and the note of both.

use super::{Joining, Target, towards};
use crate::{
    cli::{
        path::UserPath,
        settings::{API_PORT, DHT_PORT, RPC_PORT, Settings},
    },
    identity::Network,
    store::{self, keyfile},
};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Where the directories of nodes that joined are, one for each network.
const BASE: &str = ".vintner/joined";
/// The note's name in a data directory.
const FILE: &str = "join.toml";
/// Nodes of one network below [`BASE`]; beyond it their owner says where they live.
const NODES_MAX: u32 = 100;
/// Ports that are tried after a default one.
const PORTS_TRIED_MAX: u16 = 200;

/// What a node that joined keeps for its next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// By whom it joined, as `--join` said it.
    join: String,
    network: Network,
    bootstrap: Vec<String>,
    listen: IpAddr,
    ipv6: bool,
    api: SocketAddr,
    rpc: SocketAddr,
    dht: SocketAddrV4,
}

/// A directory, and ports.
pub(super) struct Place {
    pub(super) dir: UserPath,
    pub(super) api: SocketAddr,
    pub(super) rpc: SocketAddr,
    pub(super) dht: SocketAddrV4,
}

impl Memory {
    /// What the first node that joined by `join` keeps, and where: in `given`, or else in one of the directories of this program,
    /// one that no running node has before the others.
    pub(super) fn of(join: &str, given: Option<&Path>) -> Option<(PathBuf, Self)> {
        let dirs = given.map_or_else(all_dirs, |dir| vec![dir.to_owned()]);
        let read = dirs.into_iter().filter_map(|dir| Self::read(&dir).map(|memory| (dir, memory)));
        let mut same: Vec<_> = read.filter(|(_, memory)| Target::are_same(&memory.join, join)).collect();
        same.sort_by_key(|(dir, _)| !is_free(dir));
        same.into_iter().next()
    }

    /// What is kept in `dir`. A note that cannot be read is none: the node is asked again.
    fn read(dir: &Path) -> Option<Self> {
        toml::from_str(&fs::read_to_string(dir.join(FILE)).ok()?).ok()
    }

    /// Writes it into `dir`: a crash leaves the old note or the new one.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let new = dir.join(format!("{FILE}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(new, dir.join(FILE))
    }

    /// As if the node had been asked.
    pub(super) fn joining(self, told: String) -> Joining {
        let Self { join, network, bootstrap, mut listen, ipv6, .. } = self;
        if !listen.is_loopback() && !listen.is_unspecified() {
            // This machine, or container, may have another address by now.
            let first = bootstrap.first().and_then(|node| node.parse().ok());
            listen = first.and_then(towards).unwrap_or(listen);
        }
        Joining { join, network, bootstrap, listen, ipv6, told }
    }

    /// The settings that the node in `dir` had, under those that are given.
    pub(super) fn over(self, given: Settings, dir: &Path) -> Settings {
        Settings {
            join: None,
            network: given.network.or(Some(self.network)),
            bootstrap: given.bootstrap.or(Some(self.bootstrap)),
            ipv6: given.ipv6.or(Some(self.ipv6)),
            data_dir: given.data_dir.or(Some(UserPath::of(dir))),
            api: given.api.or(Some(self.api)),
            rpc: given.rpc.or(Some(self.rpc)),
            dht: given.dht.or(Some(self.dht)),
            ..given
        }
    }
}

impl Place {
    /// What is given stands; the rest is as the last time where that is free, else the defaults, else what comes after them.
    pub(super) fn choose(joining: &Joining, given: &Settings, notes: &mut Vec<String>) -> Result<Self> {
        let dir = match &given.data_dir {
            Some(dir) => dir.clone(),
            None => free_dir(&joining.network, &joining.join)?,
        };
        notes.push(format!("its data is in {}", dir.display()));
        let last = Memory::read(&dir).filter(|memory| memory.listen == joining.listen);
        let mut port = |name: &str, flag: &str, default: SocketAddr, last: Option<SocketAddr>, kind: Kind| {
            let wanted = last.unwrap_or(default);
            let found = free_port(wanted, default, kind).with_context(|| {
                format!("no port for {name} is free at {default} or after it; choose one with {flag}")
            })?;
            if found != wanted {
                let kind = if kind == Kind::Udp { "UDP" } else { "TCP" };
                notes.push(format!("{kind} {wanted} is taken: {name} takes {found}"));
            }
            anyhow::Ok(found)
        };
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT));
        let rpc = SocketAddr::new(joining.listen, RPC_PORT);
        // The DHT's socket is an IPv4 one; with --ipv6 there is a second on the same port.
        let ip = match joining.listen {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let dht = SocketAddr::from((ip, DHT_PORT));
        let last = last.as_ref();
        let api = match given.api {
            Some(api) => api,
            None => port("the API", "--api", local, last.map(|last| last.api), Kind::Tcp { but: given.rpc })?,
        };
        let rpc = match given.rpc {
            Some(rpc) => rpc,
            None => port("the RPC", "--rpc", rpc, last.map(|last| last.rpc), Kind::Tcp { but: Some(api) })?,
        };
        let dht = match given.dht {
            Some(dht) => dht,
            None => match port("the DHT", "--dht", dht, last.map(|last| last.dht.into()), Kind::Udp)? {
                SocketAddr::V4(dht) => dht,
                SocketAddr::V6(_) => bail!("the DHT's socket is an IPv4 one; choose it with --dht"),
            },
        };
        Ok(Self { dir, api, rpc, dht })
    }

    pub(super) fn memory(&self, joining: &Joining) -> Memory {
        let Joining { join, network, bootstrap, listen, ipv6, .. } = joining.clone();
        let Self { api, rpc, dht, .. } = *self;
        Memory { join, network, bootstrap, listen, ipv6, api, rpc, dht }
    }
}

fn dir_of(network: &Network, n: u32) -> PathBuf {
    Path::new(BASE).join(network.as_str()).join(format!("node-{n}"))
}

/// The directory of a node that this very line started before and that does not run, else the first that is nobody's. Never one of
/// another line: with its key and its offers the node would be somebody else.
fn free_dir(network: &Network, join: &str) -> Result<UserPath> {
    let dirs = || (1..=NODES_MAX).map(|n| dir_of(network, n));
    let is_of_this_line =
        |dir: &PathBuf| Memory::read(dir).is_some_and(|memory| Target::are_same(&memory.join, join));
    let mut same = dirs().filter(is_of_this_line);
    let mut nobodys = dirs().filter(|dir| !dir.join(FILE).exists() && !dir.join(keyfile::KEY_FILE).exists());
    let free = same.find(|dir| is_free(dir)).or_else(|| nobodys.find(|dir| is_free(dir)));
    let free = free.with_context(|| {
        format!("{NODES_MAX} nodes of network {network} live below {BASE}; give this one a directory with --data-dir")
    })?;
    Ok(UserPath::of(&free))
}

/// Whether a node may start there. One that cannot be looked at is somebody else's.
fn is_free(dir: &Path) -> bool {
    store::holder(dir).is_ok_and(|holder| holder.is_none())
}

/// All that there are, of all networks, in order.
fn all_dirs() -> Vec<PathBuf> {
    let networks = fs::read_dir(BASE).into_iter().flatten().flatten();
    let mut networks: Vec<Network> =
        networks.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    networks.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let dirs = networks.iter().flat_map(|network| (1..=NODES_MAX).map(|n| dir_of(network, n)));
    dirs.filter(|dir| dir.join(FILE).exists()).collect()
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udp,
    /// One of the two that the node listens on: not that of the other, which is free only until the node has it.
    Tcp {
        but: Option<SocketAddr>,
    },
}

/// `wanted`, or the first that is free from `default` on.
fn free_port(wanted: SocketAddr, default: SocketAddr, kind: Kind) -> Option<SocketAddr> {
    let after = (0..PORTS_TRIED_MAX).filter_map(|n| default.port().checked_add(n));
    let all = std::iter::once(wanted).chain(after.map(|port| SocketAddr::new(default.ip(), port)));
    all.into_iter().find(|at| match kind {
        Kind::Udp => UdpSocket::bind(at).is_ok(),
        // By the port alone: on every interface it is taken on each.
        Kind::Tcp { but } => but.is_none_or(|but| but.port() != at.port()) && TcpListener::bind(at).is_ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that is free, and below those that the system gives to whoever asks for any.
    fn free() -> SocketAddr {
        let first = 10_000 + u16::try_from(std::process::id() % 1_000).unwrap();
        let mut all = (first..12_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        all.find(|at| TcpListener::bind(at).is_ok()).unwrap()
    }

    #[test]
    fn api_and_rpc_never_choose_the_same_port() {
        let wanted = free();
        let choose = |but| free_port(wanted, wanted, Kind::Tcp { but });
        assert_eq!(choose(None), Some(wanted));
        assert_eq!(choose(Some(SocketAddr::new(wanted.ip(), 1))), Some(wanted));
        for given in [wanted, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.port())] {
            let found = choose(Some(given)).unwrap();
            assert!(found.port() > wanted.port(), "{found} beside {given}");
        }
        // The DHT's socket is another kind: it may have the number that a listener has.
        let _taken = TcpListener::bind(wanted).unwrap();
        assert_eq!(free_port(wanted, wanted, Kind::Udp), Some(wanted));
        assert_ne!(choose(None), Some(wanted));
    }
}
