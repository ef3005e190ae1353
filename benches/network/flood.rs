//! Datagrams a second: one thread with many sockets, one query under way of each, the next as soon as it is answered.
//!
//! Every socket is a node of its own to the one that is measured: it has an id, and answers when it is asked whether it is there.
//! So that one has a table to answer from, and no two datagrams share their way through the kernel.

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};
use vintner::dht::{
    NodeId,
    core::krpc::{self, Answer, Message, Reply},
};

/// Sockets. Of small datagrams, Linux keeps about 270 for a socket that does not say how many it wants: more than this many together
/// would be lost before the node could see them.
pub(super) const PEERS: usize = 256;
/// A query that is not answered for so long is lost.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 2048;

/// What to send, and what to think of the answer.
pub(super) trait Queries {
    /// Appends the next query, with this transaction id and of this node; false when there is none left.
    fn write_next(&mut self, t: [u8; 4], own: &NodeId, out: &mut Vec<u8>) -> bool;
    /// Whether the answer is right.
    fn is_right(&self, reply: &Reply<'_>) -> bool;
}

/// What a flood found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answered {
    pub(super) right: u64,
    pub(super) wrong: u64,
    /// Queries without an answer.
    pub(super) lost: u64,
    pub(super) elapsed: Duration,
}

struct Peer {
    socket: UdpSocket,
    id: NodeId,
    /// The query that waits for its answer, and since when.
    waits: Option<([u8; 4], Instant)>,
}

/// The sockets, and the node that they ask.
pub(super) struct Flood {
    peers: Vec<Peer>,
    node: SocketAddrV4,
    serial: u32,
}

impl Flood {
    pub(super) fn new(node: SocketAddrV4) -> Result<Self> {
        // Random, but the same in each run.
        let mut rng = StdRng::seed_from_u64(PEERS as u64);
        let peer = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no UDP port is free")?;
            socket.set_nonblocking(true)?;
            // Then the system looks for the way there only once.
            socket.connect(node)?;
            Ok(Peer { socket, id: NodeId(rng.random()), waits: None })
        };
        Ok(Self { peers: (0..PEERS).map(peer).collect::<Result<_>>()?, node, serial: 0 })
    }

    /// So many peers ask until there is no query left or the time is over; then the answers that are under way are waited for.
    pub(super) fn run(
        &mut self,
        queries: &mut impl Queries,
        asking: usize,
        time: Duration,
    ) -> Result<Answered> {
        let mut answered = Answered::default();
        let (mut datagram, mut buffer) = (Vec::new(), [0; ANSWER_BYTES_MAX]);
        let started = Instant::now();
        let mut asks = true;
        while asks || self.peers.iter().any(|peer| peer.waits.is_some()) {
            let now = Instant::now();
            asks &= now.duration_since(started) < time;
            for (n, peer) in self.peers.iter_mut().enumerate() {
                peer.take(queries, now, self.node, &mut buffer, &mut answered)?;
                if asks && peer.waits.is_none() && n < asking {
                    self.serial = self.serial.wrapping_add(1);
                    let t = self.serial.to_be_bytes();
                    datagram.clear();
                    asks = queries.write_next(t, &peer.id, &mut datagram);
                    if asks {
                        peer.socket.send(&datagram).context("a query could not be sent")?;
                        peer.waits = Some((t, now));
                    }
                }
            }
        }
        answered.elapsed = started.elapsed();
        Ok(answered)
    }
}

impl Peer {
    /// Takes what has arrived, and notices what will not.
    fn take(
        &mut self,
        queries: &impl Queries,
        now: Instant,
        node: SocketAddrV4,
        buffer: &mut [u8],
        answered: &mut Answered,
    ) -> Result<()> {
        let bytes = match self.socket.recv(buffer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.waits.is_some_and(|(_, since)| now.duration_since(since) > LOST_AFTER) {
                    answered.lost += 1;
                    self.waits = None;
                }
                return Ok(());
            }
            Err(error) => return Err(error).context("an answer could not be received"),
        };
        let waits_for = |t: &[u8]| self.waits.is_some_and(|(waiting, _)| waiting == t);
        match krpc::decode(&buffer[..bytes]) {
            // It wants to know who talks to it.
            Some(Message::Query { t, .. }) => {
                let mut out = Vec::new();
                krpc::write_reply(&mut out, t, &self.id, node.into(), &Answer::default());
                self.socket.send(&out).context("an answer could not be sent")?;
            }
            Some(Message::Reply { t, reply, .. }) if waits_for(t) && queries.is_right(&reply) => {
                answered.right += 1;
                self.waits = None;
            }
            Some(Message::Reply { t, .. } | Message::Error { t, .. }) if waits_for(t) => {
                answered.wrong += 1;
                self.waits = None;
            }
            // The answer to a query that was given up.
            Some(Message::Reply { .. } | Message::Error { .. }) => {}
            None => answered.wrong += 1,
        }
        Ok(())
    }
}
