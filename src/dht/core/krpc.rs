//! KRPC messages (BEP5, BEP44): read in place, written canonically.
//!
//! What arrives is sorted into three kinds: a message, a query with bad arguments (which gets an error), and noise (which gets
//! nothing). Values stay the bytes that were received, because hashes and signatures cover those.

mod write;

pub use self::write::{
    Answer, Ask, Samples, addr_len, write_addr, write_error, write_query, write_query_of, write_reply,
};

use super::{
    bencode::{self, Raw},
    family::Family,
    id::{Contact, ID_BYTES, NodeId},
    types::NAME_BYTES_MAX,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest transaction id that is echoed.
pub const TRANSACTION_BYTES_MAX: usize = 32;
/// Bytes of our own transaction ids: the only form that grapes, libtorrent and the mainline crate all answer.
pub const TRANSACTION_BYTES: usize = 4;
/// The longest token that is kept: stock grapes use 20 bytes, libtorrent and mainline 4.
pub const TOKEN_BYTES_MAX: usize = 64;
/// An IPv4 address with its port.
pub const ADDR_BYTES: usize = 6;
/// An IPv6 address with its port.
pub const ADDR6_BYTES: usize = 18;
/// One entry of `nodes`: id, IPv4 address, port.
pub const NODE_BYTES: usize = ID_BYTES + ADDR_BYTES;
/// One entry of `nodes6` (BEP32): id, IPv6 address, port.
pub const NODE6_BYTES: usize = ID_BYTES + ADDR6_BYTES;
/// Entries of `want` that are looked at: there are two.
const WANTED_MAX: usize = 4;
/// The error text that is kept of an answer.
const ERROR_TEXT_BYTES_MAX: usize = 200;

/// KRPC and BEP44 error codes that are sent here.
pub mod code {
    /// Generic server error: busy.
    pub const SERVER: i64 = 202;
    /// Malformed arguments or a bad token.
    pub const PROTOCOL: i64 = 203;
    /// Unknown method.
    pub const METHOD_UNKNOWN: i64 = 204;
    /// `v` too big.
    pub const VALUE_TOO_BIG: i64 = 205;
    /// Invalid signature.
    pub const BAD_SIGNATURE: i64 = 206;
    /// Salt too big.
    pub const SALT_TOO_BIG: i64 = 207;
    /// `cas` is not the stored sequence.
    pub const CAS_MISMATCH: i64 = 301;
    /// The sequence is not above the stored one.
    pub const SEQ_TOO_LOW: i64 = 302;
}

/// An error to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One of [`code`].
    pub code: i64,
    /// For a person.
    pub text: &'static str,
}

/// A datagram that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Somebody asks.
    Query {
        /// To be echoed; some ask without one.
        t: Option<&'a [u8]>,
        /// Who asks, if they say so properly.
        id: Option<NodeId>,
        /// BEP43: the sender cannot be reached, and must not enter a table.
        read_only: bool,
        /// What is asked, or what is wrong with it.
        query: Result<Query<'a>, Problem>,
    },
    /// An answer.
    Reply {
        /// Our transaction id.
        t: &'a [u8],
        /// Our address, as the sender sees it (BEP42).
        ip: Option<IpAddr>,
        /// What it says.
        reply: Reply<'a>,
    },
    /// An error.
    Error {
        /// Our transaction id.
        t: &'a [u8],
        /// Our address, as the sender sees it.
        ip: Option<IpAddr>,
        /// The code; 0 when there is none.
        code: i64,
        /// Its text, lossily, at most 200 bytes of it.
        text: String,
    },
}

/// A query's method and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Are you there?
    Ping,
    /// Which nodes are nearest to the target (of any length)?
    FindNode {
        /// The target.
        target: &'a [u8],
        /// Nodes of which networks.
        want: Wanted,
    },
    /// Who has announced this name?
    GetPeers {
        /// The name: raw bytes of any length.
        name: &'a [u8],
        /// The token that we gave, if the asker proves by it that it is there (it was asked to: [`Reply::cut`]).
        token: Option<&'a [u8]>,
        /// Nodes of which networks.
        want: Wanted,
    },
    /// I have a service of this name.
    Announce {
        /// The name.
        name: &'a [u8],
        /// Its port; none when it is the datagram's own (`implied_port`).
        port: Option<u16>,
        /// The token that we gave.
        token: &'a [u8],
    },
    /// What is stored at this target?
    Get {
        /// The target.
        target: [u8; 20],
        /// Only when it is newer than this.
        seq: Option<i64>,
        /// The token that we gave, if the asker proves by it that it is there.
        token: Option<&'a [u8]>,
        /// Nodes of which networks.
        want: Wanted,
    },
    /// Some of the names that peers were announced for (BEP51).
    Sample {
        /// Nodes nearest to this are told, too.
        target: &'a [u8],
        /// Nodes of which networks.
        want: Wanted,
    },
    /// Store this.
    Put {
        /// The token that we gave.
        token: &'a [u8],
        /// The value as received; known to be canonical.
        v: &'a [u8],
        /// What makes it mutable.
        signed: Option<SignedArgs<'a>>,
        /// Store it only over this version.
        cas: Option<i64>,
    },
}

