//! What one core says to one peer that is played by hand.

use super::{index::Summary, talk::News, *};
use crate::{bep44::MutableItem, identity::PublicKey, time::Now};
use std::{net::SocketAddr, time::Duration};

const WALL: UnixMillis = UnixMillis(1_795_262_400_000);

struct Bench {
    core: Core,
    now: Now,
    peer: KeyPair,
    asked: Vec<(QuestionId, Question)>,
    heads: Vec<Head>,
    haves: Vec<Vec<News>>,
    grafts: Vec<Vec<ClientId>>,
}

impl Bench {
    /// A node with one neighbour, which it has asked for its heads and for everything.
    fn new() -> Self {
        let mut bench = Self::alone();
        let addresses = vec!["127.0.0.1:5001".parse().unwrap()];
        bench.give(Input::Met { client: bench.peer.public(), addresses });
        let head = bench.head(7).bytes().clone();
        let join = bench.take(|question| matches!(question, Question::Join { .. }));
        bench.answer(join, Answer::Joined { accepted: true, head });
        bench
    }

    /// A node that has met nobody.
    fn alone() -> Self {
        let (key, peer) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
        let config = Config {
            network: network(),
            key,
            addresses: vec!["127.0.0.1:5000".parse().unwrap()],
            has_open: false,
        };
        let core = Core::new(config, [3; 32], Now::ZERO, WALL);
        let mut bench = Self {
            core,
            now: Now::ZERO,
            peer,
            asked: Vec::new(),
            heads: Vec::new(),
            haves: Vec::new(),
            grafts: Vec::new(),
        };
        bench.give(Input::Tick);
        bench
    }

    /// The peer asks to be a neighbour, and does not know its own address.
    fn guest() -> Self {
        let mut bench = Self::alone();
        let question = Question::Join { urgent: true, head: bench.head(7).bytes().clone() };
        bench.give(Input::Asked { from: bench.peer.public(), question, to: AnswerTo(1) });
        assert!(bench.core.is_neighbour(&bench.peer.public()) && bench.asked.is_empty());
        bench
    }

    fn head(&self, counter: u64) -> SignedHead {
        self.head_at(counter, Vec::new())
    }

    fn head_at(&self, counter: u64, addresses: Vec<SocketAddr>) -> SignedHead {
        let root = index::summary_of([]).root;
        let maker = self.peer.public();
        Head { maker, counter, at: WALL, records: 0, root, addresses }.sign(&network(), &self.peer)
    }

    fn give(&mut self, input: Input) {
        let wall = WALL.plus(self.now.since_start());
        self.core.handle(self.now, wall, input);
        for effect in self.core.take_effects() {
            match effect {
                Effect::Ask { id, question, .. } => self.asked.push((id, question)),
                Effect::Send { message: Message::Head(bytes), .. } => {
                    self.heads.push(UncheckedHead::read(&bytes).unwrap().claim().clone());
                }
                Effect::Send { message: Message::Have(news), .. } => self.haves.push(news),
                Effect::Send { message: Message::Graft(makers), .. } => self.grafts.push(makers),
                Effect::Judge { copy, record, .. } => {
                    let maker = self.peer.public();
                    let stamp = record.stamp().unwrap();
                    let verdict = Verdict::Genuine { maker, stamp, dies_at: dies_at() };
                    self.give(Input::Judged { copy, verdict });
                    self.hold(stamp, Via::Fetched(maker));
                }
                Effect::JudgeHead { copy, head, via } => {
                    let head = head.verify(&network());
                    self.give(Input::JudgedHead { copy, head, via });
                }
                _ => {}
            }
        }
    }

    /// The peer made it.
    fn hold(&mut self, stamp: Stamp, via: Via) {
        self.give(Input::Held { maker: self.peer.public(), stamp, dies_at: dies_at(), via });
    }

    /// The peer says that these are all its records. The question for them, which follows.
    fn peer_has(&mut self, stamps: &[Stamp]) -> QuestionId {
        let mut index = Index::default();
        for stamp in stamps {
            index.hold(self.peer.public(), *stamp, dies_at());
        }
        let Summary { root, records } = index.summary(&self.peer.public(), WALL);
        let head = Head { records, root, ..Head::clone(&self.head(9)) };
        let head = head.sign(&network(), &self.peer).bytes().clone();
        let heads = self.take(|question| *question == Question::Heads(None));
        self.answer(heads, Answer::Heads(vec![head], false));
        self.take(|question| matches!(question, Question::Maker(..)))
    }

    fn answer(&mut self, id: QuestionId, answer: Answer<Carried>) {
        self.give(Input::Answered { id, answer: Some(answer) });
    }

