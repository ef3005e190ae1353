//! Whole nodes on public addresses, some behind an address translation, some with IPv6 too.

use super::secure_id::{belongs, for_address};
use crate::dht::core::{
    Contact, Core, CoreConfig, DhtEvent, Family, Input, NodeId, Now, OpId, Outcome, Output, Request,
    krpc::{self, Ask, Message, write_query_of},
};
use rand::{SeedableRng, rngs::StdRng};
use sha1::{Digest, Sha1};
use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

/// One-way delay of everything.
const DELAY: Duration = Duration::from_millis(5);

struct Host {
    core: Core,
    addrs: Vec<SocketAddr>,
    bootstrap: Vec<SocketAddr>,
    /// Behind a translation: only those whom it sent something get through.
    hears: Option<BTreeSet<SocketAddr>>,
    outcomes: Vec<Outcome>,
    events: Vec<DhtEvent>,
}

struct World {
    now: Now,
    hosts: Vec<Host>,
    flights: VecDeque<(Now, SocketAddr, SocketAddr, Vec<u8>)>,
    read_only_queries: usize,
}

fn v4(n: u8) -> SocketAddr {
    // Each in a network of its own.
    SocketAddr::from(([80, n, 1, 1], 6881))
}
fn v6(n: u8) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, u16::from(n), 0, 0, 0, 0, 1], 6881))
}

impl World {
    fn new() -> Self {
        Self { now: Now::ZERO, hosts: Vec::new(), flights: VecDeque::new(), read_only_queries: 0 }
    }

    fn add(&mut self, n: u8, dual: bool, mainline: bool, bootstrap: &[SocketAddr]) -> usize {
        let (SocketAddr::V4(local_addr), SocketAddr::V6(local6)) = (v4(n), v6(n)) else { unreachable!() };
        // What it is bound to says nothing about what it is outside.
        let unspecified = SocketAddrV4::new([0, 0, 0, 0].into(), local_addr.port());
        let config = CoreConfig {
            node_id: None,
            local_addr: unspecified,
            local_addr6: dual.then(|| SocketAddrV6::new([0; 16].into(), local6.port(), 0, 0)),
            mainline,
            host: None,
            limit_private: false,
            has_bootstrap: !bootstrap.is_empty(),
            known_nodes: Vec::new(),
            items_max: 100,
            peers_max: 100,
            peer_max_age: Duration::from_mins(2),
            node_liveness: Duration::from_mins(5),
        };
        let mut addrs = vec![v4(n)];
        addrs.extend(dual.then(|| v6(n)));
        self.hosts.push(Host {
            core: Core::new(config, [n; 32], self.now),
            addrs,
            bootstrap: bootstrap.to_vec(),
            hears: None,
            outcomes: Vec::new(),
            events: Vec::new(),
        });
        self.input(self.hosts.len() - 1, Input::Timeout);
        self.hosts.len() - 1
    }

    fn input(&mut self, at: usize, input: Input<'_>) {
        let (now, host) = (self.now, &mut self.hosts[at]);
        host.core.handle(now, input);
        while let Some(output) = host.core.next_output() {
            match output {
                Output::Event(event) => host.events.push(event),
                Output::Done(_, outcome) => host.outcomes.push(outcome),
                Output::Resolve => host.core.handle(now, Input::Bootstrap(host.bootstrap.clone())),
                Output::Verify { .. } => unreachable!("nobody puts signed items here"),
            }
        }
        for (to, bytes) in host.core.datagrams() {
            if let Some(Message::Query { read_only: true, .. }) = krpc::decode(bytes) {
                self.read_only_queries += 1;
            }
            if let Some(hears) = &mut host.hears {
                hears.insert(to);
            }
            if let Some(from) = host.addrs.iter().find(|from| from.is_ipv4() == to.is_ipv4()) {
                self.flights.push_back((now.plus(DELAY), to, *from, bytes.to_vec()));
            }
        }
        host.core.clear_datagrams();
    }

