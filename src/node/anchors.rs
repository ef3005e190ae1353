//! Anchors: the neighbours that a node had when it stopped, and asks first after a restart.
//!
//! Whoever lost the network looks for nodes of it in the DHT, where anybody can say that he is one. Two neighbours that were good
//! before are a way back that nobody can crowd out. They stand in the store's note [`META_ANCHORS`], one a line: the client id and
//! its addresses. Where they are is hearsay, as all addresses are; who answers there has to sign.

use crate::{identity::ClientId, replication::core::limits::HEAD_ADDRESSES_MAX};
use std::{fmt::Write, net::SocketAddr};

/// The store's note of the anchors.
pub const META_ANCHORS: &str = "anchors";
/// Neighbours that are kept over a restart. One may be gone; Bitcoin's nodes keep two as well.
pub const ANCHORS_MAX: usize = 2;

/// A neighbour, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Who.
    pub client: ClientId,
    /// At least one, at most as many as a head has.
    pub addresses: Vec<SocketAddr>,
}

/// What [`noted`] reads: of the first two that have an address.
#[must_use]
pub fn note(anchors: &[Anchor]) -> String {
    let mut text = String::new();
    for anchor in anchors.iter().filter(|anchor| !anchor.addresses.is_empty()).take(ANCHORS_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", anchor.client);
        for address in anchor.addresses.iter().take(HEAD_ADDRESSES_MAX) {
            let _ = write!(text, " {address}");
        }
        text.push('\n');
    }
    text
}

/// The anchors in a note. A line that is none, and what is too much, is left out with a warning: the DHT knows other ways.
#[must_use]
pub fn noted(note: &str) -> Vec<Anchor> {
    let mut anchors: Vec<Anchor> = Vec::new();
    let mut ignored = 0;
    for line in note.lines() {
        match anchor(line) {
            Some(anchor)
                if anchors.len() < ANCHORS_MAX && anchors.iter().all(|held| held.client != anchor.client) =>
            {
                anchors.push(anchor);
            }
            _ => ignored += 1,
        }
    }
    if ignored > 0 {
        tracing::warn!(
            lines = ignored,
            "what the store's note of neighbours says cannot all be read, and is ignored"
        );
    }
    anchors
}

fn anchor(line: &str) -> Option<Anchor> {
    let mut words = line.split(' ');
    let client = words.next()?.parse().ok()?;
    let addresses: Vec<SocketAddr> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    (1..=HEAD_ADDRESSES_MAX).contains(&addresses.len()).then_some(Anchor { client, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;
    use proptest::prelude::*;

    fn some(client: u8, addresses: &[&str]) -> Anchor {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Anchor { client: PublicKey([client; 32]), addresses }
    }

    #[test]
    fn anchors_are_read_as_they_were_noted() {
        let anchors = [
            some(1, &["203.0.113.7:1337"]),
            some(2, &["[2001:db8::1]:1", "192.0.2.1:2", "192.0.2.2:3", "192.0.2.3:65535"]),
        ];
        assert_eq!(noted(&note(&anchors)), anchors);
        assert_eq!(noted(&note(&anchors[..1])), anchors[..1]);
        assert_eq!(noted(&note(&[])), []);
    }

    #[test]
    fn two_are_noted_with_four_addresses_each_and_none_without() {
        let many = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4", "192.0.2.1:5"];
        let anchors = [some(1, &[]), some(2, &many), some(3, &many[..1]), some(4, &many[..1])];
        assert_eq!(noted(&note(&anchors)), [some(2, &many[..4]), some(3, &many[..1])]);
    }

    #[test]
    fn a_line_that_is_no_anchor_is_ignored_and_the_others_are_not() {
        let good = note(&[some(1, &["203.0.113.7:1337"])]);
        let client = PublicKey([2; 32]);
        for bad in [
            String::new(),
            "hello".to_owned(),
            format!("{client}"),
            format!("{client} "),
            format!("{client} 203.0.113.7"),
            format!("{client}  203.0.113.7:1337"),
            format!("{client} example.org:1337"),
            format!("{} 203.0.113.7:1337", "x".repeat(64)),
            format!("{client}{}", " 203.0.113.7:1337".repeat(5)),
            good.trim_end().to_owned(),
        ] {
            assert_eq!(noted(&format!("{bad}\n{good}")), [some(1, &["203.0.113.7:1337"])], "{bad:?}");
            assert_eq!(noted(&format!("{good}{bad}")), [some(1, &["203.0.113.7:1337"])], "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read(text: String) {
            prop_assert!(noted(&text).len() <= ANCHORS_MAX);
        }
    }
}
