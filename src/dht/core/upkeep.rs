//! What a node does by itself to stay in the network: joining and liveness. Renewal has a page of its own, `renewal`.
//!
//! **Joining** is a lookup of the own id through the bootstrap addresses. It is repeated for ever, at growing intervals: every
//! few seconds at most while the table is empty, every minute in a small network, so that nodes that started together or were
//! parted find each other, and every quarter of an hour in a large one, or as often as it takes for three in ten of the
//! neighbours to change.
//!
//! **Liveness**: who was silent for long is pinged, all of them at once; who did not answer is pinged again soon and then goes.
//! Who went is remembered for a while and asked now and then: after a partition it is a bridge to the other side.

use super::{
    Contact, Core, CoreConfig, DhtEvent, ID_BYTES, NodeId, Now, Output,
    family::{ByFamily, Family},
    lookups::{Waiter, Want},
    table::{K, Table},
};
use rand::RngExt;
use std::{net::SocketAddr, time::Duration};

/// The first join after something changed, and the first interval.
const JOIN_FIRST: Duration = Duration::from_millis(250);
/// The longest interval while nobody is known.
const JOIN_ALONE_MAX: Duration = Duration::from_secs(5);
/// The longest interval in a network of less than K nodes.
const JOIN_SMALL_MAX: Duration = Duration::from_mins(1);
/// The longest interval in a larger one (Kademlia's refresh is an hour).
const JOIN_LARGE_MAX: Duration = Duration::from_mins(15);
/// ... and the shortest there, however fast neighbours change.
const JOIN_LARGE_MIN: Duration = Duration::from_mins(2);
/// By the next join this percentage of the neighbours may be new.
const NEIGHBOURS_NEW_PERCENT: u32 = 30;
/// A node that was lost and answers again leads to a lookup of our neighbourhood through it, at most this often.
const BRIDGE_EVERY: Duration = Duration::from_mins(1);
/// Bootstrap addresses used at a time.
const BOOTSTRAP_ADDRS_MAX: usize = 64;
/// Buckets that are filled up by a lookup at each join in a large network.
const REFRESHED_AT_ONCE: usize = 3;
/// How often silent nodes are looked for; a quarter of the configured liveness when that is shorter.
const LIVENESS_EVERY: Duration = Duration::from_secs(15);

/// How this node gets into the network, and stays.
pub(super) struct Join {
    addrs: Vec<SocketAddr>,
    known: Vec<SocketAddr>,
    next_at: Now,
    interval: Duration,
    /// Names are being resolved, or the lookup is under way.
    under_way: bool,
    /// A join ended with somebody in the table.
    joined: bool,
    /// The last join met fewer than K nodes, all known before, and none has come since: the table is the whole network.
    met_all: ByFamily<bool>,
    /// The table has grown since the last join began.
    grew: ByFamily<bool>,
    told_ready: bool,
    liveness_at: Now,
    /// When the last lookup through a node that was lost began.
    bridged_at: Option<Now>,
}

impl Join {
    pub(super) fn new(now: Now, config: &CoreConfig) -> Self {
        let known = config.known_nodes.iter().copied().take(BOOTSTRAP_ADDRS_MAX).collect();
        Self {
            addrs: Vec::new(),
            known,
            next_at: now,
            interval: JOIN_FIRST,
            under_way: false,
            joined: false,
            met_all: ByFamily::new(config.local_addr6.is_some(), |_| false),
            grew: ByFamily::new(config.local_addr6.is_some(), |_| false),
            told_ready: false,
            liveness_at: now,
            bridged_at: None,
        }
    }

    /// The bootstrap addresses, as they were last resolved, and the nodes of earlier.
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

impl Core {
    /// Whether other nodes are known, or there is nobody to join.
    pub(super) fn is_joined(&self) -> bool {
        let alone = !self.config.has_bootstrap && self.config.known_nodes.is_empty();
        (self.join.joined && self.good_nodes() > 0) || (alone && self.join.told_ready)
    }

    /// Whether the first attempt to join has ended.
    pub(super) fn is_ready(&self) -> bool {
        self.join.told_ready
    }

