//! Our KRPC decoder beside that of the `mainline` crate: what both accept, both read alike.
//!
//! The crate keeps its message type to itself, so its decoder is taken apart: its bencode reader is the crate `serde_bencode`,
//! used here as it uses it, and the forms below are what it fills (names and types of BEP5 and BEP44, strings as `serde_bytes`).
//! Where it is narrower than we are there is nothing to compare: transaction ids of four bytes, targets and names of twenty,
//! values that are strings, no repeated or non-UTF-8 keys.
//!
//! Known differences, left out with their reason:
//! - `implied_port` or `ro` beyond a byte or 32 bits, or an `ro` other than 0 and 1: it takes any positive `ro` for read-only,
//!   we take BEP43's 1.
//! - port 0 of an announcement: it stores a peer that nobody can reach, we refuse it.
//! - a query with a negative `seq`: BEP44 has none.
//! - nodes and peers with port 0, which we skip, and lists of peers with entries of another length than six, which it refuses.
//! - a token longer than 64 bytes in an answer, which we do not keep.
//! - an answer's value with half a signature, which we leave out; it calls that immutable.
//! - a put whose `v` is not canonical, which we refuse: hashes and signatures cover canonical bytes.
//! - an `announce_peer` with both: its `port` is read even when `implied_port` makes it void.

use serde::Deserialize;
use serde_bytes::ByteBuf;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use vintner::{
    bep44::{bdecode_bytes, bencode_bytes},
    dht::core::krpc::{Message, Query, Reply, SignedArgs, Wanted, decode, write_addr},
};

/// A datagram as `mainline` reads it.
#[derive(Deserialize, Debug)]
struct Datagram {
    t: ByteBuf,
    y: String,
    #[serde(default)]
    q: Option<String>,
    #[serde(default)]
    a: Option<Fields>,
    #[serde(default)]
    r: Option<Fields>,
    #[serde(default)]
    e: Option<(i32, String)>,
    #[serde(default)]
    ro: Option<i32>,
    #[serde(default)]
    ip: Option<ByteBuf>,
}

/// Every argument of every query and answer.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct Fields {
    id: Option<ByteBuf>,
    target: Option<ByteBuf>,
    info_hash: Option<ByteBuf>,
    port: Option<u16>,
    implied_port: Option<u8>,
    token: Option<ByteBuf>,
    v: Option<ByteBuf>,
    k: Option<ByteBuf>,
    sig: Option<ByteBuf>,
    seq: Option<i64>,
    salt: Option<ByteBuf>,
    cas: Option<i64>,
    nodes: Option<ByteBuf>,
    values: Option<Vec<ByteBuf>>,
}

/// See the module's page.
pub fn run(data: &[u8]) {
    // Ours first: its bounds keep serde_bencode's recursion flat.
    let Some(ours) = decode(data) else { return };
    let Ok(theirs) = serde_bencode::from_bytes::<Datagram>(data) else { return };
    if theirs.t.len() != 4 {
        return;
    }
    match ours {
        Message::Query { t, id, read_only, query } => {
            assert_eq!((t, theirs.y.as_str()), (Some(&theirs.t[..]), "q"));
            let (Some(method), Some(fields)) = (&theirs.q, &theirs.a) else { return };
            let Some(their_id) = fixed::<20>(fields.id.as_ref()) else { return };
            assert_eq!(id.map(|id| id.0), Some(their_id));
            if matches!(theirs.ro, None | Some(0 | 1)) {
                assert_eq!(read_only, theirs.ro == Some(1));
            }
            compare_query(query.ok(), method, fields);
        }
        Message::Reply { t, reply, ip } => {
            assert_eq!((t, theirs.y.as_str()), (&theirs.t[..], "r"));
            compare_ip(ip, theirs.ip.as_ref());
            let Some(fields) = &theirs.r else { return };
            let Some(their_id) = fixed::<20>(fields.id.as_ref()) else { return };
            assert_eq!(reply.id.map(|id| id.0), Some(their_id));
            compare_reply(&reply, fields);
        }
        Message::Error { t, code, text, ip } => {
            assert_eq!((t, theirs.y.as_str()), (&theirs.t[..], "e"));
            compare_ip(ip, theirs.ip.as_ref());
            let Some((their_code, their_text)) = theirs.e else { return };
            assert_eq!(code, i64::from(their_code));
            // Ours is cut at 200 bytes, which may be inside a letter.
            let kept = their_text.floor_char_boundary(200);
            assert!(text.starts_with(&their_text[..kept]), "{text:?} {their_text:?}");
        }
    }
}

/// It knows six bytes only; of them we keep the address.
fn compare_ip(ours: Option<IpAddr>, theirs: Option<&ByteBuf>) {
    if let Some([a, b, c, d, high, low]) = theirs.and_then(|ip| <[u8; 6]>::try_from(&ip[..]).ok())
        && [high, low] != [0, 0]
    {
        assert_eq!(ours, Some(Ipv4Addr::from([a, b, c, d]).into()));
    }
}

