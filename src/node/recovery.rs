//! Getting back what was lost with a store: every node that is known is asked for the trades that it has with this one.
//!
//! The command `trades` carries it, signed like every other, so a node is told of its own trades only: a page at a time, by their
//! ids, and each page is charged to its asker like a question of replication. What comes is checked like every trade. Asking twice
//! changes nothing more.

mod order;

use super::{
    clock,
    contacts::{Contacts, Search},
    exchange::Exchange,
    greeting::{addresses, greet},
    replication::Replication,
    status::ReplicaView,
};
use crate::{
    dht::Dht,
    exchange::{Closed, CommandError, Done, State, limits::TRADES_MAX},
    grenache::{
        client::Client,
        envelope::{Outcome, RpcRefusal, VerifiedRequest},
    },
    identity::{ClientId, KeyPair, Network, Signed, SignedText},
    market::{Bid, OfferId, Trade, TradeId, TradeReceipt},
    workers::Workers,
};
use arc_swap::ArcSwap;
use order::Order;
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

/// The command by which a node asks for the trades that it has with another.
pub(super) const TRADES: &str = "trades";
/// Trades in one answer: about 100 KB, less than half of what an answer may have.
const PAGE_MAX: usize = 32;
/// Pages that one node is asked for: all that it may hold.
const PAGES_MAX: usize = TRADES_MAX / PAGE_MAX + 1;
/// Nodes that are asked at the same time: most of those that are gone answer nothing for seconds.
const ASKED_AT_ONCE: usize = 64;
/// Addresses of the network's name that are greeted, to hear who is there.
const GREETED_MAX: usize = 64;
/// How long a recovery asks: whoever has started it waits for it.
const WITHIN: Duration = Duration::from_secs(25);
/// How long one node that cannot be found may take of it.
const WITHIN_EACH: Duration = Duration::from_secs(8);
/// The pause before a node that has more to do than it takes at a time is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The body of `trades`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TradesAsked {
    /// The last trade that the asker was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<TradeId>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
struct TradesTold {
    trades: Vec<ReceiptTold>,
    /// Whether there are more after the last.
    more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReceiptTold {
    trade: SignedText,
    bid: SignedText,
}

/// A node asks for its trades with this one.
pub(super) fn tell(exchange: &Exchange, replication: &Replication, request: &VerifiedRequest) -> Outcome {
    let asked: TradesAsked = serde_json::from_str(request.body()).map_err(|e| {
        RpcRefusal::new("malformed", format!("the body is no question for trades: {e}"), false)
    })?;
    replication.spend(request.from(), request.body().len())?;
    let body = told(&exchange.snapshot().state, request.from(), asked.after)
        .map_err(|e| RpcRefusal::new("internal", e.to_string(), true))?;
    replication.owe(request.from(), body.len());
    Ok(body)
}

fn told(state: &State, to: ClientId, after: Option<TradeId>) -> serde_json::Result<String> {
    let mut theirs = state.trades_with(to, after);
    let page = theirs.by_ref().take(PAGE_MAX).map(|receipt| ReceiptTold {
        trade: receipt.trade().source().clone(),
        bid: receipt.bid().source().clone(),
    });
    let trades = page.collect();
    serde_json::to_string(&TradesTold { trades, more: theirs.next().is_some() })
}

/// Reads an answer of `from` to `me`: each trade with both signatures, of exactly these two.
fn read(body: &str, network: &Network, sides: [ClientId; 2]) -> Option<(Vec<Arc<TradeReceipt>>, bool)> {
    let told: TradesTold = serde_json::from_str(body).ok()?;
    if told.trades.len() > PAGE_MAX {
        return None;
    }
    let receipt = |told: ReceiptTold| {
        let trade = Signed::<Trade>::verify(told.trade, network).ok()?;
        let bid = Signed::<Bid>::verify(told.bid, network).ok()?;
        let receipt = TradeReceipt::pair(trade, bid).ok()?;
        let trade = receipt.trade();
        let of_both = [trade.maker, trade.taker] == sides || [trade.taker, trade.maker] == sides;
        of_both.then(|| Arc::new(receipt))
    };
    // One that is not genuine says what the others are worth.
    let receipts: Option<Vec<_>> = told.trades.into_iter().map(receipt).collect();
    receipts.map(|receipts| (receipts, told.more))
}

/// What a recovery brought.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Own offers that the network knew better, and the trade that took each, if one is known.
    pub offers: Vec<(OfferId, Option<Arc<TradeReceipt>>)>,
    /// Trades that this node lacked and holds now.
    pub trades: Vec<Arc<TradeReceipt>>,
    /// Trades that were shown and cannot stand beside what this node holds.
    pub contradicting: usize,
    /// Nodes that told all that they hold.
    pub told: usize,
    /// Nodes that are known, and did not.
    pub not_reached: Vec<ClientId>,
}

