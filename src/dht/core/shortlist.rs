//! The shortlist of one iterative lookup: whom to ask next, and when it is done.
//!
//! A lookup is done when the K nearest nodes that answer at all have answered. A node whose answer is late is not waited for
//! once anybody else has answered; its place among the K is taken by the next nearest. A node that failed lately is passed by,
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
    /// Nearest first.
    candidates: Vec<Candidate>,
    /// Bootstrap addresses, whose ids are not known yet.
    unnamed: Vec<(SocketAddr, Mark)>,
}

impl Shortlist {
    pub(super) fn new(target: Arc<[u8]>) -> Self {
        Self { target, candidates: Vec::new(), unnamed: Vec::new() }
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

    /// Whom to ask now, if anybody; it counts as asked from here on.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        if self.marks().filter(|&mark| mark == Mark::Asked).count() >= ALPHA {
            return None;
        }
        if let Some((addr, mark)) = self.unnamed.iter_mut().find(|(_, mark)| *mark == Mark::New) {
            *mark = Mark::Asked;
            return Some(*addr);
        }
        if !self.marks().any(|mark| matches!(mark, Mark::New | Mark::Asked | Mark::Answered)) {
            // Everybody else failed lately, or now is late: then they are asked all the same. After a moment in which this machine
            // stood still, who is avoided may well be alive, and who is not may be mute.
            for candidate in self.candidates.iter_mut().filter(|c| c.mark == Mark::Avoided) {
                candidate.mark = Mark::New;
            }
        }
        let near = self.near().find(|&at| self.candidates[at].mark == Mark::New)?;
        self.candidates[near].mark = Mark::Asked;
        Some(self.candidates[near].contact.addr)
    }

    /// The K nearest that answered or still may, in time.
    fn near(&self) -> impl Iterator<Item = usize> {
        let hopeful =
            |at: &usize| matches!(self.candidates[*at].mark, Mark::New | Mark::Asked | Mark::Answered);
        (0..self.candidates.len()).filter(hopeful).take(K)
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

    /// Whether nothing is left that is worth waiting for. Call after [`Self::next`] gave nobody.
    pub(super) fn is_done(&self) -> bool {
        let answered = self.marks().any(|mark| mark == Mark::Answered);
        let waiting = |mark| mark == Mark::Asked || (mark == Mark::Late && !answered);
        let near_new = self.near().any(|at| self.candidates[at].mark == Mark::New);
        !near_new && !self.marks().any(waiting)
    }

    /// The nearest that answered, at most K.
    pub(super) fn nearest(&self) -> Vec<Contact> {
        let answered = self.candidates.iter().filter(|c| c.mark == Mark::Answered);
        answered.take(K).map(|c| c.contact).collect()
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
        let mut list = Shortlist::new([0; 20][..].into());
        nodes.rev().for_each(|n| list.add(contact(n), false));
        list
    }

    #[test]
    fn the_nearest_are_asked_first_and_at_most_alpha_at_once() {
        let mut list = list(1..=30);
        let asked: Vec<_> = std::iter::from_fn(|| list.next()).collect();
        assert_eq!(asked, (1..=ALPHA as u8).map(|n| contact(n).addr).collect::<Vec<_>>());
        list.answered(contact(3));
        assert_eq!(list.next(), Some(contact(ALPHA as u8 + 1).addr));
        assert!(!list.is_done());
    }

    #[test]
    fn it_is_done_when_the_k_nearest_that_answer_have_answered() {
        let mut list = list(1..=30);
        let mut asked = Vec::new();
        while let Some(addr) = list.next() {
            asked.push(addr);
            if addr == contact(2).addr {
                list.failed(addr);
            } else {
                list.answered(contact((addr.port() - 1000) as u8));
            }
        }
        assert!(list.is_done());
        assert_eq!(asked.len(), K + 1);
        assert_eq!(list.nearest().len(), K);
        assert!(!list.nearest().contains(&contact(2)));
    }

    #[test]
    fn a_late_node_is_waited_for_only_while_nobody_answered() {
        let mut list = list(1..=2);
        list.next();
        list.next();
        list.late(contact(1).addr);
        assert!(!list.is_done());
        list.late(contact(2).addr);
        assert!(!list.is_done());
        list.answered(contact(2));
        assert!(list.is_done());
        list.answered(contact(1));
        assert_eq!(list.nearest(), [contact(1), contact(2)]);
    }

    #[test]
    fn avoided_nodes_are_asked_only_when_there_is_nobody_else() {
        let mut list = list(5..=5);
        list.add(contact(1), true);
        assert_eq!(list.next(), Some(contact(5).addr));
        assert_eq!(list.next(), None);
        list.failed(contact(5).addr);
        assert_eq!(list.next(), Some(contact(1).addr));
    }

    #[test]
    fn avoided_nodes_are_asked_rather_than_to_wait_for_late_ones() {
        let mut list = list(5..=5);
        list.add(contact(1), true);
        assert_eq!(list.next(), Some(contact(5).addr));
        assert_eq!(list.next(), None);
        list.late(contact(5).addr);
        assert_eq!(list.next(), Some(contact(1).addr));
        list.answered(contact(1));
        assert!(list.is_done());
    }

    #[test]
    fn an_answer_under_another_id_corrects_the_list() {
        let mut list = list(1..=1);
        list.add_unnamed(contact(9).addr);
        assert_eq!(list.next(), Some(contact(9).addr));
        list.answered(contact(9));
        assert_eq!(list.next(), Some(contact(1).addr));
        list.answered(Contact { addr: contact(1).addr, ..contact(200) });
        assert!(list.is_done());
        assert_eq!(list.nearest().iter().map(|c| c.id).collect::<Vec<_>>(), [contact(9).id, contact(200).id]);
    }
}
