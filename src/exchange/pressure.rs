//! Who may still bring records of which nothing is held, when there is less and less room for them.
//!
//! As long as there is plenty of room, everybody may bring everything: a newcomer with a thousand honest offers is welcome. Above
//! [`PRESSURE_FROM`] whoever brings records has a share, and above [`STRANGERS_UP_TO`] makers without any record here are refused.
//! Newer versions of what is held are always taken. At most two neighbours are in one network prefix, so a prefix has two shares.

use super::limits::{PRESSURE_FROM, RECORDS_MAX, SHARE_MAX, STRANGERS_UP_TO};
use crate::{bep44::Target, identity::ClientId, market::Via};
use std::collections::HashMap;

/// Who brought what since there is pressure. The DHT is one of those who bring. Not more than [`RECORDS_MAX`] entries.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    brought: HashMap<Target, Option<ClientId>>,
    shares: HashMap<Option<ClientId>, usize>,
}

impl Pressure {
    /// Whether a record of which nothing is held is taken while `held` records are.
    pub(super) fn admits(&self, held: usize, is_stranger: impl FnOnce() -> bool, via: Via) -> bool {
        if held < PRESSURE_FROM {
            return true;
        }
        held < RECORDS_MAX
            && self.shares.get(&via.peer()).is_none_or(|share| *share < SHARE_MAX)
            && (held < STRANGERS_UP_TO || !is_stranger())
    }

    /// It was taken.
    pub(super) fn admitted(&mut self, held: usize, target: Target, via: Via) {
        if held >= PRESSURE_FROM && self.brought.insert(target, via.peer()).is_none() {
            *self.shares.entry(via.peer()).or_default() += 1;
        }
    }

    /// It is dead.
    pub(super) fn forget(&mut self, target: &Target) {
        let Some(by) = self.brought.remove(target) else { return };
        if let Some(share) = self.shares.get_mut(&by) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;

    fn target(n: usize) -> Target {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Target(bytes)
    }

    #[test]
    fn who_brings_much_is_stopped_and_others_go_on() {
        let (greedy, other) = (Via::Gossip(PublicKey([1; 32])), Via::Fetched(PublicKey([2; 32])));
        let mut pressure = Pressure::default();
        for n in 0..2 * SHARE_MAX {
            assert!(pressure.admits(PRESSURE_FROM - 1, || true, greedy));
            pressure.admitted(PRESSURE_FROM - 1, target(n), greedy);
        }
        let mut held = PRESSURE_FROM;
        for n in 0..SHARE_MAX {
            assert!(pressure.admits(held, || true, greedy), "{n}");
            pressure.admitted(held, target(n), greedy);
            held += 1;
        }
        assert!(!pressure.admits(held, || true, greedy));
        assert!(pressure.admits(held, || true, other) && pressure.admits(held, || true, Via::Dht));
        pressure.forget(&target(7));
        assert!(pressure.admits(held, || true, greedy), "what died makes room");
    }

    #[test]
    fn strangers_are_refused_first_and_everybody_at_last() {
        let pressure = Pressure::default();
        assert!(pressure.admits(STRANGERS_UP_TO - 1, || true, Via::Dht));
        assert!(!pressure.admits(STRANGERS_UP_TO, || true, Via::Dht));
        assert!(pressure.admits(STRANGERS_UP_TO, || false, Via::Dht));
        assert!(!pressure.admits(RECORDS_MAX, || false, Via::Dht));
    }
}
