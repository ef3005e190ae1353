//! The UDP socket. Where the system can, many datagrams leave in one system call, and arrive in one.
//!
//! A datagram's way through the kernel costs more than all that is computed about it. A busy node sends each of its neighbours many
//! queries and answers of the same form at once: Linux takes those as one large one, cuts it as late as it can (`UDP_SEGMENT`; on
//! loopback never), and hands several out together (`UDP_GRO`). Those of different nodes or sizes go their own way through the
//! network stack, but into the kernel and out of it together (`sendmmsg`, `recvmmsg`). On the wire nothing changes.

use self::system::{receive, receive_one, send_alike, send_each};
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};
use tokio::net::UdpSocket;

/// The largest datagram there is, and the most that arrives of one node at once.
const RECEIVE_BYTES_MAX: usize = 65_536;
/// What one system call takes: from so many nodes, or so many datagrams that came alone. Each has a buffer, of which the system makes
/// only those pages real that are written to.
const RECEIVED_AT_ONCE: usize = if cfg!(target_os = "linux") { 32 } else { 1 };
/// What the system should keep of what arrives while the node is busy; most give less. Linux keeps 270 small datagrams for a socket
/// that does not ask, and twice that at once for one that does.
const BACKLOG_BYTES: usize = 4 << 20;
/// Different datagrams in one send.
const SENT_AT_ONCE: usize = 64;
/// Datagrams in one send: Linux takes so many since it takes several at all.
const SEGMENTS_MAX: usize = 64;
/// Bytes in one send: they count as one datagram until they are cut.
const SEGMENTS_BYTES_MAX: usize = 65_000;

type Datagram<'a> = (SocketAddr, &'a [u8]);

/// A bound socket.
pub(super) struct Socket {
    udp: UdpSocket,
    /// Whether the system takes several datagrams at once.
    segments: bool,
    buffers: Vec<u8>,
    received: Vec<Received>,
    pace: Pace,
}

/// How datagrams have come lately. To ask for many at once costs more than to ask for one, so that it is done while there are many.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nothing came last time.
    Quiet,
    One,
    Many,
}

/// Something that arrived: one datagram, or several of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received {
    from: Option<SocketAddr>,
    bytes: usize,
    /// The size of each but the last, which may be shorter; at least 1.
    each: usize,
}

