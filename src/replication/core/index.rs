//! Which versions this node holds, and the roots over them.
//!
//! Everything here is said *as of* a time: of each record the newest version whose sequence is not above it, unless the record
//! was dead by then. Since a sequence is its maker's milliseconds, two who have heard of the same versions say the same of any
//! time, whoever heard what first; so what a maker said of a minute ago can be compared with what is held now.
//!
//! A maker's records are hashed in two steps, so that who lacks one of 100,000 need not be told of all:
//!
//! ```text
//! bucket b: SHA-256 over (target ‖ sequence ‖ value hash) of the records whose target begins with the byte b, by target
//! root:     SHA-256 over (b ‖ hash of bucket b) of the buckets that are not empty, by b
//! ```
//!
//! A hash is computed when somebody asks, and kept for as long as it is true of the times that are asked for: that of a maker always,
//! those of its buckets when it has many records.
//!
//! All versions stand in one map, by maker and target. A map for each maker or bucket would take a kilobyte for one record.

use super::{
    head::Root,
    limits::DEAD_KEPT_FOR,
    version::{Stamp, Version},
};
use crate::{bep44::Target, identity::ClientId, time::UnixMillis};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Bound, RangeInclusive},
};

/// From how many records on the hashes of a maker's buckets are kept, 20 KB: below it, hashing all of them anew takes less than a
/// millisecond.
const BUCKETS_KEPT_FROM: usize = 1_024;

/// What is known of one record.
#[derive(Clone, Debug)]
struct Entry {
    newest: Version,
    /// The version before, for those who ask of a time before the newest. Most records have one version only.
    before: Option<Box<Version>>,
    dies_at: UnixMillis,
}

impl Entry {
    fn as_of(&self, at: UnixMillis) -> Option<Version> {
        if at >= self.dies_at {
            None
        } else if self.newest == Version::FRAUD || self.newest.sequence <= at.0 {
            Some(self.newest)
        } else {
            self.before.as_deref().copied().filter(|before| {
                before.sequence <= at.0 && !cfg!(mutant = "replica_forgets_the_version_before")
            })
        }
    }

    /// The times at which [`Self::as_of`] changes.
    fn turns(&self) -> impl Iterator<Item = UnixMillis> {
        let newest = (self.newest != Version::FRAUD).then_some(self.newest.sequence);
        let before = self.before.as_ref().map(|before| before.sequence);
        [newest, before, Some(self.dies_at.0)].into_iter().flatten().map(UnixMillis)
    }
}

/// Something that is true of the times from `since` until just before `until`.
#[derive(Clone, Copy, Debug)]
struct Meanwhile<T> {
    what: T,
    since: UnixMillis,
    until: UnixMillis,
}

impl<T: Copy> Meanwhile<T> {
    const fn always(what: T) -> Self {
        Self { what, since: UnixMillis(0), until: UnixMillis(u64::MAX) }
    }

    fn at(&self, at: UnixMillis) -> Option<T> {
        (self.since <= at && at < self.until).then_some(self.what)
    }

    /// True only on this side of `turn`, seen from `at`.
    fn turns(&mut self, turn: UnixMillis, at: UnixMillis) {
        if turn <= at {
            self.since = self.since.max(turn);
        } else {
            self.until = self.until.min(turn);
        }
    }
}

/// A hash over some records, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The hash.
    pub root: Root,
    /// The number of records.
    pub records: u32,
}

/// What is known of all records of one maker.
#[derive(Debug, Default)]
struct Maker {
    records: usize,
    hashed: Option<Meanwhile<Summary>>,
    /// Hashes of buckets, by their byte: of a maker with many records.
    buckets: BTreeMap<u8, Meanwhile<Summary>>,
}

impl Maker {
    /// A record with this target is another from now on.
    fn changed(&mut self, target: &Target) {
        self.hashed = None;
        self.buckets.remove(&target.0[0]);
    }
}

type Entries = BTreeMap<(ClientId, Target), Entry>;

/// The records of one maker, by target, from the one bucket to the other.
fn records(entries: &Entries, maker: ClientId, from: u8, to: u8) -> impl Iterator<Item = (&Target, &Entry)> {
    let (mut first, mut last) = ([0; 20], [0xff; 20]);
    (first[0], last[0]) = (from, to);
    let range = (maker, Target(first))..=(maker, Target(last));
    entries.range(range).map(|((_, target), entry)| (target, entry))
}

