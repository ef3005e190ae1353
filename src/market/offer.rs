//! The offer: a maker's signed listing, carried as a BEP44 mutable item under a key of its own.
//!
//! The value is compact JSON. It always has `id`, `client_id`, `btc_quantity`, `offer_price`, `sequence` and `availability`; the
//! rest is described at [`OfferBody`]. Fields that a reader does not know are ignored, and kept, since the record travels as the
//! bytes that its maker signed.

use super::OfferId;
use crate::{
    amount::{Price, Quantity},
    bep44::{MutableItem, Target, VerifiedItem, bdecode_bytes, bencode_bytes},
    identity::{ClientId, Domain, KeyPair, MasterKey, Network, PublicKey, Signature},
    time::{UNIX_MILLIS_MAX, UnixMillis},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// The longest record (encoded) that may be created. BEP44 allows 1,000 bytes; the rest is room for later versions.
pub const RECORD_BYTES_AT_CREATION_MAX: usize = 900;
/// The longest memo, in bytes of UTF-8.
pub const MEMO_BYTES_MAX: usize = 120;
/// The longest time from an offer's creation to its death: every node must keep its tombstone until then.
pub const LIFETIME_MAX: Duration = Duration::from_hours(30 * 24);
/// The format that this program writes and reads.
const FORMAT: u8 = 1;

/// What the maker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The maker sells bitcoin: a bid must pay the asking price or more.
    #[default]
    Sell,
    /// The maker buys bitcoin: a bid must ask the offered price or less.
    Buy,
}

impl Side {
    /// Whether `bid` is at the offer's price or better for the maker.
    #[must_use]
    pub fn accepts(self, offer_price: Price, bid: Price) -> bool {
        match self {
            Self::Sell => bid >= offer_price,
            Self::Buy => bid <= offer_price,
        }
    }
}

/// How a maker chooses among bids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceptance {
    /// The first valid bid at the asking price or better is accepted at once.
    #[default]
    First,
    /// A way that this program does not know; it lists such an offer and does not bid on it.
    #[serde(other)]
    Unknown,
}

/// What is paid with: 2 to 8 upper-case letters or digits, such as `USD` or `USDT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 8]);

impl Currency {
    /// US dollars, the default.
    pub const USD: Self = Self(*b"USD\0\0\0\0\0");

    /// Whether it is bitcoin itself, by its own code or by that of ISO 4217's form.
    #[must_use]
    pub fn is_bitcoin(&self) -> bool {
        matches!(self.as_str(), "BTC" | "XBT")
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(8);
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }
}

/// Text that is not a currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a currency code of 2 to 8 upper-case letters or digits, such as USD")]
pub struct CurrencyError;

impl FromStr for Currency {
    type Err = CurrencyError;
    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let fits = (2..=8).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !fits {
            return Err(CurrencyError);
        }
        let mut code = [0; 8];
        code[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(code))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// A listing that is taken as a whole. Other kinds are not read.
    Offer,
}

/// What both sides agree to when they trade. Fixed when the offer is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What the maker does.
    pub side: Side,
    /// How much bitcoin.
    pub btc_quantity: Quantity,
    /// The price for one bitcoin.
    pub offer_price: Price,
    /// What is paid with.
    pub currency: Currency,
}

/// What an owner decides when creating an offer; checked by [`Offer::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOffer {
    /// Quantity, price, side, currency.
    pub terms: Terms,
    /// How bids are answered.
    pub acceptance: Acceptance,
    /// From when on it cannot be taken.
    pub expires_at: UnixMillis,
    /// From when on every node may forget it; not before `expires_at`.
    pub dies_at: UnixMillis,
    /// Free text for people: at most [`MEMO_BYTES_MAX`] bytes, no control characters.
    pub memo: Option<String>,
}

/// The JSON of an offer's value, field by field. A closed one has no `expires_at`, `acceptance` and `memo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferBody {
    /// Format of the record: 1.
    pub v: u8,
    /// The market it is listed in.
    pub network: Network,
    /// What it is.
    pub kind: RecordKind,
    /// The offer's id: a UUIDv7 that commits to the maker.
    pub id: OfferId,
    /// The maker.
    pub client_id: ClientId,
    /// Side, quantity, price, currency.
    #[serde(flatten)]
    pub terms: Terms,
    /// BEP44's `seq`: max(the previous one + 1, milliseconds of the maker's clock), below 2^53.
    pub sequence: u64,
    /// Whether it can be taken. Where it is false and the record is not closed, it may be taken again later.
    pub availability: bool,
    /// Nobody will ever take it again: no later version can say otherwise. Written only when it is true. What was closed before
    /// there was this field is read by [`OfferBody::is_closed`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub closed: bool,
    /// From when on it cannot be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
    /// From when on it may be forgotten.
    pub dies_at: UnixMillis,
    /// How bids are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<Box<str>>,
    /// The maker's client key's signature over the record's key and the id: binds the record to its maker.
    pub proof: Signature,
}

