//! What happens to nodes and to the world: the steps of the plan, crashes, starts, the end of all bad luck, and the looks after it.

use super::{
    ledger::Wish,
    plan::{Broken, Deed, Moment, Step},
    trade::Fate,
    world::{What, World},
};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;
use vintner::exchange::Input as Trade;

/// Three head intervals: so soon after the world healed all replicas are equal.
const HEAD_INTERVALS_MS: u64 = 3 * 60_000;
/// How often it is looked whether they are, in runs that are not patient.
const LOOK_EVERY_MS: u64 = 10_000;
/// So soon after it is whole again the network has told a node that its store is behind: its next head, which comes within a minute,
/// shows others what it forgot; they wait two seconds for what is still on its way, then ask; three seconds are for all the ways.
const NOTICED_IN_MS: u64 = 65_000;
/// Beyond the longest pause between two questions about a bid, and the largest difference between two clocks.
const LAST_WORDS_MS: u64 = 40 * 60_000;

impl World {
    pub(crate) fn step(&mut self, number: usize) {
        let Step { node: n, dice, deed, .. } = self.plan.steps[number];
        if self.healed {
            return;
        }
        self.tell(|| format!("node {n}: {deed:?}"));
        let mut dice = StdRng::seed_from_u64(dice);
        match deed {
            Deed::Create { short } => self.creates(n, short, &mut dice),
            Deed::Bid { bidders, maker_withdraws } => self.bids(n, bidders, maker_withdraws, &mut dice),
            Deed::Withdraw => self.withdraws(n, &mut dice),
            Deed::Crash { when: Moment::Now, down_ms } => self.crash(n, down_ms),
            Deed::Crash { when: Moment::BeforeCommit, down_ms } => {
                self.peers[n].armed = Some(Fate::CrashBeforeCommit { down_ms });
            }
            Deed::Crash { when: Moment::AfterEffects(effects), down_ms } => {
                self.peers[n].armed = Some(Fate::CrashAfter { effects, down_ms });
            }
            Deed::Pause { ms } => {
                let until = self.now.plus(Duration::from_millis(ms));
                self.peers[n].paused_until = until;
            }
            Deed::DiskFull { ms } => self.nodes[n].disk_full_until = self.ms() + ms,
            Deed::Clock { by_ms } => self.nodes[n].skew += by_ms,
            Deed::Backup => self.nodes[n].backup = Some(self.nodes[n].store.log.len()),
            Deed::LoseStore => self.lose_store(n),
            Deed::Part { set, ms } => self.links.block(set, true, self.ms() + ms),
            Deed::Mute { set, ms } => self.links.block(set, false, self.ms() + ms),
            Deed::Cheat(mischief) => self.cheat(n, mischief, &mut dice),
        }
        if let (Deed::Part { .. } | Deed::Mute { .. }, Some(ring)) = (deed, &mut self.ring) {
            ring.follow(&self.links);
        }
    }

    pub(crate) fn crash(&mut self, n: usize, down_ms: u64) {
        if !self.is_up(n) {
            return;
        }
        self.tell(|| format!("node {n} CRASHES for {down_ms} ms"));
        self.ledger.hung_up(n);
        let (node, peer) = (&mut self.nodes[n], &mut self.peers[n]);
        node.core = None;
        node.life += 1;
        node.wake_at = None;
        node.inbox.clear();
        node.store.deferred.clear();
        if self.plan.broken == Some(Broken::Stores) {
            node.store.cut(node.store.log.len() / 2);
        }
        peer.core = None;
        peer.wakes_at = None;
        peer.armed = None;
        peer.paused_until = self.now;
        peer.mailbox.clear();
        self.crash_ring(n);
        self.after_ms(down_ms, n, What::Start);
    }

    pub(crate) fn start(&mut self, n: usize) {
        if self.is_up(n) {
            return;
        }
        self.tell(|| format!("node {n} starts"));
        if !self.is_evil(n) {
            self.ledger.audit(n, &self.nodes, self.ms());
        }
        self.start_ring(n);
        self.start_replication(n);
        self.start_trading(n);
    }

    /// No more bad luck: everybody is up, everything arrives. Those who lied go on lying.
    pub(crate) fn heal(&mut self) {
        self.tell(|| "THE WORLD HEALS".into());
        self.healed = true;
        self.links.heal();
        if self.plan.broken == Some(Broken::Links) {
            self.links.block(0x5555_5555_5555_5555, true, u64::MAX);
        }
        if let Some(ring) = &mut self.ring {
            ring.follow(&self.links);
        }
        for n in 0..self.nodes.len() {
            self.peers[n].armed = None;
            self.peers[n].paused_until = self.now;
            self.nodes[n].disk_full_until = 0;
            self.start(n);
            self.flush(n);
        }
        self.after_ms(NOTICED_IN_MS, 0, What::Notice);
        if self.plan.converges {
            let patience = if self.plan.patient { HEAD_INTERVALS_MS } else { NOTICED_IN_MS + LOOK_EVERY_MS };
            self.after_ms(patience, 0, What::Look);
        }
    }

    /// Who lost its store has been told so by now, and its owner takes over what the network held.
    pub(crate) fn all_notice(&mut self) {
        for n in 0..self.nodes.len() {
            if self.plan.converges {
                self.notices(n);
            }
            self.peers[n].waits = false;
        }
        // Those who cheat have nothing more to say.
        (self.plan.evil..self.nodes.len()).for_each(|n| self.recovers(n));
        if !self.plan.converges {
            self.only_bids();
        }
    }

    /// A node asks everybody for its trades with them, then closes what the network knows better.
    fn recovers(&mut self, n: usize) {
        let id = self.nodes[n].id;
        for other in (self.plan.evil..self.nodes.len()).filter(|other| *other != n) {
            let receipts = self.nodes[other].shows(&id);
            if !receipts.is_empty() {
                self.command(n, Wish::TakeOver, |reply| Trade::TradesShown { receipts, reply });
            }
        }
        if self.nodes[n].core.as_ref().is_some_and(|core| core.state().is_behind()) {
            self.command(n, Wish::Recover, |reply| Trade::Recover { reply });
        }
    }

    pub(crate) fn look(&mut self) {
        let late = self.ms() >= self.plan.heals_ms + HEAD_INTERVALS_MS;
        match self.disagreement() {
            None => {
                self.agreed = true;
                self.only_bids();
            }
            Some(rule) if late => self.ledger.check(false, || rule),
            Some(_) => self.after_ms(LOOK_EVERY_MS, 0, What::Look),
        }
    }

    /// What is left are bids without an answer, which are asked about less and less often.
    pub(crate) fn only_bids(&mut self) {
        self.bids_only = true;
        self.after_ms(LAST_WORDS_MS, 0, What::End);
    }

    pub(crate) fn end(&mut self) {
        self.ledger.check(self.agreed || !self.plan.converges, || "nobody looked".into());
        let now = self.ms();
        self.ledger.settled(&self.nodes, now);
    }
}
