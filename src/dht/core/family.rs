//! IPv4 and IPv6: two networks of nodes (BEP32), one node in both.
//!
//! Each has its own table and its own lookups, because the nodes closest to a target are other ones in each; what is stored here is
//! served to both.

use std::net::SocketAddr;

/// One of the two networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Which network an address is of.
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Something that every network which this node takes part in has one of. There is always IPv4.
#[derive(Debug, Default)]
pub(in crate::dht) struct ByFamily<T> {
    v4: T,
    v6: Option<T>,
}

impl<T> ByFamily<T> {
    pub(in crate::dht) fn new(v6: bool, make: impl Fn(Family) -> T) -> Self {
        Self { v4: make(Family::V4), v6: v6.then(|| make(Family::V6)) }
    }

    /// Of two things that exist already.
    pub(in crate::dht) fn from_parts(v4: T, v6: Option<T>) -> Self {
        Self { v4, v6 }
    }

    /// None for a network that this node does not take part in.
    pub(in crate::dht) fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => Some(&self.v4),
            Family::V6 => self.v6.as_ref(),
        }
    }

    pub(in crate::dht) fn get_mut(&mut self, family: Family) -> Option<&mut T> {
        match family {
            Family::V4 => Some(&mut self.v4),
            Family::V6 => self.v6.as_mut(),
        }
    }

    pub(in crate::dht) fn of(&self, addr: &SocketAddr) -> Option<&T> {
        self.get(Family::of(addr))
    }

    pub(in crate::dht) fn of_mut(&mut self, addr: &SocketAddr) -> Option<&mut T> {
        self.get_mut(Family::of(addr))
    }

    pub(in crate::dht) fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        std::iter::once((Family::V4, &self.v4)).chain(self.v6.iter().map(|v6| (Family::V6, v6)))
    }

    pub(in crate::dht) fn each(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, one)| one)
    }

    pub(in crate::dht) fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.v4).chain(self.v6.as_mut())
    }
}
