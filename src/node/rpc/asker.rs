//! Puts this node's bids to their makers.

use super::{OFFER_BID, OfferBid, turns::Turns};
use crate::{
    exchange::{BidAnswer, Heard, Turn},
    grenache::client::Client,
    identity::{ClientId, Network, Signed},
    market::Bid,
    node::{
        contacts::{ContactError, Contacts, Search},
        exchange::Exchange,
    },
    workers::Workers,
};
use std::collections::HashMap;
use tokio::{
    sync::mpsc,
    task::{Id, JoinError, JoinSet},
};

/// Asks makers about bids, and reports what they say.
#[derive(Clone)]
pub(in crate::node) struct Asker {
    pub exchange: Exchange,
    pub contacts: Contacts,
    pub client: Client,
    pub workers: Workers,
}

impl Asker {
    /// Works off the core's questions until the core is gone.
    pub(in crate::node) async fn run(self, mut asks: mpsc::UnboundedReceiver<(Signed<Bid>, Turn)>) {
        let (mut turns, mut under_way) = (Turns::default(), UnderWay::default());
        loop {
            while let Some((maker, bid)) = turns.next() {
                let asker = self.clone();
                under_way.add(maker, async move {
                    let heard = asker.ask(&bid).await;
                    let answered = heard.is_some();
                    asker.exchange.bid_answered(bid.id, heard).await;
                    answered
                });
            }
            tokio::select! {
                asked = asks.recv() => {
                    let Some((bid, turn)) = asked else { return };
                    turns.add(bid.maker, turn, bid);
                }
                (maker, answered) = under_way.ended() => turns.ended(maker, answered),
            }
        }
    }

    /// One attempt, at the address that worked last, else at one of the others.
    async fn ask(&self, bid: &Signed<Bid>) -> Option<Heard> {
        let body = serde_json::to_string(&OfferBid { bid: bid.source().clone() }).ok()?;
        let maker = bid.maker;
        let called = self.contacts.call(&self.client, maker, &[], (OFFER_BID, &body), Search::Thorough).await;
        match called.map(|reply| reply.outcome) {
            Ok(Ok(answer)) => self.read_answer(maker, answer).await,
            Ok(Err(refusal)) => {
                tracing::info!(bid = %bid.id, code = refusal.code, detail = refusal.detail, "the maker does not decide now");
                None
            }
            Err(error @ ContactError::NoAnswer(_)) => {
                tracing::info!(bid = %bid.id, %maker, %error, "no answer; asked again later");
                None
            }
            Err(error) => {
                tracing::info!(bid = %bid.id, %maker, %error, "the maker cannot be reached; asked again later");
                None
            }
        }
    }

    /// A maker's signed reply is believed as far as the trade in it is signed by the maker too.
    async fn read_answer(&self, maker: ClientId, answer: String) -> Option<Heard> {
        let network: Network = self.exchange.network().clone();
        let answer: BidAnswer = serde_json::from_str(&answer).ok()?;
        let heard = self.workers.run(move || answer.verify(&network)).await.ok()?.ok()?;
        let is_its_own = !matches!(&heard, Heard::Accepted(trade) if trade.maker != maker);
        is_its_own.then_some(heard)
    }
}

/// Questions that are on their way, and to whom.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<bool>,
    makers: HashMap<Id, ClientId>,
}

impl UnderWay {
    fn add(&mut self, maker: ClientId, question: impl Future<Output = bool> + Send + 'static) {
        let id = self.tasks.spawn(question).id();
        self.makers.insert(id, maker);
    }

    /// The next that ends, and whether its maker answered. Pending while there is none.
    async fn ended(&mut self) -> (ClientId, bool) {
        loop {
            let ended: Result<(Id, bool), JoinError> = match self.tasks.join_next_with_id().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            };
            let (id, answered) = ended.unwrap_or_else(|error| (error.id(), false));
            if let Some(maker) = self.makers.remove(&id) {
                return (maker, answered);
            }
        }
    }
}
