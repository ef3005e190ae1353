//! Where the other trading nodes are.
//!
//! A client is found by the addresses in its newest head, by the signed item under its own key, which holds them too, and failing
//! that by looking its id up as a Grenache service. All are hints from strangers: an address counts only once the node there has signed a *hello*, which
//! covers the caller's nonce, both ids and the network. What was checked is remembered until it fails.

mod call;

pub(super) use call::Search;

use super::{
    clock,
    reach::{Private, Whereabouts},
};
use crate::{
    bep44::{VerifiedItem, bdecode_bytes, bencode_bytes},
    dht::{Dht, DhtError, GetMode, Item},
    grenache::{
        caller::RequestError,
        client::{CallError, Client},
    },
    identity::{ClientId, KeyPair, Network, encode_hex},
    metrics::{Counter, Page},
    replication::core::limits::MAKERS_MAX,
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// The command that checks an address.
pub(super) const HELLO: &str = "hello";
/// Contacts remembered; beyond it the one that was silent longest is forgotten.
const CONTACTS_MAX: usize = 10_000;
/// How often a client that no bid needs yet is looked for.
const SEEK_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Clients looked for at the same time without need.
const SEEKS_MAX: usize = 8;
/// Addresses tried for one client: more are somebody's attempt to send us around.
const ADDRESSES_TRIED_MAX: usize = 8;
/// Addresses that a node tells others, in its head, its card and its answer to a hello.
pub const ADDRESSES_MAX: usize = crate::reach::ADDRESSES_MAX;
/// The body of a hello.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// 32 hex digits that the caller chose.
    pub nonce: String,
    /// The caller is about to join, and asks where the DHT is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub join: bool,
}

/// The answer to a hello, and the value of the item under a client's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// Format: 1.
    pub v: u8,
    /// The market.
    pub network: Network,
    /// Always `node`.
    pub kind: String,
    /// Who.
    pub client_id: ClientId,
    /// Where its RPC is.
    pub addresses: Vec<SocketAddr>,
    /// The caller's nonce, in an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// From where the caller asked, in an answer: in a container it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<IpAddr>,
    /// DHT nodes to start from, in an answer to who joins: the answering node's own as it is bound, then some that it knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dht: Vec<SocketAddr>,
}

impl Card {
    pub(super) fn new(network: &Network, client_id: ClientId, addresses: &[SocketAddr]) -> Self {
        let addresses = addresses.iter().copied().take(ADDRESSES_MAX).collect();
        let (network, kind) = (network.clone(), "node".into());
        Self { v: 1, network, kind, client_id, addresses, nonce: None, seen: None, dht: Vec::new() }
    }

    /// As the mutable item under the client key.
    pub(super) fn item(&self, key: &KeyPair, now: UnixMillis) -> Option<VerifiedItem> {
        let json = serde_json::to_vec(self).ok()?;
        VerifiedItem::sign(key, b"", i64::try_from(now.0).ok()?, bencode_bytes(&json)).ok()
    }

    fn read(v: &[u8], network: &Network, client: &ClientId) -> Option<Self> {
        let card: Self = serde_json::from_slice(bdecode_bytes(v)?).ok()?;
        (card.v == 1 && card.kind == "node" && card.network == *network && card.client_id == *client)
            .then_some(card)
    }
}

/// Why a client was not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContactError {
    #[error("the DHT cannot be asked: {0}")]
    Dht(#[from] DhtError),
    #[error("the DHT knows no address of it")]
    Unknown,
    #[error("none of its addresses answered: {0}")]
    NoAnswer(CallError),
}

/// Where addresses are found, the quickest first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Here: where it answered before, or where it signs or others say that it is.
    Known,
    Card,
    Lookup,
}

/// A checked address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    pub address: SocketAddr,
    pub seen_at: UnixMillis,
}

/// Finds clients and remembers them.
#[derive(Clone)]
pub(super) struct Contacts {
    dht: Dht,
    client: Client,
    key: KeyPair,
    network: Network,
    known: Arc<Mutex<HashMap<ClientId, Contact>>>,
    seeks: Arc<Semaphore>,
    sought: Arc<Mutex<HashMap<ClientId, Instant>>>,
    /// Where makers say in their heads that they are.
    said: Arc<Mutex<HashMap<ClientId, Vec<SocketAddr>>>>,
    /// Where clients have answered, the latest first, though they may not answer there now.
    worked: Arc<Mutex<HashMap<ClientId, Vec<SocketAddr>>>>,
    /// When clients were looked for in the DHT at leisure.
    searched: Arc<Mutex<HashMap<ClientId, Instant>>>,
    /// Whom this node may dial.
    reach: Private,
    whereabouts: Whereabouts,
    hits: Arc<Hits>,
}

