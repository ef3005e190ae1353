//! What the checks found, one line each.

use crate::{
    cli::{output, reach::Reach},
    shown::harmless,
};
use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Failed,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// One check: what was found, what it means, and what to do where it is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// All checks, in the order in which they were made.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    ok: bool,
    checks: Vec<Check>,
    /// How commands in advice reach the node.
    #[serde(skip)]
    reach: Reach,
}

impl Report {
    /// Of a node that is reached so.
    pub(super) fn of(reach: Reach) -> Self {
        Self { reach, ..Self::default() }
    }

    pub(super) fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Level::Ok, detail.into(), None);
    }

    pub(super) fn warning(&mut self, name: &'static str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(name, Level::Warning, detail.into(), Some(next.into()));
    }

    pub(super) fn failed(&mut self, name: &'static str, detail: impl Into<String>, next: impl Into<String>) {
        self.add(name, Level::Failed, detail.into(), Some(next.into()));
    }

    /// An error of the house, which says itself what to do.
    pub(super) fn error(&mut self, name: &'static str, error: impl Into<anyhow::Error>) {
        let told = crate::cli::advice::Told::of(&error.into());
        self.failed(name, told.what, told.next);
    }

    fn add(&mut self, name: &'static str, level: Level, detail: String, next: Option<String>) {
        let next = next.map(|next| self.reach.repeat(&next));
        self.checks.push(Check { name, level, detail, next });
    }

    /// Whether nothing failed.
    pub(super) fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Failed)
    }

    /// Prints it all.
    pub(super) fn print(mut self, json: bool) -> anyhow::Result<()> {
        self.ok = self.is_well();
        if json {
            return output::print_json(&self);
        }
        output::print(&self.lines())
    }

    fn lines(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let line = |check: &Check| {
            let next =
                check.next.as_ref().map_or_else(String::new, |next| format!("; next: {}", harmless(next)));
            format!("{:7}  {:width$}  {}{next}\n", check.level.word(), check.name, harmless(&check.detail))
        };
        self.checks.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_leads_to_the_node_that_was_looked_at() {
        let mut report = Report::of(Reach::to("127.0.0.1:4001".parse().unwrap(), None));
        report.failed("node", "is behind", "run `vintner recover`");
        assert!(report.lines().ends_with("next: run `vintner recover --api http://127.0.0.1:4001`\n"));
    }

    #[test]
    fn what_strangers_write_stays_on_its_line() {
        for payload in crate::shown::payloads::PAYLOADS {
            let mut report = Report::default();
            report.failed("node", *payload, *payload);
            assert_eq!(report.lines().lines().count(), 1);
            report.lines().lines().for_each(crate::shown::payloads::assert_harmless);
        }
    }

    #[test]
    fn a_line_a_check_and_a_warning_is_no_failure() {
        let mut report = Report::default();
        report.ok("clock", "is right");
        report.warning("DHT", "is small", "start more grapes");
        assert!(report.is_well());
        report.error(
            "key file",
            crate::store::keyfile::KeyFileError::Exposed { path: "k".into(), mode: 0o644 },
        );
        assert!(!report.is_well());
        assert_eq!(
            report.lines(),
            "ok       clock     is right\n\
             warning  DHT       is small; next: start more grapes\n\
             FAILED   key file  k can be read by others than its owner (mode 644); next: if nobody did, run: chmod 600 k\n"
        );
    }
}
