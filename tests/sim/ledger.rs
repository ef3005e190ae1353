//! The judge: watches what nodes commit and say from outside, and knows what must never happen. It shares no code with the core.

use super::node::Node;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use vintner::{
    bep44::Target,
    exchange::{
        BidAnswer, BidOutcome, Closed, CommandError, Done, Event, RefusalCode, Reply, ReplyTo, Span, State,
        TradesWanted,
    },
    identity::{ClientId, Signed},
    market::{Bid, BidId, Offer, OfferId, Side, Terms, TradeId, TradeReceipt},
    time::UnixMillis,
};

/// What an owner asked for.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Create {
        key: Option<String>,
    },
    Withdraw,
    /// For what its owner saw of the offer, where it says so.
    Bid {
        key: Option<String>,
        seen: Option<Box<Terms>>,
    },
    GiveUp(BidId),
    Recover,
    TakeOver,
}

#[derive(Clone, Debug)]
struct Command {
    node: usize,
    life: u64,
    wish: Wish,
}

/// Something that was acknowledged and so must be in a store.
#[derive(Clone, Debug)]
enum Fact {
    Own(OfferId, UnixMillis),
    Withdrawn(OfferId, UnixMillis),
    BidOut(BidId),
    GivenUp(BidId),
    Accepted(ClientId, BidId, TradeId),
    Refused(ClientId, BidId),
}