fn hash_bucket<'e>(
    entries: impl Iterator<Item = (&'e Target, &'e Entry)>,
    at: UnixMillis,
) -> Meanwhile<Summary> {
    let (mut hash, mut records) = (Sha256::new(), 0);
    let mut hashed = Meanwhile::always(());
    for (target, entry) in entries {
        if let Some(version) = entry.as_of(at) {
            hash.update(target.0);
            hash.update(version.sequence.to_be_bytes());
            hash.update(version.value.0);
            records += 1;
        }
        entry.turns().for_each(|turn| hashed.turns(turn, at));
    }
    let what = Summary { root: Root(hash.finalize().into()), records };
    let Meanwhile { since, until, .. } = hashed;
    Meanwhile { what, since, until }
}

/// The buckets of a maker in which there are records, by their byte.
fn summaries(
    entries: &Entries,
    id: ClientId,
    maker: &mut Maker,
    at: UnixMillis,
) -> Vec<(u8, Meanwhile<Summary>)> {
    let mut found = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let Some(byte) = records(entries, id, from, u8::MAX).next().map(|(target, _)| target.0[0]) else {
            break;
        };
        let kept = maker.buckets.get(&byte).copied().filter(|kept| kept.at(at).is_some());
        let summary = kept.unwrap_or_else(|| hash_bucket(records(entries, id, byte, byte), at));
        if maker.records >= BUCKETS_KEPT_FROM {
            maker.buckets.insert(byte, summary);
        }
        found.push((byte, summary));
        next = byte.checked_add(1);
    }
    found
}

/// The root over a maker's records.
fn summary(entries: &Entries, id: ClientId, maker: &mut Maker, at: UnixMillis) -> Summary {
    if let Some(hashed) = maker.hashed.and_then(|hashed| hashed.at(at)) {
        return hashed;
    }
    let buckets = summaries(entries, id, maker, at);
    let since = buckets.iter().map(|(_, bucket)| bucket.since).max().unwrap_or(UnixMillis(0));
    let until = buckets.iter().map(|(_, bucket)| bucket.until).min().unwrap_or(UnixMillis(u64::MAX));
    let told = buckets.into_iter().map(|(byte, bucket)| (byte, bucket.what));
    let what = summary_of(told.filter(|(_, bucket)| bucket.records > 0));
    maker.hashed = Some(Meanwhile { what, since, until });
    what
}

/// The root over buckets that are not empty, by their byte.
pub fn summary_of(buckets: impl IntoIterator<Item = (u8, Summary)>) -> Summary {
    let (mut hash, mut records) = (Sha256::new(), 0_u32);
    for (byte, summary) in buckets {
        hash.update([byte]);
        hash.update(summary.root.0);
        records = records.saturating_add(summary.records);
    }
    Summary { root: Root(hash.finalize().into()), records }
}

/// The hash over the versions of one bucket, by target.
pub fn bucket_of(stamps: &[Stamp]) -> Root {
    let mut hash = Sha256::new();
    for Stamp { target, version } in stamps {
        hash.update(target.0);
        hash.update(version.sequence.to_be_bytes());
        hash.update(version.value.0);
    }
    Root(hash.finalize().into())
}

/// Everything that this node holds, by maker. Dead records stay for [`DEAD_KEPT_FOR`], because others' clocks differ.
#[derive(Debug, Default)]
pub struct Index {
    entries: Entries,
    /// None is without records.
    makers: BTreeMap<ClientId, Maker>,
    owners: HashMap<Target, ClientId>,
    deaths: BTreeSet<(UnixMillis, Target)>,
}

