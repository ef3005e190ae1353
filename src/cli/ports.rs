//! Ports that a command is about to listen on, looked at together, so that all that are taken are named at once.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, UdpSocket},
};

/// A port, and the flag that chooses another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) at: SocketAddr,
    pub(super) udp: bool,
    pub(super) flag: &'static str,
}

impl Port {
    pub(super) fn tcp(at: SocketAddr, flag: &'static str) -> Self {
        Self { at, udp: false, flag }
    }

    pub(super) fn udp(at: SocketAddr, flag: &'static str) -> Self {
        Self { at, udp: true, flag }
    }

    /// Tries it: binding is the very thing that a start needs, and it is let go of at once.
    pub(super) fn bind(self) -> io::Result<()> {
        if self.udp { UdpSocket::bind(self.at).map(drop) } else { TcpListener::bind(self.at).map(drop) }
    }

    pub(super) fn kind(self) -> &'static str {
        if self.udp { "UDP" } else { "TCP" }
    }
}

/// Those of `ports` that other programs have, in their order, with what the system said of the first. Whatever else is wrong with
/// a port is for the start itself to say.
pub(super) fn taken(ports: impl IntoIterator<Item = Port>) -> Option<(Vec<Port>, io::Error)> {
    let (mut all, mut first) = (Vec::new(), None);
    for port in ports {
        if let Err(error) = port.bind()
            && error.kind() == ErrorKind::AddrInUse
        {
            all.push(port);
            first.get_or_insert(error);
        }
    }
    first.map(|error| (all, error))
}

/// The flags of these ports, each once.
pub(super) fn flags(ports: &[Port]) -> String {
    let mut flags: Vec<&str> = ports.iter().map(|port| port.flag).collect();
    flags.dedup();
    flags.join(", ")
}