impl Fact {
    fn holds(&self, state: &State, clock: UnixMillis) -> bool {
        match self {
            Self::Own(id, dies_at) => clock >= *dies_at || state.own.contains_key(id),
            Self::Withdrawn(id, dies_at) => {
                clock >= *dies_at
                    || state.own.get(id).is_some_and(|own| own.closed == Some(Closed::Withdrawn))
            }
            Self::BidOut(id) => state.bids_out.contains_key(id),
            // Its maker may answer later; nothing brings the doubt back.
            Self::GivenUp(id) => state.bids_out.get(id).is_some_and(|bid| bid.outcome != BidOutcome::InDoubt),
            Self::Accepted(bidder, bid, trade) => {
                state.trades.contains_key(trade)
                    && state.bids_in.get(&(*bidder, *bid)).is_some_and(|b| b.answer == Ok(*trade))
            }
            Self::Refused(bidder, bid) => {
                state.bids_in.get(&(*bidder, *bid)).is_some_and(|b| b.answer.is_err())
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    /// The first broken rule.
    pub broken: Option<String>,
    pub trades: u64,
    pub refusals: u64,
    pub given_up: u64,
    honest: BTreeMap<ClientId, usize>,
    /// Nodes whose store was replaced by an old one: what they promised before is not held against them.
    lossy: BTreeSet<usize>,
    offers: BTreeMap<Target, Offer>,
    sold: BTreeMap<Target, TradeId>,
    withdrawn: BTreeSet<Target>,
    answers: HashMap<[u8; 32], BidAnswer>,
    refused: BTreeSet<(ClientId, ClientId, BidId)>,
    facts: Vec<(usize, Fact)>,
    commands: BTreeMap<u64, Command>,
    made: BTreeMap<(usize, String), String>,
    /// The last version of each record of another that a node took in since it started.
    seen: BTreeMap<(usize, Target), Offer>,
    /// The latest that each node's clock has shown: what died by it is gone, also when the clock is set back.
    latest: BTreeMap<usize, UnixMillis>,
}

impl Ledger {
    pub(super) fn meet(&mut self, id: ClientId, node: usize) {
        self.honest.insert(id, node);
    }

    pub(super) fn check(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(rule());
        }
    }

    pub(super) fn asked_for(&mut self, to: ReplyTo, node: usize, life: u64, wish: Wish) {
        self.commands.insert(to.0, Command { node, life, wish });
    }

    /// The node stopped: whoever waited has lost the connection.
    pub(super) fn hung_up(&mut self, node: usize) {
        self.commands.retain(|_, command| command.node != node);
        self.seen.retain(|(of, _), _| *of != node);
    }

    pub(super) fn store_lost(&mut self, node: usize) {
        self.lossy.insert(node);
        self.facts.retain(|(of, _)| *of != node);
        self.made.retain(|(of, _), _| *of != node);
    }

    fn is_lossy(&self, id: &ClientId) -> bool {
        self.honest.get(id).is_none_or(|node| self.lossy.contains(node))
    }

    /// These events of `node` are stored, or so it believes.
    pub(super) fn committed(&mut self, node: usize, nodes: &[Node], events: &[Event], clock: UnixMillis) {
        let latest = self.latest.entry(node).or_default();
        *latest = clock.max(*latest);
        let latest = *latest;
        for event in events {
            match event {
                Event::Own(own) => {
                    self.offers.entry(own.offer.target()).or_insert_with(|| (*own.offer).clone());
                }
                Event::Heard(offer) => {
                    // Five minutes are allowed; a core whose clock stepped back goes on from where it was.
                    let soon = clock.plus(Duration::from_mins(6)).0;
                    // What a proof of fraud is about is held and not listed, whatever time it claims.
                    let market = &nodes[node].store.state.market;
                    let is_proof = market.is_contradicted(&offer.target());
                    self.check(offer.sequence <= soon || is_proof, || {
                        format!("node {node} believes the future")
                    });
                    self.takes_in(node, nodes, offer);
                }
                Event::Forgotten(target) => _ = self.seen.remove(&(node, *target)),
                Event::Traded(receipt) if receipt.trade().maker == nodes[node].id => {
                    self.sold_by(receipt, clock);
                }
                Event::Traded(receipt) => self.bought_by(node, nodes, receipt),
                Event::BidOut(bid) => {
                    self.outcome(nodes, &bid.bid, &bid.outcome);
                    self.given_up(&bid.bid, &bid.outcome, latest);
                }
                _ => {}
            }
        }
    }

    /// What never changes did not change, and what is listed is the only record of its id and at its first price.
    fn takes_in(&mut self, node: usize, nodes: &[Node], offer: &Offer) {
        let state = nodes[node].core.as_ref().map_or(&nodes[node].store.state, |core| core.state());
        let (market, target) = (&state.market, offer.target());
        let is_listed = |target| market.available.contains_key(&(offer.id, target));
        let (mine, last) = ((node, Target([0; 20])), (node, Target([0xff; 20])));
        let namesake = self.seen.range(mine..=last).find(|((_, other), seen)| {
            *other != target && seen.id == offer.id && is_listed(*other) && is_listed(target)
        });
        let namesake = namesake.map(|((_, other), _)| *other);
        self.check(namesake.is_none(), || {
            format!("node {node} lists {target} and {namesake:?}, which have one id")
        });
        let before = self.seen.insert((node, target), offer.clone());
        let Some(before) = before.filter(|_| !market.is_contradicted(&target)) else { return };
        let fixed = |offer: &Offer| {
            (offer.id, offer.client_id, offer.terms.side, offer.terms.currency, offer.dies_at, offer.proof)
        };
        self.check(fixed(&before) == fixed(offer), || {
            format!("node {node} takes a version of {target} that changes what is fixed")
        });
        let (was_open, is_open) = (before.availability, offer.availability);
        self.check(was_open || !is_open || before.sequence > offer.sequence, || {
            format!("node {node} opens {target} again, which was closed")
        });
        let same_price = before.terms == offer.terms;
        self.check(same_price || !is_listed(target), || {
            format!("node {node} lists {target} at another price than before")
        });
    }

    fn sold_by(&mut self, receipt: &TradeReceipt, clock: UnixMillis) {
        self.trades += 1;
        let (trade, bid) = (receipt.trade(), receipt.bid());
        let target = trade.offer_hash;
        let before = self.sold.insert(target, trade.id);
        if before == Some(trade.id) {
            // Its maker had forgotten it, and got it back from the taker.
            return self.trades -= 1;
        }
        self.check(before.is_none(), || format!("offer {target} was sold twice"));
        let withdrawn = self.withdrawn.contains(&target);
        self.check(!withdrawn, || format!("offer {target} was sold after it was withdrawn"));
        let told_no = self.refused.contains(&(trade.maker, bid.bidder, bid.id));
        self.check(!told_no, || format!("bid {} was refused and then accepted", bid.id.0));
        let offer = self.offers.get(&target).cloned();
        self.check(offer.is_some(), || format!("{target} was sold and never offered"));
        let Some(offer) = offer else { return };
        let pays = match offer.terms.side {
            Side::Sell => bid.price >= offer.terms.offer_price,
            Side::Buy => bid.price <= offer.terms.offer_price,
        };
        self.check(pays && trade.price == bid.price, || format!("{target} was sold at a worse price"));
        self.check(bid.terms == offer.terms, || format!("{target} was sold on other terms"));
        self.check(clock < bid.valid_until, || format!("bid {} was accepted too late", bid.id.0));
        let open = offer.expires_at.is_some_and(|until| trade.executed_at < until);
        self.check(open, || format!("{target} was sold after it expired"));
    }

    fn bought_by(&mut self, node: usize, nodes: &[Node], receipt: &TradeReceipt) {
        let (trade, bid) = (receipt.trade(), receipt.bid());
        let own = nodes[node].store.state.bids_out.get(&bid.id).is_some_and(|own| own.bid == *bid);
        self.check(own, || format!("a trade about bid {}, which is not the taker's", bid.id.0));
        let same = trade.taker == nodes[node].id
            && (trade.bid_id, trade.offer_hash, trade.terms, trade.price)
                == (bid.id, bid.offer_hash, bid.terms, bid.price)
            && trade.maker == bid.maker;
        self.check(same, || format!("trade {} is about another bid than {}", trade.id, bid.id.0));
        if let Some(maker) = self.honest.get(&bid.maker).filter(|maker| !self.lossy.contains(maker)) {
            let theirs = nodes[*maker].store.state.trades.get(&trade.id);
            let equal = theirs.is_some_and(|theirs| **theirs == *receipt);
            self.check(equal, || format!("the taker holds trade {} and its maker does not", trade.id));
        }
    }

    fn outcome(&mut self, nodes: &[Node], bid: &Signed<Bid>, outcome: &BidOutcome) {
        let BidOutcome::Refused(_) = outcome else { return };
        self.refusals += 1;
        self.refused.insert((bid.maker, bid.bidder, bid.id));
        if let Some(maker) = self.honest.get(&bid.maker) {
            let sold = nodes[*maker].store.state.trades.values().any(|t| t.bid().source() == bid.source());
            self.check(!sold || self.lossy.contains(maker), || {
                format!("the taker believes bid {} refused, and its maker sold", bid.id.0)
            });
        }
    }

    /// Not before the bid's deadline is over and the record dead, by the clock of whoever gives up.
    fn given_up(&mut self, bid: &Bid, outcome: &BidOutcome, clock: UnixMillis) {
        let BidOutcome::GivenUp { .. } = outcome else { return };
        self.given_up += 1;
        let over = clock >= bid.valid_until;
        self.check(over, || format!("bid {} was given up while it was firm", bid.id.0));
        let dead = self.offers.get(&bid.offer_hash).is_none_or(|offer| clock >= offer.dies_at);
        self.check(dead, || format!("bid {} was given up while its offer lived", bid.id.0));
    }

    /// `node` answered a bid: the same bid gets the same answer, and only about what is stored.
    pub(super) fn answered(&mut self, node: usize, nodes: &[Node], bid: &Signed<Bid>, answer: &BidAnswer) {
        if let BidAnswer::Accepted { trade } = answer {
            let stored = nodes[node].store.state.trades.values().find(|t| t.trade().source() == trade);
            let good = stored.is_some_and(|receipt| receipt.bid() == bid);
            self.check(good, || format!("bid {} was answered with a trade that is not its own", bid.id.0));
            if let Some(receipt) = stored {
                self.fact(node, nodes, Fact::Accepted(bid.bidder, bid.id, receipt.trade().id));
            }
        } else if let BidAnswer::Refused(refusal) = answer
            && !matches!(refusal.code, RefusalCode::OfferNotFound | RefusalCode::IdReuse)
        {
            self.fact(node, nodes, Fact::Refused(bid.bidder, bid.id));
        }
        if !self.lossy.contains(&node) {
            let before = self.answers.entry(bid.source().digest()).or_insert_with(|| answer.clone());
            // That there is no such offer is not remembered: whoever used the bid's id for another one since may hear of that.
            let code = |answer: &BidAnswer| match answer {
                BidAnswer::Refused(refusal) => Some(refusal.code),
                BidAnswer::Accepted { .. } => None,
            };
            let reused = (code(before), code(answer))
                == (Some(RefusalCode::OfferNotFound), Some(RefusalCode::IdReuse));
            let same = before == answer || reused;
            self.check(same, || format!("bid {} got another answer when it was repeated", bid.id.0));
        }
    }

    fn fact(&mut self, node: usize, nodes: &[Node], fact: Fact) {
        let holds = fact.holds(&nodes[node].store.state, UnixMillis(0));
        self.check(holds, || format!("node {node} acknowledged what it has not stored: {fact:?}"));
        self.facts.push((node, fact));
    }

    pub(super) fn asks(&mut self, node: usize, nodes: &[Node], bid: &Signed<Bid>) {
        let stored = nodes[node].store.state.bids_out.contains_key(&bid.id);
        self.check(stored, || format!("bid {} was sent before it was stored", bid.id.0));
    }

    pub(super) fn publishes(&mut self, node: usize, nodes: &[Node], offer: &Offer) {
        let own = nodes[node].store.state.own.get(&offer.id);
        let stored = own.is_some_and(|own| own.offer.sequence >= offer.sequence);
        self.check(stored, || format!("offer {} was published before it was stored", offer.id));
    }

    pub(super) fn replied(&mut self, node: usize, nodes: &[Node], to: ReplyTo, reply: &Reply) {
        let command = self.commands.remove(&to.0);
        let Some(Command { wish, life, .. }) = command.filter(|c| c.node == node) else {
            return self.check(false, || format!("node {node} replied to {} twice or to nobody", to.0));
        };
        self.check(life == nodes[node].life, || format!("a reply to {} from another life", to.0));
        let state = &nodes[node].store.state;
        match (&wish, reply) {
            (Wish::Create { key }, Ok(Done::Created { offer, again })) => {
                self.once(node, key.as_ref(), *again, &format!("offer {offer}"));
                if let Some(own) = state.own.get(offer) {
                    self.fact(node, nodes, Fact::Own(*offer, own.offer.dies_at));
                } else {
                    self.check(*again, || format!("offer {offer} was acknowledged and is not stored"));
                }
            }
            (Wish::Withdraw, Ok(Done::Withdrawn(offer))) => {
                let own = state.own.get(offer).map(|own| (own.offer.target(), own.offer.dies_at));
                self.check(own.is_some(), || format!("offer {offer} was withdrawn and is not stored"));
                let Some((target, dies_at)) = own else { return };
                let sold = self.sold.contains_key(&target);
                self.check(!sold, || format!("offer {offer} was withdrawn after it was sold"));
                self.withdrawn.insert(target);
                self.fact(node, nodes, Fact::Withdrawn(*offer, dies_at));
            }
            (Wish::Bid { key, seen }, Ok(Done::Bid { bid, again })) => {
                self.once(node, key.as_ref(), *again, &format!("bid {}", bid.0));
                let signed = state.bids_out.get(bid).map(|own| own.bid.terms);
                let as_seen = seen.as_ref().zip(signed).is_none_or(|(seen, signed)| **seen == signed);
                self.check(as_seen, || format!("bid {} is for other terms than its owner saw", bid.0));
                self.fact(node, nodes, Fact::BidOut(*bid));
            }
            (Wish::TakeOver, Ok(Done::TradesTaken { contradicting, .. })) => {
                self.check(*contradicting == 0, || "the other side's trades contradict the own ones".into());
            }
            (Wish::GiveUp(bid), Ok(Done::GivenUp(given_up))) => {
                self.check(bid == given_up, || format!("bid {} was given up for {}", given_up.0, bid.0));
                self.fact(node, nodes, Fact::GivenUp(*bid));
            }
            (Wish::GiveUp(_), Err(CommandError::GiveUpTooEarly { bid, from })) => {
                // The time that is named is the time from which it is possible.
                let told = state.bids_out.get(bid).map(|own| own.bid.valid_until);
                self.check(told.is_some_and(|until| *from >= until), || {
                    format!("bid {} may be given up from {from} on, before its deadline", bid.0)
                });
            }
            (Wish::Recover, Ok(Done::Recovered(_))) | (_, Err(_)) => {}
            (wish, reply) => self.check(false, || format!("{wish:?} was answered with {reply:?}")),
        }
        if let Err(CommandError::IdempotencyKeyReuse) = reply {
            self.check(false, || "a repeated request was called another one".into());
        }
    }

    /// One idempotency key makes one thing.
    fn once(&mut self, node: usize, key: Option<&String>, again: bool, made: &str) {
        let Some(key) = key else { return };
        let before = self.made.entry((node, key.clone())).or_insert_with(|| made.to_owned());
        let same = *before == made;
        self.check(same, || format!("key {key} made two things, {made} the second (again: {again})"));
    }

    /// Everything that was ever acknowledged is still stored.
    pub(super) fn audit(&mut self, node: usize, nodes: &[Node], now: u64) {
        let latest = self.latest.get(&node).copied().unwrap_or_default();
        let (state, clock) = (&nodes[node].store.state, nodes[node].clock(now).max(latest));
        let lost = self.facts.iter().find(|(of, fact)| *of == node && !fact.holds(state, clock));
        let lost = lost.map(|(_, fact)| format!("node {node} lost {fact:?}"));
        self.check(lost.is_none(), || lost.unwrap_or_default());
    }

    /// All is calm: nobody waits, nothing is in doubt, both sides of every trade agree.
    pub(super) fn settled(&mut self, nodes: &[Node], now: u64) {
        if let Some((to, command)) = self.commands.first_key_value() {
            let rule = format!("{command:?} ({to}) never got a reply");
            self.check(false, || rule);
        }
        for (n, node) in nodes.iter().enumerate() {
            if !self.honest.contains_key(&node.id) {
                continue;
            }
            self.audit(n, nodes, now);
            let state = &node.store.state;
            for bid in state.bids_out.values() {
                // Makers are back: whatever was given up is known, too.
                let known = !matches!(bid.outcome, BidOutcome::InDoubt | BidOutcome::GivenUp { .. });
                self.check(known, || format!("bid {} is in doubt for ever", bid.bid.id.0));
                if let BidOutcome::Accepted(trade) = bid.outcome {
                    let held = state.trades.contains_key(&trade);
                    self.check(held, || format!("bid {} was accepted, no trade is held", bid.bid.id.0));
                }
            }
            for receipt in state.trades.values().filter(|t| t.trade().maker == node.id) {
                self.taker_agrees(nodes, receipt);
            }
            consistent(state).unwrap_or_else(|rule| self.check(false, || format!("node {n}: {rule}")));
        }
        self.both_sides_hold_the_same(nodes);
    }

    /// Also when one of them lost its store, and got back what the other held.
    fn both_sides_hold_the_same(&mut self, nodes: &[Node]) {
        for node in nodes {
            if !self.honest.contains_key(&node.id) {
                continue;
            }
            for receipt in node.store.state.trades.values() {
                let trade = receipt.trade();
                let other = if trade.maker == node.id { trade.taker } else { trade.maker };
                let Some(other) = self.honest.get(&other).copied() else { continue };
                let state = &nodes[other].store.state;
                let same = state.trades.get(&trade.id) == Some(receipt);
                self.check(same, || {
                    format!("trade {} is held by one side, and node {other} has lost it", trade.id)
                });
                let closed = state.own.get(&trade.offer_id).filter(|_| trade.maker == nodes[other].id);
                let sold = closed.is_none_or(|own| own.closed == Some(Closed::Sold(trade.id)));
                self.check(sold, || {
                    format!("offer {} was sold, and its maker does not say so", trade.offer_id)
                });
            }
        }
    }

    fn taker_agrees(&mut self, nodes: &[Node], receipt: &TradeReceipt) {
        let (trade, bid) = (receipt.trade(), receipt.bid());
        if self.is_lossy(&trade.maker) || self.is_lossy(&trade.taker) {
            return;
        }
        let taker = &nodes[self.honest[&trade.taker]].store.state;
        let same = taker.trades.get(&trade.id).is_some_and(|theirs| **theirs == *receipt);
        let outcome = taker.bids_out.get(&bid.id).map(|bid| bid.outcome.clone());
        self.check(same && outcome == Some(BidOutcome::Accepted(trade.id)), || {
            format!("trade {} is the maker's, its taker says {outcome:?}", trade.id)
        });
    }
}

fn in_doubt_of(state: &State) -> BTreeMap<ClientId, usize> {
    let mut of = BTreeMap::new();
    for bid in state.bids_out.values().filter(|bid| bid.outcome == BidOutcome::InDoubt) {
        *of.entry(bid.bid.maker).or_default() += 1;
    }
    of
}

/// Counters and lists that are kept by the way say what the maps say.
pub(super) fn consistent(state: &State) -> Result<(), String> {
    let in_doubt = state.bids_out.values().filter(|b| b.outcome == BidOutcome::InDoubt).count();
    let (all, whole) = (|_| true, Span::default());
    let listed = state.lists.bids_out(all, None, whole, None).collect::<BTreeSet<_>>().into_iter();
    let given_up =
        state.bids_out.values().filter(|b| matches!(b.outcome, BidOutcome::GivenUp { .. })).count();
    let refused = state.bids_in.values().filter(|b| b.answer.is_err()).count();
    let rules = [
        ("bids_in_doubt", in_doubt == state.bids_in_doubt),
        (
            "bids_in_doubt_of",
            in_doubt_of(state) == state.bids_in_doubt_of.iter().map(|(m, n)| (*m, *n)).collect(),
        ),
        ("bids_in_refused", refused == state.bids_in_refused),
        ("bids_given_up", given_up == state.bids_given_up),
        ("lists of own bids", listed.eq(state.bids_out.keys().copied())),
        ("list of received bids", state.lists.bids_in(all, whole, None).count() == state.bids_in.len()),
        (
            "list of trades",
            state
                .lists
                .trades(TradesWanted::default(), None)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .eq(state.trades.keys().copied()),
        ),
        (
            "list by price",
            state.market.by_price.len() == state.market.available.len() + state.market.available_stale.len(),
        ),
        (
            "proofs_against",
            state.market.proofs_against.values().sum::<usize>() == state.market.equivocated.len(),
        ),
        ("by_id", state.market.by_id.len() == state.market.records.len()),
        ("bids_by_offer", state.bids_by_offer.len() == state.bids_in.len() + state.bids_out.len()),
        ("trades_of", state.trades_of.len() == 2 * state.trades.len()),
        ("sold", state.sold.values().all(|trade| state.trades.contains_key(trade))),
        (
            "available",
            state.market.available.iter().all(|((_, target), offer)| {
                offer.availability
                    && state.market.records.get(target) == Some(offer)
                    && !state.sold.contains_key(target)
                    && !state.market.is_distrusted(offer)
                    && !state.market.unlisted.contains_key(target)
            }),
        ),
    ];
    match rules.iter().find(|(_, holds)| !holds) {
        Some((what, _)) => Err(format!("{what} does not say what the state says")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        node::EPOCH,
        people::{Twist, network, new_offer, stranger_bid},
    };
    use super::*;
    use std::sync::Arc;
    use uuid::Uuid;
    use vintner::{
        exchange::{BidIn, BidOut, OwnOffer, Refusal},
        identity::KeyPair,
        market::IdMint,
    };

    const CLOCK: UnixMillis = UnixMillis(EPOCH);

    /// A maker, a taker, an offer of the maker, a bid of the taker and the trade that they make.
    struct Scene {
        ledger: Ledger,
        nodes: Vec<Node>,
        offer: Arc<Offer>,
        bid: Signed<Bid>,
        trade: Arc<TradeReceipt>,
    }

    fn client(nodes: &[Node], n: usize) -> KeyPair {
        nodes[n].key.clone()
    }

    fn scene() -> Scene {
        let nodes = vec![Node::new(1, 0), Node::new(2, 0)];
        let mut ledger = Ledger::default();
        for (n, node) in nodes.iter().enumerate() {
            ledger.meet(node.id, n);
        }
        let id = IdMint::default().next(&network(), &nodes[0].id, CLOCK);
        let hour = Duration::from_hours(1);
        let new = new_offer(Side::Sell, 100, CLOCK, hour, hour);
        let offer = Arc::new(Offer::create(&nodes[0].master, &network(), id, new, CLOCK).unwrap());
        let bid = stranger_bid(&client(&nodes, 1), &offer, Twist::Fair, 1, CLOCK);
        let trade = trade(&nodes, &bid, 1);
        let mut scene = Scene { ledger, nodes, offer, bid, trade };
        let own = OwnOffer { offer: Arc::clone(&scene.offer), closed: None, published: None };
        scene.stores(0, &[Event::Own(own)]);
        assert_eq!(scene.ledger.broken, None);
        scene
    }

    fn trade(nodes: &[Node], bid: &Signed<Bid>, id: u128) -> Arc<TradeReceipt> {
        Arc::new(TradeReceipt::accept(&client(nodes, 0), TradeId(Uuid::from_u128(id)), bid.clone(), CLOCK))
    }

    impl Scene {
        fn stores(&mut self, node: usize, events: &[Event]) {
            self.nodes[node].store.commit(events.to_vec());
            self.ledger.committed(node, &self.nodes, events, CLOCK);
        }

        fn bid_out(&self, outcome: BidOutcome) -> Event {
            Event::BidOut(Arc::new(BidOut { bid: self.bid.clone(), outcome }))
        }

        fn breaks(mut self, act: impl FnOnce(&mut Self)) -> String {
            act(&mut self);
            self.ledger.broken.expect("the ledger sees it")
        }
    }

    fn no() -> Refusal {
        Refusal { code: RefusalCode::OfferNotAvailable, detail: String::new() }
    }

    #[test]
    fn a_good_trade_breaks_no_rule() {
        let mut scene = scene();
        let (sold, bought) = (Event::Traded(Arc::clone(&scene.trade)), scene.bid_out(BidOutcome::InDoubt));
        let answer = Event::BidIn(Arc::new(BidIn {
            bid: scene.bid.clone(),
            answer: Ok(scene.trade.trade().id),
            at: CLOCK,
        }));
        scene.stores(1, &[bought]);
        let offer = Arc::new(scene.offer.close(&scene.nodes[0].master, CLOCK).unwrap());
        let closed = Some(Closed::Sold(scene.trade.trade().id));
        scene.stores(0, &[sold.clone(), answer, Event::Own(OwnOffer { offer, closed, published: None })]);
        let accepted = scene.bid_out(BidOutcome::Accepted(scene.trade.trade().id));
        scene.stores(1, &[sold, accepted]);
        scene.ledger.settled(&scene.nodes, 0);
        assert_eq!(scene.ledger.broken, None);
    }

    #[test]
    fn a_second_trade_a_cheap_one_a_late_one_and_one_after_a_withdrawal_are_seen() {
        let twice = scene().breaks(|s| {
            let second = trade(&s.nodes, &s.bid, 2);
            s.stores(0, &[Event::Traded(Arc::clone(&s.trade)), Event::Traded(second)]);
        });
        assert!(twice.contains("sold twice"), "{twice}");
        for (twist, rule) in [
            (Twist::TooCheap, "worse price"),
            (Twist::TooLate, "too late"),
            (Twist::OtherTerms, "other terms"),
        ] {
            let broken = scene().breaks(|s| {
                let bid = stranger_bid(&client(&s.nodes, 1), &s.offer, twist, 1, CLOCK);
                let sold = trade(&s.nodes, &bid, 1);
                s.stores(0, &[Event::Traded(sold)]);
            });
            assert!(broken.contains(rule), "{broken}");
        }
        let withdrawn = scene().breaks(|s| {
            s.ledger.withdrawn.insert(s.offer.target());
            s.stores(0, &[Event::Traded(Arc::clone(&s.trade))]);
        });
        assert!(withdrawn.contains("after it was withdrawn"), "{withdrawn}");
    }

    #[test]
    fn sides_that_disagree_are_seen() {
        let alone = scene().breaks(|s| {
            let events = [s.bid_out(BidOutcome::InDoubt), Event::Traded(Arc::clone(&s.trade))];
            s.stores(1, &events);
        });
        assert!(alone.contains("its maker does not"), "{alone}");
        let refused = scene().breaks(|s| {
            s.stores(0, &[Event::Traded(Arc::clone(&s.trade))]);
            let refused = s.bid_out(BidOutcome::Refused(no()));
            s.stores(1, &[refused]);
        });
        assert!(refused.contains("its maker sold"), "{refused}");
        let in_doubt = scene().breaks(|s| {
            let bid = s.bid_out(BidOutcome::InDoubt);
            s.stores(1, &[bid]);
            s.ledger.settled(&s.nodes, 0);
        });
        assert!(in_doubt.contains("in doubt"), "{in_doubt}");
        let unaware = scene().breaks(|s| {
            s.stores(0, &[Event::Traded(Arc::clone(&s.trade))]);
            s.ledger.settled(&s.nodes, 0);
        });
        assert!(unaware.contains("its taker says None"), "{unaware}");
        let forgot = scene().breaks(|s| {
            let (sold, bought) = (Event::Traded(Arc::clone(&s.trade)), s.bid_out(BidOutcome::InDoubt));
            s.stores(1, &[bought]);
            s.stores(0, std::slice::from_ref(&sold));
            s.stores(1, &[sold, s.bid_out(BidOutcome::Accepted(s.trade.trade().id))]);
            s.ledger.store_lost(0);
            s.nodes[0].store.cut(1);
            s.ledger.settled(&s.nodes, 0);
        });
        assert!(forgot.contains("is held by one side"), "{forgot}");
    }

    #[test]
    fn answers_that_are_not_stored_or_change_are_seen() {
        let unstored = scene().breaks(|s| s.ledger.answered(0, &s.nodes, &s.bid, &BidAnswer::Refused(no())));
        assert!(unstored.contains("has not stored"), "{unstored}");
        let changed = scene().breaks(|s| {
            for detail in ["a", "b"] {
                let refusal = Refusal { code: RefusalCode::OfferNotFound, detail: detail.into() };
                s.ledger.answered(0, &s.nodes, &s.bid, &BidAnswer::Refused(refusal));
            }
        });
        assert!(changed.contains("another answer"), "{changed}");
        let early = scene().breaks(|s| s.ledger.asks(1, &s.nodes, &s.bid));
        assert!(early.contains("before it was stored"), "{early}");
    }

    #[test]
    fn lost_acknowledgements_and_missing_or_double_replies_are_seen() {
        let create = |s: &mut Scene| {
            s.ledger.asked_for(ReplyTo(1), 0, 0, Wish::Create { key: None });
        };
        let done = |s: &Scene| Ok(Done::Created { offer: s.offer.id, again: false });
        let lost = scene().breaks(|s| {
            create(s);
            s.ledger.replied(0, &s.nodes, ReplyTo(1), &done(s));
            assert_eq!(s.ledger.broken, None);
            s.nodes[0].store.cut(0);
            s.ledger.audit(0, &s.nodes, 0);
        });
        assert!(lost.contains("lost Own"), "{lost}");
        let unseen = scene().breaks(|s| {
            s.stores(1, &[s.bid_out(BidOutcome::InDoubt)]);
            let seen = Terms { side: Side::Buy, ..s.offer.terms };
            let wish = Wish::Bid { key: None, seen: Some(Box::new(seen)) };
            s.ledger.asked_for(ReplyTo(1), 1, 0, wish);
            let made = Ok(Done::Bid { bid: s.bid.id, again: false });
            s.ledger.replied(1, &s.nodes, ReplyTo(1), &made);
        });
        assert!(unseen.contains("other terms than its owner saw"), "{unseen}");
        let silent = scene().breaks(|s| {
            create(s);
            s.ledger.settled(&s.nodes, 0);
        });
        assert!(silent.contains("never got a reply"), "{silent}");
        let twice = scene().breaks(|s| {
            create(s);
            for _ in 0..2 {
                s.ledger.replied(0, &s.nodes, ReplyTo(1), &done(s));
            }
        });
        assert!(twice.contains("twice or to nobody"), "{twice}");
    }

    #[test]
    fn a_state_that_contradicts_itself_is_seen() {
        let mut state = scene().nodes.remove(0).store.state;
        assert_eq!(consistent(&state), Ok(()));
        state.bids_in_doubt += 1;
        assert!(consistent(&state).is_err());
    }
}