impl Index {
    /// How many records are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Holds a version. Returns whether it is news: newer than what was held, or another value of its sequence that dies later. A
    /// cheat lets one of two values die soon; where it is dead and forgotten, the other comes as the first of its record.
    pub fn hold(&mut self, maker: ClientId, stamp: Stamp, dies_at: UnixMillis) -> bool {
        let Stamp { target, version } = stamp;
        let held = self.entry(&target).map(|held| (held.newest, held.dies_at));
        let is_old = |(newest, until): &(Version, UnixMillis)| {
            let equal = newest.sequence == version.sequence && *until >= dies_at;
            newest.sequence > version.sequence || (equal && !cfg!(mutant = "replica_takes_an_equal_sequence"))
        };
        if held.as_ref().is_some_and(is_old) {
            return false;
        }
        // A cheat that signs with two client keys moves its record from one of them to the other.
        if held.is_some() {
            self.take(target);
        }
        let before = held.map(|(newest, _)| Box::new(newest));
        self.entries.insert((maker, target), Entry { newest: version, before, dies_at });
        self.owners.insert(target, maker);
        self.deaths.insert((dies_at.plus(DEAD_KEPT_FOR), target));
        let of = self.makers.entry(maker).or_default();
        of.records += 1;
        of.changed(&target);
        true
    }

    /// Notes that the maker of a record that is held contradicts itself in it. Returns whether that is news.
    /// It counts for as long as the longer-lived of the two.
    pub fn hold_fraud(&mut self, target: Target, dies_at: UnixMillis) -> bool {
        let Some(maker) = self.owners.get(&target).copied() else { return false };
        let Some(dies_at) = self.entry(&target).map(|held| held.dies_at.max(dies_at)) else { return false };
        let fraud = Stamp { target, version: Version::FRAUD };
        self.hold(maker, fraud, dies_at)
    }

    fn entry(&self, target: &Target) -> Option<&Entry> {
        self.entries.get(&(*self.owners.get(target)?, *target))
    }

    fn take(&mut self, target: Target) {
        let Some(maker) = self.owners.remove(&target) else { return };
        if let Some(entry) = self.entries.remove(&(maker, target)) {
            self.deaths.remove(&(entry.dies_at.plus(DEAD_KEPT_FOR), target));
        }
        let Some(of) = self.makers.get_mut(&maker) else { return };
        of.records -= 1;
        of.changed(&target);
        if of.records == 0 {
            self.makers.remove(&maker);
        }
    }

    /// Forgets what a list does not name: only a planted bug does that.
    pub(super) fn keep_only(&mut self, maker: &ClientId, listed: &[Stamp]) {
        let of_maker = self.owners.iter().filter(|(_, owner)| *owner == maker).map(|(target, _)| *target);
        let unlisted = |target: &Target| !listed.iter().any(|stamp| stamp.target == *target);
        for target in of_maker.filter(unlisted).collect::<Vec<_>>() {
            self.take(target);
        }
    }

    /// Forgets what has been dead for long enough.
    pub fn forget_dead(&mut self, now: UnixMillis) {
        while let Some((_, target)) = self.deaths.first().copied().filter(|(at, _)| *at <= now) {
            self.take(target);
        }
    }

    /// Whether a record of this maker is held.
    #[must_use]
    pub fn has(&self, maker: &ClientId) -> bool {
        self.makers.contains_key(maker)
    }

    /// Whose a record is that is held.
    #[must_use]
    pub fn maker(&self, target: &Target) -> Option<ClientId> {
        self.owners.get(target).copied()
    }

    /// The newest version held of a record.
    #[must_use]
    pub fn newest(&self, target: &Target) -> Option<Version> {
        self.entry(target).map(|entry| entry.newest)
    }

    /// Whether somebody's version would tell this node nothing: it holds that one, or a later one.
    #[must_use]
    pub fn covers(&self, stamp: &Stamp) -> bool {
        self.newest(&stamp.target)
            .is_some_and(|newest| newest.sequence > stamp.version.sequence || newest == stamp.version)
    }

    /// All makers of records that are held, in order.
    pub fn makers(&self) -> impl Iterator<Item = ClientId> {
        self.makers.keys().copied()
    }

    /// The root over a maker's records.
    pub fn summary(&mut self, maker: &ClientId, at: UnixMillis) -> Summary {
        let Self { makers, entries, .. } = self;
        makers.get_mut(maker).map_or_else(|| summary_of([]), |of| summary(entries, *maker, of, at))
    }

