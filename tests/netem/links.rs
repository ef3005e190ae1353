//! A wide network on one machine: each host a network namespace with one link, and between the links this process, which delays
//! and loses packets as `tc qdisc add ... netem delay 50ms 20ms loss 5%` on each link would.
//!
//! Not `netem` itself, because many kernels come without it (`CONFIG_NET_SCH_NETEM`), those of small virtual machines above all. A
//! link is a TUN device: its far end is read here, packet by packet, so TCP and UDP meet what they would meet on a bad line: a lost
//! segment is sent again by the kernel, and what overtakes arrives out of order.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    ops::RangeInclusive,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_tun::Tun;

/// One way: 50 ms, give or take 20.
const DELAY: RangeInclusive<Duration> = Duration::from_millis(30)..=Duration::from_millis(70);
/// Of a hundred packets.
const LOST_PERCENT: u32 = 5;
/// What a link carries at once.
const PACKET_MAX: usize = 1_500;

/// The hosts and the links between them. They end with it.
pub(crate) struct Links {
    hosts: usize,
    switch: Arc<Switch>,
}

struct Switch {
    ports: Vec<Tun>,
    weather: Mutex<Weather>,
}

struct Weather {
    rng: StdRng,
    /// The side of each host; nothing passes between sides.
    sides: Vec<u8>,
    packets: Packets,
}

/// Packets that were sent, so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Packets {
    pub(crate) udp: u64,
    pub(crate) tcp: u64,
    pub(crate) bytes: u64,
    /// Of these, the ones that were lost by bad luck.
    pub(crate) lost: u64,
}

/// Host `n`'s address on the wide network.
pub(crate) fn address(n: usize) -> String {
    format!("10.77.0.{}", n + 1)
}

/// Host `n`'s address for this process alone, on a link that neither delays nor loses.
pub(crate) fn desk(n: usize) -> String {
    format!("10.78.{}.2", n + 1)
}

pub(crate) fn namespace(n: usize) -> String {
    format!("vintner-{}", n + 1)
}

impl Links {
    /// Makes `hosts` hosts. Fails with a sentence about what this machine lacks.
    pub(crate) fn new(hosts: usize, seed: u64) -> Self {
        check_machine();
        (0..hosts).for_each(unplug);
        let ports: Vec<Tun> = (0..hosts).map(plug).collect();
        let rng = StdRng::seed_from_u64(seed);
        let weather = Weather { rng, sides: vec![0; hosts], packets: Packets::default() };
        let switch = Arc::new(Switch { ports, weather: Mutex::new(weather) });
        for from in 0..hosts {
            tokio::spawn(Arc::clone(&switch).carry(from));
        }
        Self { hosts, switch }
    }

    /// From now on nothing passes between these hosts and the others, in either direction.
    pub(crate) fn part(&self, away: &[usize]) {
        let mut weather = self.switch.weather.lock().unwrap();
        for n in away {
            weather.sides[*n] = 1;
        }
    }

    /// From now on everybody is reached again.
    pub(crate) fn heal(&self) {
        self.switch.weather.lock().unwrap().sides.fill(0);
    }

    pub(crate) fn packets(&self) -> Packets {
        self.switch.weather.lock().unwrap().packets
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        (0..self.hosts).for_each(unplug);
    }
}

impl Switch {
    /// Takes what one host sends to where it is addressed, until its link is gone.
    async fn carry(self: Arc<Self>, from: usize) {
        let mut packet = [0; PACKET_MAX];
        while let Ok(bytes) = self.ports[from].recv(&mut packet).await {
            let Some((to, delay)) = self.fate(from, &packet[..bytes]) else { continue };
            let (switch, packet) = (Arc::clone(&self), packet[..bytes].to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                // Its link may be gone meanwhile.
                let _ = switch.ports[to].send(&packet).await;
            });
        }
    }

    /// Where it goes and when it is there. `None` when it is lost, or for nobody here.
    fn fate(&self, from: usize, packet: &[u8]) -> Option<(usize, Duration)> {
        let &[10, 77, 0, last] = packet.get(16..20).filter(|_| packet[0] >> 4 == 4)? else { return None };
        let to = usize::from(last).checked_sub(1).filter(|to| *to < self.ports.len())?;
        let mut weather = self.weather.lock().unwrap();
        if weather.sides[from] != weather.sides[to] {
            return None;
        }
        weather.packets.bytes += packet.len() as u64;
        match packet[9] {
            6 => weather.packets.tcp += 1,
            _ => weather.packets.udp += 1,
        }
        if weather.rng.random_ratio(LOST_PERCENT, 100) {
            weather.packets.lost += 1;
            return None;
        }
        Some((to, weather.rng.random_range(DELAY)))
    }
}

/// Makes host `n` with its two links.
fn plug(n: usize) -> Tun {
    let (host, wide, here, there) =
        (namespace(n), format!("vtw{}", n + 1), format!("vth{}", n + 1), format!("vtd{}", n + 1));
    let tun = Tun::builder().name(&wide).mtu(PACKET_MAX as i32).build();
    let tun = tun.unwrap_or_else(|error| panic!("no TUN device {wide} can be made: {error}"));
    ip(&["netns", "add", &host]);
    ip(&["link", "set", &wide, "netns", &host]);
    ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &host]);
    ip(&["address", "add", &format!("10.78.{}.1/30", n + 1), "dev", &here]);
    ip(&["link", "set", &here, "up"]);
    for (device, address) in [(&wide, format!("{}/24", address(n))), (&there, format!("{}/30", desk(n)))] {
        ip(&["-n", &host, "address", "add", &address, "dev", device]);
        ip(&["-n", &host, "link", "set", device, "up"]);
    }
    ip(&["-n", &host, "link", "set", "lo", "up"]);
    tun.into_iter().next().expect("one device was asked for")
}

/// Removes a host and its links, if it is there.
fn unplug(n: usize) {
    // A namespace that is deleted lives on until its last process has ended, and would keep the link until then.
    run_ip(&["link", "del", &format!("vth{}", n + 1)]);
    run_ip(&["netns", "del", &namespace(n)]);
}

fn run_ip(args: &[&str]) -> Output {
    Command::new("ip").args(args).output().unwrap_or_else(|error| {
        panic!("`ip` cannot be run ({error}); install iproute2 (the package iproute2)")
    })
}

fn ip(args: &[&str]) {
    let output = run_ip(args);
    assert!(output.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
}

fn check_machine() {
    run_ip(&["-V"]);
    assert!(Path::new("/dev/net/tun").exists(), "there is no /dev/net/tun; load the module: modprobe tun");
    let running = run_ip(&["netns", "pids", &namespace(0)]);
    assert!(running.stdout.is_empty(), "another run uses the namespace {}; wait for its end", namespace(0));
    let probe = run_ip(&["netns", "add", "vintner-probe"]);
    assert!(
        probe.status.success(),
        "no network namespace can be made: {}; run this as root (in a container: --privileged)",
        String::from_utf8_lossy(&probe.stderr).trim()
    );
    run_ip(&["netns", "del", "vintner-probe"]);
}
