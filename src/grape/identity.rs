//! The file `node`: which DHT node this is, and whom it knew. A few lines of text, replaced as a whole.
//!
//! A node id belongs to an address: the others know the node by both, and a stock grape never notices that an id has moved. So an
//! id is used again on its address only, and another address gets another id.

use crate::dht::NodeId;
use crate::identity::encode_hex;
use sha1::{Digest, Sha1};
use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file's name in the data directory.
const FILE: &str = "node";
/// Nodes that are kept: enough to find the network again, and three times what is asked at a start.
pub(super) const NODES_MAX: usize = 200;
/// A file of this program is far shorter.
const FILE_BYTES_MAX: usize = 64 << 10;
const CHECKSUM_DIGITS: usize = 16;

/// What is kept of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Identity {
    /// Its id, if it is known, on the address that it was given for.
    pub(super) id: Option<NodeId>,
    /// Where its HTTP API is, or was.
    pub(super) http: Option<SocketAddr>,
    /// Nodes that it knew, nearest first.
    pub(super) nodes: Vec<SocketAddr>,
}

impl Identity {
    /// As text, for the node at `address`.
    pub(super) fn to_text(&self, address: SocketAddr) -> String {
        let mut text = String::new();
        if let Some(id) = self.id {
            let _ = writeln!(text, "id {id} {address}");
        }
        if let Some(http) = self.http {
            let _ = writeln!(text, "http {http}");
        }
        for node in self.nodes.iter().take(NODES_MAX) {
            let _ = writeln!(text, "knows {node}");
        }
        let sum = checksum(&text);
        let _ = writeln!(text, "checksum {sum}");
        text
    }

    /// Reads a text for the node at `address`; and whether it is as it was written. From a damaged one addresses are taken, which
    /// are only asked, but no id.
    fn of_text(text: &str, address: SocketAddr) -> (Self, bool) {
        let (content, sum) = text.rsplit_once("checksum ").unwrap_or((text, ""));
        let whole = sum.trim_end() == checksum(content);
        let mut found = Self::default();
        for line in content.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["id", id, of] if whole && of.parse() == Ok(address) => found.id = id.parse().ok(),
                ["knows", node] if found.nodes.len() < NODES_MAX => {
                    found.nodes.extend(node.parse::<SocketAddr>().ok());
                }
                _ => {}
            }
        }
        (found, whole)
    }

    /// What is kept in `dir` for the node at `address`. What cannot be read is warned of.
    pub(super) fn load(dir: &Path, address: SocketAddr) -> Self {
        let path = dir.join(FILE);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the DHT node id cannot be read; this start gets a new one");
                return Self::default();
            }
        };
        bytes.truncate(FILE_BYTES_MAX);
        let (found, whole) = Self::of_text(&String::from_utf8_lossy(&bytes), address);
        if !whole {
            tracing::warn!(path = %path.display(), "the file with the DHT node id is damaged; this start gets a new one");
        }
        found
    }

    /// Writes the file anew: a crash leaves the old one or the new one.
    pub(super) fn save(&self, dir: &Path, address: SocketAddr) -> io::Result<()> {
        let new = dir.join("node.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(self.to_text(address).as_bytes())?;
        file.sync_data()?;
        fs::rename(new, dir.join(FILE))
    }
}

fn checksum(text: &str) -> String {
    let mut digits = encode_hex(&Sha1::digest(text));
    digits.truncate(CHECKSUM_DIGITS);
    digits
}

/// What a directory tells people of the grape that has it, or had it last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its DHT node id.
    pub id: NodeId,
    /// The address that the id belongs to.
    pub address: SocketAddr,
    /// Where its HTTP API is, or was.
    pub http: Option<SocketAddr>,
}

/// What `dir` tells of its grape.
#[must_use]
pub fn shown(dir: &Path) -> Option<Shown> {
    let text = fs::read_to_string(dir.join(FILE)).ok()?;
    let mut lines = text.lines();
    let (id, address) = lines.next()?.strip_prefix("id ")?.split_once(' ')?;
    let http = lines.next().and_then(|line| line.strip_prefix("http ")?.parse().ok());
    Some(Shown { id: id.parse().ok()?, address: address.parse().ok()?, http })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(port: u16) -> SocketAddr {
        ([0, 0, 0, 0], port).into()
    }
    fn identity() -> Identity {
        let nodes = vec!["127.0.0.1:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap()];
        Identity { id: Some("ab".repeat(20).parse().unwrap()), http: Some(address(9)), nodes }
    }

    #[test]
    fn an_id_is_kept_for_its_address_only_and_nodes_for_any() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(dir.path(), address(1)), Identity::default());
        identity().save(dir.path(), address(1)).unwrap();
        let kept = Identity { http: None, ..identity() };
        assert_eq!(Identity::load(dir.path(), address(1)), kept);
        assert_eq!(Identity::load(dir.path(), address(2)), Identity { id: None, ..kept });
        let shown = shown(dir.path()).unwrap();
        assert_eq!(
            (Some(shown.id), shown.address, shown.http),
            (identity().id, address(1), Some(address(9)))
        );
    }

    #[test]
    fn a_damaged_file_gives_no_id_but_the_addresses_that_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = identity()
            .to_text(address(1))
            .replacen("abab", "abac", 1)
            .replace("[2001:db8::1]:6", "[2001:db8");
        fs::write(dir.path().join(FILE), text).unwrap();
        assert_eq!(
            Identity::load(dir.path(), address(1)),
            Identity { nodes: vec!["127.0.0.1:5".parse().unwrap()], ..Identity::default() }
        );
        fs::write(dir.path().join(FILE), b"\xff\x00").unwrap();
        assert_eq!(Identity::load(dir.path(), address(1)), Identity::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = Identity::of_text(&text, address(1));
        }
    }
}
