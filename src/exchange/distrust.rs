//! Whom the lists leave out: records whose makers contradict themselves, makers that do so again and again, and records whose newest
//! version this program does not follow.
//!
//! A proof is two versions, or records, that their maker should never have signed both ([`Offer::contradicts`]). It is kept, so
//! that others can be shown it, and counts until both are dead. There is room for so many proofs, and for so many against one maker;
//! beyond it the record is off the lists all the same ([`Unlisted::Contradicted`]), only that nobody else learns why from this node.
//! A maker against whom all its room is taken is an outcast, of which nothing is listed: proofs of less than that reach everybody, so
//! everybody comes to the same. It is one until a proof dies.

use super::{limits, state::Market};
use crate::{
    bep44::Target,
    identity::ClientId,
    market::{Offer, OfferId},
    time::UnixMillis,
};
use std::sync::Arc;

/// Why a record is on no list though its newest version says that it can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// Its price or quantity is another than in an earlier version.
    Repriced {
        /// When the record dies.
        until: UnixMillis,
    },
    /// Its maker contradicts itself, and there was no room to keep the proof.
    Contradicted {
        /// When the later of the two versions dies.
        until: UnixMillis,
    },
}

impl Unlisted {
    /// From when on it need not be remembered.
    pub fn until(self) -> UnixMillis {
        let (Self::Repriced { until } | Self::Contradicted { until }) = self;
        until
    }
}

impl Market {
    /// Until when it must be remembered of a record that it is not listed, if it is so.
    pub(super) fn marked_until(&self, target: &Target) -> Option<UnixMillis> {
        let proven = self.equivocated.get(target).map(|(first, second)| first.dies_at.max(second.dies_at));
        proven.max(self.unlisted.get(target).map(|why| why.until()))
    }

    /// Whether this record's maker contradicts itself in it, as far as this node knows.
    pub fn is_contradicted(&self, target: &Target) -> bool {
        self.equivocated.contains_key(target)
            || matches!(self.unlisted.get(target), Some(Unlisted::Contradicted { .. }))
    }

    /// Whether nobody should trust it: it is contradicted, or its maker's word is worth nothing.
    pub fn is_distrusted(&self, offer: &Offer) -> bool {
        self.is_contradicted(&offer.target()) || self.is_outcast(&offer.client_id)
    }

    /// The records that carry an id.
    pub fn named(&self, id: OfferId) -> impl Iterator<Item = Target> {
        let from = self.by_id.range((id, Target([0; 20]))..);
        from.take_while(move |(found, _)| *found == id).map(|(_, target)| *target)
    }

    /// Whether so much is proven against a maker that nothing of it is listed.
    pub fn is_outcast(&self, maker: &ClientId) -> bool {
        self.proofs_against.get(maker).is_some_and(|proofs| *proofs >= limits::PROOFS_A_MAKER_MAX)
    }

    /// Takes a proof about the first one's record. One that is there already stays what it was.
    pub(super) fn prove(&mut self, first: &Arc<Offer>, second: &Arc<Offer>) {
        let (target, maker) = (first.target(), first.client_id);
        if self.equivocated.contains_key(&target) {
            return;
        }
        self.close(target);
        self.equivocated.insert(target, (Arc::clone(first), Arc::clone(second)));
        let proofs = self.proofs_against.get(&maker).map_or(1, |proofs| proofs + 1);
        self.proofs_against.insert(maker, proofs);
        if proofs == limits::PROOFS_A_MAKER_MAX {
            for target in self.records_of(maker).map(|offer| offer.target()).collect::<Vec<_>>() {
                self.close(target);
            }
        }
    }

    /// Forgets the proof about a record. Returns its maker when it is no outcast any more: what else it has may be listed again.
    #[must_use]
    pub(super) fn forget_proof(&mut self, target: Target) -> Option<ClientId> {
        let (first, _) = self.equivocated.remove(&target)?;
        let maker = first.client_id;
        let was_outcast = self.is_outcast(&maker);
        match self.proofs_against.get(&maker) {
            Some(proofs) if *proofs > 1 => {
                let left = proofs - 1;
                self.proofs_against.insert(maker, left);
            }
            _ => _ = self.proofs_against.remove(&maker),
        }
        (was_outcast && !self.is_outcast(&maker)).then_some(maker)
    }
}
