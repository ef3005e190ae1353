//! What one node may cost: bytes a second, whether it sends them or has them sent.

use super::limits::{BUDGETS_MAX, BYTES_A_SECOND_MAX, BYTES_BURST};
use crate::identity::ClientId;
use std::{collections::HashMap, time::Duration};

/// Token buckets by node. When the table is full, whoever has no place in it shares one.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    buckets: HashMap<ClientId, Bucket>,
    crowd: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    bytes: u64,
    filled: Duration,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { bytes: BYTES_BURST, filled: Duration::ZERO }
    }
}

impl Bucket {
    fn refill(&mut self, now: Duration) {
        let passed = u64::try_from(now.saturating_sub(self.filled).as_micros()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(BYTES_A_SECOND_MAX) / 1_000_000;
        if gained > 0 {
            self.bytes = self.bytes.saturating_add(gained).min(BYTES_BURST);
            self.filled = now;
        }
    }
}

impl Budgets {
    /// Takes `bytes` of what `peer` has left at `now`; false when it has nothing left. What it takes too much is owed.
    pub(super) fn spend(&mut self, peer: ClientId, bytes: usize, now: Duration) -> bool {
        let bucket = self.bucket(peer, now);
        bucket.refill(now);
        if bucket.bytes == 0 {
            return false;
        }
        bucket.bytes = bucket.bytes.saturating_sub(bytes as u64);
        true
    }

    fn bucket(&mut self, peer: ClientId, now: Duration) -> &mut Bucket {
        if self.buckets.len() >= BUDGETS_MAX && !self.buckets.contains_key(&peer) {
            self.buckets.retain(|_, bucket| {
                bucket.refill(now);
                bucket.bytes < BYTES_BURST
            });
            if self.buckets.len() >= BUDGETS_MAX {
                return &mut self.crowd;
            }
        }
        self.buckets.entry(peer).or_insert(Bucket { filled: now, ..Bucket::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_has_spent_its_bytes_waits_and_others_do_not() {
        let (mut budgets, [one, other]) = (Budgets::default(), [1, 2].map(|n| PublicKey([n; 32])));
        assert!(budgets.spend(one, BYTES_BURST as usize, SECOND));
        assert!(!budgets.spend(one, 1, SECOND) && budgets.spend(other, 1, SECOND));
        assert!(budgets.spend(one, BYTES_A_SECOND_MAX as usize, 2 * SECOND));
        assert!(!budgets.spend(one, 1, 2 * SECOND));
    }

    #[test]
    fn a_crowd_shares_what_one_has() {
        let mut budgets = Budgets::default();
        for n in 0..BUDGETS_MAX as u16 {
            let [high, low] = n.to_be_bytes();
            let mut key = [0; 32];
            key[..2].copy_from_slice(&[high, low]);
            assert!(budgets.spend(PublicKey(key), 1_000_000, SECOND));
        }
        assert!(budgets.spend(PublicKey([8; 32]), BYTES_BURST as usize, SECOND));
        assert!(!budgets.spend(PublicKey([9; 32]), 1, SECOND), "no place, and the crowd has spent its bytes");
        assert!(budgets.spend(PublicKey([9; 32]), 1, 100 * SECOND), "the others have rested");
        assert!(budgets.buckets.len() < 10);
    }
}
