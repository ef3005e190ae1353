//! Meeting the others: the nodes of a network announce its name in the DHT, and whoever wants to know them looks it up, asks
//! each address who is there, and checks the answer by a signed hello.
//!
//! A node greets a few when it starts, so that a first bid and the owner's first look find peers. [`greet`] is for whoever is
//! no node: it also tells how far apart the clocks are, which [`crate::grenache::envelope`] bounds.

use super::{
    clock,
    contacts::{Contacts, hello},
};
use crate::{
    dht::{Dht, DhtError},
    grenache::{
        client::{CallError, Client},
        envelope::{ReplyError, SignedRequest},
    },
    identity::{ClientId, KeyPair, Network},
    time::UnixMillis,
};
use std::{collections::HashSet, net::SocketAddr, time::Duration};

/// Nodes that are enough to know without need: from here on others come by their offers.
const PEERS_WANTED: usize = 3;
/// Addresses greeted in one round, of the at most 100 that a lookup gives in random order.
const GREETED_AT_ONCE: usize = 8;
/// The first round, when the DHT has usually been joined, and the shortest pause before the next one.
const GREET_FIRST: Duration = Duration::from_secs(2);
/// The longest pause: somebody who was alone is found within it.
const GREET_AGAIN_MAX: Duration = Duration::from_mins(2);

/// A node that answered, and what its signed answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Who.
    pub client_id: ClientId,
    /// Where.
    pub address: SocketAddr,
    /// Its clock less ours, in milliseconds, as exactly as half the way there and back.
    pub ahead_ms: i64,
}

/// Where nodes of `network` say that they are: hints from strangers.
pub async fn addresses(dht: &Dht, network: &Network) -> Result<Vec<SocketAddr>, DhtError> {
    dht.lookup(network.as_str().as_bytes()).await
}

/// Asks who is at `address`, and has it prove that. `now` is the caller's clock, asked before and after.
pub async fn greet(
    client: &Client,
    key: &KeyPair,
    network: &Network,
    address: SocketAddr,
    now: impl Fn() -> UnixMillis,
) -> Result<Greeted, CallError> {
    let client_id = who_is_at(client, key, network, address, now()).await?;
    let asked_at = now();
    let reply = hello(client, key, network, client_id, address, &now).await?;
    let middle = i128::midpoint(i128::from(asked_at.0), i128::from(now().0));
    let ahead_ms = i64::try_from(i128::from(reply.at.0) - middle).unwrap_or(i64::MAX);
    Ok(Greeted { client_id, address, ahead_ms })
}

/// Who says that it is at `address`. A node names itself when it is asked by another's id; the hello then proves it.
async fn who_is_at(
    client: &Client,
    key: &KeyPair,
    network: &Network,
    address: SocketAddr,
    now: UnixMillis,
) -> Result<ClientId, CallError> {
    let request = SignedRequest::sign(network, key, key.public(), "hello", "{}".into(), now)?;
    match client.call(address, network.as_str(), &request).await {
        // Signed for the very id that it was asked by: the caller itself.
        Ok(_) => Ok(key.public()),
        Err(CallError::NotBelieved { reason: ReplyError::WrongSigner { found }, .. }) => Ok(found),
        Err(error) => Err(error),
    }
}

/// Greets others until enough are known, and again when they are no longer.
pub(super) struct Greeter {
    pub dht: Dht,
    pub client: Client,
    pub contacts: Contacts,
    pub key: KeyPair,
    pub network: Network,
}

impl Greeter {
    pub(super) async fn run(self) {
        let mut pause = GREET_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(GREET_AGAIN_MAX);
            if self.contacts.all().len() < PEERS_WANTED {
                self.round().await;
            }
        }
    }

    async fn round(&self) {
        let known: HashSet<SocketAddr> =
            self.contacts.all().into_iter().map(|(_, contact)| contact.address).collect();
        // Nobody there, or no DHT yet: the next round tries again.
        let found = addresses(&self.dht, &self.network).await.unwrap_or_default();
        for address in found.into_iter().filter(|address| !known.contains(address)).take(GREETED_AT_ONCE) {
            match greet(&self.client, &self.key, &self.network, address, clock::now).await {
                Ok(met) if met.client_id != self.key.public() => self.contacts.seen(met.client_id, address),
                Ok(_) => {}
                Err(error) => tracing::debug!(%address, %error, "nobody was met"),
            }
        }
    }
}
