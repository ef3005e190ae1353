//! One DHT core that gets whatever a script makes up: datagrams that are noise, queries, answers to what it asked (true, odd or
//! from somebody else), commands, verdicts, and time. After each step what must always hold is checked; at the end nobody answers
//! any more, and everything that was begun has to come to an end.

use super::script::Script;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::{Arc, LazyLock},
    time::Duration,
};
use vintner::{
    bep44::{MutableItem, Target, VerifiedItem, bencode_bytes},
    dht::core::{
        Contact, Core, CoreConfig, DhtEvent, GetMode, Input, Item, KEPT_MAX, NodeId, Now, OPERATIONS_MAX,
        OpId, Output, Put, Request, Verdict, VerifyId,
        krpc::{self, Answer, Ask, Message, Query, SignedArgs},
    },
    identity::KeyPair,
};

/// Every datagram of ours stays within this.
const DATAGRAM_BYTES_MAX: usize = 1400;
/// Steps of one script; a longer one finds nothing more.
const STEPS_MAX: usize = 400;
/// Hosts that the script plays.
const HOSTS: usize = 24;
/// Timeouts that may follow each other without time passing.
const IDLE_TURNS_MAX: usize = 3;
/// After this long without any answer nothing can be under way: a lookup's and a store's rounds of two seconds each.
const END: Duration = Duration::from_mins(3);

const ITEMS_MAX: usize = 40;
const PEERS_MAX: usize = 60;

/// Signed items, made once: four keys, three versions, one with a salt.
static SIGNED: LazyLock<Vec<VerifiedItem>> = LazyLock::new(|| {
    let versions = (1..=4u8).flat_map(|key| (1..=3i64).map(move |seq| (key, seq)));
    let item = |(key, seq): (u8, i64)| {
        let salt = if key == 4 { &b"salt"[..] } else { b"" };
        let v = bencode_bytes(format!("version {seq} of {key}").as_bytes());
        VerifiedItem::sign(&KeyPair::from_seed(&[key; 32]), salt, seq, v).unwrap()
    };
    versions.map(item).collect()
});

const NAMES: [&[u8]; 6] = [b"rest:util:net", b"", b"NEW_OFFER:1", b"NEW_OFFER:2", &[200; 20], &[7; 900]];

/// A query of the core's that waits for an answer.
struct Asked {
    to: SocketAddr,
    t: Vec<u8>,
}

struct Run<'a> {
    core: Core,
    now: Now,
    script: Script<'a>,
    asked: Vec<Asked>,
    verifying: Vec<(VerifyId, MutableItem)>,
    ops: u64,
    under_way: BTreeSet<OpId>,
    resolving: bool,
    /// Queries that reached the core and were not answered yet, by sender.
    owed: HashMap<SocketAddr, i64>,
    /// Every query of the core, by the host that it asked and its number.
    ever_asked: BTreeSet<(IpAddr, Vec<u8>)>,
    /// Who ever answered a query: nobody else may be handed out.
    answered: BTreeSet<SocketAddr>,
    tokens: BTreeMap<SocketAddr, Vec<u8>>,
    /// Bytes that came in queries, and went out in replies, of hosts that have not shown that they are there.
    unproven: HashMap<IpAddr, (usize, usize)>,
    proven: BTreeSet<IpAddr>,
    /// Whether these hosts count as public ones.
    public: bool,
}

fn host(n: usize) -> SocketAddr {
    // Several ports of one address, several addresses; the last are of IPv6.
    let port = 2000 + (n % 3) as u16;
    match n {
        0..18 => (Ipv4Addr::new(10, 0, 0, (n / 3) as u8), port).into(),
        // To the core a /64 is one host.
        _ => (Ipv6Addr::new(0xfd00, 0, 0, (n / 3) as u16, 0, 0, 0, 1), port).into(),
    }
}

fn host_id(n: usize) -> NodeId {
    let mut id = [0; 20];
    (id[0], id[19]) = ((n * 11) as u8, n as u8);
    NodeId(id)
}

