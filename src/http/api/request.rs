//! What handlers take out of a request: the bounded body with its idempotency key, ids in paths, versions in headers.

use super::problem::{Code, Problem};
use crate::{
    bep44::Target,
    exchange::{IdempotencyKey, OfferRef},
    market::OfferId,
};
use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, RawQuery, Request},
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use http_body_util::LengthLimitError;
use sha2::{Digest, Sha256};
use std::{str::FromStr, time::Duration};
use uuid::Uuid;

/// The longest body: the longest offer is below 2 KB, so this leaves room for whatever wraps it.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that changes something.
#[derive(Debug)]
pub(super) struct Command {
    /// The caller's name for it.
    pub(super) idempotency: Option<IdempotencyKey>,
    /// At most [`BODY_BYTES_MAX`] bytes.
    pub(super) body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Command {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let too_large =
            || Problem::new(Code::BodyTooLarge, format!("the body is longer than {BODY_BYTES_MAX} bytes"));
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if announced
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: usize| length > BODY_BYTES_MAX)
        {
            return Err(too_large());
        }
        let body = tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX))
            .await
            .map_err(|_| {
                let detail = format!("the body did not arrive within {} s", BODY_WITHIN.as_secs());
                Problem::new(Code::BodyTimeout, detail)
            })?
            .map_err(|error| {
                let error = error.into_inner();
                if error.is::<LengthLimitError>() {
                    return too_large();
                }
                let detail =
                    format!("the body cannot be read: {error}; send it whole, as long as it is announced");
                Problem::new(Code::BadRequest, detail)
            })?;
        Ok(Self { idempotency: idempotency(&parts, &body)?, body })
    }
}

/// The key with the digest of the whole request: the same key on any other request is refused.
fn idempotency(parts: &Parts, body: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(key) = one_of(&parts.headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let request_sha256 = Sha256::new()
        .chain_update(parts.method.as_str())
        .chain_update([0])
        .chain_update(parts.uri.path())
        .chain_update([0])
        .chain_update(body)
        .finalize()
        .into();
    Ok(Some(IdempotencyKey { key: key.to_owned(), request_sha256 }))
}

/// A header that may be there once, as ASCII.
fn one_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Problem::new(Code::InvalidHeader, format!("{name} must be visible ASCII"))),
        },
        _ => Err(Problem::new(Code::InvalidHeader, format!("{name} is given more than once"))),
    }
}

/// The `{id}` of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id<T>(pub(super) T);

/// What can stand in a path.
pub(super) trait PathId: Sized {
    /// Its form, for the error.
    const FORM: &'static str;
    fn read(text: &str) -> Option<Self>;
}

impl PathId for OfferRef {
    const FORM: &'static str = "the UUID of an offer or its DHT hash of 40 hex digits";
    fn read(text: &str) -> Option<Self> {
        uuid(text).map(|id| Self::Id(OfferId(id))).or_else(|| Target::from_str(text).map(Self::Hash).ok())
    }
}

impl PathId for Uuid {
    const FORM: &'static str = "a UUID, with its hyphens";
    fn read(text: &str) -> Option<Self> {
        uuid(text)
    }
}

/// A UUID in its usual form. The library reads others too, in braces, without hyphens, as a URN, which nothing here describes.
fn uuid(text: &str) -> Option<Uuid> {
    const LENGTH: usize = 36;
    if text.len() == LENGTH { Uuid::parse_str(text).ok() } else { None }
}

impl<S: Send + Sync, T: PathId> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text);
        let id = text.ok().and_then(|text| T::read(&text));
        id.map(Self).ok_or_else(|| Problem::new(Code::InvalidId, format!("the path must hold {}", T::FORM)))
    }
}

/// The raw query, empty when there is none.
pub(super) fn query(RawQuery(query): RawQuery) -> String {
    query.unwrap_or_default()
}

/// A precondition on the version of an offer: entity tags as RFC 9110 writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// `*`
    Any,
    /// Any of these.
    These(Vec<Tag>),
}

/// One entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// As it was given, with its quotes and, where it is weak, its `W/`.
    given: String,
    /// Whether it can be the tag of anything in this comparison: `If-Match` compares strongly, so a weak tag is never equal.
    counts: bool,
}

