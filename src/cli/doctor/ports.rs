//! The three ports: free, ours, or taken by somebody else?

use super::{
    clocks::Peers,
    report::Report,
    running::{Running, reachable},
};
use crate::cli::settings::Effective;
use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, UdpSocket},
};

/// One port: what it is for, and the flag that chooses another.
struct Port {
    name: &'static str,
    flag: &'static str,
    protocol: &'static str,
    address: SocketAddr,
}

/// Tries each: binding it is the very thing that a start needs, and it is let go of at once.
pub(super) async fn check(settings: &Effective, running: &Running, peers: &Peers, report: &mut Report) {
    let api = Port { name: "API port", flag: "--api", protocol: "TCP", address: settings.api };
    let rpc = Port { name: "RPC port", flag: "--rpc", protocol: "TCP", address: settings.rpc };
    let dht = Port { name: "DHT port", flag: "--dht", protocol: "UDP", address: settings.dht.into() };
    if let Running::Ours(node) = running {
        report.ok(api.name, format!("TCP {}: the running node answers", api.address));
        rpc_answers(node.rpc, node.client_id, peers, report).await;
        report.ok(dht.name, format!("UDP {}: the running node's", node.dht.address));
        return;
    }
    for port in [api, rpc, dht] {
        port.check(running, report);
    }
}

impl Port {
    fn check(&self, running: &Running, report: &mut Report) {
        let Self { name, flag, protocol, address } = self;
        if address.port() == 0 {
            report.ok(name, format!("{protocol} {address}: a free one is taken at each start"));
            return;
        }
        let Err(error) = self.bind() else {
            report.ok(name, format!("{protocol} {address} is free"));
            return;
        };
        match error.kind() {
            ErrorKind::AddrInUse => {
                let by = match running {
                    Running::Other(dir) if *name == "API port" => {
                        format!("by the vintner node whose data is in {dir}")
                    }
                    Running::Locked if *name == "API port" => {
                        "by a vintner node that asks for a token".to_owned()
                    }
                    _ => "by another program".to_owned(),
                };
                let kind = if *protocol == "TCP" { "t" } else { "u" };
                let next = format!(
                    "stop it (`ss -ln{kind}p 'sport = :{}'` names it), or choose another port with {flag}",
                    address.port()
                );
                report.failed(name, format!("{protocol} {address} is taken {by}"), next);
            }
            ErrorKind::AddrNotAvailable => report.failed(
                name,
                format!("{} is no address of this machine", address.ip()),
                format!("choose one that `ip addr` shows, or 0.0.0.0 for all, with {flag}"),
            ),
            ErrorKind::PermissionDenied => report.failed(
                name,
                format!("this user may not listen on {protocol} {address}"),
                format!("choose a port above 1023 with {flag}"),
            ),
            _ => report.failed(
                name,
                format!("cannot listen on {protocol} {address}: {error}"),
                format!("choose another address with {flag}"),
            ),
        }
    }

    fn bind(&self) -> io::Result<()> {
        match self.protocol {
            "TCP" => TcpListener::bind(self.address).map(drop),
            _ => UdpSocket::bind(self.address).map(drop),
        }
    }
}

/// The running node's RPC, asked as another node asks it.
async fn rpc_answers(
    address: SocketAddr,
    client_id: crate::identity::ClientId,
    peers: &Peers,
    report: &mut Report,
) {
    const NAME: &str = "RPC port";
    match peers.ask_own(reachable(address)).await {
        Ok(met) if met.client_id == client_id => {
            report.ok(NAME, format!("TCP {address}: the running node answers a signed hello"));
        }
        Ok(met) => report.failed(
            NAME,
            format!("TCP {address}: client {} answers, not the running node", met.client_id),
            "stop what uses the port, or choose another with --rpc",
        ),
        Err(reason) => report.failed(
            NAME,
            format!("TCP {address}: the running node does not answer other nodes: {reason}"),
            "look at the node's log, and start it again",
        ),
    }
}
