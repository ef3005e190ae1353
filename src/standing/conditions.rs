//! From facts to what is told: no memory, no patience. [`super::Account`] has these.

use super::{
    clocks::{self, Clock},
    code::Code,
    facts::{DhtFacts, Facts, OtherFacts, ReachFacts, ReplicaFacts},
};
use crate::{reach::Reachability, time::UnixMillis};
use std::time::Duration;

/// How long another node is expected after something of it was heard: who has heard of nobody for so long is a network of one.
pub const HEARD_FOR: Duration = Duration::from_hours(30 * 24);
/// From how far on clocks differ. Machines that keep time by NTP are milliseconds apart.
pub const CLOCK_OFF: Duration = Duration::from_secs(5);
/// With so many neighbours news comes soon, whatever happens to one of them.
const NEIGHBOURS_ENOUGH: usize = 3;
/// How long what a head names may take to come: gossip has two seconds, and what it missed is fetched within a few more.
const BEHIND_FOR: Duration = Duration::from_secs(10);
/// How many makers must fall silent together to be told.
const SILENT_MIN: usize = 2;
/// How long a record may wait for the DHT.
const UNPUBLISHED_FOR: Duration = Duration::from_mins(1);
/// How long a bid may wait for its maker.
const IN_DOUBT_FOR: Duration = Duration::from_mins(10);

/// What there is to tell at this moment, in the order of [`Code::ALL`], each with what was found.
#[must_use]
pub fn conditions(facts: &Facts, wall: UnixMillis) -> Vec<(Code, String)> {
    let found = |code: &Code| Some((*code, condition(*code, facts, wall)?));
    Code::ALL.iter().filter_map(found).collect()
}

fn condition(code: Code, facts: &Facts, wall: UnixMillis) -> Option<String> {
    match code {
        Code::CannotWrite => facts.store.cannot_write.clone(),
        Code::StoreBehind => facts
            .store
            .behind
            .then(|| "the store is behind the network: the node neither offers nor bids".into()),
        Code::NoDhtNode => (facts.dht.nodes == 0).then(|| no_dht_node(&facts.dht)),
        Code::NotYetSynced => not_yet_synced(facts, wall),
        Code::Behind => behind(&facts.replica),
        Code::NoneReachable => none_reachable(facts, wall),
        Code::PrivateAddresses => private_addresses(facts),
        Code::HeadsRefused => heads_refused(facts),
        Code::KeyFile => facts.store.key.clone(),
        Code::ClockAhead => clock(facts, |ahead_ms| ahead_ms < 0, "ahead of"),
        Code::ClockBehind => clock(facts, |ahead_ms| ahead_ms > 0, "behind"),
        Code::Unreachable => unreachable(&facts.reach.reachability),
        Code::OtherNetwork => other_network(facts),
        Code::MakersSilent => makers_silent(&facts.replica),
        Code::FewNeighbours => few_neighbours(&facts.replica),
        Code::OutboxStuck => outbox_stuck(facts),
    }
}

fn no_dht_node(DhtFacts { bootstrap, unresolved, .. }: &DhtFacts) -> String {
    let answers = match &bootstrap[..] {
        [] => "no DHT node answers, and no bootstrap node is named".into(),
        named => format!("no DHT node answers, none of the bootstrap nodes {} either", named.join(", ")),
    };
    match &unresolved[..] {
        [] => answers,
        names => format!("{answers}; cannot be resolved: {}", names.join(", ")),
    }
}

/// Whether somebody else is expected: then silence says nothing.
fn expects_others(others: &OtherFacts, wall: UnixMillis) -> bool {
    let heard = others.heard_at.is_some_and(|at| wall.since(at) < HEARD_FOR);
    // What nobody signed is no word against the owner's.
    heard || others.unreachable > 0 && others.alone_since.is_none()
}

/// Whether other nodes were looked for in all places that there are: without a bootstrap node, the DHT is this node alone.
fn has_looked(facts: &Facts) -> bool {
    facts.replica.looked_in_dht || facts.replica.looked && facts.dht.bootstrap.is_empty()
}

fn not_yet_synced(facts: &Facts, wall: UnixMillis) -> Option<String> {
    let replica = &facts.replica;
    if replica.neighbours == 0 {
        let looking =
            !has_looked(facts) && (facts.others.alone_since.is_none() || expects_others(&facts.others, wall));
        return looking.then(|| "the node is looking for other nodes".into());
    }
    (!replica.caught_up).then(|| match replica.behind {
        0 => "the node asks its neighbours what they hold".into(),
        behind => format!("the node is fetching what it lacks of {}", makers(behind)),
    })
}

fn behind(replica: &ReplicaFacts) -> Option<String> {
    let late = replica.caught_up && replica.behind > 0 && replica.behind_for >= BEHIND_FOR;
    late.then(|| {
        format!(
            "the node holds less of {} than their heads say, and is fetching the rest",
            makers(replica.behind)
        )
    })
}

