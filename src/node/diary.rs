//! The diary: what this node did in the market, one line of the log for each thing, when it is durable.
//!
//! The writer hands over facts that it committed and what it told callers; a thread of its own writes, so that nobody waits for a
//! log. It writes what comes first at once, and then 20 times a second: to be woken for each line would cost a create 5%. Own doings and
//! trades are told each. Bids of strangers that were refused are told one by one up to a rate, then by their number: whoever sends a
//! million of them fills no disk.

use crate::{
    exchange::{BidIn, BidOut, BidOutcome, Closed, Event, OwnOffer, RefusalCode},
    identity::ClientId,
    market::{Bid, BidId, Offer, Side, Terms, TradeReceipt},
    time::UnixMillis,
};
use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Lines that may wait for the log; beyond it they are counted instead.
const WAITING_MAX: usize = 4096;
/// How long lines are collected after the first: handing over another one then wakes nobody. Its time may be that much late.
const COLLECTED_FOR: Duration = Duration::from_millis(50);
/// Refused bids of strangers that are told one by one within [`SUMMED_UP_AFTER`].
const STRANGERS_MAX: u32 = 10;
/// How often the others are summed up.
const SUMMED_UP_AFTER: Duration = Duration::from_mins(1);

/// Something to tell.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A fact, committed.
    Event(Box<Event>),
    /// Nobody can take this own offer any more.
    Expired(Arc<Offer>),
    /// The caller who made this own bid heard that its maker has not answered.
    InDoubt(Arc<BidOut>),
    /// A bid was refused without being remembered.
    Stranger(RefusalCode),
}

impl Told {
    /// What of a fact is worth a line: copies of others' records, and what is kept about own ones, are not.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let told = match event {
            Event::Own(_) | Event::BidOut(_) | Event::Traded(_) => true,
            Event::BidIn(bid) => bid.answer.is_err(),
            _ => false,
        };
        told.then(|| Self::Event(Box::new(event.clone())))
    }
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Diary {
    lines: Option<SyncSender<Told>>,
    lost: u64,
    thread: Option<JoinHandle<()>>,
}

impl Diary {
    /// Of the node `me`, whose bids `in_doubt` were told to be so in an earlier life.
    pub(super) fn start(me: ClientId, in_doubt: HashSet<BidId>) -> io::Result<Self> {
        let (lines, queue) = sync_channel(WAITING_MAX);
        let thread =
            thread::Builder::new().name("diary".into()).spawn(move || write(me, in_doubt, &queue))?;
        Ok(Self { lines: Some(lines), lost: 0, thread: Some(thread) })
    }

    /// Tells something, if the log keeps up.
    pub(super) fn tell(&mut self, told: Told) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(told) {
            Ok(()) if self.lost > 0 => {
                tracing::warn!(lines = self.lost, "the log was slower than the market: lines are missing");
                self.lost = 0;
            }
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lost += 1,
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

/// Waits until everything is told.
impl Drop for Diary {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            // It can only have panicked in the log itself.
            let _ = thread.join();
        }
    }
}

fn write(me: ClientId, in_doubt: HashSet<BidId>, queue: &Receiver<Told>) {
    let mut page = Page { me, in_doubt, strangers: Strangers::default() };
    let tell = |page: &mut Page, told| page.write(&told, super::clock::now());
    loop {
        match queue.recv_timeout(SUMMED_UP_AFTER) {
            Ok(told) => {
                tell(&mut page, told);
                thread::sleep(COLLECTED_FOR);
                for told in queue.try_iter() {
                    tell(&mut page, told);
                }
            }
            Err(RecvTimeoutError::Timeout) => page.strangers.sum_up(super::clock::now()),
            Err(RecvTimeoutError::Disconnected) => return page.strangers.tell(),
        }
    }
}

/// What one life of a node writes.
#[derive(Debug)]
struct Page {
    me: ClientId,
    /// Own bids whose callers were told that they are in doubt: at most as many as may be.
    in_doubt: HashSet<BidId>,
    strangers: Strangers,
}

impl Page {
    fn write(&mut self, told: &Told, now: UnixMillis) {
        match told {
            Told::Event(event) => self.event(event, now),
            Told::Expired(offer) => {
                let terms = terms(&offer.terms, None);
                tracing::info!(offer = %offer.id, terms, "offer expired");
            }
            Told::InDoubt(bid) => {
                if self.in_doubt.insert(bid.bid.id) {
                    let (id, maker, until) = (bid.bid.id, bid.bid.maker, bid.bid.valid_until);
                    tracing::info!(bid = %id, %maker, firm_until = %until, "bid in doubt: its maker has not answered, and is asked again");
                }
            }
            Told::Stranger(code) => self.strangers.count(*code, now),
        }
        self.strangers.sum_up(now);
    }

