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
            // The other cause, a broken connection, leaves nobody to read the answer.
            .map_err(|_| too_large())?;
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
        let hash = || Target::from_str(text).map(Self::Hash);
        OfferId::from_str(text).map(Self::Id).or_else(|_| hash()).ok()
    }
}

impl PathId for Uuid {
    const FORM: &'static str = "a UUID";
    fn read(text: &str) -> Option<Self> {
        Self::parse_str(text).ok()
    }
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

/// A precondition on the version of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// `*`
    Any,
    /// Any of these; weak tags and tags that are no number can never be one of ours.
    These(Vec<u64>),
}

/// Reads `If-Match` or `If-None-Match`.
pub(super) fn versions(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Versions>, Problem> {
    let Some(text) = one_of(headers, name)? else { return Ok(None) };
    if text.trim() == "*" {
        return Ok(Some(Versions::Any));
    }
    let mut sequences = Vec::new();
    for tag in text.split(',').map(str::trim) {
        let quoted = tag.strip_prefix("W/").unwrap_or(tag);
        let Some(inside) = quoted.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) else {
            let detail =
                format!("{name} must hold the offer's ETag with its quotes, such as \"1795262400000\"");
            return Err(Problem::new(Code::InvalidHeader, detail));
        };
        // RFC 9110: If-Match compares strongly, If-None-Match weakly.
        if quoted == tag || *name == header::IF_NONE_MATCH {
            sequences.extend(inside.parse::<u64>());
        }
    }
    Ok(Some(Versions::These(sequences)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<Versions>, Problem> {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, value.parse().unwrap())]);
        versions(&headers, &header::IF_MATCH)
    }

    #[test]
    fn versions_are_quoted_numbers() {
        assert_eq!(read("*").unwrap(), Some(Versions::Any));
        assert_eq!(read("\"5\"").unwrap(), Some(Versions::These(vec![5])));
        assert_eq!(read("\"5\", \"x\" ,\"6\"").unwrap(), Some(Versions::These(vec![5, 6])));
        assert_eq!(read("W/\"5\"").unwrap(), Some(Versions::These(vec![])));
        assert!(read("5").is_err() && read("\"5").is_err() && read("").is_err());
        assert_eq!(versions(&HeaderMap::new(), &header::IF_MATCH).unwrap(), None);
    }

    #[test]
    fn an_offer_is_named_by_uuid_or_hash() {
        assert!(matches!(OfferRef::read("0192d3a0-0000-7000-8000-000000000000"), Some(OfferRef::Id(_))));
        assert!(matches!(OfferRef::read(&"aB".repeat(20)), Some(OfferRef::Hash(_))));
        assert!(OfferRef::read("nonsense").is_none());
    }
}
