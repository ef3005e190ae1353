//! Write tokens that we give out: they prove that a sender receives what is sent to its address.
//!
//! A token is a keyed hash over the address and an epoch of five minutes; the previous epoch's is accepted too, so that one is
//! good for five to ten minutes. Nothing is stored per token.

use super::Now;
use sha2::{Digest, Sha256};
use std::{net::IpAddr, time::Duration};
use subtle::ConstantTimeEq;

/// How often the secret changes (BEP5's reference implementation, and grapes).
const EPOCH: Duration = Duration::from_mins(5);
/// Bytes of a token: too many to guess within its life.
pub(super) const TOKEN_BYTES: usize = 8;

/// Makes and checks tokens.
pub(super) struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The token for an address now.
    pub(super) fn give(&self, ip: IpAddr, now: Now) -> [u8; TOKEN_BYTES] {
        self.make(ip, epoch(now))
    }

    /// Whether a token was given to this address in this epoch or the one before.
    pub(super) fn accepts(&self, token: &[u8], ip: IpAddr, now: Now) -> bool {
        let epoch = epoch(now);
        let good = |epoch| bool::from(self.make(ip, epoch)[..].ct_eq(token));
        good(epoch) || epoch.checked_sub(1).is_some_and(good)
    }

    /// Whether a text is the start of such a token.
    pub(super) fn accepts_start(&self, start: &[u8], ip: IpAddr, now: Now) -> bool {
        let epoch = epoch(now);
        let good =
            |epoch| self.make(ip, epoch).get(..start.len()).is_some_and(|made| made.ct_eq(start).into());
        good(epoch) || epoch.checked_sub(1).is_some_and(good)
    }

    /// All of it fits one block of the hash, and always has the same length: nobody can make a longer one of it.
    fn make(&self, ip: IpAddr, epoch: u32) -> [u8; TOKEN_BYTES] {
        let hash = Sha256::new()
            .chain_update(self.secret)
            .chain_update(epoch.to_be_bytes())
            .chain_update(canonical(ip))
            .finalize();
        std::array::from_fn(|at| hash[at])
    }
}

/// The 16 bytes of an address; an IPv4 one as it is mapped into IPv6.
fn canonical(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn epoch(now: Now) -> u32 {
    // 40,000 years of epochs.
    (now.since_start().as_secs() / EPOCH.as_secs()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_lives_for_five_to_ten_minutes_and_for_one_address() {
        let tokens = Tokens::new([1; 32]);
        let early = tokens.give(IP, at(1));
        let late = tokens.give(IP, at(299));
        for token in [early, late] {
            assert!(tokens.accepts(&token, IP, at(599)));
            assert!(!tokens.accepts(&token, IP, at(600)));
            assert!(!tokens.accepts(&token, Ipv4Addr::new(10, 0, 0, 2).into(), at(299)));
        }
    }

    #[test]
    fn tokens_of_another_secret_length_or_content_are_refused() {
        let tokens = Tokens::new([1; 32]);
        let good = tokens.give(IP, at(1));
        assert!(!Tokens::new([2; 32]).accepts(&good, IP, at(1)));
        assert!(!tokens.accepts(&good[..7], IP, at(1)));
        assert!(!tokens.accepts(b"", IP, at(1)));
        assert!(!tokens.accepts(&[0; 8], IP, at(1)));
    }
}