/// Nodes of which networks somebody wants to be told (BEP32's `want`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    n4: bool,
    n6: bool,
}

impl Wanted {
    fn read(list: Option<Raw<'_>>) -> Self {
        let mut wanted = Self::default();
        for word in list.into_iter().flat_map(Raw::items).take(WANTED_MAX).filter_map(Raw::bytes) {
            wanted.n4 |= word == b"n4";
            wanted.n6 |= word == b"n6";
        }
        wanted
    }

    /// Whether nodes of this network are wanted by somebody who asks through that one: its own, unless they say otherwise.
    #[must_use]
    pub fn has(self, family: Family, through: Family) -> bool {
        match family {
            _ if self == Self::default() => family == through,
            Family::V4 => self.n4,
            Family::V6 => self.n6,
        }
    }
}

/// The arguments of a mutable put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedArgs<'a> {
    /// The key.
    pub k: [u8; 32],
    /// The signature.
    pub sig: [u8; 64],
    /// The version.
    pub seq: i64,
    /// Empty when there is none.
    pub salt: &'a [u8],
}

/// An answer's fields; which are there depends on what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Who answers.
    pub id: Option<NodeId>,
    /// Nearer nodes, 26 bytes each.
    pub nodes: &'a [u8],
    /// Nearer nodes of IPv6, 38 bytes each.
    pub nodes6: &'a [u8],
    /// The write token.
    pub token: Option<&'a [u8]>,
    /// There may be more, for whoever asks again with the token (a key of ours, `cut`; see [`Ask::GetAgain`]).
    pub cut: bool,
    /// Peers: a list of byte strings.
    pub values: Option<Raw<'a>>,
    /// The value, as received.
    pub v: Option<&'a [u8]>,
    /// The key, signature and sequence of a mutable value.
    pub signed: Option<([u8; 32], [u8; 64], i64)>,
}

impl<'a> Reply<'a> {
    /// The nodes; a partial last entry and port 0 are skipped.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + 'a {
        let entries = self.nodes.chunks_exact(NODE_BYTES).chain(self.nodes6.chunks_exact(NODE6_BYTES));
        entries.filter_map(|entry| {
            let (id, addr) = entry.split_at_checked(ID_BYTES)?;
            Some(Contact { id: NodeId(id.try_into().ok()?), addr: read_addr(addr)? })
        })
    }

    /// The peers; a short entry ends them, port 0 is skipped.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        let entries = self.values.into_iter().flat_map(Raw::items);
        entries.map_while(|entry| entry.bytes().filter(|b| b.len() >= ADDR_BYTES)).filter_map(read_addr)
    }
}

/// `ip:port` from 18 bytes, or from the first six of any other number; none for port 0.
fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = match <[u8; ADDR6_BYTES]>::try_from(bytes) {
        Ok(bytes) => {
            let ip: [u8; 16] = bytes[..16].try_into().ok()?;
            (Ipv6Addr::from(ip).into(), [bytes[16], bytes[17]])
        }
        Err(_) => {
            let (ip, port) = bytes.get(..ADDR_BYTES)?.split_at_checked(4)?;
            (Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(), port.try_into().ok()?)
        }
    };
    let port = u16::from_be_bytes(port);
    (port != 0).then_some(SocketAddr::new(ip, port))
}

/// The address in an `ip` of the right length.
fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    matches!(bytes.len(), ADDR_BYTES | ADDR6_BYTES).then(|| read_addr(bytes))?.map(|addr| addr.ip())
}

