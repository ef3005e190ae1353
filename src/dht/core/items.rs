//! Stored items, mutable and immutable together: bounded, the least recently used goes first, gone two hours after the last put.

use super::{now::Now, types::Item};
use crate::bep44::{MutableItem, Target, V_BYTES_MAX, VerifiedItem, bdecode_bytes};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

/// BEP44: items may be dropped when they were not put again for two hours.
pub(super) const ITEM_AGE_MAX: Duration = Duration::from_hours(2);
/// Grapes put strings of up to 1,000 bytes *of content*, a little more than BEP44's 1,000 when bencoded.
const STRING_CONTENT_BYTES_MAX: usize = 1000;

/// Whether a bencoded value is within what is stored.
pub(in crate::dht) fn value_fits(v: &[u8]) -> bool {
    v.len() <= V_BYTES_MAX
        || bdecode_bytes(v).is_some_and(|content| content.len() <= STRING_CONTENT_BYTES_MAX)
}

/// Why a mutable item is not stored (BEP44's 301 and 302).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    CasMismatch,
    SeqTooLow,
}

struct Stored {
    item: Item,
    put_at: Now,
    used: u64,
}

pub(super) struct Items {
    stored: HashMap<Target, Stored>,
    by_age: BTreeSet<(Now, Target)>,
    by_use: BTreeMap<u64, Target>,
    uses: u64,
    max: usize,
}

impl Items {
    pub(super) fn new(max: usize) -> Self {
        Self { stored: HashMap::new(), by_age: BTreeSet::new(), by_use: BTreeMap::new(), uses: 0, max }
    }

    pub(super) fn len(&self) -> usize {
        self.stored.len()
    }

    /// The item at a target; reading it counts as use.
    pub(super) fn get(&mut self, target: &Target) -> Option<&Item> {
        let stored = self.stored.get_mut(target)?;
        self.uses += 1;
        self.by_use.remove(&std::mem::replace(&mut stored.used, self.uses));
        self.by_use.insert(self.uses, *target);
        Some(&stored.item)
    }

    /// The mutable item at a target, without counting as use.
    pub(super) fn mutable(&self, target: &Target) -> Option<&VerifiedItem> {
        match &self.stored.get(target)?.item {
            Item::Mutable(item) => Some(item),
            Item::Immutable(_) => None,
        }
    }

    /// Whether a put of this sequence and value would be accepted now: first cas, then the sequence (BEP44).
    pub(super) fn admits(&self, new: &MutableItem, target: &Target, cas: Option<i64>) -> Result<(), Refused> {
        let Some(held) = self.mutable(target) else { return Ok(()) };
        if cas.is_some_and(|cas| cas != held.seq) {
            return Err(Refused::CasMismatch);
        }
        // An equal sequence with the same value is a renewal.
        if new.seq < held.seq || (new.seq == held.seq && new.v != held.v) {
            return Err(Refused::SeqTooLow);
        }
        Ok(())
    }

    /// Whether exactly this item is stored, signature and all: then it need not be verified again.
    pub(super) fn holds(&self, item: &MutableItem, target: &Target) -> bool {
        self.mutable(target).is_some_and(|held| **held == *item)
    }

    /// Stores an item or renews it. Returns how many others had to go.
    pub(super) fn put(&mut self, item: Item, now: Now) -> usize {
        let target = item.target();
        self.remove(&target);
        let mut evicted = 0;
        while self.stored.len() >= self.max.max(1) {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            self.remove(&oldest);
            evicted += 1;
        }
        self.uses += 1;
        self.by_use.insert(self.uses, target);
        self.by_age.insert((now, target));
        self.stored.insert(target, Stored { item, put_at: now, used: self.uses });
        evicted
    }

    /// Takes back an item that was last put at `at`, unless its time is over or one is here that is as new.
    pub(super) fn restore(&mut self, item: Item, at: Now, now: Now) {
        let held = self.stored.get(&item.target());
        let superseded = held.is_some_and(|held| match (&held.item, &item) {
            (Item::Mutable(held), Item::Mutable(item)) if held.seq != item.seq => held.seq > item.seq,
            _ => held.put_at >= at,
        });
        if now.since(at) < ITEM_AGE_MAX && !superseded {
            self.put(item, at);
        }
    }

