//! Text of strangers as a terminal may see it: memos, reasons of refusals, names.
//!
//! Characters that a terminal obeys, that turn lines around, or that nobody sees are shown as what they are, `\u{202e}`; all else
//! stands as it came. Only what is shown is changed: records, answers and `--json` keep every character.

use std::borrow::Cow;

/// Format characters (Unicode's category Cf, version 16), line and paragraph separators, and what is drawn as nothing.
/// Variation selectors 15 and 16 are left out: they choose between a sign and its picture, and people type them.
const UNSEEN: [(u32, u32); 33] = [
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0d),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
    // The last two of every plane are no characters.
    (0xfdd0, 0xfdef),
    (0xfffe, 0xffff),
    (0x1fffe, 0x1ffff),
    (0x2fffe, 0x2ffff),
    (0xefffe, 0xeffff),
    (0xffffe, 0xfffff),
    (0x0010_fffe, 0x0010_ffff),
];

fn is_seen(c: char) -> bool {
    !c.is_control() && !UNSEEN.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(c)))
}

/// `text` on one line, with nothing in it that a terminal would obey or nobody would see.
pub fn harmless(text: &str) -> Cow<'_, str> {
    escaped(text, is_seen, |c| c.escape_unicode().to_string())
}

/// The same of text that has lines.
pub fn harmless_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n' || is_seen(c), |c| c.escape_unicode().to_string())
}

/// The same of a line of JSON, whose reader gets the same characters as before.
pub fn harmless_json(text: &str) -> Cow<'_, str> {
    let escape = |c: char| {
        let mut units = [0; 2];
        let units = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
        units.collect::<Vec<_>>().concat()
    };
    escaped(text, |c| c == '\n' || is_seen(c), escape)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    // Most text is plain, and is looked at byte by byte.
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) || text.chars().all(&stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
        } else {
            shown += &escape(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
#[path = "../tests/support/payloads.rs"]
pub(crate) mod payloads;

#[cfg(test)]
mod tests {
    use super::*;
    use payloads::{PAYLOADS, assert_harmless};
    use proptest::prelude::*;

    #[test]
    fn every_payload_is_shown_as_what_it_is() {
        for payload in PAYLOADS {
            let shown = harmless(payload);
            assert_harmless(&shown);
            assert_ne!(&shown, payload, "{shown} has something to escape");
        }
        assert_eq!(harmless("a\u{202e}b\n\u{1b}[2J"), "a\\u{202e}b\\u{a}\\u{1b}[2J");
        assert_eq!(harmless_lines("a\n\u{200b}b\n"), "a\n\\u{200b}b\n");
    }

    #[test]
    fn text_that_people_write_stays_as_it_is() {
        for text in [
            "",
            "SEPA, same day",
            "Überweisung 1 000 €",
            "振込",
            "تحويل بنكي",
            "☎\u{fe0f} 24/7",
            "a\\b",
            "e\u{301}",
        ] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn json_says_the_same_as_before() {
        for payload in PAYLOADS {
            let line = serde_json::to_string(&serde_json::json!({ "memo": payload })).unwrap();
            let shown = harmless_json(&line);
            assert_harmless(&shown);
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(read["memo"], *payload);
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_what_is_shown_is_harmless_and_shown_again_the_same(text in any::<String>()) {
            let shown = harmless(&text);
            assert_harmless(&shown);
            prop_assert_eq!(harmless(&shown), shown.clone());
        }
    }
}