/// Reads a datagram; none for what deserves no answer.
#[must_use]
pub fn decode(datagram: &[u8]) -> Option<Message<'_>> {
    let mut envelope = Envelope::default();
    for field in bencode::read_dict(datagram) {
        let (key, value) = field.ok()?;
        match key {
            b"t" => envelope.t = Some(value.bytes().filter(|t| t.len() <= TRANSACTION_BYTES_MAX)?),
            b"y" => envelope.kind = value.bytes(),
            b"q" => envelope.method = value.bytes(),
            b"a" => envelope.args = Some(value),
            b"r" => envelope.result = Some(value),
            b"e" => envelope.error = Some(value),
            b"ip" => envelope.ip = value.bytes().and_then(read_ip),
            b"ro" => envelope.read_only = value.int() == Some(1),
            _ => {}
        }
    }
    let Envelope { t, kind, method, args, result, error, ip, read_only } = envelope;
    match kind? {
        b"q" => {
            let args = Args::read(args);
            Some(Message::Query { t, id: args.id(), read_only, query: args.query(method) })
        }
        b"r" => Some(Message::Reply { t: t?, ip, reply: Args::read(result).reply() }),
        b"e" => {
            let mut parts = error?.items();
            let code = parts.next().and_then(Raw::int).unwrap_or(0);
            let text = parts.next().and_then(Raw::bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..text.len().min(ERROR_TEXT_BYTES_MAX)]).into_owned();
            Some(Message::Error { t: t?, ip, code, text })
        }
        _ => None,
    }
}

/// The outer dictionary: `t`, `y`, `q`, `a`, `r`, `e`, `ip`, `ro`.
#[derive(Default)]
struct Envelope<'a> {
    t: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    args: Option<Raw<'a>>,
    result: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
    ip: Option<IpAddr>,
    read_only: bool,
}

const fn bad(text: &'static str) -> Problem {
    Problem { code: code::PROTOCOL, text }
}

/// Every argument that any method or answer has. One pass finds them; a missing or mistyped one shows when it is needed.
#[derive(Default)]
struct Args<'a> {
    id: Option<Raw<'a>>,
    target: Option<Raw<'a>>,
    info_hash: Option<Raw<'a>>,
    port: Option<Raw<'a>>,
    implied_port: Option<Raw<'a>>,
    token: Option<Raw<'a>>,
    v: Option<Raw<'a>>,
    k: Option<Raw<'a>>,
    sig: Option<Raw<'a>>,
    seq: Option<Raw<'a>>,
    salt: Option<Raw<'a>>,
    cas: Option<Raw<'a>>,
    nodes: Option<Raw<'a>>,
    nodes6: Option<Raw<'a>>,
    want: Option<Raw<'a>>,
    values: Option<Raw<'a>>,
    cut: Option<Raw<'a>>,
    missing: bool,
}

impl<'a> Args<'a> {
    fn read(dict: Option<Raw<'a>>) -> Self {
        let mut args = Self::default();
        let Some(dict) = dict.filter(|dict| dict.is_dict()) else {
            return Self { missing: true, ..args };
        };
        for (key, value) in dict.fields() {
            let slot = match key {
                b"id" => &mut args.id,
                b"target" => &mut args.target,
                b"info_hash" => &mut args.info_hash,
                b"port" => &mut args.port,
                b"implied_port" => &mut args.implied_port,
                b"token" => &mut args.token,
                b"v" => &mut args.v,
                b"k" => &mut args.k,
                b"sig" => &mut args.sig,
                b"seq" => &mut args.seq,
                b"salt" => &mut args.salt,
                b"cas" => &mut args.cas,
                b"nodes" => &mut args.nodes,
                b"nodes6" => &mut args.nodes6,
                b"want" => &mut args.want,
                b"values" => &mut args.values,
                b"cut" => &mut args.cut,
                _ => continue,
            };
            *slot = Some(value);
        }
        args
    }

    fn id(&self) -> Option<NodeId> {
        Some(NodeId(self.id?.bytes()?.try_into().ok()?))
    }

