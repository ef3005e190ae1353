//! What the log tells of a store that is behind the network: when it is found, and whenever it stops somebody.

use crate::{
    exchange::{CommandError, Effect, Event, NotNow, State},
    market::Offer,
    metrics::Repeated,
};
use std::{sync::Arc, time::Instant};

/// Own offers that are named one by one: a store of last month may lack thousands.
const NAMED_MAX: usize = 10;

/// Decides what of it is told.
#[derive(Default)]
pub(super) struct Behind {
    named: usize,
    refused: Repeated,
}

impl Behind {
    /// For a store that was just read.
    pub(super) fn of(state: &State) -> Self {
        if state.is_behind() {
            tracing::warn!(
                offers = state.ahead.len(),
                "the store is behind the network, as it was when the node stopped: it neither offers nor bids until `vintner recover`"
            );
        }
        Self::default()
    }

    /// Own offers of which the network knows more, just stored as such.
    pub(super) fn found(&mut self, events: &[Event]) {
        let ahead = events.iter().filter_map(|event| match event {
            Event::Ahead(offer) => Some(offer),
            _ => None,
        });
        for offer in ahead {
            self.tell(offer);
        }
        if events.iter().any(|event| matches!(event, Event::Recovered)) {
            self.named = 0;
        }
    }

    fn tell(&mut self, offer: &Arc<Offer>) {
        self.named += 1;
        match self.named {
            ..=NAMED_MAX => tracing::warn!(
                offer = %offer.id, hash = %offer.target(), sequence = offer.sequence, open = offer.availability,
                "the network knows a newer version of an own offer than the store: its data directory is that of an earlier day, or another node has the same key; this node neither offers nor bids until `vintner recover`"
            ),
            n if n == NAMED_MAX + 1 => {
                tracing::warn!("and of more own offers, which are not named one by one");
            }
            _ => {}
        }
    }

    /// Counts those who are told that this node cannot decide.
    pub(super) fn refused(&mut self, effect: &Effect) {
        let is_refusal = matches!(
            effect,
            Effect::Reply { reply: Err(CommandError::StoreBehind), .. }
                | Effect::Answer { answer: Err(NotNow::StoreBehind), .. }
        );
        if is_refusal && let Some(times) = self.refused.happened(Instant::now()) {
            tracing::warn!(
                times,
                "refused to offer, bid, withdraw or decide on a bid: the store is behind the network; run `vintner recover`"
            );
        }
    }
}
