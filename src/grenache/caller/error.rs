//! Why a request has no answer, and whether it can have arrived: who pays or trades must know the difference.

use crate::grenache::wire::WireError;
use std::{net::SocketAddr, time::Duration};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no address to send it to.
    #[error("nobody is announced under this name; look it up again in a moment")]
    Nobody,
    /// The address is in a range that strangers must not send this node to.
    #[error(
        "{0} is not an address that this node connects to; private ranges must be allowed in its settings"
    )]
    AddressRefused(SocketAddr),
    /// The request cannot be signed or framed.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    /// No connection was made, so the request was not sent.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The deadline passed; the request may have arrived.
    #[error("{address} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke; the request may have arrived.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// What the HTTP client said.
        reason: String,
    },
    /// What came back is no reply to this request.
    #[error("{address} answered with something that is no reply: {reason}")]
    NotAReply {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
}

impl RequestError {
    /// True when the request certainly did not arrive. Otherwise its sender is in doubt and must ask again with the same id.
    pub fn never_sent(&self) -> bool {
        matches!(
            self,
            Self::Nobody | Self::AddressRefused(_) | Self::Unsendable(_) | Self::Unreachable { .. }
        )
    }

    /// The word under which it is counted.
    pub(in crate::grenache) fn outcome(&self) -> &'static str {
        match self {
            Self::Nobody | Self::Unsendable(_) => "unsendable",
            Self::AddressRefused(_) => "address_refused",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Broken { .. } => "broken",
            Self::NotAReply { .. } => "not_a_reply",
        }
    }
}

impl From<WireError> for RequestError {
    fn from(error: WireError) -> Self {
        Self::Unsendable(error.to_string())
    }
}
