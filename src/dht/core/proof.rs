//! Which addresses have shown that they receive what is sent to them, so that this node amplifies nothing.
//!
//! UDP senders can write any source address. Until an address is proven it is sent at most twice the bytes that came from it: a
//! small query gets a small answer, and its write token. An address proves itself by using that token (in a write, or in the
//! question asked again), by answering a query of ours, or by answering the *ping* that goes with the first answer. The ping's
//! transaction id is a keyed hash of the address, as a SYN cookie is, so that a flood of forged senders leaves nothing behind.

use super::{
    Now,
    contacts::Recent,
    krpc::TRANSACTION_BYTES,
    source::{Host, Ranges},
    token::Tokens,
};
use std::{net::IpAddr, time::Duration};

/// How long a proof is good for: three rounds of liveness pings, so that nodes which know each other stay proven.
const PROOF_AGE_MAX: Duration = Duration::from_mins(15);
/// Proven hosts that are remembered, about 1 MB; those not proven lately are forgotten first, and prove themselves again.
const PROVEN_MAX: usize = 16_384;
/// Bytes sent for each byte received from an address that is not proven.
pub(super) const AMPLIFICATION_MAX: usize = 2;

/// What is known of addresses' honesty about themselves.
pub(super) struct Proofs {
    ranges: Ranges,
    cookies: Tokens,
    proven: Recent<Host, Now>,
}

impl Proofs {
    pub(super) fn new(ranges: Ranges, secret: [u8; 32]) -> Self {
        Self { ranges, cookies: Tokens::new(secret), proven: Recent::new(PROVEN_MAX) }
    }

    /// Hosts remembered as proven.
    pub(super) fn len(&self) -> usize {
        self.proven.len()
    }

    /// Whether an address may be sent answers of any size. Those of exempt ranges always may.
    pub(super) fn is_proven(&self, ip: IpAddr, now: Now) -> bool {
        self.ranges.exempt(ip)
            || self.proven.get(&Host::of(ip)).is_some_and(|at| now.since(*at) < PROOF_AGE_MAX)
    }

    /// It was seen to receive what was sent to it.
    pub(super) fn prove(&mut self, ip: IpAddr, now: Now) {
        if !self.ranges.exempt(ip) {
            self.proven.insert(Host::of(ip), now);
        }
    }

    /// The transaction id of the ping that asks an address to prove itself.
    pub(super) fn cookie(&self, ip: IpAddr, now: Now) -> [u8; TRANSACTION_BYTES] {
        let token = self.cookies.give(ip, now);
        std::array::from_fn(|at| token[at])
    }

    /// Whether an answer carries the cookie that was sent to its address, five to ten minutes ago at most.
    pub(super) fn accepts(&self, t: &[u8], ip: IpAddr, now: Now) -> bool {
        t.len() == TRANSACTION_BYTES && !self.ranges.exempt(ip) && self.cookies.accepts_start(t, ip, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_proof_is_the_hosts_and_grows_old() {
        let mut proofs = Proofs::new(Ranges { limit_private: false }, [1; 32]);
        let (ip, other) = (IpAddr::from([8, 8, 8, 8]), IpAddr::from([8, 8, 8, 9]));
        assert!(!proofs.is_proven(ip, at(0)) && proofs.is_proven([127, 0, 0, 1].into(), at(0)));
        proofs.prove(ip, at(0));
        assert!(proofs.is_proven(ip, at(899)) && !proofs.is_proven(ip, at(900)));
        assert!(!proofs.is_proven(other, at(0)));
        proofs.prove([127, 0, 0, 1].into(), at(0));
        assert_eq!(proofs.len(), 1, "who is exempt takes no room");
    }

    #[test]
    fn a_cookie_is_good_for_its_address_and_for_minutes() {
        let proofs = Proofs::new(Ranges { limit_private: true }, [1; 32]);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let cookie = proofs.cookie(ip, at(10));
        assert!(proofs.accepts(&cookie, ip, at(500)) && !proofs.accepts(&cookie, ip, at(600)));
        assert!(!proofs.accepts(&cookie, [127, 0, 0, 2].into(), at(10)));
        assert!(!proofs.accepts(&[], ip, at(10)) && !proofs.accepts(&cookie[..3], ip, at(10)));
    }

    #[test]
    fn the_number_remembered_is_bounded() {
        let mut proofs = Proofs::new(Ranges { limit_private: false }, [1; 32]);
        for n in 0..100_000u32 {
            proofs.prove(std::net::Ipv4Addr::from(n + 0x0800_0000).into(), at(0));
        }
        assert!(proofs.len() <= PROVEN_MAX);
    }
}
