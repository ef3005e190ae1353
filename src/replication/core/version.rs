//! What replicas compare: which version of which record somebody holds.

use crate::{
    bep44::{MutableItem, Target},
    time::UnixMillis,
};
use sha2::{Digest, Sha256};

/// Bytes of a [`ValueHash`].
const VALUE_HASH_BYTES: usize = 16;

/// The first half of SHA-256 over a record's value. The signature is left out: a maker can make many for one value, and replicas
/// that hold different ones hold the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueHash(pub [u8; VALUE_HASH_BYTES]);

impl ValueHash {
    /// Of a bencoded value.
    #[must_use]
    pub fn of(v: &[u8]) -> Self {
        Self(half(Sha256::digest(v)))
    }
}

/// A version of some record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// The newest wins.
    pub sequence: u64,
    /// Two of one sequence that differ here are a proof of fraud.
    pub value: ValueHash,
}

impl Version {
    /// What everybody who knows that a maker contradicts itself holds of that record.
    pub const FRAUD: Self = Self { sequence: u64::MAX, value: ValueHash([0xff; VALUE_HASH_BYTES]) };

    /// Whether a head that says until then all that is held counts this, too.
    #[must_use]
    pub fn is_counted(&self, until: Option<UnixMillis>) -> bool {
        until.is_some_and(|until| *self == Self::FRAUD || self.sequence <= until.0)
    }

    /// Of an item, if its sequence is one that a record may have.
    #[must_use]
    pub fn of(item: &MutableItem) -> Option<Self> {
        let sequence = u64::try_from(item.seq).ok()?;
        Some(Self { sequence, value: ValueHash::of(&item.v) })
    }
}

/// A version of this record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp {
    /// The record.
    pub target: Target,
    /// The version.
    pub version: Version,
}

/// The first half of SHA-256 over everything that an item is, its signature too: what tells two copies on their way to be
/// checked apart, so that a forged one does not stand in for a genuine one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CopyHash([u8; VALUE_HASH_BYTES]);

impl CopyHash {
    /// Of a record, and of its other value if it has one.
    #[must_use]
    pub fn of_items<'a>(items: impl IntoIterator<Item = &'a MutableItem>) -> Self {
        let mut hash = Sha256::new();
        for item in items {
            hash.update(item.k.0);
            hash.update(item.seq.to_be_bytes());
            hash.update(item.sig.0);
            hash.update((item.v.len() as u64).to_be_bytes());
            hash.update(&item.v);
        }
        Self(half(hash.finalize()))
    }

    /// Of a head as it came.
    #[must_use]
    pub fn of_head(bytes: &[u8]) -> Self {
        Self(half(Sha256::digest(bytes)))
    }
}

fn half(hash: impl AsRef<[u8]>) -> [u8; VALUE_HASH_BYTES] {
    let mut half = [0; VALUE_HASH_BYTES];
    half.copy_from_slice(&hash.as_ref()[..VALUE_HASH_BYTES]);
    half
}
