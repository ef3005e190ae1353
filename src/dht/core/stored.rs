//! What this node stores, for a caller that keeps it over restarts.
//!
//! Nothing is noted for that while datagrams come in. Items and peers stand in the order of their last put in any case, because
//! that is the order in which they expire; so "what changed since" is the end of that order, "all of it" is the same walk from
//! its beginning, and both can be taken in small steps while the node works on. What was put again meanwhile is met again.
//!
//! What is handed back is believed: that an item's signature was checked is the word of whoever kept it.

use super::{Core, Item, Now, Target};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// An item or a peer, and how long ago it was last put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What it is.
    pub what: StoredWhat,
    /// How much of its life is over.
    pub age: Duration,
}

/// What is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoredWhat {
    /// A value.
    Item(Item),
    /// A service that was announced.
    Peer {
        /// Its name.
        name: Arc<[u8]>,
        /// Where it is.
        addr: SocketAddr,
    },
}

/// How far a walk over what is stored has come. The default is the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walk {
    item: Option<(Now, Target)>,
    peer: u64,
}

impl Core {
    /// The next of what is stored, at most `max`, the oldest first; fewer than `max` are the last for now.
    pub fn walk_stored(&self, now: Now, walk: &mut Walk, max: usize) -> Vec<Stored> {
        let mut found = Vec::new();
        // What is put at this very instant is left for the next time: another target may still come to stand before it.
        for (at, item) in self.items.since(walk.item, now).take(max) {
            walk.item = Some((at, item.target()));
            found.push(Stored { what: StoredWhat::Item(item.clone()), age: now.since(at) });
        }
        for (serial, at, name, addr) in self.peers.since(walk.peer).take(max - found.len()) {
            walk.peer = serial;
            let what = StoredWhat::Peer { name: Arc::clone(name), addr };
            found.push(Stored { what, age: now.since(at) });
        }
        found
    }

    /// Takes back what an earlier run stored, where it has life left and nothing newer is here. Peers must come in the order of
    /// their age, the oldest first. Returns how many were taken that were not here before.
    pub fn restore_stored(&mut self, now: Now, stored: Vec<Stored>) -> usize {
        let before = self.items.len() + self.peers.len();
        for Stored { what, age } in stored {
            let at = now.minus(age);
            match what {
                StoredWhat::Item(item) => self.items.restore(item, at, now),
                StoredWhat::Peer { name, addr } => self.peers.restore(&name, addr, at, now),
            }
        }
        (self.items.len() + self.peers.len()).saturating_sub(before)
    }