    fn event(&mut self, event: &Event, now: UnixMillis) {
        match event {
            Event::Own(own) => Self::own(own),
            Event::Traded(receipt) => self.traded(receipt),
            Event::BidOut(bid) => self.bid_out(bid),
            Event::BidIn(bid) => self.bid_in(bid, now),
            _ => {}
        }
    }

    fn own(OwnOffer { offer, closed, .. }: &OwnOffer) {
        let (id, terms) = (offer.id, terms(&offer.terms, None));
        match closed {
            None => {
                let until = offer.available_until().unwrap_or_default();
                tracing::info!(offer = %id, terms, until = %until, "offer created");
            }
            Some(Closed::Withdrawn) => tracing::info!(offer = %id, terms, "offer withdrawn"),
            Some(Closed::Recovered) => {
                tracing::info!(offer = %id, terms, "offer closed: the network knew it better than this node's store");
            }
            Some(Closed::Sold(trade)) => tracing::info!(offer = %id, %trade, "offer closed by its trade"),
        }
    }

    fn traded(&self, receipt: &TradeReceipt) {
        let trade = receipt.trade();
        let (id, offer, bid) = (trade.id, trade.offer_id, trade.bid_id);
        let terms = terms(&trade.terms, Some(receipt.bid()));
        if trade.maker == self.me {
            tracing::info!(trade = %id, %offer, %bid, terms, taker = %trade.taker, "trade as maker: {}", did(trade.terms.side, true));
        } else {
            tracing::info!(trade = %id, %offer, %bid, terms, maker = %trade.maker, "trade as taker: {}", did(trade.terms.side, false));
        }
    }

    fn bid_out(&mut self, bid: &BidOut) {
        let (id, offer, maker) = (bid.bid.id, bid.bid.offer_id, bid.bid.maker);
        let terms = terms(&bid.bid.terms, Some(&bid.bid));
        let resolved = match bid.outcome {
            BidOutcome::InDoubt => false,
            _ => self.in_doubt.remove(&id),
        };
        let was = if resolved { ", which was in doubt," } else { "" };
        match &bid.outcome {
            BidOutcome::InDoubt => tracing::info!(bid = %id, %offer, terms, %maker, "bid sent"),
            BidOutcome::Accepted(trade) => {
                tracing::info!(bid = %id, %offer, terms, %maker, %trade, "bid{was} accepted");
            }
            BidOutcome::Refused(refusal) => {
                let (code, detail) = (refusal.code.as_str(), &refusal.detail);
                tracing::info!(bid = %id, %offer, terms, %maker, code, detail, "bid{was} refused");
            }
            BidOutcome::GivenUp { .. } => tracing::info!(bid = %id, %offer, terms, %maker, "bid given up"),
        }
    }

    /// One that was accepted is told as a trade.
    fn bid_in(&mut self, bid: &BidIn, now: UnixMillis) {
        let Err(refusal) = &bid.answer else { return };
        if !self.strangers.may_be_told(now) {
            return self.strangers.count(refusal.code, now);
        }
        let (id, offer, bidder) = (bid.bid.id, bid.bid.offer_id, bid.bid.bidder);
        let (terms, code) = (terms(&bid.bid.terms, Some(&bid.bid)), refusal.code.as_str());
        tracing::info!(bid = %id, %offer, terms, %bidder, code, "bid received and refused");
    }
}

/// What is traded, in words: `sell 0.5 BTC at 64000 USD`, with the maker's side; the price is the bid's where there is one.
fn terms(terms: &Terms, bid: Option<&Bid>) -> String {
    let side = match terms.side {
        Side::Sell => "sell",
        Side::Buy => "buy",
    };
    let price = bid.map_or(terms.offer_price, |bid| bid.price);
    format!("{side} {} BTC at {price} {}", terms.btc_quantity, terms.currency)
}

fn did(side: Side, as_maker: bool) -> &'static str {
    if (side == Side::Sell) == as_maker { "sold" } else { "bought" }
}

/// Refused bids of others: some are told, the others counted.
#[derive(Debug, Default)]
struct Strangers {
    since: Option<UnixMillis>,
    told: u32,
    untold: u64,
    last: Option<RefusalCode>,
}

