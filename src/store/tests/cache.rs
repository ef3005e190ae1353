//! What the network tells again: others' records and the heads of makers. Damage of it costs the row, never the start.

use super::*;
use crate::{
    market::Offer,
    replication::core::{
        Head, Root, SignedHead,
        limits::{MAKERS_MAX, SILENT_KNOWN_FOR},
    },
};

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

/// The head of the maker with this number.
fn head(maker: u16, counter: u64, at: UnixMillis) -> SignedHead {
    let mut seed = [1; 32];
    seed[..2].copy_from_slice(&maker.to_be_bytes());
    let key = MasterKey::from_bytes(seed).client_key();
    let addresses = vec!["127.0.0.1:1337".parse().unwrap(), "[2001:db8::1]:6000".parse().unwrap()];
    let head = Head { maker: key.public(), counter, at, records: 7, root: Root([3; 32]), addresses };
    head.sign(&network(), &key)
}

fn heads_of(store: &mut Store) -> Vec<SignedHead> {
    let mut heads = store.heads().unwrap();
    heads.sort_by_key(|head| head.counter);
    heads
}

/// A store in which many records of others are held and one was signed twice, and these.
fn with_records(dir: &Path) -> (Store, Vec<Arc<Offer>>) {
    let others = |state: &State| state.market.records.len() - state.own.len();
    let filled = |seed| {
        let (batches, states) = Pair::history(seed, 300);
        let filled = (0..states.len()).filter(|n| !states[*n].market.equivocated.is_empty());
        let fullest = filled.max_by_key(|n| others(&states[*n])).filter(|n| others(&states[*n]) > 20)?;
        Some((batches, fullest))
    };
    let (batches, fullest) = (3..100).find_map(filled).expect("some history has a proof of fraud in it");
    let mut store = open(dir);
    batches[..fullest].iter().for_each(|batch| store.commit(batch).unwrap());
    let records = heard(&mut store, NOBODY_DEAD);
    assert!(records.len() > 10, "{} records", records.len());
    (store, records)
}

fn heard(store: &mut Store, now: UnixMillis) -> Vec<Arc<Offer>> {
    let events = store.load(now).unwrap();
    let heard = events.into_iter().filter_map(|event| match event {
        Event::Heard(offer) => Some(offer),
        _ => None,
    });
    heard.collect()
}

fn rows(store: &Store, table: &str) -> usize {
    store.conn.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get::<_, i64>(0)).unwrap()
        as usize
}

#[test]
fn a_damaged_record_of_others_is_dropped_counted_and_told_again() {
    let changes =
        ["seq = seq + 1", "v = zeroblob(length(v))", "sig = lower(sig) || '0'", "target = 'x'", "crc = 0"];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut records) = with_records(dir.path());
        damage(&store, "records", change);
        let lost = records.pop().unwrap();
        assert_eq!(heard(&mut store, NOBODY_DEAD), records, "{change}");
        assert_eq!((store.dropped().records.get(), rows(&store, "records")), (1, records.len()));
        // The next start finds nothing to drop, and what is told again is kept.
        assert_eq!(heard(&mut store, NOBODY_DEAD), records);
        assert_eq!(store.dropped().records.get(), 1);
        store.commit(&[Event::Heard(Arc::clone(&lost))]).unwrap();
        records.push(lost);
        assert_eq!(heard(&mut store, NOBODY_DEAD), records, "{change}");
    }
}

#[test]
fn a_proof_of_fraud_does_not_lose_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = with_records(dir.path());
    let proofs = rows(&store, "contradictions");
    assert!(proofs > 0);
    let before = state_of(&mut store);
    store.conn.execute_batch("UPDATE records SET crc = 0").unwrap();
    let after = state_of(&mut store);
    assert_eq!(
        (after.market.equivocated.len(), after.market.equivocated == before.market.equivocated),
        (proofs, true)
    );
    assert!(after.market.equivocated.keys().all(|target| after.market.records.contains_key(target)));
    // Or nothing would ever forget it: what is set when a record is held takes the proof with it.
    let (key, far) = (MasterKey::from_bytes([1; 32]), UnixMillis(u64::MAX >> 12));
    let (core, _) = Core::restore(key, network(), [0; 32], store.load(far).unwrap(), far);
    assert!(core.state().market.equivocated.is_empty());
}