    /// Items in the order of their last put, after one of them and before an instant.
    pub(super) fn since(
        &self,
        after: Option<(Now, Target)>,
        before: Now,
    ) -> impl Iterator<Item = (Now, &Item)> {
        // A range that ends before it begins would panic.
        let end = (before, Target([0; 20]));
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.min(end)));
        let of = |&(at, target): &(Now, Target)| Some((at, &self.stored.get(&target)?.item));
        self.by_age
            .range((start, Bound::Included(end)))
            .take_while(move |(at, _)| *at < before)
            .filter_map(of)
    }

    fn remove(&mut self, target: &Target) {
        if let Some(stored) = self.stored.remove(target) {
            self.by_use.remove(&stored.used);
            self.by_age.remove(&(stored.put_at, *target));
        }
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some(&(at, target)) = self.by_age.first()
            && now.since(at) >= ITEM_AGE_MAX
        {
            self.remove(&target);
        }
    }

    /// When the next one will be too old.
    pub(super) fn next_expiry(&self) -> Option<Now> {
        self.by_age.first().map(|(at, _)| at.plus(ITEM_AGE_MAX))
    }
}

/// An item of the wire's parts.
pub(super) fn mutable_item(k: [u8; 32], sig: [u8; 64], seq: i64, salt: Arc<[u8]>, v: &[u8]) -> MutableItem {
    use crate::identity::{PublicKey, Signature};
    MutableItem { k: PublicKey(k), seq, v: v.into(), sig: Signature(sig), salt }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bep44::bencode_bytes, identity::KeyPair};

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }
    fn value(n: usize) -> Item {
        Item::Immutable(bencode_bytes(n.to_string().as_bytes()))
    }
    fn signed(seq: i64, v: &[u8]) -> VerifiedItem {
        VerifiedItem::sign(&KeyPair::from_seed(&[1; 32]), b"", seq, bencode_bytes(v)).unwrap()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut items = Items::new(3);
        for n in 0..3 {
            assert_eq!(items.put(value(n), at(0)), 0);
        }
        assert!(items.get(&value(0).target()).is_some());
        assert_eq!(items.put(value(3), at(0)), 1);
        assert!(items.get(&value(1).target()).is_none());
        assert!(items.get(&value(0).target()).is_some());
        assert_eq!(items.len(), 3);
    }

    #[test]
    fn an_item_lives_two_hours_from_its_last_put() {
        let mut items = Items::new(3);
        items.put(value(0), at(0));
        items.put(value(1), at(0));
        items.put(value(0), at(3600));
        assert_eq!(items.next_expiry(), Some(at(7200)));
        items.expire(at(7200));
        assert!(items.get(&value(1).target()).is_none());
        assert!(items.get(&value(0).target()).is_some());
        items.expire(at(10_800));
        assert_eq!((items.len(), items.next_expiry()), (0, None));
    }

    #[test]
    fn cas_comes_before_the_sequence_and_an_identical_renewal_is_welcome() {
        let mut items = Items::new(3);
        let target = signed(5, b"x").target();
        assert_eq!(items.admits(&signed(5, b"x"), &target, Some(9)), Ok(()), "cas without a stored item");
        items.put(Item::Mutable(signed(5, b"x")), at(0));
        assert_eq!(items.admits(&signed(4, b"x"), &target, Some(4)), Err(Refused::CasMismatch));
        assert_eq!(items.admits(&signed(4, b"x"), &target, Some(5)), Err(Refused::SeqTooLow));
        assert_eq!(items.admits(&signed(5, b"y"), &target, None), Err(Refused::SeqTooLow));
        assert_eq!(items.admits(&signed(5, b"x"), &target, None), Ok(()));
        assert_eq!(items.admits(&signed(6, b"y"), &target, Some(5)), Ok(()));
    }

    #[test]
    fn strings_may_be_a_little_longer_than_other_values() {
        assert!(value_fits(&bencode_bytes(&[0; 1000])));
        assert!(!value_fits(&bencode_bytes(&[0; 1001])));
        let list = |content| [b"l", &*bencode_bytes(&vec![0; content]), b"e"].concat();
        assert!(value_fits(&list(994)));
        assert!(!value_fits(&list(995)));
    }
}