    /// The hashes of a maker's buckets that are not empty.
    pub fn buckets(&mut self, maker: &ClientId, at: UnixMillis) -> Vec<(u8, Summary)> {
        let Some(of) = self.makers.get_mut(maker) else { return Vec::new() };
        let summaries = summaries(&self.entries, *maker, of, at).into_iter();
        summaries.map(|(byte, bucket)| (byte, bucket.what)).filter(|(_, bucket)| bucket.records > 0).collect()
    }

    /// The versions in some of a maker's buckets, by target.
    pub fn stamps(
        &self,
        maker: &ClientId,
        buckets: RangeInclusive<u8>,
        at: UnixMillis,
    ) -> impl Iterator<Item = Stamp> {
        records(&self.entries, *maker, *buckets.start(), *buckets.end())
            .filter_map(move |(target, entry)| Some(Stamp { target: *target, version: entry.as_of(at)? }))
    }

    /// The roots of the makers after `after`, at most `max`, and whether there are more.
    pub fn roots(
        &mut self,
        after: Option<ClientId>,
        at: UnixMillis,
        max: usize,
    ) -> (Vec<(ClientId, Summary)>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut roots = Vec::new();
        for (id, maker) in self.makers.range_mut((from, Bound::Unbounded)) {
            let summary = summary(&self.entries, *id, maker, at);
            if summary.records == 0 {
                continue;
            }
            if roots.len() >= max {
                return (roots, true);
            }
            roots.push((*id, summary));
        }
        (roots, false)
    }

