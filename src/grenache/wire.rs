//! The framing of Grenache RPC: `[rid, key, payload]` there, `[rid, error | null, result]` back, in JSON.
//!
//! Pure. What strangers send is read within bounds and copied only once; whatever it is, the answer is a value or a
//! [`WireError`], never a panic. Elements after the third are ignored, as stock Grenache does.

use super::gzip::{self, UnpackError};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The longest frame, there and back, uncompressed. Room for an envelope's largest body even when half of it needs escapes.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The longest request id that is echoed; stock clients send 38 bytes (a UUID and its quotes).
pub const RID_BYTES_MAX: usize = 256;
/// The longest service name; stock names are a few words, a client id is 64 digits.
pub const KEY_BYTES_MAX: usize = 1024;
/// How many array elements are read before a frame is refused.
const ELEMENTS_MAX: usize = 16;

/// Why a frame cannot be read. The texts go to the caller inside an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Over [`FRAME_BYTES_MAX`].
    #[error("the frame is longer than {FRAME_BYTES_MAX} bytes")]
    TooLong,
    /// Not JSON, or not a JSON array.
    #[error("the frame is not a JSON array")]
    NotAnArray,
    /// The request id is missing or over [`RID_BYTES_MAX`].
    #[error("the request id is missing or longer than {RID_BYTES_MAX} bytes")]
    BadRid,
    /// The key is not a string, or over [`KEY_BYTES_MAX`].
    #[error("the key is not a string of at most {KEY_BYTES_MAX} bytes")]
    BadKey,
}

/// A request id as the caller wrote it: any short JSON value. Echoed byte for byte.
#[derive(Clone, Debug)]
pub struct Rid(Box<RawValue>);

impl Rid {
    /// `null`: what answers a request whose id could not be read.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// A string id.
    pub fn text(text: &str) -> Result<Self, WireError> {
        let raw = serde_json::value::to_raw_value(text).map_err(|_| WireError::BadRid)?;
        Self::new(&raw)
    }

    fn new(raw: &RawValue) -> Result<Self, WireError> {
        if raw.get().len() > RID_BYTES_MAX { Err(WireError::BadRid) } else { Ok(Self(raw.to_owned())) }
    }

    /// Its JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// Equal as values: two ways to write one string are one id.
    fn same(&self, other: &Self) -> bool {
        let value = |rid: &Self| serde_json::from_str::<serde_json::Value>(rid.as_json()).ok();
        self.as_json() == other.as_json() || (value(self).is_some() && value(self) == value(other))
    }
}

/// A request as it came out of its frame.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which request this is; the reply must carry the same.
    pub rid: Rid,
    /// The service that is asked for.
    pub key: String,
    /// The payload's JSON text.
    pub payload: Box<RawValue>,
}

/// A reply as it came out of its frame.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request's id.
    pub rid: Rid,
    /// What went wrong; `None` when the element was null, empty, zero or false, as stock clients read it.
    pub error: Option<String>,
    /// The result's JSON text, `null` when there is none. Present beside an error too.
    pub result: Box<RawValue>,
}

/// Reads `[rid, key, payload]`. `overrides` is the `_gr` header's `["rid","key"]`: what is true of it, as JavaScript sees it, wins
/// over the frame's.
pub fn parse_request(frame: &[u8], overrides: Option<&str>) -> Result<Request, WireError> {
    let outer = overrides.map(|header| elements(header.as_bytes())).transpose()?;
    let inner = elements(frame)?;
    let named = |at: usize| outer.as_ref()?.get(at).filter(|raw| is_true(raw.get()));
    let element = |at: usize| named(at).or_else(|| inner.get(at));
    let rid = Rid::new(element(0).ok_or(WireError::BadRid)?)?;
    let key = match element(1) {
        None => String::new(),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| WireError::BadKey)?,
    };
    if key.len() > KEY_BYTES_MAX {
        return Err(WireError::BadKey);
    }
    Ok(Request { rid, key, payload: third(&inner) })
}

/// Gunzips what was announced as gzip, within the frame's bound. What is no gzip after all is taken as it is, as stock does.
pub fn unpack(body: &[u8]) -> Result<Cow<'_, [u8]>, WireError> {
    match gzip::unpack(body, FRAME_BYTES_MAX) {
        Ok(unpacked) => Ok(unpacked.into()),
        Err(UnpackError::NotGzip) => Ok(body.into()),
        Err(UnpackError::TooLong) => Err(WireError::TooLong),
    }
}

