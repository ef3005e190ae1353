//! Bencode, read in place and written canonically.
//!
//! Reading makes no copies: one pass checks the structure and its bounds and notes whether it is canonical (sorted unique keys,
//! no superfluous zeros); afterwards a [`Raw`] is a span of the input that is known to be well-formed, and decoding it again
//! cannot fail. The envelope of a datagram need not be canonical (some implementations do not sort), a stored value must be.
//!
//! How deep values are nested is not bounded by itself: nothing here descends with the input but the list of open containers, and a
//! datagram is short. Stock grapes hold values that are nested hundreds of times.

/// Containers within containers that are read by recursion. Nearly nothing has more than four; what has is read with a list of those
/// that are open.
const RECURSION_MAX: usize = 8;
/// Values in one message: as many as the longest datagram has bytes.
pub const ELEMENTS_MAX: usize = 65_536;
/// Digits of a length prefix: enough for any datagram, too few to overflow.
const LENGTH_DIGITS_MAX: usize = 7;

/// Bytes that are not bencode, or more than a datagram can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not bencode at byte {at}")]
pub struct Malformed {
    /// Where reading stopped.
    pub at: usize,
}

/// The bytes of one well-formed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

/// A well-formed value and whether it is written canonically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The value.
    pub raw: Raw<'a>,
    /// Whether writing it again gives the same bytes.
    pub canonical: bool,
}

/// Reads exactly one value; bytes after it are an error.
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let mut reader = Reader { input, at: 0, elements: 0, canonical: true };
    reader.skip(0)?;
    if reader.at < input.len() {
        return Err(Malformed { at: reader.at });
    }
    Ok(Parsed { raw: Raw(input), canonical: reader.canonical })
}

/// Reads a dictionary that is all of `input`, checking it on the way: the last field is an error where it is none.
pub fn read_dict(input: &[u8]) -> impl Iterator<Item = Result<(&[u8], Raw<'_>), Malformed>> {
    let mut reader = Reader { input, at: 0, elements: 1, canonical: true };
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let field = reader.next_field();
        ended = !matches!(field, Ok(Some(_)));
        field.transpose()
    })
}

/// Whether these bytes are exactly one value, written canonically.
#[must_use]
pub fn is_canonical(input: &[u8]) -> bool {
    parse(input).is_ok_and(|parsed| parsed.canonical)
}

impl<'a> Raw<'a> {
    /// The encoded bytes, as received.
    #[must_use]
    pub fn encoded(self) -> &'a [u8] {
        self.0
    }

    /// The content of a byte string.
    #[must_use]
    pub fn bytes(self) -> Option<&'a [u8]> {
        let colon =
            self.0.first().filter(|b| b.is_ascii_digit()).and(self.0.iter().position(|&b| b == b':'))?;
        self.0.get(colon + 1..)
    }

    /// An integer that fits 64 bits.
    #[must_use]
    pub fn int(self) -> Option<i64> {
        let digits = self.0.strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The values of a list; none when it is something else.
    pub fn items(self) -> impl Iterator<Item = Raw<'a>> {
        let mut rest = self.0.strip_prefix(b"l").unwrap_or_default();
        std::iter::from_fn(move || next_value(&mut rest))
    }

    /// Hands out what is in a list and in the lists within it, in order, with `None` before each element but a list's first; anything
    /// else as it is.
    pub fn flatten(self, mut each: impl FnMut(Option<Raw<'a>>)) {
        let mut rest = self.0;
        // Of each open list: it has had an element.
        let mut begun: Vec<bool> = Vec::new();
        while let Some(&byte) = rest.first() {
            if byte == b'e' {
                begun.pop();
                rest = &rest[1..];
                continue;
            }
            if begun.last_mut().is_some_and(|begun| std::mem::replace(begun, true)) {
                each(None);
            }
            if byte == b'l' {
                begun.push(false);
                rest = &rest[1..];
                continue;
            }
            let Some(value) = next_value(&mut rest) else { return };
            each(Some(value));
        }
    }

    /// Keys and values of a dictionary, in the order received; none when it is something else.
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], Raw<'a>)> {
        let mut rest = self.0.strip_prefix(b"d").unwrap_or_default();
        std::iter::from_fn(move || {
            let key = next_value(&mut rest)?.bytes()?;
            Some((key, next_value(&mut rest)?))
        })
    }

    /// Whether it is a dictionary.
    #[must_use]
    pub fn is_dict(self) -> bool {
        self.0.first() == Some(&b'd')
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(self) -> bool {
        self.0.first() == Some(&b'l')
    }
}

