//! Stored items, mutable and immutable together: bounded, gone two hours after the last put. Who holds the most makes room first
//! (see [`quota`](super::quota)).
//!
//! An item counts for the one of those who put it that holds the least, so that nobody can take another's item into a full account
//! of his own.

use super::{
    Now,
    bencode::{self, Raw},
    id::NodeId,
    quota::{Quota, Rank},
    source::{Host, Payer},
    types::Item,
};
use crate::bep44::{MutableItem, Target, V_BYTES_MAX, VerifiedItem, bdecode_bytes};
use std::{
    collections::{BTreeSet, HashMap},
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

/// Why a value that is short enough is not put: a stock grape, and what it says to others, cannot carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dht) enum Uncarried {
    /// The integer 0 counts as no value, and nobody answers.
    Zero,
    /// Numbers are doubles: beyond 2^53 another one arrives, and its hash is another.
    Number,
    /// A key that is not UTF-8, or is not in the same place when keys are sorted as UTF-16.
    Key,
}

/// The largest integer that is exact in a double.
const EXACT_MAX: u64 = 1 << 53;

/// Whether a canonical value arrives unchanged at those who read and write it anew, as stock grapes do. Byte strings do, and are all
/// that is put but for what programs think up.
pub(in crate::dht) fn is_carried(v: &[u8]) -> Result<(), Uncarried> {
    if v.first().is_some_and(u8::is_ascii_digit) {
        return Ok(());
    }
    if v == b"i0e" {
        return Err(Uncarried::Zero);
    }
    // It fits, so its depth is a few hundred at most; it is parsed, so this ends.
    bencode::parse(v).map_or(Ok(()), |parsed| is_read_anew(parsed.raw))
}

fn is_read_anew(value: Raw<'_>) -> Result<(), Uncarried> {
    if value.bytes().is_some() {
        return Ok(());
    }
    if value.is_list() {
        return value.items().try_for_each(is_read_anew);
    }
    if !value.is_dict() {
        let exact = value.int().is_some_and(|number| number.unsigned_abs() <= EXACT_MAX);
        return if exact { Ok(()) } else { Err(Uncarried::Number) };
    }
    let mut last: Option<&str> = None;
    for (key, value) in value.fields() {
        let key = std::str::from_utf8(key).map_err(|_| Uncarried::Key)?;
        // In JavaScript this one is no key.
        if key == "__proto__" || last.is_some_and(|last| !last.encode_utf16().lt(key.encode_utf16())) {
            return Err(Uncarried::Key);
        }
        last = Some(key);
        is_read_anew(value)?;
    }
    Ok(())
}

/// The one account of all who put what was taken back after a restart, until each puts it again: no source has this host, which
/// is of IPv6's multicast. So it is the largest, and makes room first; nobody gains by a restart.
const EARLIER: Payer = Payer::Host(Host(u64::MAX));

/// Why a mutable item is not stored (BEP44's 301 and 302).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    CasMismatch,
    SeqTooLow,
}

struct Stored {
    item: Item,
    put_at: Now,
    payer: Payer,
    rank: Rank,
}

pub(super) struct Items {
    stored: HashMap<Target, Stored>,
    by_age: BTreeSet<(Now, Target)>,
    quota: Quota<Target>,
    own: NodeId,
    uses: u64,
    max: usize,
}

impl Items {
    pub(super) fn new(max: usize, own: NodeId) -> Self {
        Self { stored: HashMap::new(), by_age: BTreeSet::new(), quota: Quota::new(), own, uses: 0, max }
    }

    /// The own id has changed. What is stored keeps its rank until it is put again.
    pub(super) fn moved(&mut self, own: NodeId) {
        self.own = own;
    }

    pub(super) fn len(&self) -> usize {
        self.stored.len()
    }

