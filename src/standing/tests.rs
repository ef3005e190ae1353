//! The account by itself.

use super::*;
use crate::{reach::Reachability, time::Now};
use std::{fs, time::Duration};

const WALL: UnixMillis = UnixMillis(1_795_262_400_000);

/// Of a node that has four neighbours and lacks nothing.
fn well() -> Facts {
    Facts {
        dht: DhtFacts { nodes: 3, bootstrap: vec!["grape:20001".into()], ..DhtFacts::default() },
        replica: ReplicaFacts {
            looked: true,
            looked_in_dht: true,
            neighbours: 4,
            neighbours_wanted: 4,
            caught_up: true,
            makers: 4,
            ..ReplicaFacts::default()
        },
        ..Facts::default()
    }
}

fn codes(facts: &Facts) -> Vec<Code> {
    conditions(facts, WALL).into_iter().map(|(code, _)| code).collect()
}

/// The codes that a change of the facts of a well node brings.
fn with(change: impl FnOnce(&mut Facts)) -> Vec<Code> {
    let mut facts = well();
    change(&mut facts);
    codes(&facts)
}

#[test]
fn a_node_that_is_well_has_nothing_to_tell() {
    assert_eq!(codes(&well()), []);
}

#[test]
fn nodes_at_private_addresses_and_nobody_who_gets_through_are_told_and_the_unknown_is_not() {
    let found: Vec<std::net::SocketAddr> =
        ["10.9.0.2:1337", "10.9.0.3:1337"].map(|address| address.parse().unwrap()).to_vec();
    let private = |neighbours, this_machine_only| {
        let mut facts = well();
        facts.replica.neighbours = neighbours;
        facts.reach.not_connected_to.clone_from(&found);
        facts.reach.this_machine_only = this_machine_only;
        let told = conditions(&facts, WALL).into_iter().find(|(code, _)| *code == Code::PrivateAddresses);
        told.map_or_else(String::new, |(_, said)| said)
    };
    assert_eq!(private(4, false), "", "its neighbours bring what they offer");
    let said = private(0, false);
    assert!(
        said.starts_with("2 nodes were found at private addresses") && said.ends_with("10.9.0.2:1337"),
        "{said}"
    );
    assert!(private(0, true).contains("listens on loopback only"));
    let alone = with(|facts| {
        (facts.replica.neighbours, facts.replica.neighbours_wanted) = (0, 0);
        facts.reach.not_connected_to.clone_from(&found);
        facts.others.alone_since = Some(WALL);
    });
    assert_eq!(alone, [], "the owner has said that none of them is of this network");
    let reach = |reachability: Reachability| with(|facts| facts.reach.reachability = reachability);
    assert_eq!((reach(Reachability::Unknown), reach(Reachability::Reached)), (vec![], vec![]));
    assert_eq!(reach(Reachability::Nowhere), [Code::Unreachable]);
    assert_eq!(reach(Reachability::Unreached { tried: found }), [Code::Unreachable]);
    assert_eq!((Code::Unreachable.level(), Code::PrivateAddresses.level()), (Level::Warn, Level::Sync));
    let mut facts = well();
    (facts.dht.nodes, facts.dht.unresolved) = (0, vec!["h:1 (not known)".into()]);
    assert!(conditions(&facts, WALL)[0].1.ends_with("cannot be resolved: h:1 (not known)"));
}

#[test]
fn a_network_of_one_is_synced_when_nobody_else_was_heard_of_for_thirty_days_or_its_owner_says_so() {
    let alone = |change: fn(&mut Facts)| {
        with(|facts| {
            facts.replica = ReplicaFacts { looked: true, looked_in_dht: true, ..ReplicaFacts::default() };
            change(facts);
        })
    };
    assert_eq!(alone(|_| {}), [], "a brand-new node that found nobody");
    let looking = alone(|facts| (facts.replica.looked, facts.replica.looked_in_dht) = (false, false));
    assert_eq!(looking, [Code::NotYetSynced]);
    let in_vain = alone(|facts| (facts.replica.looked_in_dht, facts.dht.nodes) = (false, 0));
    assert_eq!(in_vain, [Code::NoDhtNode, Code::NotYetSynced], "nobody could be asked");
    let first = alone(|facts| {
        (facts.replica.looked_in_dht, facts.dht) = (false, DhtFacts::default());
    });
    assert_eq!(first, [Code::NoDhtNode], "the first of its network has nobody to ask");
    let heard = alone(|facts| facts.others.heard_at = Some(WALL.minus(Duration::from_hours(24))));
    assert_eq!(heard, [Code::NoneReachable]);
    let heard = alone(|facts| facts.others.heard_at = Some(WALL.minus(HEARD_FOR)));
    assert_eq!(heard, [], "nobody was heard of for so long");
    let said = alone(|facts| {
        facts.others.alone_since = Some(WALL.minus(Duration::from_hours(1)));
        facts.others.unreachable = 2;
    });
    assert_eq!(said, [], "its owner has said that the others are gone");
    let named = alone(|facts| {
        facts.others.unreachable = 2;
        facts.others.example = Some("203.0.113.7:1337 refuses the connection".into());
    });
    assert_eq!(named, [Code::NoneReachable], "addresses under the network's name at which nobody answers");
}

