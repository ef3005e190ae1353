//! Pages of lists: `limit`, `cursor`, and how a cursor is written.
//!
//! A cursor starts with a mark of its list: which list, with which filters, in which order. One of another list is refused, since
//! reading on from it would leave out something without a word.

use super::{
    fields::{Fields, whole},
    problem::Problem,
};
use crate::{
    amount::Price,
    bep44::Target,
    identity::{PublicKey, decode_hex, encode_hex},
    market::TradeId,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};
use std::fmt::Debug;
use uuid::Uuid;

/// Entries in a page when the caller does not say.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// Entries in a page at most: about 1 MB of offers.
pub(super) const LIMIT_MAX: usize = 1000;

/// Where a list goes on. Its text is hex digits, and means nothing to callers.
pub(super) trait Cursor: Sized {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

impl Cursor for Uuid {
    fn write(&self) -> String {
        encode_hex(self.as_bytes())
    }
    fn read(text: &str) -> Option<Self> {
        decode_hex(text).map(Self::from_bytes)
    }
}

impl Cursor for (UnixMillis, TradeId) {
    fn write(&self) -> String {
        encode_hex(&self.0.0.to_be_bytes()) + &encode_hex(self.1.0.as_bytes())
    }
    fn read(text: &str) -> Option<Self> {
        let (at, id) = text.split_at_checked(16)?;
        Some((UnixMillis(u64::from_be_bytes(decode_hex(at)?)), TradeId(Uuid::read(id)?)))
    }
}

/// An offer's place: its price, which counts in lists that are sorted by it, its id, its hash.
impl Cursor for (Price, Uuid, Target) {
    fn write(&self) -> String {
        encode_hex(&self.0.units().to_be_bytes()) + &encode_hex(self.1.as_bytes()) + &encode_hex(&self.2.0)
    }
    fn read(text: &str) -> Option<Self> {
        let (price, text) = text.split_at_checked(16)?;
        let (id, hash) = text.split_at_checked(32)?;
        let price = Price::from_units(u64::from_be_bytes(decode_hex(price)?))?;
        Some((price, Uuid::read(id)?, Target(decode_hex(hash)?)))
    }
}

impl Cursor for (Uuid, PublicKey) {
    fn write(&self) -> String {
        encode_hex(self.0.as_bytes()) + &encode_hex(&self.1.0)
    }
    fn read(text: &str) -> Option<Self> {
        let (id, key) = text.split_at_checked(32)?;
        Some((Uuid::read(id)?, PublicKey(decode_hex(key)?)))
    }
}

/// The start of every cursor of one list, in bytes.
const MARK_BYTES: usize = 4;

/// Which page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageQuery<C> {
    mark: [u8; MARK_BYTES],
    pub(super) limit: usize,
    /// Entries before this one.
    pub(super) before: Option<C>,
}

impl<C: Cursor> PageQuery<C> {
    /// Takes `limit` and `cursor` out of a query. `list` is all else that it says, by which cursors are told apart.
    pub(super) fn take(fields: &mut Fields<String>, list: &impl Debug) -> Self {
        let digest: [u8; 32] = Sha256::digest(format!("{list:?}")).into();
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&digest[..MARK_BYTES]);
        let limit = fields.optional("limit", |text| whole(&text, 1..=LIMIT_MAX as u64));
        // Of filters that are wrong it cannot be said whose cursor it is.
        let told = fields.is_right();
        let before = fields.optional("cursor", |text| {
            let wrong = "is not a next_cursor of this list; leave it out to start anew";
            let (of, place) = text.split_at_checked(2 * MARK_BYTES).ok_or(wrong)?;
            let place = C::read(place).ok_or(wrong)?;
            if told && decode_hex(of) != Some(mark) {
                let other =
                    "belongs to a list with other filters, or in another order; leave it out to start anew";
                return Err(other.into());
            }
            Ok(place)
        });
        Self { mark, limit: limit.map_or(LIMIT_DEFAULT, |limit| limit as usize), before }
    }

    /// Of a query that says nothing else.
    pub(super) fn of(query: &str, list: &impl Debug) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let page = Self::take(&mut fields, list);
        fields.finish()?;
        Ok(page)
    }

    /// The cursor that goes on after `place`.
    pub(super) fn cursor(&self, place: &C) -> String {
        encode_hex(&self.mark) + &place.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_text() {
        let (id, hash, key) = (Uuid::from_u128(7), Target([9; 20]), PublicKey([8; 32]));
        let (price, at) = (Price::from_units(5).unwrap(), UnixMillis(6));
        assert_eq!(<(Price, Uuid, Target)>::read(&(price, id, hash).write()), Some((price, id, hash)));
        assert_eq!(<(UnixMillis, TradeId)>::read(&(at, TradeId(id)).write()), Some((at, TradeId(id))));
        assert_eq!(<(Uuid, PublicKey)>::read(&(id, key).write()), Some((id, key)));
        for bad in ["", "x", "00", &"é".repeat(40), &"0".repeat(89), &"0".repeat(88)] {
            assert!(<(Price, Uuid, Target)>::read(bad).is_none() && Uuid::read(bad).is_none(), "{bad}");
            assert!(<(Uuid, PublicKey)>::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let cursor = PageQuery::<Uuid>::of("", &"one").unwrap().cursor(&Uuid::from_u128(7));
        let read = |query: &str, list| PageQuery::<Uuid>::of(query, &list).map(|page| page.before);
        assert_eq!(read(&format!("cursor={cursor}&limit=3"), "one").unwrap(), Some(Uuid::from_u128(7)));
        let other = format!("{:?}", read(&format!("cursor={cursor}"), "other").unwrap_err());
        assert!(other.contains("other filters"), "{other}");
        for bad in ["", "00", &cursor[1..], &format!("{cursor}00")] {
            let wrong = format!("{:?}", read(&format!("cursor={bad}"), "one").unwrap_err());
            assert!(wrong.contains("not a next_cursor"), "{wrong}");
        }
    }
}