/// Why a record is not (or cannot become) an offer that this node lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The value is not a byte string of JSON of this form.
    #[error("the record cannot be read: {0}")]
    Malformed(String),
    /// Made for another market.
    #[error("the record is for network {0:?}")]
    WrongNetwork(String),
    /// A field has a value that it may not have.
    #[error("{field} {problem}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },
    /// The proof is not the maker's signature over this record's key and id.
    #[error("the proof does not bind this record to the maker it names")]
    WrongProof,
}

fn field(field: &'static str, problem: impl Into<String>) -> RecordError {
    RecordError::Field { field, problem: problem.into() }
}

/// A verified offer: signed by its record key, bound to its maker, well-formed, of this network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    item: VerifiedItem,
    body: OfferBody,
}

impl Offer {
    /// Makes and signs a new offer.
    pub fn create(
        master: &MasterKey,
        network: &Network,
        id: OfferId,
        new: NewOffer,
        now: UnixMillis,
    ) -> Result<Self, RecordError> {
        let client = master.client_key();
        let key = master.record_key(id.0);
        let statement = proof_statement(&key.public(), id);
        let body = OfferBody {
            v: FORMAT,
            network: network.clone(),
            kind: RecordKind::Offer,
            id,
            client_id: client.public(),
            terms: new.terms,
            // Never below the id's own time, also when the mint ran ahead of the clock.
            sequence: now.max(id.created_at()).0,
            availability: true,
            closed: false,
            expires_at: Some(new.expires_at),
            dies_at: new.dies_at,
            acceptance: Some(new.acceptance),
            memo: new.memo.map(Into::into),
            proof: Domain { network, kind: "proof" }.sign(&client, &statement),
        };
        let offer = Self::sign(&key, body)?;
        match offer.item.v.len() {
            len if len > RECORD_BYTES_AT_CREATION_MAX => Err(field(
                "memo",
                format!(
                    "makes the record {len} bytes long; {RECORD_BYTES_AT_CREATION_MAX} are allowed, shorten the memo"
                ),
            )),
            _ => Ok(offer),
        }
    }

    /// The next version of this own offer, closed: it keeps only what identifies it and says that it is closed.
    pub fn close(&self, master: &MasterKey, now: UnixMillis) -> Result<Self, RecordError> {
        let raised = u64::from(!cfg!(mutant = "sequence_not_raised_on_close"));
        let body = OfferBody {
            sequence: (self.body.sequence + raised).max(now.0 * raised),
            availability: false,
            closed: true,
            expires_at: None,
            acceptance: None,
            memo: None,
            ..self.body.clone()
        };
        Self::sign(&master.record_key(self.body.id.0), body)
    }

    fn sign(key: &KeyPair, body: OfferBody) -> Result<Self, RecordError> {
        check(&body)?;
        let json = serde_json::to_vec(&body).map_err(|e| RecordError::Malformed(e.to_string()))?;
        let item = VerifiedItem::sign(key, b"", body.sequence as i64, bencode_bytes(&json))
            .map_err(|e| RecordError::Malformed(e.to_string()))?;
        Ok(Self { item, body })
    }

    /// Reads a record from the network. `known` is a version of the same record that is held already: a proof that is equal to
    /// its one need not be verified again.
    pub fn read(item: VerifiedItem, network: &Network, known: Option<&Self>) -> Result<Self, RecordError> {
        Self::read_by(item, network, known, PublicKey::verifies)
    }