    /// The oldest question of a kind.
    fn take(&mut self, is_kind: impl Fn(&Question) -> bool) -> QuestionId {
        let at = self.asked.iter().position(|(_, question)| is_kind(question)).unwrap();
        self.asked.remove(at).0
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.give(Input::Tick);
    }

    fn is_neighbour(&self) -> bool {
        self.core.status().neighbours.contains(&self.peer.public())
    }
}

fn network() -> Network {
    "test".parse().unwrap()
}

fn dies_at() -> UnixMillis {
    WALL.plus(Duration::from_hours(1))
}

/// A version of one and the same record.
fn item(seq: i64) -> MutableItem {
    MutableItem {
        k: PublicKey([5; 32]),
        seq,
        v: crate::bep44::bencode_bytes(&[seq as u8; 9]),
        sig: crate::identity::Signature([6; 64]),
        salt: [].into(),
    }
}

fn stamp(item: &MutableItem) -> Stamp {
    Stamp { target: item.target(), version: Version::of(item).unwrap() }
}

/// A maker's id, in the order of its number.
fn maker(n: u32) -> ClientId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey(id)
}

#[test]
fn pages_of_roots_come_to_an_end() {
    let mut bench = Bench::new();
    let overall = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.answer(overall, Answer::Overall(Root([9; 32])));
    let mut pages = 0;
    while bench.asked.iter().any(|(_, question)| matches!(question, Question::Roots(..))) {
        let roots = bench.take(|question| matches!(question, Question::Roots(..)));
        let page = (0..1000).map(|n| (maker(pages * 1000 + n), Root([8; 32]))).collect();
        bench.answer(roots, Answer::Roots(page, true));
        pages += 1;
        assert!(pages <= 200);
    }
    assert!(bench.core.counters().over_jobs > 0 && bench.is_neighbour());
}

#[test]
fn pages_that_go_back_are_a_lie() {
    let mut bench = Bench::new();
    let own = bench.head(8).bytes().clone();
    let first = bench.take(|question| *question == Question::Heads(None));
    bench.answer(first, Answer::Heads(vec![own.clone()], true));
    let second = bench.take(|question| matches!(question, Question::Heads(Some(_))));
    assert!(bench.is_neighbour());
    bench.answer(second, Answer::Heads(vec![own], true));
    assert!(!bench.is_neighbour());
    assert!(!bench.asked.iter().any(|(_, question)| matches!(question, Question::Heads(_))));
}

#[test]
fn two_nodes_with_one_key_do_not_answer_each_other_without_end() {
    let mut bench = Bench::new();
    let key = KeyPair::from_seed(&[1; 32]);
    let before = bench.heads.len();
    for n in 1..100 {
        let counter = bench.core.makers.own().unwrap().counter + 1;
        let root = index::summary_of([]).root;
        let head = Head { maker: key.public(), counter, at: WALL, records: 0, root, addresses: Vec::new() };
        let head = head.sign(&network(), &key);
        let messages = vec![Message::Head(head.bytes().clone())];
        bench.give(Input::Frame { from: bench.peer.public(), messages });
        bench.pass(Duration::from_millis(100));
        assert!(bench.heads.len() - before <= 1 + n / 100, "{n}");
    }
    bench.pass(Duration::from_secs(11));
    let newest = bench.heads.last().unwrap();
    assert!(bench.heads.len() > before && newest.counter >= bench.core.makers.own().unwrap().counter);
}

#[test]
fn who_lists_something_and_delivers_something_older_has_shown_nothing() {
    let mut bench = Bench::new();
    let (old, new) = (item(100), item(200));
    bench.hold(stamp(&old), Via::Dht);
    let list = bench.peer_has(&[stamp(&new)]);
    bench.answer(list, Answer::Stamps(vec![stamp(&new)]));
    let records = bench.take(|question| matches!(question, Question::Records(_)));
    bench.answer(records, Answer::Records(vec![Carried { item: old, twin: None }]));
    assert_eq!((bench.core.status().behind, bench.core.counters().jobs_in_vain), (1, 1));
}

#[test]
fn a_copy_that_one_peer_sends_again_and_again_is_noted_once() {
    let mut bench = Bench::new();
    let messages = vec![Message::Record(Carried { item: item(100), twin: None }); 500];
    bench.core.handle(bench.now, WALL, Input::Frame { from: bench.peer.public(), messages });
    assert_eq!(bench.core.judging.values().map(Vec::len).collect::<Vec<_>>(), [1]);
}