#[test]
fn what_a_head_names_may_take_a_moment_and_no_longer() {
    let behind = |seconds, caught_up| {
        with(|facts| {
            facts.replica.behind = 2;
            facts.replica.behind_for = Duration::from_secs(seconds);
            facts.replica.caught_up = caught_up;
        })
    };
    assert_eq!(behind(3, true), [], "news on its way is no news");
    assert_eq!(behind(10, true), [Code::Behind]);
    assert_eq!(
        behind(3, false),
        [Code::NotYetSynced],
        "a node that has just come has to have all of it first"
    );
}

#[test]
fn clocks_are_compared_by_most_prefixes() {
    let vote = |ip: &str, port, ahead_ms| ClockVote { ip: ip.parse().unwrap(), port, ahead_ms };
    let off = |votes: Vec<ClockVote>| with(|facts| facts.clocks = votes);
    assert_eq!(off(vec![vote("51.0.1.1", 1337, 7_200_000)]), [Code::ClockBehind]);
    assert_eq!(off(vec![vote("51.0.1.1", 1337, -7_200_000)]), [Code::ClockAhead]);
    assert_eq!(off(vec![vote("51.0.1.1", 1337, 4_999)]), []);
    let one_liar = (1..50).map(|n| vote("52.0.1.1", n, 7_200_000)).chain([vote("51.0.1.1", 1, 3)]).collect();
    assert_eq!(off(one_liar), [], "many nodes in one place are one voice, and one against one is none");
    let most = [("51.0.1.1", 9_000), ("52.0.1.1", 8_000), ("53.0.1.1", 0)];
    assert_eq!(off(most.iter().map(|(ip, ahead)| vote(ip, 1, *ahead)).collect()), [Code::ClockBehind]);
    let here = [(1, -9_000), (2, -8_000), (3, 0)];
    assert_eq!(
        off(here.iter().map(|(port, ahead)| vote("127.0.0.1", *port, *ahead)).collect()),
        [Code::ClockAhead],
        "on loopback each port is a place"
    );
    let at_home = [("10.9.0.1", 1, 9_000), ("10.9.0.1", 2, 9_000), ("10.9.0.2", 1, 0), ("10.9.0.3", 1, 0)];
    let at_home = at_home.iter().map(|(ip, port, ahead)| vote(ip, *port, *ahead)).collect::<Vec<_>>();
    assert_eq!(compare(&at_home), Some(Clock { ahead_ms: 0, voices: 3 }), "in private ranges a host is one");
}

