//! Items of the DHT as BEP44 defines them: where they live and what their signatures cover.
//!
//! `v` is carried as the *bencoded* bytes that were received, because hashes and signatures cover exactly those. A
//! [`VerifiedItem`] exists only once its signature was checked (or was just made), so that no layer above checks it again.

use crate::identity::{KeyPair, PublicKey, Signature, decode_hex, encode_hex};
use sha1::{Digest, Sha1};
use std::{fmt, str::FromStr, sync::Arc};

/// The longest bencoded `v`: BEP44's 1,000 bytes.
pub const V_BYTES_MAX: usize = 1000;
/// The longest salt (BEP44).
pub const SALT_BYTES_MAX: usize = 64;

/// Where an item lives: 20 bytes, written as 40 hex digits. For an offer this is the "DHT hash" that users see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(pub [u8; 20]);

impl Target {
    /// The target of a mutable item: SHA-1 of key and salt.
    #[must_use]
    pub fn of_key(k: &[u8; 32], salt: &[u8]) -> Self {
        Self(Sha1::new().chain_update(k).chain_update(salt).finalize().into())
    }

    /// The target of an immutable item: SHA-1 of its bencoded value.
    #[must_use]
    pub fn of_value(v_bencoded: &[u8]) -> Self {
        Self(Sha1::digest(v_bencoded).into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_hex(&self.0))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Text that is not 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a DHT hash of 40 hex digits")]
pub struct TargetError;

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        decode_hex(text).map(Self).ok_or(TargetError)
    }
}

/// A mutable item as it arrived: nothing about it is known to be true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MutableItem {
    /// The public key that owns the target.
    pub k: PublicKey,
    /// Which version this is; the newest wins.
    pub seq: i64,
    /// The bencoded value, as received.
    pub v: Arc<[u8]>,
    /// The signature over salt, seq and v.
    pub sig: Signature,
    /// Empty when there is none. An explicitly empty salt is no salt (BEP44).
    pub salt: Arc<[u8]>,
}

/// Why an item was refused, before or after its signature was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// `v` is over [`V_BYTES_MAX`].
    #[error("the value is longer than {V_BYTES_MAX} bytes when bencoded")]
    ValueTooLong,
    /// The salt is over [`SALT_BYTES_MAX`].
    #[error("the salt is longer than {SALT_BYTES_MAX} bytes")]
    SaltTooLong,
    /// The signature is not the key's.
    #[error("the signature is not the key's")]
    BadSignature,
}

impl MutableItem {
    /// Where it lives.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::of_key(&self.k.0, &self.salt)
    }

    /// Checks the signature.
    pub fn verify(self) -> Result<VerifiedItem, ItemError> {
        self.verify_by(PublicKey::verifies)
    }

    /// The same, by a `check` that may remember what it was asked before.
    pub fn verify_by(
        self,
        check: impl FnOnce(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<VerifiedItem, ItemError> {
        let is_genuine = check(&self.k, &signed_bytes(&self.salt, self.seq, &self.v), &self.sig);
        if is_genuine || cfg!(mutant = "replica_believes_any_record") {
            Ok(VerifiedItem { target: self.target(), item: self })
        } else {
            Err(ItemError::BadSignature)
        }
    }
}

/// A mutable item whose signature was checked, or made here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedItem {
    item: MutableItem,
    target: Target,
}

impl VerifiedItem {
    /// Signs a value (already bencoded) as version `seq` of the item of `key`.
    pub fn sign(key: &KeyPair, salt: &[u8], seq: i64, v: Arc<[u8]>) -> Result<Self, ItemError> {
        if v.len() > V_BYTES_MAX {
            return Err(ItemError::ValueTooLong);
        }
        if salt.len() > SALT_BYTES_MAX {
            return Err(ItemError::SaltTooLong);
        }
        let sig = key.sign(&signed_bytes(salt, seq, &v));
        let item = MutableItem { k: key.public(), seq, v, sig, salt: salt.into() };
        Ok(Self { target: item.target(), item })
    }

    /// Takes back an item that this node itself checked and stored earlier, without checking the signature again.
    #[must_use]
    pub fn from_own_store(item: MutableItem) -> Self {
        Self { target: item.target(), item }
    }

    /// Where it lives (computed once).
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// The item, to store or to send.
    #[must_use]
    pub fn into_inner(self) -> MutableItem {
        self.item
    }
}

