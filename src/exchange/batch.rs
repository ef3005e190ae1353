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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        ReplyTo,
        testing::{Bench, NOW, new_offer},
    };
    use std::cell::RefCell;

    fn create() -> [Input; 2] {
        [0, 1].map(|n| Input::Create { new: new_offer(), idempotency: None, reply: ReplyTo(n) })
    }

    #[test]
    fn all_events_are_committed_at_once_before_any_effect_is_released() {
        let (mut core, order) = (Bench::new(1).core, RefCell::new(Vec::new()));
        let commit = |core: &Core, events: Vec<Event>| {
            assert_eq!(core.state().own.len(), 2, "the snapshot to publish is ready");
            order.borrow_mut().push(("commit", events.len()));
            Ok::<(), ()>(())
        };
        let release = |effects: Vec<Effect>| order.borrow_mut().push(("release", effects.len()));
        run_batch(&mut core, NOW, create(), commit, release).unwrap();
        assert_eq!(order.into_inner(), [("commit", 2), ("release", 4)]);
    }

    #[test]
    fn nothing_is_released_when_the_commit_fails() {
        let mut core = Bench::new(1).core;
        let failed =
            run_batch(&mut core, NOW, create(), |_, _| Err("full"), |_| panic!("released")).unwrap_err();
        assert_eq!((failed.error, failed.withheld.len()), ("full", 4));
    }
}
