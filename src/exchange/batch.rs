//! The order of things: decide, commit, release.

use super::{
    BidOutcome, CommandError, Core, Done, Effect, Event, Input, NotNow, Output, State, limits::CLOCK_BACK_MAX,
};
use crate::{market::Via, time::UnixMillis};
use std::{collections::HashSet, sync::Arc};

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

/// Takes out of `waiting` what is stored now. Beside what must be durable, for which somebody waits, hints stay behind for a commit
/// of their own: stored after it, they say the same. Except a report of how far an own record reached, which the record's next
/// version carries itself; and a record that was forgotten would take with it what was learnt of it since, so together with such
/// a one everything goes, in its order.
pub fn take_due(waiting: &mut Vec<Event>) -> Vec<Event> {
    let forgets = waiting.iter().any(|event| matches!(event, Event::Forgotten(_)));
    if forgets || !waiting.iter().any(Event::must_be_durable) {
        return std::mem::take(waiting);
    }
    let (mut due, mut hints, mut rewritten) = (Vec::new(), Vec::new(), HashSet::new());
    for event in waiting.drain(..).rev() {
        match &event {
            Event::Published(id, _) if rewritten.contains(id) => {}
            Event::Own(own) => {
                rewritten.insert(own.offer.id);
                due.push(event);
            }
            _ if event.must_be_durable() => due.push(event),
            _ => hints.push(event),
        }
    }
    waiting.extend(hints.into_iter().rev());
    due.reverse();
    due
}

/// Replaces a core whose last batch could not be committed by one rebuilt from the store, and says truthfully what that means
/// for everybody who waits: whoever was about to hear of something that is not stored hears that nothing happened; whoever
/// waits for the answer to a bid that *is* stored goes on waiting, or is told what the store knows.
pub fn rebuild(
    failed: Core,
    withheld: Vec<Effect>,
    stored: impl IntoIterator<Item = Event>,
    seed: [u8; 32],
    now: UnixMillis,
) -> (Core, Output) {
    let now = if now.plus(CLOCK_BACK_MAX) < failed.now { now } else { now.max(failed.now) };
    let (mut core, mut output) = Core::restore(failed.master, failed.network, seed, stored, now);
    core.counters = failed.counters;
    core.max_notional = failed.max_notional;
    core.changes = failed.changes;
    // A question that is under way will be answered; only those that were withheld have not left.
    let is_withheld =
        |bid| withheld.iter().any(|effect| matches!(effect, Effect::Ask(asked, _) if asked.id == bid));
    let is_under_way =
        |bid| failed.asking.get(&bid).is_some_and(|asking| asking.in_flight) && !is_withheld(bid);
    output.effects.retain(|effect| !matches!(effect, Effect::Ask(bid, _) if is_under_way(bid.id)));
    for effect in withheld {
        match effect {
            Effect::Reply { to, reply } => {
                let reply = reply.and_then(|done| core.still_true(done).ok_or(CommandError::StorageFull));
                output.effects.push(Effect::Reply { to, reply });
            }
            Effect::Answer { to, .. } => {
                output.effects.push(Effect::Answer { to, answer: Err(NotNow::StorageFull) });
            }
            // Asked and published again by `restore`, as far as the store knows of them, or heard again below.
            Effect::Ask(..)
            | Effect::Publish(_)
            | Effect::Unpublish(_)
            | Effect::Expired(_)
            | Effect::Fetch(_)
            | Effect::Held(..)
            | Effect::Fraud { .. } => {}
        }
    }
    core.take_over_heard(&failed.state, &mut output);
    core.take_over_callers(failed.waiting, &mut output);
    (core, output)
}

impl Core {
    /// What others made is as true as it was: memory may know more of it than the store.
    fn take_over_heard(&mut self, before: &State, output: &mut Output) {
        for maker in &before.market.stale {
            self.state.market.set_stale(*maker, true);
        }
        for (target, why) in &before.market.unlisted {
            if !self.state.market.unlisted.contains_key(target) {
                self.emit(Event::Unlisted(*target, *why), output);
            }
        }
        let me = self.client_id;
        for offer in before.market.records.values().filter(|offer| offer.client_id != me) {
            let held = self.state.market.records.get(&offer.target());
            if held.is_none_or(|held| held.sequence < offer.sequence) {
                self.record(Arc::clone(offer), Via::Dht, output);
            }
        }
        for (first, second) in before.market.equivocated.values() {
            self.fraud([Arc::clone(first), Arc::clone(second)], Via::Dht, output);
        }
    }

    /// What was done, if the state still shows it. A withdrawal that was not stored did not happen.
    fn still_true(&self, done: Done) -> Option<Done> {
        let stored = match done {
            Done::Created { offer, .. } => self.state.own.contains_key(&offer),
            Done::Bid { bid, .. } => self.state.bids_out.contains_key(&bid),
            Done::GivenUp(bid) => {
                let bid = self.state.bids_out.get(&bid);
                bid.is_some_and(|bid| matches!(bid.outcome, BidOutcome::GivenUp { .. }))
            }
            Done::Withdrawn(_) | Done::Recovered(_) | Done::TradesTaken { .. } => false,
        };
        stored.then_some(done)
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
