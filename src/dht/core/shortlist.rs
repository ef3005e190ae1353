//! The shortlist of one iterative lookup: whom to ask next, and when it is done.
//!
//! A lookup is done when the k nearest nodes that answer at all have answered. A node whose answer is late is not waited for
//! once anybody else has answered; its place among the k is taken by the next nearest. A node that failed lately is passed by,
//! unless there is nobody else.

use super::{
    id::{Contact, nearer},
    table::K,
};
use std::{net::SocketAddr, sync::Arc};

/// Queries of one lookup that may be under way. Kademlia's 3 suits a slow link; in a network smaller than one bucket, which
/// most exchanges are, 8 ask everybody in at most three rounds.
pub(super) const ALPHA: usize = 8;
/// Candidates kept: the K nearest, and as many again several times over for those that do not answer.
const CANDIDATES_MAX: usize = 5 * K;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    New,
    Avoided,
    Asked,
    Late,
    Answered,
    Failed,
}

#[derive(Clone, Copy)]
struct Candidate {
    contact: Contact,
    mark: Mark,
}

pub(super) struct Shortlist {
    target: Arc<[u8]>,
    /// How many nodes have to answer.
    k: usize,
    /// Queries under way at most.
    alpha: usize,
    /// Nearest first.
    candidates: Vec<Candidate>,
    /// Bootstrap addresses, whose ids are not known yet.
    unnamed: Vec<(SocketAddr, Mark)>,
}

impl Shortlist {
    pub(super) fn new(target: Arc<[u8]>, k: usize, alpha: usize) -> Self {
        Self { target, k, alpha, candidates: Vec::new(), unnamed: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.unnamed.is_empty()
    }

    /// Whether exactly this node is on it.
    pub(super) fn holds(&self, contact: &Contact) -> bool {
        self.candidates.iter().any(|c| c.contact == *contact)
    }

    /// Whether anybody answered, or may in time. Where nobody does, those who failed lately are asked all the same: after a moment in
    /// which this machine stood still, who is avoided may well be alive, and who is late may be mute.
    pub(super) fn has_hope(&self) -> bool {
        self.marks().any(|mark| matches!(mark, Mark::New | Mark::Asked | Mark::Answered))
    }

    pub(super) fn has_answer(&self) -> bool {
        self.marks().any(|mark| mark == Mark::Answered)
    }

    /// Adds a node that somebody named. `avoid`: it failed lately.
    pub(super) fn add(&mut self, contact: Contact, avoid: bool) {
        let mark = if avoid { Mark::Avoided } else { Mark::New };
        if self.find(contact.addr).is_none() {
            self.insert(Candidate { contact, mark });
        }
    }

    /// Adds an address whose id is not known.
    pub(super) fn add_unnamed(&mut self, addr: SocketAddr) {
        if self.find(addr).is_none() && self.unnamed.iter().all(|(other, _)| *other != addr) {
            self.unnamed.push((addr, Mark::New));
        }
    }

    fn insert(&mut self, new: Candidate) {
        let (target, id) = (&self.target, &new.contact.id);
        let at = self.candidates.partition_point(|c| nearer(target, &c.contact.id, id).is_le());
        if at < CANDIDATES_MAX {
            self.candidates.insert(at, new);
            // A query under way keeps its place: its answer must find it.
            if self.candidates.len() > CANDIDATES_MAX
                && let Some(last) =
                    self.candidates.iter().rposition(|c| !matches!(c.mark, Mark::Asked | Mark::Late))
            {
                self.candidates.remove(last);
            }
        }
    }

    fn find(&self, addr: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|c| c.contact.addr == addr)
    }

    fn set(&mut self, addr: SocketAddr, mark: Mark) {
        if let Some((_, old)) = self.unnamed.iter_mut().find(|(other, _)| *other == addr) {
            *old = mark;
        }
        if let Some(at) = self.find(addr) {
            self.candidates[at].mark = mark;
        }
    }

    fn marks(&self) -> impl Iterator<Item = Mark> {
        self.candidates.iter().map(|c| c.mark).chain(self.unnamed.iter().map(|(_, mark)| *mark))
    }

    /// Whom to ask now, if anybody; it counts as asked from here on. `desperate`: there is no hope but those who failed lately.
    pub(super) fn next(&mut self, desperate: bool) -> Option<SocketAddr> {
        if self.marks().filter(|&mark| mark == Mark::Asked).count() >= self.alpha {
            return None;
        }
        if let Some((addr, mark)) = self.unnamed.iter_mut().find(|(_, mark)| *mark == Mark::New) {
            *mark = Mark::Asked;
            return Some(*addr);
        }
        if desperate {
            for candidate in self.candidates.iter_mut().filter(|c| c.mark == Mark::Avoided) {
                candidate.mark = Mark::New;
            }
        }
        let near = self.near().find(|&at| self.candidates[at].mark == Mark::New)?;
        self.candidates[near].mark = Mark::Asked;
        Some(self.candidates[near].contact.addr)
    }

    /// The k nearest that answered or still may, in time.
    fn near(&self) -> impl Iterator<Item = usize> {
        let hopeful =
            |at: &usize| matches!(self.candidates[*at].mark, Mark::New | Mark::Asked | Mark::Answered);
        (0..self.candidates.len()).filter(hopeful).take(self.k)
    }