impl Socket {
    /// Takes over a bound socket, inside the runtime that will wait for it.
    pub(super) fn new(udp: std::net::UdpSocket) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        if let Err(error) = socket2::SockRef::from(&udp).set_recv_buffer_size(BACKLOG_BYTES) {
            tracing::debug!(%error, "the system keeps what it likes of what arrives at once");
        }
        let udp = UdpSocket::from_std(udp)?;
        let segments = system::prepare(&udp);
        let buffers = vec![0; RECEIVED_AT_ONCE * RECEIVE_BYTES_MAX];
        Ok(Self { udp, segments, buffers, received: Vec::with_capacity(RECEIVED_AT_ONCE), pace: Pace::Quiet })
    }

    /// Waits until something may have arrived.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// Takes what arrived next, if anything: how many datagrams it was.
    pub(super) fn try_receive(&mut self, mut take: impl FnMut(SocketAddr, &[u8])) -> io::Result<usize> {
        self.received.clear();
        let outcome = match self.pace {
            Pace::Many => receive(&self.udp, &mut self.buffers, &mut self.received),
            Pace::One | Pace::Quiet => {
                receive_one(&self.udp, &mut self.buffers).map(|one| self.received.push(one))
            }
        };
        self.pace = match (self.received.len(), self.pace) {
            (0, Pace::Many) => Pace::Many,
            (0, _) => Pace::Quiet,
            (1, Pace::Quiet | Pace::Many) => Pace::One,
            _ => Pace::Many,
        };
        outcome?;
        let mut count = 0;
        for (Received { from, bytes, each }, buffer) in
            self.received.iter().zip(self.buffers.chunks_exact(RECEIVE_BYTES_MAX))
        {
            count += bytes.div_ceil(*each).max(1);
            let Some(from) = *from else { continue };
            if *bytes == 0 {
                // An empty datagram is one too.
                take(from, &[]);
            }
            buffer[..*bytes].chunks(*each).for_each(|datagram| take(from, datagram));
        }
        Ok(count)
    }

    /// Sends datagrams. Those to one node and of one size go together and in order; the others' order is not kept, as the
    /// network does not either.
    pub(super) async fn send<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>) {
        let mut all: Vec<Datagram<'a>> = datagrams.collect();
        let kind = |(to, bytes): &Datagram<'a>| (*to, bytes.len());
        let mut different = Vec::new();
        if self.segments {
            all.sort_by_key(kind);
        }
        for alike in all.chunk_by(|a, b| kind(a) == kind(b)) {
            let size = alike.first().map_or(1, |(_, bytes)| bytes.len().max(1));
            for some in alike.chunks(SEGMENTS_MAX.min(SEGMENTS_BYTES_MAX / size).max(1)) {
                if !self.send_together(some).await {
                    different.extend_from_slice(some);
                }
            }
        }
        self.send_different(&different).await;
    }

    /// Sends datagrams that are alike as one, if there are several and the system can.
    async fn send_together(&mut self, alike: &[Datagram<'_>]) -> bool {
        if !self.segments || alike.len() < 2 {
            return false;
        }
        let sent = self.attempt(|udp| send_alike(udp, alike)).await;
        if let Err(error) = &sent {
            // The way there cannot: by a device that does no checksums, or over a link that these datagrams have to be cut for.
            tracing::debug!(%error, "datagrams could not be sent together");
            self.segments = error.kind() == ErrorKind::InvalidInput;
        }
        sent.is_ok()
    }

    async fn send_different(&self, mut rest: &[Datagram<'_>]) {
        while let Some((to, bytes)) = rest.first() {
            let some = &rest[..rest.len().min(SENT_AT_ONCE)];
            let sent = match some {
                [_] => self.attempt(|udp| udp.try_send_to(bytes, *to)).await.map(|_| 1),
                _ => self.attempt(|udp| send_each(udp, some)).await,
            };
            // An error is about the first of them.
            let sent = sent.unwrap_or_else(|error| {
                tracing::debug!(%to, %error, "a datagram could not be sent");
                1
            });
            rest = &rest[sent.clamp(1, some.len())..];
        }
    }

    /// Sends at once, or when there is room.
    async fn attempt<T>(&self, send: impl Fn(&UdpSocket) -> io::Result<T>) -> io::Result<T> {
        loop {
            match send(&self.udp) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.udp.writable().await?,
                sent => return sent,
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Datagram, RECEIVE_BYTES_MAX, RECEIVED_AT_ONCE, Received, UdpSocket};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg,
        recvmsg, sendmmsg, sendmsg, setsockopt, sockopt::UdpGroSegment,
    };
    use std::{
        array,
        io::{self, ErrorKind, IoSlice, IoSliceMut},
        net::{SocketAddr, SocketAddrV4},
        os::fd::AsRawFd,
    };
    use tokio::io::Interest;

    /// Asks for several datagrams at once. Linux before 5.0 cannot.
    pub(super) fn prepare(udp: &UdpSocket) -> bool {
        setsockopt(udp, UdpGroSegment, &true).is_ok()
    }

    pub(super) fn receive_one(udp: &UdpSocket, buffers: &mut [u8]) -> io::Result<Received> {
        udp.try_io(Interest::READABLE, || {
            let mut lengths = nix::cmsg_space!(i32);
            let mut parts = [IoSliceMut::new(&mut buffers[..RECEIVE_BYTES_MAX])];
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(received(recvmsg(udp.as_raw_fd(), &mut parts, Some(&mut lengths), flags)?))
        })
    }

    pub(super) fn receive(udp: &UdpSocket, buffers: &mut [u8], into: &mut Vec<Received>) -> io::Result<()> {
        let outcome = udp.try_io(Interest::READABLE, || {
            // The kernel changes the lengths in them, so that they serve once only.
            let lengths = Some(nix::cmsg_space!(i32));
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(RECEIVED_AT_ONCE, lengths);
            let mut buffers = buffers.chunks_exact_mut(RECEIVE_BYTES_MAX);
            let mut parts: [_; RECEIVED_AT_ONCE] =
                array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
            let flags = MsgFlags::MSG_DONTWAIT;
            into.extend(recvmmsg(udp.as_raw_fd(), &mut headers, &mut parts, flags, None)?.map(received));
            // Less than there is room for: nothing is left. To say so here saves the call that would find out.
            if into.len() < RECEIVED_AT_ONCE { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if into.is_empty() { outcome } else { Ok(()) }
    }

    /// Without a sender where the system does not say how long each datagram is: those are not looked at.
    fn received(message: RecvMsg<'_, '_, SockaddrStorage>) -> Received {
        let each = message.cmsgs().map(|mut said| {
            said.find_map(|said| match said {
                ControlMessageOwned::UdpGroSegments(each) => usize::try_from(each).ok(),
                _ => None,
            })
        });
        let from = message.address.as_ref().and_then(address).filter(|_| each.is_ok());
        let each = each.ok().flatten().unwrap_or(message.bytes).max(1);
        Received { from, bytes: message.bytes, each }
    }

    /// The sender, without what belongs to the link and not to the node (flow label, scope).
    fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = || from.as_sockaddr_in().map(|from| SocketAddrV4::from(*from).into());
        let v6 = || from.as_sockaddr_in6().map(|from| SocketAddr::new(from.ip().into(), from.port()));
        v4().or_else(v6)
    }

    pub(super) fn send_alike(udp: &UdpSocket, alike: &[Datagram<'_>]) -> io::Result<()> {
        let Some(&(to, first)) = alike.first() else { return Ok(()) };
        let parts: Vec<IoSlice<'_>> = alike.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
        // No datagram of ours is longer than its 16-bit length allows.
        let size = first.len() as u16;
        let control = [ControlMessage::UdpGsoSegments(&size)];
        udp.try_io(Interest::WRITABLE, || {
            let to = SockaddrStorage::from(to);
            sendmsg(udp.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
            Ok(())
        })
    }

    /// Sends as many of them as there is room for: at least one, or it is an error, about the first.
    pub(super) fn send_each(udp: &UdpSocket, different: &[Datagram<'_>]) -> io::Result<usize> {
        let parts: Vec<[IoSlice<'_>; 1]> = different.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
        let to: Vec<_> = different.iter().map(|(to, _)| Some(SockaddrStorage::from(*to))).collect();
        let mut headers = MultiHeaders::preallocate(different.len(), None);
        udp.try_io(Interest::WRITABLE, || {
            let sent = sendmmsg(udp.as_raw_fd(), &mut headers, &parts, to, [], MsgFlags::MSG_DONTWAIT)?;
            Ok(sent.count())
        })
    }
}

/// One datagram a call.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Datagram, Received, UdpSocket};
    use std::{io, net::SocketAddr};

    pub(super) fn prepare(_: &UdpSocket) -> bool {
        false
    }

    pub(super) fn receive_one(udp: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
        let (bytes, from) = udp.try_recv_from(buffer)?;
        let from = SocketAddr::new(from.ip(), from.port());
        Ok(Received { from: Some(from), bytes, each: bytes.max(1) })
    }

    pub(super) fn receive(udp: &UdpSocket, buffer: &mut [u8], into: &mut Vec<Received>) -> io::Result<()> {
        into.push(receive_one(udp, buffer)?);
        Ok(())
    }

    pub(super) fn send_each(udp: &UdpSocket, different: &[Datagram<'_>]) -> io::Result<usize> {
        match different.first() {
            Some((to, bytes)) => udp.try_send_to(bytes, *to).map(|_| 1),
            None => Ok(0),
        }
    }

    pub(super) fn send_alike(_: &UdpSocket, _: &[Datagram<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::BTreeMap,
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
        time::Duration,
    };

    fn bound() -> (Socket, SocketAddr) {
        bound_to(Ipv4Addr::LOCALHOST.into())
    }

    fn bound_to(ip: IpAddr) -> (Socket, SocketAddr) {
        let udp = std::net::UdpSocket::bind((ip, 0)).unwrap();
        let addr = udp.local_addr().unwrap();
        (Socket::new(udp).unwrap(), addr)
    }

    async fn take(socket: &mut Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            tokio::time::timeout(Duration::from_secs(5), socket.readable()).await.unwrap().unwrap();
            while let Ok(some) = socket.try_receive(|from, bytes| taken.push((from, bytes.to_vec()))) {
                assert!((1..=SEGMENTS_MAX * RECEIVED_AT_ONCE).contains(&some));
            }
        }
        taken
    }

    /// Datagrams of many sizes and two receivers, with more of one size than go together.
    #[tokio::test]
    async fn every_datagram_arrives_whole_and_those_alike_in_order() {
        for segments in [true, false] {
            let ((mut from, sender), (mut a, to_a), (mut b, to_b)) = (bound(), bound(), bound());
            from.segments &= segments;
            let sizes = [4, 90, 4, 1400, 91, 90];
            let sent: Vec<(SocketAddr, Vec<u8>)> = (0..200u32)
                .map(|n| {
                    let mut bytes = n.to_be_bytes().to_vec();
                    bytes.resize(if n > 60 { 100 } else { sizes[n as usize % sizes.len()] }, n as u8);
                    (if n % 5 == 0 { to_b } else { to_a }, bytes)
                })
                .collect();
            from.send(sent.iter().map(|(to, bytes)| (*to, &bytes[..]))).await;
            assert_eq!(from.segments, segments && cfg!(target_os = "linux"));
            for (socket, to) in [(&mut a, to_a), (&mut b, to_b)] {
                let wanted: Vec<&Vec<u8>> =
                    sent.iter().filter(|(other, _)| *other == to).map(|(_, bytes)| bytes).collect();
                let taken = take(socket, wanted.len()).await;
                assert!(taken.iter().all(|(from, _)| *from == sender));
                let by_size = |all: Vec<&Vec<u8>>| {
                    let mut sizes = BTreeMap::<usize, Vec<Vec<u8>>>::new();
                    for bytes in all {
                        sizes.entry(bytes.len()).or_default().push(bytes.clone());
                    }
                    sizes
                };
                assert_eq!(by_size(taken.iter().map(|(_, bytes)| bytes).collect()), by_size(wanted));
            }
        }
    }

    #[tokio::test]
    async fn an_empty_datagram_is_one_too() {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let ((mut to, addr), (mut from, sender)) = (bound_to(ip), bound_to(ip));
            from.send([(addr, &b""[..]), (addr, b"x"), (addr, b"y")].into_iter()).await;
            let taken = take(&mut to, 3).await;
            let mut sizes: Vec<usize> = taken.iter().map(|(_, bytes)| bytes.len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [0, 1, 1]);
            assert!(taken.iter().all(|(from, _)| *from == sender));
        }
    }
}
