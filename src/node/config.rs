//! What a node is told at its start. Read from flags, environment and files by `cli` alone.

use crate::{exchange::MaxNotional, identity::Network};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

/// Settings of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The market. Nodes of different networks do not see each other's offers.
    pub network: Network,
    /// Where keys and the store are kept.
    pub data_dir: PathBuf,
    /// Where the other nodes' RPC is served; port 0 takes a free one.
    pub rpc: SocketAddr,
    /// The DHT's UDP socket; port 0 takes a free one.
    pub dht: SocketAddrV4,
    /// Take part in the IPv6 network too, with a socket bound there on the same port.
    pub dht_ipv6: Option<Ipv6Addr>,
    /// Follow the rules of the public network, BitTorrent's Mainline.
    pub mainline: bool,
    /// DHT nodes to start from, `host:port`; names are resolved each time.
    pub bootstrap: Vec<String>,
    /// Addresses at which other nodes reach this node's RPC, when they differ from `rpc`.
    pub advertise: Vec<SocketAddr>,
    /// Begin a new store although the key has had one, which is lost.
    pub new_store: bool,
    /// Whether loopback and private addresses of other nodes are connected to: only on test networks and inside containers.
    pub allow_private: bool,
    /// The most that one offer or bid of this node may be worth.
    pub max_notional: MaxNotional,
}

impl NodeConfig {
    /// A node on loopback with free ports, for tests and embedders.
    #[must_use]
    pub fn local(network: Network, data_dir: PathBuf, bootstrap: Vec<String>) -> Self {
        Self {
            network,
            data_dir,
            rpc: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dht: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
            dht_ipv6: None,
            mainline: false,
            new_store: false,
            bootstrap,
            advertise: Vec::new(),
            allow_private: true,
            max_notional: MaxNotional::default(),
        }
    }
}