    /// One hash over all makers and their roots.
    pub fn overall(&mut self, at: UnixMillis) -> Summary {
        let (mut hash, mut records) = (Sha256::new(), 0_u32);
        for (id, maker) in &mut self.makers {
            let summary = summary(&self.entries, *id, maker, at);
            if summary.records > 0 {
                hash.update(id.0);
                hash.update(summary.root.0);
                records = records.saturating_add(summary.records);
            }
        }
        Summary { root: Root(hash.finalize().into()), records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::PublicKey, replication::core::version::ValueHash};
    use proptest::prelude::*;

    const MAKER: ClientId = PublicKey([1; 32]);
    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn stamp(target: u8, sequence: u64) -> Stamp {
        let version = Version { sequence, value: ValueHash([target; 16]) };
        Stamp { target: Target([target; 20]), version }
    }

    fn dies_later() -> UnixMillis {
        UnixMillis(2_000_000)
    }

    #[test]
    fn what_was_held_at_a_time_is_said_the_same_after_a_newer_version() {
        let mut index = Index::default();
        assert!(index.hold(MAKER, stamp(7, 100), dies_later()));
        let (before, none) = (index.summary(&MAKER, UnixMillis(150)), index.summary(&MAKER, UnixMillis(99)));
        assert_eq!((before.records, none.records), (1, 0));
        assert!(index.hold(MAKER, stamp(7, 200), dies_later()));
        assert_eq!(index.summary(&MAKER, UnixMillis(150)), before);
        assert_eq!(index.summary(&MAKER, UnixMillis(199)), before);
        assert_ne!(index.summary(&MAKER, UnixMillis(200)), before);
        assert_eq!(index.summary(&MAKER, UnixMillis(99)), none);
    }

    #[test]
    fn an_older_or_equal_version_changes_nothing() {
        let mut index = Index::default();
        index.hold(MAKER, stamp(7, 100), dies_later());
        let before = index.summary(&MAKER, NOW);
        let other = Version { value: ValueHash([9; 16]), ..stamp(7, 100).version };
        for version in [stamp(7, 99).version, stamp(7, 100).version, other] {
            assert!(!index.hold(MAKER, Stamp { target: Target([7; 20]), version }, dies_later()));
        }
        assert_eq!(index.summary(&MAKER, NOW), before);
        assert!(index.covers(&stamp(7, 99)) && index.covers(&stamp(7, 100)) && !index.covers(&stamp(7, 101)));
        assert!(!index.covers(&Stamp { target: Target([7; 20]), version: other }), "that would be fraud");
    }

    #[test]
    fn of_two_values_of_one_sequence_the_one_that_dies_later_stays() {
        let (this, that) = (stamp(7, 100), Version { value: ValueHash([9; 16]), ..stamp(7, 100).version });
        let that = Stamp { version: that, ..this };
        for faces in [[(this, 500), (that, 900)], [(that, 900), (this, 500)]] {
            let mut index = Index::default();
            for (stamp, dies_at) in faces {
                index.hold(MAKER, stamp, UnixMillis(dies_at));
            }
            assert_eq!(index.newest(&Target([7; 20])), Some(that.version));
            assert_eq!((index.summary(&MAKER, UnixMillis(600)).records, index.deaths.len()), (1, 1));
        }
    }

    #[test]
    fn the_dead_are_not_counted_and_stay_known_for_a_while() {
        let mut index = Index::default();
        index.hold(MAKER, stamp(7, 100), UnixMillis(500));
        assert_eq!(index.summary(&MAKER, UnixMillis(499)).records, 1);
        assert_eq!(index.summary(&MAKER, UnixMillis(500)), summary_of([]));
        index.forget_dead(UnixMillis(500));
        assert!(index.covers(&stamp(7, 100)));
        index.forget_dead(UnixMillis(500).plus(DEAD_KEPT_FOR));
        assert!(index.is_empty() && index.makers().next().is_none());
    }

    #[test]
    fn fraud_is_what_everybody_holds_who_knows_of_it() {
        let (mut one, mut other) = (Index::default(), Index::default());
        one.hold(MAKER, stamp(7, 100), dies_later());
        other.hold(MAKER, stamp(7, 300), dies_later());
        assert!(
            one.hold_fraud(Target([7; 20]), dies_later()) && other.hold_fraud(Target([7; 20]), dies_later())
        );
        assert!(!one.hold_fraud(Target([7; 20]), dies_later()));
        assert_eq!(one.overall(UnixMillis(200)), other.overall(UnixMillis(200)));
        assert!(one.covers(&stamp(7, u64::MAX - 1)));
        assert!(!one.hold(MAKER, stamp(7, 500), dies_later()));
    }

    #[test]
    fn a_record_that_changes_its_maker_is_held_once() {
        let (mut index, other) = (Index::default(), PublicKey([2; 32]));
        index.hold(MAKER, stamp(7, 100), dies_later());
        index.hold(other, stamp(7, 200), dies_later());
        assert_eq!((index.len(), index.makers().collect::<Vec<_>>()), (1, vec![other]));
    }

    proptest! {
        /// Whatever order versions come in, and whatever was asked in between, the hashes are those of an index that was told
        /// everything in order and asked once.
        #[test]
        fn hashes_do_not_depend_on_the_order_or_on_what_was_asked_before(
            steps in prop::collection::vec((0_u8..6, 0_u8..4, 1_u64..60, 40_u64..90), 1..60),
            asked in prop::collection::vec(0_u64..100, 60),
            at in 0_u64..100,
        ) {
            // One maker and one death a record, as honest ones are.
            let steps: Vec<_> = steps.iter().map(|(maker, record, sequence, _)| {
                let target = Target([maker * 40 + record; 20]);
                let version = Version { sequence: *sequence, value: ValueHash([*sequence as u8; 16]) };
                let dies_at = UnixMillis(40 + u64::from(maker * 7 + record * 3));
                (PublicKey([*maker; 32]), Stamp { target, version }, dies_at)
            }).collect();
            let mut told = Index::default();
            for ((maker, stamp, dies_at), asked) in steps.iter().zip(asked) {
                told.hold(*maker, *stamp, *dies_at);
                told.overall(UnixMillis(asked));
            }
            let mut newest_at = Index::default();
            let mut in_order = steps.clone();
            in_order.sort_by_key(|(_, stamp, _)| *stamp);
            for (maker, stamp, dies_at) in in_order {
                newest_at.hold(maker, stamp, dies_at);
            }
            // Of the versions before the newest only the one before is kept: ask from there on.
            let at = UnixMillis(at.max(60));
            prop_assert_eq!(told.overall(at), newest_at.overall(at));
            for maker in newest_at.makers().collect::<Vec<_>>() {
                let buckets = told.buckets(&maker, at);
                prop_assert_eq!(told.summary(&maker, at), summary_of(buckets.clone()));
                for (byte, summary) in buckets {
                    let stamps: Vec<Stamp> = told.stamps(&maker, byte..=byte, at).collect();
                    prop_assert_eq!((bucket_of(&stamps), stamps.len()), (summary.root, summary.records as usize));
                }
            }
        }
    }
}