/// The payload of a frame whose id and key are known from elsewhere; null when it is no frame.
#[must_use]
pub fn payload_of(frame: &[u8]) -> Box<RawValue> {
    elements(frame).map_or_else(|_| RawValue::NULL.to_owned(), |elements| third(&elements))
}

/// The id and the key that a `_gr` header gives to a body that need not be a frame; `None` when it does not give both.
#[must_use]
pub fn named(header: &str) -> Option<(Rid, String)> {
    let outer = elements(header.as_bytes()).ok()?;
    let [rid, key] = [outer.first()?, outer.get(1)?];
    let key: String = serde_json::from_str(key.get()).ok()?;
    let fits = is_true(rid.get()) && !key.is_empty() && key.len() <= KEY_BYTES_MAX;
    fits.then(|| Rid::new(rid).ok())?.map(|rid| (rid, key))
}

/// The id of a frame that is refused without being read any further.
#[must_use]
pub fn rid_of(frame: &[u8], overrides: Option<&str>) -> Rid {
    parse_request(frame, overrides).map_or_else(|_| Rid::null(), |request| request.rid)
}

/// Reads `[rid, error, result]` and checks that it answers `rid`; `None` inside `Ok` when it answers something else.
pub fn parse_reply(frame: &[u8], rid: &Rid) -> Result<Option<Reply>, WireError> {
    let elements = elements(frame)?;
    let found = Rid::new(elements.first().ok_or(WireError::BadRid)?)?;
    if !found.same(rid) {
        return Ok(None);
    }
    let error = elements.get(1).and_then(|raw| truthy(raw.get()));
    Ok(Some(Reply { rid: found, error, result: third(&elements) }))
}

/// Writes `[rid, key, payload]`.
pub fn write_request(rid: &Rid, key: &str, payload: &RawValue) -> Result<Vec<u8>, WireError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(WireError::BadKey);
    }
    frame(&(&rid.0, key, payload))
}

/// Writes `["rid","key"]`, the `_gr` header of a stream.
pub fn write_name(rid: &Rid, key: &str) -> Result<String, WireError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(WireError::BadKey);
    }
    serde_json::to_string(&(&rid.0, key)).map_err(|_| WireError::NotAnArray)
}

/// Writes `[rid, error | null, result]`.
pub fn write_reply(rid: &Rid, error: Option<&str>, result: &RawValue) -> Result<Vec<u8>, WireError> {
    frame(&(&rid.0, error, result))
}

fn frame(elements: &impl serde::Serialize) -> Result<Vec<u8>, WireError> {
    let frame = serde_json::to_vec(elements).map_err(|_| WireError::NotAnArray)?;
    if frame.len() > FRAME_BYTES_MAX { Err(WireError::TooLong) } else { Ok(frame) }
}

fn elements(frame: &[u8]) -> Result<Vec<&RawValue>, WireError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let elements: Vec<&RawValue> = serde_json::from_slice(frame).map_err(|_| WireError::NotAnArray)?;
    if elements.len() > ELEMENTS_MAX { Err(WireError::NotAnArray) } else { Ok(elements) }
}

fn third(elements: &[&RawValue]) -> Box<RawValue> {
    elements.get(2).map_or(RawValue::NULL, |raw| raw).to_owned()
}

/// The error element's text, unless JavaScript would call it false.
fn truthy(json: &str) -> Option<String> {
    is_true(json).then(|| serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()))
}