    /// The item at a target; reading it counts as use.
    pub(super) fn get(&mut self, target: &Target) -> Option<&Item> {
        let stored = self.stored.get_mut(target)?;
        self.uses += 1;
        let before = std::mem::replace(&mut stored.rank.used, self.uses);
        self.quota.touch(stored.payer, Rank { used: before, ..stored.rank }, stored.rank, *target);
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

    /// Stores an item of somebody or renews it. Returns how many others had to go.
    pub(super) fn put(&mut self, item: Item, payer: Payer, now: Now) -> usize {
        let target = item.target();
        let former = self.stored.get(&target).map(|stored| stored.payer);
        self.remove(&target);
        let payer = match former {
            Some(former) if self.quota.size(former) < self.quota.size(payer) && payer != Payer::Own => former,
            _ => payer,
        };
        let mut evicted = 0;
        while self.stored.len() >= self.max.max(1) {
            let Some(victim) = self.quota.victim(payer, self.max) else { break };
            self.remove(&victim);
            evicted += 1;
        }
        self.uses += 1;
        // Where all nodes may be neighbours of one source, distance would favour some of its items over others for nothing.
        let shared_bits = match payer {
            Payer::Prefix(_) => self.own.shared_bits(&NodeId(target.0)) as u8,
            Payer::Own | Payer::Host(_) => 0,
        };
        let rank = Rank { shared_bits, used: self.uses };
        self.quota.add(payer, rank, target);
        self.by_age.insert((now, target));
        self.stored.insert(target, Stored { item, put_at: now, payer, rank });
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
            self.put(item, EARLIER, at);
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
            self.quota.remove(stored.payer, stored.rank, *target);
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
    use crate::{
        bep44::bencode_bytes,
        dht::core::source::{Host, Prefix},
        identity::KeyPair,
    };

    const OWN: NodeId = NodeId([0; 20]);
    const A: Payer = Payer::Host(Host(1));

    fn from(prefix: u64) -> Payer {
        Payer::Prefix(Prefix(prefix))
    }
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
        let mut items = Items::new(3, OWN);
        for n in 0..3 {
            assert_eq!(items.put(value(n), A, at(0)), 0);
        }
        assert!(items.get(&value(0).target()).is_some());
        assert_eq!(items.put(value(3), A, at(0)), 1);
        assert!(items.get(&value(1).target()).is_none());
        assert!(items.get(&value(0).target()).is_some());
        assert_eq!(items.len(), 3);
    }

    #[test]
    fn an_item_lives_two_hours_from_its_last_put() {
        let mut items = Items::new(3, OWN);
        items.put(value(0), A, at(0));
        items.put(value(1), A, at(0));
        items.put(value(0), A, at(3600));
        assert_eq!(items.next_expiry(), Some(at(7200)));
        items.expire(at(7200));
        assert!(items.get(&value(1).target()).is_none());
        assert!(items.get(&value(0).target()).is_some());
        items.expire(at(10_800));
        assert_eq!((items.len(), items.next_expiry()), (0, None));
    }

    #[test]
    fn cas_comes_before_the_sequence_and_an_identical_renewal_is_welcome() {
        let mut items = Items::new(3, OWN);
        let target = signed(5, b"x").target();
        assert_eq!(items.admits(&signed(5, b"x"), &target, Some(9)), Ok(()), "cas without a stored item");
        items.put(Item::Mutable(signed(5, b"x")), A, at(0));
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

    #[test]
    fn a_hundred_thousand_puts_from_one_address_push_out_only_its_own() {
        let mut items = Items::new(1000, OWN);
        for n in 0..900 {
            items.put(value(n), from(n as u64 / 9), at(0));
        }
        for n in 0..100 {
            items.put(value(900 + n), Payer::Own, at(0));
        }
        // The flood takes the place of one item each of those who hold more than their part, at most.
        let flood: usize = (0..100_000).map(|n| items.put(value(10_000 + n), from(666), at(1))).sum();
        assert_eq!((items.len(), flood), (1000, 100_000));
        let kept = (0..900).filter(|n| items.stored.contains_key(&value(*n).target())).count();
        assert!(kept >= 890, "{kept} of 900 are left");
        let own = (900..1000).filter(|n| items.stored.contains_key(&value(*n).target())).count();
        assert_eq!(own, 100);
    }

    #[test]
    fn of_one_public_source_the_farthest_goes_first() {
        let mut items = Items::new(20, OWN);
        for n in 0..200 {
            items.put(value(n), from(1), at(0));
        }
        let mut all: Vec<Target> = (0..200).map(|n| value(n).target()).collect();
        all.sort_by_key(|target| std::cmp::Reverse(OWN.shared_bits(&NodeId(target.0))));
        let near = all[..10].iter().filter(|target| items.stored.contains_key(target)).count();
        assert_eq!(near, 10);
    }

    #[test]
    fn nobody_takes_anothers_item_into_his_full_account() {
        let mut items = Items::new(10, OWN);
        items.put(value(0), from(1), at(0));
        for n in 1..10 {
            items.put(value(n), from(2), at(0));
        }
        items.put(value(0), from(2), at(1));
        for n in 10..100 {
            items.put(value(n), from(2), at(2));
        }
        assert!(items.get(&value(0).target()).is_some());
    }
}