    fn run(&mut self, time: Duration) {
        let until = self.now.plus(time);
        loop {
            let timer =
                (0..self.hosts.len()).filter_map(|at| Some((self.hosts[at].core.next_timeout()?, at))).min();
            let flight = self.flights.front().map(|(at, ..)| *at);
            match (flight, timer) {
                (Some(arrives), timer) if arrives <= until && timer.is_none_or(|(at, _)| arrives <= at) => {
                    let Some((at, to, from, bytes)) = self.flights.pop_front() else { return };
                    self.now = self.now.max(at);
                    let hears = |host: &Host| host.hears.as_ref().is_none_or(|hears| hears.contains(&from));
                    if let Some(host) =
                        self.hosts.iter().position(|host| host.addrs.contains(&to) && hears(host))
                    {
                        self.input(host, Input::Datagram { from, bytes: &bytes });
                    }
                }
                (_, Some((at, host))) if at <= until => {
                    self.now = self.now.max(at);
                    self.input(host, Input::Timeout);
                }
                _ => return self.now = until,
            }
        }
    }

    fn ask(&mut self, at: usize, request: Request) -> Outcome {
        self.hosts[at].outcomes.clear();
        self.input(at, Input::Start { op: OpId(1), request });
        self.run(Duration::from_secs(5));
        self.hosts[at].outcomes.pop().unwrap()
    }

    fn announce(&mut self, at: usize, name: &[u8]) -> usize {
        match self.ask(at, Request::Announce { name: name.into(), port: 1337 }) {
            Outcome::Announced(Ok(nodes)) => nodes,
            other => panic!("{other:?}"),
        }
    }

    fn lookup(&mut self, at: usize, name: &[u8]) -> BTreeSet<SocketAddr> {
        match self.ask(at, Request::Lookup { name: name.into() }) {
            Outcome::Peers(Ok(peers)) => peers.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Lets somebody be known to be where it says it is, so that it gets whole answers.
    fn prove(&mut self, at: usize, who: SocketAddr) {
        let now = self.now;
        self.hosts[at].core.proofs.prove(who.ip(), now);
    }

    /// Sends a datagram that nobody has to have sent; what comes back to that address.
    fn send(&mut self, at: usize, from: SocketAddr, ask: &[u8]) -> Vec<Vec<u8>> {
        let before = self.flights.len();
        self.input(at, Input::Datagram { from, bytes: ask });
        let new = self.flights.drain(before..).filter(|(_, to, ..)| *to == from);
        new.map(|(.., bytes)| bytes).collect()
    }
}

fn query(id: NodeId, read_only: bool, ask: &Ask<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_query_of(&mut out, *b"abcd", &id, read_only, ask);
    out
}

fn with_port(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), 1337)
}

#[test]
fn both_families_are_one_network_to_a_node_that_is_in_both() {
    let mut world = World::new();
    let first = world.add(1, true, false, &[]);
    // One joins over IPv6 alone, and is told of IPv4 nodes because it wants both.
    let dual: Vec<usize> = (2..8).map(|n| world.add(n, true, false, &[v6(1)])).collect();
    let old = world.add(9, false, false, &[v4(1)]);
    world.run(Duration::from_secs(10));
    for &at in [first].iter().chain(&dual) {
        let status = world.hosts[at].core.status();
        assert_eq!((status.nodes_good, status.nodes6_good), (13, 6), "{at}");
    }
    assert_eq!(world.hosts[old].core.status().nodes_good, 7);
    assert_eq!(world.announce(dual[0], b"a service"), 13, "on each node once a family");
    assert_eq!(world.lookup(dual[3], b"a service"), [with_port(v4(2)), with_port(v6(2))].into());
    assert_eq!(world.lookup(old, b"a service"), [with_port(v4(2))].into(), "it has no use for the other");
    assert_eq!(world.announce(old, b"an old one"), 7);
    assert_eq!(world.lookup(dual[5], b"an old one"), [with_port(v4(9))].into());
}

