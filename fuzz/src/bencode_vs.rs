//! Our bencode reader beside the `bendy` crate's, which reads canonical bencode only: a value is canonical to us exactly when
//! bendy reads it, and then both read the same.
//!
//! Known differences, left out: our bounds of the number of values and of length digits, which guard a datagram's reader; bendy
//! reads a number of values one after the other, a message is exactly one; and bendy takes a string's length from a negative number
//! for a malformed one at another place. None is a difference in what a value means.

use bendy::decoding::{Decoder, Object};
use vintner::dht::core::bencode::{ELEMENTS_MAX, Raw, parse};

/// See the module's page.
pub fn run(data: &[u8]) {
    let theirs = read(data);
    match parse(data) {
        Ok(ours) if ours.canonical => {
            let theirs = theirs.unwrap_or_else(|| panic!("bendy does not read {}", data.escape_ascii()));
            assert_eq!(text(ours.raw), theirs);
        }
        Ok(_) => assert_eq!(theirs, None, "{} is not canonical", data.escape_ascii()),
        Err(_) => {
            if let Some(theirs) = theirs {
                assert!(beyond_our_bounds(data), "we do not read {} ({theirs})", data.escape_ascii());
            }
        }
    }
}

/// Whether our bounds may have refused it.
fn beyond_our_bounds(data: &[u8]) -> bool {
    // Each value has at least two bytes.
    data.len() / 2 >= ELEMENTS_MAX
}

/// A value in words that both sides can write.
fn text(value: Raw<'_>) -> String {
    if let Some(bytes) = value.bytes() {
        return format!("{:?}", bytes.escape_ascii().to_string());
    }
    if value.is_list() {
        return format!("[{}]", value.items().map(text).collect::<Vec<_>>().join(","));
    }
    if value.is_dict() {
        let field = |(key, value): (&[u8], Raw<'_>)| format!("{}={}", key.escape_ascii(), text(value));
        return format!("{{{}}}", value.fields().map(field).collect::<Vec<_>>().join(","));
    }
    let digits = &value.encoded()[1..value.encoded().len() - 1];
    if let Some(int) = value.int() {
        assert_eq!(int.to_string().as_bytes(), digits);
    }
    digits.escape_ascii().to_string()
}

/// Exactly one value, as bendy reads it.
fn read(data: &[u8]) -> Option<String> {
    let mut decoder = Decoder::new(data).with_max_depth(data.len());
    let text = describe(decoder.next_object().ok()??)?;
    match decoder.next_object() {
        Ok(None) => Some(text),
        _ => None,
    }
}

fn describe(object: Object<'_, '_>) -> Option<String> {
    match object {
        Object::Bytes(bytes) => Some(format!("{:?}", bytes.escape_ascii().to_string())),
        Object::Integer(digits) => Some(digits.to_owned()),
        Object::List(mut list) => {
            let mut parts = Vec::new();
            while let Some(item) = list.next_object().ok()? {
                parts.push(describe(item)?);
            }
            Some(format!("[{}]", parts.join(",")))
        }
        Object::Dict(mut dict) => {
            let mut parts = Vec::new();
            while let Some((key, value)) = dict.next_pair().ok()? {
                let key = key.escape_ascii().to_string();
                parts.push(format!("{key}={}", describe(value)?));
            }
            Some(format!("{{{}}}", parts.join(",")))
        }
    }
}