/// As JavaScript sees it: all but null, false, the empty string and zero.
fn is_true(json: &str) -> bool {
    !matches!(json, "null" | "false" | "\"\"") && !json.parse::<f64>().is_ok_and(|n| n == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn what_a_stock_client_sends_is_read() {
        let frame = br#"["f8c6d5d0-1","rest:util:net",{"length":4}]"#;
        let request = parse_request(frame, None).unwrap();
        assert_eq!((request.rid.as_json(), &*request.key), (r#""f8c6d5d0-1""#, "rest:util:net"));
        assert_eq!(request.payload.get(), r#"{"length":4}"#);
        let request = parse_request(br#"["inner","inner",1]"#, Some(r#"["outer","key"]"#)).unwrap();
        assert_eq!((request.rid.as_json(), &*request.key, request.payload.get()), (r#""outer""#, "key", "1"));
        let (rid, key) = named(r#"["outer","key"]"#).unwrap();
        assert_eq!((rid.as_json(), &*key), (r#""outer""#, "key"));
        assert_eq!((payload_of(b"raw bytes").get(), payload_of(frame).get()), ("null", r#"{"length":4}"#));
        for part in [
            "",
            "x",
            "{}",
            r#"["outer"]"#,
            r#"["outer",""]"#,
            r#"["","key"]"#,
            r#"[0,"key"]"#,
            r#"["outer",5]"#,
        ] {
            assert!(named(part).is_none(), "{part}");
        }
        let request = parse_request(br#"["inner","name",1]"#, Some(r#"[null,"key"]"#)).unwrap();
        assert_eq!((request.rid.as_json(), &*request.key), (r#""inner""#, "key"));
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let long_key = format!(r#"[1,"{}"]"#, "k".repeat(KEY_BYTES_MAX + 1));
        let long_rid = format!(r#"["{}","k"]"#, "r".repeat(RID_BYTES_MAX));
        let cases: [(&[u8], WireError); 9] = [
            (b"", WireError::NotAnArray),
            (b"garbage", WireError::NotAnArray),
            (b"{}", WireError::NotAnArray),
            (b"5", WireError::NotAnArray),
            (b"[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", WireError::NotAnArray),
            (b"[]", WireError::BadRid),
            (b"[1,2,3]", WireError::BadKey),
            (long_key.as_bytes(), WireError::BadKey),
            (long_rid.as_bytes(), WireError::BadRid),
        ];
        for (frame, error) in cases {
            assert_eq!(parse_request(frame, None).unwrap_err(), error, "{}", String::from_utf8_lossy(frame));
        }
        let long = format!("[\"r\",\"k\",\"{}\"]", "x".repeat(FRAME_BYTES_MAX));
        assert_eq!(parse_request(long.as_bytes(), None).unwrap_err(), WireError::TooLong);
        assert_eq!(
            write_reply(&Rid::null(), None, &raw(&format!("\"{}\"", "x".repeat(FRAME_BYTES_MAX)))),
            Err(WireError::TooLong)
        );
    }

    #[test]
    fn errors_are_true_as_javascript_sees_them() {
        let error = |json: &str| {
            let frame = format!("[\"r\",{json},1]");
            parse_reply(frame.as_bytes(), &Rid::text("r").unwrap()).unwrap().unwrap().error
        };
        for falsy in ["null", "\"\"", "false", "0", "-0", "0.0"] {
            assert_eq!(error(falsy), None, "{falsy}");
        }
        assert_eq!(error("\"ERR\"").as_deref(), Some("ERR"));
        assert_eq!(error("{\"a\":1}").as_deref(), Some("{\"a\":1}"));
    }

    #[test]
    fn a_reply_to_something_else_is_none() {
        let rid = Rid::text("é").unwrap();
        assert!(parse_reply(b"[\"other\",null,1]", &rid).unwrap().is_none());
        assert!(parse_reply(b"[\"\\u00e9\",null,1]", &rid).unwrap().is_some());
        assert!(parse_reply(b"\"ERR\"", &rid).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, header: Option<String>) {
            let _ = parse_request(&bytes, header.as_deref());
            let _ = parse_reply(&bytes, &Rid::null());
            let _ = rid_of(&bytes, header.as_deref());
        }

        #[test]
        fn almost_frames_are_read_without_a_panic(text in r#"\[["a-z0-9,\[\]{}:\\ ]{0,40}\]?"#) {
            let _ = parse_request(text.as_bytes(), Some(&text));
            let _ = parse_reply(text.as_bytes(), &Rid::null());
        }

        #[test]
        fn requests_and_replies_round_trip(rid in ".{0,60}", key in ".{0,40}", body: String, error in ".{1,40}") {
            let rid = Rid::text(&rid).unwrap();
            let body = raw(&serde_json::to_string(&body).unwrap());
            let request = parse_request(&write_request(&rid, &key, &body).unwrap(), None).unwrap();
            prop_assert!(request.rid.same(&rid) && request.key == key && request.payload.get() == body.get());
            for error in [None, Some(error.as_str())] {
                let frame = write_reply(&rid, error, &body).unwrap();
                let reply = parse_reply(&frame, &rid).unwrap().unwrap();
                prop_assert!(reply.error.as_deref() == error && reply.result.get() == body.get());
            }
        }
    }
}
