//! The last judgement: three head intervals after the world healed, does everybody hold the same?

use super::{trade::stamp, world::World};
use std::collections::BTreeMap;
use vintner::{
    bep44::Target,
    identity::ClientId,
    node::replica_facts,
    replication::core::{Core, Stamp, Version},
    standing::{DhtFacts, Facts, Level, OtherFacts, StoreFacts, conditions},
    time::UnixMillis,
};

impl World {
    fn honest(&self) -> std::ops::Range<usize> {
        self.plan.evil..self.nodes.len()
    }

    /// Whether clocks may differ on whether this moment is over.
    fn is_disputed(&self, at: UnixMillis) -> bool {
        let is_over = |n| self.clock(n) >= at;
        self.honest().any(is_over) && !self.honest().all(is_over)
    }

    /// What a node holds that is not dead, by target; of what was signed twice, that it was.
    fn replica(&self, n: usize) -> BTreeMap<Target, Stamp> {
        let (Some(core), clock) = (self.nodes[n].core.as_ref(), self.clock(n)) else {
            return BTreeMap::new();
        };
        let market = &core.state().market;
        let live = market.records.iter().filter(|(target, offer)| {
            market.is_contradicted(target) || !offer.is_dead(clock) && !self.is_disputed(offer.dies_at)
        });
        let fraud = |target: &Target| Stamp { target: *target, version: Version::FRAUD };
        let twice = |target: &Target| market.is_contradicted(target);
        live.map(|(target, offer)| (*target, if twice(target) { fraud(target) } else { stamp(offer) }))
            .collect()
    }

    /// What is wrong with the network, if anything.
    pub(crate) fn disagreement(&mut self) -> Option<String> {
        let first = self.plan.evil;
        let expected = self.replica(first);
        for n in self.honest() {
            let held = self.replica(n);
            let differs = |target: &&Target| held.get(*target) != expected.get(*target);
            if let Some(target) = held.keys().chain(expected.keys()).find(differs) {
                return Some(format!(
                    "of {target} node {n} holds {:?}, node {first} {:?}; they hold {} and {} records",
                    held.get(target).map(|stamp| stamp.version),
                    expected.get(target).map(|stamp| stamp.version),
                    held.len(),
                    expected.len()
                ));
            }
        }
        for n in self.honest() {
            let wrong = self.own_records_are_held(n, &expected).or_else(|| self.stands_well(n));
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    /// What a maker has is what everybody holds; what it sold or withdrew nobody lists.
    fn own_records_are_held(&self, maker: usize, held: &BTreeMap<Target, Stamp>) -> Option<String> {
        let clock = self.clock(maker);
        let state = self.nodes[maker].core.as_ref()?.state();
        for own in state.own.values() {
            let (offer, target) = (&own.offer, own.offer.target());
            if offer.is_dead(clock) || self.is_disputed(offer.dies_at) {
                continue;
            }
            if held.get(&target) != Some(&stamp(offer)) {
                return Some(format!("{target} of node {maker} is not held as its maker holds it"));
            }
            let until = offer.available_until();
            if until.is_some_and(|until| self.is_disputed(until)) {
                continue;
            }
            let open = own.closed.is_none() && offer.is_available(clock);
            for n in self.honest() {
                let market = &self.nodes[n].core.as_ref()?.state().market;
                let listed = market.available.contains_key(&(offer.id, target));
                if listed != open {
                    return Some(format!(
                        "{target} of node {maker}: open is {open}, listed by node {n} is {listed}"
                    ));
                }
            }
        }
        None
    }

    /// A node has neighbours, takes nobody for gone who is there, knows that it holds all, and tells its owner so.
    fn stands_well(&mut self, n: usize) -> Option<String> {
        let state = self.nodes[n].core.as_ref()?.state();
        let (market, store_behind) = (state.market.clone(), state.is_behind());
        let evil: Vec<_> = (0..self.plan.evil).map(|n| self.nodes[n].id).collect();
        let gone = self.honest().find(|m| market.stale.contains(&self.nodes[*m].id));
        let clock = self.clock(n);
        let others =
            OtherFacts { heard_at: (self.nodes.len() > 1).then_some(clock), ..OtherFacts::default() };
        let core = self.peers[n].core.as_mut()?;
        let trouble = trouble(core, &evil, store_behind, others, clock);
        let behind = core.behind().find(|head| !evil.contains(&head.maker)).cloned();
        let is_in_index = |target: &Target, held: Stamp, core: &mut Core| {
            let version = if market.is_contradicted(target) { Version::FRAUD } else { held.version };
            core.index().newest(target) == Some(version)
        };
        let mut live = market.records.iter().filter(|(_, offer)| !offer.is_dead(clock));
        let unknown = live.find(|(target, offer)| !is_in_index(target, stamp(offer), core));
        let unknown = unknown.map(|(target, _)| *target);
        if let Some(m) = gone {
            Some(format!("node {n} takes node {m} for stale, which lives"))
        } else if let Some(head) = behind {
            let held = core.index().summary(&head.maker, head.at);
            Some(format!(
                "node {n} does not know that it holds all that node {:?} has: its head {} of {} names {} records, held were {}, {}",
                self.by_id.get(&head.maker),
                head.counter,
                head.at,
                head.records,
                held.records,
                if held.root == head.root { "the same" } else { "others" },
            ))
        } else if let Some(target) = unknown {
            Some(format!("node {n} holds {target}, and its index says something else"))
        } else {
            trouble.map(|told| format!("node {n} tells its owner: {told}"))
        }
    }
}

/// What the node tells its owner that hinders it, by the function by which a running node does.
fn trouble(
    core: &Core,
    evil: &[ClientId],
    store_behind: bool,
    others: OtherFacts,
    clock: UnixMillis,
) -> Option<String> {
    let mut replica = replica_facts(&core.status(), true, true);
    if core.behind().any(|head| evil.contains(&head.maker)) {
        // Who signs for what nobody can give keeps the others from holding all, and their owners are told so.
        (replica.caught_up, replica.behind) = (true, 0);
    }
    let facts = Facts {
        store: StoreFacts { behind: store_behind, ..StoreFacts::default() },
        dht: DhtFacts { nodes: 1, ..DhtFacts::default() },
        replica,
        others,
        ..Facts::default()
    };
    let grave = conditions(&facts, clock).into_iter().filter(|(code, _)| code.level() < Level::Warn);
    let told: Vec<String> = grave.map(|(code, detail)| format!("{code}, {detail}")).collect();
    (!told.is_empty()).then(|| told.join("; "))
}