/// Asks the others; clones share it.
#[derive(Clone)]
pub(super) struct Recovery {
    pub exchange: Exchange,
    pub dht: Dht,
    pub client: Client,
    pub contacts: Contacts,
    pub workers: Workers,
    pub key: KeyPair,
    pub network: Network,
    pub replica: Arc<ArcSwap<ReplicaView>>,
    /// One recovery at a time: a second would ask everybody the same.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

/// What has come so far, also from those that did not tell all.
#[derive(Default)]
struct Found {
    receipts: Mutex<Vec<Arc<TradeReceipt>>>,
}

impl Recovery {
    /// Takes over trades from whoever holds them, then closes what the network knows better of this node's own offers.
    pub(super) async fn run(&self) -> Result<Recovered, CommandError> {
        let _turn = self.turn.lock().await;
        let before = self.exchange.snapshot();
        let until = Instant::now() + WITHIN;
        tracing::warn!(
            offers_known_better = before.state.ahead.len(),
            "recovering: every node that is known is asked for the trades that it has with this one"
        );
        let mut recovered = Recovered::default();
        let found = Arc::<Found>::default();
        let mut asking = JoinSet::new();
        let turns = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        let mut ask = |clients: Vec<ClientId>| {
            for client in clients {
                let (recovery, found, turns) = (self.clone(), Arc::clone(&found), Arc::clone(&turns));
                asking.spawn(async move {
                    let ask = async {
                        // Turns are given in the order in which they were asked for.
                        let _turn = turns.acquire().await.ok()?;
                        recovery.ask(client, &found, until).await
                    };
                    (client, tokio::time::timeout_at(until, ask).await.ok().flatten())
                });
            }
        };
        self.is_settled().await;
        let mut order = Order::new(self.key.public());
        let neighbours = self.replica.load().status.neighbours.clone();
        ask(order.counterparties(&before.state, neighbours, |client| self.contacts.known(client).is_some()));
        // They are asked while it is heard who else is there.
        self.greet_all().await;
        let met = self.contacts.all().into_iter().map(|(client, _)| client);
        ask(order.strangers(&before.state, met.chain(self.contacts.told_of())));
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((_, Some(contradicting))) => {
                    recovered.told += 1;
                    recovered.contradicting += contradicting;
                }
                Ok((client, None)) => recovered.not_reached.push(client),
                Err(_) => {}
            }
        }
        recovered.not_reached.sort_unstable();
        let ahead = self.exchange.snapshot().state.ahead.clone();
        self.exchange.recover().await?;
        let after = self.exchange.snapshot();
        for offer in ahead.values() {
            let sold = match after.state.own.get(&offer.id).and_then(|own| own.closed) {
                Some(Closed::Sold(trade)) => after.state.trades.get(&trade).cloned(),
                _ => None,
            };
            recovered.offers.push((offer.id, sold));
        }
        let mut receipts = found.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        recovered.trades = receipts
            .drain(..)
            .filter(|receipt| {
                let id = receipt.trade().id;
                !before.state.trades.contains_key(&id) && after.state.trades.get(&id) == Some(receipt)
            })
            .collect();
        drop(receipts);
        recovered.log(self.key.public());
        Ok(recovered)
    }

    /// A node that was started a moment ago knows nobody yet: waits until it has met somebody, or has looked and found nobody.
    async fn is_settled(&self) {
        let settled = async {
            loop {
                let view = self.replica.load_full();
                if view.looked || !view.status.neighbours.is_empty() {
                    return;
                }
                tokio::time::sleep(AGAIN_AFTER / 10).await;
            }
        };
        let _ = tokio::time::timeout(WITHIN_EACH, settled).await;
    }

    /// Hears who is there of those that announce the network's name: they need not be makers.
    async fn greet_all(&self) {
        let found = addresses(&self.dht, &self.network).await.unwrap_or_default();
        let mut greetings = JoinSet::new();
        for address in found.into_iter().take(GREETED_MAX) {
            let recovery = self.clone();
            greetings.spawn(async move {
                let Recovery { client, key, network, contacts, .. } = &recovery;
                if let Ok(met) = greet(client, key, network, address, clock::now).await
                    && met.client_id != key.public()
                {
                    contacts.seen(met.client_id, address);
                }
            });
        }
        // Each greeting has a timeout of its own, of a few seconds.
        let _ = tokio::time::timeout(WITHIN_EACH, greetings.join_all()).await;
    }

    /// Asks one node for all, page by page, and gives what contradicts. `None` when it did not tell all.
    async fn ask(&self, other: ClientId, found: &Found, until: Instant) -> Option<usize> {
        let (mut after, mut contradicting) = (None, 0);
        for _ in 0..PAGES_MAX {
            let (receipts, more) = self.ask_page(other, after, until).await?;
            after = receipts.last().map(|receipt| receipt.trade().id);
            let held = self.exchange.snapshot();
            let lacking: Vec<_> = receipts
                .into_iter()
                .filter(|receipt| held.state.trades.get(&receipt.trade().id) != Some(receipt))
                .collect();
            if !lacking.is_empty() {
                found.receipts.lock().unwrap_or_else(PoisonError::into_inner).extend(lacking.iter().cloned());
                contradicting += self.take_over(lacking).await?;
            }
            if !more {
                return Some(contradicting);
            }
        }
        None
    }

    async fn take_over(&self, receipts: Vec<Arc<TradeReceipt>>) -> Option<usize> {
        loop {
            match self.exchange.trades_shown(receipts.clone()).await {
                Ok(Done::TradesTaken { contradicting, .. }) => return Some(contradicting),
                Err(CommandError::Busy) => tokio::time::sleep(AGAIN_AFTER).await,
                Ok(_) | Err(_) => return None,
            }
        }
    }

    async fn ask_page(
        &self,
        other: ClientId,
        after: Option<TradeId>,
        until: Instant,
    ) -> Option<(Vec<Arc<TradeReceipt>>, bool)> {
        let body = serde_json::to_string(&TradesAsked { after }).ok()?;
        let until = until.min(Instant::now() + WITHIN_EACH);
        let answer = tokio::time::timeout_at(until, self.call(other, &body)).await.ok()??;
        let (network, sides) = (self.network.clone(), [self.key.public(), other]);
        let read = move || read(&answer, &network, sides);
        let page = self.workers.run(read).await.ok()?;
        if page.is_none() {
            tracing::warn!(node = %other, "what a node shows as trades with this one is not genuine");
        }
        // The same page again would be asked for ever.
        page.filter(|(receipts, more)| {
            !more || receipts.last().is_some_and(|receipt| Some(receipt.trade().id) > after)
        })
    }

    /// Until it answers: whoever calls this has a deadline.
    async fn call(&self, other: ClientId, body: &str) -> Option<String> {
        loop {
            let called = self.contacts.call(&self.client, other, &[], (TRADES, body), Search::Thorough).await;
            match called.map(|reply| reply.outcome) {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(RpcRefusal { retryable: true, .. })) => tokio::time::sleep(AGAIN_AFTER).await,
                Ok(Err(refusal)) => {
                    tracing::warn!(node = %other, code = refusal.code, detail = refusal.detail, "a node does not tell of its trades with this one");
                    return None;
                }
                Err(error) => {
                    tracing::debug!(node = %other, %error, "no answer about trades");
                    return None;
                }
            }
        }
    }
}

