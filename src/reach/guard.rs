//! What dialing back may cost the one who is asked: so many a minute for one client, for one network prefix, and for all.

use crate::{
    address::{Host, Prefix, is_private},
    identity::ClientId,
    time::Now,
};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// One client asks again every quarter of a minute while nobody gets through to it.
const CLIENT: Rate = Rate { every: Duration::from_secs(10), burst: 4 };
/// A network prefix, in private ranges a host.
const PREFIX: Rate = Rate { every: Duration::from_secs(3), burst: 8 };
/// Everybody together: each costs a connection and a hello.
const ALL: Rate = Rate { every: Duration::from_millis(100), burst: 20 };
/// Clients and prefixes that are remembered; about 60 bytes each. When nobody can be forgotten, newcomers wait.
const REMEMBERED_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Rate {
    every: Duration,
    burst: u32,
}

/// When the next one is free, as if `burst` were saved up: a token bucket in one number (the cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Cell(Duration);

impl Cell {
    fn has_room(self, rate: Rate, now: Duration) -> bool {
        self.0.saturating_sub(now) <= rate.every * (rate.burst - 1)
    }

    fn take(&mut self, rate: Rate, now: Duration) {
        self.0 = self.0.max(now) + rate.every;
    }
}

/// Who has asked for it lately.
#[derive(Debug, Default)]
pub struct Guard {
    clients: BTreeMap<ClientId, Cell>,
    prefixes: BTreeMap<u64, Cell>,
    all: Cell,
}

impl Guard {
    /// Whether `client`, who asks from `ip`, is dialed back now. Who is not costs nobody else anything.
    pub fn admit(&mut self, now: Now, client: ClientId, ip: IpAddr) -> bool {
        let now = now.since_start();
        // The two kinds do not meet: one prefix is public, the other private.
        let prefix = if is_private(ip) { Host::of(ip).0 } else { Prefix::of(ip).0 };
        forget(&mut self.clients, now);
        forget(&mut self.prefixes, now);
        let is_new = !self.clients.contains_key(&client) || !self.prefixes.contains_key(&prefix);
        let is_full = self.clients.len().max(self.prefixes.len()) >= REMEMBERED_MAX;
        let of_client = self.clients.get(&client).copied().unwrap_or_default();
        let of_prefix = self.prefixes.get(&prefix).copied().unwrap_or_default();
        let free =
            of_client.has_room(CLIENT, now) && of_prefix.has_room(PREFIX, now) && self.all.has_room(ALL, now);
        if !free || is_full && is_new {
            return false;
        }
        self.clients.entry(client).or_default().take(CLIENT, now);
        self.prefixes.entry(prefix).or_default().take(PREFIX, now);
        self.all.take(ALL, now);
        true
    }
}

/// Forgets those to whom that changes nothing, when the table is full.
fn forget<K: Ord>(cells: &mut BTreeMap<K, Cell>, now: Duration) {
    if cells.len() >= REMEMBERED_MAX {
        cells.retain(|_, cell| cell.0 > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }

    fn client(n: u16) -> ClientId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_a_prefix_and_all_together_are_dialed_back_so_often() {
        let mut guard = Guard::default();
        let four = (0..9).filter(|_| guard.admit(at(0), client(1), ip("51.0.1.1"))).count();
        assert_eq!((four, guard.admit(at(9), client(1), ip("52.0.1.1"))), (4, false));
        assert!(guard.admit(at(10), client(1), ip("52.0.1.1")), "ten seconds later");
        let mut guard = Guard::default();
        let of_one_prefix = (0..50).filter(|n| guard.admit(at(0), client(*n), ip("51.0.1.1"))).count();
        assert_eq!(of_one_prefix, 8);
        assert!(guard.admit(at(0), client(99), ip("51.0.2.1")), "another prefix");
        let private = |n: u16| IpAddr::from([10, 0, 0, n as u8]);
        let mut guard = Guard::default();
        let all = (0..200).filter(|n| guard.admit(at(0), client(*n), private(*n))).count();
        assert_eq!(all, 20, "hosts in a private range have a share each, and all together a bound");
    }

    #[test]
    fn a_crowd_fills_the_table_and_no_more() {
        let mut guard = Guard::default();
        for n in 0..20_000u16 {
            let now = Now::from_start(Duration::from_millis(100 * u64::from(n) / 64));
            guard.admit(now, client(n), IpAddr::from([51, (n >> 8) as u8, n as u8, 1]));
        }
        assert!(guard.clients.len() <= REMEMBERED_MAX && guard.prefixes.len() <= REMEMBERED_MAX);
        assert!(guard.admit(at(100_000), client(1), ip("8.8.8.8")), "they are forgotten");
    }

    proptest! {
        #[test]
        fn nobody_is_dialed_back_more_often_than_the_rate(steps in prop::collection::vec(0u64..20, 1..200)) {
            let (mut guard, mut now, mut admitted) = (Guard::default(), 0, 0);
            for step in steps {
                now += step;
                admitted += u64::from(guard.admit(at(now), client(1), ip("51.0.1.1")));
                prop_assert!(admitted <= u64::from(CLIENT.burst) + now / CLIENT.every.as_secs());
            }
        }
    }
}