impl std::ops::Deref for VerifiedItem {
    type Target = MutableItem;
    fn deref(&self) -> &MutableItem {
        &self.item
    }
}

/// BEP44's signed bytes: `[4:salt<len>:<salt>]3:seqi<seq>e1:v<v>`, `v` bencoded. An empty salt is left out.
fn signed_bytes(salt: &[u8], seq: i64, v: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(v.len() + salt.len() + 48);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(v);
    bytes
}

/// Bencodes a byte string: `<len>:<bytes>`.
#[must_use]
pub fn bencode_bytes(bytes: &[u8]) -> Arc<[u8]> {
    let mut out = Vec::with_capacity(bytes.len() + 5);
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.into()
}

/// The content of a bencoded byte string, when `v` is exactly one, canonically written.
#[must_use]
pub fn bdecode_bytes(v: &[u8]) -> Option<&[u8]> {
    let colon = v.iter().take(6).position(|&b| b == b':')?;
    let digits = &v[..colon];
    let canonical = digits == b"0"
        || (digits.first().is_some_and(|&d| d != b'0') && digits.iter().all(u8::is_ascii_digit));
    let len: usize = std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()?;
    let content = &v[colon + 1..];
    (content.len() == len).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BEP44, "Test vectors": the key of all three, and the two mutable ones.
    const K: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";

    fn item(sig: &str, salt: &[u8]) -> MutableItem {
        MutableItem {
            k: K.parse().unwrap(),
            seq: 1,
            v: bencode_bytes(b"Hello World!"),
            sig: Signature(decode_hex(sig).unwrap()),
            salt: salt.into(),
        }
    }
    fn vector_1() -> MutableItem {
        item(
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
            b"",
        )
    }

    #[test]
    fn bep44_test_vector_1_mutable() {
        let item = vector_1().verify().unwrap();
        assert_eq!(item.target().to_string(), "4a533d47ec9c7d95b1ad75f576cffc641853b750");
    }

    #[test]
    fn bep44_test_vector_2_mutable_with_salt() {
        let sig = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";
        let item = item(sig, b"foobar").verify().unwrap();
        assert_eq!(item.target().to_string(), "411eba73b6f087ca51a3795d9c8c938d365e32c1");
    }

    #[test]
    fn bep44_test_vector_3_immutable() {
        let target = Target::of_value(&bencode_bytes(b"Hello World!"));
        assert_eq!(target.to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    }

    #[test]
    fn a_changed_value_sequence_salt_or_signature_is_refused() {
        let changes: [fn(&mut MutableItem); 4] = [
            |i| i.v = bencode_bytes(b"Hello World?"),
            |i| i.seq = 2,
            |i| i.salt = b"x"[..].into(),
            |i| i.sig.0[63] ^= 1,
        ];
        for change in changes {
            let mut item = vector_1();
            change(&mut item);
            assert_eq!(item.verify(), Err(ItemError::BadSignature));
        }
    }

    #[test]
    fn what_is_signed_here_verifies() {
        let key = KeyPair::from_seed(&[3; 32]);
        let item = VerifiedItem::sign(&key, b"salt", 7, bencode_bytes(b"value")).unwrap();
        assert_eq!(item.clone().into_inner().verify(), Ok(item));
    }

    #[test]
    fn oversized_values_and_salts_are_not_signed() {
        let key = KeyPair::from_seed(&[3; 32]);
        assert_eq!(VerifiedItem::sign(&key, b"", 1, bencode_bytes(&[0; 997])), Err(ItemError::ValueTooLong));
        assert_eq!(VerifiedItem::sign(&key, &[0; 65], 1, bencode_bytes(b"")), Err(ItemError::SaltTooLong));
        assert!(VerifiedItem::sign(&key, &[0; 64], 1, bencode_bytes(&[0; 996])).is_ok());
    }

    #[test]
    fn byte_strings_are_read_only_in_their_canonical_form() {
        assert_eq!(bdecode_bytes(b"3:abc"), Some(&b"abc"[..]));
        assert_eq!(bdecode_bytes(b"0:"), Some(&b""[..]));
        for bad in [&b""[..], b":", b"03:abc", b"3:ab", b"3:abcd", b"i3e", b"+3:abc", b"00:", b"9999999999:"]
        {
            assert_eq!(bdecode_bytes(bad), None, "{bad:?}");
        }
    }
}
