//! Dialing back: a node asks another to connect to it, at the address that the other sees and the port that it names.
//!
//! Who is asked makes one connection, to the asker's own address and nowhere else, and has whoever is there prove by a signed hello
//! that it is the asker. It tells where it saw the asker and whether that worked, and not why not: nobody learns about ports of
//! others by it. [`crate::reach::guard`] says how often it does so. The hello carries a nonce that the asker chose, so that the asker
//! knows whether it came.

use super::super::{
    clock,
    contacts::{Contacts, Hello, card_for, nonce},
};
use super::private::is_of_this_machine;
use crate::{
    grenache::{
        address::AddressPolicy,
        client::Client,
        envelope::{Outcome, RpcRefusal, VerifiedRequest},
    },
    identity::{ClientId, KeyPair, Network},
    metrics::Counter,
    reach::{DialedBack, Peer, guard::Guard},
    time::Now,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// The command.
pub(in crate::node) const DIAL_BACK: &str = "dial_back";
/// How long the asker's answer is waited for: its word is waited for a little longer.
pub(in crate::node) const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Dials at the same time.
const DIALS_MAX: usize = 16;
/// The longest nonce that one may ask for.
const NONCE_BYTES_MAX: usize = 64;
/// Hellos that this node waits for.
const EXPECTED_MAX: usize = 16;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Please {
    port: u16,
    nonce: String,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    seen: IpAddr,
    reached: bool,
}

/// Hellos that were asked for: the nonce, from whom, and whether it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected(Arc<Mutex<HashMap<String, (ClientId, bool)>>>);

impl Expected {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (ClientId, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, nonce: &str, from: ClientId) -> bool {
        let mut expected = self.lock();
        let has_room = expected.len() < EXPECTED_MAX;
        if has_room {
            expected.insert(nonce.to_owned(), (from, false));
        }
        has_room
    }

    pub(super) fn came(&self, by: ClientId, nonce: &str) {
        if let Some((from, came)) = self.lock().get_mut(nonce) {
            *came |= *from == by;
        }
    }

    fn take(&self, nonce: &str) -> bool {
        self.lock().remove(nonce).is_some_and(|(_, came)| came)
    }
}

/// Asks `peer` to dial back.
pub(super) async fn ask(
    client: Client,
    key: KeyPair,
    expected: Expected,
    peer: Peer,
    port: u16,
) -> (Peer, Option<DialedBack>) {
    let Some(nonce) = nonce().filter(|nonce| expected.expect(nonce, peer.client)) else {
        return (peer, None);
    };
    let Ok(body) = serde_json::to_string(&Please { port, nonce: nonce.clone() }) else { return (peer, None) };
    let reply = client.call_signed(peer.address, &key, peer.client, DIAL_BACK, &body, clock::now).await;
    let came = expected.take(&nonce);
    let said = reply.ok().and_then(|reply| reply.outcome.ok());
    let done = said.and_then(|body| serde_json::from_str::<Done>(&body).ok());
    tracing::debug!(client = %peer.client, address = %peer.address, ?done, came, "asked to dial back");
    // Its word alone is none: the hello must have come. Where it was dialed is its word all the same.
    let word = |Done { seen, .. }| DialedBack {
        seen,
        own: is_of_this_machine(SocketAddr::new(seen, port)),
        reached: came,
    };
    (peer, done.map(word))
}

/// Dials back those who ask. Clones share it.
#[derive(Clone)]
pub(in crate::node) struct Dialer {
    client: Client,
    key: KeyPair,
    network: Network,
    policy: AddressPolicy,
    contacts: Contacts,
    guard: Arc<Mutex<Guard>>,
    turns: Arc<Semaphore>,
    started: Instant,
    /// Those who were told to come later.
    pub(in crate::node) refused: Arc<Counter>,
}

impl Dialer {
    /// `client` gives up after [`DIAL_TIMEOUT`].
    pub(in crate::node) fn new(
        client: Client,
        key: KeyPair,
        network: Network,
        policy: AddressPolicy,
        contacts: Contacts,
    ) -> Self {
        let (guard, turns) = (Arc::default(), Arc::new(Semaphore::new(DIALS_MAX)));
        let (started, refused) = (Instant::now(), Arc::default());
        Self { client, key, network, policy, contacts, guard, turns, started, refused }
    }

    /// Answers one who asks from `from`.
    pub(in crate::node) async fn answer(self, request: VerifiedRequest, from: SocketAddr) -> Outcome {
        let malformed = |detail: &str| RpcRefusal::new("malformed", detail, false);
        let Please { port, nonce } = serde_json::from_str(request.body())
            .map_err(|_| malformed("what to dial back is {\"port\": 1337, \"nonce\": \"...\"}"))?;
        if port == 0 || nonce.len() > NONCE_BYTES_MAX {
            return Err(malformed("a port is 1 to 65535, and a nonce has at most 64 bytes"));
        }
        let (asker, ip) = (request.from(), from.ip().to_canonical());
        let address = SocketAddr::new(ip, port);
        if asker == self.key.public() || !self.policy.allows(address) {
            return Err(malformed("this node does not dial back to addresses in that range"));
        }
        let now = Now::from_start(self.started.elapsed());
        let later = |detail: &str| {
            self.refused.inc();
            RpcRefusal::new("slow_down", detail, true)
        };
        let Ok(turn) = self.turns.try_acquire() else { return Err(later("others are being dialed back")) };
        let admitted = self.guard.lock().unwrap_or_else(PoisonError::into_inner).admit(now, asker, ip);
        if !admitted {
            return Err(later("this node was asked to dial back a moment ago; ask again in a minute"));
        }
        let hello = Hello { nonce, join: false };
        let card = card_for(&self.client, &self.key, &self.network, asker, address, hello, clock::now).await;
        drop(turn);
        let reached = card.is_ok();
        if reached {
            self.contacts.seen(asker, address);
        }
        serde_json::to_string(&Done { seen: ip, reached }).map_err(|e| malformed(&e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;

    #[test]
    fn only_the_hello_of_the_one_who_was_asked_counts_and_once() {
        let (expected, [asked, other]) = (Expected::default(), [1, 2].map(|n| PublicKey([n; 32])));
        assert!(expected.expect("a", asked) && expected.expect("b", asked));
        expected.came(other, "a");
        expected.came(asked, "c");
        assert!(!expected.take("a"), "another one said it");
        expected.came(asked, "b");
        assert!(expected.take("b") && !expected.take("b"));
        for n in 0..100 {
            expected.expect(&n.to_string(), asked);
        }
        assert_eq!(expected.lock().len(), EXPECTED_MAX);
    }
}
