//! Checks what came: signatures on the workers, each once, and hands what is genuine to the exchange core.

use super::limits::JUDGED_AT_ONCE;
use crate::{
    bep44::MutableItem,
    exchange::Market,
    identity::Network,
    market::{Offer, RecordError, Via},
    node::{Exchange, listener::Heard},
    replication::core::{CopyHash, Input, Stamp, UncheckedHead, Verdict, Version, talk::Carried},
    workers::Workers,
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Something to check.
#[derive(Debug)]
pub(super) enum Case {
    Record { copy: CopyHash, record: Carried, via: Via },
    Head { copy: CopyHash, head: UncheckedHead, via: Via },
}

/// Whoever checks. Clones share everything.
#[derive(Clone)]
pub(super) struct Judge {
    pub exchange: Exchange,
    pub workers: Workers,
    pub heard: Arc<Heard>,
    /// What was found. Not more than what the core has checked at once.
    pub verdicts: mpsc::UnboundedSender<Vec<Input>>,
}

impl Judge {
    /// Has everything checked. What could be said at once is returned.
    pub(super) fn judge(&self, mut cases: Vec<Case>) -> Vec<Input> {
        if cases.len() == 1
            && let Some(turn) = self.workers.idle()
            && let Some(case) = cases.pop()
        {
            let busy = case.busy();
            return vec![turn.run(|| self.decide(case)).unwrap_or(busy)];
        }
        let mut busy = Vec::new();
        while !cases.is_empty() {
            let some: Vec<Case> = cases.drain(..cases.len().min(JUDGED_AT_ONCE)).collect();
            let refused: Vec<Input> = some.iter().map(Case::busy).collect();
            let judge = self.clone();
            let work = move || {
                let found = some.into_iter().map(|case| judge.decide(case)).collect();
                // The node may be stopping.
                let _ = judge.verdicts.send(found);
            };
            if self.workers.submit(work).is_err() {
                busy.extend(refused);
            }
        }
        busy
    }

    fn decide(&self, case: Case) -> Input {
        match case {
            Case::Record { copy, record, via } => Input::Judged { copy, verdict: self.record(record, via) },
            Case::Head { copy, head, via } => {
                Input::JudgedHead { copy, head: head.verify(self.exchange.network()), via }
            }
        }
    }

    fn record(&self, record: Carried, via: Via) -> Verdict {
        let Some(stamp) = record.stamp() else { return Verdict::Forged };
        let snapshot = self.exchange.snapshot();
        if let Some(verdict) = known(&snapshot.state.market, &record, stamp) {
            return verdict;
        }
        let held = snapshot.state.market.records.get(&stamp.target).map(|held| &**held);
        let read = |item| self.read(item, self.exchange.network(), held);
        let offer = match read(record.item) {
            Ok(offer) => offer,
            Err(verdict) => return verdict,
        };
        let (maker, mut dies_at) = (offer.client_id, offer.dies_at);
        let taken = match record.twin.map(read) {
            None => self.exchange.record(offer, via),
            Some(Ok(twin)) if offer.contradicts(&twin).is_none() => return Verdict::Forged,
            Some(Ok(twin)) => {
                dies_at = dies_at.max(twin.dies_at);
                self.exchange.fraud([offer, twin], via)
            }
            Some(Err(verdict)) => return verdict,
        };
        if taken.is_err() { Verdict::Busy } else { Verdict::Genuine { maker, stamp, dies_at } }
    }

    fn read(
        &self,
        item: MutableItem,
        network: &Network,
        held: Option<&Offer>,
    ) -> Result<Arc<Offer>, Verdict> {
        let check = |k: &_, bytes: &_, sig: &_| self.workers.check(k, bytes, sig);
        let item = item.verify_by(check).map_err(|_| Verdict::Forged)?;
        Offer::read_by(item, network, held, check).map(Arc::new).map_err(|error| {
            self.heard.refuse(&error);
            match error {
                RecordError::WrongProof | RecordError::WrongNetwork(_) => Verdict::Forged,
                // It may be of a later version of this program, and its bringer one that understands it.
                RecordError::Malformed(_) | RecordError::Field { .. } => Verdict::Busy,
            }
        })
    }
}

impl Case {
    fn busy(&self) -> Input {
        let (Self::Record { copy, .. } | Self::Head { copy, .. }) = self;
        Input::Judged { copy: *copy, verdict: Verdict::Busy }
    }
}

/// What needs no check: this very version came another way meanwhile, or a later one.
fn known(market: &Market, record: &Carried, stamp: Stamp) -> Option<Verdict> {
    let held = market.records.get(&stamp.target)?;
    let genuine = |version| Verdict::Genuine {
        maker: held.client_id,
        stamp: Stamp { version, ..stamp },
        dies_at: market.counts_until(held),
    };
    if market.is_contradicted(&stamp.target) {
        return Some(genuine(Version::FRAUD));
    }
    // An older version is looked at, and checked only when it would prove something.
    let is_known = record.twin.is_none()
        && ((held.item().seq > record.item.seq && !held.may_contradict(&record.item))
            || (held.item().seq == record.item.seq && held.item().v == record.item.v));
    is_known.then(|| Version::of(held.item()).map(genuine)).flatten()
}