fn fixed<const N: usize>(bytes: Option<&ByteBuf>) -> Option<[u8; N]> {
    bytes.and_then(|bytes| bytes[..].try_into().ok())
}

/// A query that `mainline` accepts must be ours too, and say the same.
fn compare_query(ours: Option<Query<'_>>, method: &str, fields: &Fields) {
    let (target, info_hash) = (fixed::<20>(fields.target.as_ref()), fixed::<20>(fields.info_hash.as_ref()));
    let token = fields.token.as_ref().map(|token| &token[..]);
    let v = fields.v.as_ref().map(|v| bencode_bytes(v));
    // It knows no IPv6, so it does not read which networks' nodes are wanted; nor a token in a question.
    let (want, proof) = match ours {
        Some(Query::FindNode { want, .. }) => (want, None),
        Some(Query::GetPeers { want, token, .. } | Query::Get { want, token, .. }) => (want, token),
        _ => (Wanted::default(), None),
    };
    let theirs = match method {
        "ping" => Query::Ping,
        "find_node" => {
            let Some(target) = &target else { return };
            Query::FindNode { target, want }
        }
        "get_peers" => {
            let Some(name) = &info_hash else { return };
            Query::GetPeers { name, token: proof, want }
        }
        "announce_peer" => {
            let (Some(name), Some(port), Some(token)) = (&info_hash, fields.port, token) else { return };
            let implied = fields.implied_port.is_some_and(|implied| implied != 0);
            if port == 0 && !implied {
                return assert_eq!(ours, None);
            }
            Query::Announce { name, port: (!implied).then_some(port), token }
        }
        "get" => {
            let Some(target) = target else { return };
            Query::Get { target, seq: fields.seq, token: proof, want }
        }
        "put" => {
            let (Some(_), Some(token), Some(v)) = (target, token, &v) else { return };
            let Ok(signed) = signed(fields) else { return };
            let Some(ours) = ours else {
                // The only reason left: a value that is not canonical (a string whose length has a zero in front).
                return;
            };
            let mutable = signed.is_some();
            let theirs = Query::Put { token, v, signed, cas: fields.cas };
            assert!(mutable || fields.cas.is_none());
            return assert_eq!(ours, theirs);
        }
        _ => return,
    };
    assert_eq!(ours, Some(theirs));
}

/// `mainline` refuses it, or its sequence is negative.
struct NotCompared;

/// What makes a put mutable.
fn signed(fields: &Fields) -> Result<Option<SignedArgs<'_>>, NotCompared> {
    let Some(k) = &fields.k else {
        let bare =
            fields.seq.is_none() && fields.sig.is_none() && fields.salt.is_none() && fields.cas.is_none();
        return if bare { Ok(None) } else { Err(NotCompared) };
    };
    let k = k[..].try_into().map_err(|_| NotCompared)?;
    let sig = fixed(fields.sig.as_ref()).ok_or(NotCompared)?;
    let seq = fields.seq.filter(|seq| *seq >= 0).ok_or(NotCompared)?;
    let salt = fields.salt.as_ref().map_or(&b""[..], |salt| &salt[..]);
    Ok(Some(SignedArgs { k, sig, seq, salt }))
}

fn compare_reply(ours: &Reply<'_>, theirs: &Fields) {
    assert_eq!(ours.nodes, theirs.nodes.as_ref().map_or(&b""[..], |nodes| &nodes[..]));
    let token = theirs.token.as_ref().map(|token| &token[..]).filter(|token| token.len() <= 64);
    assert_eq!(ours.token, token);
    if let Some(values) = theirs.values.as_ref().filter(|values| values.iter().all(|peer| peer.len() == 6)) {
        let theirs = values.iter().filter(|peer| peer[4..] != [0, 0]).map(|peer| peer.to_vec());
        let ours = ours.peers().map(compact);
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    }
    let signed = (|| {
        let (k, sig) = (fixed::<32>(theirs.k.as_ref())?, fixed::<64>(theirs.sig.as_ref())?);
        Some((k, sig, theirs.seq.filter(|seq| *seq >= 0)?))
    })();
    assert_eq!(ours.signed, signed);
    let immutable = theirs.k.is_none() && theirs.sig.is_none();
    if signed.is_some() || immutable {
        let theirs = theirs.v.as_ref().map(|v| &v[..]);
        // As received it may have zeros before its length; a hash or a signature tells later.
        let content =
            |v| bdecode_bytes(v).or_else(|| v.iter().position(|b| *b == b':').map(|at| &v[at + 1..]));
        assert_eq!(ours.v.and_then(content), theirs);
    }
}

/// The bytes of an address.
fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_addr(&mut bytes, addr);
    bytes
}
