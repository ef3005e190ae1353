//! The UDP socket. Where the system can, datagrams of one size to one node leave in one system call, and arrive in one.
//!
//! A busy node sends each of its neighbours many queries and answers of the same form at once, and a datagram's way through the
//! kernel costs more than all that is computed about it. Linux takes several as one large one, cuts it as late as it can
//! (`UDP_SEGMENT`; on loopback never), and hands several out together (`UDP_GRO`). On the wire nothing changes.

use self::system::{receive, send_alike};
use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};
use tokio::net::UdpSocket;

/// The largest datagram there is, and the most that arrives at once. One buffer of this size serves them all.
pub(super) const RECEIVE_BYTES_MAX: usize = 65_536;
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
    control: system::Control,
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
        let udp = UdpSocket::from_std(udp)?;
        let segments = system::prepare(&udp);
        Ok(Self { udp, segments, control: system::control() })
    }

    /// Waits until something may have arrived.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// Takes what arrived next, if anything: how many datagrams it was.
    pub(super) fn try_receive(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let Received { from, bytes, each } = receive(&self.udp, buffer, &mut self.control)?;
        let Some(from) = from else { return Ok(1) };
        let datagrams = buffer[..bytes].chunks(each);
        let count = datagrams.len();
        datagrams.for_each(|datagram| take(from, datagram));
        if count == 0 {
            // An empty datagram is one too.
            take(from, &[]);
        }
        Ok(count.max(1))
    }

    /// Sends datagrams. Those to one node and of one size go together and in order; the others' order is not kept, as the
    /// network does not either.
    pub(super) async fn send<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>) {
        let mut all: Vec<Datagram<'a>> = datagrams.collect();
        let kind = |(to, bytes): &Datagram<'a>| (*to, bytes.len());
        if self.segments {
            all.sort_by_key(kind);
        }
        for alike in all.chunk_by(|a, b| kind(a) == kind(b)) {
            let size = alike.first().map_or(1, |(_, bytes)| bytes.len().max(1));
            for some in alike.chunks(SEGMENTS_MAX.min(SEGMENTS_BYTES_MAX / size).max(1)) {
                self.send_some(some).await;
            }
        }
    }

    async fn send_some(&mut self, alike: &[Datagram<'_>]) {
        if self.segments && alike.len() > 1 {
            match self.attempt(|udp| send_alike(udp, alike)).await {
                Ok(()) => return,
                // The way there cannot: by a device that does no checksums, or over a link that these datagrams have to be cut for.
                Err(error) => {
                    tracing::debug!(%error, "datagrams could not be sent together");
                    self.segments = error.kind() == ErrorKind::InvalidInput;
                }
            }
        }
        for (to, bytes) in alike {
            if let Err(error) = self.attempt(|udp| udp.try_send_to(bytes, *to).map(|_| ())).await {
                tracing::debug!(%to, %error, "a datagram could not be sent");
            }
        }
    }

    /// Sends at once, or when there is room.
    async fn attempt(&self, send: impl Fn(&UdpSocket) -> io::Result<()>) -> io::Result<()> {
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
    use super::{Datagram, Received, UdpSocket};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
        sockopt::UdpGroSegment,
    };
    use std::{
        io::{self, IoSlice, IoSliceMut},
        net::{SocketAddr, SocketAddrV4},
        os::fd::AsRawFd,
    };
    use tokio::io::Interest;

    /// Where the system says how long each datagram is.
    pub(super) type Control = Vec<u8>;

    pub(super) fn control() -> Control {
        nix::cmsg_space!(i32)
    }

    /// Asks for several datagrams at once. Linux before 5.0 cannot.
    pub(super) fn prepare(udp: &UdpSocket) -> bool {
        setsockopt(udp, UdpGroSegment, &true).is_ok()
    }

    pub(super) fn receive(udp: &UdpSocket, buffer: &mut [u8], control: &mut Control) -> io::Result<Received> {
        udp.try_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::empty();
            let message = recvmsg::<SockaddrStorage>(udp.as_raw_fd(), &mut parts, Some(control), flags)?;
            let each = message.cmsgs()?.find_map(|said| match said {
                ControlMessageOwned::UdpGroSegments(each) => usize::try_from(each).ok(),
                _ => None,
            });
            let from = message.address.as_ref().and_then(address);
            Ok(Received { from, bytes: message.bytes, each: each.unwrap_or(message.bytes).max(1) })
        })
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
}

/// One datagram a call.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Datagram, Received, UdpSocket};
    use std::{io, net::SocketAddr};

    pub(super) type Control = ();

    pub(super) fn control() -> Control {}

    pub(super) fn prepare(_: &UdpSocket) -> bool {
        false
    }

    pub(super) fn receive(udp: &UdpSocket, buffer: &mut [u8], (): &mut Control) -> io::Result<Received> {
        let (bytes, from) = udp.try_recv_from(buffer)?;
        let from = SocketAddr::new(from.ip(), from.port());
        Ok(Received { from: Some(from), bytes, each: bytes.max(1) })
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
        let (mut buffer, mut taken) = (vec![0; RECEIVE_BYTES_MAX], Vec::new());
        while taken.len() < count {
            tokio::time::timeout(Duration::from_secs(5), socket.readable()).await.unwrap().unwrap();
            while let Ok(some) =
                socket.try_receive(&mut buffer, |from, bytes| taken.push((from, bytes.to_vec())))
            {
                assert!((1..=SEGMENTS_MAX).contains(&some));
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
            assert_eq!(taken.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [0, 1, 1]);
            assert!(taken.iter().all(|(from, _)| *from == sender));
        }
    }
}
