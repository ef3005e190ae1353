//! Frames: how records stand in a file, so that damage costs what is damaged and nothing beside it.
//!
//! Four bytes of magic, the length of the payload (u32, little endian), eight bytes of checksum over length and payload, and the
//! payload. A frame that is not whole is passed over byte by byte until the next one that is.

use sha1::{Digest, Sha1};

/// Where a frame begins. The last byte is the version of what is in it.
const MAGIC: [u8; 4] = [0xf5, b'v', b'g', 1];
const HEAD_BYTES: usize = 16;
/// The longest payload: the longest name, or an item with the longest value and salt, is far shorter.
pub(super) const PAYLOAD_BYTES_MAX: usize = 4096;

/// The first bytes of SHA-1: against what disks do, not against people, who would write the right one.
fn checksum(length: [u8; 4], payload: &[u8]) -> [u8; 8] {
    let hash = Sha1::new().chain_update(length).chain_update(payload).finalize();
    std::array::from_fn(|at| hash[at])
}

/// Appends a frame whose payload `write` makes.
pub(super) fn write(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let head = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; HEAD_BYTES - MAGIC.len()]);
    write(out);
    let payload = head + HEAD_BYTES;
    let length = u32::try_from(out.len() - payload).unwrap_or(u32::MAX).to_le_bytes();
    let sum = checksum(length, &out[payload..]);
    out[head + 4..head + 8].copy_from_slice(&length);
    out[head + 8..payload].copy_from_slice(&sum);
}

/// The whole frames in `bytes`, and how many bytes belong to none.
pub(super) fn read<'b>(bytes: &'b [u8], mut take: impl FnMut(&'b [u8]) -> bool) -> usize {
    let (mut at, mut lost) = (0, 0);
    while at < bytes.len() {
        match whole(&bytes[at..]) {
            Some(payload) => {
                let frame = HEAD_BYTES + payload.len();
                // A frame whose content is nothing known is as good as damaged.
                lost += if take(payload) { 0 } else { frame };
                at += frame;
            }
            None => {
                let next = bytes[at + 1..].windows(MAGIC.len()).position(|window| window == MAGIC);
                let skipped = next.map_or(bytes.len() - at, |next| next + 1);
                lost += skipped;
                at += skipped;
            }
        }
    }
    lost
}

/// The payload of the frame at the beginning of `bytes`, if it is whole.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length: [u8; 4] = head[4..8].try_into().ok()?;
    let bytes_long = u32::from_le_bytes(length) as usize;
    if head[..4] != MAGIC || bytes_long > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + bytes_long)?;
    (checksum(length, payload)[..] == head[8..]).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            write(&mut out, |out| out.extend_from_slice(payload));
        }
        out
    }
    fn all(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut found = Vec::new();
        let lost = read(bytes, |payload| {
            found.push(payload.to_vec());
            true
        });
        (found, lost)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            prop_assert_eq!(all(&framed(&payloads)), (payloads, 0));
        }

        #[test]
        fn damage_costs_the_frames_it_touches_and_no_other(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 3..20),
            at: prop::sample::Index, length in 1usize..300, byte: u8,
        ) {
            let mut bytes = framed(&payloads);
            let start = at.index(bytes.len());
            let end = (start + length).min(bytes.len());
            let before = bytes.clone();
            bytes[start..end].fill(byte);
            let (found, lost) = all(&bytes);
            let mut position = 0;
            let whole: Vec<Vec<u8>> = payloads.into_iter().filter(|payload| {
                let frame = position..position + HEAD_BYTES + payload.len();
                position = frame.end;
                before[frame.clone()] == bytes[frame]
            }).collect();
            prop_assert_eq!(found, whole);
            prop_assert_eq!(lost > 0, before != bytes);
        }

        #[test]
        fn a_file_that_was_cut_off_keeps_what_stands_before(payload in prop::collection::vec(any::<u8>(), 0..200), cut: prop::sample::Index) {
            let first = framed(std::slice::from_ref(&payload));
            let both = framed(&[payload.clone(), payload.clone()]);
            let cut = first.len() + cut.index(first.len());
            prop_assert_eq!(all(&both[..cut]), (vec![payload], cut - first.len()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = all(&bytes);
        }
    }
}
