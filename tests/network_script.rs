//! `make start-all` and its kin on machines that have Docker, lack parts of it, or may not use it. Docker itself is played by a
//! small script here; `make docker-test` runs the real one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What the script may call: the machine's own Docker and curl are kept out of its sight.
/// `ps` is missing on slim images and is not needed.
const TOOLS: [&str; 17] = [
    "sh", "awk", "cat", "cp", "grep", "head", "id", "mkdir", "nohup", "readlink", "rm", "sed", "sleep",
    "tail", "tr", "true", "kill",
];

/// A directory with programs, and one to run in.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(machine.bin()).unwrap();
        for tool in TOOLS {
            let found =
                ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool)).into_iter().find(|p| p.exists());
            symlink(found.unwrap_or_else(|| panic!("no {tool}")), machine.bin().join(tool)).unwrap();
        }
        // Plays a devnet that is up at once.
        machine.program("vintner", "#!/bin/sh\necho 'network ready'\nwhile :; do sleep 0.1; done\n");
        machine
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.bin().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Docker with an engine; `says` are further cases of its arguments.
    fn docker(&self, says: &str) {
        self.program("docker", &format!("#!/bin/sh\ncase $* in\n{says}\ninfo*) echo 27.0 ;;\nesac\n"));
    }

    /// Sockets as Linux tells them in `tcp`, `tcp6`, `udp` and `udp6`: local address with port, and state.
    fn listening(&self, file: &str, sockets: &[(&str, &str)]) {
        let dir = self.dir.path().join("net");
        fs::create_dir_all(&dir).unwrap();
        let rows = sockets
            .iter()
            .map(|(local, state)| format!("   0: {local} 00000000:0000 {state} 00000000:00000000\n"));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue\n".to_owned();
        fs::write(dir.join(file), heading + &rows.collect::<String>()).unwrap();
    }

    fn run(&self, command: &str, with: &str) -> (i32, String) {
        self.run_moved(command, with, "0")
    }

    fn run_moved(&self, command: &str, with: &str, offset: &str) -> (i32, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/network.sh");
        let Output { status, stdout, stderr } = Command::new("/bin/sh")
            .args([script, command])
            .env_clear()
            .env("PATH", self.bin())
            .env("DIR", self.dir.path().join("state"))
            .env("VINTNER", self.bin().join("vintner"))
            .env("MAKE", "true")
            .env("WITH", with)
            .env("OFFSET", offset)
            .env("NET", self.dir.path().join("net"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (status.code().unwrap(), said)
    }

    fn note(&self) -> Option<String> {
        fs::read_to_string(self.dir.path().join("state/network")).ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.run("stop", "");
    }
}

const NO_PERMISSION: &str = "info*) echo 'permission denied while trying to connect to the Docker daemon socket at \
                             unix:///var/run/docker.sock' >&2; exit 1 ;;";
const NO_ENGINE: &str = "info*) echo 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1 ;;";

#[test]
fn without_a_usable_engine_the_devnet_runs_and_the_reason_is_said() {
    let cases = [
        (None, "Docker is not installed"),
        (Some(NO_PERMISSION), "usermod -aG docker"),
        (Some(NO_ENGINE), "systemctl start docker"),
        (Some("'compose version') exit 1 ;;"), "neither `docker compose` nor `docker-compose`"),
    ];
    for (docker, reason) in cases {
        let machine = Machine::new();
        if let Some(docker) = docker {
            machine.docker(docker);
        }
        // Asked for containers, it does not start something else.
        let (code, said) = machine.run("start", "compose");
        assert!(code == 4 && said.contains(reason) && machine.note().is_none(), "{code} {said}");
        let (code, said) = machine.run("start", "");
        assert!(code == 0 && said.contains(reason) && said.contains("The network is ready"), "{code} {said}");
        assert!(said.contains("curl is not installed"), "{said}");
        assert_eq!(machine.note().unwrap(), "devnet\n");
        let (code, said) = machine.run("start", "");
        assert!(code == 0 && said.contains("runs already"), "{code} {said}");
        let (code, said) = machine.run("stop", "");
        assert!(code == 0 && said.contains("Stopped") && machine.note().is_none(), "{code} {said}");
        let (code, said) = machine.run("status", "");
        assert!(code == 1 && said.contains("make start-all"), "{code} {said}");
    }
}

/// Six containers in the state that the file `containers` tells, once they are up. What they become is in `become`.
const COMPOSE: &str = "\
*up*) if [ -f refused ]; then cat refused >&2; exit 1; fi; cp become containers ;;
*down*) rm -f containers ;;
*ps*) [ ! -f containers ] || echo a b c d e f ;;
*inspect*Log*) ;;
*inspect*working_dir*) if [ -f clone ]; then cat clone; else pwd; fi ;;
inspect*) for c in 1 2 3 4 5 6; do echo \"/net-$c $(cat containers)\"; done ;;
logs*) echo 'error: the store has schema 255; run the newer version that wrote it' ;;";

