//! Node ids and their distance to a target of any length.

use crate::identity::{decode_hex, encode_hex};
use std::{cmp::Ordering, fmt, net::SocketAddr, str::FromStr};

/// Bytes of a node id, and as many bytes of a target as its distance looks at.
pub const ID_BYTES: usize = 20;

/// Who a DHT node is, written as 40 hex digits. It is tied to an address: keep it for as long as `ip:port` stays the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; ID_BYTES]);

/// Text that is not 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a DHT node id of 40 hex digits")]
pub struct NodeIdError;

impl NodeId {
    /// How many leading bits two ids share: 0 to 160.
    pub(super) fn shared_bits(&self, other: &Self) -> usize {
        for (at, (a, b)) in self.0.iter().zip(&other.0).enumerate() {
            if a != b {
                return at * 8 + (a ^ b).leading_zeros() as usize;
            }
        }
        ID_BYTES * 8
    }

    /// The first 20 bytes of a target, a shorter one filled up with zeros: where in the id space it lies.
    pub(super) fn of_target(target: &[u8]) -> Self {
        let mut id = [0; ID_BYTES];
        let len = target.len().min(ID_BYTES);
        id[..len].copy_from_slice(&target[..len]);
        Self(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_hex(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        decode_hex(text).map(Self).ok_or(NodeIdError)
    }
}

/// Which of two ids is nearer to a target of any length. Only the target's own first 20 bytes count: beyond the end of a short
/// target all ids are equally far, and a stable sort leaves them in the order in which they came.
pub(super) fn nearer(target: &[u8], a: &NodeId, b: &NodeId) -> Ordering {
    // Of a target that is long enough, its first eight bytes decide nearly always.
    let head = |bytes: &[u8]| bytes.first_chunk().map(|head| u64::from_be_bytes(*head));
    if let (Some(t), Some(a), Some(b)) = (head(target), head(&a.0), head(&b.0))
        && a != b
    {
        return (t ^ a).cmp(&(t ^ b));
    }
    for ((t, a), b) in target.iter().zip(&a.0).zip(&b.0) {
        match (t ^ a).cmp(&(t ^ b)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// A node and where it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Its id.
    pub id: NodeId,
    /// Its UDP address.
    pub addr: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, second: u8) -> NodeId {
        let mut id = [0; 20];
        (id[0], id[1]) = (first, second);
        NodeId(id)
    }

    #[test]
    fn distance_looks_at_no_more_than_the_target_has() {
        assert_eq!(nearer(b"", &id(1, 0), &id(200, 0)), Ordering::Equal);
        assert_eq!(nearer(&[0], &id(1, 200), &id(1, 0)), Ordering::Equal);
        assert_eq!(nearer(&[0, 0], &id(1, 200), &id(1, 0)), Ordering::Greater);
        assert_eq!(nearer(&[255; 900], &id(255, 1), &id(254, 255)), Ordering::Less);
    }

    #[test]
    fn shared_bits_count_from_the_left() {
        assert_eq!(id(0, 0).shared_bits(&id(128, 0)), 0);
        assert_eq!(id(0, 0).shared_bits(&id(0, 1)), 15);
        assert_eq!(id(7, 7).shared_bits(&id(7, 7)), 160);
    }
}