impl Versions {
    /// Whether one of the tags is that of an offer with this sequence.
    pub(super) fn name(&self, sequence: u64) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => {
                let tag = format!("\"{sequence}\"");
                tags.iter().any(|given| given.counts && given.given.trim_start_matches("W/") == tag)
            }
        }
    }

    /// Why an offer with this sequence is not the one that was meant; `None` when it is.
    pub(super) fn mismatch(&self, sequence: u64) -> Option<Problem> {
        const SHOWN_MAX: usize = 3;
        let Self::These(tags) = self else { return None };
        if self.name(sequence) {
            return None;
        }
        let is_ours = |tag: &Tag| tag.given.trim_matches('"').parse::<u64>().is_ok();
        let shown = |tags: &[&Tag]| {
            let shown: Vec<&str> = tags.iter().take(SHOWN_MAX).map(|tag| tag.given.as_str()).collect();
            shown.join(", ") + if tags.len() > SHOWN_MAX { " and others" } else { "" }
        };
        let (ours, others): (Vec<&Tag>, Vec<&Tag>) = tags.iter().partition(|tag| is_ours(tag));
        let (weak, unknown): (Vec<&Tag>, Vec<&Tag>) = others.into_iter().partition(|tag| !tag.counts);
        let mut said = Vec::new();
        if !ours.is_empty() {
            said.push(format!("If-Match names {}", shown(&ours)));
        }
        if !unknown.is_empty() {
            said.push(format!("If-Match names {}, which is no ETag of an offer", shown(&unknown)));
        }
        if !weak.is_empty() {
            said.push(format!("If-Match names {}, and weak tags match nothing there", shown(&weak)));
        }
        let detail = format!(
            "the offer's ETag is \"{sequence}\", and {}; look at the offer again, then repeat with its ETag",
            said.join("; ")
        );
        Some(Problem::new(Code::SequenceMismatch, detail))
    }
}

/// Reads `If-Match` or `If-None-Match`. Their lines are one list, which may have empty elements (RFC 9110, sections 5.3 and 5.6.1).
pub(super) fn versions(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Versions>, Problem> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes().trim_ascii()).collect();
    let weak_counts = *name == header::IF_NONE_MATCH;
    match lines.as_slice() {
        [] => return Ok(None),
        [b"*"] => return Ok(Some(Versions::Any)),
        _ => {}
    }
    let mut tags = Vec::new();
    for mut rest in lines {
        loop {
            rest = rest.trim_ascii_start();
            match rest {
                [] => break,
                [b',', after @ ..] => rest = after,
                _ => {
                    let (tag, after) = tag(rest).ok_or_else(|| unreadable(name, rest))?;
                    let counts = weak_counts || !tag.starts_with(b"W/");
                    tags.push(Tag { given: String::from_utf8_lossy(tag).into_owned(), counts });
                    rest = after;
                }
            }
        }
    }
    if tags.is_empty() {
        return Err(Problem::new(
            Code::InvalidHeader,
            format!("{name} names no ETag; leave it out, or give the offer's"),
        ));
    }
    Ok(Some(Versions::These(tags)))
}

/// The entity tag at the start of a list, and what comes after it: nothing, or a comma.
fn tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let prefix = if list.starts_with(b"W/") { 2 } else { 0 };
    let inside = list.get(prefix..)?.strip_prefix(b"\"")?;
    let is_inside = |byte: &u8| *byte == b'!' || (b'#'..=b'~').contains(byte) || *byte >= 0x80;
    let length = inside.iter().take_while(|byte| is_inside(byte)).count();
    let after = inside.get(length..)?.strip_prefix(b"\"")?;
    let tag = &list[..prefix + length + 2];
    let after = after.trim_ascii_start();
    (after.is_empty() || after.starts_with(b",")).then_some((tag, after))
}