fn machine_with_compose(becomes: &str) -> Machine {
    let machine = Machine::new();
    machine.docker(COMPOSE);
    fs::write(machine.dir.path().join("become"), becomes).unwrap();
    machine
}

#[test]
fn with_an_engine_containers_run_and_every_command_fits_them() {
    let machine = machine_with_compose("running healthy 0");
    let (code, said) = machine.run("start", "");
    assert!(
        code == 0 && said.contains("The network is ready") && said.contains("in containers"),
        "{code} {said}"
    );
    assert_eq!(machine.note().unwrap(), "compose\n");
    let (code, said) = machine.run("start", "");
    assert!(code == 0 && said.contains("runs already, in containers"), "{code} {said}");
    let (code, said) = machine.run("start", "devnet");
    assert!(code == 1 && said.contains("make stop-all"), "{code} {said}");
    let (code, said) = machine.run("status", "");
    assert!(code == 0 && said.contains("server-03"), "{code} {said}");
    // An engine that went away is no reason to think that nothing runs.
    machine.docker(NO_ENGINE);
    let (code, said) = machine.run("stop", "");
    assert!(
        code == 4 && said.contains("systemctl start docker") && machine.note().is_some(),
        "{code} {said}"
    );
    machine.docker(COMPOSE);
    let (code, said) = machine.run("stop", "");
    assert!(code == 0 && said.contains("volumes") && machine.note().is_none(), "{code} {said}");
    assert!(!machine.dir.path().join("containers").exists());
}

