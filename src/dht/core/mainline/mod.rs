//! The rules of the public network, which many programs share (`--mainline`).
//!
//! A node's id belongs to its address (BEP42: `secure_id`), which it learns by the votes of those who answer it (`votes`). A node
//! that strangers do not reach says so and keeps out of tables (BEP43: `reach`). Nobody is asked too often (`pace`). Names are 20
//! bytes there: a longer or shorter one is known by its SHA-1. And nobody on the public network may name a private address.

mod pace;
mod reach;
pub(super) mod secure_id;
mod votes;

use self::{pace::Pace, reach::Reach, votes::Votes};
use super::{ByFamily, Core, DhtEvent, Family, ID_BYTES, NodeId, Now, krpc, source::is_private};
use sha1::{Digest, Sha1};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What a node keeps to follow these rules; one that does not follow them has none.
pub(super) struct Mainline {
    votes: ByFamily<Votes>,
    reach: ByFamily<Reach>,
    pace: Pace,
}

impl Mainline {
    pub(super) fn new(v6: bool, now: Now) -> Self {
        Self {
            votes: ByFamily::new(v6, |_| Votes::default()),
            reach: ByFamily::new(v6, |_| Reach::new(now)),
            pace: Pace::new(),
        }
    }
}

impl Core {
    /// The id that this node has in the network of an address.
    pub(super) fn own_at(&self, addr: &SocketAddr) -> NodeId {
        self.own.of(addr).copied().unwrap_or(self.node_id())
    }

    /// What a name is on the wire.
    pub(super) fn wire_name(&self, name: Arc<[u8]>) -> Arc<[u8]> {
        if self.mainline.is_none() || name.len() == ID_BYTES {
            return name;
        }
        Sha1::digest(&name)[..].into()
    }

    /// Whether others may ask for this name or target here.
    pub(super) fn is_fit_name(&self, name: &[u8]) -> bool {
        self.mainline.is_none() || name.len() == ID_BYTES
    }

    /// Whether a node that `by` names can be one of this network.
    pub(super) fn is_fit_node(&self, node: SocketAddr, by: SocketAddr) -> bool {
        self.mainline.is_none() || !is_private(node.ip()) || is_private(by.ip())
    }

    /// Somebody who was asked says what this node's address is.
    pub(super) fn told_address(&mut self, now: Now, by: SocketAddr, address: Option<IpAddr>) {
        let Some(mainline) = &mut self.mainline else { return };
        let family = Family::of(&by);
        let same = |address: &IpAddr| address.is_ipv4() == by.is_ipv4();
        let Some(address) = address.filter(same) else { return };
        let Some(elected) = mainline.votes.get_mut(family).and_then(|votes| votes.vote(by.ip(), address))
        else {
            return;
        };
        let id = self.own_at(&by);
        if secure_id::belongs(&id, elected) {
            return self.event(DhtEvent::Address { ip: elected, node_id: id });
        }
        let id = secure_id::for_address(elected, &mut self.rng);
        self.change_id(now, family, id);
        self.event(DhtEvent::Address { ip: elected, node_id: id });
    }

    /// Goes on under another id, with the same neighbours.
    fn change_id(&mut self, now: Now, family: Family, id: NodeId) {
        let (Some(own), Some(table)) = (self.own.get_mut(family), self.tables.get_mut(family)) else {
            return;
        };
        *own = id;
        table.rebase(id, now);
        if family == Family::V4 {
            self.items.moved(id);
            self.peers.moved(id);
        }
        self.join_again(now);
    }

    /// Notes that somebody asks. False when this node is read-only and the asker only answers it: then nothing is said (BEP43).
    pub(super) fn may_answer(&mut self, now: Now, from: SocketAddr) -> bool {
        let wants_proof =
            |mainline: &Mainline| mainline.reach.of(&from).is_some_and(|reach| reach.wants_proof(now));
        if !self.mainline.as_ref().is_some_and(wants_proof) {
            return true;
        }
        let stranger = self.contacts.is_stranger(from) && !self.rpc.awaits(&from);
        let Some(reach) = self.mainline.as_mut().and_then(|mainline| mainline.reach.of_mut(&from)) else {
            return true;
        };
        if stranger {
            reach.stranger_asked(now);
        }
        !reach.is_read_only()
    }

    /// Whether queries to this address say that this node is read-only.
    pub(super) fn is_read_only(&self, to: &SocketAddr) -> bool {
        let reach = self.mainline.as_ref().and_then(|mainline| mainline.reach.of(to));
        reach.is_some_and(Reach::is_read_only)
    }

    /// Whether another query may be sent to this address at all in the next seconds.
    pub(super) fn may_ask(&self, now: Now, to: SocketAddr) -> bool {
        self.mainline.as_ref().is_none_or(|mainline| mainline.pace.may_ask(to.ip(), now))
    }

    /// When the next query may be sent, if there is a rule about it.
    pub(super) fn next_query(&self) -> Option<Now> {
        self.mainline.as_ref().map(|mainline| mainline.pace.next())
    }

    /// A query was sent.
    pub(super) fn note_query(&mut self, now: Now, to: SocketAddr) {
        if let Some(mainline) = &mut self.mainline {
            mainline.pace.sent(to.ip(), now);
        }
    }

    /// When something changes here by itself.
    pub(super) fn next_reach(&self) -> Option<Now> {
        self.mainline.as_ref()?.reach.each().map(Reach::next).min()
    }

    pub(super) fn pass_reach(&mut self, now: Now) {
        if let Some(mainline) = &mut self.mainline {
            mainline.reach.each_mut().for_each(|reach| reach.pass(now));
        }
    }

    /// What others call this node's IPv4 address, and whether strangers reach it there.
    pub(super) fn outside(&self) -> (Option<IpAddr>, bool) {
        let elected =
            |family| self.mainline.as_ref().and_then(|mainline| mainline.votes.get(family)?.elected());
        let ip = elected(Family::V4).or_else(|| elected(Family::V6));
        (ip, self.is_read_only(&self.config.local_addr.into()))
    }
}

/// The error for names that the public network does not know.
pub(super) const UNFIT_NAME: krpc::Problem =
    krpc::Problem { code: krpc::code::PROTOCOL, text: "names and targets have 20 bytes here" };

#[cfg(test)]
mod tests;
