//! How fast this node asks on the public network, where others count: libtorrent ignores for minutes whoever sends more than five
//! datagrams a second, over ten seconds.

use crate::dht::core::{Now, contacts::Recent};
use std::{net::IpAddr, time::Duration};

/// Queries a second to everybody together, renewals of a large book included.
const A_SECOND: u32 = 250;
/// Queries at once after a pause: a few lookups.
const BURST: u32 = 500;
/// Queries to one address in a [`WINDOW`]: four a second, below what libtorrent tolerates.
const TO_ONE_MAX: u16 = 40;
const WINDOW: Duration = Duration::from_secs(10);
/// Addresses that are counted for: those of about one window.
const COUNTED_MAX: usize = 8192;

/// What one query costs, and what a burst may have saved up.
const COST: Duration = Duration::from_micros(1_000_000 / A_SECOND as u64);
const SAVED_MAX: Duration = COST.saturating_mul(BURST);

pub(in crate::dht::core) struct Pace {
    /// Until when the queries sent so far are paid for.
    paid_until: Now,
    to: Recent<IpAddr, (Now, u16)>,
}

impl Pace {
    pub(in crate::dht::core) fn new() -> Self {
        Self { paid_until: Now::ZERO, to: Recent::new(COUNTED_MAX) }
    }

    /// When the next query may be sent: an instant that has passed, if one may now.
    pub(in crate::dht::core) fn next(&self) -> Now {
        Now::from_start(self.paid_until.since(Now::ZERO).saturating_sub(SAVED_MAX))
    }

    /// Whether another query may go to this address.
    pub(in crate::dht::core) fn may_ask(&self, to: IpAddr, now: Now) -> bool {
        self.to.get(&to).is_none_or(|(since, count)| *count < TO_ONE_MAX || now.since(*since) >= WINDOW)
    }

    /// A query was sent.
    pub(in crate::dht::core) fn sent(&mut self, to: IpAddr, now: Now) {
        self.paid_until = self.paid_until.max(now).plus(COST);
        let (since, count) = match self.to.get(&to) {
            Some((since, count)) if now.since(*since) < WINDOW => (*since, count.saturating_add(1)),
            _ => (now, 1),
        };
        self.to.insert(to, (since, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_burst_goes_at_once_and_then_so_many_a_second() {
        let mut pace = Pace::new();
        let mut now = Now::from_start(Duration::from_secs(100));
        let mut sent = 0u32;
        let mut send_all = |now| {
            let before = sent;
            while pace.next() <= now {
                pace.sent(to(sent), now);
                sent += 1;
            }
            sent - before
        };
        assert!((BURST..=BURST + 1).contains(&send_all(now)));
        for _ in 0..10 {
            now = now.plus(Duration::from_secs(1));
            assert_eq!(send_all(now), A_SECOND);
        }
        now = now.plus(Duration::from_hours(1));
        assert!((BURST..=BURST + 1).contains(&send_all(now)));
    }

    #[test]
    fn one_address_is_asked_so_often_in_a_window() {
        let mut pace = Pace::new();
        let start = Now::from_start(Duration::from_secs(1));
        for _ in 0..TO_ONE_MAX {
            assert!(pace.may_ask(to(1), start));
            pace.sent(to(1), start);
        }
        assert!(!pace.may_ask(to(1), start) && pace.may_ask(to(2), start));
        assert!(pace.may_ask(to(1), start.plus(WINDOW)));
    }
}