#[test]
fn a_container_that_does_not_keep_running_is_shown_with_its_last_words() {
    let machine = machine_with_compose("restarting none 3");
    let (code, said) = machine.run("start", "");
    assert!(code == 1 && said.contains("net-1") && said.contains("run the newer version"), "{code} {said}");
    assert!(said.contains("make stop-all && make start-all"), "{said}");
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_running() {
    let machine = machine_with_compose("running healthy 0");
    let refused = machine.dir.path().join("refused");
    for text in [
        "Bind for 127.0.0.1:4001 failed: port is already allocated",
        "listen tcp4 127.0.0.1:4001: bind: address already in use",
    ] {
        fs::write(&refused, text).unwrap();
        let (code, said) = machine.run("start", "");
        assert!(code == 3 && said.contains("4001 (TCP)") && said.contains("OFFSET=100"), "{code} {said}");
        assert!(machine.note().is_none());
    }
    // Asked by curl before anything is built; 7 is its word for a port where nobody listens.
    machine.program("curl", "#!/bin/sh\ncase $* in *:4002/*) exit 0 ;; esac\nexit 7\n");
    for with in ["compose", "devnet"] {
        let (code, said) = machine.run("start", with);
        assert!(code == 3 && said.contains("4002 (TCP)"), "{with}: {code} {said}");
    }
}

#[test]
fn the_devnets_own_refusal_of_a_port_has_the_same_code() {
    let machine = Machine::new();
    let refusal = "error: TCP port 1337, UDP port 20011 cannot be had: Address in use";
    machine.program("vintner", &format!("#!/bin/sh\necho '{refusal}' >&2\nexit 4\n"));
    let (code, said) = machine.run("start", "devnet");
    assert!(code == 3 && said.contains(refusal) && machine.note().is_none(), "{code} {said}");
    assert!(
        said.contains("1337 (TCP), 20011 (UDP).") && said.contains("make start-all OFFSET=100"),
        "{said}"
    );
}

#[test]
fn all_taken_ports_are_named_before_anything_is_built_with_what_make_takes() {
    let machine = Machine::new();
    // 4001 on every address, 1338 on a connection, which takes no port, 4002 on an address of the network.
    machine.listening("tcp", &[("00000000:0FA1", "0A"), ("0100007F:053A", "01"), ("0200000A:0FA2", "0A")]);
    machine.listening("tcp6", &[("00000000000000000000000000000000:7532", "0A")]);
    machine.listening("udp", &[("0100007F:4E2C", "07")]);
    for (with, expected) in [("devnet", "4001 (TCP), 20012 (UDP), 30002 (TCP)."), ("compose", "4001 (TCP).")]
    {
        if with == "compose" {
            machine.docker(COMPOSE);
        }
        let (code, said) = machine.run("start", with);
        assert!(code == 3 && said.contains(expected), "{with}: {code} {said}");
        assert!(said.contains("make start-all OFFSET=100") && !said.contains("--api-port"), "{said}");
        assert!(machine.note().is_none());
    }
    // Moved to where the ports are free, it starts.
    let (code, said) = machine.run_moved("start", "devnet", "100");
    assert!(code == 0 && said.contains("http://127.0.0.1:4100, :4101"), "{code} {said}");
}

#[test]
fn a_moved_network_is_moved_as_a_whole_and_stays_so_until_it_is_stopped() {
    let machine = Machine::new();
    let fake = "#!/bin/sh\necho \"$*\" >>args\ncase $1 in status) exit 0 ;; esac\necho 'network ready'\nwhile :; do sleep 0.1; done\n";
    machine.program("vintner", fake);
    let (code, said) = machine.run_moved("start", "", "200");
    assert!(code == 0 && said.contains("http://127.0.0.1:4202/api/v1/offers/$ID/bids"), "{code} {said}");
    let args = fs::read_to_string(machine.dir.path().join("args")).unwrap();
    for flag in [
        "--api-port 4200",
        "--rpc-port 1537",
        "--dht-port 20211",
        "--grape-dht-port 20201",
        "--grape-http-port 30201",
    ] {
        assert!(args.contains(flag), "{flag} is not in {args}");
    }
    // Later commands need not be told.
    let (code, said) = machine.run("start", "");
    assert!(code == 0 && said.contains("runs already") && said.contains(":4200"), "{code} {said}");
    let (code, said) = machine.run("status", "");
    assert!(code == 0 && said.contains("http://127.0.0.1:4202"), "{code} {said}");
    assert_eq!(machine.run("stop", "").0, 0);
    for wrong in ["-1", "x", "1 2", "30001", "100000", "010"] {
        let (code, said) = machine.run_moved("start", "", wrong);
        assert!(code == 2 && said.contains("OFFSET=100"), "{wrong}: {code} {said}");
    }
}

#[test]
fn an_engine_that_came_or_went_is_no_reason_to_think_that_offers_are_gone() {
    let machine = machine_with_compose("running healthy 0");
    let (code, said) = machine.run("start", "");
    assert!(code == 0 && !said.contains("another network"), "{code} {said}");
    assert_eq!(machine.run("stop", "").0, 0);
    machine.docker(NO_ENGINE);
    let (code, said) = machine.run("start", "");
    assert!(code == 0 && said.contains("kept in its volumes: make start-all WITH=compose"), "{code} {said}");
    assert_eq!(machine.run("stop", "").0, 0);
    machine.docker(COMPOSE);
    fs::create_dir_all(machine.dir.path().join("state/devnet")).unwrap();
    let (code, said) = machine.run("start", "");
    assert!(code == 0 && said.contains("make start-all WITH=devnet"), "{code} {said}");
}

#[test]
fn two_clones_whose_directories_have_one_name_are_not_taken_for_each_other() {
    let machine = machine_with_compose("running healthy 0");
    fs::write(machine.dir.path().join("containers"), "running healthy 0").unwrap();
    fs::write(machine.dir.path().join("clone"), "/elsewhere/vintner").unwrap();
    let (code, said) = machine.run("start", "compose");
    assert!(code == 1 && said.contains("/elsewhere/vintner"), "{code} {said}");
    assert!(said.contains("COMPOSE_PROJECT_NAME=second make start-all OFFSET=100"), "{said}");
    fs::remove_file(machine.dir.path().join("containers")).unwrap();
}

#[test]
fn a_second_devnet_is_told_who_has_its_ports() {
    let first = Machine::new();
    let (code, said) = first.run_moved("start", "", "7700");
    assert!(code == 0, "{code} {said}");
    let second = Machine::new();
    second.listening("tcp", &[("0100007F:2DB4", "0A")]);
    let (code, said) = second.run_moved("start", "", "7700");
    let place = fs::canonicalize(first.dir.path()).unwrap();
    assert!(code == 3 && said.contains("11700 (TCP)"), "{code} {said}");
    assert!(said.contains(&format!("in {}", place.display())) && said.contains("make stop-all"), "{said}");
    assert!(said.contains("OFFSET=7800"), "{said}");
}

#[test]
fn a_home_directory_is_found_in_dir() {
    let machine = Machine::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/network.sh");
    fs::create_dir_all(machine.dir.path().join("state")).unwrap();
    fs::write(machine.dir.path().join("state/network"), "devnet\n").unwrap();
    let output = Command::new("/bin/sh")
        .args([script, "stop"])
        .env_clear()
        .env("PATH", machine.bin())
        .env("HOME", machine.dir.path())
        .env("DIR", "~/state")
        .current_dir(machine.dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success() && machine.note().is_none(),
        "the note of ~/state was not found: {output:?}"
    );
}

#[test]
fn an_unknown_wish_is_wrong_usage() {
    let machine = Machine::new();
    let (code, said) = machine.run("start", "podman");
    assert!(code == 2 && said.contains("WITH=compose"), "{code} {said}");
    assert_eq!(machine.run("begin", "").0, 2);
}