#[test]
fn guests_leave_room_for_those_who_are_being_asked() {
    let mut bench = Bench::new();
    let address = |n: u8| SocketAddr::from(([127, 0, 0, 1], 6000 + u16::from(n)));
    let head = |key: &KeyPair, n| {
        let root = index::summary_of([]).root;
        let head =
            Head { maker: key.public(), counter: 1, at: WALL, records: 0, root, addresses: vec![address(n)] };
        head.sign(&network(), key).bytes().clone()
    };
    for n in 10..20 {
        let client = KeyPair::from_seed(&[n; 32]).public();
        bench.give(Input::Met { client, addresses: vec![address(n)] });
    }
    // Two of them are given up for something else, and answer all the same.
    for to in bench.core.neighbours.joining().into_iter().take(2) {
        bench.give(Input::Sent { to, heard: None });
    }
    for n in 20..40 {
        let key = KeyPair::from_seed(&[n; 32]);
        let question = Question::Join { urgent: false, head: head(&key, n) };
        bench.give(Input::Asked { from: key.public(), question, to: AnswerTo(n.into()) });
    }
    while bench.asked.iter().any(|(_, question)| matches!(question, Question::Join { .. })) {
        let join = bench.take(|question| matches!(question, Question::Join { .. }));
        bench.answer(join, Answer::Joined { accepted: true, head: head(&bench.peer, 1) });
    }
    let neighbours = bench.core.status().neighbours.len();
    assert!((limits::NEIGHBOURS..=limits::NEIGHBOURS_MAX).contains(&neighbours), "{neighbours}");
}

#[test]
fn what_was_found_is_named_to_the_neighbours() {
    let mut bench = Bench::new();
    let list = bench.peer_has(&[stamp(&item(200))]);
    bench.answer(list, Answer::Stamps(vec![stamp(&item(200))]));
    let records = bench.take(|question| matches!(question, Question::Records(_)));
    bench.answer(records, Answer::Records(vec![Carried { item: item(200), twin: None }]));
    bench.pass(limits::HAVE_EVERY);
    assert_eq!(bench.core.status().behind, 0);
    assert_eq!(bench.haves, [[News::Record(stamp(&item(200)))]]);
}

#[test]
fn a_maker_is_told_what_it_forgot() {
    let mut bench = Bench::new();
    bench.hold(stamp(&item(100)), Via::Fetched(bench.peer.public()));
    let list = bench.peer_has(&[]);
    bench.answer(list, Answer::Stamps(Vec::new()));
    bench.pass(limits::HAVE_EVERY);
    assert_eq!(bench.core.status().behind, 0);
    assert_eq!(bench.haves, [[News::Record(stamp(&item(100)))]]);
}

#[test]
fn names_leave_together_and_only_those_of_the_newest_versions() {
    let mut bench = Bench::new();
    for sequence in 1..=200 {
        bench.hold(stamp(&item(sequence)), Via::Dht);
        bench.pass(Duration::from_millis(1));
    }
    bench.pass(limits::HAVE_EVERY);
    assert!(bench.haves.iter().all(|news| news.len() == 1) && bench.haves.len() <= 4, "{:?}", bench.haves);
    assert_eq!(bench.haves.last(), Some(&vec![News::Record(stamp(&item(200)))]));
}

#[test]
fn a_new_neighbour_is_compared_with_also_when_another_comparison_is_under_way() {
    let mut bench = Bench::new();
    let overall = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.answer(overall, Answer::Overall(Index::default().overall(WALL).root));
    // As after a machine has slept: a comparison of ten seconds ago begins, and the neighbours turn out to be none.
    bench.pass(limits::COMPARE_EVERY);
    let old = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.give(Input::Sent { to: bench.peer.public(), heard: Some(false) });
    bench.pass(Duration::from_secs(1));
    let join = bench.take(|question| matches!(question, Question::Join { .. }));
    let head = bench.head(8).bytes().clone();
    bench.answer(join, Answer::Joined { accepted: true, head });
    bench.answer(old, Answer::NotTold);
    let now = WALL.plus(limits::COMPARE_EVERY + Duration::from_secs(1));
    bench.take(|question| *question == Question::Overall(now));
}

#[test]
fn a_neighbour_that_learns_its_address_late_is_asked_once_it_tells_it() {
    let mut bench = Bench::guest();
    bench.pass(Duration::from_secs(1));
    assert!(!bench.core.status().caught_up);
    let head = bench.head_at(8, vec!["127.0.0.1:5001".parse().unwrap()]).bytes().clone();
    bench.give(Input::Frame { from: bench.peer.public(), messages: vec![Message::Head(head)] });
    let heads = bench.take(|question| *question == Question::Heads(None));
    bench.answer(heads, Answer::Heads(Vec::new(), false));
    let overall = bench.take(|question| matches!(question, Question::Overall(_)));
    assert!(!bench.core.status().caught_up);
    bench.answer(overall, Answer::Overall(Index::default().overall(WALL).root));
    assert!(bench.core.status().caught_up && bench.asked.is_empty(), "{:?}", bench.asked);
}

