//! Who may talk to the API at all, before any handler runs.
//!
//! The API belongs to the node's owner. On a loopback address it is open to the programs of this machine, so what must be kept
//! out is web pages: a page can send requests to 127.0.0.1, directly (then the browser names the page in `Origin`) or after
//! pointing its own host name there (then `Host` is that name). On every other address a bearer token is required.
//!
//! In a container the API cannot listen on loopback: the engine would not reach it. Where the engine publishes it on the host's
//! loopback and nowhere else ([`Published`]), its users are those that a loopback address has, and so are its rules. What else
//! reaches the container's own address are its neighbours on the container network, and with many engines also machines beside
//! the host that route into that network (moby issue 45610). Neither can be told by what it sends, but all by where it comes
//! from: only connections that the engine itself made are served.

use super::problem::{Code, Problem};
use crate::listener::Peer;
use axum::http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};
use subtle::ConstantTimeEq;

pub use crate::store::keyfile::{TOKEN_BYTES_MAX, TOKEN_BYTES_MIN};

/// The secret that opens the API. Never printed; kept only as its hash, which also makes the comparison one of equal lengths.
#[derive(Clone)]
pub struct ApiToken([u8; 32]);

/// Text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters and no spaces")]
pub struct TokenError;

impl ApiToken {
    /// From its text.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(Sha256::digest(text).into())) } else { Err(TokenError) }
    }

    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(hidden)")
    }
}

/// An API in a container, whose port the engine publishes on the host's loopback and nowhere else.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where users find it: an address on the host's loopback.
    pub addr: SocketAddr,
    /// Where their connections come from as the container sees it: the engine's own addresses on the container network.
    pub from: Vec<IpAddr>,
}

/// The rules of one API.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Where users find the API: where it listens, or is published.
    pub(super) addr: SocketAddr,
    /// For a published one: who may connect, besides programs on its own loopback.
    pub(super) from: Option<Vec<IpAddr>>,
    /// What must be shown.
    pub(super) token: Option<ApiToken>,
}

/// Marks a request that does not show the token which this API asks for. What is public says no more to it than it must.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    /// It was sent to loopback by one of loopback's own names, so no page of another site sent it: a page can point a name of its own
    /// at this machine, but then its browser names that one.
    pub(super) is_here: bool,
}

/// Paths that are open without a token: whether the node lives, and documentation, which says which node it is to whoever is here or
/// shows the token ([`Stranger`]).
fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/api/openapi.json" | "/swagger-ui")
        || path.starts_with("/swagger-ui/")
}

