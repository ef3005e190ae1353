//! Pages of lists: `limit`, `cursor`, and how a cursor is written.

use super::{
    fields::{Fields, whole},
    problem::Problem,
};
use crate::{
    bep44::Target,
    identity::{PublicKey, decode_hex, encode_hex},
};
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

impl Cursor for (Uuid, Target) {
    fn write(&self) -> String {
        encode_hex(self.0.as_bytes()) + &encode_hex(&self.1.0)
    }
    fn read(text: &str) -> Option<Self> {
        let (id, hash) = text.split_at_checked(32)?;
        Some((Uuid::read(id)?, Target(decode_hex(hash)?)))
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

/// Which page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageQuery<C> {
    pub(super) limit: usize,
    /// Entries before this one.
    pub(super) before: Option<C>,
}

impl<C: Cursor> PageQuery<C> {
    /// Takes `limit` and `cursor` out of a query.
    pub(super) fn take(fields: &mut Fields<String>) -> Self {
        let limit = fields.optional("limit", |text| whole(&text, 1..=LIMIT_MAX as u64));
        let before = fields.optional("cursor", |text| {
            C::read(&text)
                .ok_or_else(|| "is not a next_cursor of this list; leave it out to start anew".into())
        });
        Self { limit: limit.map_or(LIMIT_DEFAULT, |limit| limit as usize), before }
    }

    /// Of a query that says nothing else.
    pub(super) fn of(query: &str) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(query)?;
        let page = Self::take(&mut fields);
        fields.finish()?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_text() {
        let (id, hash, key) = (Uuid::from_u128(7), Target([9; 20]), PublicKey([8; 32]));
        assert_eq!(Uuid::read(&id.write()), Some(id));
        assert_eq!(<(Uuid, Target)>::read(&(id, hash).write()), Some((id, hash)));
        assert_eq!(<(Uuid, PublicKey)>::read(&(id, key).write()), Some((id, key)));
        for bad in ["", "x", "00", &"é".repeat(40), &"0".repeat(73)] {
            assert!(<(Uuid, Target)>::read(bad).is_none() && Uuid::read(bad).is_none(), "{bad}");
        }
    }
}
