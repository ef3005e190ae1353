//! What a request is read as, with nothing done about it: for those who check the reader, which are the fuzz targets.

use super::{
    path::{Operation, operation_of},
    request::{self, Announce, Failure, Get, Put},
    respond_failure,
};
use crate::bep44::MutableItem;
use std::sync::Arc;

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Announce a service.
    Announce {
        /// Its name.
        name: Vec<u8>,
        /// Its port.
        port: u16,
    },
    /// Find services.
    Lookup {
        /// Their name.
        name: String,
    },
    /// Store a value (bencoded).
    PutImmutable(Arc<[u8]>),
    /// Store a signed value; its signature is not checked yet.
    PutMutable {
        /// The item.
        item: MutableItem,
        /// Only over this version.
        cas: Option<i64>,
    },
    /// Find a value.
    Get {
        /// Where, of any length.
        hash: Vec<u8>,
        /// Its salt; empty when there is none.
        salt: Vec<u8>,
    },
    /// Refused with this HTTP status.
    Refused(u16),
}

/// Reads a request target (path and query) and a body that came to a grape at this DHT port.
#[must_use]
pub fn read(target: &str, body: &[u8], dht_port: u16) -> Reading {
    let refused = |failure: Failure| Reading::Refused(respond_failure(failure).status().as_u16());
    understand(target, &String::from_utf8_lossy(body), dht_port).unwrap_or_else(refused)
}

fn understand(target: &str, body: &str, dht_port: u16) -> Result<Reading, Failure> {
    let operation = operation_of(target);
    let data = request::data_of(body, operation)?;
    Ok(match operation {
        None => return Err(Failure::Message("ERR_REQ_NOTFOUND".to_owned())),
        Some(Operation::Announce) => {
            let Announce { name, port } = Announce::read(data, dht_port)?;
            Reading::Announce { name, port }
        }
        Some(Operation::Lookup) => Reading::Lookup { name: request::lookup_name(data)? },
        Some(Operation::Put) => match Put::read(data)? {
            Put::Immutable(v) => Reading::PutImmutable(v),
            Put::Mutable { item, cas } => Reading::PutMutable { item, cas },
        },
        Some(Operation::Get) => {
            let Get { hash, salt, .. } = Get::read(data)?;
            Reading::Get { hash, salt }
        }
    })
}
