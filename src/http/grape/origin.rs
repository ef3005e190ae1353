//! Which web pages may use the API. None may, unless the owner names them: it listens where any page in the owner's browser can send.
//!
//! A page that is named gets what a browser asks for (the Fetch standard's CORS protocol): each answer says that the page may read it,
//! and a preflight is answered before anything is done.

use axum::http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use std::{fmt, str::FromStr};

/// Where a page came from, exactly as browsers write it: `https://trade.example`, `http://localhost:8080`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin(HeaderValue);

/// Text that no browser sends as an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "give one page's origin exactly as its browser sends it, a scheme and a host in small letters, and the port unless it is \
     the scheme's own, with nothing after it: https://trade.example or http://localhost:8080"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, authority) = text.split_once("://").ok_or(OriginError)?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_host =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._[]:".contains(&byte);
        let own_port = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
        let port_fits = port.is_none_or(|port| {
            port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port) && !own_port
        });
        let scheme_fits = scheme
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
        // A colon is part of a host only within the brackets of an IPv6 address.
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_fits =
            !host.is_empty() && host.bytes().all(is_host) && (bracketed || !host.contains([':', '[', ']']));
        if scheme.is_empty() || !scheme_fits || !host_fits || !port_fits {
            return Err(OriginError);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| OriginError)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// Whom a request comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A program: there is no `Origin`.
    Program,
    /// A page that may.
    Page(HeaderValue),
    /// A page that may not.
    Stranger,
}

impl Asker {
    pub(super) fn of(headers: &HeaderMap, allowed: &[Origin]) -> Self {
        match headers.get(header::ORIGIN) {
            None => Self::Program,
            Some(origin) if allowed.iter().any(|allowed| allowed.0 == *origin) => Self::Page(origin.clone()),
            Some(_) => Self::Stranger,
        }
    }
}

/// Whether a page asks first whether it may ask.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Says on an answer that this page may read it.
pub(super) fn allow(page: HeaderValue, answer: &mut HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    answer.insert(header::VARY, HeaderValue::from_static("Origin"));
}

/// Says what this page may send.
pub(super) fn allow_more(asked: &HeaderMap, answer: &mut HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    // Nothing depends on any header, so any may come.
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    // A page of a public site that asks an address of a private network, as browsers are about to require.
    if asked.contains_key("access-control-request-private-network") {
        answer.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
    }
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends_and_nothing_else() {
        for good in [
            "https://trade.example",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "http://[::1]:8080",
            "https://[2001:db8::1]",
            "moz-extension://0b8c-1",
        ] {
            assert_eq!(good.parse::<Origin>().map(|origin| origin.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "*",
            "null",
            "trade.example",
            "https://",
            "https://trade.example/",
            "https://trade.example/page",
            "https://*.example",
            "https://Trade.example",
            "HTTPS://trade.example",
            "https://trade.example:443",
            "http://trade.example:80",
            "http://trade.example:080",
            "http://trade.example:0",
            "http://trade.example:70000",
            "http://trade.example:",
            "http://::1:8080",
            "https://user@trade.example",
            "https://trade.example ",
            "https://a,https://b",
            "https://größe.example",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(OriginError), "{bad}");
        }
    }
}
