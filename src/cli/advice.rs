//! How a failure is told: what happened, then, on a line of its own, what to do next.
//!
//! Every error of the house is written as one sentence whose end, after a semicolon, says what to do. Here that end is put on
//! its line; an error that knows no better (what SQLite or the system said) sends its reader to `vintner doctor`.

use crate::shown::harmless;
use std::fmt;

/// What is told when nobody knows better.
const LOOK: &str = "`vintner doctor`, with the node's settings, looks for what is wrong";

/// A failure for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// What happened, on what.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: String,
}

impl Told {
    /// Reads an error and its causes. The innermost advice is the nearest to what happened.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let (mut whats, mut next): (Vec<String>, Option<String>) = (Vec::new(), None);
        for cause in error.chain() {
            let text = cause.to_string();
            let (what, advice) = match text.rsplit_once("; ") {
                Some((what, advice)) => (what.to_owned(), Some(advice.to_owned())),
                None => (text, None),
            };
            // Many errors tell their cause themselves.
            if !whats.iter().any(|told| told.contains(&what)) {
                whats.push(what);
            }
            next = advice.or(next);
        }
        Self { what: whats.join(": "), next: next.unwrap_or_else(|| LOOK.into()) }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\nnext: {}", harmless(&self.what), harmless(&self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn what_happened_and_what_to_do_stand_apart() {
        let error = anyhow!("No such file").context("cannot read x; check --config");
        assert_eq!(Told::of(&error).to_string(), "error: cannot read x: No such file\nnext: check --config");
        let error = Err::<(), _>(crate::store::StoreError::NotAStore { path: "p".into() })
            .context("the node did not start")
            .unwrap_err();
        assert_eq!(
            Told::of(&error).to_string(),
            "error: the node did not start: p is not a store of this program\n\
             next: move it away, or choose another data directory"
        );
    }

    #[test]
    fn an_error_that_repeats_what_a_stranger_wrote_stays_on_its_two_lines() {
        for payload in crate::shown::payloads::PAYLOADS {
            let told = Told::of(&anyhow!("it says {payload}; look at {payload}")).to_string();
            assert_eq!(told.lines().count(), 2, "{told:?}");
            told.lines().for_each(crate::shown::payloads::assert_harmless);
        }
    }

    #[test]
    fn a_cause_is_told_once_and_nobody_is_left_without_advice() {
        let source = std::io::Error::other("the disk is gone");
        let error = crate::store::StoreError::Io { doing: "open", path: "p".into(), source };
        let told = Told::of(&error.into());
        assert_eq!((told.what.as_str(), told.next.as_str()), ("cannot open p: the disk is gone", LOOK));
    }
}
