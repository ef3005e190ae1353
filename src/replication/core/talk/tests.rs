use super::*;
use crate::identity::Signature;
use proptest::prelude::*;

fn items() -> impl Strategy<Value = MutableItem> {
    (any::<[u8; 32]>(), any::<i64>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..1000)).prop_map(
        |(k, seq, sig, v)| MutableItem {
            k: PublicKey(k),
            seq,
            v: v.into(),
            sig: Signature([sig; 64]),
            salt: [].into(),
        },
    )
}

fn records() -> impl Strategy<Value = Carried> {
    (items(), prop::option::of(prop::collection::vec(any::<u8>(), 0..1000))).prop_map(|(item, other)| {
        let twin = other.map(|v| MutableItem { v: v.into(), ..item.clone() });
        Carried { twin: twin.filter(|twin| twin.v != item.v), item }
    })
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (any::<[u8; 20]>(), any::<u64>(), any::<[u8; 16]>()).prop_map(|(target, sequence, value)| Stamp {
        target: Target(target),
        version: Version { sequence, value: ValueHash(value) },
    })
}

fn makers() -> impl Strategy<Value = ClientId> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn news() -> impl Strategy<Value = Vec<News>> {
    let head = (makers(), any::<u64>()).prop_map(|(maker, counter)| News::Head { maker, counter });
    prop::collection::vec(prop_oneof![stamps().prop_map(News::Record), head], 0..20)
}

fn messages() -> impl Strategy<Value = Message<Carried>> {
    prop_oneof![
        records().prop_map(Message::Record),
        news().prop_map(Message::Have),
        news().prop_map(Message::Want),
        prop::collection::vec(makers(), 0..9).prop_map(Message::Prune),
        prop::collection::vec(makers(), 0..9).prop_map(Message::Graft),
    ]
}

fn times() -> impl Strategy<Value = UnixMillis> {
    (0..1_u64 << 53).prop_map(UnixMillis)
}

fn questions() -> impl Strategy<Value = Question> {
    prop_oneof![
        Just(Question::Leave),
        prop::option::of(makers()).prop_map(Question::Heads),
        times().prop_map(Question::Overall),
        (times(), prop::option::of(makers())).prop_map(|(at, after)| Question::Roots(at, after)),
        (makers(), times()).prop_map(|(maker, at)| Question::Maker(maker, at)),
        (makers(), times(), any::<u8>()).prop_map(|(maker, at, byte)| Question::Bucket(maker, at, byte)),
        prop::collection::vec(any::<[u8; 20]>().prop_map(Target), 0..RECORDS_A_QUESTION_MAX)
            .prop_map(Question::Records),
    ]
}

fn answers() -> impl Strategy<Value = Answer<Carried>> {
    let root = || any::<[u8; 32]>().prop_map(Root);
    let summary = (any::<u8>(), root(), any::<u32>())
        .prop_map(|(byte, root, records)| (byte, Summary { root, records }));
    prop_oneof![
        Just(Answer::Left),
        Just(Answer::NotTold),
        root().prop_map(Answer::Overall),
        (prop::collection::vec((makers(), root()), 0..9), any::<bool>())
            .prop_map(|(roots, more)| Answer::Roots(roots, more)),
        prop::collection::vec(summary, 0..9).prop_map(Answer::Buckets),
        prop::collection::vec(stamps(), 0..9).prop_map(Answer::Stamps),
        prop::collection::vec(records(), 0..9).prop_map(Answer::Records),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec(messages(), 0..9),
        question in questions(),
        answer in answers(),
    ) {
        let (frame, written) = write_frame(&messages);
        prop_assert_eq!(read_frame(&frame), Ok(messages[..written].to_vec()));
        prop_assert_eq!(Question::read(&question.to_bytes()), Ok(question.clone()));
        prop_assert_eq!(Answer::read(&answer.to_bytes()), Ok(answer));
        for cut in 0..question.to_bytes().len() {
            prop_assert!(Question::read(&question.to_bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn no_bytes_are_read_but_by_what_they_say(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(messages) = read_frame(&bytes) {
            prop_assert_eq!(write_frame(&messages).0, &bytes[..]);
        }
        if let Ok(question) = Question::read(&bytes) {
            prop_assert_eq!(question.to_bytes(), &bytes[..]);
        }
        if let Ok(answer) = Answer::read(&bytes) {
            prop_assert_eq!(answer.to_bytes(), &bytes[..]);
        }
    }
}

#[test]
fn a_list_that_says_it_is_long_reserves_nothing() {
    for tag in [3_u8, 4, 5, 6] {
        assert!(read_frame(&[tag, 0xff, 0xff]).is_err());
        assert!(read_frame(&[tag, 0x03, 0xe8]).is_err());
    }
    assert!(Question::read(&[8, 0xff, 0xff]).is_err() && Answer::read(&[8, 0xff, 0xff]).is_err());
    assert!(read_frame(&vec![5; TALK_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_proof_of_fraud_is_two_that_differ_in_their_key_or_value() {
    let item = MutableItem {
        k: PublicKey([1; 32]),
        seq: 7,
        v: vec![1].into(),
        sig: Signature([2; 64]),
        salt: [].into(),
    };
    let with = |twin: MutableItem| {
        write_frame(&[Message::Record(Carried { item: item.clone(), twin: Some(twin) })]).0
    };
    let other = MutableItem { v: vec![2].into(), ..item.clone() };
    let later = MutableItem { seq: 8, ..other.clone() };
    let namesake = MutableItem { k: PublicKey([3; 32]), ..other.clone() };
    for good in [other, later, namesake] {
        assert!(read_frame(&with(good)).is_ok());
    }
    for bad in [item.clone(), MutableItem { seq: 8, ..item.clone() }] {
        assert!(read_frame(&with(bad)).is_err());
    }
}

#[test]
fn a_frame_holds_as_much_as_fits() {
    let item = MutableItem {
        k: PublicKey([1; 32]),
        seq: 7,
        v: vec![1; 1000].into(),
        sig: Signature([2; 64]),
        salt: [].into(),
    };
    let messages = vec![Message::Record(Carried { item, twin: None }); 200];
    let (frame, written) = write_frame(&messages);
    assert!(frame.len() <= TALK_BYTES_MAX && (RECORDS_A_QUESTION_MAX - 5..200).contains(&written));
    assert_eq!(read_frame(&frame).unwrap().len(), written);
}