fn unreadable(name: &HeaderName, rest: &[u8]) -> Problem {
    const SHOWN_BYTES_MAX: usize = 80;
    let shown = String::from_utf8_lossy(&rest[..rest.len().min(SHOWN_BYTES_MAX)]);
    let detail = format!(
        "{name} cannot be read where it says {shown:?}; it holds an offer's ETag with its quotes, such as \"1795262400000\", several \
         with commas, or * alone"
    );
    Problem::new(Code::InvalidHeader, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `If-Match` in these lines names: which of the sequences 5 and 6.
    fn read(lines: &[&str]) -> Result<Option<(bool, bool)>, Problem> {
        let headers: HeaderMap = lines.iter().map(|line| (header::IF_MATCH, line.parse().unwrap())).collect();
        let read = versions(&headers, &header::IF_MATCH)?;
        Ok(read.map(|versions| (versions.name(5), versions.name(6))))
    }

    #[test]
    fn entity_tags_are_lists_as_http_writes_them() {
        for (lines, names) in [
            (&["*"][..], (true, true)),
            (&[" * "], (true, true)),
            (&["\"5\""], (true, false)),
            (&["\"5\", \"x\" ,\"6\""], (true, true)),
            (&["\"x\"", "\"6\""], (false, true)),
            (&[", ,\"5\",,\t\"6\" , "], (true, true)),
            (&["\"a,5\""], (false, false)),
            (&["\"5,6\", \"6\""], (false, true)),
            (&["\"\""], (false, false)),
            (&["W/\"5\""], (false, false)),
            (&["W/\"5\", \"6\""], (false, true)),
            (&["\"+5\", \"05\""], (false, false)),
            (&["\"W/5\""], (false, false)),
            (&["\"*\""], (false, false)),
        ] {
            assert_eq!(read(lines).unwrap(), Some(names), "{lines:?}");
        }
        assert_eq!(read(&[]).unwrap(), None);
        for bad in [
            &["5"][..],
            &["\"5"],
            &["5\""],
            &["nope"],
            &["w/\"5\""],
            &["W/5"],
            &["\"5\" \"6\""],
            &["\"5\"x"],
            &["\"a b\""],
        ] {
            let problem = format!("{:?}", read(bad).unwrap_err());
            assert!(problem.contains("InvalidHeader") && problem.contains("cannot be read"), "{problem}");
        }
        for nothing in [&[""][..], &[","], &["", " , "]] {
            assert!(format!("{:?}", read(nothing).unwrap_err()).contains("names no ETag"));
        }
        for bad in [&["*, \"5\""][..], &["\"5\"", "*"], &["*", "*"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, "W/\"5\"".parse().unwrap())]);
        let read = versions(&headers, &header::IF_NONE_MATCH).unwrap().unwrap();
        assert!(read.name(5) && !read.name(6));
    }

    #[test]
    fn a_mismatch_says_what_it_made_of_each_tag() {
        let says = |line: &str| {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, line.parse().unwrap())]);
            let problem = versions(&headers, &header::IF_MATCH).unwrap().unwrap().mismatch(7);
            problem.map_or_else(String::new, |problem| format!("{problem:?}").replace('\\', ""))
        };
        assert_eq!((says("\"7\""), says("*")), Default::default());
        for (line, said) in [
            ("\"nope\"", "\"nope\", which is no ETag of an offer"),
            ("\"5\"", "the offer's ETag is \"7\", and If-Match names \"5\";"),
            ("W/\"7\"", "W/\"7\", and weak tags match nothing there"),
            ("\"a\",\"b\",\"c\",\"d\"", "\"a\", \"b\", \"c\" and others"),
        ] {
            assert!(says(line).contains(said), "{line}: {}", says(line));
        }
    }

    #[test]
    fn an_offer_is_named_by_uuid_or_hash() {
        assert!(matches!(OfferRef::read("0192d3a0-0000-7000-8000-000000000000"), Some(OfferRef::Id(_))));
        assert!(matches!(OfferRef::read(&"aB".repeat(20)), Some(OfferRef::Hash(_))));
        for other in
            ["nonsense", "0192d3a0000070008000000000000000", "{0192d3a0-0000-7000-8000-000000000000}"]
        {
            assert!(OfferRef::read(other).is_none() && Uuid::read(other).is_none(), "{other}");
        }
    }
}