#[test]
fn a_node_whose_neighbours_cannot_be_called_does_not_wait_for_them_for_ever() {
    let mut bench = Bench::guest();
    bench.pass(limits::ADDRESS_WITHIN.mul_f64(0.9));
    assert!(!bench.core.status().caught_up);
    bench.pass(limits::ADDRESS_WITHIN.mul_f64(0.2));
    assert!(bench.core.status().caught_up && bench.asked.is_empty(), "{:?}", bench.asked);
}

#[test]
fn a_comparison_that_another_pushed_aside_is_begun_anew() {
    let mut bench = Bench::new();
    let first = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.pass(limits::COMPARE_EVERY);
    // The minute's comparison has taken the place of the first, which never ended; it tells nothing.
    let minutes = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.give(Input::Answered { id: first, answer: Some(Answer::NotTold) });
    bench.answer(minutes, Answer::NotTold);
    let heads = bench.take(|question| *question == Question::Heads(None));
    bench.answer(heads, Answer::Heads(Vec::new(), false));
    assert!(!bench.core.status().caught_up);
    bench.pass(limits::COMPARE_EVERY);
    let again = bench.take(|question| matches!(question, Question::Overall(_)));
    let root = Index::default().overall(WALL).root;
    bench.answer(again, Answer::Overall(root));
    assert!(bench.core.status().caught_up);
}

#[test]
fn what_a_comparison_shows_is_asked_for_after_what_the_head_says() {
    let mut bench = Bench::new();
    let of_head = bench.peer_has(&[stamp(&item(200))]);
    let peer = bench.peer.public();
    let overall = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.answer(overall, Answer::Overall(Root([9; 32])));
    let roots = bench.take(|question| matches!(question, Question::Roots(..)));
    bench.answer(roots, Answer::Roots(vec![(peer, Root([8; 32]))], false));
    // The head is brought again while what it said is being asked for.
    bench.core.queue_job(peer, None);
    bench.answer(of_head, Answer::NotTold);
    for _ in 0..2 {
        let list = bench.take(|question| matches!(question, Question::Maker(..)));
        bench.answer(list, Answer::NotTold);
    }
    assert!(!bench.core.jobs.is_about(&peer));
}

#[test]
fn a_comparison_works_both_ways() {
    let held = stamp(&item(200));
    // Of a maker that is gone, the other node holds nothing, or something else.
    for listed in [Vec::new(), vec![(maker(9), Root([8; 32]))]] {
        let mut bench = Bench::new();
        bench.give(Input::Restored { maker: maker(9), stamp: held, dies_at: dies_at() });
        let overall = bench.take(|question| matches!(question, Question::Overall(_)));
        bench.answer(overall, Answer::Overall(Root([9; 32])));
        let roots = bench.take(|question| matches!(question, Question::Roots(..)));
        let is_listed = !listed.is_empty();
        bench.answer(roots, Answer::Roots(listed, false));
        if is_listed {
            let list = bench.take(|question| matches!(question, Question::Maker(..)));
            bench.answer(list, Answer::Stamps(Vec::new()));
        }
        bench.pass(limits::HAVE_EVERY);
        assert_eq!(bench.haves, [[News::Record(held)]], "listed: {is_listed}");
    }
}

#[test]
fn what_is_younger_than_a_head_that_counts_everything_is_named() {
    let mut bench = Bench::new();
    let peer = bench.peer.public();
    let younger = item(i64::try_from(WALL.0 + 1).unwrap());
    let overall = bench.take(|question| matches!(question, Question::Overall(_)));
    bench.answer(overall, Answer::Overall(Root([9; 32])));
    let roots = bench.take(|question| matches!(question, Question::Roots(..)));
    bench.answer(roots, Answer::Roots(vec![(peer, Root([8; 32]))], false));
    let list = bench.take(|question| matches!(question, Question::Maker(..)));
    bench.answer(list, Answer::Stamps(vec![stamp(&younger)]));
    let records = bench.take(|question| matches!(question, Question::Records(_)));
    bench.answer(records, Answer::Records(vec![Carried { item: younger.clone(), twin: None }]));
    bench.pass(limits::HAVE_EVERY);
    assert_eq!(bench.haves, [[News::Record(stamp(&younger))]]);
}

