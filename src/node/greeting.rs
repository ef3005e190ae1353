//! Meeting the others: the nodes of a network announce its name in the DHT, and whoever wants to know them looks it up, asks
//! each address who is there, and checks the answer by a signed hello.
//!
//! A node greets a few when it starts and when it is lonely. [`greet`] also tells how far apart the clocks are, which
//! [`crate::grenache::envelope`] bounds.

use super::contacts::{card_of, hello};
use crate::{
    dht::{Dht, DhtError},
    grenache::{
        address::AddressPolicy,
        caller::{Caller, CallerConfig, RequestError, SetupError},
        client::{CallError, Client, ClientConfig},
        envelope::{ReplyError, SignedRequest},
        server::{WHO, Who},
    },
    identity::{ClientId, KeyPair, Network},
    time::UnixMillis,
    workers::Workers,
};
use serde_json::value::RawValue;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How long a node that is asked for an introduction may take for each of its two answers.
const INTRODUCTION_WITHIN: Duration = Duration::from_secs(5);

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

/// What a node tells one that wants to join its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The market.
    pub network: Network,
    /// Who told it.
    pub client_id: ClientId,
    /// Where it was asked.
    pub address: SocketAddr,
    /// DHT nodes to start from as the node told them; its own may say that it is bound to every interface.
    pub dht: Vec<SocketAddr>,
}

/// Why there is no introduction.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// What asks could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The system gave no threads or random numbers.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
    /// No answer.
    #[error(transparent)]
    NoReply(#[from] RequestError),
    /// Something answers, and it is not a node of this kind.
    #[error("{0} does not answer as a node's RPC does")]
    NotANode(SocketAddr),
    /// It does not prove what it says.
    #[error(transparent)]
    NotProven(#[from] CallError),
}

/// Asks the node whose RPC is at `address` which network it is of and where its DHT is. What it says is signed by it; that it is the
/// node that was meant is for the caller to know, who chose the address.
pub async fn introduction(
    address: SocketAddr,
    now: impl Fn() -> UnixMillis,
) -> Result<Introduction, IntroductionError> {
    let policy = AddressPolicy { allow_private: true };
    let caller =
        Caller::new(CallerConfig { policy, timeout: INTRODUCTION_WITHIN, ..CallerConfig::default() })?;
    let said = caller.request(address, WHO, RawValue::NULL).await?;
    let Ok(Who { network, client_id }) = serde_json::from_str(said.result.get()) else {
        return Err(IntroductionError::NotANode(address));
    };
    let config = ClientConfig { network: network.clone(), policy, timeout: INTRODUCTION_WITHIN };
    let client = Client::new(config, Workers::start(1)?)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let key = KeyPair::from_seed(&seed);
    let (_, card) = card_of(&client, &key, &network, client_id, address, true, now).await?;
    Ok(Introduction { network, client_id, address, dht: card.dht })
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
