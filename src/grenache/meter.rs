//! RPC, counted by command and outcome.
//!
//! What a stranger sends as a command or a code is looked up among the words that are known here, and is `other` when it is
//! none of them: no request can make a new line on the page.

use crate::metrics::{Counter, Histogram, LATENCY, Page};
use std::time::Duration;

/// Whatever is not known.
const OTHER: &str = "other";

/// What can come of a request that this node answers.
const SERVED: &[&str] = &[
    OK,
    "rate_limited",
    "too_big",
    "body_timeout",
    "bad_frame",
    "unsigned",
    "wrong_key",
    "wrong_recipient",
    "stale_request",
    "bad_signature",
    "unknown_command",
    "malformed",
    "bad_bid",
    "wrong_sender",
    "busy",
    "store_behind",
    "starting",
    "storage_full",
    "stopping",
    "no_answer_in_time",
    "slow_down",
    OTHER,
];

/// What can come of a request that this node makes.
const CALLED: &[&str] = &[
    OK,
    "address_refused",
    "unsendable",
    "unreachable",
    "timed_out",
    "broken",
    "not_a_reply",
    "not_believed",
    "busy_here",
    "wrong_recipient",
    "stale_request",
    "bad_signature",
    "unknown_command",
    "malformed",
    "bad_bid",
    "wrong_sender",
    "busy",
    "store_behind",
    "starting",
    "storage_full",
    "stopping",
    "no_answer_in_time",
    "slow_down",
    OTHER,
];

/// A result, whatever it says: a refused bid is one too.
pub(super) const OK: &str = "ok";

/// Counts one side of RPC. Made once, shared by handle.
#[derive(Debug)]
pub struct Meter {
    outcomes: &'static [&'static str],
    rows: Box<[Row]>,
}

#[derive(Debug)]
struct Row {
    command: &'static str,
    outcomes: Box<[Counter]>,
    seconds: Histogram,
}

impl Meter {
    /// For a server that knows `commands`.
    #[must_use]
    pub fn of_server(commands: &[&'static str]) -> Self {
        Self::new(commands, SERVED)
    }

    /// For a client that sends `commands`.
    #[must_use]
    pub fn of_client(commands: &[&'static str]) -> Self {
        Self::new(commands, CALLED)
    }

    fn new(commands: &[&'static str], outcomes: &'static [&'static str]) -> Self {
        let row = |command| {
            let counters = outcomes.iter().map(|_| Counter::default()).collect();
            Row { command, outcomes: counters, seconds: Histogram::new(&LATENCY) }
        };
        Self { outcomes, rows: commands.iter().copied().chain([OTHER]).map(row).collect() }
    }

    /// `outcome` as it is counted.
    pub(super) fn known(&self, outcome: &str) -> &'static str {
        self.outcomes.iter().find(|known| **known == outcome).unwrap_or(&OTHER)
    }

    /// Counts a request whose command was `command` (empty: it was not read).
    pub(super) fn count(&self, command: &str, outcome: &str, took: Duration) {
        let last = self.rows.len() - 1;
        let row = &self.rows[self.rows.iter().position(|row| row.command == command).unwrap_or(last)];
        let last = self.outcomes.len() - 1;
        row.outcomes[self.outcomes.iter().position(|known| *known == outcome).unwrap_or(last)].inc();
        row.seconds.took(took);
    }

    /// How often `outcome` came of any command.
    #[must_use]
    pub fn total(&self, outcome: &str) -> u64 {
        let at = self.outcomes.iter().position(|known| *known == outcome);
        at.map_or(0, |at| self.rows.iter().map(|row| row.outcomes[at].get()).sum())
    }

    /// Writes the number of requests under `total`, and their times under `seconds`.
    pub fn write(&self, total: (&'static str, &str), seconds: (&'static str, &str), page: &mut Page) {
        let mut requests = page.counter(total.0, total.1);
        for row in &self.rows {
            for (outcome, counter) in self.outcomes.iter().zip(&row.outcomes) {
                requests.count(&[("command", row.command), ("outcome", outcome)], counter);
            }
        }
        let mut times = page.histogram(seconds.0, seconds.1);
        for row in &self.rows {
            times.spread(&[("command", row.command)], &row.seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_makes_no_new_line() {
        let meter = Meter::of_server(&["hello"]);
        let page = |meter: &Meter| {
            let mut page = Page::default();
            meter.write(("vintner_a_total", "A"), ("vintner_b_seconds", "B"), &mut page);
            page.finish()
        };
        let lines = page(&meter).lines().count();
        for n in 0..50 {
            meter.count(&format!("command-{n}"), &format!("code-{n}"), Duration::ZERO);
        }
        meter.count("hello", "busy", Duration::ZERO);
        let text = page(&meter);
        assert_eq!(text.lines().count(), lines);
        assert!(text.contains("vintner_a_total{command=\"other\",outcome=\"other\"} 50\n"), "{text}");
        assert!(text.contains("vintner_a_total{command=\"hello\",outcome=\"busy\"} 1\n"), "{text}");
        assert_eq!((meter.total("other"), meter.total("busy")), (50, 1));
    }
}