#[test]
fn what_others_made_and_is_dead_is_not_loaded_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, records) = with_records(dir.path());
    let mut deaths: Vec<UnixMillis> = records.iter().map(|offer| offer.dies_at).collect();
    deaths.sort_unstable();
    let now = deaths[deaths.len() / 2];
    let proven = state_of(&mut store).market.equivocated;
    let lives = |offer: &Arc<Offer>| !offer.is_dead(now) || proven.contains_key(&offer.target());
    let living: Vec<_> = records.iter().filter(|offer| lives(offer)).cloned().collect();
    assert!(living.len() < records.len());
    assert_eq!(heard(&mut store, now), living);
    assert_eq!(rows(&store, "records"), living.len());
    assert_eq!(store.dropped().records.get(), 0, "death is no damage");
}

#[test]
fn the_last_head_of_each_maker_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.heads().unwrap(), []);
    store.keep_heads(&[]).unwrap();
    store.keep_heads(&[head(1, 1, NOW), head(2, 2, NOW)]).unwrap();
    store.keep_heads(&[head(1, 3, NOW.plus(std::time::Duration::from_mins(1)))]).unwrap();
    drop(store);
    let kept = [head(2, 2, NOW), head(1, 3, NOW.plus(std::time::Duration::from_mins(1)))];
    assert_eq!(heads_of(&mut open(dir.path())), kept);
}

#[test]
fn a_damaged_head_is_dropped_and_counted() {
    for change in
        ["head = zeroblob(200)", "head = substr(head, 1, 40)", "at = at + 100000000000", "maker = 'x'"]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.keep_heads(&[head(1, 1, NOW), head(2, 2, NOW)]).unwrap();
        damage(&store, "heads", change);
        assert_eq!(heads_of(&mut store), [head(1, 1, NOW)], "{change}");
        assert_eq!((store.dropped().heads.get(), rows(&store, "heads")), (1, 1));
        assert_eq!(store.dropped().records.get(), 0);
    }
}

#[test]
fn makers_that_were_silent_long_before_this_node_stopped_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let edge = NOW.minus(SILENT_KNOWN_FOR);
    let gone = head(3, 3, edge.minus(std::time::Duration::from_millis(1)));
    store.keep_heads(&[head(1, 1, NOW), head(2, 2, edge), gone]).unwrap();
    assert_eq!(heads_of(&mut store), [head(1, 1, NOW), head(2, 2, edge)]);
    assert_eq!((rows(&store, "heads"), store.dropped().heads.get()), (2, 0));
}

#[test]
fn heads_are_bounded_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    // Older ones of makers that nobody needs to sign for.
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                INSERT INTO heads (maker, at, head, crc) SELECT 'maker ' || i, i, x'', 0 FROM n";
    store.conn.execute(fill, [MAKERS_MAX as i64]).unwrap();
    store.keep_heads(&[head(1, 1, NOW)]).unwrap();
    assert_eq!(rows(&store, "heads"), MAKERS_MAX);
    let oldest: i64 = store.conn.query_row("SELECT min(at) FROM heads", (), |row| row.get(0)).unwrap();
    assert_eq!(oldest, 2);
    assert_eq!(heads_of(&mut store), [head(1, 1, NOW)]);
    assert_eq!(store.dropped().heads.get() as usize, MAKERS_MAX - 1);
}

#[test]
fn a_store_of_the_schema_before_heads_is_taken_over_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = with_records(dir.path());
    // Other proofs than of two values of one sequence there were not.
    store.conn.execute_batch("DELETE FROM contradictions WHERE seq <> other_seq").unwrap();
    let (state, records) = (state_of(&mut store), heard(&mut store, NOBODY_DEAD));
    assert!(!state.market.equivocated.is_empty());
    // As they were written then.
    for (first, second) in state.market.equivocated.values() {
        let row = write::item(Row::default().text(first.target()), first);
        let row = row.blob(&second.item().v).text(second.item().sig);
        row.upsert(&store.conn, &tables::EQUIVOCATIONS).unwrap();
    }
    let later = "DROP TABLE heads; DROP TABLE bids_given_up; DROP TABLE contradictions; DROP TABLE unlisted;";
    store.conn.execute_batch(&format!("{later} PRAGMA user_version = 1")).unwrap();
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(store.status().schema_version, schema::SCHEMA);
    assert!(state_of(&mut store) == state && heard(&mut store, NOBODY_DEAD) == records);
    store.keep_heads(&[head(1, 1, NOW)]).unwrap();
    assert_eq!(heads_of(&mut store), [head(1, 1, NOW)]);
}
