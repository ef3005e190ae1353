//! Gzip as Grenache uses it: the whole body, announced by `grc-compress: gzip` and by no HTTP header.

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::{Read, Write};

/// Why packed bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnpackError {
    /// Longer than allowed when unpacked; how much longer was not looked at.
    TooLong,
    /// No gzip, or not all of it.
    NotGzip,
}

/// Gunzips up to `bytes_max`.
pub(crate) fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    // One byte over the bound shows that there is more, without unpacking it.
    match GzDecoder::new(packed).take(bytes_max as u64 + 1).read_to_end(&mut unpacked) {
        Ok(length) if length > bytes_max => Err(UnpackError::TooLong),
        Ok(_) => Ok(unpacked),
        Err(_) => Err(UnpackError::NotGzip),
    }
}

/// Gzips; `None` never happens with a vector to write to.
pub(crate) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_no_more_than_allowed() {
        let packed = pack(&[7; 1000]).unwrap();
        assert!(packed.len() < 100);
        assert_eq!(unpack(&packed, 1000).unwrap(), [7; 1000]);
        assert_eq!(unpack(&packed, 999), Err(UnpackError::TooLong));
        assert_eq!(unpack(&packed[..packed.len() - 1], 1000), Err(UnpackError::NotGzip));
        assert_eq!(unpack(b"[1,2,3]", 1000), Err(UnpackError::NotGzip));
    }
}