    /// It answered, under this id.
    pub(super) fn answered(&mut self, contact: Contact) {
        self.set(contact.addr, Mark::Answered);
        match self.find(contact.addr) {
            Some(at) if self.candidates[at].contact.id == contact.id => {}
            at => {
                // It has another id than was said of it, or was only an address so far.
                at.map(|at| self.candidates.remove(at));
                self.insert(Candidate { contact, mark: Mark::Answered });
            }
        }
    }

    /// Its answer is late.
    pub(super) fn late(&mut self, addr: SocketAddr) {
        self.set(addr, Mark::Late);
    }

    /// It will not answer, or not usefully.
    pub(super) fn failed(&mut self, addr: SocketAddr) {
        self.set(addr, Mark::Failed);
    }

    /// Whether nothing is left that is worth waiting for. Call after [`Self::next`] gave nobody. `answered`: somebody has, here or
    /// on another path.
    pub(super) fn is_done(&self, answered: bool) -> bool {
        let waiting = |mark| mark == Mark::Asked || (mark == Mark::Late && !answered);
        let near_new = self.near().any(|at| self.candidates[at].mark == Mark::New);
        !near_new && !self.marks().any(waiting)
    }

    /// The nearest that answered, at most k.
    pub(super) fn nearest(&self) -> Vec<Contact> {
        let answered = self.candidates.iter().filter(|c| c.mark == Mark::Answered);
        answered.take(self.k).map(|c| c.contact).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::core::id::NodeId;
    use std::net::Ipv4Addr;

    fn contact(n: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = n;
        Contact { id: NodeId(id), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(n))) }
    }
    fn list(nodes: std::ops::RangeInclusive<u8>) -> Shortlist {
        let mut list = Shortlist::new([0; 20][..].into(), K, ALPHA);
        nodes.rev().for_each(|n| list.add(contact(n), false));
        list
    }

    fn next(list: &mut Shortlist) -> Option<SocketAddr> {
        list.next(!list.has_hope())
    }
    fn is_done(list: &Shortlist) -> bool {
        list.is_done(list.has_answer())
    }

    #[test]
    fn the_nearest_are_asked_first_and_at_most_alpha_at_once() {
        let mut list = list(1..=30);
        let asked: Vec<_> = std::iter::from_fn(|| next(&mut list)).collect();
        assert_eq!(asked, (1..=ALPHA as u8).map(|n| contact(n).addr).collect::<Vec<_>>());
        list.answered(contact(3));
        assert_eq!(next(&mut list), Some(contact(ALPHA as u8 + 1).addr));
        assert!(!is_done(&list));
    }

    #[test]
    fn it_is_done_when_the_k_nearest_that_answer_have_answered() {
        let mut list = list(1..=30);
        let mut asked = Vec::new();
        while let Some(addr) = next(&mut list) {
            asked.push(addr);
            if addr == contact(2).addr {
                list.failed(addr);
            } else {
                list.answered(contact((addr.port() - 1000) as u8));
            }
        }
        assert!(is_done(&list));
        assert_eq!(asked.len(), K + 1);
        assert_eq!(list.nearest().len(), K);
        assert!(!list.nearest().contains(&contact(2)));
    }

    #[test]
    fn a_late_node_is_waited_for_only_while_nobody_answered() {
        let mut list = list(1..=2);
        next(&mut list);
        next(&mut list);
        list.late(contact(1).addr);
        assert!(!is_done(&list));
        list.late(contact(2).addr);
        assert!(!is_done(&list));
        list.answered(contact(2));
        assert!(is_done(&list));
        list.answered(contact(1));
        assert_eq!(list.nearest(), [contact(1), contact(2)]);
    }

    #[test]
    fn avoided_nodes_are_asked_only_when_there_is_nobody_else() {
        let mut list = list(5..=5);
        list.add(contact(1), true);
        assert_eq!(next(&mut list), Some(contact(5).addr));
        assert_eq!(next(&mut list), None);
        list.failed(contact(5).addr);
        assert_eq!(next(&mut list), Some(contact(1).addr));
    }

    #[test]
    fn avoided_nodes_are_asked_rather_than_to_wait_for_late_ones() {
        let mut list = list(5..=5);
        list.add(contact(1), true);
        assert_eq!(next(&mut list), Some(contact(5).addr));
        assert_eq!(next(&mut list), None);
        list.late(contact(5).addr);
        assert_eq!(next(&mut list), Some(contact(1).addr));
        list.answered(contact(1));
        assert!(is_done(&list));
    }

    #[test]
    fn an_answer_under_another_id_corrects_the_list() {
        let mut list = list(1..=1);
        list.add_unnamed(contact(9).addr);
        assert_eq!(next(&mut list), Some(contact(9).addr));
        list.answered(contact(9));
        assert_eq!(next(&mut list), Some(contact(1).addr));
        list.answered(Contact { addr: contact(1).addr, ..contact(200) });
        assert!(is_done(&list));
        assert_eq!(list.nearest().iter().map(|c| c.id).collect::<Vec<_>>(), [contact(9).id, contact(200).id]);
    }
}