    /// A walk that meets only what is put from now on.
    #[must_use]
    pub fn walk_from(&self, now: Now) -> Walk {
        Walk { item: Some((now, Target([0; 20]))), peer: self.peers.last_serial() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bep44::{VerifiedItem, bencode_bytes},
        dht::core::CoreConfig,
        identity::KeyPair,
    };
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// Well after the beginning, so that what was stored earlier has a time.
    const START: Duration = Duration::from_hours(24);

    fn at(seconds: u64) -> Now {
        Now::from_start(START + Duration::from_secs(seconds))
    }
    fn core(items_max: usize) -> Core {
        let config = CoreConfig {
            node_id: None,
            local_addr: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            local_addr6: None,
            mainline: false,
            limit_private: false,
            host: None,
            has_bootstrap: false,
            known_nodes: Vec::new(),
            items_max,
            peers_max: 100,
            peer_max_age: Duration::from_mins(2),
            node_liveness: Duration::from_mins(5),
        };
        Core::new(config, [1; 32], at(0))
    }
    fn addr(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }
    fn value(n: u8) -> Item {
        Item::Immutable(bencode_bytes(&[n]))
    }
    fn signed(seq: i64) -> Item {
        Item::Mutable(
            VerifiedItem::sign(&KeyPair::from_seed(&[1; 32]), b"", seq, bencode_bytes(b"x")).unwrap(),
        )
    }
    fn all(core: &Core, now: Now) -> Vec<Stored> {
        core.walk_stored(now, &mut Walk::default(), usize::MAX)
    }

    #[test]
    fn a_walk_meets_everything_once_and_later_only_what_was_put_since() {
        let mut core = core(100);
        for n in 0..5 {
            core.store_own(at(0), value(n));
            core.peer_announced(at(0), b"name", addr(u16::from(n) + 1));
        }
        let mut walk = Walk::default();
        assert!(
            core.walk_stored(at(0), &mut walk, 3).iter().all(|s| matches!(s.what, StoredWhat::Peer { .. })),
            "items of this very instant wait"
        );
        let mut met = core.walk_stored(at(1), &mut walk, 3);
        while let more @ [_, ..] = &core.walk_stored(at(1), &mut walk, 3)[..] {
            met.extend_from_slice(more);
        }
        assert_eq!(met.len(), 7);
        assert!(met.iter().all(|stored| stored.age == Duration::from_secs(1)));
        core.store_own(at(2), value(0));
        core.peer_announced(at(2), b"name", addr(1));
        let again = core.walk_stored(at(3), &mut walk, 9);
        assert_eq!(again.len(), 2, "{again:?}");
        assert_eq!(all(&core, at(3)).len(), 10);
    }

    #[test]
    fn what_is_taken_back_lives_as_long_as_it_would_have() {
        let mut before = core(100);
        before.store_own(at(0), value(1));
        before.peer_announced(at(0), b"name", addr(7));
        let kept = all(&before, at(100));
        let mut after = core(100);
        assert_eq!(after.restore_stored(at(0), kept.clone()), 2);
        assert_eq!(all(&after, at(10)).iter().map(|s| s.age.as_secs()).collect::<Vec<_>>(), [110, 110]);
        after.handle(at(20), crate::dht::core::Input::Timeout);
        assert_eq!((after.status().items, after.status().peers), (1, 0), "the peer's two minutes are over");
        after.handle(at(7100), crate::dht::core::Input::Timeout);
        assert_eq!(after.status().items, 0);
        let old = kept.into_iter().map(|s| Stored { age: s.age + Duration::from_hours(2), ..s }).collect();
        assert_eq!(after.restore_stored(at(7200), old), 0, "what has no life left is not taken");
    }

    #[test]
    fn what_is_newer_here_stays() {
        let stored = |what, age| vec![Stored { what, age: Duration::from_secs(age) }];
        let mut core = core(100);
        core.store_own(at(0), signed(5));
        core.restore_stored(at(50), stored(StoredWhat::Item(signed(4)), 1));
        assert_eq!(core.local(&signed(5).target()), Some(signed(5)));
        core.restore_stored(at(50), stored(StoredWhat::Item(signed(6)), 1));
        assert_eq!(core.local(&signed(5).target()), Some(signed(6)));
        core.peer_announced(at(60), b"name", addr(1));
        core.restore_stored(
            at(60),
            stored(StoredWhat::Peer { name: b"name"[..].into(), addr: addr(1) }, 119),
        );
        core.handle(at(100), crate::dht::core::Input::Timeout);
        assert_eq!(core.status().peers, 1);
    }

    #[test]
    fn peers_of_earlier_expire_before_those_announced_meanwhile() {
        let mut core = core(100);
        core.peer_announced(at(0), b"name", addr(1));
        let name: Arc<[u8]> = b"name"[..].into();
        let old = |port, age| Stored {
            what: StoredWhat::Peer { name: Arc::clone(&name), addr: addr(port) },
            age: Duration::from_secs(age),
        };
        core.restore_stored(at(0), vec![old(2, 100), old(3, 60)]);
        core.handle(at(20), crate::dht::core::Input::Timeout);
        assert_eq!(core.status().peers, 2);
        core.handle(at(60), crate::dht::core::Input::Timeout);
        assert_eq!(core.status().peers, 1);
    }

    proptest! {
        /// Whoever writes down what each walk meets, and gives it back in that order, has the same store again.
        #[test]
        fn the_walks_add_up_to_the_store(puts in prop::collection::vec((0u8..20, 1i64..9, 0u64..3), 1..80)) {
            let (mut core, mut walk, mut log, mut now, mut top) = (core(8), Walk::default(), Vec::new(), 0, 0);
            for (n, seq, later) in puts {
                // A sequence that went down, because the store had forgotten the higher one, would come back up.
                (now, top) = (now + later, top.max(seq));
                core.store_own(at(now), if n == 0 { signed(top) } else { value(n) });
                if later == 2 {
                    let met = core.walk_stored(at(now), &mut walk, 3);
                    log.extend(met.into_iter().map(|s| (at(now).minus(s.age), s.what)));
                }
            }
            let met = core.walk_stored(at(now + 1), &mut walk, usize::MAX);
            log.extend(met.into_iter().map(|s| (at(now + 1).minus(s.age), s.what)));
            let end = at(now + 2);
            let mut again = self::core(100);
            again.restore_stored(end, log.into_iter().map(|(at, what)| Stored { what, age: end.since(at) }).collect());
            for stored in all(&core, end) {
                prop_assert!(all(&again, end).contains(&stored), "{:?} is missing", stored);
            }
        }
    }
}
