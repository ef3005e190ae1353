//! Bytes in the body of a signed request, which is a string: `b` and base64, or `z` and base64 of what gzip made of them.

use super::limits::{PACK_FROM, TALK_BYTES_MAX};
use crate::grenache::gzip;
use data_encoding::BASE64;

/// Bytes as a body. What is long is packed when that helps: records are text, while hashes stay as long as they are.
pub(super) fn wrap(bytes: &[u8]) -> String {
    let packed = (bytes.len() >= PACK_FROM).then(|| gzip::pack(bytes)).flatten();
    let (mark, content) = match &packed {
        Some(packed) if packed.len() < bytes.len() / 8 * 7 => ('z', &packed[..]),
        _ => ('b', bytes),
    };
    let mut body = String::with_capacity(1 + BASE64.encode_len(content.len()));
    body.push(mark);
    BASE64.encode_append(content, &mut body);
    body
}

/// The bytes in a body, unless it is none, or unpacks to more than a talk may have.
pub(super) fn unwrap(body: &str) -> Option<Vec<u8>> {
    let (packed, text) = match body.split_at_checked(1)? {
        ("b", text) => (false, text),
        ("z", text) => (true, text),
        _ => return None,
    };
    let content = BASE64.decode(text.as_bytes()).ok()?;
    if packed { gzip::unpack(&content, TALK_BYTES_MAX).ok() } else { Some(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grenache::envelope::BODY_BYTES_MAX;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_wrapped_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..3000), times in 1..30_usize) {
            let bytes = bytes.repeat(times);
            prop_assert_eq!(unwrap(&wrap(&bytes)), Some(bytes));
        }

        #[test]
        fn whatever_comes_is_unwrapped_or_refused(body in ".{0,200}") {
            unwrap(&body);
        }
    }

    #[test]
    fn the_longest_talk_fits_into_a_request() {
        let noise: Vec<u8> =
            (0..TALK_BYTES_MAX as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        assert!(wrap(&noise).len() <= BODY_BYTES_MAX);
        assert_eq!(unwrap(&wrap(&noise)).as_deref(), Some(&noise[..]));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = gzip::pack(&vec![0; 10_000_000]).unwrap();
        assert!(bomb.len() < TALK_BYTES_MAX);
        assert_eq!(unwrap(&format!("z{}", BASE64.encode(&bomb))), None);
    }
}