impl Recovered {
    fn log(&self, me: ClientId) {
        for (offer, sold) in &self.offers {
            match sold {
                Some(receipt) => {
                    let trade = receipt.trade();
                    tracing::info!(%offer, trade = %trade.id, buyer = %trade.taker, price = %trade.price, "recovered an offer: it was sold");
                }
                None => {
                    tracing::info!(%offer, "recovered an offer: it is closed; what became of it nobody told");
                }
            }
        }
        for receipt in &self.trades {
            let trade = receipt.trade();
            let other = if trade.maker == me { trade.taker } else { trade.maker };
            tracing::info!(trade = %trade.id, offer = %trade.offer_id, with = %other, price = %trade.price, "recovered a trade");
        }
        if self.contradicting > 0 {
            tracing::error!(
                trades = self.contradicting,
                "nodes show trades, signed by both sides, that contradict what is stored here: an offer was sold twice, or a bid that was refused was accepted; they were left"
            );
        }
        tracing::warn!(
            offers = self.offers.len(),
            trades = self.trades.len(),
            nodes_that_told = self.told,
            nodes_not_reached = self.not_reached.len(),
            "recovered"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        amount::Price,
        bep44::Target,
        exchange::Event,
        identity::MasterKey,
        market::{BidId, Currency, IdMint, Side, Terms},
        time::UnixMillis,
    };
    use uuid::Uuid;

    fn key(seed: u8) -> KeyPair {
        MasterKey::from_bytes([seed; 32]).client_key()
    }

    fn network() -> Network {
        "test".parse().unwrap()
    }

    fn receipt(maker: u8, taker: u8, n: u128) -> Arc<TradeReceipt> {
        let price: Price = "100".parse().unwrap();
        let terms = Terms {
            side: Side::Sell,
            btc_quantity: "1".parse().unwrap(),
            offer_price: price,
            currency: Currency::USD,
        };
        let bid = Bid {
            network: network(),
            id: BidId(Uuid::from_u128(n)),
            bidder: key(taker).public(),
            maker: key(maker).public(),
            offer_id: IdMint::default().next(&network(), &key(maker).public(), UnixMillis(1000)),
            offer_hash: Target([n as u8; 20]),
            terms,
            price,
            created_at: UnixMillis(1000),
            valid_until: UnixMillis(2000),
        };
        let bid = Signed::sign(&key(taker), bid);
        Arc::new(TradeReceipt::accept(&key(maker), TradeId(Uuid::from_u128(n)), bid, UnixMillis(1500)))
    }

    #[test]
    fn whoever_asks_is_told_of_its_own_trades_only_page_by_page() {
        let mut state = State::default();
        let count = 2 * PAGE_MAX as u128 + 3;
        for n in 1..=count {
            state.apply(&Event::Traded(receipt(1, 2, n)));
            state.apply(&Event::Traded(receipt(3, 1, 1000 + n)));
        }
        for (asker, first) in [(2, 1), (3, 1001)] {
            let sides = [key(asker).public(), key(1).public()];
            let (mut after, mut told_of) = (None, Vec::new());
            loop {
                let body = told(&state, sides[0], after).unwrap();
                assert!(body.len() < 200_000, "{} bytes", body.len());
                let (page, more) = read(&body, &network(), sides).unwrap();
                after = page.last().map(|receipt| receipt.trade().id);
                told_of.extend(page.iter().map(|receipt| receipt.trade().id.0.as_u128()));
                if !more {
                    break;
                }
            }
            assert!(told_of.iter().copied().eq(first..first + count), "{told_of:?}");
        }
        let (nothing, more) =
            read(&told(&state, key(9).public(), None).unwrap(), &network(), [key(9).public(); 2]).unwrap();
        assert!(nothing.is_empty() && !more);
    }

    #[test]
    fn what_is_not_genuine_or_of_others_is_not_read() {
        let mut state = State::default();
        state.apply(&Event::Traded(receipt(1, 2, 1)));
        let body = told(&state, key(2).public(), None).unwrap();
        let (one, two, three) = (key(1).public(), key(2).public(), key(3).public());
        assert!(
            read(&body, &network(), [one, two]).is_some() && read(&body, &network(), [two, one]).is_some()
        );
        assert!(read(&body, &network(), [two, three]).is_none(), "a trade of others");
        assert!(read(&body, &"other".parse().unwrap(), [one, two]).is_none());
        assert!(read(&body.replace("\\\"100\\\"", "\\\"900\\\""), &network(), [one, two]).is_none());
        assert!(read("{}", &network(), [one, two]).is_none());
    }
}
