//! Values between JSON, as the API speaks, and bencode, as the DHT stores.

use crate::dht::core::bencode::{self, Raw};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap};

/// Integers in JavaScript are exact up to 2^53; a grape stores larger ones altered, here they are refused.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Bencodes a JSON value as a grape does: strings as UTF-8, booleans as 1 and 0, fractions cut, nulls left out.
/// `None` for a number beyond 2^53. JSON comes parsed, so its depth is bounded already ([`json`](super::json)).
pub(super) fn encode(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(&mut out, value)?;
    Some(out)
}

fn write(out: &mut Vec<u8>, value: &Value) -> Option<()> {
    match value {
        Value::Null => {}
        Value::Bool(value) => bencode::write_int(out, i64::from(*value)),
        Value::Number(number) => bencode::write_int(out, integer(number.as_f64()?)?),
        Value::String(text) => bencode::write_bytes(out, text.as_bytes()),
        Value::Array(items) => {
            out.push(b'l');
            items.iter().try_for_each(|item| write(out, item))?;
            out.push(b'e');
        }
        Value::Object(fields) => {
            out.push(b'd');
            // Bencode sorts keys as raw bytes, whatever order JSON had them in.
            let sorted: BTreeMap<&String, &Value> =
                fields.iter().filter(|(_, value)| !value.is_null()).collect();
            for (key, value) in sorted {
                bencode::write_bytes(out, key.as_bytes());
                write(out, value)?;
            }
            out.push(b'e');
        }
    }
    Some(())
}

/// A JavaScript number as an integer, its fraction cut.
pub(super) fn integer(number: f64) -> Option<i64> {
    (number.abs() <= EXACT_MAX).then_some(number.trunc() as i64)
}

/// A bencoded value as a grape shows it: JavaScript's `toString` of what it decodes.
pub(super) fn shown(v: &[u8]) -> String {
    // Stored values are bencode; anything else is shown as the bytes it is.
    bencode::parse(v).map_or_else(|_| String::from_utf8_lossy(v).into_owned(), |parsed| to_string(parsed.raw))
}

/// A list's elements are joined by commas, and a list within a list is its elements: only their order remains of how deep they are.
fn to_string(value: Raw<'_>) -> String {
    let mut out = String::new();
    value.flatten(|value| match value {
        None => out.push(','),
        Some(value) => out.push_str(&leaf(value)),
    });
    out
}

fn leaf(value: Raw<'_>) -> Cow<'_, str> {
    if let Some(bytes) = value.bytes() {
        String::from_utf8_lossy(bytes)
    } else if let Some(digits) =
        value.encoded().strip_prefix(b"i").and_then(|number| number.strip_suffix(b"e"))
    {
        String::from_utf8_lossy(digits)
    } else {
        "[object Object]".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn json_becomes_the_bencode_of_a_grape() {
        let cases = [
            (json!("hé"), "3:hé"),
            (json!(""), "0:"),
            (json!(5), "i5e"),
            (json!(-7.9), "i-7e"),
            (json!(true), "i1e"),
            (json!([1, "a", null, [false]]), "li1e1:ali0eee"),
            (json!({"b": 1, "a": {"c": "x"}, "n": null}), "d1:ad1:c1:xe1:bi1ee"),
        ];
        for (value, bencoded) in cases {
            assert_eq!(encode(&value).unwrap(), bencoded.as_bytes(), "{value}");
        }
        assert_eq!(encode(&json!([1e300])), None);
    }

    #[test]
    fn values_are_shown_as_javascript_prints_them() {
        for (v, text) in
            [("5:hello", "hello"), ("i5e", "5"), ("l1:ai1ee", "a,1"), ("d1:a1:be", "[object Object]")]
        {
            assert_eq!(shown(v.as_bytes()), text);
        }
        assert_eq!(shown(b"2:\xff\xfe"), "\u{fffd}\u{fffd}");
        for (v, text) in [
            (
                "l1:all1:bi-2eee0:d1:xleei99999999999999999999ee",
                "a,b,-2,,[object Object],99999999999999999999",
            ),
            ("lllleeee", ""),
            ("llelelee", ",,"),
        ] {
            assert_eq!(shown(v.as_bytes()), text);
        }
        let deep = "l".repeat(30_000) + "1:a" + &"e".repeat(30_000);
        assert_eq!(shown(deep.as_bytes()), "a");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_canonical(text: String, number in -9_007_199_254_740_992i64..9_007_199_254_740_992) {
            let value = json!({"b": [text, number], text.clone(): number});
            prop_assert!(bencode::is_canonical(&encode(&value).unwrap()));
        }

        #[test]
        fn any_bytes_can_be_shown(bytes: Vec<u8>) {
            let _ = shown(&bytes);
        }
    }
}
