//! Calling a client wherever it may be: where it answered last first, then at all the other addresses that are known of it.

use super::{ADDRESSES_TRIED_MAX, CONTACTS_MAX, ContactError, Contacts, Place, SEEK_AGAIN_AFTER};
use crate::{
    grenache::{
        caller::RequestError,
        client::{CallError, Client},
        envelope::VerifiedReply,
    },
    identity::ClientId,
    node::clock,
};
use std::{
    net::SocketAddr,
    sync::PoisonError,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How long the next address waits for the one before it: a way around the world. A dead one would cost seconds each.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// Where to look when no address that is known answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::node) enum Search {
    /// In the DHT too, each time: somebody waits for it.
    Thorough,
    /// In the DHT once a minute: there are others.
    AtLeisure,
}

impl Contacts {
    /// What `to` answers to `cmd` with `body`. `hints` are addresses that somebody named for it; it is called at one that nobody has
    /// checked only when there is a single one and nothing better.
    ///
    /// A request that has arrived and is not answered in time is not sent to another address.
    pub(in crate::node) async fn call(
        &self,
        http: &Client,
        to: ClientId,
        hints: &[SocketAddr],
        (cmd, body): (&str, &str),
        search: Search,
    ) -> Result<VerifiedReply, ContactError> {
        let mut tried = Vec::new();
        let mut failure = ContactError::Unknown;
        let single = match hints {
            [address] if self.reach.dials_hearsay(*address) => Some(*address),
            _ => None,
        };
        if let Some(address) = self.known(&to).or(single.filter(|_| search == Search::AtLeisure)) {
            match self.call_at(http, to, address, (cmd, body)).await {
                Ok(reply) => return Ok(reply),
                Err(error @ CallError::NoReply(RequestError::TimedOut { .. })) => {
                    return Err(ContactError::NoAnswer(error));
                }
                Err(error) => failure = ContactError::NoAnswer(error),
            }
            tried.push(address);
        }
        match self.find_anew(to, hints, tried, search).await {
            Ok(address) => self.call_at(http, to, address, (cmd, body)).await.map_err(ContactError::NoAnswer),
            Err(ContactError::Unknown) => Err(failure),
            Err(error) => Err(error),
        }
    }

    async fn call_at(
        &self,
        http: &Client,
        to: ClientId,
        address: SocketAddr,
        (cmd, body): (&str, &str),
    ) -> Result<VerifiedReply, CallError> {
        let reply = http.call_signed(address, &self.key, to, cmd, body, clock::now).await;
        match &reply {
            Ok(_) => self.seen(to, address),
            Err(error) => {
                tracing::debug!(%to, %address, cmd, %error, "no answer");
                self.forget(to, address);
            }
        }
        reply
    }

    /// An address at which `client` proves that it is there: where it answered before, then where others say that it is, then what
    /// the DHT says. Those of each kind are tried almost at once, and the first that answers is it.
    pub(super) async fn find_anew(
        &self,
        client: ClientId,
        hints: &[SocketAddr],
        mut tried: Vec<SocketAddr>,
        search: Search,
    ) -> Result<SocketAddr, ContactError> {
        let mut failure = ContactError::Unknown;
        for place in [Place::Known, Place::Card, Place::Lookup] {
            if place == Place::Card && search == Search::AtLeisure && !self.may_search(client) {
                break;
            }
            let found = match place {
                Place::Known => {
                    let said = hints.iter().copied().chain(self.said(&client));
                    let said = said.filter(|address| self.reach.dials_hearsay(*address));
                    Ok(self.worked(&client).into_iter().chain(said).collect())
                }
                Place::Card => self.on_card(client).await.map(|mut said| {
                    said.retain(|address| self.reach.dials_hearsay(*address));
                    said
                }),
                Place::Lookup => self.in_lookup(client).await,
            };
            let found: Vec<SocketAddr> = match found {
                Ok(found) => found,
                Err(error) => {
                    failure = error.into();
                    continue;
                }
            };
            let mut fresh: Vec<SocketAddr> = Vec::new();
            for address in found {
                let is_new = !tried.contains(&address) && !fresh.contains(&address);
                if is_new && self.reach.dials(address) && fresh.len() < ADDRESSES_TRIED_MAX {
                    fresh.push(address);
                }
            }
            tried.extend_from_slice(&fresh);
            match self.first_to_answer(client, fresh).await {
                Some(Ok(address)) => return Ok(address),
                Some(Err(error)) => failure = ContactError::NoAnswer(error),
                None => {}
            }
        }
        Err(failure)
    }

    /// Greets all of `addresses`, each a moment after the one before. `None` when there are none.
    async fn first_to_answer(
        &self,
        client: ClientId,
        addresses: Vec<SocketAddr>,
    ) -> Option<Result<SocketAddr, CallError>> {
        let mut greeted = JoinSet::new();
        for (n, address) in (0u32..).zip(addresses) {
            let contacts = self.clone();
            greeted.spawn(async move {
                tokio::time::sleep(NEXT_AFTER * n).await;
                (address, contacts.hello(client, address).await)
            });
        }
        let mut failure = None;
        while let Some(done) = greeted.join_next().await {
            match done {
                Ok((address, Ok(()))) => return Some(Ok(address)),
                Ok((_, Err(error))) => failure = Some(Err(error)),
                Err(_) => {}
            }
        }
        failure
    }

    /// Where `client` has answered before, the latest first.
    fn worked(&self, client: &ClientId) -> Vec<SocketAddr> {
        let worked = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        worked.get(client).cloned().unwrap_or_default()
    }

    /// Whether `client` was not looked for in the DHT within the last minute; from now on it was.
    fn may_search(&self, client: ClientId) -> bool {
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        if searched.len() >= CONTACTS_MAX {
            searched.retain(|_, at| at.elapsed() < SEEK_AGAIN_AFTER);
        }
        let is_due = searched.get(&client).is_none_or(|at| at.elapsed() >= SEEK_AGAIN_AFTER);
        let may = is_due && searched.len() < CONTACTS_MAX;
        if may {
            searched.insert(client, Instant::now());
        }
        may
    }

    /// All the addresses of a client that are known here, those at which it answered first.
    pub(in crate::node) fn in_order(&self, client: &ClientId, named: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        for address in self.known(client).into_iter().chain(named) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}
