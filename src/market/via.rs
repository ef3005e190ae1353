//! Which way a record came.

use crate::identity::ClientId;

/// Which way a record, or a maker's head, came to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// It was made here.
    Own,
    /// Through the DHT.
    Dht,
    /// A neighbour sent it on.
    Gossip(ClientId),
    /// It was asked for.
    Fetched(ClientId),
}

impl Via {
    /// The node that brought it.
    #[must_use]
    pub fn peer(self) -> Option<ClientId> {
        match self {
            Self::Gossip(peer) | Self::Fetched(peer) => Some(peer),
            Self::Own | Self::Dht => None,
        }
    }
}