    fn query(&self, method: Option<&[u8]>) -> Result<Query<'a>, Problem> {
        let method = method.ok_or(bad("no method"))?;
        match method {
            b"ping" => Ok(Query::Ping),
            b"find_node" | b"get_peers" | b"announce_peer" | b"get" | b"put" | b"sample_infohashes"
                if self.missing =>
            {
                Err(bad("no arguments"))
            }
            b"find_node" => Ok(Query::FindNode { target: self.target()?, want: self.want() }),
            b"sample_infohashes" => Ok(Query::Sample { target: self.target()?, want: self.want() }),
            b"get_peers" => {
                Ok(Query::GetPeers { name: self.name()?, token: self.proof(), want: self.want() })
            }
            b"announce_peer" => {
                Ok(Query::Announce { name: self.name()?, port: self.port()?, token: self.token()? })
            }
            b"get" => {
                let target = self.target.and_then(Raw::bytes).and_then(|t| t.try_into().ok());
                let target = target.ok_or(bad("invalid value for 'target'"))?;
                let seq = self.seq.and_then(Raw::int);
                Ok(Query::Get { target, seq, token: self.proof(), want: self.want() })
            }
            b"put" => self.put(),
            _ => Err(Problem { code: code::METHOD_UNKNOWN, text: "unknown method" }),
        }
    }

    /// A target of any length.
    fn target(&self) -> Result<&'a [u8], Problem> {
        let target = self.target.and_then(Raw::bytes).filter(|target| target.len() <= NAME_BYTES_MAX);
        target.ok_or(bad("invalid value for 'target'"))
    }

    fn want(&self) -> Wanted {
        Wanted::read(self.want)
    }

    fn name(&self) -> Result<&'a [u8], Problem> {
        let name = self.info_hash.and_then(Raw::bytes).filter(|name| name.len() <= NAME_BYTES_MAX);
        name.ok_or(bad("invalid value for 'info_hash'"))
    }

    fn token(&self) -> Result<&'a [u8], Problem> {
        self.token.and_then(Raw::bytes).ok_or(bad("invalid value for 'token'"))
    }

    /// A token beside a question: nothing is wrong with one that is not there.
    fn proof(&self) -> Option<&'a [u8]> {
        self.token.and_then(Raw::bytes)
    }

    fn port(&self) -> Result<Option<u16>, Problem> {
        if self.implied_port.and_then(Raw::int).is_some_and(|implied| implied != 0) {
            return Ok(None);
        }
        let port = self.port.and_then(Raw::int).and_then(|port| u16::try_from(port).ok());
        port.filter(|&port| port != 0).map(Some).ok_or(bad("invalid value for 'port'"))
    }

    fn put(&self) -> Result<Query<'a>, Problem> {
        let token = self.token()?;
        let v = self.v.ok_or(bad("no 'v'"))?.encoded();
        if !bencode::is_canonical(v) {
            return Err(bad("'v' is not canonical"));
        }
        let cas = self.cas.map(|cas| cas.int().ok_or(bad("invalid value for 'cas'"))).transpose()?;
        Ok(Query::Put { token, v, signed: self.signed()?, cas })
    }

    fn signed(&self) -> Result<Option<SignedArgs<'a>>, Problem> {
        if self.k.is_none() && self.sig.is_none() {
            return Ok(None);
        }
        let k = self.k.and_then(Raw::bytes).and_then(|k| k.try_into().ok());
        let sig = self.sig.and_then(Raw::bytes).and_then(|sig| sig.try_into().ok());
        let seq = self.seq.and_then(Raw::int).filter(|&seq| seq >= 0);
        let salt = self.salt.map_or(Some(&b""[..]), Raw::bytes);
        Ok(Some(SignedArgs {
            k: k.ok_or(bad("invalid value for 'k'"))?,
            sig: sig.ok_or(bad("invalid value for 'sig'"))?,
            seq: seq.ok_or(bad("invalid value for 'seq'"))?,
            salt: salt.ok_or(bad("invalid value for 'salt'"))?,
        }))
    }

    fn reply(&self) -> Reply<'a> {
        let token = self.token.and_then(Raw::bytes).filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let signed = (|| {
            let (k, sig) = (self.k?.bytes()?.try_into().ok()?, self.sig?.bytes()?.try_into().ok()?);
            Some((k, sig, self.seq?.int().filter(|&seq| seq >= 0)?))
        })();
        // A value with half a signature is neither kind: it is left out.
        let v =
            self.v.map(Raw::encoded).filter(|_| signed.is_some() || (self.k.is_none() && self.sig.is_none()));
        let bytes = |field: Option<Raw<'a>>| field.and_then(Raw::bytes).unwrap_or_default();
        Reply {
            id: self.id(),
            nodes: bytes(self.nodes),
            nodes6: bytes(self.nodes6),
            token,
            cut: self.cut.and_then(Raw::int) == Some(1),
            values: self.values.filter(|values| values.is_list()),
            v,
            signed,
        }
    }
}

#[cfg(test)]
mod tests;