    /// Whether the family's table holds every node that there is. A table that is merely not full yet does not: in a network that is
    /// forming, or larger than the few who were met so far, the closest nodes have to be looked for.
    pub(super) fn knows_all(&self, family: Family) -> bool {
        let met_all = self.join.met_all.get(family).is_some_and(|met_all| *met_all);
        let small = self.tables.get(family).is_some_and(|table| (1..K).contains(&table.good()));
        self.is_joined() && met_all && small
    }

    fn table_is_empty(&self) -> bool {
        self.tables.each().all(|table| table.len() == 0)
    }

    pub(super) fn next_upkeep(&self) -> Option<Now> {
        let join = (!self.join.under_way && self.may_join()).then_some(self.join.next_at);
        let liveness = (!self.table_is_empty()).then_some(self.join.liveness_at);
        let count = (!self.table_is_empty()).then(|| self.turnover.next_at());
        [join, liveness, count, self.next_renewal()].into_iter().flatten().min()
    }

    /// Whether there is anybody to join through. The very first time there is: it tells that this node is ready.
    fn may_join(&self) -> bool {
        let anybody = self.config.has_bootstrap || !self.join.known.is_empty() || !self.table_is_empty();
        anybody || !self.join.told_ready
    }

    pub(super) fn upkeep(&mut self, now: Now) {
        self.pass_reach(now);
        self.items.expire(now);
        self.peers.expire(now);
        if !self.join.under_way && self.may_join() && now >= self.join.next_at {
            self.join.under_way = true;
            self.join.grew.each_mut().for_each(|grew| *grew = false);
            if self.config.has_bootstrap {
                self.outputs.push_back(Output::Resolve);
            } else {
                self.join_through(now, Vec::new());
            }
        }
        if !self.table_is_empty() && now >= self.join.liveness_at {
            let liveness = self.config.node_liveness;
            self.join.liveness_at = now.plus(LIVENESS_EVERY.min(liveness / 4).max(JOIN_FIRST));
            let silent: Vec<Contact> =
                self.tables.each().flat_map(|table| table.to_ping(now, liveness)).collect();
            for contact in silent {
                self.check(now, contact.addr);
            }
        }
        self.count_neighbours(now);
        self.renew(now);
    }

    /// Once a minute: how fast neighbours change, what follows for renewals, and is somebody back who was lost?
    fn count_neighbours(&mut self, now: Now) {
        if self.table_is_empty() || now < self.turnover.next_at() {
            return;
        }
        let neighbours = self.tables.each().flat_map(Table::neighbours).collect();
        self.turnover.count(now, neighbours);
        self.plan_renewals(now);
        for addr in self.lost.next() {
            self.check(now, addr);
        }
    }

    /// A node answers that had fallen out of the table: perhaps it was on the other side of a partition, and knows who else was.
    pub(super) fn found_again(&mut self, now: Now, addr: SocketAddr) {
        let Some(own) = self.own.of(&addr).copied() else { return };
        if self.join.bridged_at.is_none_or(|at| now.since(at) >= BRIDGE_EVERY) {
            self.join.bridged_at = Some(now);
            self.look_up(now, Want::Nodes, own.0[..].into(), Waiter::Refresh, &[addr]);
        }
    }

    /// Joins through the bootstrap addresses, and in an empty table through the nodes of earlier.
    pub(super) fn join_through(&mut self, now: Now, mut addrs: Vec<SocketAddr>) {
        if !self.join.under_way {
            return;
        }
        addrs.truncate(BOOTSTRAP_ADDRS_MAX);
        if self.table_is_empty() {
            addrs.extend(self.join.known.iter().take(BOOTSTRAP_ADDRS_MAX - addrs.len()));
        }
        let own = [Some(self.config.local_addr.into()), self.config.local_addr6.map(SocketAddr::from)];
        addrs
            .retain(|addr| addr.port() != 0 && !own.contains(&Some(*addr)) && self.tables.of(addr).is_some());
        self.join.addrs.clone_from(&addrs);
        self.look_up(now, Want::Nodes, self.node_id().0[..].into(), Waiter::Join, &addrs);
        if let Some(own6) = self.own.get(Family::V6).filter(|own6| **own6 != self.node_id()) {
            let target = own6.0[..].into();
            self.look_up(now, Want::Nodes, target, Waiter::Refresh, &addrs);
        }
    }

