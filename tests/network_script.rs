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
const TOOLS: [&str; 16] = [
    "sh", "awk", "cat", "cp", "grep", "head", "id", "mkdir", "nohup", "ps", "rm", "sed", "sleep", "tail",
    "true", "kill",
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

    fn run(&self, command: &str, with: &str) -> (i32, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/network.sh");
        let Output { status, stdout, stderr } = Command::new("/bin/sh")
            .args([script, command])
            .env_clear()
            .env("PATH", self.bin())
            .env("DIR", self.dir.path().join("state"))
            .env("VINTNER", self.bin().join("vintner"))
            .env("MAKE", "true")
            .env("WITH", with)
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
        assert!(code == 3 && said.contains("Port 4001") && said.contains("ss -ltnp"), "{code} {said}");
        assert!(machine.note().is_none());
    }
    // Asked by curl before anything is built; 7 is its word for a port where nobody listens.
    machine.program("curl", "#!/bin/sh\ncase $* in *:4002/*) exit 0 ;; esac\nexit 7\n");
    for with in ["compose", "devnet"] {
        let (code, said) = machine.run("start", with);
        assert!(code == 3 && said.contains("Port 4002"), "{with}: {code} {said}");
    }
}

#[test]
fn the_devnets_own_refusal_of_a_port_has_the_same_code() {
    let machine = Machine::new();
    let refusal = "error: TCP port 1337 cannot be had; stop what uses it";
    machine.program("vintner", &format!("#!/bin/sh\necho '{refusal}' >&2\nexit 4\n"));
    let (code, said) = machine.run("start", "devnet");
    assert!(code == 3 && said.contains(refusal) && machine.note().is_none(), "{code} {said}");
}

#[test]
fn an_unknown_wish_is_wrong_usage() {
    let machine = Machine::new();
    let (code, said) = machine.run("start", "podman");
    assert!(code == 2 && said.contains("WITH=compose"), "{code} {said}");
    assert_eq!(machine.run("begin", "").0, 2);
}
