//! Keeping alive what this node announced and put.
//!
//! Announcements are renewed every minute: a stock grape's peers live for 80 to 160 s. Items live two hours, and in a calm network they are renewed
//! every hour. But their holders leave, and others come nearer: when about three in ten of those nearest to an item cannot be
//! expected to hold it ([`Turnover`](super::turnover::Turnover) says when), it is put again. In a network that loses a tenth of its
//! nodes a minute that is every few minutes. Whoever keeps very many items renews them more slowly than that, at a steady rate.

use super::{
    Core, Item, Now, Target,
    stores::{Origin, What},
};
use rand::RngExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Own items and announcements that are renewed.
pub const KEPT_MAX: usize = 50_000;
/// Renewals under way at once.
const RENEWING_MAX: usize = 32;
/// Announcements are renewed this often: a grape's peers live 80 to 160 s.
const ANNOUNCE_EVERY: Duration = Duration::from_mins(1);
/// Items are renewed at least this often: BEP44's live two hours.
const PUT_EVERY_MAX: Duration = Duration::from_hours(1);
/// Items are renewed at most this often. A lookup's neighbourhood is trusted for as long: sooner, the same nodes would be asked.
const PUT_EVERY_MIN: Duration = Duration::from_mins(3);
/// An item is renewed when this percentage of its nearest nodes are new.
const HOLDERS_NEW_PERCENT: u32 = 30;
/// At most 20 items a second, which are 400 puts: [`KEPT_MAX`] items take 42 minutes.
const PUT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// A renewal that nobody accepted is tried again after this.
const RENEW_AGAIN: Duration = Duration::from_secs(10);
/// Renewals are brought forward when they should come in three quarters of the time that was planned, or less.
const SOONER: (u32, u32) = (3, 4);

/// What is renewed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum KeptKey {
    Announcement(Arc<[u8]>),
    Item(Target),
}

struct KeptEntry {
    what: What,
    due: Now,
}

pub(super) struct Kept {
    entries: BTreeMap<KeptKey, KeptEntry>,
    due: BTreeSet<(Now, KeptKey)>,
    renewing: usize,
    /// How often items are renewed at present.
    put_every: Duration,
}

impl Default for Kept {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), due: BTreeSet::new(), renewing: 0, put_every: PUT_EVERY_MAX }
    }
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, key: &KeptKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.due.remove(&(entry.due, key.clone()));
        }
    }

    fn insert(&mut self, key: KeptKey, what: What, due: Now) {
        self.remove(&key);
        self.due.insert((due, key.clone()));
        self.entries.insert(key, KeptEntry { what, due });
    }

    fn move_to(&mut self, key: &KeptKey, due: Now) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.due.remove(&(std::mem::replace(&mut entry.due, due), key.clone()));
            self.due.insert((due, key.clone()));
        }
    }

    fn next_due(&self) -> Option<Now> {
        self.due.first().filter(|_| self.renewing < RENEWING_MAX).map(|(at, _)| *at)
    }

    /// Plans with another interval from now on. When it is much shorter, what is left of each item's wait shrinks alike, so that
    /// what was spread out stays so.
    fn plan(&mut self, now: Now, put_every: Duration) {
        let (part, whole) = SOONER;
        if put_every * whole <= self.put_every * part {
            let share = put_every.as_secs_f64() / self.put_every.as_secs_f64();
            let items = self.entries.iter().filter(|(key, _)| matches!(key, KeptKey::Item(_)));
            let items: Vec<_> = items.map(|(key, entry)| (key.clone(), entry.due)).collect();
            for (key, due) in items {
                self.move_to(&key, now.plus(due.since(now).mul_f64(share)));
            }
            self.put_every = put_every;
        } else if put_every > self.put_every {
            self.put_every = put_every;
        }
    }
}

/// [`KEPT_MAX`] items and announcements are renewed already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptFull;

impl Core {
    /// Announces now, and again every minute.
    pub fn keep_announced(&mut self, now: Now, name: Arc<[u8]>, port: u16) -> Result<(), KeptFull> {
        let name = self.wire_name(name);
        self.keep(now, KeptKey::Announcement(Arc::clone(&name)), What::Announcement { name, port })
    }

    /// Puts an item now, and again every hour or as often as the network's changes demand. A newer version takes the older one's
    /// place, never the other way round.
    pub fn keep_item(&mut self, now: Now, item: Item) -> Result<(), KeptFull> {
        let target = item.target();
        let key = KeptKey::Item(target);
        if let Item::Mutable(new) = &item
            && let Some(KeptEntry { what: What::Item { item: Item::Mutable(held), .. }, .. }) =
                self.kept.entries.get(&key)
            && held.seq > new.seq
        {
            return Ok(());
        }
        self.keep(now, key, What::Item { target, item, cas: None })
    }

