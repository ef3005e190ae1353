//! Nodes that say whether they are synced, by the very function by which a running node says it.

use crate::{CALM, HOUR, network, world::World};
use std::time::Duration;
use vintner::{
    node::replica_facts,
    standing::{DhtFacts, Facts, Level, OtherFacts, conditions},
};

/// Why this node says that its list may lack something; `None` when it says that it is complete.
pub fn lacks(world: &World, n: usize) -> Option<String> {
    let (core, wall) = (world.nodes[n].core.as_ref()?, world.wall(n));
    let facts = Facts {
        replica: replica_facts(&core.status(), true, true),
        dht: DhtFacts { nodes: 1, ..DhtFacts::default() },
        others: OtherFacts { heard_at: Some(wall), ..OtherFacts::default() },
        ..Facts::default()
    };
    let lacking = conditions(&facts, wall).into_iter().filter(|(code, _)| code.level() == Level::Sync);
    let told: Vec<String> = lacking.map(|(code, detail)| format!("{code}, {detail}")).collect();
    (!told.is_empty()).then(|| format!("node {n}: {}", told.join("; ")))
}

fn all_lack(world: &World) -> Vec<String> {
    world.up().into_iter().filter_map(|n| lacks(world, n)).collect()
}

#[test]
fn a_restart_leaves_everybody_synced_within_two_seconds() {
    for (seed, count, records) in [(1, 3, 1), (2, 3, 40), (3, 12, 3)] {
        let mut world = network(seed, count, CALM);
        for n in (0..count).cycle().take(count * records) {
            world.make(n, None, HOUR);
        }
        world.run(Duration::from_secs(90));
        assert_eq!(all_lack(&world), [""; 0], "before");
        for n in 0..count.min(3) {
            world.stop(n);
            world.run(Duration::from_millis(300));
            world.start(n);
            let made_again = world.make((n + 1) % count, None, HOUR);
            assert_ne!(made_again, [0; 32]);
            assert!(lacks(&world, n).is_some(), "it has not asked anybody yet");
            world.run(Duration::from_secs(2));
            let in_vain = |world: &World| -> u64 {
                world.nodes.iter().filter_map(|node| Some(node.core.as_ref()?.counters().jobs_in_vain)).sum()
            };
            // Whatever was not right at the start is noticed within a head's interval.
            for second in 2..65 {
                assert_eq!(all_lack(&world), [""; 0], "{second} s after node {n} of {count} was restarted");
                let behind: Vec<usize> = world
                    .up()
                    .into_iter()
                    .filter(|n| {
                        let core = world.nodes[*n].core.as_ref().unwrap();
                        core.status().behind_for > Duration::from_secs(3)
                    })
                    .collect();
                assert_eq!(behind, [0; 0], "behind {second} s after node {n} of {count} was restarted");
                world.run(Duration::from_secs(1));
            }
            assert_eq!(in_vain(&world), 0);
        }
    }
}

#[test]
fn a_node_that_loses_all_others_is_not_synced_until_it_has_asked_one_of_them() {
    let mut world = network(4, 4, CALM);
    (0..4).for_each(|n| _ = world.make(n, None, HOUR));
    world.run(Duration::from_secs(90));
    world.nodes[0].side = 1;
    world.run(Duration::from_secs(30));
    assert!(lacks(&world, 0).is_some_and(|why| why.contains("none_reachable")), "{:?}", lacks(&world, 0));
    world.make(1, None, HOUR);
    world.nodes[0].side = 0;
    // From the first moment at which it says so, it is so.
    for _ in 0..6_000 {
        if lacks(&world, 0).is_none() {
            break;
        }
        world.run(Duration::from_millis(10));
    }
    assert_eq!(lacks(&world, 0), None, "a minute later");
    assert_eq!(world.difference(), None);
}

#[test]
fn a_clock_that_is_hours_off_is_told_by_the_heads_that_do_not_fit() {
    for (ahead_ms, word) in [(2 * 3_600_000, "so old"), (-2 * 3_600_000, "too far in the future")] {
        let mut world = network(5, 3, CALM);
        (0..3).for_each(|n| _ = world.make(n, None, HOUR));
        world.stop(0);
        world.nodes[0].ahead_ms = ahead_ms;
        world.start(0);
        world.run(Duration::from_secs(70));
        let why = lacks(&world, 0).unwrap_or_default();
        assert!(why.contains("heads_refused") && why.contains(word), "{ahead_ms}: {why}");
        // The others' clocks agree with each other: one that is off is no reason for them.
        assert_eq!([lacks(&world, 1), lacks(&world, 2)], [None, None]);
        world.stop(0);
        world.nodes[0].ahead_ms = 0;
        world.start(0);
        world.run(Duration::from_secs(70));
        assert_eq!(lacks(&world, 0), None, "its clock is right again");
    }
}
