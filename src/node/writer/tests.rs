use super::*;
use crate::{
    exchange::{CommandError, Done, IdempotencyKey, NewBid, OfferRef, Seen},
    market::{Acceptance, Currency, IdMint, NewOffer, Side, Terms},
    replication::core::{Head, Root},
};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// A journal in memory that fails when it is told to.
#[derive(Clone, Default)]
struct Fake {
    events: Arc<Mutex<Vec<Event>>>,
    commits: Arc<AtomicUsize>,
    /// Heads, a list each transaction.
    heads: Arc<Mutex<Vec<Vec<SignedHead>>>>,
    /// `Some(full)`: the next commits fail, as a full disk or for good.
    failing: Arc<Mutex<Option<bool>>>,
}

impl Journal for Fake {
    fn load(&mut self, _: UnixMillis) -> Result<Vec<Event>, JournalError> {
        Ok(self.events.lock().unwrap().clone())
    }
    fn commit(&mut self, events: &[Event]) -> Result<(), JournalError> {
        match *self.failing.lock().unwrap() {
            Some(true) => return Err(JournalError::Full),
            Some(false) => return Err(JournalError::Failed("the disk is gone".into())),
            None => {}
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.events.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
    fn keep_heads(&mut self, heads: &[SignedHead]) -> Result<(), JournalError> {
        match *self.failing.lock().unwrap() {
            Some(true) => return Err(JournalError::Full),
            Some(false) => return Err(JournalError::Failed("the disk is gone".into())),
            None => {}
        }
        self.heads.lock().unwrap().push(heads.to_vec());
        Ok(())
    }
    fn note(&mut self, _: &'static str, _: &str) -> Result<(), JournalError> {
        Ok(())
    }
    fn check(&mut self, probes: bool) -> Result<(), JournalError> {
        match *self.failing.lock().unwrap() {
            Some(true) if probes => Err(JournalError::Full),
            Some(false) => Err(JournalError::Unusable("the database was deleted".into())),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_known_until_there_is_room_and_a_store_that_is_gone_ends_the_writer() {
    let journal = Fake::default();
    let (exchange, writer, _published) = started(&journal);
    let cannot_write = || exchange.disk().cannot_write().is_some();
    let until = async |holds: &dyn Fn() -> bool| {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    *journal.failing.lock().unwrap() = Some(true);
    assert_eq!(exchange.create(new_offer(), None).await, Err(CommandError::StorageFull));
    assert!(cannot_write());
    assert!(exchange.check_store(false) && exchange.check_store(true));
    assert_eq!(exchange.create(new_offer(), None).await, Err(CommandError::StorageFull));
    assert!(cannot_write(), "a probe that finds no room is no room");
    *journal.failing.lock().unwrap() = None;
    assert!(exchange.check_store(true));
    until(&|| !cannot_write()).await;
    *journal.failing.lock().unwrap() = Some(false);
    assert!(exchange.check_store(false));
    let ended = writer.ended.await.unwrap();
    assert!(ended.is_err_and(|error| error.needs_a_person()));
}

fn started(journal: &Fake) -> (Exchange, WriterThread, mpsc::UnboundedReceiver<Publication>) {
    let (asks, _) = mpsc::unbounded_channel();
    let (publications, published) = mpsc::unbounded_channel();
    let (fetches, _) = mpsc::unbounded_channel();
    let news = mpsc::unbounded_channel().0;
    let outlets = Outlets { asks, publications, fetches, news };
    let network = "test".parse().unwrap();
    let (exchange, thread) =
        start((MasterKey::from_bytes([1; 32]), network, MaxNotional::default()), journal.clone(), outlets)
            .unwrap();
    (exchange, thread, published)
}

fn new_offer() -> NewOffer {
    let (btc_quantity, offer_price) = ("1".parse().unwrap(), "100".parse().unwrap());
    let expires_at = clock::now().plus(Duration::from_hours(1));
    NewOffer {
        terms: Terms { side: Side::Sell, btc_quantity, offer_price, currency: Currency::USD },
        acceptance: Acceptance::First,
        expires_at,
        dies_at: expires_at,
        memo: None,
    }
}

fn counted(exchange: &Exchange, line: &str) -> bool {
    let mut page = crate::metrics::Page::default();
    exchange.meter.write(0, &mut page);
    page.finish().lines().any(|found| found == line)
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_journal_and_in_the_snapshot() {
    let journal = Fake::default();
    let (exchange, thread, _published) = started(&journal);
    let Ok(Done::Created { offer, again: false }) = exchange.create(new_offer(), None).await else {
        panic!()
    };
    assert!(exchange.snapshot().state.own.contains_key(&offer));
    assert!(
        journal.events.lock().unwrap().iter().any(|e| matches!(e, Event::Own(own) if own.offer.id == offer))
    );
    thread.stop();
    assert!(thread.ended.await.unwrap().is_ok());
}

#[tokio::test]
async fn callers_at_the_same_time_share_commits() {
    let journal = Fake::default();
    let (exchange, _thread, _published) = started(&journal);
    let creates: Vec<_> = (0..500)
        .map(|_| {
            let exchange = exchange.clone();
            tokio::spawn(async move { exchange.create(new_offer(), None).await })
        })
        .collect();
    for create in creates {
        assert!(create.await.unwrap().is_ok());
    }
    let commits = journal.commits.load(Ordering::Relaxed);
    assert!(counted(&exchange, "vintner_batch_inputs_sum 500") && exchange.meter.waiting() == 0);
    assert!(counted(&exchange, &format!("vintner_commit_duration_seconds_count {commits}")));
    assert!(commits < 500, "{commits} commits for 500 offers");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
    let journal = Fake::default();
    let (exchange, _thread, mut published) = started(&journal);
    exchange.create(new_offer(), None).await.unwrap();
    published.recv().await.unwrap();

    *journal.failing.lock().unwrap() = Some(true);
    let key = || Some(IdempotencyKey { key: "k".into(), request_sha256: [0; 32] });
    assert_eq!(exchange.create(new_offer(), key()).await, Err(CommandError::StorageFull));
    assert!(counted(&exchange, "vintner_commit_failures_total{reason=\"disk_full\"} 1"));
    assert!(
        counted(&exchange, "vintner_own_offer_changes_total{change=\"created\"} 1"),
        "what is durable only"
    );
    assert_eq!(exchange.snapshot().state.own.len(), 1, "memory went back to what is stored");
    // What is stored is published again by the rebuilt core; what was refused never is.
    assert!(matches!(published.recv().await, Some(Publication::Publish(_))));
    assert!(published.try_recv().is_err());

    *journal.failing.lock().unwrap() = None;
    let again = exchange.create(new_offer(), key()).await;
    assert!(matches!(again, Ok(Done::Created { again: false, .. })), "{again:?}");
}

#[tokio::test]
async fn who_waits_for_a_maker_when_the_node_stops_hears_of_his_stored_bid() {
    let journal = Fake::default();
    let (exchange, thread, _published) = started(&journal);
    let (maker, network) = (MasterKey::from_bytes([2; 32]), "test".parse().unwrap());
    let id = IdMint::default().next(&network, &maker.client_key().public(), clock::now());
    let offer = Offer::create(&maker, &network, id, new_offer(), clock::now()).unwrap();
    let reference = OfferRef::Hash(offer.target());
    exchange.record(Arc::new(offer), Via::Dht).unwrap();
    let waiting = tokio::spawn({
        let exchange = exchange.clone();
        let minute = Duration::from_mins(1);
        let new = NewBid { offer: reference, price: None, seen: Seen::default(), valid_for: minute };
        async move { exchange.bid(new, minute, None).await }
    });
    while exchange.snapshot().state.bids_in_doubt == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    thread.stop();
    let reply = waiting.await.unwrap();
    assert!(matches!(reply, Ok(Done::Bid { again: false, .. })), "{reply:?}");
    assert!(thread.ended.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_commit_that_fails_for_good_ends_the_writer_and_acknowledges_nothing() {
    let journal = Fake::default();
    let (exchange, thread, mut published) = started(&journal);
    *journal.failing.lock().unwrap() = Some(false);
    assert_eq!(exchange.create(new_offer(), None).await, Err(CommandError::Stopping));
    assert!(matches!(thread.ended.await.unwrap(), Err(JournalError::Failed(_))));
    assert!(published.recv().await.is_none());
    assert!(matches!(exchange.create(new_offer(), None).await, Err(CommandError::Stopping)));
}

fn head(maker: u8, counter: u64) -> SignedHead {
    let key = MasterKey::from_bytes([maker; 32]).client_key();
    let at = clock::now();
    let head =
        Head { maker: key.public(), counter, at, records: 0, root: Root([0; 32]), addresses: Vec::new() };
    head.sign(&"test".parse().unwrap(), &key)
}

/// What was stored until now.
fn heads_in(journal: &Fake) -> Vec<SignedHead> {
    let mut heads: Vec<_> = journal.heads.lock().unwrap().concat();
    heads.sort_by_key(|head| (head.maker, head.counter));
    heads
}

#[tokio::test]
async fn heads_are_stored_together_and_only_the_newest_of_each_maker() {
    let journal = Fake::default();
    let (exchange, thread, _published) = started(&journal);
    let (first, second, other) = (head(2, 1), head(2, 2), head(3, 1));
    exchange.keep_heads(vec![first, other.clone()]);
    exchange.keep_heads(vec![second.clone()]);
    while heads_in(&journal).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut expected = [second, other];
    expected.sort_by_key(|head| head.maker);
    assert_eq!((heads_in(&journal), journal.heads.lock().unwrap().len()), (expected.to_vec(), 1));
    // What waits when the node stops is stored as well.
    let last = head(4, 1);
    exchange.keep_heads(vec![last.clone()]);
    thread.stop();
    assert!(thread.ended.await.unwrap().is_ok());
    assert!(heads_in(&journal).contains(&last));
}

#[tokio::test]
async fn heads_that_cannot_be_stored_are_let_go_and_stop_nothing() {
    for full in [true, false] {
        let journal = Fake::default();
        let (exchange, thread, _published) = started(&journal);
        *journal.failing.lock().unwrap() = Some(full);
        exchange.keep_heads(vec![head(2, 1)]);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        *journal.failing.lock().unwrap() = None;
        assert!(exchange.create(new_offer(), None).await.is_ok(), "full: {full}");
        thread.stop();
        assert!(thread.ended.await.unwrap().is_ok());
        assert_eq!(heads_in(&journal), []);
    }
}

#[test]
fn a_head_waits_for_others_unless_the_node_stops() {
    let mut waiting = WaitingHeads::default();
    let (known, mut journal) = (head(2, 1), Fake::default());
    waiting.add(vec![known.clone()]);
    assert!(waiting.due_in() > Some(Duration::from_millis(900)));
    waiting.keep_due(&mut journal);
    assert_eq!(heads_in(&journal), [], "it waits for others");
    waiting.keep_all(&mut journal);
    assert_eq!((heads_in(&journal), waiting.due_in()), (vec![known], None));
}