fn none_reachable(facts: &Facts, wall: UnixMillis) -> Option<String> {
    let (replica, others) = (&facts.replica, &facts.others);
    if replica.neighbours > 0 || !has_looked(facts) || !expects_others(others, wall) {
        return None;
    }
    let of = match replica.makers {
        0 => String::new(),
        count => format!(" of the {} that it knows", makers(count)),
    };
    let tried = match (others.unreachable, &others.example) {
        (0, _) | (_, None) => String::new(),
        (1, Some(example)) => format!("; somebody is announced under the network's name, and {example}"),
        (count, Some(example)) => {
            format!("; {count} addresses are announced under the network's name, and none answers: {example}")
        }
    };
    Some(format!(
        "no other node passes records on to this one, so that it cannot tell what it lacks{of}{tried}"
    ))
}

/// With neighbours, what those others offer comes through them; an address that a stranger named is no reason by itself, and no word
/// against the owner's that there is nobody.
fn private_addresses(facts: &Facts) -> Option<String> {
    let ReachFacts { not_connected_to, this_machine_only, .. } = &facts.reach;
    let [first, more @ ..] = &not_connected_to[..] else { return None };
    if facts.replica.neighbours > 0 || facts.others.alone_since.is_some() {
        return None;
    }
    let (were, such_as) = match more.len() {
        0 => ("1 node was".to_owned(), "at"),
        more => (format!("{} nodes were", more + 1), "such as"),
    };
    Some(if *this_machine_only {
        format!("{were} found beyond this machine, {such_as} {first}, and this one listens on loopback only")
    } else {
        format!("{were} found at private addresses and not connected to, {such_as} {first}")
    })
}

fn unreachable(reachability: &Reachability) -> Option<String> {
    match reachability {
        Reachability::Unknown | Reachability::Reached => None,
        Reachability::Nowhere => Some(
            "nobody can reach this node: its RPC listens on loopback only, and no other address is advertised".into(),
        ),
        Reachability::Unreached { tried } => {
            let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
            Some(format!(
                "nobody reaches this node: nodes of other networks dialed back to {} in vain",
                tried.join(", ")
            ))
        }
    }
}

/// One node whose clock is off is its owner's business; when most are off, it is this one.
fn heads_refused(facts: &Facts) -> Option<String> {
    let ReplicaFacts { heads, neighbours, .. } = &facts.replica;
    let off = heads.future + heads.past;
    if off == 0 || 2 * off <= *neighbours {
        return None;
    }
    let told =
        |count: usize, what: &str| (count > 0).then(|| format!("the heads of {} {what}", nodes(count)));
    let future = told(heads.future, "lie too far in the future and are refused");
    let past = told(heads.past, "are so old when they come that their makers count as silent");
    match (future, past) {
        (Some(future), Some(past)) => Some(format!("{future}; {past}")),
        (future, past) => future.or(past),
    }
}

fn clock(facts: &Facts, is_so: fn(i64) -> bool, word: &str) -> Option<String> {
    let Clock { ahead_ms, voices } = clocks::compare(&facts.clocks)?;
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    if !is_so(ahead_ms) || apart < CLOCK_OFF {
        return None;
    }
    Some(match voices {
        1 => format!(
            "this machine's clock is {} {word} the one other clock: one of the two is wrong",
            words(apart)
        ),
        voices => format!("this machine's clock is {} {word} those of most of {voices} others", words(apart)),
    })
}

fn other_network(facts: &Facts) -> Option<String> {
    if facts.replica.neighbours > 0 || facts.other_networks.is_empty() {
        return None;
    }
    let names: Vec<&str> = facts.other_networks.iter().map(|network| network.name.as_str()).collect();
    let (networks, verb) = if names.len() == 1 { ("network", "is") } else { ("networks", "are") };
    Some(format!(
        "offers of {networks} {} {verb} heard, and nobody of this node's own network",
        names.join(", ")
    ))
}

fn makers_silent(replica: &ReplicaFacts) -> Option<String> {
    let fresh = replica.makers.saturating_sub(replica.stale);
    let lately = replica.stale_lately;
    (lately >= SILENT_MIN && lately > fresh)
        .then(|| format!("{} fell silent within the last minutes, {fresh} others are heard", makers(lately)))
}

fn few_neighbours(replica: &ReplicaFacts) -> Option<String> {
    let ReplicaFacts { neighbours, neighbours_wanted, .. } = replica;
    (*neighbours > 0 && neighbours < neighbours_wanted && *neighbours < NEIGHBOURS_ENOUGH)
        .then(|| format!("{neighbours} of the {neighbours_wanted} nodes that are looked for pass records on"))
}

fn outbox_stuck(facts: &Facts) -> Option<String> {
    let outbox = &facts.outbox;
    let records = (outbox.unpublished > 0 && outbox.unpublished_for >= UNPUBLISHED_FOR).then(|| {
        format!("the DHT lacks {} own offers, one for {}", outbox.unpublished, words(outbox.unpublished_for))
    });
    let bids = (outbox.in_doubt > 0 && outbox.in_doubt_for >= IN_DOUBT_FOR)
        .then(|| format!("{} bids are in doubt, one for {}", outbox.in_doubt, words(outbox.in_doubt_for)));
    match (records, bids) {
        (Some(records), Some(bids)) => Some(format!("{records}; {bids}")),
        (records, bids) => records.or(bids),
    }
}

fn makers(count: usize) -> String {
    if count == 1 { "1 maker".into() } else { format!("{count} makers") }
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".into() } else { format!("{count} nodes") }
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
