//! Reading and writing what nodes tell each other: big-endian integers, lengths before what is long, and nothing left over.

use crate::{
    bep44::{MutableItem, Target, V_BYTES_MAX},
    identity::{PublicKey, Signature},
    time::{UNIX_MILLIS_MAX, UnixMillis},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Takes bytes from the front.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("more bytes than were announced")) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("fewer bytes than announced"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("fewer bytes than announced"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub(super) fn millis(&mut self) -> Result<UnixMillis, Malformed> {
        let at = UnixMillis(self.u64()?);
        if at <= UNIX_MILLIS_MAX { Ok(at) } else { Err(Malformed("a time after the last one")) }
    }

    pub(super) fn target(&mut self) -> Result<Target, Malformed> {
        self.array().map(Target)
    }

    pub(super) fn address(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed("an address that is neither IPv4 nor IPv6")),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// Something with its length before it.
    pub(super) fn long(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        if len > max { Err(Malformed("something that is longer than it may be")) } else { self.slice(len) }
    }

    /// `count` things, when that many can be in what is left.
    pub(super) fn list<T>(
        &mut self,
        max: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::from(self.u16()?);
        // Each thing has a byte at least: nothing is reserved that cannot come.
        if count > max || count > self.0.len() {
            return Err(Malformed("a list that is longer than it may be"));
        }
        (0..count).map(|_| one(self)).collect()
    }

    /// A record: an item without salt.
    pub(super) fn item(&mut self) -> Result<MutableItem, Malformed> {
        let k = PublicKey(self.array()?);
        let seq = i64::from_be_bytes(self.array()?);
        let sig = Signature(self.array()?);
        let v = self.long(V_BYTES_MAX)?.into();
        Ok(MutableItem { k, seq, v, sig, salt: [].into() })
    }
}

/// Puts bytes at the end.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn written(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    pub(super) fn u16(&mut self, n: u16) {
        self.bytes(&n.to_be_bytes());
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.bytes(&n.to_be_bytes());
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.bytes(&n.to_be_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.bytes(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.bytes(&ip.octets());
            }
        }
        self.u16(address.port());
    }

    /// The callers keep to their readers' limits, which are far below what a length can say.
    pub(super) fn long(&mut self, bytes: &[u8]) {
        self.u16(bytes.len() as u16);
        self.bytes(bytes);
    }

    pub(super) fn list<T>(&mut self, things: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.u16(things.len() as u16);
        for thing in things {
            one(self, thing);
        }
    }

    pub(super) fn item(&mut self, item: &MutableItem) {
        self.bytes(&item.k.0);
        self.bytes(&item.seq.to_be_bytes());
        self.bytes(&item.sig.0);
        self.long(&item.v);
    }
}