    /// The same, by a `check` of the proof that may remember what it was asked before.
    pub fn read_by(
        item: VerifiedItem,
        network: &Network,
        known: Option<&Self>,
        check: impl FnOnce(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<Self, RecordError> {
        let offer = Self::parse(item, network)?;
        let body = &offer.body;
        let proven = known.is_some_and(|k| {
            (k.item.k, k.body.id, k.body.client_id, k.body.proof)
                == (offer.item.k, body.id, body.client_id, body.proof)
        });
        let statement = proof_statement(&offer.item.k, body.id);
        let domain = Domain { network, kind: "proof" };
        if !proven && !domain.verifies_by(&body.client_id, &statement, &body.proof, check) {
            return Err(RecordError::WrongProof);
        }
        Ok(offer)
    }

    /// Takes back a record that this node itself checked and stored earlier, without checking signatures again.
    pub fn from_own_store(item: MutableItem, network: &Network) -> Result<Self, RecordError> {
        Self::parse(VerifiedItem::from_own_store(item), network)
    }

    fn parse(item: VerifiedItem, network: &Network) -> Result<Self, RecordError> {
        let body = Self::peek(&item, network)?;
        Ok(Self { item, body })
    }

    /// What an item says, whoever signed it.
    pub(super) fn peek(item: &MutableItem, network: &Network) -> Result<OfferBody, RecordError> {
        let malformed = |reason: &str| RecordError::Malformed(reason.into());
        let json = bdecode_bytes(&item.v).ok_or_else(|| malformed("its value is not one byte string"))?;
        let mut body: OfferBody =
            serde_json::from_slice(json).map_err(|e| RecordError::Malformed(e.to_string()))?;
        if body.network != *network {
            return Err(RecordError::WrongNetwork(body.network.to_string()));
        }
        // One name in memory for all the records of a replica.
        body.network = network.clone();
        if !item.salt.is_empty() {
            return Err(malformed("it has a salt"));
        }
        if i64::try_from(body.sequence) != Ok(item.seq) {
            return Err(field("sequence", "differs from the item's seq"));
        }
        check(&body)?;
        Ok(body)
    }

    /// The signed DHT item.
    pub fn item(&self) -> &VerifiedItem {
        &self.item
    }

    /// The DHT hash.
    pub fn target(&self) -> Target {
        self.item.target()
    }

    /// Until when it can be taken, if it can at all.
    pub fn available_until(&self) -> Option<UnixMillis> {
        self.body.expires_at.filter(|_| self.body.availability)
    }

    /// Whether it can be taken at `now`.
    pub fn is_available(&self, now: UnixMillis) -> bool {
        self.available_until().is_some_and(|until| now < until)
    }

    /// Whether every node may forget it.
    pub fn is_dead(&self, now: UnixMillis) -> bool {
        now >= self.body.dies_at
    }
}

impl std::ops::Deref for Offer {
    type Target = OfferBody;
    fn deref(&self) -> &OfferBody {
        &self.body
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn proof_statement(record_key: &PublicKey, id: OfferId) -> [u8; 48] {
    let mut statement = [0; 48];
    statement[..32].copy_from_slice(&record_key.0);
    statement[32..].copy_from_slice(id.0.as_bytes());
    statement
}

/// The rules that hold for every version of every offer, whoever made it.
fn check(body: &OfferBody) -> Result<(), RecordError> {
    if body.v != FORMAT {
        return Err(field("v", format!("is {}; this program reads format {FORMAT}", body.v)));
    }
    if !body.id.belongs_to(&body.network, &body.client_id) {
        return Err(field("id", "was not made by the maker it names"));
    }
    let created_at = body.id.created_at();
    if body.sequence > UNIX_MILLIS_MAX.0 || body.sequence < created_at.0 {
        return Err(field("sequence", "is not between the offer's creation and 2^53"));
    }
    if body.dies_at > created_at.plus(LIFETIME_MAX) {
        return Err(field(
            "dies_at",
            format!("is more than {} days after creation", LIFETIME_MAX.as_secs() / 86400),
        ));
    }
    if body.closed && body.availability {
        return Err(field("closed", "is true of an offer that can be taken"));
    }
    match body.expires_at {
        None if body.availability => return Err(field("expires_at", "is missing")),
        Some(at) if at > body.dies_at => return Err(field("expires_at", "is after dies_at")),
        Some(at) if at <= created_at => return Err(field("expires_at", "is not after the offer's creation")),
        _ => {}
    }
    match &body.memo {
        Some(memo) if memo.len() > MEMO_BYTES_MAX => {
            Err(field("memo", format!("is {} bytes long; {MEMO_BYTES_MAX} are allowed", memo.len())))
        }
        Some(memo) if memo.chars().any(char::is_control) => Err(field("memo", "contains control characters")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
