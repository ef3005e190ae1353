//! Frames of Grenache RPC: packed or not, with a `_gr` header or without, as a server reads a request and a client reads a reply,
//! down to the envelope and its signature. The first byte says which; with its second bit set, the first line is the header.

use serde_json::value::RawValue;
use std::{io::Write as _, sync::LazyLock, time::Duration};
use vintner::{
    grenache::{
        envelope::{BODY_BYTES_MAX, CMD_BYTES_MAX, SignedReply, SignedRequest},
        wire::{
            FRAME_BYTES_MAX, KEY_BYTES_MAX, RID_BYTES_MAX, Rid, WireError, parse_reply, parse_request,
            rid_of, unpack, write_reply, write_request,
        },
    },
    identity::{KeyPair, Network},
    time::UnixMillis,
};

/// The one who is asked, and his network. Fixed: corpora hold signatures for them.
pub struct Stage {
    /// The network.
    pub network: Network,
    /// The one who is asked.
    pub me: KeyPair,
    /// The time.
    pub now: UnixMillis,
    /// What the other asked.
    pub asked: SignedRequest,
}

/// See [`Stage`].
pub static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let network: Network = "fuzz".parse().unwrap();
    let (me, other) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    let now = UnixMillis(1_700_000_000_000);
    let asked = SignedRequest::sign(&network, &other, me.public(), "ping", "{}".to_owned(), now).unwrap();
    Stage { network, me, now, asked }
});

/// See the module's page.
pub fn run(data: &[u8]) {
    let Some((&how, mut body)) = data.split_first() else { return };
    let mut header = None;
    if how & 2 != 0 {
        let end = body.iter().position(|b| *b == b'\n').unwrap_or(body.len());
        header = std::str::from_utf8(&body[..end]).ok();
        body = body.get(end + 1..).unwrap_or_default();
    }
    let packed;
    if how & 4 != 0 {
        // libFuzzer does not find a good checksum, so the text is packed here.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        packed = encoder.finish().unwrap();
        body = &packed;
    }
    let frame = if how & 1 == 0 { Ok(body.into()) } else { unpack(body) };
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => return assert_eq!(error, WireError::TooLong),
    };
    request(&frame, header);
    reply(&frame);
}

fn request(frame: &[u8], header: Option<&str>) {
    let rid = rid_of(frame, header);
    let Ok(request) = parse_request(frame, header) else {
        return assert_eq!(rid.as_json(), "null");
    };
    assert!(request.rid.as_json().len() <= RID_BYTES_MAX && request.key.len() <= KEY_BYTES_MAX);
    assert_eq!(rid.as_json(), request.rid.as_json());
    match write_request(&request.rid, &request.key, &request.payload) {
        Ok(written) => {
            let again = parse_request(&written, None).unwrap();
            assert_eq!(again.rid.as_json(), request.rid.as_json());
            assert_eq!((again.key, again.payload.get()), (request.key, request.payload.get()));
        }
        // Escapes may make it longer than it came.
        Err(error) => assert_eq!(error, WireError::TooLong),
    }
    let Ok(signed) = SignedRequest::parse(&request.payload) else { return };
    assert!(signed.cmd().len() <= CMD_BYTES_MAX);
    assert_eq!(SignedRequest::parse(&signed.to_payload().unwrap()).unwrap(), signed);
    let (me, now) = (STAGE.me.public(), STAGE.now);
    if let Ok(verified) = signed.verify(&STAGE.network, &me, now) {
        assert!(verified.body().len() <= BODY_BYTES_MAX);
        let (at, minute) = (verified.at(), Duration::from_mins(1));
        assert!(now.since(at) <= minute && at.since(now) <= minute, "{at}");
    }
}

fn reply(frame: &[u8]) {
    let rid = parse_request(frame, None).map_or_else(|_| Rid::null(), |request| request.rid);
    let Ok(Some(reply)) = parse_reply(frame, &rid) else { return };
    assert!(reply.error.as_deref() != Some(""));
    if let Ok(written) = write_reply(&reply.rid, reply.error.as_deref(), &reply.result) {
        assert!(written.len() <= FRAME_BYTES_MAX);
        let again = parse_reply(&written, &rid).unwrap().unwrap();
        assert_eq!((again.error, again.result.get()), (reply.error, reply.result.get()));
    }
    let Ok(signed) = SignedReply::parse(&reply.result) else { return };
    let (_, result): (_, Box<RawValue>) = signed.clone().into_elements().unwrap();
    assert_eq!(SignedReply::parse(&result).unwrap(), signed);
    if let Ok(verified) = signed.verify(&STAGE.network, &STAGE.asked) {
        assert!(verified.outcome.is_err() || verified.outcome.is_ok_and(|body| body.len() <= BODY_BYTES_MAX));
    }
}
