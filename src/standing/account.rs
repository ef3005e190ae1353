//! The account: the reasons of this moment, since when, and what is new about them.

use super::{Code, Facts, Reason, conditions};
use crate::time::{Now, UnixMillis};
use std::{collections::BTreeMap, time::Duration};

/// How long after the first look a node counts as starting: much is so for a moment then, and goes by itself.
const STARTS_FOR: Duration = Duration::from_secs(10);
/// How long a reason that begins meanwhile must last before the log has it.
const LASTS: Duration = Duration::from_secs(3);

/// What a look at the facts has changed: what the log tells. What begins at a start and is gone within seconds is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Reasons that were not told before.
    pub begun: Vec<Reason>,
    /// Reasons that were told and that there are no longer, and how long there were.
    pub ended: Vec<(Reason, Duration)>,
}

/// The account of one node. Begins empty; each [`Account::look`] makes it true of a moment.
#[derive(Clone, Debug, Default)]
pub struct Account {
    noted: BTreeMap<Code, Noted>,
    first_look: Option<Now>,
}

/// A condition that was met a moment ago.
#[derive(Clone, Debug)]
struct Noted {
    since: UnixMillis,
    met_since: Now,
    met_last: Now,
    detail: String,
    is_reason: bool,
    /// It is in the log that it began, so that its end belongs there too.
    told: bool,
}

impl Account {
    /// Takes the facts of this moment. `now` never goes back; `wall` may.
    pub fn look(&mut self, now: Now, wall: UnixMillis, facts: &Facts) -> Changes {
        let mut changes = Changes::default();
        let is_first = self.first_look.is_none();
        let first_look = *self.first_look.get_or_insert(now);
        for (code, detail) in conditions(facts, wall) {
            let fresh = || Noted {
                since: wall,
                met_since: now,
                met_last: now,
                detail: String::new(),
                is_reason: false,
                told: false,
            };
            let noted = self.noted.entry(code).or_insert_with(fresh);
            (noted.met_last, noted.detail) = (now, detail);
            let lasted = now.since(noted.met_since);
            noted.is_reason |= is_first || lasted >= code.begins_after();
            let is_of_the_start = noted.met_since.since(first_look) < STARTS_FOR;
            if noted.is_reason && !noted.told && (lasted >= LASTS || !is_of_the_start) {
                noted.told = true;
                changes.begun.push(noted.reason(code));
            }
        }
        self.noted.retain(|code, noted| {
            let gone_for = now.since(noted.met_last);
            let lingers = noted.is_reason && gone_for < code.ends_after() && !is_surely_over(*code, facts);
            let stays = noted.met_last == now || lingers;
            if !stays && noted.told {
                changes.ended.push((noted.reason(*code), now.since(noted.met_since)));
            }
            stays
        });
        changes
    }

    /// The reasons, the gravest first.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let reasons = self.noted.iter().filter(|(_, noted)| noted.is_reason);
        reasons.map(|(code, noted)| noted.reason(*code)).collect()
    }
}

/// Whether a reason that is not met is so for good, and no pause between two of its kind.
fn is_surely_over(code: Code, facts: &Facts) -> bool {
    // A neighbour that this node cannot call comes by itself and is lost again; one that has told what it holds stays.
    code == Code::NoneReachable && (facts.replica.caught_up || facts.replica.neighbours == 0)
}

impl Noted {
    fn reason(&self, code: Code) -> Reason {
        Reason { code, since: self.since, detail: self.detail.clone() }
    }
}
