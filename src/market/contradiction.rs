//! What never changes in a record's life, and which two signed versions prove that their maker breaks its word.
//!
//! Fixed are the key, the id, the maker, the kind, the side, the currency, `dies_at` and the proof; `closed` is final. Price,
//! quantity, expiry and memo may change. What is compared here both sides of the network can compare alone, so a contradiction is a
//! proof that convinces everybody.

use super::{Offer, offer::OfferBody};
use crate::bep44::{MutableItem, Target};

/// Which promise two versions break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// Two values of one sequence.
    TwoValues,
    /// They differ in what is fixed for a record's life.
    Fixed,
    /// The later one takes back that the record is closed.
    Reopened,
    /// Two records of one maker with one id.
    OneId,
}

/// A version as it is compared: of an unchecked one nothing is proven yet.
struct Version<'a> {
    item: &'a MutableItem,
    body: &'a OfferBody,
}

impl Offer {
    /// What this version and `other` prove together, in whichever order they were signed.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> Option<Contradiction> {
        Version::of(self).contradicts(&Version::of(other))
    }

    /// The same of a version that was not checked: whether checking it is worth the time.
    #[must_use]
    pub fn may_contradict(&self, item: &MutableItem) -> bool {
        let body = Self::peek(item, &self.network);
        body.is_ok_and(|body| Version::of(self).contradicts(&Version { item, body: &body }).is_some())
    }

    /// Whether this version has another price or quantity than `other`.
    #[must_use]
    pub fn reprices(&self, other: &Self) -> bool {
        let terms = |offer: &Self| (offer.terms.btc_quantity, offer.terms.offer_price);
        terms(self) != terms(other)
    }

    /// Whether a bidder would find other words in this version than in `other`.
    #[must_use]
    pub fn amends(&self, other: &Self) -> bool {
        let words = |offer: &Self| (offer.terms, offer.expires_at, offer.acceptance);
        words(self) != words(other) || self.memo != other.memo
    }
}

impl OfferBody {
    /// Whether the record is closed for good. Versions that were written before there was `closed` say it by having no `expires_at`: one that
    /// only cannot be taken for a while keeps the time until which it may return.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed || !self.availability && self.expires_at.is_none()
    }
}

impl<'a> Version<'a> {
    fn of(offer: &'a Offer) -> Self {
        Self { item: offer.item(), body: offer }
    }

    fn target(&self) -> Target {
        self.item.target()
    }

    fn contradicts(&self, other: &Self) -> Option<Contradiction> {
        let (one, two) = (self.body, other.body);
        if self.item.k != other.item.k {
            let namesakes = (one.client_id, one.id) == (two.client_id, two.id)
                && self.target() != other.target()
                && !cfg!(mutant = "terms_two_records_of_one_id");
            return namesakes.then_some(Contradiction::OneId);
        }
        if one.sequence == two.sequence {
            let differ = self.item.v != other.item.v && !cfg!(mutant = "equivocation_unnoticed");
            return differ.then_some(Contradiction::TwoValues);
        }
        let fixed = |body: &OfferBody| {
            let OfferBody { id, client_id, kind, dies_at, proof, terms, .. } = body;
            (*id, *client_id, *kind, *dies_at, *proof, (terms.side, terms.currency))
        };
        if fixed(one) != fixed(two) && !cfg!(mutant = "terms_fixed_ones_change") {
            return Some(Contradiction::Fixed);
        }
        let (earlier, later) = if one.sequence < two.sequence { (one, two) } else { (two, one) };
        let reopened =
            earlier.is_closed() && !later.is_closed() && !cfg!(mutant = "terms_closed_is_not_final");
        reopened.then_some(Contradiction::Reopened)
    }
}

#[cfg(test)]
mod tests;
