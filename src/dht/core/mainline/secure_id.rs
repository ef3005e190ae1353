//! Node ids that belong to an address (BEP42), so that nobody chooses where in the id space he sits.

use crate::dht::core::{
    id::{ID_BYTES, NodeId},
    source::is_private,
};
use rand::{RngExt, rngs::StdRng};
use std::net::IpAddr;

/// The bits of an IPv4 address that an id depends on.
const MASK_V4: u32 = 0x030f_3fff;
/// The bits of the upper half of an IPv6 address that an id depends on.
const MASK_V6: u64 = 0x0103_070f_1f3f_7fff;
/// The bits of the id's third byte that are still the address's.
const THIRD_BYTE_MASK: u8 = 0xf8;
/// Castagnoli's polynomial, reversed.
const CRC32C: u32 = 0x82f6_3b78;

/// A random id that belongs to an address.
pub(in crate::dht::core) fn for_address(ip: IpAddr, rng: &mut StdRng) -> NodeId {
    let mut id: [u8; ID_BYTES] = rng.random();
    let [first, second, third] = prefix(ip, id[ID_BYTES - 1]);
    (id[0], id[1]) = (first, second);
    id[2] = third & THIRD_BYTE_MASK | id[2] & !THIRD_BYTE_MASK;
    NodeId(id)
}

/// Whether an id belongs to an address. Every id does on private networks, whose addresses mean nothing outside.
pub(in crate::dht::core) fn belongs(id: &NodeId, ip: IpAddr) -> bool {
    if is_private(ip) {
        return true;
    }
    let [first, second, third] = prefix(ip, id.0[ID_BYTES - 1]);
    (id.0[0], id.0[1], id.0[2] & THIRD_BYTE_MASK) == (first, second, third & THIRD_BYTE_MASK)
}

/// What an id with this last byte has to begin with.
fn prefix(ip: IpAddr, last: u8) -> [u8; 3] {
    let r = last & 7;
    let crc = match ip {
        IpAddr::V4(ip) => crc32c(&(u32::from(ip) & MASK_V4 | u32::from(r) << 29).to_be_bytes()),
        IpAddr::V6(ip) => {
            let upper = (u128::from(ip) >> 64) as u64;
            crc32c(&(upper & MASK_V6 | u64::from(r) << 61).to_be_bytes())
        }
    };
    let [first, second, third, _] = crc.to_be_bytes();
    [first, second, third]
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (CRC32C * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_examples_of_bep42_belong_and_their_neighbours_do_not() {
        for (ip, id) in [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ] {
            let (ip, id): (IpAddr, NodeId) = (ip.parse().unwrap(), id.parse().unwrap());
            assert!(belongs(&id, ip), "{ip}");
            let mut other = id;
            other.0[2] ^= 0x08;
            assert!(!belongs(&other, ip), "{ip}");
            assert!(!belongs(&id, "8.8.8.8".parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_id_made_for_an_address_belongs_to_it() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..1000 {
            let v4 = IpAddr::from(rng.random::<[u8; 4]>());
            let v6 = IpAddr::from(rng.random::<[u8; 16]>());
            assert!(belongs(&for_address(v4, &mut rng), v4), "{v4}");
            assert!(belongs(&for_address(v6, &mut rng), v6), "{v6}");
        }
    }

    #[test]
    fn on_private_networks_every_id_will_do() {
        for ip in
            ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
        {
            assert!(belongs(&NodeId([0; 20]), ip.parse().unwrap()), "{ip}");
        }
        assert!(!belongs(&NodeId([0; 20]), "2001:db8::1".parse().unwrap()));
    }
}
