//! Bencode of any bytes: what is read is a part of the input, every level agrees with the one above it, and a canonical value is
//! written again as the same bytes.

use vintner::dht::core::bencode::{
    ELEMENTS_MAX, Raw, is_canonical, parse, string_len, write_bytes, write_int,
};

/// See the module's page.
pub fn run(data: &[u8]) {
    let Ok(parsed) = parse(data) else {
        return assert!(!is_canonical(data));
    };
    assert_eq!(parsed.raw.encoded(), data);
    assert_eq!(parsed.canonical, is_canonical(data));
    let mut written = Vec::new();
    let mut values = 0;
    let exact = write(parsed.raw, &mut values, &mut written);
    // An integer beyond 64 bits cannot be written by us.
    if exact {
        assert_eq!(written == data, parsed.canonical, "{}", written.escape_ascii());
    }
}

/// Writes a value as it was read. False when it holds an integer that does not fit.
fn write(value: Raw<'_>, values: &mut usize, out: &mut Vec<u8>) -> bool {
    *values += 1;
    assert!(*values <= ELEMENTS_MAX);
    // Being one thing excludes being another.
    let kinds = [value.bytes().is_some(), value.is_list(), value.is_dict(), value.encoded()[0] == b'i'];
    assert_eq!(kinds.iter().filter(|is| **is).count(), 1);
    assert!(parse(value.encoded()).is_ok(), "a part of a well-formed value is well-formed");
    if let Some(bytes) = value.bytes() {
        let before = out.len();
        write_bytes(out, bytes);
        assert_eq!(out.len() - before, string_len(bytes.len()));
        return true;
    }
    if value.encoded()[0] == b'i' {
        let Some(int) = value.int() else { return false };
        write_int(out, int);
        return true;
    }
    let mut exact = true;
    if value.is_list() {
        out.push(b'l');
        for item in value.items() {
            exact &= write(item, values, out);
        }
    } else {
        out.push(b'd');
        // Out of order or twice: then what is written is what was read, and not canonical; the flag must say so.
        let mut keys: Vec<&[u8]> = Vec::new();
        for (key, field) in value.fields() {
            write_bytes(out, key);
            exact &= write(field, values, out);
            keys.push(key);
        }
        exact &= keys.is_sorted_by(|a, b| a < b);
    }
    out.push(b'e');
    exact
}