/// Takes the next value of a well-formed container's inside; none at its end.
fn next_value<'a>(rest: &mut &'a [u8]) -> Option<Raw<'a>> {
    if matches!(rest.first(), None | Some(b'e')) {
        return None;
    }
    let mut reader = Reader { input: rest, at: 0, elements: 0, canonical: true };
    reader.skip(0).ok()?;
    let (value, after) = rest.split_at(reader.at);
    *rest = after;
    Some(Raw(value))
}

/// A container that is being read.
enum Open<'a> {
    List,
    Dict { last: Option<&'a [u8]> },
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    elements: usize,
    canonical: bool,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self) -> Result<T, Malformed> {
        Err(Malformed { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn count(&mut self) -> Result<(), Malformed> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX { self.fail() } else { Ok(()) }
    }

    /// Moves past one value.
    fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > RECURSION_MAX {
            return self.skip_deep();
        }
        self.count()?;
        match self.peek() {
            Some(b'0'..=b'9') => self.string().map(|_| ()),
            Some(b'i') => self.int(),
            Some(b'l') => {
                self.at += 1;
                while self.peek() != Some(b'e') {
                    self.skip(depth + 1)?;
                }
                self.at += 1;
                Ok(())
            }
            Some(b'd') => self.dict(depth),
            _ => self.fail(),
        }
    }

    /// Moves past one value, however deep it is nested.
    fn skip_deep(&mut self) -> Result<(), Malformed> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            let is_end = self.peek() == Some(b'e');
            match open.last_mut() {
                Some(_) if is_end => {
                    self.at += 1;
                    open.pop();
                    if open.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                Some(Open::Dict { last }) => {
                    let key = self.string()?;
                    self.canonical &= last.is_none_or(|last| last < key);
                    *last = Some(key);
                }
                Some(Open::List) | None => {}
            }
            self.count()?;
            match self.peek() {
                Some(b'0'..=b'9') => self.string().map(|_| ())?,
                Some(b'i') => self.int()?,
                Some(kind @ (b'l' | b'd')) => {
                    self.at += 1;
                    open.push(if kind == b'l' { Open::List } else { Open::Dict { last: None } });
                    continue;
                }
                _ => return self.fail(),
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// The next field of the outermost dictionary; none at its end, which is the input's.
    fn next_field(&mut self) -> Result<Option<(&'a [u8], Raw<'a>)>, Malformed> {
        if self.at == 0 {
            if self.peek() != Some(b'd') {
                return self.fail();
            }
            self.at = 1;
        }
        if self.peek() == Some(b'e') {
            self.at += 1;
            return if self.at == self.input.len() { Ok(None) } else { self.fail() };
        }
        let key = self.string()?;
        let start = self.at;
        self.skip(1)?;
        Ok(Some((key, Raw(&self.input[start..self.at]))))
    }

    fn dict(&mut self, depth: usize) -> Result<(), Malformed> {
        self.at += 1;
        let mut last: Option<&[u8]> = None;
        while self.peek() != Some(b'e') {
            let key = self.string()?;
            self.canonical &= last.is_none_or(|last| last < key);
            last = Some(key);
            self.skip(depth + 1)?;
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let mut len = 0;
        for (digits, byte) in rest.iter().enumerate().take(LENGTH_DIGITS_MAX + 1) {
            match byte {
                b'0'..=b'9' => len = len * 10 + usize::from(byte - b'0'),
                b':' if digits > 0 => {
                    self.canonical &= digits == 1 || rest[0] != b'0';
                    let Some(content) = rest.get(digits + 1..digits + 1 + len) else { break };
                    self.at += digits + 1 + len;
                    return Ok(content);
                }
                _ => break,
            }
        }
        self.fail()
    }

    fn int(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = &self.input[start..self.at];
        if digits.is_empty() || self.peek() != Some(b'e') {
            return self.fail();
        }
        self.canonical &= digits[0] != b'0' || (digits.len() == 1 && !negative);
        self.at += 1;
        Ok(())
    }
}

/// Appends a byte string.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_decimal(out, bytes.len() as u64);
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Appends an integer.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    out.push(b'i');
    if value < 0 {
        out.push(b'-');
    }
    write_decimal(out, value.unsigned_abs());
    out.push(b'e');
}

/// Appends a dictionary's key and byte string.
pub fn write_field(out: &mut Vec<u8>, key: &str, bytes: &[u8]) {
    write_bytes(out, key.as_bytes());
    write_bytes(out, bytes);
}

pub(super) fn write_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many bytes a byte string of this length takes.
#[must_use]
pub fn string_len(content: usize) -> usize {
    content + 2 + content.checked_ilog10().unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Int(i64),
        Bytes(Vec<u8>),
        List(Vec<Tree>),
        Dict(BTreeMap<Vec<u8>, Tree>),
    }

    fn write(tree: &Tree, out: &mut Vec<u8>) {
        match tree {
            Tree::Int(value) => write_int(out, *value),
            Tree::Bytes(bytes) => write_bytes(out, bytes),
            Tree::List(items) => {
                out.push(b'l');
                for item in items {
                    write(item, out);
                }
                out.push(b'e');
            }
            Tree::Dict(fields) => {
                out.push(b'd');
                for (key, value) in fields {
                    write_bytes(out, key);
                    write(value, out);
                }
                out.push(b'e');
            }
        }
    }

    fn read(raw: Raw<'_>) -> Tree {
        match raw.encoded()[0] {
            b'i' => Tree::Int(raw.int().unwrap()),
            b'l' => Tree::List(raw.items().map(read).collect()),
            b'd' => Tree::Dict(raw.fields().map(|(k, v)| (k.to_vec(), read(v))).collect()),
            _ => Tree::Bytes(raw.bytes().unwrap().to_vec()),
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..30);
        let leaf = prop_oneof![any::<i64>().prop_map(Tree::Int), bytes().prop_map(Tree::Bytes)];
        leaf.prop_recursive(14, 64, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Tree::List),
                proptest::collection::btree_map(bytes(), inner, 0..8).prop_map(Tree::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same_and_is_canonical(tree in trees()) {
            let mut out = Vec::new();
            write(&tree, &mut out);
            let parsed = parse(&out).unwrap();
            prop_assert!(parsed.canonical);
            prop_assert_eq!(read(parsed.raw), tree);
        }

        #[test]
        fn canonical_means_that_writing_again_gives_the_same_bytes(
            input in proptest::collection::vec(proptest::sample::select(&b"0123456789ilde:-abz"[..]), 0..24),
        ) {
            if let Ok(parsed) = parse(&input) {
                // Integers beyond 64 bits are well-formed, but this test's tree cannot hold them.
                if input.iter().filter(|b| b.is_ascii_digit()).count() < 18 {
                    let mut out = Vec::new();
                    write(&read(parsed.raw), &mut out);
                    prop_assert_eq!(parsed.canonical, out == input);
                }
            }
        }

        #[test]
        fn a_dictionary_read_in_one_pass_is_the_same_as_in_two(
            input in prop_oneof![
                proptest::collection::vec(proptest::sample::select(&b"0123456789ilde:-abz"[..]), 0..24),
                trees().prop_map(|tree| {
                    let mut out = Vec::new();
                    write(&tree, &mut out);
                    out
                }),
            ],
        ) {
            let in_one: Result<Vec<_>, _> = read_dict(&input).collect();
            match parse(&input) {
                Ok(parsed) if parsed.raw.is_dict() => {
                    prop_assert_eq!(in_one, Ok(parsed.raw.fields().collect()));
                }
                _ => prop_assert!(in_one.is_err()),
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(parsed) = parse(&input) {
                let _ = (parsed.raw.bytes(), parsed.raw.int(), parsed.raw.items().count(), parsed.raw.fields().count());
            }
        }

        #[test]
        fn the_length_of_a_string_is_known_before_it_is_written(len in 0usize..2000) {
            let mut out = Vec::new();
            write_bytes(&mut out, &vec![0; len]);
            prop_assert_eq!(out.len(), string_len(len));
        }
    }

    #[test]
    fn broken_input_is_refused() {
        let bad = [
            "",
            "i",
            "ie",
            "i-e",
            "i1",
            "i1.5e",
            "i+5e",
            "1",
            "1:",
            "2:a",
            "l",
            "li1e",
            "d",
            "d1:a",
            "d1:ae",
            "di1e1:ae",
            "i1ei2e",
            "x",
            "99999999:",
            "-1:",
        ];
        for text in bad {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_input_is_read_but_not_called_canonical() {
        for text in ["i01e", "i-0e", "i-01e", "01:a", "00:", "d1:bi1e1:ai1ee", "d1:ai1e1:ai2ee"] {
            assert_eq!(parse(text.as_bytes()).map(|p| p.canonical), Ok(false), "{text}");
        }
        for text in ["i0e", "i-1e", "0:", "le", "de", "i99999999999999999999e"] {
            assert_eq!(parse(text.as_bytes()).map(|p| p.canonical), Ok(true), "{text}");
        }
        assert_eq!(parse(b"i99999999999999999999e").unwrap().raw.int(), None);
    }

    #[test]
    fn values_are_read_however_deep_they_are_and_their_number_is_bounded() {
        for n in [RECURSION_MAX, RECURSION_MAX + 1, RECURSION_MAX + 2, 500, 32_000] {
            for inside in ["", "i1e", "1:a", "1:ai-2e0:", "d1:ai1e1:bi2ee"] {
                let nested = |open: &str| open.repeat(n) + inside + &"e".repeat(n);
                let lists = nested("l");
                assert_eq!(parse(lists.as_bytes()).map(|p| p.canonical), Ok(true), "{n} {inside}");
                assert!(
                    parse(&lists.as_bytes()[..lists.len() - 1]).is_err()
                        && parse((lists + "e").as_bytes()).is_err()
                );
                let dicts = "d1:a".repeat(n) + "le" + &"e".repeat(n);
                assert_eq!(parse(dicts.as_bytes()).map(|p| p.canonical), Ok(true), "{n}");
                assert!(parse(&dicts.as_bytes()[..dicts.len() - 1]).is_err());
            }
            for odd in ["d1:bi1e1:ai1ee", "i01e", "01:a"] {
                let nested = "l".repeat(n) + odd + &"e".repeat(n);
                assert_eq!(parse(nested.as_bytes()).map(|p| p.canonical), Ok(false), "{n} {odd}");
            }
            for bad in ["d1:a", "di1ei2e", "x"] {
                assert!(parse(("l".repeat(n) + bad + &"e".repeat(n)).as_bytes()).is_err(), "{n} {bad}");
            }
        }
        assert!(parse("l".repeat(60_000).as_bytes()).is_err());
        let wide = |n: usize| format!("l{}e", "0:".repeat(n));
        assert!(parse(wide(ELEMENTS_MAX - 1).as_bytes()).is_ok());
        assert!(parse(wide(ELEMENTS_MAX).as_bytes()).is_err());
    }
}
