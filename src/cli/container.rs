//! What a program can see of the container that it runs in: where the engine's own connections come from.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Files that Docker and Podman leave in every container.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// The kernel's table of IPv4 routes.
const ROUTES: &str = "/proc/net/route";
/// `RTF_GATEWAY`: the route leads through another machine.
const VIA_GATEWAY: u32 = 2;

/// The engine's end of the container's network: published ports on the host's loopback are forwarded from there, by Docker's
/// proxy as by its NAT rules.
///
/// The same address is a router's where there is no such network, and a router forwards strangers. So this is refused outside
/// of a container, and in one that was given the host's own network.
pub(super) fn gateways() -> Result<Vec<IpAddr>> {
    let instead = "use `--api 127.0.0.1:4000`, or a token";
    if !MARKS.iter().any(|mark| Path::new(mark).exists()) {
        bail!(
            "--api-published is for containers, and this is none that Docker or Podman started; {instead}, or name the \
             addresses that forward to it with --api-published-from"
        );
    }
    let table = fs::read_to_string(ROUTES).with_context(|| format!("cannot read {ROUTES}; {instead}"))?;
    let routes = default_routes(&table);
    if let Some((interface, _)) = routes.iter().find(|(interface, _)| !is_half_of_a_pair(interface)) {
        bail!(
            "--api-published needs a network of the container's own, and {interface} is the host's; {instead}"
        );
    }
    if routes.is_empty() {
        bail!(
            "the container has no default route, so its engine's address is not known; name it with --api-published-from"
        );
    }
    Ok(routes.into_iter().map(|(_, gateway)| gateway.into()).collect())
}

/// Interfaces and gateways of the default routes.
fn default_routes(table: &str) -> Vec<(&str, Ipv4Addr)> {
    table.lines().filter_map(default_route).collect()
}

fn default_route(line: &str) -> Option<(&str, Ipv4Addr)> {
    let mut columns = line.split_whitespace();
    let mut next = || columns.next();
    let (interface, destination, gateway, flags) = (next()?, next()?, next()?, next()?);
    let flags = u32::from_str_radix(flags, 16).ok()?;
    // The kernel prints the bytes of an address as one number of this machine.
    let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
    (destination == "00000000" && flags & VIA_GATEWAY != 0).then_some((interface, gateway))
}

/// Whether the interface has its other end elsewhere, as those of containers do. What cannot be read is no interface of ours.
fn is_half_of_a_pair(interface: &str) -> bool {
    let number = |what: &str| fs::read_to_string(format!("/sys/class/net/{interface}/{what}")).ok();
    match (number("ifindex"), number("iflink")) {
        (Some(own), Some(other_end)) => own != other_end,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found_among_others() {
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t00000000\t{}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t{}\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
             eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\n\
             \n nonsense\neth2\t00000000\tx\t0003\n",
            hex([172, 18, 0, 1]),
            hex([172, 18, 0, 0]),
        );
        assert_eq!(default_routes(&table), [("eth0", Ipv4Addr::new(172, 18, 0, 1))]);
        assert_eq!(default_routes(""), []);
    }

    #[test]
    fn loopback_is_no_half_of_a_pair() {
        assert!(!is_half_of_a_pair("lo") && !is_half_of_a_pair("no-such-interface"));
    }
}
