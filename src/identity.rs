//! Who signs, and what may be believed.
//!
//! One 32-byte [`MasterKey`] backs up a whole node: the client key and every record's key are derived from it. A signature
//! that is not BEP44's own covers a [`Domain`], so that nothing signed for one purpose or network can be shown for another.
//! There is one rule of verification everywhere, `verify_strict` of ed25519-dalek: RFC 8032 without malleable signatures and
//! without small orders.

use crate::bep44::Target;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt, str::FromStr};
use zeroize::Zeroizing;

/// Text that is not the expected number of hex or base64url digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not {expected}")]
pub struct TextError {
    expected: &'static str,
}

/// A public key: 32 bytes, written as 64 hex digits. A node's own one is its *client id*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Who a node is: its client key. Where it is comes from the DHT.
pub type ClientId = PublicKey;

/// An ed25519 signature: 64 bytes, written as 86 base64url digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

/// The canonical encodings of the eight points whose order divides the cofactor.
const SMALL_ORDER: [[u8; 32]; 8] = {
    let order_8 = *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
                     \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05";
    let order_8_too = *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
                         \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a";
    let mut order_1 = [0; 32];
    order_1[0] = 1;
    let mut order_2 = [0xff; 32];
    (order_2[0], order_2[31]) = (0xec, 0x7f);
    let order_4 = [0; 32];
    [
        order_1,
        order_2,
        order_4,
        negative(order_4),
        order_8,
        negative(order_8),
        order_8_too,
        negative(order_8_too),
    ]
};

/// The encoding of the same y with the other x.
const fn negative(mut point: [u8; 32]) -> [u8; 32] {
    point[31] |= 0x80;
    point
}

impl PublicKey {
    /// Before all others, in their order. Nobody has it.
    pub const SMALLEST: Self = Self([0; 32]);
    /// After all others.
    pub const LARGEST: Self = Self([0xff; 32]);

    /// Whether `signature` over `message` was made by this key's owner.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        // `verify_strict` decompresses R only to see that its order is not small, a tenth of its time. R is equal to what is computed
        // from the rest, which is encoded canonically, so that its bytes show it as well.
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            !key.is_weak()
                && !SMALL_ORDER.iter().any(|point| signature.0.starts_with(point))
                && key.verify(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
        })
    }

    /// The SHA-1 of the key: where this key's unsalted BEP44 item lives.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::of_key(&self.0, b"")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        decode_hex(text).map(Self).ok_or(TextError { expected: "a public key of 64 hex digits" })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Signature {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|b| b.try_into().ok());
        bytes.map(Self).ok_or(TextError { expected: "a signature of 86 base64url digits" })
    }
}

/// Exactly `N` bytes from hex text, upper or lower case.
pub fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Lower-case hex text.
pub fn encode_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(PublicKey, Signature, Target, Network);

/// The network's name: which market this is. Lower-case letters, digits and hyphens, 1 to 32 of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Network(std::sync::Arc<str>);

/// The longest network name, in bytes: it stands in every record, which must fit into 900.
pub const NETWORK_NAME_BYTES_MAX: usize = 32;

impl Network {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Network {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let fits = (1..=NETWORK_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let expected = "a network name of 1 to 32 lower-case letters, digits and hyphens";
        if fits { Ok(Self(text.into())) } else { Err(TextError { expected }) }
    }
}

/// What a signature is for: `vintner/1/<network>/<kind>`.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    /// The market it is good in.
    pub network: &'a Network,
    /// The kind of statement, such as `bid`, `trade` or `proof`.
    pub kind: &'static str,
}

impl Domain<'_> {
    /// The signed bytes: the domain string, a zero byte (which no domain contains), the statement.
    fn message(&self, statement: &[u8]) -> Vec<u8> {
        let mut bytes = format!("vintner/1/{}/{}\0", self.network, self.kind).into_bytes();
        bytes.extend_from_slice(statement);
        bytes
    }

    /// Signs `statement` for this domain.
    #[must_use]
    pub fn sign(&self, key: &KeyPair, statement: &[u8]) -> Signature {
        key.sign(&self.message(statement))
    }

    /// Whether `signature` is `signer`'s on `statement` in this domain.
    #[must_use]
    pub fn verifies(&self, signer: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
        self.verifies_by(signer, statement, signature, PublicKey::verifies)
    }

    /// The same, by a `check` that may remember what it was asked before.
    pub fn verifies_by(
        &self,
        signer: &PublicKey,
        statement: &[u8],
        signature: &Signature,
        check: impl FnOnce(&PublicKey, &[u8], &Signature) -> bool,
    ) -> bool {
        check(signer, &self.message(statement), signature)
    }
}

/// A secret key with its public one. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// From the 32 secret bytes (the seed of RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// A bare signature. Use [`Domain::sign`] for everything that is not a BEP44 item.
    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, secret hidden)", self.public())
    }
}

/// The 32 bytes that a node's owner must keep: every other key is derived from them by HKDF-SHA-256 (RFC 5869).
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; 32]>,
    /// Derived once: it signs in every record.
    client: KeyPair,
}

