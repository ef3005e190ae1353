//! Which operation a path asks for.

use std::borrow::Cow;

/// The four things that a grape does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Announce,
    Lookup,
    Put,
    Get,
}

/// The operation of a request target (path and query). A stock grape camel-cases what follows the first slash and looks for a
/// method of that name, so `/lookup`, `/Lookup` and `/_lookup` are one, while `/LOOKUP`, `/lookup/` and `/lookup?x` are none.
pub(super) fn operation_of(target: &str) -> Option<Operation> {
    // Nearly all requests spell the names out.
    let method = match target {
        "/announce" | "/lookup" | "/put" | "/get" => Cow::Borrowed(&target[1..]),
        _ => Cow::Owned(camel_case(target.get(1..)?)),
    };
    match method.as_ref() {
        "announce" => Some(Operation::Announce),
        "lookup" => Some(Operation::Lookup),
        "put" => Some(Operation::Put),
        "get" => Some(Operation::Get),
        _ => None,
    }
}

/// lodash's `camelCase` as the grape wrote it anew: the first letter lower, letters at word starts and after `-` and `_` upper,
/// then hyphens, underscores and blanks out. A hyphen is put before the text, as the grape does.
fn camel_case(text: &str) -> String {
    let text: Vec<char> = std::iter::once('-').chain(text.chars()).collect();
    let word = |at: usize| text.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_');
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        let starts_word = word(at) && !word(at.wrapping_sub(1));
        let pair = !starts_word && (c == '-' || c == '_') && word(at + 1);
        let matched = if pair { 2 } else { 1 };
        for &c in &text[at..at + matched] {
            match c {
                '-' | '_' => {}
                c if c.is_whitespace() => {}
                c if pair && at == 0 => out.push(c.to_ascii_lowercase()),
                c if pair || starts_word => out.push(c.to_ascii_uppercase()),
                c => out.push(c),
            }
        }
        at += matched;
    }
    out.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_matched_as_a_stock_grape_does() {
        for path in ["/lookup", "/Lookup", "/_lookup", "/-lookup", "/__lookup", "/lookup-", "/lookup_"] {
            assert_eq!(operation_of(path), Some(Operation::Lookup), "{path}");
        }
        for path in [
            "",
            "/",
            "/LOOKUP",
            "/lookup/",
            "/lookup?x=1",
            "//lookup",
            "/%6cookup",
            "/foo",
            "/look_up",
            "/look-up",
            "/lookUp",
            "lookup",
            "/é",
        ] {
            assert_eq!(operation_of(path), None, "{path}");
        }
        assert_eq!(operation_of("/announce"), Some(Operation::Announce));
        assert_eq!(operation_of("/put"), Some(Operation::Put));
        assert_eq!(operation_of("/get"), Some(Operation::Get));
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path: String) {
            let _ = operation_of(&path);
        }
    }
}