impl Guard {
    /// Whether the request may go on.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Problem> {
        self.check_peer(request.extensions.get())?;
        let host = one(&request.headers, &header::HOST).ok_or_else(|| {
            Problem::new(Code::ForeignHost, "the request names no host; send one Host header")
        })?;
        self.check_host(host)?;
        check_origin(&request.headers, host)?;
        if !is_public(request.uri.path()) {
            self.check_token(&request.headers)?;
        }
        Ok(())
    }

    fn check_peer(&self, peer: Option<&Peer>) -> Result<(), Problem> {
        let Some(from) = &self.from else { return Ok(()) };
        let ip = peer.map(|peer| peer.0.ip().to_canonical());
        if ip.is_some_and(|ip| ip.is_loopback() || from.contains(&ip)) {
            return Ok(());
        }
        let ip = ip.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string());
        let detail = format!(
            "this came from {ip}, but the API is for the host's own programs, at http://{}; if that address is how your \
             container engine forwards its published ports, name it with VINTNER_API_PUBLISHED_FROM={ip}",
            self.addr
        );
        Err(Problem::new(Code::ForeignPeer, detail))
    }

    /// Without a token, only names that no stranger can point at this machine are served. On loopback these are loopback's own;
    /// elsewhere (a closed test network) addresses, and names without a dot, such as those of containers. With a token every name is:
    /// a proxy in front of the API has names of its own, no page of a stranger knows the token, and what is public says nothing of
    /// the node to whoever comes by such a name.
    fn check_host(&self, host: &str) -> Result<(), Problem> {
        if self.token.is_some() || self.is_own_name(host) {
            return Ok(());
        }
        let detail = format!(
            "the request was sent to {host:?}; this node answers to its own address only, use http://{}",
            self.addr
        );
        Err(Problem::new(Code::ForeignHost, detail))
    }

    /// True for names that no stranger can point at this machine.
    fn is_own_name(&self, host: &str) -> bool {
        let loopback = self.addr.ip().is_loopback();
        let (name, port) = split_host(host);
        let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let known = match address {
            Some(address) => !loopback || address.is_loopback(),
            None if loopback => name.eq_ignore_ascii_case("localhost"),
            None => !name.is_empty() && !name.contains('.'),
        };
        let port_fits = !loopback
            || port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port == self.addr.port()));
        known && port_fits
    }

    /// Marks whoever does not show the token that this API asks for.
    pub(super) fn stranger(&self, headers: &HeaderMap) -> Option<Stranger> {
        self.check_token(headers).err()?;
        let is_own = one(headers, &header::HOST).is_some_and(|host| self.is_own_name(host));
        Some(Stranger { is_here: is_own && self.addr.ip().is_loopback() })
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = one(headers, &header::AUTHORIZATION).and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
        });
        let what = match given {
            Some(given) if token.is(given) => return Ok(()),
            Some(_) => "the token that was sent is not this node's",
            None if headers.contains_key(header::AUTHORIZATION) => {
                "the Authorization header holds no single bearer token"
            }
            None => "no token was sent",
        };
        let detail = format!(
            "{what}; send the node's own as `Authorization: Bearer TOKEN`: it is in the file `api-token` of the data directory, unless \
             the node was given another, which its log names at the start"
        );
        let code = if given.is_some() { Code::WrongToken } else { Code::Unauthorized };
        Err(Problem::new(code, detail))
    }
}

/// The header's value, when there is exactly one.
fn one<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Host name (IPv6 in its brackets) and port.
fn split_host(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Only pages that this very node served (Swagger UI) may talk to it. Programs send no `Origin`.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let own = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    };
    match headers.get_all(header::ORIGIN).iter().find(|origin| !own(origin)) {
        None => Ok(()),
        Some(origin) => {
            let detail =
                format!("a page of {origin:?} sent this; only this node's own pages may use its API");
            Err(Problem::new(Code::ForeignOrigin, detail))
        }
    }
}

