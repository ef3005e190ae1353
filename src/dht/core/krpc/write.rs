//! KRPC messages as they are written: keys in order, lengths known, straight into the buffer that is sent.

use super::{ADDR_BYTES, ADDR6_BYTES, NODE_BYTES, NODE6_BYTES, Problem, SignedArgs, TRANSACTION_BYTES};
use crate::dht::core::{
    bencode::{write_bytes, write_decimal, write_field, write_int},
    id::{Contact, NodeId},
};
use std::net::{IpAddr, SocketAddr};

/// Appends an address as it stands in messages: six bytes, 18 of an IPv6 one.
pub fn write_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// How long [`write_addr`] writes it.
#[must_use]
pub fn addr_len(addr: SocketAddr) -> usize {
    if addr.is_ipv4() { ADDR_BYTES } else { ADDR6_BYTES }
}

fn write_addr_string(out: &mut Vec<u8>, addr: SocketAddr) {
    write_decimal(out, addr_len(addr) as u64);
    out.push(b':');
    write_addr(out, addr);
}

fn write_ip(out: &mut Vec<u8>, addr: SocketAddr) {
    write_bytes(out, b"ip");
    write_addr_string(out, addr);
}

/// Appends a list of nodes under its key.
fn write_nodes(out: &mut Vec<u8>, key: &str, nodes: Option<&[Contact]>, each: usize) {
    let Some(nodes) = nodes else { return };
    write_bytes(out, key.as_bytes());
    write_decimal(out, (nodes.len() * each) as u64);
    out.push(b':');
    for node in nodes {
        out.extend_from_slice(&node.id.0);
        write_addr(out, node.addr);
    }
}

/// A query as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// `ping`
    Ping,
    /// `find_node`
    FindNode {
        /// The target.
        target: &'a [u8],
        /// Whether nodes of both families are wanted, not only those of the one that is asked through (BEP32's `want`).
        both: bool,
    },
    /// `get_peers`
    GetPeers {
        /// The name.
        name: &'a [u8],
    },
    /// `announce_peer`, the port always given.
    Announce {
        /// The name.
        name: &'a [u8],
        /// The service's port.
        port: u16,
        /// That node's token.
        token: &'a [u8],
    },
    /// `get`
    Get {
        /// The target.
        target: &'a [u8; 20],
    },
    /// `get_peers` with the token of an answer that was cut short. Only a node that answers so is asked so.
    GetPeersAgain {
        /// The name.
        name: &'a [u8],
        /// That node's token.
        token: &'a [u8],
    },
    /// `get` with the token of an answer that was cut short.
    GetAgain {
        /// The target.
        target: &'a [u8; 20],
        /// That node's token.
        token: &'a [u8],
    },
    /// `put`
    Put {
        /// The target: not BEP44's, but the mainline crate wants it and nobody minds.
        target: &'a [u8; 20],
        /// That node's token.
        token: &'a [u8],
        /// The bencoded value.
        v: &'a [u8],
        /// What makes it mutable.
        signed: Option<SignedArgs<'a>>,
        /// Only over this version.
        cas: Option<i64>,
    },
}

/// Appends a query.
pub fn write_query(out: &mut Vec<u8>, t: [u8; TRANSACTION_BYTES], own: &NodeId, ask: &Ask<'_>) {
    write_query_of(out, t, own, false, ask);
}

/// Appends a query; `read_only`: of a node that cannot be asked itself (BEP43).
pub fn write_query_of(
    out: &mut Vec<u8>,
    t: [u8; TRANSACTION_BYTES],
    own: &NodeId,
    read_only: bool,
    ask: &Ask<'_>,
) {
    out.extend_from_slice(b"d1:ad");
    if let Ask::Put { cas: Some(cas), .. } = ask {
        out.extend_from_slice(b"3:cas");
        write_int(out, *cas);
    }
    write_field(out, "id", &own.0);
    let method = match ask {
        Ask::Ping => "ping",
        Ask::FindNode { target, both } => {
            write_field(out, "target", target);
            if *both {
                out.extend_from_slice(b"4:wantl2:n42:n6e");
            }
            "find_node"
        }
        Ask::GetPeers { name } => {
            write_field(out, "info_hash", name);
            "get_peers"
        }
        Ask::GetPeersAgain { name, token } => {
            write_field(out, "info_hash", name);
            write_field(out, "token", token);
            "get_peers"
        }
        Ask::GetAgain { target, token } => {
            write_field(out, "target", *target);
            write_field(out, "token", token);
            "get"
        }
        Ask::Announce { name, port, token } => {
            out.extend_from_slice(b"12:implied_porti0e");
            write_field(out, "info_hash", name);
            out.extend_from_slice(b"4:port");
            write_int(out, i64::from(*port));
            write_field(out, "token", token);
            "announce_peer"
        }
        Ask::Get { target } => {
            write_field(out, "target", *target);
            "get"
        }
        Ask::Put { target, token, v, signed, .. } => {
            if let Some(signed) = signed {
                write_field(out, "k", &signed.k);
                // An empty salt is never sent: stock grapes sign it differently from BEP44.
                if !signed.salt.is_empty() {
                    write_field(out, "salt", signed.salt);
                }
                out.extend_from_slice(b"3:seq");
                write_int(out, signed.seq);
                write_field(out, "sig", &signed.sig);
            }
            write_field(out, "target", *target);
            write_field(out, "token", token);
            out.extend_from_slice(b"1:v");
            out.extend_from_slice(v);
            "put"
        }
    };
    out.push(b'e');
    write_field(out, "q", method.as_bytes());
    if read_only {
        out.extend_from_slice(b"2:roi1e");
    }
    write_field(out, "t", &t);
    out.extend_from_slice(b"1:y1:qe");
}

