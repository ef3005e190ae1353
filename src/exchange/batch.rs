//! The order of things: decide, commit, release.

use super::{Core, Effect, Event, Input, Output};
use crate::time::UnixMillis;

/// A batch whose events could not be committed.
#[derive(Debug)]
pub struct BatchError<E> {
    /// What the store said.
    pub error: E,
    /// What would have followed. None of it may be done; whoever waits for a reply is told that nothing happened.
    pub withheld: Vec<Effect>,
}

/// Handles `inputs`, commits all their events at once, and only then hands out their effects.
///
/// # Errors
/// When `commit` fails, the core is ahead of the store and must be thrown away and rebuilt from it.
pub fn run_batch<E>(
    core: &mut Core,
    now: UnixMillis,
    inputs: impl IntoIterator<Item = Input>,
    commit: impl FnOnce(&Core, Vec<Event>) -> Result<(), E>,
    release: impl FnOnce(Vec<Effect>),
) -> Result<(), BatchError<E>> {
    let mut output = Output::default();
    for input in inputs {
        core.handle(now, input, &mut output);
    }
    let Output { events, effects } = output;
    if cfg!(mutant = "reply_before_commit") {
        release(effects);
        return commit(core, events).map_err(|error| BatchError { error, withheld: Vec::new() });
    }
    match commit(core, events) {
        Ok(()) => {
            release(effects);
            Ok(())
        }
        Err(error) if cfg!(mutant = "effects_released_after_failed_commit") => {
            release(effects);
            Err(BatchError { error, withheld: Vec::new() })
        }
        Err(error) => Err(BatchError { error, withheld: effects }),
    }
}
