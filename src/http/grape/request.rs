//! What a request asks for, checked in the order and refused in the words of a stock grape. Pure.

use super::{
    json::{self, Unreadable},
    path::Operation,
    value,
};
use crate::{
    bep44::MutableItem,
    identity::{PublicKey, Signature},
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The most bytes of an object that says its `length`: longer than any of what is asked for.
const ARRAY_LIKE_BYTES_MAX: usize = 4096;

/// How a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Status 200 and a JSON string.
    Message(String),
    /// A KRPC code as the status, and a JSON string.
    Coded(u16, String),
    /// Status 500 and plain text: what a stock grape throws.
    Thrown(String),
    /// Status 403 and plain text: it comes from a web page.
    Forbidden(&'static str),
    /// Status 413.
    TooLarge,
    /// Status 408.
    TooSlow,
}

impl Failure {
    fn message(text: &str) -> Self {
        Self::Message(text.to_owned())
    }

    pub(super) fn not_found() -> Self {
        Self::message("ERR_REQ_NOTFOUND")
    }

    pub(super) fn all_failed() -> Self {
        Self::message("All queries failed")
    }

    pub(super) fn value_too_long() -> Self {
        Self::message("v must be less than 1000 bytes in put()")
    }

    /// What JavaScript throws when a property of nothing is read.
    fn property_of(nothing: &str, property: &str) -> Self {
        Self::Thrown(format!("Cannot read properties of {nothing} (reading '{property}')"))
    }
}

/// The `data` of a request's body; `None` when it has none.
pub(super) fn data_of(body: &str, operation: Option<Operation>) -> Result<Option<Value>, Failure> {
    match json::parse(body) {
        // No value that is nested so deep is short enough.
        Err(Unreadable::TooDeep) if operation == Some(Operation::Put) => Err(Failure::value_too_long()),
        Err(Unreadable::TooDeep) => {
            Err(Failure::Message(format!("a request may be nested {} deep at most", json::DEPTH_MAX)))
        }
        Err(Unreadable::Invalid) => Err(Failure::Thrown("ERR_GRAPE_PAYLOAD_INVALID".to_owned())),
        Ok(Value::Null) => Err(Failure::property_of("null", "data")),
        Ok(Value::Object(mut fields)) => Ok(fields.remove("data")),
        Ok(_) => Ok(None),
    }
}

/// The name to look up.
pub(super) fn lookup_name(data: Option<Value>) -> Result<String, Failure> {
    match data {
        Some(Value::String(name)) if !name.is_empty() => Ok(name),
        _ => Err(Failure::message("ERR_GRAPE_LOOKUP")),
    }
}

/// `[name, port]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announce {
    pub(super) name: Vec<u8>,
    pub(super) port: u16,
}

impl Announce {
    /// Port 0 stands for the grape's own DHT port. One above 65535 waits for time-outs in a stock grape, or ends it.
    pub(super) fn read(data: Option<Value>, dht_port: u16) -> Result<Self, Failure> {
        let Some(Value::Array(data)) = data else { return Err(Failure::message("ERR_GRAPE_ANNOUNCE")) };
        let port = data.get(1).and_then(Value::as_f64).filter(|port| port.fract() == 0.0);
        let port = port.filter(|port| (0.0..=65_535.0).contains(port)).map(|port| port as u16);
        let port = port.ok_or_else(|| Failure::message("ERR_GRAPE_SERVICE_PORT"))?;
        let name = buffer_from(data.first(), utf8)?;
        Ok(Self { name, port: if port == 0 { dht_port } else { port } })
    }
}

/// A value to store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    Immutable(Arc<[u8]>),
    /// Its signature is not checked yet.
    Mutable {
        item: MutableItem,
        cas: Option<i64>,
    },
}

impl Put {
    pub(super) fn read(data: Option<Value>) -> Result<Self, Failure> {
        let fields = match data {
            None => return Err(Failure::property_of("undefined", "k")),
            Some(Value::Null) => return Err(Failure::property_of("null", "k")),
            Some(Value::String(text)) => Map::from_iter([("v".to_owned(), Value::String(text))]),
            Some(Value::Object(fields)) => fields,
            // Other values have no property `v`.
            Some(_) => Map::new(),
        };
        let Some(k) = truthy(&fields, "k") else { return Ok(Self::Immutable(bencoded_v(&fields)?)) };
        let k = bytes_or_json(k, hex)?;
        let sig = truthy(&fields, "sig").map(|sig| bytes_or_json(sig, hex)).transpose()?;
        let salt = truthy(&fields, "salt").map(|salt| bytes_or_json(salt, utf8)).transpose()?;
        let v = bencoded_v(&fields)?;
        let cas = match fields.get("cas") {
            None => None,
            Some(Value::Number(cas)) => cas.as_f64().and_then(value::integer),
            Some(_) => return Err(Failure::message("opts.cas must be an integer if provided")),
        };
        let k: [u8; 32] =
            k.try_into().map_err(|_| Failure::message("opts.k ed25519 public key must be 32 bytes"))?;
        let sig = sig.ok_or_else(|| {
            Failure::message("opts.sign function or options.sig signature is required for mutable put")
        })?;
        let salt: Arc<[u8]> = salt.unwrap_or_default().into();
        if salt.len() > crate::bep44::SALT_BYTES_MAX {
            return Err(Failure::message("opts.salt is > 64 bytes long"));
        }
        let seq = match fields.get("seq") {
            None => return Err(Failure::message("opts.seq not provided for a mutable update")),
            Some(Value::Number(seq)) => seq.as_f64().and_then(value::integer),
            Some(_) => None,
        };
        let seq = seq.ok_or_else(|| Failure::message("opts.seq not an integer"))?;
        // A signature of another length is nobody's.
        let sig = Signature(sig.try_into().map_err(|_| Failure::all_failed())?);
        Ok(Self::Mutable { item: MutableItem { k: PublicKey(k), seq, v, sig, salt }, cas })
    }
}

