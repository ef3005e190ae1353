//! How a node stands: one account, made from facts alone.
//!
//! Pure. Whoever knows something about the node writes it into [`Facts`]; [`conditions`] says what of it is a reason to tell the owner,
//! and [`Account`] since when, so that what comes and goes within seconds is no news. Every place that tells how the node stands shows
//! the reasons of this account and no others: `/readyz`, `/api/v1/node`, `vintner status`, `doctor`, `healthcheck`, the metrics, and
//! the log, once when a reason begins and once when it ends. At the first look nothing is waited for, so that whoever asks a node that
//! has just started hears what it lacks; the log alone waits a few seconds then, since most of it comes by itself.
//!
//! A reason has one code. What it means and what to do is in one table, [`code`], from which `docs/operating.md` has its own. What
//! cannot be known is no reason.

mod account;
mod clocks;
mod code;
mod conditions;
mod facts;
#[cfg(test)]
mod tests;

pub use account::{Account, Changes};
pub use clocks::{Clock, compare};
pub use code::{Code, Level};
pub use conditions::{CLOCK_OFF, HEARD_FOR, conditions};
pub use facts::{
    ClockVote, DhtFacts, Facts, HeadFacts, OtherFacts, OtherNetwork, OutboxFacts, ReachFacts, ReplicaFacts,
    StoreFacts,
};

use crate::time::UnixMillis;

/// One thing about the node that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which; it says the level, the meaning and the advice.
    pub code: Code,
    /// Since when, by this machine's clock.
    pub since: UnixMillis,
    /// What was found, in one sentence without an end.
    pub detail: String,
}

impl Reason {
    /// How much it hinders.
    #[must_use]
    pub fn level(&self) -> Level {
        self.code.level()
    }
}

/// Whether none of the reasons is as grave as `level`, or graver.
#[must_use]
pub fn is_well(reasons: &[Reason], level: Level) -> bool {
    reasons.iter().all(|reason| reason.level() > level)
}

/// Whether everything is held that is on offer, whether or not the node can trade.
#[must_use]
pub fn is_synced(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| reason.level() != Level::Sync)
}

/// What `reasons` say up to `level`, the gravest first: for a sentence. Empty when there is none.
#[must_use]
pub fn sentence(reasons: &[Reason], level: Level) -> String {
    let grave = reasons.iter().filter(|reason| reason.level() <= level);
    let told: Vec<String> =
        grave.map(|reason| format!("{}; {}", reason.detail, reason.code.advice())).collect();
    told.join(". ")
}
