//! Requests to the Grape HTTP API: the first byte chooses the path (or the input's first line is one), the rest is the body.
//! Whatever is understood is fit for the DHT: a port that a service can have, a value that is canonical bencode (the DHT looks at
//! its length), a salt within its bound.

use vintner::{
    dht::core::bencode::is_canonical,
    http::grape::reading::{Reading, read},
};

const DHT_PORT: u16 = 20_001;

/// See the module's page.
pub fn run(data: &[u8]) {
    let Some((&chosen, rest)) = data.split_first() else { return };
    let mut body = rest;
    let target = match chosen {
        b'a' => "/announce",
        b'l' => "/lookup",
        b'p' => "/put",
        b'g' => "/get",
        _ => {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            body = rest.get(end + 1..).unwrap_or_default();
            std::str::from_utf8(&rest[..end]).unwrap_or_default()
        }
    };
    let reading = read(target, body, DHT_PORT);
    assert_eq!(reading, read(target, body, DHT_PORT), "the same request is read in the same way");
    match reading {
        Reading::Announce { port, .. } => assert_ne!(port, 0),
        Reading::Lookup { name } => assert!(!name.is_empty()),
        Reading::PutImmutable(v) => check_value(&v),
        Reading::PutMutable { item, .. } => {
            check_value(&item.v);
            assert!(item.salt.len() <= vintner::bep44::SALT_BYTES_MAX);
            // The signature is anybody's; checking it never fails otherwise than with a no.
            let _ = item.verify();
        }
        Reading::Get { .. } => {}
        Reading::Refused(status) => assert!(matches!(status, 200 | 500), "{status}"),
    }
}

fn check_value(v: &[u8]) {
    assert!(is_canonical(v), "{}", v.escape_ascii());
}
