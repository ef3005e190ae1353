//! What was announced through this grape: told to the network again after a restart, in case the others were restarted, too.

use super::record::Record;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Own announcements that are kept, about 150 bytes each. A host with more services than that announces them again by itself, as
/// every Grenache service does within three minutes.
pub(super) const OWN_MAX: usize = 10_000;
/// How long one is kept where peers are known for ever.
const AGE_WHERE_ENDLESS: Duration = Duration::from_hours(1);

struct Announced {
    port: u16,
    since_ms: u64,
    written: bool,
}

#[derive(Default)]
struct Kept {
    by_name: HashMap<Arc<[u8]>, Announced>,
    /// Before then nobody's time is over: not worth a look at all of them.
    none_over_before_ms: u64,
}

impl Kept {
    fn insert(&mut self, name: Arc<[u8]>, announced: Announced, age_max_ms: u64) {
        let over_ms = announced.since_ms.saturating_add(age_max_ms);
        self.none_over_before_ms = self.none_over_before_ms.min(over_ms);
        self.by_name.insert(name, announced);
    }

    /// Forgets those whose time is over.
    fn sweep(&mut self, age_max_ms: u64, now_ms: u64) {
        if now_ms < self.none_over_before_ms {
            return;
        }
        self.by_name.retain(|_, held| now_ms.saturating_sub(held.since_ms) < age_max_ms);
        let oldest = self.by_name.values().map(|held| held.since_ms).min();
        self.none_over_before_ms = oldest.unwrap_or(now_ms).saturating_add(age_max_ms);
    }
}

/// Shared by the HTTP API, which tells of announcements, and the keeper, which writes them down.
#[derive(Clone)]
pub(super) struct Own {
    kept: Arc<Mutex<Kept>>,
    age_max_ms: u64,
}

impl Own {
    /// `age_max` is how long peers are known; zero: for ever.
    pub(super) fn new(age_max: Duration) -> Self {
        let age_max = if age_max.is_zero() { AGE_WHERE_ENDLESS } else { age_max };
        Self { kept: Arc::default(), age_max_ms: u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A service was announced now.
    pub(super) fn announced(&self, name: &[u8], port: u16, now_ms: u64) {
        let mut kept = self.lock();
        if let Some(held) = kept.by_name.get_mut(name) {
            *held = Announced { port, since_ms: now_ms, written: false };
            return;
        }
        if kept.by_name.len() >= OWN_MAX {
            kept.sweep(self.age_max_ms, now_ms);
        }
        if kept.by_name.len() < OWN_MAX {
            kept.insert(name.into(), Announced { port, since_ms: now_ms, written: false }, self.age_max_ms);
        }
    }

    /// What is to be written down: everything, or what was announced since the last time.
    pub(super) fn to_write(&self, everything: bool, now_ms: u64) -> Vec<(u64, Record)> {
        let mut kept = self.lock();
        kept.sweep(self.age_max_ms, now_ms);
        let due = kept.by_name.iter_mut().filter(|(_, held)| everything || !held.written);
        due.map(|(name, held)| {
            held.written = true;
            (held.since_ms, Record::Own { name: Arc::clone(name), port: held.port })
        })
        .collect()
    }

    /// Takes back what an earlier run announced; returns whether it is still due.
    pub(super) fn restore(&self, since_ms: u64, name: Arc<[u8]>, port: u16, now_ms: u64) -> bool {
        let mut kept = self.lock();
        let newer = kept.by_name.get(&name).is_some_and(|held| held.since_ms >= since_ms);
        let due = now_ms.saturating_sub(since_ms) < self.age_max_ms && !newer;
        if due && (kept.by_name.len() < OWN_MAX || kept.by_name.contains_key(&name)) {
            kept.insert(name, Announced { port, since_ms, written: true }, self.age_max_ms);
        }
        due
    }

    /// Every announcement whose time is not over, to be told again.
    pub(super) fn alive(&self, now_ms: u64) -> Vec<(Arc<[u8]>, u16)> {
        let kept = self.lock();
        let alive =
            kept.by_name.iter().filter(|(_, held)| now_ms.saturating_sub(held.since_ms) < self.age_max_ms);
        alive.map(|(name, held)| (Arc::clone(name), held.port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own::new(Duration::from_mins(2))
    }

    #[test]
    fn each_announcement_is_written_once_and_all_when_asked() {
        let own = own();
        own.announced(b"a", 1, 1000);
        own.announced(b"b", 2, 1000);
        assert_eq!(own.to_write(false, 1000).len(), 2);
        own.announced(b"a", 3, 2000);
        assert_eq!(own.to_write(false, 2000), [(2000, Record::Own { name: b"a"[..].into(), port: 3 })]);
        assert_eq!((own.to_write(false, 2000).len(), own.to_write(true, 2000).len()), (0, 2));
        assert_eq!(own.to_write(true, 122_000).len(), 0);
    }

    #[test]
    fn what_is_over_or_older_is_not_taken_back() {
        let own = own();
        own.announced(b"a", 1, 100_000);
        assert!(!own.restore(50_000, b"a"[..].into(), 9, 101_000));
        assert!(own.restore(50_000, b"b"[..].into(), 2, 101_000));
        assert!(!own.restore(1, b"c"[..].into(), 3, 121_000));
        let mut alive = own.alive(121_000);
        alive.sort();
        assert_eq!(alive, [(b"a"[..].into(), 1), (b"b"[..].into(), 2)]);
    }

    #[test]
    fn their_number_is_bounded_and_those_whose_time_is_over_make_room() {
        let own = own();
        for n in 0..=OWN_MAX {
            own.announced(&n.to_be_bytes(), 1, 1000);
        }
        assert_eq!(own.alive(1000).len(), OWN_MAX);
        own.announced(b"later", 1, 200_000);
        assert_eq!(own.alive(200_000), [(b"later"[..].into(), 1)]);
    }
}