/// How often bounds were reached.
#[derive(Debug, Default)]
struct Hits {
    contacts: Counter,
    seeks: Counter,
}

impl Contacts {
    pub(super) fn new(
        dht: Dht,
        client: Client,
        key: KeyPair,
        network: Network,
        reach: Private,
        whereabouts: Whereabouts,
    ) -> Self {
        Self {
            dht,
            client,
            key,
            network,
            known: Arc::default(),
            seeks: Arc::new(Semaphore::new(SEEKS_MAX)),
            sought: Arc::default(),
            said: Arc::default(),
            worked: Arc::default(),
            searched: Arc::default(),
            reach,
            whereabouts,
            hits: Arc::default(),
        }
    }

    /// Writes down how many there are, and how often bounds were reached.
    pub(super) fn write(&self, page: &mut Page) {
        page.gauge("vintner_peers", "Trading nodes whose address was checked by a hello")
            .is(self.lock().len());
        page.bound("contacts", self.hits.contacts.get());
        page.bound("seeks", self.hits.seeks.get());
    }

    /// All contacts, the latest first.
    pub(super) fn all(&self) -> Vec<(ClientId, Contact)> {
        let mut all: Vec<_> = self.lock().iter().map(|(id, contact)| (*id, *contact)).collect();
        all.sort_by_key(|(_, contact)| std::cmp::Reverse(contact.seen_at));
        all
    }

    /// The remembered address of `client`.
    pub(super) fn known(&self, client: &ClientId) -> Option<SocketAddr> {
        self.lock().get(client).map(|contact| contact.address)
    }

    /// Notes where a maker signs that it is. Not checked until somebody wants to talk to it.
    pub(super) fn learn(&self, client: ClientId, addresses: &[SocketAddr]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAKERS_MAX || said.contains_key(&client) {
            said.insert(client, addresses.to_vec());
        }
    }