#[test]
fn each_fact_is_its_reason_and_no_other() {
    use Code as C;
    let minute = Duration::from_mins(1);
    assert_eq!(with(|f| f.store.behind = true), [C::StoreBehind]);
    assert_eq!(with(|f| f.store.cannot_write = Some("the disk is full".into())), [C::CannotWrite]);
    assert_eq!(with(|f| f.store.key = Some("master.key is missing".into())), [C::KeyFile]);
    assert_eq!(with(|f| f.dht.nodes = 0), [C::NoDhtNode]);
    assert_eq!(with(|f| f.replica.heads.future = 2), [], "two of four");
    assert_eq!(with(|f| f.replica.heads.future = 3), [C::HeadsRefused]);
    assert_eq!(with(|f| f.replica.heads.past = 3), [C::HeadsRefused]);
    let other = || vec![OtherNetwork { name: "devnet".into(), records: 3 }];
    assert_eq!(with(|f| f.other_networks = other()), [], "whoever has neighbours is where it belongs");
    let lost =
        with(|f| (f.other_networks, f.replica.neighbours, f.replica.neighbours_wanted) = (other(), 0, 0));
    assert_eq!(lost, [C::OtherNetwork]);
    assert_eq!(with(|f| (f.replica.stale, f.replica.stale_lately) = (3, 3)), [C::MakersSilent]);
    assert_eq!(with(|f| (f.replica.stale, f.replica.stale_lately) = (2, 2)), [], "as many are there");
    assert_eq!(with(|f| f.replica.stale = 3), [], "those who went long ago");
    assert_eq!(with(|f| f.replica.neighbours = 3), [], "enough");
    assert_eq!(with(|f| f.replica.neighbours = 2), [C::FewNeighbours]);
    assert_eq!(
        with(|f| (f.replica.neighbours, f.replica.neighbours_wanted) = (2, 2)),
        [],
        "all that there are"
    );
    assert_eq!(with(|f| (f.outbox.unpublished, f.outbox.unpublished_for) = (1, minute)), [C::OutboxStuck]);
    assert_eq!(with(|f| (f.outbox.in_doubt, f.outbox.in_doubt_for) = (1, minute)), []);
    assert_eq!(with(|f| (f.outbox.in_doubt, f.outbox.in_doubt_for) = (1, 10 * minute)), [C::OutboxStuck]);
}

