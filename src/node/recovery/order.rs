//! Who is asked, and in which order, when not everybody can be: whoever has had to do with this node, then whoever else there is.
//! Anybody can be a stranger, and thousands of times; counterparties are few, and the only ones who hold what is looked for.

use crate::{exchange::State, identity::ClientId};
use std::collections::HashSet;

/// Nodes that are asked in one recovery.
const ASKED_MAX: usize = 1_000;

/// Gives everybody their turn, once.
pub(super) struct Order {
    /// This node, and those who have their turn.
    seen: HashSet<ClientId>,
}

impl Order {
    pub(super) fn new(me: ClientId) -> Self {
        Self { seen: HashSet::from([me]) }
    }

    /// Other sides of trades, makers that were bid to, bidders, neighbours; of each kind first those whose address is known.
    pub(super) fn counterparties(
        &mut self,
        state: &State,
        neighbours: impl IntoIterator<Item = ClientId>,
        is_known: impl Fn(&ClientId) -> bool,
    ) -> Vec<ClientId> {
        let sides = state.trades_of.iter().map(|(side, _)| *side);
        let bids = state.bids_out.values().map(|own| own.bid.maker);
        let bidders = state.bids_in.keys().map(|(bidder, _)| *bidder);
        let kinds: [Vec<ClientId>; 4] =
            [self.new_of(sides), self.new_of(bids), self.new_of(bidders), self.new_of(neighbours)];
        let mut all = Vec::new();
        for mut kind in kinds {
            kind.sort_by_key(|client| !is_known(client));
            all.extend(kind);
        }
        self.no_more(all)
    }

    /// `met`, then makers whose offers are held: they may have bought.
    pub(super) fn strangers(
        &mut self,
        state: &State,
        met: impl IntoIterator<Item = ClientId>,
    ) -> Vec<ClientId> {
        let met = self.new_of(met);
        let makers = self.new_of(state.market.by_maker.iter().map(|(maker, _)| *maker));
        self.no_more([met, makers].concat())
    }

    fn new_of(&self, clients: impl IntoIterator<Item = ClientId>) -> Vec<ClientId> {
        clients.into_iter().filter(|client| !self.seen.contains(client)).collect()
    }

    /// What is left of [`ASKED_MAX`], each once.
    fn no_more(&mut self, clients: Vec<ClientId>) -> Vec<ClientId> {
        let left = ASKED_MAX - (self.seen.len() - 1);
        clients.into_iter().filter(|client| self.seen.insert(*client)).take(left).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::PublicKey, market::TradeId};
    use uuid::Uuid;

    #[test]
    fn strangers_do_not_crowd_out_those_who_may_hold_a_trade() {
        let of = |seed: u8| PublicKey([seed; 32]);
        let mut state = State::default();
        for side in [2, 3] {
            state.trades_of.insert((of(side), TradeId(Uuid::from_u128(side.into()))));
            // A second trade with the same one is no second question.
            state.trades_of.insert((of(side), TradeId(Uuid::from_u128(100))));
        }
        let strangers: Vec<ClientId> = (0..2 * ASKED_MAX as u32)
            .map(|n| {
                let mut id = [0xee; 32];
                id[..4].copy_from_slice(&n.to_be_bytes());
                PublicKey(id)
            })
            .collect();
        let order = |is_known: &dyn Fn(&ClientId) -> bool| {
            let mut order = Order::new(of(1));
            let first = order.counterparties(&state, [of(1), of(2), of(4)], is_known);
            let met = strangers.iter().copied().chain([of(3)]);
            (first, order.strangers(&state, met))
        };
        let (first, then) = order(&|client| *client == of(3));
        assert_eq!(first, [of(3), of(2), of(4)], "who can be reached at once is asked first");
        assert_eq!(then, strangers[..ASKED_MAX - 3]);
        let (first, _) = order(&|client| *client == of(4));
        assert_eq!(first[2], of(4), "a neighbour comes after the sides of trades");
    }
}