/// See the module's page.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let bootstrap = script.byte();
    let config = CoreConfig {
        node_id: Some(NodeId([0x55; 20])),
        local_addr: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 20_001),
        local_addr6: (bootstrap & 16 != 0).then(|| SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 20_001, 0, 0)),
        mainline: bootstrap & 32 != 0,
        limit_private: bootstrap & 64 != 0,
        host: (bootstrap & 4 != 0).then(|| Ipv4Addr::new(10, 0, 1, 1).into()),
        has_bootstrap: bootstrap & 1 != 0,
        known_nodes: if bootstrap & 2 != 0 { vec![host(5)] } else { Vec::new() },
        items_max: ITEMS_MAX,
        peers_max: PEERS_MAX,
        peer_max_age: Duration::from_mins(2),
        node_liveness: Duration::from_mins(5),
    };
    let core = Core::new(config, [u8::from(bootstrap & 8 != 0); 32], Now::ZERO);
    let mut run = Run {
        core,
        now: Now::ZERO,
        script,
        asked: Vec::new(),
        verifying: Vec::new(),
        ops: 0,
        under_way: BTreeSet::new(),
        resolving: false,
        owed: HashMap::new(),
        ever_asked: BTreeSet::new(),
        answered: BTreeSet::new(),
        tokens: BTreeMap::new(),
        unproven: HashMap::new(),
        proven: BTreeSet::new(),
        public: bootstrap & 64 != 0,
    };
    for _ in 0..STEPS_MAX {
        if run.script.is_done() {
            break;
        }
        run.step();
        run.work_off();
    }
    run.end();
}