/// What the log tells: what began, what ended after how many seconds. And what there is since which second.
type Told = (Vec<&'static str>, Vec<(&'static str, u64)>, Vec<(&'static str, u64)>);

/// An account whose `look` takes seconds since the start.
fn looks() -> impl FnMut(u64, &Facts) -> Told {
    let mut account = Account::default();
    move |s, facts| {
        let (now, wall) = (Now::from_start(Duration::from_secs(s)), WALL.plus(Duration::from_secs(s)));
        let Changes { begun, ended } = account.look(now, wall, facts);
        (
            begun.iter().map(|reason| reason.code.as_str()).collect(),
            ended.iter().map(|(reason, lasted)| (reason.code.as_str(), lasted.as_secs())).collect(),
            account.reasons().iter().map(|r| (r.code.as_str(), r.since.since(WALL).as_secs())).collect(),
        )
    }
}

#[test]
fn a_reason_begins_once_and_ends_once_and_what_flickers_is_none() {
    let mut look = looks();
    let (well, mut dht, mut few) = (well(), well(), well());
    dht.dht.nodes = 0;
    few.replica.neighbours = 1;
    assert_eq!(look(0, &well), (vec![], vec![], vec![]));
    assert_eq!(look(100, &dht), (vec![], vec![], vec![]), "a moment without an answer is none");
    assert_eq!(look(101, &well), (vec![], vec![], vec![]));
    for s in 110..170 {
        assert_eq!(look(s, &few), (vec![], vec![], vec![]), "{s}");
    }
    assert_eq!(look(170, &few), (vec!["few_neighbours"], vec![], vec![("few_neighbours", 110)]));
    assert_eq!(look(171, &well), (vec![], vec![], vec![("few_neighbours", 110)]), "it may come back at once");
    assert_eq!(look(172, &few), (vec![], vec![], vec![("few_neighbours", 110)]), "told once");
    assert_eq!(look(173, &well).1, []);
    assert_eq!(look(177, &well), (vec![], vec![("few_neighbours", 67)], vec![]));
}

#[test]
fn at_the_start_everything_is_shown_at_once_and_logged_only_if_it_lasts() {
    let (well, mut dht, mut behind) = (well(), well(), well());
    dht.dht.nodes = 0;
    behind.store.behind = true;
    let mut look = looks();
    let shown = (vec![], vec![], vec![("no_dht_node", 0)]);
    assert_eq!(look(0, &dht), shown, "whoever asks hears it at once");
    assert_eq!(look(2, &dht), shown);
    assert_eq!(look(3, &well), (vec![], vec![], vec![]), "what was not logged ends without a word");
    assert_eq!(look(9, &behind), (vec![], vec![], vec![("store_behind", 9)]), "still at the start");
    assert_eq!(look(12, &behind), (vec!["store_behind"], vec![], vec![("store_behind", 9)]));
    assert_eq!(look(13, &well), (vec![], vec![("store_behind", 4)], vec![]));
    let at_once = (vec!["store_behind"], vec![], vec![("store_behind", 14)]);
    assert_eq!(look(14, &behind), at_once, "later nothing is waited for");

    let mut look = looks();
    assert_eq!(look(0, &dht).0, [""; 0]);
    assert_eq!(look(3, &dht), (vec!["no_dht_node"], vec![], vec![("no_dht_node", 0)]), "it lasts");
    assert_eq!(look(4, &dht), (vec![], vec![], vec![("no_dht_node", 0)]), "told once");
    assert_eq!(look(5, &well), (vec![], vec![("no_dht_node", 5)], vec![]));
}

#[test]
fn a_neighbour_that_is_lost_again_ends_nothing_and_one_that_has_told_all_does_at_once() {
    let mut account = Account::default();
    let mut look = |s: u64, neighbours, caught_up, alone: bool| {
        let mut facts = well();
        let replica = &mut facts.replica;
        (replica.neighbours, replica.neighbours_wanted, replica.caught_up) =
            (neighbours, neighbours, caught_up);
        facts.others.heard_at = (!alone).then_some(WALL);
        let Changes { begun, ended } = account.look(Now::from_start(Duration::from_secs(s)), WALL, &facts);
        let of = |code| code == Code::NoneReachable;
        (begun.iter().any(|reason| of(reason.code)), ended.iter().any(|(reason, _)| of(reason.code)))
    };
    look(0, 4, true, false);
    assert_eq!(look(99, 0, false, false), (true, false));
    for s in 100..130 {
        assert_eq!(look(s, usize::from(s % 5 == 0), false, false), (false, false), "{s}");
    }
    assert_eq!(look(130, 1, true, false), (false, true), "it has told all");
    assert_eq!(look(131, 0, false, false), (true, false));
    assert_eq!(look(132, 0, false, true), (false, true), "nobody is expected any more");
}

#[test]
fn a_sentence_is_about_what_hinders() {
    let reason = |code: Code, detail: &str| Reason { code, since: WALL, detail: detail.into() };
    let reasons =
        [reason(Code::NoDhtNode, "none"), reason(Code::Behind, "2 makers"), reason(Code::ClockAhead, "x")];
    assert_eq!(sentence(&reasons, Level::Fail), format!("none; {}", Code::NoDhtNode.advice()));
    let both = format!("none; {}. 2 makers; {}", Code::NoDhtNode.advice(), Code::Behind.advice());
    assert_eq!(sentence(&reasons, Level::Sync), both);
    assert!(
        !is_well(&reasons[1..], Level::Sync)
            && is_well(&reasons[1..], Level::Fail)
            && is_well(&[], Level::Warn)
    );
}

/// The table of `docs/operating.md`, as it should be.
fn table() -> String {
    let row =
        |code: &Code| format!("| `{code}` | `{}` | {} | {} |\n", code.level(), code.meaning(), code.advice());
    let rows: String = Code::ALL.iter().map(row).collect();
    format!("| code | level | what it means | what to do |\n|---|---|---|---|\n{rows}")
}

#[test]
fn the_table_in_the_documentation_is_that_of_the_code() {
    const MARKS: [&str; 2] =
        ["<!-- made from src/standing/code.rs -->\n", "<!-- end of what is made from it -->\n"];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
    let text = fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(MARKS[0]).unwrap();
    let (found, after) = rest.split_once(MARKS[1]).unwrap();
    if std::env::var_os("VINTNER_WRITE_TABLES").is_some() {
        fs::write(path, [before, MARKS[0], &table(), MARKS[1], after].concat()).unwrap();
    } else {
        assert_eq!(found, table(), "run this test with VINTNER_WRITE_TABLES=1 to make the table anew");
    }
}

#[test]
fn the_table_reads_as_one() {
    let mut seen = std::collections::BTreeSet::new();
    assert!(Code::ALL.is_sorted_by_key(|code| code.level()), "the gravest first");
    for code in Code::ALL {
        assert!(seen.insert(code.as_str()) && Code::named(code.as_str()) == Some(*code), "{code}");
        assert_eq!(Level::named(code.level().as_str()), Some(code.level()));
        assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{code}");
        for text in [code.meaning(), code.advice()] {
            assert!(text.starts_with(|c: char| c.is_lowercase() || c == '`'), "{code}: {text}");
            assert!(!text.ends_with('.') && !text.contains("  ") && !text.contains('|'), "{code}: {text}");
        }
    }
}
