//! Hosts on one machine, each a network namespace, joined by bridges. No root is needed: all of it is in a user namespace, and ends
//! with the test.

#![allow(clippy::unused_self, reason = "whoever has the hosts is inside their namespaces")]

use std::{
    fs,
    future::Future,
    process::{Command, Output},
};

/// Says to the test that it runs inside.
const INSIDE: &str = "VINTNER_TEST_INSIDE";
/// The test's own address in the networks that it looks into, for the APIs of nodes.
const OWN: &str = "50.0.0.1/32";

/// Leaves out the tests that need namespaces, which otherwise fail where there are none.
const WITHOUT: &str = "VINTNER_WITHOUT_NAMESPACES";

/// What `unshare` is asked for hosts.
const FLAGS: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];

/// Runs `test` in namespaces of its own; `name` is the test's name with its modules. Where the kernel allows none, the test fails, unless
/// it is left out on purpose.
pub fn within<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Hosts) -> F) {
    if std::env::var(INSIDE).as_deref() == Ok(name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        return runtime.unwrap().block_on(test(Hosts::new()));
    }
    if is_left_out(name) {
        return;
    }
    if let Err(error) = Command::new("ip").arg("-V").output() {
        panic!("the command ip does not run ({error}); install the package iproute2");
    }
    must_be_allowed(name, &FLAGS);
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(FLAGS)
        .arg(own)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Whether a test that needs namespaces is left out on purpose, which is then said.
pub fn is_left_out(name: &str) -> bool {
    let set = |name| std::env::var(name).unwrap_or_default();
    match without(name, &set(WITHOUT), &set("CI")) {
        Ok(None) => false,
        Ok(Some(told)) => {
            eprintln!("{told}");
            true
        }
        Err(told) => panic!("{told}"),
    }
}

/// What is said of a test that is left out; an error where nothing may be. The values of the two variables, empty when not set.
pub fn without(name: &str, without: &str, ci: &str) -> Result<Option<String>, String> {
    match (without, ci) {
        ("" | "0", _) => Ok(None),
        ("1", "" | "0" | "false") => Ok(Some(format!("{name} is left out: {WITHOUT} is set"))),
        ("1", _) => {
            Err(format!("{WITHOUT} is set and so is CI, where no test is left out; unset one of them"))
        }
        (other, _) => Err(format!("{WITHOUT} is {other:?}; set it to 1, or not at all")),
    }
}

/// Fails where the kernel does not allow `unshare` with these flags.
pub fn must_be_allowed(name: &str, flags: &[&str]) {
    match Command::new("unshare").args(flags).args(["--", "true"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}", forbidden(name, String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => panic!("the command unshare does not run ({error}); install the package util-linux"),
    }
}

/// What is said of a test that cannot run.
pub fn forbidden(name: &str, why: &str) -> String {
    format!(
        "{name} needs namespaces of its own, and this kernel allows none: {why}; allow them (sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1, or a larger \
         user.max_user_namespaces, whichever there is; in a container: --privileged), or leave such tests out \
         with {WITHOUT}=1"
    )
}

/// The networks.
pub struct Hosts {
    links: std::cell::Cell<usize>,
}

impl Hosts {
    fn new() -> Self {
        run("mount -t tmpfs none /run");
        fs::create_dir("/run/netns").unwrap();
        run("ip link set lo up");
        Self { links: std::cell::Cell::new(0) }
    }

    /// A network that the test can look into.
    pub fn network(&self, name: &str) {
        run(&format!("ip link add {name} type bridge"));
        run(&format!("ip link set {name} up"));
        run(&format!("ip addr add {OWN} dev {name}"));
    }

    /// A host in no network yet.
    pub fn host(&self, name: &str) {
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
    }

    /// Gives `host` this address (of a network of `bits`) in `network`. With 0 bits every address is there.
    pub fn plug(&self, host: &str, network: &str, address: &str, bits: u8) {
        let n = self.links.get();
        self.links.set(n + 1);
        run(&format!("ip link add out{n} type veth peer name in{n} netns {host}"));
        run(&format!("ip link set out{n} master {network}"));
        run(&format!("ip link set out{n} up"));
        run(&format!("ip -n {host} link set in{n} up"));
        let length = if bits == 0 { 32 } else { bits };
        run(&format!("ip -n {host} addr add {address}/{length} dev in{n}"));
        // The test and the host find each other.
        run(&format!("ip route add {address}/32 dev {network}"));
        run(&format!("ip -n {host} route replace 50.0.0.1/32 dev in{n}"));
        if bits == 0 {
            run(&format!("ip -n {host} route add default dev in{n}"));
        }
    }

    /// `ip` with these arguments, on that host.
    pub fn ip(&self, host: &str, args: &str) {
        run(&format!("ip -n {host} {args}"));
    }

    /// Gives an address a name on all hosts, until the test ends.
    pub fn name(&self, address: &str, name: &str) {
        fs::write("/run/hosts", format!("127.0.0.1 localhost\n{address} {name}\n")).unwrap();
        run("mount --bind /run/hosts /etc/hosts");
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let Output { status, stderr, .. } = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
}