impl Run<'_> {
    fn step(&mut self) {
        match self.script.below(14) {
            0 => {
                let (from, noise) = (host(self.script.below(HOSTS)), self.script.string(400));
                self.receive(from, noise);
            }
            1 | 2 => self.query(),
            3..=5 => self.answer(),
            6 => {
                let by = Duration::from_millis(u64::from(self.script.short()));
                self.pass(by);
            }
            7 => {
                // Minutes mostly; hours, in which items grow old, cost thousands of turns.
                let by = u64::from(self.script.short());
                let by = if by > 65_000 { 9000 } else { by % 400 };
                self.pass(Duration::from_secs(by));
            }
            8 => self.timeout(),
            9 | 10 => self.command(),
            11 => self.keep(),
            12 => self.verdict(),
            _ => {
                let count = self.script.below(6);
                let addrs = (0..count).map(|_| host(self.script.below(HOSTS))).collect();
                self.resolving = false;
                self.core.handle(self.now, Input::Bootstrap(addrs));
            }
        }
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        if matches!(krpc::decode(bytes), Some(Message::Query { .. })) {
            *self.owed.entry(from).or_default() += 1;
            self.unproven.entry(from.ip()).or_default().0 += bytes.len();
        }
        self.core.handle(self.now, Input::Datagram { from, bytes });
    }

    fn query(&mut self) {
        let n = self.script.below(HOSTS);
        let (from, id) = (host(n), host_id(self.script.below(2) * 100 + n));
        let token = match self.script.below(4) {
            0 => self.script.string(30).to_vec(),
            // Whoever uses a token shows that it was received.
            _ => {
                self.proven.insert(from.ip());
                self.tokens.get(&from).cloned().unwrap_or_default()
            }
        };
        let choice = self.script.byte();
        let item = &SIGNED[usize::from(choice) % SIGNED.len()];
        let mut sig = item.sig.0;
        sig[0] ^= u8::from(choice > 240);
        let target = if choice & 1 == 0 { item.target().0 } else { self.script.array() };
        let value = bencode_bytes(self.script.string(60));
        let name = NAMES[usize::from(choice) % NAMES.len()];
        let ask = match self.script.below(8) {
            0 => Ask::Ping,
            1 => Ask::FindNode { target: name, both: choice & 2 == 0 },
            2 => Ask::GetPeers { name },
            3 => Ask::Get { target: &target },
            4 => Ask::Announce { name, port: self.script.short(), token: &token },
            5 => Ask::Put { target: &target, token: &token, v: &value, signed: None, cas: None },
            _ => {
                let signed = SignedArgs { k: item.k.0, sig, seq: item.seq, salt: &item.salt };
                let cas = choice.is_multiple_of(5).then_some(i64::from(choice % 4));
                Ask::Put { target: &target, token: &token, v: &item.v, signed: Some(signed), cas }
            }
        };
        let mut bytes = Vec::new();
        krpc::write_query(&mut bytes, self.script.array(), &id, &ask);
        self.receive(from, &bytes);
    }

    /// Answers one of the core's queries.
    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.swap_remove(self.script.below(self.asked.len()));
        let n = (0..HOSTS).find(|n| host(*n) == asked.to).unwrap_or_default();
        let how = self.script.byte();
        // Sometimes under another id, from somebody else, or with a number that nobody gave.
        let id = if how & 0x70 == 0x70 { host_id(self.script.below(HOSTS)) } else { host_id(n) };
        let from = if how & 0x0f == 0x0f { host(self.script.below(HOSTS)) } else { asked.to };
        let t = if how == 0xa5 { self.script.bytes(4).to_vec() } else { asked.t };
        // All sockets of a host are asked with one number to prove that the host is there: what comes with it answers from any.
        if self.ever_asked.contains(&(from.ip(), t.clone())) {
            self.answered.insert(from);
            self.proven.insert(from.ip());
        }
        let mut bytes = Vec::new();
        if how & 0x87 == 0x87 {
            let code = [201, 203, 204, 301, 302, 0][self.script.below(6)];
            krpc::write_error(&mut bytes, Some(&t), host(0), krpc::Problem { code, text: "no" });
            return self.receive(from, &bytes);
        }
        let named: Vec<Contact> = (0..self.script.below(12))
            .map(|_| self.script.below(HOSTS))
            .map(|n| Contact { id: host_id(n), addr: host(n) })
            .collect();
        let (named, named6): (Vec<_>, Vec<_>) = named.into_iter().partition(|node| node.addr.is_ipv4());
        let peers: Vec<_> = (0..self.script.below(5)).map(|n| host(n * 7)).collect();
        let item = &SIGNED[self.script.below(SIGNED.len())];
        let mut sig = item.sig.0;
        sig[5] ^= u8::from(how & 0xc0 == 0xc0);
        let token = [how; 4];
        let answer = Answer {
            nodes: Some(&named),
            nodes6: (!named6.is_empty()).then_some(&named6),
            token: (how & 1 == 0).then_some(&token),
            peers: (how & 2 == 0).then_some(&peers),
            v: (how & 4 == 0).then_some(&item.v),
            signed: (how & 4 == 0).then_some((&item.k.0, &sig)),
            seq: (how & 4 == 0).then_some(item.seq),
            samples: None,
            cut: how & 0x30 == 0x30,
        };
        krpc::write_reply(&mut bytes, Some(&t), &id, host(0), &answer);
        self.receive(from, &bytes);
    }

    fn command(&mut self) {
        self.ops += 1;
        let op = OpId(self.ops);
        let name: Arc<[u8]> = NAMES[self.script.below(NAMES.len())].into();
        let item = &SIGNED[self.script.below(SIGNED.len())];
        let request = match self.script.below(6) {
            0 => Request::Announce { name, port: self.script.short().max(1) },
            1 => Request::Lookup { name },
            2 => Request::Put(Put::Immutable(bencode_bytes(self.script.string(50)))),
            3 => {
                let cas = (self.script.below(3) == 0).then_some(item.seq - 1);
                Request::Put(Put::Mutable { item: item.clone(), cas })
            }
            4 => Request::Get {
                target: item.target(),
                salt: Arc::clone(&item.salt),
                mode: [GetMode::LocalFirst, GetMode::Network][self.script.below(2)],
            },
            _ => Request::Get {
                target: Target(self.script.array()),
                salt: Arc::default(),
                mode: GetMode::Network,
            },
        };
        self.under_way.insert(op);
        self.core.handle(self.now, Input::Start { op, request });
    }

    fn keep(&mut self) {
        let name: Arc<[u8]> = NAMES[self.script.below(NAMES.len())].into();
        let item = &SIGNED[self.script.below(SIGNED.len())];
        match self.script.below(4) {
            0 => self.core.keep_announced(self.now, name, 1000).unwrap(),
            1 => self.core.keep_item(self.now, Item::Mutable(item.clone())).unwrap(),
            2 => self.core.forget_announced(&name),
            _ => self.core.forget_item(&item.target()),
        }
    }

    fn verdict(&mut self) {
        if self.verifying.is_empty() {
            return;
        }
        let (id, item) = self.verifying.swap_remove(self.script.below(self.verifying.len()));
        let busy = self.script.below(8) == 0;
        self.judge(id, item, busy);
    }

    fn judge(&mut self, id: VerifyId, item: MutableItem, busy: bool) {
        // A good verdict cannot be made up: the type does not allow it.
        let verdict = if busy { Verdict::Busy } else { item.verify().map_or(Verdict::Bad, Verdict::Good) };
        self.core.handle(self.now, Input::Verified { id, verdict });
    }

    fn timeout(&mut self) {
        self.core.handle(self.now, Input::Timeout);
    }

    /// Lets time pass, as a driver does: it wakes the core whenever the core wants to be woken.
    fn pass(&mut self, by: Duration) {
        let until = self.now.plus(by);
        let mut idle = 0;
        while let Some(at) = self.core.next_timeout().filter(|at| *at <= until) {
            idle = if at <= self.now { idle + 1 } else { 0 };
            assert!(idle <= IDLE_TURNS_MAX, "it wants to be woken for ever at {:?}", self.now);
            self.now = self.now.max(at);
            self.timeout();
            self.work_off();
            // What nobody will ever look at need not be kept.
            let surplus = self.asked.len().saturating_sub(200);
            self.asked.drain(..surplus);
        }
        self.now = until;
    }

    fn work_off(&mut self) {
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Done(op, _) => assert!(self.under_way.remove(&op), "{op:?} ended twice"),
                Output::Verify { id, item } => self.verifying.push((id, item)),
                Output::Resolve => self.resolving = true,
                Output::Event(DhtEvent::Stored(item)) => {
                    assert!(item.into_inner().verify().is_ok(), "something unsigned was stored");
                }
                Output::Event(_) => {}
            }
        }
        let sent: Vec<_> = self.core.datagrams().map(|(to, bytes)| (to, bytes.to_vec())).collect();
        self.core.clear_datagrams();
        for (to, bytes) in sent {
            self.sent(to, &bytes);
        }
        self.check();
    }

    fn sent(&mut self, to: SocketAddr, bytes: &[u8]) {
        assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes to {to}", bytes.len());
        assert_ne!(to.port(), 0);
        let message = krpc::decode(bytes);
        let message = message.unwrap_or_else(|| panic!("not understood: {}", bytes.escape_ascii()));
        let t = match message {
            Message::Query { t, query, .. } => {
                assert!(query.is_ok() || matches!(query, Err(problem) if problem.code == 203), "{query:?}");
                let t = t.unwrap_or_default().to_vec();
                assert_eq!(t.len(), 4);
                if let Ok(Query::Announce { port, .. }) = query {
                    assert!(port.is_some());
                }
                self.ever_asked.insert((to.ip(), t.clone()));
                return self.asked.push(Asked { to, t });
            }
            Message::Reply { t, reply, .. } => {
                if let Some(token) = reply.token {
                    self.tokens.insert(to, token.to_vec());
                }
                for contact in reply.contacts() {
                    assert!(self.answered.contains(&contact.addr), "{contact:?} never answered");
                    assert_ne!(contact.id, self.core.node_id());
                }
                if let (Some(v), Some((k, sig, seq))) = (reply.v, reply.signed) {
                    let known = SIGNED
                        .iter()
                        .any(|item| (item.k.0, item.sig.0, item.seq, &item.v[..]) == (k, sig, seq, v));
                    assert!(known, "it hands out what nobody signed");
                }
                t
            }
            Message::Error { t, .. } => t,
        };
        assert!(t.len() <= krpc::TRANSACTION_BYTES_MAX);
        let owed = self.owed.entry(to).or_default();
        *owed -= 1;
        assert!(*owed >= 0, "an answer to nobody: {}", bytes.escape_ascii());
        if self.public && !self.proven.contains(&to.ip()) {
            let (came, went) = self.unproven.entry(to.ip()).or_default();
            *went += bytes.len();
            assert!(*went <= 2 * *came, "{went} bytes to {to}, of whom {came} came");
        }
    }

    fn check(&mut self) {
        let status = self.core.status();
        assert!(status.items <= ITEMS_MAX && status.peers <= PEERS_MAX && status.kept <= KEPT_MAX);
        assert!(status.operations <= OPERATIONS_MAX && status.queries_in_flight <= 1024);
        let (good, known, answered) = (status.nodes_good, status.nodes, self.answered.len());
        assert!(
            good <= known && known <= answered,
            "{good} good of {known} nodes, of {answered} that answered"
        );
        for item in [&SIGNED[0], &SIGNED[11]] {
            let held = self.core.local(&item.target());
            assert!(held.is_none_or(|held| held.target() == item.target()));
        }
    }

    /// From here on nobody answers, and signatures are checked at once.
    fn end(&mut self) {
        for turn in 0..4 {
            for (id, item) in std::mem::take(&mut self.verifying) {
                self.judge(id, item, turn == 3);
            }
            self.work_off();
            self.pass(END / 4);
        }
        assert!(self.under_way.is_empty(), "these never end: {:?}", self.under_way);
        assert!(self.verifying.is_empty());
    }
}