/// JavaScript's length of a string counts UTF-16 units, that of an array its elements; other values have none.
fn bencoded_v(fields: &Map<String, Value>) -> Result<Arc<[u8]>, Failure> {
    let v = fields.get("v").ok_or_else(|| Failure::message("opts.v not given"))?;
    let length = match v {
        Value::Null => {
            return Err(Failure::message("Cannot read properties of null (reading 'length')"));
        }
        Value::String(text) => text.encode_utf16().count(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if length >= 1000 {
        return Err(Failure::value_too_long());
    }
    let v = value::encode(v).ok_or_else(|| Failure::message("v holds a number beyond 2^53"))?;
    Ok(v.into())
}

/// A value to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Get {
    pub(super) hash: Vec<u8>,
    pub(super) salt: Vec<u8>,
    /// False asks the network even when the value is held here.
    pub(super) cached: bool,
}

impl Get {
    pub(super) fn read(data: Option<Value>) -> Result<Self, Failure> {
        let generic = || Failure::message("ERR_GRAPE_GENERIC");
        match data {
            None => Err(Failure::property_of("undefined", "salt")),
            Some(Value::Null) => Err(Failure::property_of("null", "salt")),
            Some(hash @ Value::String(_)) => {
                Ok(Self { hash: bytes_or_json(&hash, hex)?, salt: Vec::new(), cached: true })
            }
            Some(Value::Object(fields)) => {
                let salt = truthy(&fields, "salt").map(|salt| bytes_or_json(salt, utf8)).transpose()?;
                let Some(Value::String(hash)) = fields.get("hash") else { return Err(generic()) };
                let cached = fields.get("cache") != Some(&Value::Bool(false));
                Ok(Self { hash: hex(hash), salt: salt.unwrap_or_default(), cached })
            }
            Some(_) => Err(generic()),
        }
    }
}

/// A field that JavaScript calls true.
fn truthy<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    })
}

/// Bytes in one of the forms that a stock grape takes for a key, a signature, a salt or a hash: a string that is JSON of an array, a
/// buffer or another string is what that JSON says, so that the salt `"[1,2]"` is the bytes 1 and 2; any other is read by `decode`.
fn bytes_or_json(value: &Value, decode: impl Fn(&str) -> Vec<u8>) -> Result<Vec<u8>, Failure> {
    // JSON of anything else says no bytes.
    if let Value::String(text) = value
        && text.trim_start().starts_with(['[', '{', '"'])
        && let Ok(said) = json::parse(text)
        && let Ok(bytes) = buffer_from(Some(&said), utf8)
    {
        return Ok(bytes);
    }
    buffer_from(Some(value), decode)
}

/// Node's `Buffer.from`: a string by `decode`, an array by its elements, and what a buffer becomes in JSON; anything else throws.
fn buffer_from(value: Option<&Value>, decode: impl Fn(&str) -> Vec<u8>) -> Result<Vec<u8>, Failure> {
    let received = match value {
        Some(Value::String(text)) => return Ok(decode(text)),
        Some(Value::Array(bytes)) => return Ok(bytes_of(bytes)),
        Some(Value::Object(fields)) if let Some(bytes) = bytes_of_object(fields) => return Ok(bytes),
        None => "undefined".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Object(_)) => "an instance of Object".to_owned(),
        Some(Value::Bool(value)) => format!("type boolean ({value})"),
        Some(Value::Number(number)) => format!("type number ({number})"),
    };
    Err(Failure::Thrown(format!(
        "The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like \
         Object. Received {received}"
    )))
}

/// `{"type": "Buffer", "data": [...]}`, or what looks like an array: `{"length": 2, "0": 1, "1": 2}`.
fn bytes_of_object(fields: &Map<String, Value>) -> Option<Vec<u8>> {
    match (fields.get("length"), fields.get("type"), fields.get("data")) {
        (Some(Value::Number(length)), ..) => {
            let length = length.as_f64().filter(|length| *length <= ARRAY_LIKE_BYTES_MAX as f64)?;
            let element = |at: usize| fields.get(&at.to_string()).map_or(0, byte_of);
            Some((0..length.max(0.0) as usize).map(element).collect())
        }
        (Some(_), ..) => Some(Vec::new()),
        (None, Some(Value::String(kind)), Some(Value::Array(data))) if kind == "Buffer" => {
            Some(bytes_of(data))
        }
        _ => None,
    }
}

fn bytes_of(elements: &[Value]) -> Vec<u8> {
    elements.iter().map(byte_of).collect()
}

/// An element of an array of bytes: JavaScript makes a number of it and keeps the lowest eight bits.
fn byte_of(element: &Value) -> u8 {
    let number = match element {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    number.and_then(value::integer).map_or(0, |number| (number & 0xff) as u8)
}

fn utf8(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Hex as Node reads it: up to the first pair that is none.
fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
    text.as_bytes().chunks_exact(2).map_while(pair).collect()
}

#[cfg(test)]
mod tests;