    fn keep(&mut self, now: Now, key: KeptKey, what: What) -> Result<(), KeptFull> {
        if self.kept.len() >= KEPT_MAX && !self.kept.entries.contains_key(&key) {
            self.counters.dropped.kept += 1;
            return Err(KeptFull);
        }
        if let What::Item { item, .. } = &what {
            self.store_own(now, item.clone());
        }
        self.kept.insert(key, what, now);
        self.handle(now, super::Input::Timeout);
        Ok(())
    }

    /// Stops renewing an announcement.
    pub fn forget_announced(&mut self, name: &Arc<[u8]>) {
        let name = self.wire_name(Arc::clone(name));
        self.kept.remove(&KeptKey::Announcement(name));
    }

    /// Stops renewing an item.
    pub fn forget_item(&mut self, target: &Target) {
        self.kept.remove(&KeptKey::Item(*target));
    }

    /// When the next renewal is due. While nobody is known none is: they all come once somebody is.
    pub(super) fn next_renewal(&self) -> Option<Now> {
        self.kept.next_due().filter(|_| self.is_joined() && self.good_nodes() > 0)
    }

    pub(super) fn renew(&mut self, now: Now) {
        for _ in 0..RENEWING_MAX {
            if self.next_renewal().is_none_or(|due| due > now) {
                break;
            }
            self.renew_next(now);
        }
    }

    /// Neighbours were counted: how often items are renewed follows.
    pub(super) fn plan_renewals(&mut self, now: Now) {
        let min = PUT_EVERY_MIN.max(PUT_PAUSE_MIN * self.kept.len() as u32);
        let put_every = self.turnover.time_for(HOLDERS_NEW_PERCENT, min, PUT_EVERY_MAX);
        self.kept.plan(now, put_every);
    }

    fn renew_next(&mut self, now: Now) {
        let Some((_, key)) = self.kept.due.pop_first() else { return };
        let again = match key {
            KeptKey::Announcement(_) => ANNOUNCE_EVERY,
            KeptKey::Item(_) => self.kept.put_every,
        };
        // Spread out, so that what was kept together is not renewed together for ever.
        let due = now.plus(again * self.rng.random_range(85..=100) / 100);
        let Some(entry) = self.kept.entries.get_mut(&key) else { return };
        entry.due = due;
        let what = entry.what.clone();
        self.kept.due.insert((due, key.clone()));
        self.kept.renewing += 1;
        self.store(now, what, Origin::Kept(key));
    }

    pub(super) fn kept_stored(&mut self, now: Now, key: &KeptKey, accepted: bool) {
        self.kept.renewing -= 1;
        if accepted {
            return;
        }
        if let Some(entry) = self.kept.entries.get(key) {
            let due = entry.due.min(now.plus(RENEW_AGAIN));
            self.kept.move_to(key, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }

    fn kept(dues: &[u64]) -> Kept {
        let mut kept = Kept::default();
        for &due in dues {
            let item = Item::Immutable(due.to_string().as_bytes().into());
            let target = item.target();
            kept.insert(KeptKey::Item(target), What::Item { target, item, cas: None }, at(due));
        }
        kept
    }

    fn dues(kept: &Kept) -> Vec<u64> {
        kept.due.iter().map(|(at, _)| at.since_start().as_secs()).collect()
    }

    #[test]
    fn when_the_network_changes_faster_waits_shrink_and_stay_spread_out() {
        let mut kept = kept(&[100, 1100, 3100]);
        kept.plan(at(100), Duration::from_mins(6));
        assert_eq!(dues(&kept), [100, 200, 400]);
        kept.plan(at(100), Duration::from_mins(5));
        assert_eq!(dues(&kept), [100, 200, 400], "a little sooner is not worth the trouble");
        kept.plan(at(100), PUT_EVERY_MAX);
        assert_eq!(
            (dues(&kept), kept.put_every),
            (vec![100, 200, 400], PUT_EVERY_MAX),
            "later from the next on"
        );
    }

    #[test]
    fn announcements_keep_their_pace() {
        let mut kept = kept(&[]);
        let name: Arc<[u8]> = b"x"[..].into();
        let key = KeptKey::Announcement(Arc::clone(&name));
        kept.insert(key, What::Announcement { name, port: 1 }, at(60));
        kept.plan(at(0), PUT_EVERY_MIN);
        assert_eq!(dues(&kept), [60]);
    }

    #[test]
    fn so_many_items_take_most_of_an_hour_however_fast_the_network_changes() {
        let time = PUT_PAUSE_MIN * KEPT_MAX as u32;
        assert!(time > Duration::from_mins(40) && time < PUT_EVERY_MAX, "{time:?}");
    }
}