/// Some of the names that are known here (BEP51).
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// For how many seconds the same ones are given.
    pub interval: u32,
    /// How many names there are.
    pub num: usize,
    /// Some of them.
    pub names: &'a [[u8; 20]],
}

/// What an answer carries, all of it already cut to size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// Nearer nodes, of IPv4.
    pub nodes: Option<&'a [Contact]>,
    /// Nearer nodes, of IPv6 (BEP32).
    pub nodes6: Option<&'a [Contact]>,
    /// The write token.
    pub token: Option<&'a [u8]>,
    /// Peers.
    pub peers: Option<&'a [SocketAddr]>,
    /// Names.
    pub samples: Option<Samples<'a>>,
    /// The bencoded value.
    pub v: Option<&'a [u8]>,
    /// The key and signature of a mutable value.
    pub signed: Option<(&'a [u8; 32], &'a [u8; 64])>,
    /// The sequence of a mutable value, which is sent also where the value is left out.
    pub seq: Option<i64>,
    /// It is cut short: there is no room for `ip`, and whoever knows `cut` may ask again with the token.
    pub cut: bool,
}

/// Appends an answer to a query that came from `to`.
pub fn write_reply(out: &mut Vec<u8>, t: Option<&[u8]>, own: &NodeId, to: SocketAddr, answer: &Answer<'_>) {
    out.push(b'd');
    if !answer.cut {
        write_ip(out, to);
    }
    out.extend_from_slice(b"1:rd");
    if answer.cut && answer.token.is_some() {
        out.extend_from_slice(b"3:cuti1e");
    }
    write_field(out, "id", &own.0);
    if let Some(samples) = answer.samples {
        out.extend_from_slice(b"8:interval");
        write_int(out, i64::from(samples.interval));
    }
    if let Some((k, _)) = answer.signed {
        write_field(out, "k", k);
    }
    write_nodes(out, "nodes", answer.nodes, NODE_BYTES);
    write_nodes(out, "nodes6", answer.nodes6, NODE6_BYTES);
    if let Some(samples) = answer.samples {
        out.extend_from_slice(b"3:num");
        write_int(out, samples.num as i64);
        write_field(out, "samples", samples.names.as_flattened());
    }
    if let Some(seq) = answer.seq {
        out.extend_from_slice(b"3:seq");
        write_int(out, seq);
    }
    if let Some((_, sig)) = answer.signed {
        write_field(out, "sig", sig);
    }
    if let Some(token) = answer.token {
        write_field(out, "token", token);
    }
    if let Some(v) = answer.v {
        out.extend_from_slice(b"1:v");
        out.extend_from_slice(v);
    }
    if let Some(peers) = answer.peers {
        out.extend_from_slice(b"6:valuesl");
        for peer in peers {
            write_addr_string(out, *peer);
        }
        out.push(b'e');
    }
    out.push(b'e');
    write_end(out, t, b"1:y1:re");
}

/// Appends an error.
pub fn write_error(out: &mut Vec<u8>, t: Option<&[u8]>, to: SocketAddr, problem: Problem) {
    out.extend_from_slice(b"d1:el");
    write_int(out, problem.code);
    write_bytes(out, problem.text.as_bytes());
    out.push(b'e');
    write_ip(out, to);
    write_end(out, t, b"1:y1:ee");
}

fn write_end(out: &mut Vec<u8>, t: Option<&[u8]>, end: &[u8]) {
    if let Some(t) = t {
        write_field(out, "t", t);
    }
    out.extend_from_slice(end);
}