impl MasterKey {
    /// From 32 bytes of a good random source.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let client = KeyPair::from_seed(&derive(&bytes, &[b"vintner/1/client"]));
        Self { bytes, client }
    }

    /// The bytes, for the file that keeps them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The key that says who this node is.
    #[must_use]
    pub fn client_key(&self) -> KeyPair {
        self.client.clone()
    }

    /// The key of one record: its own for each, so that any grape client can fetch and check it by its hash alone.
    #[must_use]
    pub fn record_key(&self, id: uuid::Uuid) -> KeyPair {
        KeyPair::from_seed(&derive(&self.bytes, &[b"vintner/1/record/", id.as_bytes()]))
    }

    /// A secret for a purpose that is not a signature, such as making DHT write tokens.
    #[must_use]
    pub fn secret(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.bytes, &[b"vintner/1/secret/", purpose.as_bytes()])
    }
}

fn derive(master: &[u8; 32], purpose: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let hkdf = hkdf::Hkdf::<Sha256>::new(None, master);
    hkdf.expand_multi_info(purpose, &mut out[..])
        .unwrap_or_else(|_| unreachable!("32 bytes are within HKDF's limit"));
    out
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(hidden)")
    }
}

/// A statement as it was signed: its exact text and the signature over it. Nothing is known about it yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedText {
    /// The signed text, byte for byte.
    pub text: String,
    /// The signature over the domain and the text.
    pub sig: Signature,
}

impl SignedText {
    /// SHA-256 of text and signature: two are the same statement exactly when this is equal.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.text.as_bytes()).chain_update(self.sig.0).finalize().into()
    }
}

/// A statement that can be signed: it knows its kind and who must have signed it.
pub trait Statement: Serialize + for<'de> Deserialize<'de> {
    /// The last part of the signature's domain.
    const KIND: &'static str;
    /// The longest text that is looked at.
    const TEXT_BYTES_MAX: usize;
    /// The key that must have signed it.
    fn signer(&self) -> PublicKey;
    /// The network it is made for.
    fn network(&self) -> &Network;
}

/// Why a signed statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Longer than the kind allows.
    #[error("the {kind} is longer than {max} bytes")]
    TooLong {
        /// Which kind of statement.
        kind: &'static str,
        /// Its limit.
        max: usize,
    },
    /// Not the JSON of this kind.
    #[error("the {kind} cannot be read: {reason}")]
    Malformed {
        /// Which kind of statement.
        kind: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// Made for another market.
    #[error("the {kind} is for network {found:?}, this node trades on {expected:?}")]
    WrongNetwork {
        /// Which kind of statement.
        kind: &'static str,
        /// The network it names.
        found: String,
        /// This node's network.
        expected: String,
    },
    /// The signature is not its signer's.
    #[error("the signature on the {kind} is not {signer}'s")]
    BadSignature {
        /// Which kind of statement.
        kind: &'static str,
        /// Who should have signed.
        signer: PublicKey,
    },
}

/// A statement whose signature was checked. It can be made in two ways only: by signing, or by verifying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed<T> {
    value: T,
    source: SignedText,
}

impl<T: Statement> Signed<T> {
    /// Signs `value` with `key`, which must be the key of its signer.
    #[must_use]
    pub fn sign(key: &KeyPair, value: T) -> Self {
        debug_assert_eq!(key.public(), value.signer(), "a statement is signed by its own signer");
        let text =
            serde_json::to_string(&value).unwrap_or_else(|e| unreachable!("plain structs become JSON: {e}"));
        let sig = Domain { network: value.network(), kind: T::KIND }.sign(key, text.as_bytes());
        Self { value, source: SignedText { text, sig } }
    }

    /// Reads and checks a statement that somebody else sent: size, form, network, signature, in this order.
    pub fn verify(source: SignedText, network: &Network) -> Result<Self, StatementError> {
        let kind = T::KIND;
        if source.text.len() > T::TEXT_BYTES_MAX {
            return Err(StatementError::TooLong { kind, max: T::TEXT_BYTES_MAX });
        }
        let value: T = serde_json::from_str(&source.text)
            .map_err(|e| StatementError::Malformed { kind, reason: e.to_string() })?;
        if value.network() != network {
            let (found, expected) = (value.network().to_string(), network.to_string());
            return Err(StatementError::WrongNetwork { kind, found, expected });
        }
        let signer = value.signer();
        if !(Domain { network, kind }).verifies(&signer, source.text.as_bytes(), &source.sig) {
            return Err(StatementError::BadSignature { kind, signer });
        }
        Ok(Self { value, source })
    }

    /// Reads back what this node itself checked and stored earlier, without checking the signature again.
    pub fn from_own_store(source: SignedText) -> Result<Self, StatementError> {
        let value = serde_json::from_str(&source.text)
            .map_err(|e| StatementError::Malformed { kind: T::KIND, reason: e.to_string() })?;
        Ok(Self { value, source })
    }

    /// The exact text and signature, to store or to pass on.
    pub fn source(&self) -> &SignedText {
        &self.source
    }
}

impl<T> std::ops::Deref for Signed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests;
