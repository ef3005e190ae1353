//! JSON as JavaScript reads it.
//!
//! Nearly every body is read at once by serde_json. What that refuses and JavaScript takes is rewritten and read again: half of a
//! surrogate pair (names that were cut in the middle have one; it ends as U+FFFD when it is written as UTF-8), a number beyond
//! every double (infinity there, the largest one here: neither is an integer that anything accepts), and values that are nested
//! deeper than 128 times.

use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};

/// How deep serde_json reads.
const SERDE_DEPTH_MAX: usize = 127;
/// How deep a body may be nested: deeper than any value that is short enough to be stored, within its request.
pub(super) const DEPTH_MAX: usize = 512;

/// Why a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no JSON.
    Invalid,
    /// It is nested more than [`DEPTH_MAX`] times.
    TooDeep,
}

/// Reads a JSON text.
pub(super) fn parse(text: &str) -> Result<Value, Unreadable> {
    serde_json::from_str(text).or_else(|_| parse_anew(text))
}

fn parse_anew(text: &str) -> Result<Value, Unreadable> {
    let (text, depth) = rewrite(text);
    let depth = depth.ok_or(Unreadable::Invalid)?;
    if depth > DEPTH_MAX {
        return Err(Unreadable::TooDeep);
    }
    read_deep(&text, depth).map_err(|_| Unreadable::Invalid)
}

/// Reads what is nested at most `depth` times, level by level until serde_json can.
fn read_deep(text: &str, depth: usize) -> serde_json::Result<Value> {
    if depth <= SERDE_DEPTH_MAX {
        return serde_json::from_str(text);
    }
    let inner = |raw: &RawValue| read_deep(raw.get(), depth - 1);
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            items.into_iter().map(inner).collect::<serde_json::Result<_>>().map(Value::Array)
        }
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let fields = fields.into_iter().map(|(key, raw)| Ok((key, inner(raw)?)));
            fields.collect::<serde_json::Result<Map<_, _>>>().map(Value::Object)
        }
        _ => serde_json::from_str(text),
    }
}

/// The text without what only JavaScript reads, and how deep it is nested, unless something is left open. What is no JSON stays none.
fn rewrite(text: &str) -> (Cow<'_, str>, Option<usize>) {
    let mut out = String::new();
    // Up to here `text` is in `out`.
    let mut copied = 0;
    let (mut depth, mut depth_max) = (0usize, 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (end, instead) = match byte {
            b'"' => {
                at = string_end(text, at, &mut out, &mut copied);
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                depth_max = depth_max.max(depth);
                (at + 1, None)
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                (at + 1, None)
            }
            b'-' | b'0'..=b'9' => number(text, at),
            _ => (at + 1, None),
        };
        if let Some(instead) = instead {
            out.push_str(&text[copied..at]);
            out.push_str(instead);
            copied = end;
        }
        at = end;
    }
    let depth = (depth == 0).then_some(depth_max);
    if copied == 0 {
        return (Cow::Borrowed(text), depth);
    }
    out.push_str(&text[copied..]);
    (Cow::Owned(out), depth)
}

/// Where the number ends that begins at `at`, and what to write for it.
fn number(text: &str, at: usize) -> (usize, Option<&'static str>) {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let end = at + text.as_bytes()[at..].iter().take_while(|byte| is_part(byte)).count();
    let is_infinite = text[at..end].parse::<f64>().is_ok_and(f64::is_infinite);
    let largest =
        if text[at..].starts_with('-') { "-1.7976931348623157e308" } else { "1.7976931348623157e308" };
    (end, is_infinite.then_some(largest))
}

/// Where the string ends that begins at `at`; halves of surrogate pairs in it are written as U+FFFD.
fn string_end(text: &str, at: usize, out: &mut String, copied: &mut usize) -> usize {
    let bytes = text.as_bytes();
    // A unit of UTF-16 that is written as an escape here.
    let escaped = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_hex)
    };
    let mut at = at + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => match escaped(at) {
                Some(0xd800..=0xdbff) if matches!(escaped(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
                Some(0xd800..=0xdfff) => {
                    out.push_str(&text[*copied..at]);
                    out.push_str("\\ufffd");
                    at += 6;
                    *copied = at;
                }
                Some(_) => at += 6,
                None => at += 2,
            },
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn half_a_surrogate_pair_is_read_as_the_character_that_stands_for_none() {
        for (text, read) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ude00b""#, "\u{fffd}b"),
            (r#""\ud83d\ud83d\ude00\ude00""#, "\u{fffd}\u{1f600}\u{fffd}"),
            (r#""\ud83d\n\\ud83d\\\udfff""#, "\u{fffd}\n\\ud83d\\\u{fffd}"),
            (r#""\ud83dA""#, "\u{fffd}A"),
        ] {
            assert_eq!(parse(text), Ok(json!(read)), "{text}");
            let within = format!(r#"{{"data":[{text},1],"\ud83d":2}}"#);
            assert_eq!(parse(&within), Ok(json!({"data": [read, 1], "\u{fffd}": 2})), "{within}");
        }
    }

    #[test]
    fn numbers_beyond_a_double_are_the_largest_one_and_those_in_strings_stay_text() {
        let text = r#"["1e400", 1e400, -1e999, 1E+0400, 1e-400, 5]"#;
        assert_eq!(parse(text), Ok(json!(["1e400", f64::MAX, f64::MIN, f64::MAX, 0.0, 5])));
    }

    #[test]
    fn values_are_read_as_deep_as_any_that_can_be_stored() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        for n in [1, 127, 128, 129, DEPTH_MAX] {
            let mut value = parse(&nested(n)).unwrap();
            for _ in 1..n {
                value = value[0].take();
            }
            assert_eq!(value, json!([]), "{n}");
        }
        for n in [DEPTH_MAX + 1, 100_000] {
            assert_eq!(parse(&nested(n)), Err(Unreadable::TooDeep), "{n}");
        }
        assert_eq!(parse(&format!("\"{}\"", nested(1000))), Ok(json!(nested(1000))), "text is not nested");
        assert_eq!(parse(&"[".repeat(1000)), Err(Unreadable::Invalid), "it has no end");
    }

    #[test]
    fn what_is_no_json_for_javascript_either_is_refused() {
        for text in [
            "",
            "{",
            "[1e400",
            "[1e400]]",
            "01",
            "1e400e",
            "--1",
            "\"\\ud83",
            "\"\\ud83x\"",
            "\"\\u+d83\"",
            "\"\\x\"",
            "nul",
            "\u{feff}1",
            "[1,]",
            "\"\n\"",
        ] {
            assert_eq!(parse(text), Err(Unreadable::Invalid), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_serde_reads_is_not_rewritten(text in r#"[\[\]{}"\\u0-9a-fd8, :.eE+-]{0,40}"#) {
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert_eq!(rewrite(&text).0, &*text);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text: String, odd in r#"[\[\]{}"\\u0-9a-fd8é, :.eE+-]{0,60}"#) {
            let _ = (parse(&text), parse_anew(&text), parse(&odd), parse_anew(&odd));
        }
    }
}
