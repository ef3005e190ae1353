//! Meeting the others: the nodes of a network announce its name in the DHT, and whoever wants to know them looks it up, asks
//! each address who is there, and checks the answer by a signed hello.
//!
//! A node greets a few when it starts and when it is lonely. [`greet`] also tells how far apart the clocks are, which
//! [`crate::grenache::envelope`] bounds.

use super::contacts::hello;
use crate::{
    dht::{Dht, DhtError},
    grenache::{
        client::{CallError, Client},
        envelope::{ReplyError, SignedRequest},
    },
    identity::{ClientId, KeyPair, Network},
    time::UnixMillis,
};
use std::net::{IpAddr, SocketAddr};

/// A node that answered, and what its signed answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Who.
    pub client_id: ClientId,
    /// Where.
    pub address: SocketAddr,
    /// Its clock less ours, in milliseconds, as exactly as half the way there and back.
    pub ahead_ms: i64,
    /// From where it was asked, as it says.
    pub seen: Option<IpAddr>,
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
    let (at, seen) = hello(client, key, network, client_id, address, &now).await?;
    let middle = i128::midpoint(i128::from(asked_at.0), i128::from(now().0));
    let ahead_ms = i64::try_from(i128::from(at.0) - middle).unwrap_or(i64::MAX);
    Ok(Greeted { client_id, address, ahead_ms, seen })
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
