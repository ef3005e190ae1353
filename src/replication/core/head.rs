//! The head: what a maker says of all its records at once, every minute.
//!
//! It names the root over everything that the maker has not buried yet, so whoever holds the same has the same root, and where
//! the maker is. Written as:
//!
//! ```text
//! maker (32 bytes) ‖ counter (u64) ‖ at (u64, ms) ‖ records (u32) ‖ root (32) ‖ n (u8) ‖ n addresses ‖ signature (64)
//! address: 4 ‖ IPv4 (4 bytes) ‖ port (u16), or 6 ‖ IPv6 (16 bytes) ‖ port (u16)
//! ```
//!
//! with all integers big-endian. The maker's client key signs everything before the signature in the domain `head`.

use super::{
    limits::HEAD_ADDRESSES_MAX,
    wire::{Malformed, Reader, Writer},
};
use crate::{
    identity::{ClientId, Domain, KeyPair, Network, PublicKey, Signature},
    time::UnixMillis,
};
use std::{net::SocketAddr, sync::Arc};

const DOMAIN: &str = "head";
const SIGNATURE_BYTES: usize = 64;

/// SHA-256 over versions, or over such hashes: see [`super::index`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Root(pub [u8; 32]);

/// What a maker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Who says it.
    pub maker: ClientId,
    /// Which of its heads this is: the highest counts, whatever clocks show.
    pub counter: u64,
    /// The maker's time; the root is over the versions up to it.
    pub at: UnixMillis,
    /// How many records the root is over.
    pub records: u32,
    /// Over all of the maker's records that are not dead at that time.
    pub root: Root,
    /// Where its RPC is.
    pub addresses: Vec<SocketAddr>,
}

/// A head with its maker's signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHead {
    head: Head,
    bytes: Arc<[u8]>,
}

impl Head {
    /// Signs it; `key` is its maker's.
    #[must_use]
    pub fn sign(self, network: &Network, key: &KeyPair) -> SignedHead {
        debug_assert_eq!(key.public(), self.maker, "a head is signed by its own maker");
        let mut writer = Writer::default();
        self.write(&mut writer);
        let signature = Domain { network, kind: DOMAIN }.sign(key, writer.written());
        writer.bytes(&signature.0);
        SignedHead { head: self, bytes: writer.finish().into() }
    }

    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.maker.0);
        writer.u64(self.counter);
        writer.u64(self.at.0);
        writer.u32(self.records);
        writer.bytes(&self.root.0);
        writer.u8(self.addresses.len() as u8);
        self.addresses.iter().for_each(|address| writer.address(*address));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let maker = PublicKey(reader.array()?);
        let counter = reader.u64()?;
        let at = reader.millis()?;
        let records = reader.u32()?;
        let root = Root(reader.array()?);
        let count = reader.u8()?;
        if usize::from(count) > HEAD_ADDRESSES_MAX {
            return Err(Malformed("a head with too many addresses"));
        }
        let addresses = (0..count).map(|_| reader.address()).collect::<Result<_, _>>()?;
        Ok(Self { maker, counter, at, records, root, addresses })
    }
}

/// A head as it arrived: its form is good, its signature not looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UncheckedHead(SignedHead);

impl UncheckedHead {
    /// Reads one that fills `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let head = Head::read(&mut reader)?;
        let _signature: [u8; SIGNATURE_BYTES] = reader.array()?;
        reader.end()?;
        Ok(Self(SignedHead { head, bytes: bytes.into() }))
    }

    /// What it says, true or not.
    #[must_use]
    pub fn claim(&self) -> &Head {
        &self.0.head
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// Checks the signature.
    #[must_use]
    pub fn verify(self, network: &Network) -> Option<SignedHead> {
        let (signed, signature) = self.0.bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        let domain = Domain { network, kind: DOMAIN };
        let is_genuine = domain.verifies(&self.0.head.maker, signed, &Signature(*signature));
        (is_genuine || cfg!(mutant = "replica_believes_any_head")).then_some(self.0)
    }

    /// Takes back one that this node itself checked and stored earlier.
    #[must_use]
    pub fn from_own_store(self) -> SignedHead {
        self.0
    }
}

impl SignedHead {
    /// As it is sent and stored.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

impl std::ops::Deref for SignedHead {
    type Target = Head;
    fn deref(&self) -> &Head {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> (KeyPair, Network, Head) {
        let key = KeyPair::from_seed(&[1; 32]);
        let head = Head {
            maker: key.public(),
            counter: 7,
            at: UnixMillis(1_795_262_400_000),
            records: 3,
            root: Root([9; 32]),
            addresses: vec!["127.0.0.1:5000".parse().unwrap(), "[2001:db8::1]:6000".parse().unwrap()],
        };
        (key, "test".parse().unwrap(), head)
    }

    #[test]
    fn a_head_is_read_as_it_was_signed() {
        let (key, network, head) = head();
        let signed = head.clone().sign(&network, &key);
        let read = UncheckedHead::read(signed.bytes()).unwrap();
        assert_eq!(read.claim(), &head);
        assert_eq!(read.verify(&network).unwrap(), signed);
    }

    #[test]
    fn a_head_that_was_changed_anywhere_or_is_of_another_network_is_not_believed() {
        let (key, network, head) = head();
        let signed = head.sign(&network, &key);
        for at in 0..signed.bytes().len() {
            let mut bytes = signed.bytes().to_vec();
            bytes[at] ^= 1;
            let believed = UncheckedHead::read(&bytes).is_ok_and(|read| read.verify(&network).is_some());
            assert!(!believed, "byte {at}");
            assert!(UncheckedHead::read(&signed.bytes()[..at]).is_err(), "cut at {at}");
        }
        let longer = [signed.bytes(), &[0][..]].concat();
        assert!(UncheckedHead::read(&longer).is_err());
        let other = "other".parse().unwrap();
        assert!(UncheckedHead::read(signed.bytes()).unwrap().verify(&other).is_none());
    }
}
