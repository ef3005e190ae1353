//! How fast the network changes, and how often a node must therefore look after what it keeps.
//!
//! The nodes nearest to our own id are a fair sample of those nearest to anything: an id is random. So once a minute the K nearest
//! of the table are compared with those of the minute before. Who is new among them has come between, or moved up because somebody
//! died; either way he holds nothing of what was put before, and a record that lies as near to him misses one holder too. One lost
//! datagram changes nothing: a node stays in the table until it has failed twice. To a node that has just come everybody is new,
//! so it begins with short intervals and learns how calm it is.
//!
//! The result is a half-forgotten mean, because networks calm down. It starts with some minutes in which nothing happened, so that
//! one restart in a network of five is no storm.

use super::{Now, id::NodeId, table::K};
use std::time::Duration;

/// How often neighbours are counted.
pub(super) const COUNT_EVERY: Duration = Duration::from_mins(1);
/// What was seen counts half after this long.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// A quiet time that is assumed to lie behind us: five minutes of K nodes.
const QUIET_NODE_MINUTES: f64 = 5.0 * K as f64;

/// See the module's page.
pub(super) struct Turnover {
    neighbours: Vec<NodeId>,
    counted_at: Now,
    new: f64,
    node_minutes: f64,
}

impl Turnover {
    pub(super) fn new(now: Now) -> Self {
        Self { neighbours: Vec::new(), counted_at: now, new: 0.0, node_minutes: 0.0 }
    }

    /// When to count next.
    pub(super) fn next_at(&self) -> Now {
        self.counted_at.plus(COUNT_EVERY)
    }

    /// Counts who of the neighbours is new. `neighbours`: the K nearest in the table.
    pub(super) fn count(&mut self, now: Now, neighbours: Vec<NodeId>) {
        let passed = now.since(self.counted_at);
        let forgotten = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        let new = neighbours.iter().filter(|id| !self.neighbours.contains(id)).count();
        self.new = self.new * forgotten + new as f64;
        self.node_minutes =
            self.node_minutes * forgotten + neighbours.len() as f64 * passed.as_secs_f64() / 60.0;
        (self.neighbours, self.counted_at) = (neighbours, now);
    }

    /// In which time this percentage of neighbours is new, within bounds; the longest where nothing changes.
    pub(super) fn time_for(&self, percent: u32, min: Duration, max: Duration) -> Duration {
        let a_minute = self.new / (QUIET_NODE_MINUTES + self.node_minutes);
        // What is left of a set after a time shrinks alike in the next: the time is a logarithm.
        let left = 1.0 - f64::from(percent) / 100.0;
        let seconds = 60.0 * -left.ln() / a_minute;
        if seconds.is_finite() {
            Duration::from_secs_f64(seconds.min(max.as_secs_f64())).max(min)
        } else {
            max
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn ids(from: u8, count: usize) -> Vec<NodeId> {
        (0..count).map(|n| NodeId([from.wrapping_add(n as u8); 20])).collect()
    }

    fn counted(minutes: u32, size: usize, new_a_minute: u8) -> Turnover {
        let mut turnover = Turnover::new(Now::ZERO);
        let mut now = Now::ZERO;
        for minute in 0..minutes {
            now = now.plus(COUNT_EVERY);
            turnover.count(now, ids(new_a_minute.wrapping_mul(minute as u8), size));
        }
        turnover
    }

    fn minutes(turnover: &Turnover) -> u64 {
        turnover.time_for(30, Duration::from_mins(3), HOUR).as_secs() / 60
    }

    #[test]
    fn a_network_in_which_nothing_changes_needs_an_hour_once_that_is_known() {
        assert_eq!(minutes(&Turnover::new(Now::ZERO)), 60);
        assert_eq!(minutes(&counted(1, K, 0)), 3, "everybody is new");
        assert!((15..30).contains(&minutes(&counted(20, K, 0))), "{}", minutes(&counted(20, K, 0)));
        assert_eq!(minutes(&counted(600, 5, 0)), 60);
        assert_eq!(minutes(&counted(600, K, 0)), 60);
    }

    #[test]
    fn a_network_that_loses_a_tenth_a_minute_needs_a_few_minutes() {
        // Two of twenty a minute: three tenths are gone after 3.6 min.
        assert!((3..=5).contains(&minutes(&counted(60, K, 2))), "{}", minutes(&counted(60, K, 2)));
        assert_eq!(minutes(&counted(60, K, 19)), 3, "never more often than that");
    }

    #[test]
    fn one_restart_in_a_small_network_is_no_storm_and_a_storm_is_forgotten() {
        let mut turnover = counted(60, 5, 0);
        let mut now = Now::ZERO.plus(COUNT_EVERY * 61);
        turnover.count(now, ids(1, 5));
        assert!(minutes(&turnover) >= 45, "{}", minutes(&turnover));
        let mut turnover = counted(60, K, 5);
        assert_eq!(minutes(&turnover), 3);
        for _ in 0..60 {
            now = now.plus(COUNT_EVERY);
            turnover.count(now, ids(0, K));
        }
        assert!(minutes(&turnover) >= 40, "{}", minutes(&turnover));
    }
}