#[test]
fn what_a_head_counts_is_not_named_beside_it() {
    let version = stamp(&item(200)).version;
    let [before, then] = [199, 200].map(|at| Some(UnixMillis(at)));
    assert!(version.is_counted(then) && Version::FRAUD.is_counted(then));
    assert!(!version.is_counted(before) && !version.is_counted(None) && !Version::FRAUD.is_counted(None));
}

#[test]
fn what_nobody_could_show_is_asked_for_again() {
    let mut bench = Bench::new();
    let list = bench.peer_has(&[stamp(&item(200))]);
    bench.answer(list, Answer::NotTold);
    assert_eq!((bench.core.status().behind, bench.core.counters().jobs_in_vain), (1, 1));
    bench.pass(limits::COMPARE_EVERY);
    let list = bench.take(|question| matches!(question, Question::Maker(..)));
    bench.answer(list, Answer::Stamps(vec![stamp(&item(200))]));
    let records = bench.take(|question| matches!(question, Question::Records(_)));
    bench.answer(records, Answer::Records(vec![Carried { item: item(200), twin: None }]));
    assert_eq!(bench.core.status().behind, 0);
}

#[test]
fn a_tree_that_does_not_bring_what_the_dht_brought_is_mended() {
    let records: Vec<Stamp> =
        (0..20).map(|n| stamp(&MutableItem { k: PublicKey([n; 32]), ..item(1) })).collect();
    for brought in [false, true] {
        let mut bench = Bench::new();
        let peer = bench.peer.public();
        for stamp in &records {
            bench.hold(*stamp, Via::Dht);
        }
        let named = records.iter().map(|stamp| News::Record(*stamp)).collect();
        bench.give(Input::Frame { from: peer, messages: vec![Message::Have(named)] });
        if brought {
            let copy = |n| Carried { item: MutableItem { k: PublicKey([n; 32]), ..item(1) }, twin: None };
            let messages = (0..20).map(|n| Message::Record(copy(n))).collect();
            bench.give(Input::Frame { from: peer, messages });
        }
        bench.pass(limits::WANT_AFTER);
        bench.pass(limits::WANT_AFTER);
        assert_eq!(bench.grafts, if brought { vec![] } else { vec![vec![peer]] });
        assert_eq!(bench.core.tree.missing.len(), 0);
    }
}

#[test]
fn clocks_that_are_off_count_while_their_nodes_are_neighbours_and_crowd_no_neighbour_out() {
    let mut bench = Bench::alone();
    let met = |bench: &mut Bench, n: u8, accepted| {
        bench.peer = KeyPair::from_seed(&[n; 32]);
        let client = bench.peer.public();
        bench.give(Input::Met { client, addresses: vec![([127, 0, 0, 1], 5000 + u16::from(n)).into()] });
        let at = WALL.plus(Duration::from_hours(2));
        let head = Head { at, ..Head::clone(&bench.head(7)) }.sign(&network(), &bench.peer).bytes().clone();
        let join = bench.take(|question| matches!(question, Question::Join { .. }));
        bench.answer(join, Answer::Joined { accepted, head });
    };
    for n in 0..limits::OFF_TIME_MAX as u8 + 6 {
        met(&mut bench, 100 + n, false);
    }
    assert_eq!(bench.core.status().heads_future, 0, "strangers");
    met(&mut bench, 2, true);
    assert_eq!(bench.core.status().heads_future, 1);
    for n in 0..limits::OFF_TIME_MAX as u8 + 6 {
        met(&mut bench, 10 + n, false);
    }
    assert_eq!((bench.core.status().heads_future, bench.core.off_time.len()), (1, limits::OFF_TIME_MAX));
}

#[test]
fn those_who_could_be_neighbours_are_looked_for_from_each_nodes_own_id_on_and_not_for_ever() {
    let mut bench = Bench::alone();
    let mut ids: Vec<ClientId> = (20..24)
        .map(|n| {
            bench.peer = KeyPair::from_seed(&[n; 32]);
            bench.give(Input::RestoredHead(bench.head(7)));
            bench.peer.public()
        })
        .collect();
    ids.sort_unstable();
    let found = |bench: &Bench, from: &ClientId, most| {
        bench.core.makers.fresh_heads_after(from, most).map(|head| head.maker).collect::<Vec<_>>()
    };
    assert_eq!(found(&bench, &ids[2], 9), [ids[3], ids[0], ids[1], ids[2]]);
    assert_eq!(found(&bench, &ids[2], 2), [ids[3], ids[0]]);
    bench.pass(limits::STALE_AFTER);
    assert_eq!(found(&bench, &ids[2], 9), [], "they have fallen silent");
}
