//! Addresses among the settings: which are refused at the start, and what is said when the system refuses one.

use super::{
    said,
    testnet::{PATIENCE, process::vintner},
};
use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

/// How a command that starts something ended, while its standard input stays open: all of them end by themselves here.
fn ended(command: &[&str]) -> (i32, String) {
    let mut command = vintner(command);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take();
    let (code, _, err) = said(child.wait_with_output().unwrap());
    drop(input);
    (code, err)
}

#[test]
fn a_bootstrap_node_that_is_no_host_and_port_is_refused_at_the_start_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("node").display().to_string();
    for (text, says) in [
        ("10.9.0.1", "names no port"),
        ("http://h:1", "is a URL"),
        ("h:70000", "from 1 to 65535"),
        ("\"127.0.0.1:20001\"", "holds quotes"),
        ("127.0.0.1:20001,'h:1'", "holds quotes"),
        ("0.0.0.0:20001", "no address of a host"),
        ("10.9.1:20001", "neither an IP address nor a DNS name"),
    ] {
        let node = ["node", "--until-stdin-ends", "--data-dir", &dir, "--bootstrap", text];
        let doctor = ["doctor", "--data-dir", &dir, "--bootstrap", text];
        let grape = ["grape", "--until-stdin-ends", "--dp", "0", "--aph", "0", "--bn", text];
        for command in [&node[..], &doctor, &grape] {
            let (code, said) = ended(command);
            assert!(
                code == 2 && said.contains(says) && said.contains("\nnext: "),
                "{command:?}: {code} {said}"
            );
        }
    }
    assert!(!std::path::Path::new(&dir).exists(), "nothing was begun");
}

#[test]
fn an_address_that_nobody_can_reach_is_not_advertised() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("node").display().to_string();
    let five = "51.0.1.1:1,51.0.1.2:1,51.0.1.3:1,51.0.1.4:1,51.0.1.5:1";
    for (text, says) in [
        (five, "names 5 addresses"),
        ("0.0.0.0:0", "from 1 to 65535"),
        ("0.0.0.0:1337", "no address of a host"),
        ("51.0.1.1:0", "from 1 to 65535"),
        ("255.255.255.255:1337", "no address of a host"),
        ("239.1.1.1:1337", "no address of a host"),
        ("h.example:1337", "is a name"),
    ] {
        let (code, said) = ended(&[
            "node",
            "--until-stdin-ends",
            "--data-dir",
            &dir,
            "--bootstrap",
            "",
            "--advertise",
            text,
        ]);
        assert!(code == 2 && said.contains(says) && said.contains("\nnext: "), "{text}: {code} {said}");
    }
}

#[test]
fn the_advice_fits_what_the_system_said_of_every_socket() {
    // An address of nobody's here; and ports that are taken.
    let absent = "192.0.2.77:0";
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp_taken, udp_taken) =
        (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    let node = |flag: &str, address: &str| {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("node").display().to_string();
        let mut args =
            vec!["node", "--until-stdin-ends", "--insecure-no-token", "--data-dir", &dir, "--bootstrap", ""];
        let free = [("--api", "127.0.0.1:0"), ("--rpc", "127.0.0.1:0"), ("--dht", "127.0.0.1:0")];
        for (name, default) in free {
            args.extend([name, if name == flag { address } else { default }]);
        }
        ended(&args)
    };
    for (flag, taken) in [("--api", &tcp_taken), ("--rpc", &tcp_taken), ("--dht", &udp_taken)] {
        let (code, said) = node(flag, absent);
        assert!(
            code == 1 && said.contains("no such address") && said.contains(flag),
            "{flag}: {code} {said}"
        );
        assert!(!said.contains("stop what uses"), "{said}");
        let (code, said) = node(flag, taken);
        assert!(
            code == 4 && said.contains("next: stop what uses the port") && said.contains(flag),
            "{code} {said}"
        );
    }
    let grape = |bind: &str, dp: &str, aph: &str| {
        ended(&["grape", "--until-stdin-ends", "-b", bind, "--dp", dp, "--aph", aph, "--bn", ""])
    };
    let (code, said) = grape("192.0.2.77", "0", "0");
    assert!(code == 1 && said.contains("no such address") && said.contains("-b"), "{code} {said}");
    let (code, said) = grape("127.0.0.1", "0", &tcp.local_addr().unwrap().port().to_string());
    assert!(
        code == 4 && said.contains("next: stop what uses the port") && said.contains("--aph"),
        "{code} {said}"
    );
    let port = udp.local_addr().unwrap().port().to_string();
    let (code, said) = grape("127.0.0.1", &port, "0");
    assert!(
        code == 4 && said.contains("next: stop what uses the port") && said.contains("--dp"),
        "{code} {said}"
    );
}

/// A command that runs on, and the lines of its log.
pub(super) struct Talking(Child, mpsc::Receiver<String>);

impl Talking {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, read) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self(child, read)
    }

    /// Waits for a line that holds all of these.
    pub(super) fn says(&self, words: &[&str]) -> String {
        let until = std::time::Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.1.recv_timeout(left) {
                Ok(line) if words.iter().all(|word| line.contains(word)) => return line,
                Ok(line) => heard.push(line),
                Err(error) => panic!("waited in vain for {words:?} ({error}) in\n{}", heard.join("\n")),
            }
        }
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bootstrap_name_that_cannot_be_resolved_is_named() {
    let name = "no-such-host.invalid:20001";
    let mut grape = vintner(&["grape", "--until-stdin-ends", "--dp", "0", "--aph", "0", "--bn", name]);
    Talking::start(&mut grape).says(&[name, "cannot be resolved"]);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("node").display().to_string();
    let free = ["--api", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0"];
    let node = ["node", "--until-stdin-ends", "--data-dir", &dir, "--bootstrap", name];
    Talking::start(&mut vintner(&[&node[..], &free].concat())).says(&[name, "cannot be resolved"]);
}

#[test]
fn a_node_that_can_tell_nobody_where_it_is_says_so_and_names_the_flag() {
    let start = |more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("node").display().to_string();
        let fixed = ["node", "--until-stdin-ends", "--data-dir", &data, "--api", "127.0.0.1:0"];
        (Talking::start(&mut vintner(&[&fixed[..], more].concat())), dir)
    };
    let (shut, _dir) = start(&["--bootstrap", "", "--rpc", "127.0.0.1:0", "--dht", "0.0.0.0:0"]);
    shut.says(&["WARN", "told no address of this one", "--rpc 0.0.0.0:", "--advertise"]);
    shut.says(&["not connected to", "--allow-private"]);
    let loopback = ["--rpc", "0.0.0.0:0", "--dht", "0.0.0.0:0", "--advertise", "127.0.0.1:1337"];
    let (told, _dir) = start(&[&["--bootstrap", ""], &loopback[..]].concat());
    told.says(&["WARN", "loopback addresses are not told to other machines", "--advertise"]);
    let (unheard, _dir) =
        start(&["--bootstrap", "10.9.0.1:20001", "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0"]);
    unheard.says(&["only nodes on this machine"]);
    unheard.says(&["WARN", "10.9.0.1:20001", "--dht 0.0.0.0:20011"]);
}
