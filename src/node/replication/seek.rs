//! Meeting nodes of this network: whoever has announced its name in the DHT is greeted.

use super::{
    Message,
    limits::{GREETED_AT_ONCE, SEEK_PAUSES},
};
use crate::{
    dht::Dht,
    grenache::client::Client,
    identity::{KeyPair, Network},
    node::{
        clock,
        contacts::Contacts,
        greeting::{addresses, greet},
    },
};
use std::net::SocketAddr;
use tokio::{sync::mpsc, task::JoinSet};

#[derive(Clone)]
pub(super) struct Seeker {
    pub dht: Dht,
    pub client: Client,
    pub contacts: Contacts,
    pub key: KeyPair,
    pub network: Network,
    pub inbox: mpsc::Sender<Message>,
}

/// What a search showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Sought {
    /// Whether there was a DHT to ask.
    pub in_dht: bool,
    /// Whether this node itself answered at one of the addresses.
    pub met_self: bool,
    /// The addresses of the last round at which nobody of the network answered, with what was tried.
    pub silent: Vec<(SocketAddr, String)>,
}

enum Met {
    Other,
    Myself,
    Nobody(SocketAddr, String),
}

impl Seeker {
    /// Looks until somebody was met, or for some rounds.
    pub(super) async fn run(self) -> Sought {
        let mut sought = Sought::default();
        for pause in SEEK_PAUSES {
            tokio::time::sleep(pause).await;
            // Nobody there, or no DHT yet: the next round tries again.
            let found = addresses(&self.dht, &self.network).await.unwrap_or_default();
            // Those that this node does not connect to take no place of others.
            let found = self.contacts.reach().sort(found);
            sought.in_dht |= self.dht.status().nodes_good > 0;
            let mut greetings = JoinSet::new();
            for address in found.into_iter().take(GREETED_AT_ONCE) {
                greetings.spawn(self.clone().meet(address));
            }
            sought.silent.clear();
            let mut others = 0;
            for met in greetings.join_all().await {
                match met {
                    Met::Other => others += 1,
                    Met::Myself => sought.met_self = true,
                    Met::Nobody(address, why) => sought.silent.push((address, why)),
                }
            }
            if others > 0 {
                break;
            }
        }
        sought
    }

    async fn meet(self, address: SocketAddr) -> Met {
        match greet(&self.client, &self.key, &self.network, address, clock::now).await {
            Ok(met) if met.client_id == self.key.public() => Met::Myself,
            Ok(met) => {
                self.contacts.seen(met.client_id, address);
                if let Some(seen) = met.seen {
                    self.contacts.settle(met.client_id, address, seen).await;
                }
                // A full inbox is no place for more nodes.
                _ = self.inbox.try_send(Message::Met { client: met.client_id, addresses: vec![address] });
                Met::Other
            }
            Err(error) => {
                tracing::debug!(%address, %error, "nobody was met");
                Met::Nobody(address, error.to_string())
            }
        }
    }
}