    /// The lookup of the own id ended; these nodes answered it, at most K of each family.
    pub(super) fn join_ended(&mut self, now: Now, met: &[Contact]) {
        self.join.under_way = false;
        let met_of = |family| met.iter().filter(|node| Family::of(&node.addr) == family).count();
        for family in [Family::V4, Family::V6] {
            let grew = self.join.grew.get(family).is_none_or(|grew| *grew);
            if let Some(met_all) = self.join.met_all.get_mut(family) {
                *met_all = met_of(family) < K && !grew;
            }
        }
        let nodes = self.good_nodes();
        // The family with fewer nodes decides: it may just have come up.
        let interval_max = match self.tables.each().map(Table::good).min() {
            _ if nodes == 0 => JOIN_ALONE_MAX,
            Some(K..) => self.turnover.time_for(NEIGHBOURS_NEW_PERCENT, JOIN_LARGE_MIN, JOIN_LARGE_MAX),
            _ => JOIN_SMALL_MAX,
        };
        if nodes > 0 {
            self.join.joined = true;
            let mut known = self.known_nodes();
            known.truncate(BOOTSTRAP_ADDRS_MAX);
            self.join.known = known;
        }
        let jitter = self.rng.random_range(75..=125);
        self.join.next_at = now.plus(self.join.interval * jitter / 100);
        self.join.interval = (self.join.interval * 2).min(interval_max);
        // The lookup of the own id meets the own neighbourhood only.
        for family in [Family::V4, Family::V6] {
            if met_of(family) >= K {
                self.refresh(now, family);
            }
        }
        if !self.join.told_ready {
            self.join.told_ready = true;
            if nodes == 0 && self.config.has_bootstrap {
                self.warn("no bootstrap node answered; trying again until one does".into());
            }
            self.event(DhtEvent::Ready);
        }
    }

    /// The table has grown: in a small network everybody should soon know the new one, and whom it knows.
    pub(super) fn join_grew(&mut self, now: Now, family: Family) {
        if let (Some(met_all), Some(grew)) =
            (self.join.met_all.get_mut(family), self.join.grew.get_mut(family))
        {
            (*met_all, *grew) = (false, true);
        }
        if self.tables.get(family).is_some_and(|table| table.len() < K) {
            self.join.next_at = self.join.next_at.min(now.plus(JOIN_FIRST));
            self.join.interval = self.join.interval.min(JOIN_FIRST * 4);
        }
    }

    /// The table is empty again.
    pub(super) fn join_again(&mut self, now: Now) {
        self.join.interval = JOIN_FIRST;
        self.join.next_at = now.plus(JOIN_FIRST);
    }

    /// Looks for nodes in the parts of the id space where the table has room. Through the bootstrap nodes: while a network forms,
    /// those nearest to such an id that are known may all be of the own part, and know nobody else.
    fn refresh(&mut self, now: Now, family: Family) {
        let through = self.join.addrs.clone();
        for n in 0..REFRESHED_AT_ONCE {
            let thin = self.tables.get(family).and_then(|table| table.thin_bucket(n));
            let (Some(shared), Some(own)) = (thin, self.own.get(family)) else { return };
            let own = *own;
            let mut id: [u8; ID_BYTES] = self.rng.random();
            for bit in 0..=shared.min(ID_BYTES * 8 - 1) {
                let (byte, mask) = (bit / 8, 128 >> (bit % 8));
                let own = own.0[byte] & mask;
                let wanted = if bit == shared { own ^ mask } else { own };
                id[byte] = (id[byte] & !mask) | wanted;
            }
            let target = NodeId(id);
            self.look_up(now, Want::Nodes, target.0[..].into(), Waiter::Refresh, &through);
        }
    }
}
