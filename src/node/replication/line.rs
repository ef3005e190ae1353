//! Signed requests to a node whose addresses are hints.

use super::limits::ADDRESSES_TRIED_MAX;
use crate::{
    grenache::{client::Client, envelope::RpcRefusal},
    identity::{ClientId, KeyPair},
    node::{clock, contacts::Contacts},
};
use std::net::SocketAddr;

/// Calls other nodes; clones share connections.
#[derive(Clone)]
pub(super) struct Line {
    pub client: Client,
    pub contacts: Contacts,
    pub key: KeyPair,
}

impl Line {
    /// What `to` answers, at the first of its addresses that does. `None` when none does.
    pub(super) async fn call(
        &self,
        to: ClientId,
        addresses: &[SocketAddr],
        cmd: &str,
        body: &str,
    ) -> Option<Result<String, RpcRefusal>> {
        let known = match self.contacts.known(&to) {
            // It did not say where it is.
            None if addresses.is_empty() => self.contacts.find(to).await.ok(),
            known => known,
        };
        let others = addresses.iter().copied().filter(|address| known != Some(*address));
        for address in known.into_iter().chain(others).take(ADDRESSES_TRIED_MAX) {
            match self.client.call_signed(address, &self.key, to, cmd, body, clock::now).await {
                Ok(reply) => {
                    self.contacts.seen(to, address);
                    return Some(reply.outcome);
                }
                Err(error) => {
                    tracing::debug!(%to, %address, cmd, %error, "no answer");
                    self.contacts.forget(to, address);
                }
            }
        }
        None
    }
}
