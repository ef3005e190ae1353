use super::*;
use proptest::prelude::*;

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}
fn net(name: &str) -> Network {
    name.parse().unwrap()
}
fn request(at: UnixMillis) -> SignedRequest {
    SignedRequest::sign(&net("test"), &key(1), key(2).public(), "offer:bid", r#"{"price":"1"}"#.into(), at)
        .unwrap()
}
fn reply(to: &SignedRequest, outcome: Outcome) -> SignedReply {
    SignedReply::sign(&net("test"), &key(2), &to.digest(), NOW, outcome).unwrap()
}
fn refused(request: SignedRequest) -> String {
    request.verify(&net("test"), &key(2).public(), NOW).unwrap_err().code
}

#[test]
fn a_signed_request_crosses_the_wire_and_verifies() {
    let parsed = SignedRequest::parse(&request(NOW).to_payload().unwrap()).unwrap();
    let verified = parsed.verify(&net("test"), &key(2).public(), NOW).unwrap();
    assert_eq!((verified.cmd(), verified.body()), ("offer:bid", r#"{"price":"1"}"#));
    assert_eq!((verified.from(), verified.at()), (key(1).public(), NOW));
}

#[test]
fn any_changed_field_other_network_or_other_node_is_refused() {
    let changes: [fn(&mut SignedRequest); 5] = [
        |r| r.cmd = "offer:bit".into(),
        |r| r.body.push(' '),
        |r| r.from = key(3).public(),
        |r| r.at = NOW.plus(Duration::from_millis(1)),
        |r| r.sig.0[0] ^= 1,
    ];
    for change in changes {
        let mut changed = request(NOW);
        change(&mut changed);
        assert_eq!(refused(changed), code::BAD_SIGNATURE);
    }
    let other = request(NOW).verify(&net("other"), &key(2).public(), NOW).unwrap_err();
    assert_eq!(other.code, code::BAD_SIGNATURE);
    let elsewhere = request(NOW).verify(&net("test"), &key(3).public(), NOW).unwrap_err();
    assert_eq!(elsewhere.code, code::WRONG_RECIPIENT);
    let mut redirected = request(NOW);
    redirected.to = key(3).public();
    let error = redirected.verify(&net("test"), &key(3).public(), NOW).unwrap_err();
    assert_eq!(error.code, code::BAD_SIGNATURE, "the recipient is signed too");
}

#[test]
fn a_minute_apart_is_good_and_more_is_stale_either_way() {
    let later = Duration::from_millis(1);
    for at in [NOW.plus(CLOCK_SKEW_MAX), NOW.minus(CLOCK_SKEW_MAX)] {
        assert!(request(at).verify(&net("test"), &key(2).public(), NOW).is_ok());
    }
    for at in [NOW.plus(CLOCK_SKEW_MAX).plus(later), NOW.minus(CLOCK_SKEW_MAX).minus(later)] {
        assert_eq!(refused(request(at)), code::STALE_REQUEST);
    }
}

#[test]
fn text_cannot_move_from_the_command_into_the_body() {
    let one = encode_request("ab", &key(1).public(), NOW, "c");
    assert_ne!(one, encode_request("a", &key(1).public(), NOW, "bc"));
}

#[test]
fn oversize_is_neither_signed_nor_read() {
    let sign = |cmd: &str, body: String| {
        SignedRequest::sign(&net("test"), &key(1), key(2).public(), cmd, body, NOW).unwrap_err()
    };
    assert_eq!(sign(&"c".repeat(CMD_BYTES_MAX + 1), String::new()), EnvelopeError::CmdTooLong);
    let long = "b".repeat(BODY_BYTES_MAX + 1);
    assert_eq!(sign("c", long.clone()), EnvelopeError::BodyTooLong(long.len()));
    let mut forged = request(NOW);
    forged.body = long.clone();
    assert!(SignedRequest::parse(&forged.to_payload().unwrap()).is_err());
    let mut forged = reply(&request(NOW), Ok(String::new()));
    forged.outcome = Ok(long);
    assert_eq!(SignedReply::parse(&forged.into_elements().unwrap().1), Err(ReplyError::NotSigned));
}

#[test]
fn a_reply_is_good_for_its_request_only() {
    let request = request(NOW);
    let refusal = RpcRefusal::new("price_below_ask", "the price is below the asking price", false);
    for outcome in [Ok("{}".to_owned()), Err(refusal)] {
        let (error, result) = reply(&request, outcome.clone()).into_elements().unwrap();
        assert_eq!(error.is_some(), outcome.is_err());
        assert!(error.is_none_or(|e| e == "PRICE_BELOW_ASK: the price is below the asking price"));
        let verified = SignedReply::parse(&result).unwrap().verify(&net("test"), &request).unwrap();
        assert_eq!(verified, VerifiedReply { at: NOW, outcome });
    }
    let other = SignedRequest::sign(
        &net("test"),
        &key(1),
        key(2).public(),
        "offer:bid",
        r#"{"price":"2"}"#.into(),
        NOW,
    )
    .unwrap();
    let verify = |reply: SignedReply| reply.verify(&net("test"), &request).unwrap_err();
    assert_eq!(verify(reply(&other, Ok("{}".into()))), ReplyError::BadSignature);
    let stranger = SignedReply::sign(&net("test"), &key(3), &request.digest(), NOW, Ok("{}".into())).unwrap();
    assert_eq!(verify(stranger), ReplyError::WrongSigner { found: key(3).public() });
}

#[test]
fn an_altered_reply_is_no_answer() {
    type Change = fn(&mut SignedReply);
    let request = request(NOW);
    let refusal = RpcRefusal::new("no", "never", false);
    let changes: [(Outcome, Change); 5] = [
        (Ok("a".into()), |r| r.outcome = Ok("b".into())),
        (Ok("a".into()), |r| r.outcome = Err(RpcRefusal::new("no", "never", false))),
        (Ok("a".into()), |r| r.at = NOW.plus(Duration::from_secs(1))),
        (Err(refusal.clone()), |r| r.outcome = Err(RpcRefusal::new("no", "never", true))),
        (Err(refusal), |r| r.outcome = Err(RpcRefusal::new("non", "ever", false))),
    ];
    for (outcome, change) in changes {
        let mut altered = reply(&request, outcome);
        change(&mut altered);
        assert_eq!(altered.verify(&net("test"), &request), Err(ReplyError::BadSignature));
    }
}

#[test]
fn bare_objects_and_two_outcomes_are_not_signed_replies() {
    let (_, good) = reply(&request(NOW), Ok("a".into())).into_elements().unwrap();
    let two = good.get().replace("\"body\"", r#""error":{"code":"a","detail":"b","retryable":false},"body""#);
    for text in ["null", "{}", "[]", "5", r#"{"accepted":true}"#, &two] {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(SignedReply::parse(&raw), Err(ReplyError::NotSigned), "{text}");
    }
}

#[test]
fn refusals_are_cut_to_their_limits() {
    let refusal = RpcRefusal::new(&"ü".repeat(CODE_BYTES_MAX), "ü".repeat(DETAIL_BYTES_MAX), false);
    assert_eq!((refusal.code.len(), refusal.detail.len()), (CODE_BYTES_MAX, DETAIL_BYTES_MAX));
}

proptest! {
    #[test]
    fn any_body_and_command_round_trip(cmd in ".{0,16}", body: String) {
        let made = SignedRequest::sign(&net("test"), &key(1), key(2).public(), &cmd, body, NOW).unwrap();
        let read = SignedRequest::parse(&made.to_payload().unwrap()).unwrap();
        prop_assert_eq!(&read, &made);
        prop_assert!(read.verify(&net("test"), &key(2).public(), NOW).is_ok());
    }

    #[test]
    fn any_json_is_read_without_a_panic(text in r#"\{("(cmd|body|from|to|at|sig|error)":("[a-z0-9]{0,90}"|[0-9]{1,25}|null|\{\}),?){0,8}\}"#) {
        if let Ok(raw) = RawValue::from_string(text) {
            let _ = SignedRequest::parse(&raw);
            let _ = SignedReply::parse(&raw);
        }
    }
}