impl Strangers {
    /// Whether there is room for a line of its own.
    fn may_be_told(&mut self, now: UnixMillis) -> bool {
        self.since.get_or_insert(now);
        let room = self.told < STRANGERS_MAX;
        self.told += u32::from(room);
        room
    }

    fn count(&mut self, code: RefusalCode, now: UnixMillis) {
        self.since.get_or_insert(now);
        self.untold += 1;
        self.last = Some(code);
    }

    /// Begins anew when its time is over. Returns whether it was.
    fn sum_up(&mut self, now: UnixMillis) {
        if self.since.is_some_and(|since| now.since(since) >= SUMMED_UP_AFTER) {
            self.tell();
            *self = Self::default();
        }
    }

    fn tell(&self) {
        if self.untold > 0 {
            let code = self.last.map(RefusalCode::as_str);
            tracing::info!(bids = self.untold, last_code = code, "more bids were received and refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::Refusal,
        identity::{MasterKey, Signed},
        market::{Acceptance, IdMint, NewOffer, TradeId},
    };
    use std::sync::Mutex;
    use uuid::Uuid;

    const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `write` leads to.
    fn lines(write: impl FnOnce(&mut Page)) -> Vec<String> {
        lines_of(|me| write(&mut Page { me, in_doubt: HashSet::new(), strangers: Strangers::default() }))
    }

    fn lines_of(write: impl FnOnce(ClientId)) -> Vec<String> {
        let kept = Kept::default();
        let out = kept.clone();
        let logs = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        let logs = logs.with_writer(move || out.clone()).finish();
        let me = MasterKey::from_bytes([1; 32]).client_key().public();
        tracing::subscriber::with_default(logs, || write(me));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn offer(maker: u8) -> Arc<Offer> {
        offer_at(maker, NOW)
    }

    fn offer_at(maker: u8, at: UnixMillis) -> Arc<Offer> {
        let (master, network) = (MasterKey::from_bytes([maker; 32]), "test".parse().unwrap());
        let id = IdMint::default().next(&network, &master.client_key().public(), at);
        let new = NewOffer {
            terms: Terms {
                side: Side::Sell,
                btc_quantity: "0.5".parse().unwrap(),
                offer_price: "64000".parse().unwrap(),
                currency: "USD".parse().unwrap(),
            },
            acceptance: Acceptance::First,
            expires_at: NOW.plus(Duration::from_hours(1)),
            dies_at: NOW.plus(Duration::from_hours(2)),
            memo: None,
        };
        Arc::new(Offer::create(&master, &network, id, new, NOW).unwrap())
    }

    fn bid(offer: &Offer, bidder: u8) -> Signed<Bid> {
        let key = MasterKey::from_bytes([bidder; 32]).client_key();
        let bid = Bid {
            network: offer.network.clone(),
            id: BidId(Uuid::from_u128(7)),
            bidder: key.public(),
            maker: offer.client_id,
            offer_id: offer.id,
            offer_hash: offer.target(),
            terms: offer.terms,
            price: "64100".parse().unwrap(),
            created_at: NOW,
            valid_until: NOW.plus(Duration::from_mins(5)),
        };
        Signed::sign(&key, bid)
    }

    fn event(event: Event) -> Told {
        Told::of(&event).expect("it is worth a line")
    }

    #[test]
    fn everything_that_an_owner_does_is_one_line_with_ids_terms_and_the_other_side() {
        let (own, theirs) = (offer(1), offer(2));
        let own_offer =
            |closed| event(Event::Own(OwnOffer { offer: Arc::clone(&own), closed, published: None }));
        let trade = TradeId(Uuid::from_u128(9));
        let sold =
            TradeReceipt::accept(&MasterKey::from_bytes([1; 32]).client_key(), trade, bid(&own, 3), NOW);
        let mine = bid(&theirs, 1);
        let bought =
            TradeReceipt::accept(&MasterKey::from_bytes([2; 32]).client_key(), trade, mine.clone(), NOW);
        let out = |outcome| event(Event::BidOut(Arc::new(BidOut { bid: mine.clone(), outcome })));
        let refusal = Refusal { code: RefusalCode::BidExpired, detail: "too late".into() };
        let in_doubt = Arc::new(BidOut { bid: mine.clone(), outcome: BidOutcome::InDoubt });
        let terms = "terms=\"sell 0.5 BTC at 64000 USD\"";
        let paid = "terms=\"sell 0.5 BTC at 64100 USD\"";
        let (maker, taker) =
            (format!("maker={}", theirs.client_id), format!("taker={}", bid(&own, 3).bidder));
        let cases = [
            (own_offer(None), "offer created", vec![terms]),
            (own_offer(Some(Closed::Withdrawn)), "offer withdrawn", vec![terms]),
            (own_offer(Some(Closed::Sold(trade))), "offer closed by its trade", vec!["trade="]),
            (Told::Expired(Arc::clone(&own)), "offer expired", vec![terms]),
            (event(Event::Traded(Arc::new(sold))), "trade as maker: sold", vec![paid, &taker, "bid="]),
            (event(Event::Traded(Arc::new(bought))), "trade as taker: bought", vec![paid, &maker, "bid="]),
            (out(BidOutcome::InDoubt), "bid sent", vec![paid, &maker]),
            (out(BidOutcome::Accepted(trade)), "bid accepted", vec![paid, &maker, "trade="]),
            (
                out(BidOutcome::Refused(refusal)),
                "bid refused",
                vec!["code=\"bid_expired\"", "detail=\"too late\""],
            ),
            (out(BidOutcome::GivenUp { at: NOW }), "bid given up", vec![paid, &maker]),
            (Told::InDoubt(in_doubt), "bid in doubt", vec![&maker, "firm_until="]),
        ];
        for (told, what, parts) in cases {
            let lines = lines(|page| page.write(&told, NOW));
            assert_eq!(lines.len(), 1, "{lines:?}");
            for part in parts.iter().chain([&what]) {
                assert!(lines[0].contains(part), "{part} in {}", lines[0]);
            }
        }
    }

    #[test]
    fn a_bid_in_doubt_is_told_once_and_its_end_says_that_it_was() {
        let bid = bid(&offer(2), 1);
        let doubt = Arc::new(BidOut { bid: bid.clone(), outcome: BidOutcome::InDoubt });
        let accepted = BidOutcome::Accepted(TradeId(Uuid::from_u128(9)));
        let accepted = event(Event::BidOut(Arc::new(BidOut { bid, outcome: accepted })));
        let lines = lines(|page| {
            for told in [Told::InDoubt(Arc::clone(&doubt)), Told::InDoubt(doubt), accepted] {
                page.write(&told, NOW);
            }
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("bid, which was in doubt, accepted"), "{}", lines[1]);
    }

    #[test]
    fn what_comes_while_lines_are_collected_is_written_in_its_order_and_before_the_end() {
        let (lines_in, queue) = sync_channel(WAITING_MAX);
        let all: Vec<_> = (0..300).map(|n| offer_at(1, NOW.plus(Duration::from_millis(n)))).collect();
        let lines = lines_of(|me| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for (n, offer) in all.iter().enumerate() {
                        lines_in.send(Told::Expired(Arc::clone(offer))).unwrap();
                        if n % 100 == 0 {
                            thread::sleep(COLLECTED_FOR / 2);
                        }
                    }
                    drop(lines_in);
                });
                write(me, HashSet::new(), &queue);
            });
        });
        let told = lines.iter().zip(&all).filter(|(line, offer)| line.contains(&offer.id.to_string()));
        assert_eq!((lines.len(), told.count()), (300, 300));
    }

    #[test]
    fn a_flood_of_strangers_bids_is_summed_up() {
        let bid = bid(&offer(1), 3);
        let refusal = Refusal { code: RefusalCode::PriceBelowAsk, detail: "no".into() };
        let refused = event(Event::BidIn(Arc::new(BidIn { bid, answer: Err(refusal), at: NOW })));
        let lines = lines(|page| {
            for n in 0..100_000 {
                page.write(&refused, NOW.plus(Duration::from_micros(10 * n)));
            }
            page.write(&Told::Stranger(RefusalCode::OfferNotFound), NOW.plus(SUMMED_UP_AFTER));
            page.write(&refused, NOW.plus(SUMMED_UP_AFTER));
        });
        assert_eq!(lines.len(), STRANGERS_MAX as usize + 2, "{lines:?}");
        assert!(
            lines[0].contains("bid received and refused") && lines[0].contains("code=\"price_below_ask\"")
        );
        assert!(lines[10].contains("more bids were received and refused bids=99991"), "{}", lines[10]);
    }

    #[test]
    fn what_the_network_made_and_what_is_kept_about_own_things_is_no_line() {
        let offer = offer(2);
        for event in [Event::Heard(Arc::clone(&offer)), Event::Forgotten(offer.target()), Event::Recovered] {
            assert!(Told::of(&event).is_none());
        }
    }
}