#[test]
fn want_decides_which_nodes_are_told() {
    let mut world = World::new();
    let first = world.add(1, true, false, &[]);
    (2..5).for_each(|n| _ = world.add(n, true, false, &[v4(1), v6(1)]));
    world.run(Duration::from_secs(10));
    let find = |both| query(NodeId([1; 20]), true, &Ask::FindNode { target: &[0; 20], both });
    for (from, both, want) in
        [(v4(99), false, (3, 0)), (v6(99), false, (0, 3)), (v4(99), true, (3, 3)), (v6(99), true, (3, 3))]
    {
        world.prove(first, from);
        let answer = world.send(first, from, &find(both)).pop().unwrap();
        let Some(Message::Reply { reply, .. }) = krpc::decode(&answer) else { panic!("no reply") };
        let of = |family| reply.contacts().filter(|node| Family::of(&node.addr) == family).count();
        assert_eq!((of(Family::V4), of(Family::V6)), want, "{from} {both}");
    }
}

/// BEP42.
#[test]
fn a_node_learns_its_address_from_others_and_takes_an_id_that_belongs_to_it() {
    let mut world = World::new();
    let first = world.add(1, true, true, &[]);
    let rest: Vec<usize> = (2..12).map(|n| world.add(n, true, true, &[v4(1), v6(1)])).collect();
    world.run(Duration::from_mins(3));
    for &at in [first].iter().chain(&rest) {
        let host = &world.hosts[at];
        for addr in &host.addrs {
            assert!(belongs(&host.core.own_at(addr), addr.ip()), "{addr}");
            let event = DhtEvent::Address { ip: addr.ip(), node_id: host.core.own_at(addr) };
            assert!(host.events.contains(&event), "{addr}: {:?}", host.events);
        }
        assert_eq!(host.core.status().external_ip, Some(host.addrs[0].ip()));
        assert_eq!(host.core.status().nodes_good, 20, "everybody knows everybody under the new ids");
    }
    assert_eq!(world.announce(rest[0], b"a service"), 20);
    assert_eq!(world.lookup(rest[5], b"a service"), [with_port(v4(2)), with_port(v6(2))].into());
}

/// BEP43.
#[test]
fn a_node_that_strangers_do_not_reach_says_so_and_leaves_the_tables() {
    let mut world = World::new();
    world.add(1, false, true, &[]);
    (2..6).for_each(|n| _ = world.add(n, false, true, &[v4(1)]));
    let hidden = world.add(9, false, true, &[v4(1)]);
    world.hosts[hidden].hears = Some(BTreeSet::new());
    world.run(Duration::from_mins(14));
    assert_eq!((world.read_only_queries, world.hosts[hidden].core.status().read_only), (0, false));
    world.run(Duration::from_mins(2));
    assert!(world.hosts[hidden].core.status().read_only);
    assert!(!world.hosts[0].core.status().read_only, "the others are reached");
    assert_eq!(world.lookup(hidden, b"nothing"), BTreeSet::new());
    assert!(world.read_only_queries > 0);
    // Those whom it asked might still ask it. It does not answer: a node of no table.
    let ping = query(NodeId([3; 20]), false, &Ask::Ping);
    assert!(world.send(hidden, v4(1), &ping).is_empty());
    // Whoever was never sent anything and gets through shows that it can be reached after all.
    assert!(!world.send(hidden, v4(77), &ping).is_empty());
    assert!(!world.hosts[hidden].core.status().read_only);
}

#[test]
fn names_are_twenty_bytes_on_the_public_network() {
    let mut world = World::new();
    let first = world.add(1, false, true, &[]);
    let rest: Vec<usize> = (2..6).map(|n| world.add(n, false, true, &[v4(1)])).collect();
    world.run(Duration::from_mins(1));
    world.announce(rest[0], b"rest:util:net");
    assert_eq!(world.lookup(rest[1], b"rest:util:net"), [with_port(v4(2))].into());
    let hashed = Sha1::digest(b"rest:util:net");
    assert_eq!(world.lookup(first, &hashed), [with_port(v4(2))].into(), "the SHA-1 is the name on the wire");
    let heard = |event: &DhtEvent| matches!(event, DhtEvent::Announce { name, .. } if name[..] == hashed[..]);
    assert!(world.hosts[first].events.iter().any(heard));
    for ask in [Ask::GetPeers { name: b"short" }, Ask::FindNode { target: &[1; 21], both: false }] {
        let answer = world.send(first, v4(99), &query(NodeId([9; 20]), true, &ask)).pop().unwrap();
        assert!(matches!(krpc::decode(&answer), Some(Message::Error { code: 203, .. })));
    }
}