/// Whatever may change something must say that it is JSON, which a form of another site cannot say.
pub(super) fn check_content_type(request: &Parts) -> Result<(), Problem> {
    let headers = &request.headers;
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let must_be_json = match request.method {
        Method::POST | Method::PUT | Method::PATCH => true,
        Method::GET | Method::HEAD | Method::OPTIONS => false,
        _ => has_body,
    };
    if !must_be_json {
        return Ok(());
    }
    let kind = one(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = match kind {
        "" => "the request has no content type; send `Content-Type: application/json`".into(),
        kind => format!("the content type is {kind:?}; send JSON with `Content-Type: application/json`"),
    };
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(addr: &str, token: Option<&str>) -> Guard {
        let token = token.map(|token| ApiToken::new(token).unwrap());
        Guard { addr: addr.parse().unwrap(), from: None, token }
    }

    #[test]
    fn loopback_serves_its_own_names_on_its_own_port_only() {
        let guard = guard("127.0.0.1:4000", None);
        for host in ["localhost", "LOCALHOST:4000", "127.0.0.1", "127.0.0.1:4000", "[::1]", "[::1]:4000"] {
            assert!(guard.check_host(host).is_ok(), "{host}");
        }
        for host in [
            "",
            ":4000",
            "evil.example",
            "evil.example:4000",
            "localhost.evil.example",
            "localhost:4001",
            "127.0.0.1:80",
            "127.0.0.1.evil.example:4000",
            "192.168.0.1:4000",
            "localhost:",
            "localhost:4000:4000",
            "[::1]:4000x",
        ] {
            assert!(guard.check_host(host).is_err(), "{host}");
        }
    }

    #[test]
    fn without_a_token_no_public_name_is_served_anywhere() {
        let open = guard("0.0.0.0:4000", None);
        for host in ["node-1:4000", "10.0.0.7:31000", "localhost:4000", "[fd00::1]:4000"] {
            assert!(open.check_host(host).is_ok(), "{host}");
        }
        assert!(open.check_host("evil.example:4000").is_err());
        let closed = guard("0.0.0.0:4000", Some(&"t".repeat(32)));
        assert!(closed.check_host("node.example").is_ok());
    }

    #[test]
    fn only_loopbacks_own_names_make_a_stranger_one_of_this_machine() {
        let token = "t".repeat(32);
        let of = |addr: &str, host: &str, given: Option<&str>| {
            let mut headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            headers.extend(given.map(|given| (header::AUTHORIZATION, given.parse().unwrap())));
            guard(addr, Some(&token)).stranger(&headers).map(|stranger| stranger.is_here)
        };
        for host in ["127.0.0.1:4000", "localhost:4000", "[::1]:4000", "127.9.9.9"] {
            assert_eq!(of("127.0.0.1:4000", host, None), Some(true), "{host}");
            // Beyond loopback everybody can say so.
            assert_eq!(of("0.0.0.0:4000", host, None), Some(false), "{host}");
        }
        for host in [
            "evil.example:4000",
            "node.example",
            "10.0.0.7:4000",
            "node-1:4000",
            "127.0.0.1.evil.example:4000",
        ] {
            assert_eq!(of("127.0.0.1:4000", host, None), Some(false), "{host}");
            assert_eq!(of("127.0.0.1:4000", host, Some("Bearer wrong")), Some(false), "{host}");
            assert_eq!(of("127.0.0.1:4000", host, Some(&format!("Bearer {token}"))), None, "{host}");
        }
        assert!(guard("127.0.0.1:4000", None).stranger(&HeaderMap::new()).is_none(), "no token is asked for");
    }

    #[test]
    fn a_published_api_serves_what_the_engine_forwards_and_its_own_loopback() {
        let engine: IpAddr = "172.18.0.1".parse().unwrap();
        let published = Guard { from: Some(vec![engine]), ..guard("127.0.0.1:4001", None) };
        let peer = |address: &str| Peer(address.parse().unwrap());
        for good in ["172.18.0.1:50000", "[::ffff:172.18.0.1]:1", "127.0.0.1:50000", "[::1]:1"] {
            assert!(published.check_peer(Some(&peer(good))).is_ok(), "{good}");
        }
        for bad in ["172.18.0.2:50000", "192.168.1.5:1", "[::ffff:172.18.0.2]:1", "[fd00::1]:1", "8.8.8.8:1"]
        {
            let problem = published.check_peer(Some(&peer(bad))).unwrap_err();
            assert!(format!("{problem:?}").contains("VINTNER_API_PUBLISHED_FROM="), "{bad}");
        }
        assert!(published.check_peer(None).is_err());
        // Everything else is as on loopback, on the port that is published.
        assert!(published.check_host("127.0.0.1:4001").is_ok());
        for host in ["127.0.0.1:4000", "server-02:4001", "172.18.0.3:4001", "evil.example:4001"] {
            assert!(published.check_host(host).is_err(), "{host}");
        }
        assert!(guard("127.0.0.1:4000", None).check_peer(None).is_ok());
    }

    #[test]
    fn tokens_are_compared_whole() {
        let token = ApiToken::new(&"t".repeat(32)).unwrap();
        assert!(token.is(&"t".repeat(32)));
        assert!(!token.is(&"t".repeat(31)) && !token.is(&"t".repeat(33)) && !token.is(""));
        assert!(ApiToken::new("short").is_err() && ApiToken::new(&" ".repeat(40)).is_err());
        assert!(!format!("{token:?}").contains("tt"));
    }
}
