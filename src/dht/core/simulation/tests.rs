use super::*;

fn mutable(item: &crate::bep44::VerifiedItem) -> Put {
    Put::Mutable { item: item.clone(), cas: None }
}

fn service(n: u16) -> SocketAddr {
    SocketAddr::new(addr(n).ip(), 1000 + n)
}

#[test]
fn a_hundred_nodes_find_everything_although_a_tenth_of_the_datagrams_is_lost() {
    let mut net = Net::joined(17, 100);
    net.loss_percent = 10;
    net.latency_us = 1_000..50_000;
    println!("sent {} after the join", net.sent);
    net.run(Duration::from_mins(1));
    println!("sent {} a minute later", net.sent);
    let mut found = 0;
    for n in 0..50 {
        let name = format!("service {n}");
        assert!(net.announce(n, &name) >= 5);
        let item = signed(n as u8, 1, &name);
        assert!(net.put(99 - n, mutable(&item)).unwrap().acked >= 5);
        let asker = net.rng.random_range(0..100);
        found += usize::from(net.lookup(asker, &name).0 == [service(n)]);
        let asker = net.rng.random_range(0..100);
        found += usize::from(net.get(asker, item.target()) == Some(Item::Mutable(item)));
    }
    assert_eq!(found, 100);
}

#[test]
fn a_network_that_starts_all_at_once_is_whole_within_two_seconds() {
    for seed in 0..30 {
        let size = [21, 36, 50, 70][seed as usize % 4];
        let mut net = Net::new(seed);
        net.add(0, &[]);
        for n in 1..size {
            net.add(n, &[addr(0)]);
        }
        net.run(Duration::from_secs(2));
        let item = signed(1, 1, "an offer");
        let putter = net.rng.random_range(0..size);
        net.put(putter, mutable(&item)).unwrap();
        for n in (0..size).step_by(4) {
            assert_eq!(net.get(n, item.target()), Some(Item::Mutable(item.clone())), "{n} of {size}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut net = Net::joined(seed, 12);
        net.loss_percent = 20;
        net.announce(3, "x");
        (net.sent, net.now)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// Statement 37: a dead node costs one lookup a few hundred milliseconds at most, and those after it nothing.
#[test]
fn a_dead_node_costs_milliseconds_after_its_first_time_out() {
    let mut net = Net::joined(1, 6);
    net.announce(1, "service");
    net.remove(3);
    let mut slow = 0;
    for _ in 0..300 {
        net.run(Duration::from_secs(1));
        let (peers, took) = net.lookup(0, "service");
        // The announcement itself lives for two minutes.
        assert!(net.now.since_start() > Duration::from_mins(2) || peers == [service(1)]);
        slow += usize::from(took > Duration::from_millis(20));
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
    assert!(slow <= 2, "{slow} lookups waited for the dead node");
    assert_eq!(net.core(0).status().nodes, 4);
}

/// Statement 37: not even when all nodes but a mute one were late a moment ago, as after a stall of the own machine, does a lookup
/// wait for the mute one.
#[test]
fn a_mute_node_is_not_waited_for_when_the_others_were_late() {
    let mut net = Net::joined(19, 6);
    net.announce(1, "service");
    net.remove(5);
    let until = net.now.plus(Duration::from_secs(2));
    for n in 1..5 {
        net.core(0).contacts.late(addr(n), until);
    }
    let (peers, took) = net.lookup(0, "service");
    assert_eq!(peers, [service(1)]);
    assert!(took < Duration::from_millis(600), "{took:?}");
}

/// A value that all neighbours keep silent about costs whoever put it two seconds, and nobody else anything: they go on talking.
#[test]
fn a_value_that_neighbours_ignore_does_not_stop_announcements_nor_lookups() {
    for size in [2, 3, 8, 30] {
        let mut net = Net::joined(23, size);
        net.announce(1, "held elsewhere");
        net.deaf = Some((b"11:odd and odd", (1..size).map(addr).collect()));
        for n in 0..20 {
            let v = bencode_bytes(b"odd and odd");
            let odd = net.start(0, Request::Put(Put::Immutable(v)));
            // Before it is late, while it is, when it has just failed, and in the time in which a dead node would be passed by.
            for wait in [0, 30, 70, 500, 1395, 5, 1000] {
                net.run(Duration::from_millis(wait));
                let (outcome, took) =
                    net.ask(0, Request::Announce { name: b"service"[..].into(), port: 1000 + n });
                let everybody = if size < 20 { usize::from(size) - 1 } else { 1 };
                assert!(
                    matches!(outcome, Outcome::Announced(Ok(on)) if on >= everybody),
                    "{wait} ms of round {n}, {size} nodes: {outcome:?}"
                );
                assert!(took < Duration::from_millis(200), "{took:?}");
                let (peers, took) = net.lookup(0, "held elsewhere");
                assert_eq!(peers, [service(1)], "{wait} ms of round {n}, {size} nodes");
                assert!(took < Duration::from_millis(200), "{took:?}");
            }
            let (ended, outcome) = net.done.remove(&odd).expect("it ended");
            let asked = usize::from(size).min(21) - 1;
            assert_eq!(outcome, Outcome::Put(Err(OpError::AllFailed { asked })));
            assert!(net.now.since(ended) > Duration::from_millis(900), "it was not repeated in vain");
            let status = net.core(0).status();
            assert_eq!(status.nodes, status.nodes_good, "nobody is taken for dead");
            // The announcement lives for two minutes.
            net.announce(1, "held elsewhere");
        }
    }
}

/// Twelve services that stock links announce anew 60 to 180 s after the last announcement ended, some always at the latest, and of
/// one each third announcement is lost: with the default age each is found at any moment, and gone some minutes after its end.
#[test]
fn what_stock_links_announce_is_found_at_any_moment() {
    let mut net = Net::joined(31, 4);
    for n in 0..4 {
        net.core(n).config.peer_max_age = PEER_AGE;
        net.core(n).peers = Peers::new(1000, PEER_AGE, NodeId([0; 20]), Ranges { limit_private: false });
    }
    let names: Vec<String> = (0..12).map(|n| format!("service {n}")).collect();
    let mut due = vec![(net.now, 0); names.len()];
    let (started, mut asked) = (net.now, 0);
    while net.now.since(started) < Duration::from_mins(20) {
        let now = net.now;
        for (n, (at, announced)) in due.iter_mut().enumerate().filter(|(_, (at, _))| *at <= now) {
            let is_lost = n == 11 && *announced % 3 == 1;
            if !is_lost {
                net.announce(n as u16 % 3, &names[n]);
            }
            let wait = if n < 4 || n == 11 { 180_000 } else { net.rng.random_range(60_000..=180_000) };
            (*at, *announced) = (net.now.plus(Duration::from_millis(wait)), *announced + 1);
        }
        for name in &names {
            asked += 1;
            let (found, _) = net.lookup(3, name);
            assert_eq!(found.len(), 1, "{name} after {:?}", net.now.since(started));
        }
        net.run(Duration::from_secs(2));
    }
    assert!(asked > 7000, "{asked}");
    net.run(PEER_AGE);
    assert!(names.iter().all(|name| net.lookup(3, name).0.is_empty()), "whoever stopped is forgotten");
}

/// A node that died is asked again when there is nobody else, rather than to say at once that there is nobody.
#[test]
fn those_who_failed_are_asked_when_nobody_else_is_left() {
    let mut net = Net::joined(29, 4);
    assert_eq!(net.announce(1, "service"), 3);
    // A stall of the own link: all are silent for a while, to pings too, and some fall out of the table.
    for silent in [2500, 9000] {
        net.deaf = Some((b"1:y1:q", (1..4).map(addr).collect()));
        for _ in 0..silent / 500 {
            net.start(0, Request::Lookup { name: b"other"[..].into() });
            net.run(Duration::from_millis(500));
        }
        net.deaf = None;
        let (peers, took) = net.lookup(0, "service");
        assert_eq!(peers, [service(1)], "after {silent} ms of silence");
        assert!(took < Duration::from_millis(450), "{took:?}");
        assert!(net.announce(0, "mine") > 0);
        net.run(Duration::from_secs(20));
        net.announce(1, "service");
    }
}

#[test]
fn a_store_does_not_wait_for_a_dead_node_once_another_has_accepted() {
    let mut net = Net::joined(2, 6);
    assert_eq!(net.announce(1, "service"), 5);
    net.remove(3);
    let (outcome, took) = net.ask(1, Request::Announce { name: b"service"[..].into(), port: 1 });
    assert_eq!(outcome, Outcome::Announced(Ok(4)));
    assert!(took < Duration::from_millis(200), "{took:?}");
    let (outcome, took) = net.ask(1, Request::Announce { name: b"service"[..].into(), port: 1 });
    assert_eq!(outcome, Outcome::Announced(Ok(4)));
    assert!(took < Duration::from_millis(5), "{took:?}");
}

#[test]
fn a_small_network_is_written_to_in_one_round_trip_once_tokens_are_known() {
    let mut net = Net::joined(3, 6);
    net.announce(1, "first");
    let before = net.core(1).status().queries_out;
    let (outcome, took) = net.ask(1, Request::Put(mutable(&signed(1, 1, "x"))));
    assert!(matches!(outcome, Outcome::Put(Ok(PutOutcome { asked: 5, acked: 5, .. }))), "{outcome:?}");
    assert!(took < Duration::from_micros(700), "{took:?}");
    assert_eq!(net.core(1).status().queries_out - before, 5);
}

#[test]
fn a_large_network_is_looked_up_once_for_all_names_with_one_beginning() {
    let mut net = Net::joined(4, 45);
    let name = |n: u8| format!("NEW_OFFER:{n:040}");
    net.announce(5, &name(1));
    let before = net.core(5).status().queries_out;
    assert_eq!(net.announce(5, &name(2)), K);
    assert_eq!(net.core(5).status().queries_out - before, K as u64);
    assert_eq!(net.lookup(40, &name(2)).0, [service(5)]);
}

/// Statement 34, 36: a node that was alone joins by itself within seconds, and a name that it could not announce before works at
/// once, without a lookup in between.
#[test]
fn a_node_started_before_its_bootstrap_joins_by_itself_and_again_after_all_were_gone() {
    let mut net = Net::new(5);
    net.add(1, &[addr(0)]);
    net.add(2, &[addr(0)]);
    net.run(Duration::from_mins(2));
    assert!(!net.core(1).status().bootstrapped);
    assert!(net.events.contains(&(addr(1), DhtEvent::Ready)));
    assert_eq!(
        net.ask(1, Request::Announce { name: b"x"[..].into(), port: 1 }).0,
        Outcome::Announced(Err(OpError::NoNodes))
    );
    net.add(0, &[]);
    net.run(Duration::from_secs(8));
    assert_eq!(net.announce(1, "x"), 2, "the name that failed before works at once");
    let zero = net.remove(0);
    let two = net.remove(2);
    net.run(Duration::from_mins(10));
    assert_eq!(net.core(1).status().nodes, 0);
    net.add_as(0, &[], Some(zero.node_id()));
    net.add_as(2, &[addr(0)], Some(two.node_id()));
    net.run(Duration::from_secs(8));
    assert_eq!(net.announce(1, "x"), 2);
}

#[test]
fn nodes_started_together_all_learn_of_each_other() {
    let mut net = Net::new(6);
    for n in 0..12 {
        net.add(n, &[addr(0)][usize::from(n == 0)..]);
    }
    net.run(Duration::from_secs(5));
    for n in 0..12 {
        assert_eq!(net.core(n).status().nodes_good, 11, "{n}");
    }
}

/// Statement 35: a node that restarts on its address is used at once, with the id it had and with another.
#[test]
fn a_node_restarted_with_a_new_id_is_used_at_once_and_with_its_old_one_too() {
    let mut net = Net::joined(7, 4);
    net.announce(1, "x");
    net.remove(2);
    net.add(2, &[addr(0)]);
    net.run(Duration::from_secs(2));
    // Its token secret is new: the refused token is fetched again within the same call.
    assert_eq!(net.announce(1, "x"), 3);
    assert_eq!(net.core(1).status().nodes, 3);
    let former = net.remove(2);
    net.add_as(2, &[addr(0)], Some(former.node_id()));
    net.run(Duration::from_secs(2));
    assert_eq!(net.announce(1, "x"), 3);
    assert_eq!(net.core(1).status().nodes, 3);
}

#[test]
fn a_restarted_node_joins_through_the_nodes_it_knew() {
    let mut net = Net::joined(8, 6);
    let former = net.remove(3);
    let known_nodes = former.known_nodes();
    assert_eq!(known_nodes.len(), 5);
    let config = CoreConfig { node_id: Some(former.node_id()), known_nodes, ..config(addr(3), &[]) };
    let core = Core::new(config, [3; 32], net.now);
    net.nodes.insert(addr(3), Node { core, wakes: None, bootstrap: Vec::new() });
    net.input(addr(3), Input::Timeout);
    net.run(Duration::from_secs(1));
    assert_eq!(net.core(3).status().nodes_good, 5);
}

/// Statement 30: who looks a name up does not see a peer longer than its age after its last announcement.
#[test]
fn peers_vanish_when_they_are_not_announced_again_unless_they_are_kept() {
    let mut net = Net::joined(9, 5);
    net.announce(1, "once");
    let now = net.now;
    net.core(2).keep_announced(now, b"kept"[..].into(), 1002).unwrap();
    net.work_off(addr(2));
    net.run(Duration::from_secs(119));
    assert_eq!(net.lookup(3, "once").0, [service(1)]);
    net.run(Duration::from_secs(20));
    assert_eq!(net.lookup(3, "once").0, []);
    net.run(Duration::from_mins(10));
    assert_eq!(net.lookup(3, "kept").0, [service(2)]);
    net.core(2).forget_announced(&b"kept"[..].into());
    net.run(Duration::from_secs(200));
    assert_eq!(net.lookup(3, "kept").0, []);
}

/// Statement 30: not even who looks the name up four times a second sees a peer for twice its age A after its last announcement.
#[test]
fn a_name_that_is_looked_up_all_the_time_still_vanishes() {
    for age in [3, 120].map(Duration::from_secs) {
        let mut net = Net::new(18);
        for n in 0..5 {
            net.add(n, &[addr(0)][usize::from(n == 0)..]);
            let core = net.core(n);
            core.peers = Peers::new(1000, age, core.node_id(), core.ranges);
            net.core(n).config.peer_max_age = age;
        }
        net.run(Duration::from_secs(10));
        net.announce(1, "once");
        let (announced, mut seen) = (net.now, net.now);
        while net.now.since(announced) < age * 3 {
            if net.lookup(3, "once").0 == [service(1)] {
                seen = net.now;
            }
            net.run(Duration::from_millis(250));
        }
        let seen = seen.since(announced);
        assert!(seen >= age * 2 / 3 && seen <= age * 4 / 3, "{seen:?} of {age:?}");
    }
}

#[test]
fn a_kept_item_outlives_the_two_hours_and_its_newer_version_takes_its_place() {
    let mut net = Net::joined(10, 5);
    let (old, new, other) = (signed(1, 1, "old"), signed(1, 2, "new"), signed(2, 1, "other"));
    for item in [&old, &new, &old] {
        let now = net.now;
        net.core(1).keep_item(now, Item::Mutable(item.clone())).unwrap();
        net.work_off(addr(1));
        net.run(Duration::from_secs(1));
    }
    net.put(1, mutable(&other)).unwrap();
    assert_eq!(net.core(1).status().kept, 1);
    net.run(Duration::from_hours(5));
    assert_eq!(net.core(3).local(&new.target()), Some(Item::Mutable(new.clone())));
    assert_eq!(net.core(3).local(&other.target()), None);
    // A node that came later gets it with the next renewal.
    net.add(5, &[addr(0)]);
    net.run(Duration::from_mins(70));
    assert_eq!(net.core(5).local(&new.target()), Some(Item::Mutable(new)));
}

#[test]
fn the_newest_version_wins_wherever_it_is() {
    let mut net = Net::joined(11, 5);
    let (old, new) = (signed(1, 1, "old"), signed(1, 2, "new"));
    net.put(1, mutable(&old)).unwrap();
    let now = net.now;
    net.core(4).store_item(now, Item::Mutable(new.clone()), Payer::Own);
    assert_eq!(net.get(0, old.target()), Some(Item::Mutable(new)));
    let refused = net.put(1, Put::Mutable { item: old.clone(), cas: None }).unwrap();
    assert_eq!((refused.acked, refused.refused_302), (3, 1));
}

#[test]
fn a_put_that_all_refuse_says_why() {
    let mut net = Net::joined(12, 4);
    net.put(1, mutable(&signed(1, 5, "five"))).unwrap();
    let refusal = |result: Result<PutOutcome, OpError>| match result {
        Err(OpError::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    let lower = net.put(2, mutable(&signed(1, 4, "four")));
    assert_eq!(refusal(lower), "302 sequence number less than current");
    let swap = Put::Mutable { item: signed(1, 6, "six"), cas: Some(4) };
    assert_eq!(refusal(net.put(2, swap)), "301 CAS mismatch, re-read and try again");
    assert_eq!(net.core(2).local(&signed(1, 1, "").target()), Some(Item::Mutable(signed(1, 5, "five"))));
    let swap = Put::Mutable { item: signed(1, 6, "six"), cas: Some(5) };
    assert_eq!(net.put(2, swap).unwrap().acked, 3);
    assert_eq!(net.put(3, mutable(&signed(1, 6, "six"))).unwrap().acked, 3, "an equal renewal");
}

/// Statement 32: twenty equal lookups at one time ask each node once.
#[test]
fn equal_lookups_at_one_time_are_one() {
    let mut net = Net::joined(13, 6);
    let before = net.core(0).status().queries_out;
    let name: Arc<[u8]> = b"nobody"[..].into();
    let ops: Vec<_> = (0..20).map(|_| net.start(0, Request::Lookup { name: Arc::clone(&name) })).collect();
    net.run(Duration::from_secs(1));
    assert!(ops.iter().all(|op| net.done.contains_key(op)));
    assert_eq!(net.core(0).status().queries_out - before, 5);
}

#[test]
fn more_operations_than_the_bound_are_refused() {
    let mut net = Net::joined(14, 3);
    let lookup = |n: usize| Request::Lookup { name: n.to_string().as_bytes().into() };
    let ops: Vec<_> = (0..=OPERATIONS_MAX).map(|n| net.start(0, lookup(n))).collect();
    assert_eq!(net.done[&ops[OPERATIONS_MAX]].1, Outcome::Peers(Err(OpError::Busy)));
    net.run(Duration::from_secs(20));
    let ended = ops.iter().filter(|op| matches!(net.done[op].1, Outcome::Peers(Ok(_)))).count();
    assert_eq!(ended, OPERATIONS_MAX);
}

#[test]
fn an_idle_network_sends_little() {
    let mut net = Net::joined(15, 6);
    net.run(Duration::from_mins(5));
    let before = net.sent;
    net.run(Duration::from_mins(10));
    let per_node_and_minute = (net.sent - before) / 60;
    assert!(per_node_and_minute <= 20, "{per_node_and_minute}");
}

#[test]
fn what_too_few_hold_is_put_again_where_it_can_be_found() {
    let mut net = Net::joined(31, 100);
    net.run(Duration::from_mins(2));
    let item = signed(1, 1, "an offer");
    let outcome = net.put(7, mutable(&item)).unwrap();
    assert_eq!(outcome.acked, K);
    let holders = |net: &Net| {
        net.nodes.values().filter(|node| node.core.items.mutable(&item.target()).is_some()).count()
    };
    net.run(Duration::from_secs(20));
    let status = net.core(7).status();
    assert_eq!((status.audits, status.repairs), (1, 0), "all is well");

    net.put(7, mutable(&item)).unwrap();
    // Most of those who took it lose it before anybody looks.
    let nodes: Vec<SocketAddr> = net.nodes.keys().copied().filter(|at| *at != addr(7)).collect();
    let mut lost = 0;
    for at in nodes {
        let core = &mut net.nodes.get_mut(&at).unwrap().core;
        if core.items.mutable(&item.target()).is_some() && lost < 15 {
            core.items = Items::new(1000, core.node_id());
            lost += 1;
        }
    }
    assert_eq!((lost, holders(&net)), (15, 6));
    net.run(Duration::from_secs(20));
    let status = net.core(7).status();
    assert_eq!((status.audits, status.repairs), (2, 1));
    assert!(holders(&net) >= K, "{}", holders(&net));
}

#[test]
fn a_small_network_is_not_audited() {
    let mut net = Net::joined(32, 12);
    net.put(3, Put::Immutable(bencode_bytes(b"x"))).unwrap();
    net.run(Duration::from_mins(1));
    assert_eq!(net.core(3).status().audits, 0);
}

#[test]
fn two_paths_cost_what_one_does() {
    let sent_on = |size: u16, paths: usize| {
        let mut net = Net::joined(55, size);
        net.run(Duration::from_mins(1));
        let before = net.sent;
        for n in 0..20 {
            net.core(n % size).item_paths = paths;
            net.get(n % size, signed(200, 1, &n.to_string()).target());
        }
        net.sent - before
    };
    for (size, percent_max) in [(6, 100), (12, 100), (100, 120)] {
        let (one, two) = (sent_on(size, 1), sent_on(size, 2));
        println!("{size} nodes: {one} datagrams on one path, {two} on two");
        assert!(two * 100 <= one * percent_max, "{size} nodes: {one} on one path, {two} on two");
    }
}
