//! Ids of offers: UUIDv7 that commit to their maker.
//!
//! A listing is addressed by its id, so nobody may be able to publish a second listing under somebody else's. The 62 bits that
//! RFC 9562 section 5.7 calls `rand_b` are therefore not random: they are the start of SHA-256 over the network, the maker's
//! client id and the first 60 bits (milliseconds, version, `rand_a`). Whoever copies an id cannot make it fit another key.

use crate::{
    identity::{ClientId, Network},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The id of an offer. Sorts by the time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(pub Uuid);

impl OfferId {
    fn new(network: &Network, maker: &ClientId, tick: u64) -> Self {
        let (ms, counter) = (tick >> 12, tick & 0xfff);
        let head = ((ms << 16) | 0x7000 | counter).to_be_bytes();
        let hash = Sha256::new()
            .chain_update(format!("vintner/1/{network}/offer-id\0"))
            .chain_update(maker.0)
            .chain_update(head)
            .finalize();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&head);
        bytes[8..].copy_from_slice(&hash[..8]);
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(Uuid::from_bytes(bytes))
    }

    /// Milliseconds and counter: what orders the ids of one maker.
    fn tick(self) -> u64 {
        let head = (self.0.as_u128() >> 64) as u64;
        ((head >> 16) << 12) | (head & 0xfff)
    }

    /// Whether this is a UUIDv7 made by `maker` for `network`.
    #[must_use]
    pub fn belongs_to(self, network: &Network, maker: &ClientId) -> bool {
        self == Self::new(network, maker, self.tick())
    }

    /// When it was made, by its maker's clock.
    #[must_use]
    pub fn created_at(self) -> UnixMillis {
        UnixMillis(self.tick() >> 12)
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OfferId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Makes the ids of one maker, each later than the last, also when the clock stands still or goes back.
#[derive(Clone, Debug, Default)]
pub struct IdMint {
    last_tick: u64,
}

impl IdMint {
    /// Notes an id that exists already, so that none is made twice after a restart.
    pub fn seen(&mut self, id: OfferId) {
        self.last_tick = self.last_tick.max(id.tick());
    }

    /// The next id.
    pub fn next(&mut self, network: &Network, maker: &ClientId, now: UnixMillis) -> OfferId {
        // 48 bits of milliseconds reach the year 10889.
        let now = now.0.min((1 << 48) - 1);
        self.last_tick = (now << 12).max(self.last_tick + 1);
        OfferId::new(network, maker, self.last_tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;

    const MAKER: PublicKey = PublicKey([1; 32]);

    fn network() -> Network {
        "test".parse().unwrap()
    }

    #[test]
    fn an_id_is_a_uuid_v7_of_its_time_and_maker() {
        let now = UnixMillis(1_795_262_400_123);
        let id = IdMint::default().next(&network(), &MAKER, now);
        assert_eq!(id.0.get_version(), Some(uuid::Version::SortRand));
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.created_at(), now);
        assert!(id.belongs_to(&network(), &MAKER));
    }

    #[test]
    fn nobody_else_and_no_other_network_can_use_an_id() {
        let id = IdMint::default().next(&network(), &MAKER, UnixMillis(1_795_262_400_123));
        assert!(!id.belongs_to(&network(), &PublicKey([2; 32])));
        assert!(!id.belongs_to(&"other".parse().unwrap(), &MAKER));
        assert!(!OfferId(Uuid::from_u128(id.0.as_u128() ^ 1)).belongs_to(&network(), &MAKER));
        assert!(!OfferId(Uuid::nil()).belongs_to(&network(), &MAKER));
    }

    #[test]
    fn ids_grow_although_the_clock_stands_still_or_goes_back() {
        let mut mint = IdMint::default();
        let mut last = mint.next(&network(), &MAKER, UnixMillis(5000));
        for now in std::iter::repeat_n(5000, 5000).chain([4000, 3000]) {
            let id = mint.next(&network(), &MAKER, UnixMillis(now));
            assert!(id > last && id.belongs_to(&network(), &MAKER));
            last = id;
        }
        let mut restarted = IdMint::default();
        restarted.seen(last);
        assert!(restarted.next(&network(), &MAKER, UnixMillis(1)) > last);
    }
}