/// BEP51.
#[test]
fn names_are_sampled() {
    let mut world = World::new();
    let first = world.add(1, false, false, &[]);
    let name = |n: u8| -> Arc<[u8]> { [n; 20][..].into() };
    for n in 0..50 {
        world.hosts[first].core.peer_announced(Now::ZERO, &name(n), v4(2));
    }
    world.hosts[first].core.peer_announced(Now::ZERO, b"no hash", v4(2));
    let ask = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa6:target20:aaaaaaaaaaaaaaaaaaaae1:q17:sample_infohashes2:roi1e1:t4:abcd1:y1:qe";
    let mut seen = BTreeSet::new();
    for minute in 0..20u64 {
        world.now = Now::from_start(Duration::from_mins(minute));
        world.prove(first, v4(99));
        let answer = world.send(first, v4(99), ask).pop().unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("8:intervali60e") && text.contains("3:numi50e7:samples400:"), "{text}");
        let at = answer.windows(4).position(|part| part == b"400:").unwrap() + 4;
        let names: Vec<&[u8]> = answer[at..at + 400].chunks(20).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 20, "no name twice");
        seen.extend(names.into_iter().map(<[u8]>::to_vec));
        let again = world.send(first, v4(99), ask).pop().unwrap();
        assert_eq!(again, answer, "the same ones for the interval");
        // Names expire after two minutes.
        for n in 0..50 {
            world.hosts[first].core.peer_announced(world.now, &name(n), v4(2));
        }
    }
    assert_eq!(seen.len(), 50, "in time all are seen");
}

#[test]
fn in_a_full_bucket_an_id_that_belongs_to_its_address_replaces_one_that_does_not() {
    let mut world = World::new();
    let first = world.add(1, false, true, &[]);
    let mut rng = StdRng::seed_from_u64(1);
    let own = world.hosts[first].core.node_id();
    let far = |id: NodeId| {
        NodeId({
            let mut id = id.0;
            id[0] = id[0] & 0x7f | !own.0[0] & 0x80;
            id
        })
    };
    let table = world.hosts[first].core.tables.get_mut(Family::V4).unwrap();
    for n in 0..20 {
        let contact = Contact { id: far(NodeId([n; 20])), addr: v4(n + 10) };
        table.answered(contact, Now::ZERO);
    }
    assert_eq!(table.len(), 20);
    // Find one whose id belongs to it and is of the far half.
    let good = (0..1000).map(|_| for_address(v4(200).ip(), &mut rng)).find(|id| far(*id) == *id).unwrap();
    table.answered(Contact { id: good, addr: v4(200) }, Now::ZERO);
    assert_eq!(table.len(), 20);
    let mut known = Vec::new();
    table.closest(&good.0, 1, &mut known);
    assert_eq!(known[0].id, good);
    // One that does not belong waits as ever.
    table.answered(Contact { id: far(NodeId([0x55; 20])), addr: v4(201) }, Now::ZERO);
    table.closest(&good.0, 20, &mut known);
    assert!(known.iter().all(|node| node.addr != v4(201)));
}

#[test]
fn private_addresses_that_the_public_network_names_are_not_asked() {
    let mut world = World::new();
    let first = world.add(1, false, true, &[]);
    let (public, private) = (v4(2), SocketAddr::from(([192, 168, 1, 1], 1)));
    let core = &world.hosts[first].core;
    assert!(!core.is_fit_node(private, public) && core.is_fit_node(public, public));
    assert!(core.is_fit_node(private, private), "on a network of its own they are what there is");
    let ip: IpAddr = private.ip();
    assert!(super::is_private(ip));
}
