//! Each signature is checked once, whichever way and however often it comes.
//!
//! A record reaches a node from its maker, from neighbours and through the DHT, mostly within milliseconds. Whoever comes first
//! checks; who comes meanwhile waits for the outcome, and who comes later is told. What is remembered covers everything that was
//! checked: the key, the signature and the message.

use crate::metrics::Counter;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Outcomes in one generation; two are kept. Some minutes at the pace of a busy market, and 2 MB at most.
const GENERATION_MAX: usize = 8_192;

type Key = [u8; 16];

/// What was checked lately, and what came of it.
#[derive(Debug, Default)]
pub struct Once {
    recent: Mutex<Recent>,
    /// Signatures that were checked.
    pub checked: Counter,
    /// Signatures that were not checked again.
    pub spared: Counter,
}

#[derive(Debug, Default)]
struct Recent {
    young: HashMap<Key, Arc<OnceLock<bool>>>,
    old: HashMap<Key, Arc<OnceLock<bool>>>,
}

impl Recent {
    fn entry(&mut self, key: Key) -> Arc<OnceLock<bool>> {
        if self.young.len() >= GENERATION_MAX {
            self.old = mem::take(&mut self.young);
        }
        let old = &self.old;
        let young = self.young.entry(key).or_insert_with(|| old.get(&key).cloned().unwrap_or_default());
        Arc::clone(young)
    }
}

impl Once {
    /// What `verify` says of `parts`, or said.
    pub fn check<const N: usize>(&self, parts: [&[u8]; N], verify: impl FnOnce() -> bool) -> bool {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let key: Key = std::array::from_fn(|n| hash[n]);
        let entry = self.recent.lock().unwrap_or_else(PoisonError::into_inner).entry(key);
        let mut first = false;
        let outcome = *entry.get_or_init(|| {
            first = true;
            verify()
        });
        if first { &self.checked } else { &self.spared }.inc();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_checked_once_and_another_one_too() {
        let once = Once::default();
        for _ in 0..3 {
            assert!(once.check([b"ab", b"c"], || true));
            assert!(!once.check([b"a", b"bc"], || false));
        }
        assert_eq!((once.checked.get(), once.spared.get()), (2, 4));
    }

    #[test]
    fn who_comes_meanwhile_waits_for_the_outcome() {
        let once = Once::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let slow = || {
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        true
                    };
                    assert!(once.check([b"x"], slow));
                });
            }
        });
        assert_eq!((once.checked.get(), once.spared.get()), (1, 7));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest() {
        let once = Once::default();
        for n in 0..5 * GENERATION_MAX as u64 {
            once.check([&n.to_be_bytes()], || true);
        }
        let recent = once.recent.lock().unwrap();
        assert!(recent.young.len() <= GENERATION_MAX && recent.old.len() <= GENERATION_MAX);
        drop(recent);
        let before = once.checked.get();
        once.check([&(5 * GENERATION_MAX as u64 - 1).to_be_bytes()], || false);
        assert_eq!(once.checked.get(), before);
    }
}
