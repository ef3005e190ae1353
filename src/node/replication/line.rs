//! Signed requests to a node whose addresses are hints.

use crate::{
    grenache::{client::Client, envelope::RpcRefusal},
    identity::ClientId,
    node::contacts::{Contacts, Search},
};
use std::net::SocketAddr;

/// Calls other nodes; clones share connections.
#[derive(Clone)]
pub(super) struct Line {
    pub client: Client,
    pub contacts: Contacts,
}

impl Line {
    /// What `to` answers, at the first of its addresses that does: the one that worked last, then all the others. `None` when none
    /// does.
    pub(super) async fn call(
        &self,
        to: ClientId,
        addresses: &[SocketAddr],
        cmd: &str,
        body: &str,
    ) -> Option<Result<String, RpcRefusal>> {
        let called = self.contacts.call(&self.client, to, addresses, (cmd, body), Search::AtLeisure).await;
        match called {
            Ok(reply) => Some(reply.outcome),
            Err(error) => {
                tracing::debug!(%to, cmd, %error, "no answer");
                None
            }
        }
    }
}