    /// Everybody whose head was heard.
    pub(super) fn told_of(&self) -> Vec<ClientId> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn said(&self, client: &ClientId) -> Vec<SocketAddr> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(client).cloned().unwrap_or_default()
    }

    /// A checked address of `client`: the remembered one, or one found now.
    pub(super) async fn find(&self, client: ClientId) -> Result<SocketAddr, ContactError> {
        match self.known(&client) {
            Some(address) => Ok(address),
            None => self.find_anew(client, &[], Vec::new(), Search::Thorough).await,
        }
    }

    /// Looks for `client` in the background, so that a first bid need not. Does nothing when many are looked for already.
    pub(super) fn seek(&self, client: ClientId) {
        if self.lock().contains_key(&client) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.seeks).try_acquire_owned() else { return self.hits.seeks.inc() };
        let mut sought = self.sought.lock().unwrap_or_else(PoisonError::into_inner);
        sought.retain(|_, at| at.elapsed() < SEEK_AGAIN_AFTER);
        if sought.len() < CONTACTS_MAX && !sought.contains_key(&client) {
            sought.insert(client, Instant::now());
            let contacts = self.clone();
            tokio::spawn(async move {
                if let Err(error) = contacts.find(client).await {
                    tracing::debug!(%client, %error, "a maker was not found yet");
                }
                drop(turn);
            });
        }
    }

    /// Forgets an address that failed.
    pub(super) fn forget(&self, client: ClientId, address: SocketAddr) {
        let mut known = self.lock();
        if known.get(&client).is_some_and(|contact| contact.address == address) {
            known.remove(&client);
        }
    }

    /// Notes that `client` has answered at `address` just now.
    pub(super) fn seen(&self, client: ClientId, address: SocketAddr) {
        let mut known = self.lock();
        if known.len() >= CONTACTS_MAX && !known.contains_key(&client) {
            self.hits.contacts.inc();
            let silent = known.iter().min_by_key(|(_, contact)| contact.seen_at).map(|(id, _)| *id);
            silent.and_then(|id| known.remove(&id));
        }
        known.insert(client, Contact { address, seen_at: clock::now() });
        drop(known);
        self.has_worked(client, address);
    }

    /// Which addresses of others this node connects to, and which were found that it does not.
    pub(super) fn reach(&self) -> &Private {
        &self.reach
    }

    /// Says from where this node was asked, and waits a moment for what follows from it.
    pub(super) async fn settle(&self, client: ClientId, address: SocketAddr, seen: IpAddr) {
        self.whereabouts.settle(client, address, seen).await;
    }

    fn has_worked(&self, client: ClientId, address: SocketAddr) {
        let mut worked = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        if worked.get(&client).is_some_and(|worked| worked.first() == Some(&address)) {
            return;
        }
        if worked.len() >= CONTACTS_MAX && !worked.contains_key(&client) {
            // One by chance: the map's own order is one.
            let some = worked.keys().next().copied();
            some.and_then(|some| worked.remove(&some));
        }
        let of_client = worked.entry(client).or_default();
        of_client.retain(|at| *at != address);
        of_client.insert(0, address);
        of_client.truncate(ADDRESSES_MAX);
    }

    async fn on_card(&self, client: ClientId) -> Result<Vec<SocketAddr>, DhtError> {
        let found = self.dht.get(client.target(), b"", GetMode::Network).await?;
        let card = found.and_then(|found| match found.item {
            Item::Mutable(item) if item.k == client => Card::read(&item.v, &self.network, &client),
            _ => None,
        });
        Ok(card.map(|card| card.addresses).unwrap_or_default())
    }

    async fn in_lookup(&self, client: ClientId) -> Result<Vec<SocketAddr>, DhtError> {
        self.dht.lookup(client.to_string().as_bytes()).await
    }

    /// Checks that `client` is at `address`.
    async fn hello(&self, client: ClientId, address: SocketAddr) -> Result<(), CallError> {
        let (_, seen) = hello(&self.client, &self.key, &self.network, client, address, clock::now).await?;
        self.seen(client, address);
        if let Some(seen) = seen {
            self.whereabouts.seen(client, address, seen);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, Contact>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has whoever is at `address` prove that it is `client`, on `network`. Gives when it answered, and from where it was asked as it
/// says.
pub(super) async fn hello(
    http: &Client,
    key: &KeyPair,
    network: &Network,
    client: ClientId,
    address: SocketAddr,
    now: impl Fn() -> UnixMillis,
) -> Result<(UnixMillis, Option<IpAddr>), CallError> {
    let (at, card) = card_of(http, key, network, client, address, false, now).await?;
    Ok((at, card.seen))
}

/// As [`hello`], with all that the answer says; `join`: also where the DHT is.
pub(super) async fn card_of(
    http: &Client,
    key: &KeyPair,
    network: &Network,
    client: ClientId,
    address: SocketAddr,
    join: bool,
    now: impl Fn() -> UnixMillis,
) -> Result<(UnixMillis, Card), CallError> {
    let no_nonce = || RequestError::Unsendable("no randomness for a nonce".into());
    let hello = Hello { nonce: nonce().ok_or_else(no_nonce)?, join };
    card_for(http, key, network, client, address, hello, now).await
}

/// The answer to this very hello.
pub(super) async fn card_for(
    http: &Client,
    key: &KeyPair,
    network: &Network,
    client: ClientId,
    address: SocketAddr,
    hello: Hello,
    now: impl Fn() -> UnixMillis,
) -> Result<(UnixMillis, Card), CallError> {
    let bad = |reason: &str| CallError::from(RequestError::NotAReply { address, reason: reason.into() });
    let body = serde_json::to_string(&hello).map_err(|e| bad(&e.to_string()))?;
    let reply = http.call_signed(address, key, client, HELLO, &body, now).await?;
    let card = reply.outcome.as_ref().ok().and_then(|body| serde_json::from_str::<Card>(body).ok());
    let card = card.ok_or_else(|| bad("it refused the hello"))?;
    if card.nonce.as_deref() != Some(&hello.nonce) || card.client_id != client || card.network != *network {
        return Err(bad("its hello is for another nonce, client or network"));
    }
    Ok((reply.at, card))
}

/// 32 hex digits that nobody can guess.
pub(super) fn nonce() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(encode_hex(&bytes))
}
