//! Records: what is kept of an item, a peer, an own announcement. Pure.
//!
//! A kind, the time at which its life began (Unix milliseconds, little endian), and its fields. What is variable stands last or
//! has its length before it. An item's value is kept as it came, bencoded.

use crate::{
    bep44::{MutableItem, SALT_BYTES_MAX, VerifiedItem},
    dht::{Item, NAME_BYTES_MAX},
    identity::{PublicKey, Signature},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

const IMMUTABLE: u8 = b'i';
const MUTABLE: u8 = b'm';
const PEER: u8 = b'p';
const OWN: u8 = b'o';
/// A value is at most 1,000 bytes of content, a little more when bencoded.
const VALUE_BYTES_MAX: usize = 1100;

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Item(Item),
    Peer {
        name: Arc<[u8]>,
        addr: SocketAddr,
    },
    /// A service that was announced through this grape.
    Own {
        name: Arc<[u8]>,
        port: u16,
    },
}

impl Record {
    /// Writes it with the time at which its life began.
    pub(super) fn write(&self, since_ms: u64, out: &mut Vec<u8>) {
        let mut head = |kind| {
            out.push(kind);
            out.extend_from_slice(&since_ms.to_le_bytes());
        };
        match self {
            Self::Item(Item::Immutable(v)) => {
                head(IMMUTABLE);
                out.extend_from_slice(v);
            }
            Self::Item(Item::Mutable(item)) => {
                head(MUTABLE);
                out.extend_from_slice(&item.k.0);
                out.extend_from_slice(&item.sig.0);
                out.extend_from_slice(&item.seq.to_le_bytes());
                out.push(item.salt.len() as u8);
                out.extend_from_slice(&item.salt);
                out.extend_from_slice(&item.v);
            }
            Self::Peer { name, addr } => {
                head(PEER);
                match addr.ip() {
                    IpAddr::V4(ip) => {
                        out.push(4);
                        out.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.push(6);
                        out.extend_from_slice(&ip.octets());
                    }
                }
                out.extend_from_slice(&addr.port().to_le_bytes());
                out.extend_from_slice(name);
            }
            Self::Own { name, port } => {
                head(OWN);
                out.extend_from_slice(&port.to_le_bytes());
                out.extend_from_slice(name);
            }
        }
    }

    /// Reads one, with the time at which its life began.
    pub(super) fn read(bytes: &[u8]) -> Option<(u64, Self)> {
        let mut bytes = Bytes(bytes);
        let [kind] = bytes.take()?;
        let since_ms = u64::from_le_bytes(bytes.take()?);
        let record = match kind {
            IMMUTABLE => Self::Item(Item::Immutable(bytes.rest(VALUE_BYTES_MAX)?)),
            MUTABLE => {
                let (k, sig) = (PublicKey(bytes.take()?), Signature(bytes.take()?));
                let seq = i64::from_le_bytes(bytes.take()?);
                let [salt] = bytes.take()?;
                let salt = bytes.some(salt.into()).filter(|salt| salt.len() <= SALT_BYTES_MAX)?.into();
                let v = bytes.rest(VALUE_BYTES_MAX)?;
                let item = MutableItem { k, seq, v, sig, salt };
                Self::Item(Item::Mutable(VerifiedItem::from_own_store(item)))
            }
            PEER => {
                let ip = match bytes.take()? {
                    [4] => IpAddr::V4(Ipv4Addr::from(bytes.take::<4>()?)),
                    [6] => IpAddr::V6(Ipv6Addr::from(bytes.take::<16>()?)),
                    _ => return None,
                };
                let port = u16::from_le_bytes(bytes.take()?);
                Self::Peer { name: bytes.rest(NAME_BYTES_MAX)?, addr: SocketAddr::new(ip, port) }
            }
            OWN => Self::Own { port: u16::from_le_bytes(bytes.take()?), name: bytes.rest(NAME_BYTES_MAX)? },
            _ => return None,
        };
        Some((since_ms, record))
    }
}

/// What is left to read.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn some(&mut self, count: usize) -> Option<&'b [u8]> {
        let (some, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(some)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.some(N)?.try_into().ok()
    }

    fn rest(&mut self, max: usize) -> Option<Arc<[u8]>> {
        (self.0.len() <= max).then(|| self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bep44::bencode_bytes, grape::frame, identity::KeyPair};
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let name = || prop::collection::vec(any::<u8>(), 0..NAME_BYTES_MAX).prop_map(Arc::from);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..1000)
                .prop_map(|v| Record::Item(Item::Immutable(bencode_bytes(&v)))),
            (
                any::<i64>(),
                prop::collection::vec(any::<u8>(), 0..=64),
                prop::collection::vec(any::<u8>(), 0..990)
            )
                .prop_map(|(seq, salt, v)| {
                    let key = KeyPair::from_seed(&[3; 32]);
                    Record::Item(Item::Mutable(
                        VerifiedItem::sign(&key, &salt, seq, bencode_bytes(&v)).unwrap(),
                    ))
                }),
            (name(), any::<SocketAddr>()).prop_map(|(name, addr)| Record::Peer {
                name,
                // The scope and flow of an address are a machine's own.
                addr: SocketAddr::new(addr.ip(), addr.port())
            }),
            (name(), any::<u16>()).prop_map(|(name, port)| Record::Own { name, port }),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(record in record(), since_ms: u64) {
            let mut bytes = Vec::new();
            record.write(since_ms, &mut bytes);
            prop_assert!(bytes.len() <= frame::PAYLOAD_BYTES_MAX);
            prop_assert_eq!(Record::read(&bytes), Some((since_ms, record)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, kind in prop::sample::select(&b"impo?"[..])) {
            let _ = Record::read(&[&[kind], &bytes[..]].concat());
        }
    }
}
