//! The commands as a user types them, against the API of one real node.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "cli/everyday.rs"]
mod everyday;
#[path = "support/payloads.rs"]
mod payloads;
#[path = "support/ports.rs"]
mod ports;
#[path = "cli/strangers.rs"]
mod strangers;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

const VINTNER: &str = env!("CARGO_BIN_EXE_vintner");

fn vintner(args: &[&str]) -> Command {
    let mut command = Command::new(VINTNER);
    // What the machine's owner has set must not reach the tests.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VINTNER_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// A node process on free ports; it ends when its standard input does, so also when the test does.
struct NodeProcess {
    child: Child,
    url: String,
    /// What it logs once its API answers, until it ends.
    logged: std::sync::mpsc::Receiver<String>,
}

impl NodeProcess {
    fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_beside(data, "", more)
    }

    /// One that joins the DHT of whoever is at `bootstrap`.
    fn start_beside(data: &Path, bootstrap: &str, more: &[&str]) -> Self {
        let data = data.display().to_string();
        let fixed = [
            "node",
            "--until-stdin-ends",
            "--log-format",
            "json",
            "--data-dir",
            &data,
            "--bootstrap",
            bootstrap,
        ];
        let free = ["--api", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0"];
        let mut command = vintner(&[&fixed[..], &free, more].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.by_ref().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let message = line["fields"]["message"].as_str()?.to_owned();
            let (_, url) = message.split_once("the API is at ")?;
            Some(url.split("/api").next()?.to_owned())
        });
        // Whatever else it logs must not fill the pipe.
        let (log, logged) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(log.send(line))));
        Self { child, url: url.expect("the node says where its API is"), logged }
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        said(vintner(&[args, &["--api", &self.url]].concat()).output().unwrap())
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let (code, out, err) = self.run(&[args, &["--json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It has ended already in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(args: &[&str]) -> (i32, String, String) {
    said(vintner(args).output().unwrap())
}

#[test]
fn an_offer_lives_through_the_commands_and_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    assert_eq!(
        node.run(&["offers", "list"]).1,
        format!(
            "no offers; `vintner offers create --quantity 0.5 --price 64000 --api {}` makes one\n",
            node.url
        )
    );
    let made = node.json(&[
        "offers",
        "create",
        "--quantity",
        "0.5",
        "--price",
        "64000.10",
        "--memo",
        "hello",
        "--expires-in",
        "2h",
    ]);
    let (id, hash) = (made["id"].as_str().unwrap(), made["hash"].as_str().unwrap());
    assert_eq!((&made["offer_price"], &made["memo"]), (&"64000.1".into(), &"hello".into()));

    let (code, out, _) = node.run(&["offers", "list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(code, 0);
    let headings: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(headings, ["ID", "SIDE", "BTC", "PRICE", "IN", "STATUS", "EXPIRES", "MAKER"]);
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((row[0], &row[1..6], row[7]), (id, &["sell", "0.5", "64000.1", "USD", "open"][..], "own"));

    node.stop();
    let node = NodeProcess::start(data.path(), &[]);
    let (code, out, _) = node.run(&["offers", "show", hash]);
    assert!(code == 0 && out.contains(id) && out.contains("maker      this node"), "{out}");
    let (code, _, err) = node.run(&["offers", "withdraw", id, "--if-sequence", "1"]);
    assert!(code == 1 && err.contains("sequence_mismatch") && err.contains("next: "), "{err}");
    let (code, out, _) = node.run(&["offers", "withdraw", id]);
    assert!(code == 0 && out.contains("withdrawn"), "{out}");
    assert_eq!(node.json(&["offers", "list"])["items"], serde_json::json!([]));
    let all = node.json(&["offers", "list", "--all", "--stale"]);
    assert_eq!((&all["items"][0]["status"], &all["items"][0]["stale"]), (&"withdrawn".into(), &false.into()));
    node.stop();
}

#[test]
fn refusals_say_what_to_do_next_and_end_with_1() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let made = node.json(&["offers", "create", "--quantity", "1", "--price", "1", "--idempotency-key", "k"]);
    let again = node.json(&["offers", "create", "--quantity", "1", "--price", "1", "--idempotency-key", "k"]);
    assert_eq!(made, again);
    let id = made["id"].as_str().unwrap();
    let nobody = "00000000-0000-7000-8000-000000000000";
    let cases: [(&[&str], &str); 6] = [
        (&["offers", "bid", id], "own_offer"),
        (&["offers", "bid", nobody], "offer_not_found"),
        (&["offers", "show", nobody], "offer_not_found"),
        (&["bids", "show", nobody], "bid_not_found"),
        (&["trades", "show", nobody], "trade_not_found"),
        (
            &["offers", "create", "--quantity", "2", "--price", "1", "--idempotency-key", "k"],
            "idempotency_key_reuse",
        ),
    ];
    for (args, problem) in cases {
        let (code, out, err) = node.run(args);
        assert!(code == 1 && out.is_empty(), "{args:?} {out}");
        assert!(
            err.starts_with("error: ") && err.contains(problem) && err.contains("\nnext: "),
            "{args:?} {err}"
        );
        let (code, out, _) = node.run(&[args, &["--json"]].concat());
        let said: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &said["code"]), (1, &problem.into()), "{args:?}");
    }
    assert_eq!(
        node.run(&["trades", "list"]).1,
        format!("no such trades; `vintner offers list --api {}` shows what can be bid on\n", node.url)
    );
    let status = node.run(&["status"]).1;
    assert!(status.contains("offers       1 can be taken, 1 own"), "{status}");
    assert!(status.contains("synced; 0 neighbours, knows 0 makers, 0 of them silent"), "{status}");
    let recovered = node.json(&["recover"]);
    assert_eq!((&recovered["recovered"], &recovered["nodes_asked"]), (&0.into(), &0.into()));
    node.stop();
}

#[test]
fn a_node_with_a_token_file_answers_to_the_token_only() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("token");
    fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let path = file.display().to_string();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let (code, _, err) = run(&["status", "--token-file", &path]);
        assert!(code == 1 && err.contains("chmod 600"), "{err}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let node = NodeProcess::start(&data.path().join("node"), &["--token-file", &path]);
    let (code, _, err) = node.run(&["status"]);
    assert!(code == 1 && err.contains("unauthorized") && err.contains("--token-file"), "{err}");
    let (code, _, err) = node.run(&["status", "--token", "ffffffffffffffffffffffffffffffff"]);
    assert!(
        code == 1
            && err.contains("wrong_token")
            && err.contains("is not this node's")
            && err.contains("--token-file"),
        "{err}"
    );
    assert_eq!(node.run(&["status", "--token-file", &path]).0, 0);
    assert_eq!(node.run(&["status", "--token", "0123456789abcdef0123456789abcdef"]).0, 0);
    let said = node.logged.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    assert!(said.contains("the API wants the token in") && said.contains(&path), "{said}");
    node.stop();
}

#[test]
fn wrong_usage_ends_with_2() {
    let cases: [&[&str]; 16] = [
        &["offers", "bid", "00000000-0000-7000-8000-000000000000", "--if-sequence", "new"],
        &["offers", "bid", "00000000-0000-7000-8000-000000000000", "--side", "lend"],
        &[],
        &["grape"],
        &["grape", "--dp", "1", "--aph", "2"],
        &["grape", "--no-such-flag"],
        &["node", "--advertise", "nowhere", "--print-config"],
        &["node", "--config", "/nonexistent"],
        &["offers"],
        &["offers", "create", "--quantity", "1"],
        &["offers", "create", "--quantity", "-1", "--price", "1"],
        &["offers", "create", "--quantity", "1", "--price", "1", "--expires-in", "soon"],
        &["offers", "show", "../node"],
        &["trades", "list", "--limit", "0"],
        &["node", "--api", "nowhere"],
        &["devnet", "--nodes", "0"],
    ];
    for args in cases {
        let (code, out, err) = run(args);
        assert!(code == 2 && out.is_empty() && !err.is_empty(), "{args:?}: {code} {err}");
    }
}

#[test]
fn every_command_tells_its_version() {
    for command in ["node", "grape", "devnet", "offers", "backup"] {
        let (code, out, _) = run(&[command, "--version"]);
        assert!(code == 0 && out.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{command}: {out}");
    }
}

/// What a command says when its standard output is a full disk, and its exit code.
#[cfg(target_os = "linux")]
fn with_full_output(args: &[&str]) -> (i32, String) {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, _, err) = said(vintner(args).stdout(full()).output().unwrap());
    // Nor does it panic where nobody can be told.
    let silent = vintner(args).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(silent.code(), Some(code), "{args:?}");
    (code, err)
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_of_every_command() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let (dir, api) = (data.path().to_str().unwrap(), node.url.clone());
    let id = node.json(&["offers", "create", "--quantity", "1", "--price", "100"])["id"].clone();
    let id = id.as_str().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy.db").display().to_string();
    let offline: [&[&str]; 11] = [
        &["--help"],
        &["--version"],
        &["grape", "--help"],
        &["offers", "list", "--help"],
        &["openapi"],
        &["completions", "bash"],
        &["man"],
        &["node", "--print-config"],
        &["grape", "--dp", "1", "--aph", "2", "--bn", "", "--print-config"],
        &["doctor", "--data-dir", dir, "--bootstrap", ""],
        &["doctor", "--data-dir", dir, "--bootstrap", "", "--json"],
    ];
    let asking: [&[&str]; 9] = [
        &["offers", "list"],
        &["offers", "list", "--watch"],
        &["offers", "list", "--json"],
        &["offers", "show", id],
        &["offers", "create", "--quantity", "1", "--price", "100"],
        &["trades", "list"],
        &["trades", "list", "--json"],
        &["status"],
        &["recover"],
    ];
    let asking = asking.map(|args| [args, &["--api", &api]].concat());
    for args in offline.iter().map(|args| args.to_vec()).chain(asking) {
        let (code, err) = with_full_output(&args);
        assert!(code == 1 && err.contains("standard output cannot be written"), "{args:?}: {code} {err}");
        assert!(err.contains("\nnext: free some space"), "{args:?}: {err}");
    }
    let backup = vintner(&["backup", &copy, "--data-dir", dir])
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(backup.status.code(), Some(1));
    assert!(fs::exists(&copy).unwrap(), "the copy is made all the same");
    // A reader that has had enough is no error.
    let mut head = vintner(&["openapi"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(head.stdout.take());
    assert!(head.wait().unwrap().success());
}

#[test]
fn a_home_directory_is_found_wherever_a_path_is_written() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let file = home.path().join("node.toml");
    fs::write(&file, "data_dir = '~/file'\ntoken_file = '~/token'\n").unwrap();
    let of = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = vintner(&["node", "--print-config"]);
        let command = command.args(args).env("HOME", home.path()).envs(variables.iter().copied());
        said(command.output().unwrap()).1
    };
    for (args, variables, found) in [
        (&["--data-dir=~/flag"][..], &[][..], path("flag")),
        (&[], &[("VINTNER_DATA_DIR", "~/variable")][..], path("variable")),
        (&["--config=~/node.toml"], &[][..], path("file")),
        (&["--config=~/node.toml"], &[][..], path("token")),
    ] {
        let out = of(args, variables);
        assert!(out.contains(&format!("\"{found}\"")), "{args:?} {variables:?}: {out}");
    }
    let (code, _, err) = run(&["node", "--data-dir=~nobody/x", "--print-config"]);
    assert!(code == 2 && err.contains("write the whole path"), "{err}");
    fs::write(&file, "data_dir = '~nobody/x'\n").unwrap();
    let (code, _, err) = run(&["node", "--config", file.to_str().unwrap(), "--print-config"]);
    assert!(code == 2 && err.contains("write the whole path"), "{err}");
}

#[test]
fn no_node_at_all_is_said_plainly() {
    let api = format!("http://127.0.0.1:{}", ports::free_port());
    let (code, _, err) = run(&["offers", "list", "--api", &api]);
    assert!(code == 1 && err.contains("no node answers") && err.contains("vintner devnet"), "{err}");
    let (code, _, err) = run(&["offers", "list", "--api", "ftp://x"]);
    assert!(code == 2 && err.contains("is not a URL"), "{err}");
}

/// A node that cannot start: its exit code and what it said.
fn refused_node(data: &Path, more: &[&str]) -> (i32, String) {
    let data = data.display().to_string();
    let fixed =
        ["node", "--until-stdin-ends", "--data-dir", &data, "--bootstrap", "", "--api", "127.0.0.1:0"];
    let free = ["--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0"];
    // Of two values for one flag the last would be an error, so a port that a test gives takes the place of the free one.
    let free: Vec<&str> = free.chunks(2).filter(|flag| !more.contains(&flag[0])).flatten().copied().collect();
    let mut command = vintner(&[&fixed[..], &free, more].concat());
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

#[test]
fn each_reason_not_to_start_has_its_code_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let node = NodeProcess::start(&data, &[]);
    let (code, said) = refused_node(&data, &[]);
    assert!(code == 5 && said.contains(&format!("in use by process {}", node.child.id())), "{code} {said}");
    assert!(said.contains("a directory of its own"), "{said}");
    node.stop();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let (code, said) = refused_node(&data, &["--rpc", &port]);
    assert!(code == 4 && said.contains(&port) && said.contains("choose another with --rpc"), "{code} {said}");
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let (code, said) = refused_node(&data, &["--dht", &port]);
    assert!(code == 4 && said.contains(&port), "{code} {said}");

    rusqlite::Connection::open(data.join("vintner.db"))
        .unwrap()
        .pragma_update(None, "user_version", 255)
        .unwrap();
    let (code, said) = refused_node(&data, &[]);
    assert!(
        code == 6 && said.contains("schema 255") && said.contains("run the newer version"),
        "{code} {said}"
    );
    fs::remove_file(data.join("master.key")).unwrap();
    let (code, said) = refused_node(&data, &[]);
    assert!(code == 6 && said.contains("restore the key file"), "{code} {said}");
}

#[test]
fn a_node_beside_another_is_told_of_all_ports_at_once_and_how_to_join() {
    let held = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [api, rpc] = held.each_ref().map(|port| port.local_addr().unwrap().to_string());
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data").display().to_string();
    let line =
        ["node", "--data-dir", &dir, "--bootstrap", "", "--api", &api, "--rpc", &rpc, "--dht", "127.0.0.1:0"];
    let (code, _, err) = run(&line);
    assert!(code == 4 && err.contains(&format!("TCP {api}, TCP {rpc} are taken")), "{code} {err}");
    assert!(
        err.contains(&format!("vintner node --join {api}")) && err.contains("with --api, --rpc"),
        "{err}"
    );
    assert!(!fs::exists(&dir).unwrap(), "nothing was begun");
}

#[test]
fn what_only_a_person_can_mend_ends_with_6() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let (code, said) = refused_node(&dir.path().join("file/node"), &[]);
    assert!(code == 6 && said.contains("choose another --data-dir"), "{code} {said}");

    let data = dir.path().join("node");
    let node = NodeProcess::start(&data, &[]);
    assert_eq!(node.run(&["offers", "create", "--quantity", "1", "--price", "100"]).0, 0);
    node.stop();
    let database = data.join("vintner.db");
    let whole = fs::read(&database).unwrap();
    let damage = rusqlite::Connection::open(&database).unwrap();
    damage
        .execute_batch("UPDATE own_offers SET closed = 'withdrawn'; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(damage);
    let (code, said) = refused_node(&data, &[]);
    assert!(
        code == 6 && said.contains("table own_offers") && said.contains("from a backup"),
        "{code} {said}"
    );
    let torn: Vec<u8> = whole.iter().enumerate().map(|(n, b)| if n > 4096 { !b } else { *b }).collect();
    fs::write(&database, torn).unwrap();
    let (code, said) = refused_node(&data, &[]);
    assert!(code == 6, "{code} {said}");
    fs::remove_file(&database).unwrap();
    let (code, said) = refused_node(&data, &[]);
    assert!(
        code == 6 && said.contains("is missing or empty") && said.contains("--new-store"),
        "{code} {said}"
    );
    assert!(!database.exists(), "nothing is begun silently");
    let node = NodeProcess::start(&data, &["--new-store"]);
    assert_eq!(node.json(&["offers", "list"])["items"].as_array().map(Vec::len), Some(0));
    node.stop();
    NodeProcess::start(&data, &[]).stop();
}

#[test]
fn a_data_directory_of_another_user_ends_with_6() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    NodeProcess::start(&data, &[]).stop();
    let mut command = if rustix::process::getuid().is_root() {
        // Nothing is closed to root. Nobody may run the program, which may lie in a closed home.
        mode(dir.path(), 0o755);
        let program = dir.path().join("vintner");
        fs::copy(VINTNER, &program).unwrap();
        let mut command = Command::new(program);
        command.uid(65_534).gid(65_534).current_dir("/");
        command
    } else {
        mode(&data, 0o000);
        vintner(&[])
    };
    let args = ["node", "--bootstrap", "", "--api", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--dht"];
    let (code, _, said) =
        said(command.args(args).args(["127.0.0.1:0", "--data-dir"]).arg(&data).output().unwrap());
    mode(&data, 0o700);
    assert!(code == 6 && said.contains("ermission denied") && said.contains("chown"), "{code} {said}");
}

#[test]
fn a_node_whose_database_is_deleted_acknowledges_nothing_and_says_where_it_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let mut node = NodeProcess::start(&data, &[]);
    let create = ["offers", "create", "--quantity", "1", "--price", "100"];
    assert_eq!(node.run(&create).0, 0);
    fs::remove_file(data.join("vintner.db")).unwrap();
    let (code, out, err) = node.run(&create);
    assert!(code != 0 && out.is_empty(), "{code} {out}{err}");
    assert_eq!(node.child.wait().unwrap().code(), Some(6));
    let (code, said) = refused_node(&data, &[]);
    assert!(code == 6 && said.contains("--new-store"), "{code} {said}");
    fs::remove_file(data.join("vintner.db-wal")).unwrap();
    fs::rename(data.join("vintner.db.saved-1"), data.join("vintner.db")).unwrap();
    let node = NodeProcess::start(&data, &[]);
    let held = node.json(&["offers", "list", "--mine"])["items"].as_array().map(Vec::len);
    // What was written and not acknowledged may be there or not.
    assert!(matches!(held, Some(1 | 2)), "{held:?}");
    node.stop();
}

#[test]
fn a_taken_api_port_and_a_taken_grape_port_end_with_4() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let data = tempfile::tempdir().unwrap();
    let (api, data) = (taken.to_string(), data.path().join("node").display().to_string());
    let args = ["node", "--api", &api, "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0", "--bootstrap", ""];
    let (code, _, err) = run(&[&args[..], &["--data-dir", &data]].concat());
    assert!(code == 4 && err.contains(&api) && err.contains("--api"), "{code} {err}");
    let (code, _, err) = run(&["grape", "--dp", "0", "--aph", &taken.port().to_string(), "--bn", ""]);
    assert!(code == 4 && err.contains("--aph"), "{code} {err}");
    drop(held);
}

#[test]
fn a_health_check_tells_ready_from_not_ready_and_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &[]);
    let at = node.url.trim_start_matches("http://").to_owned();
    // It has no DHT node to talk to.
    let (code, _, err) = run(&["healthcheck", "--api", &at]);
    assert!(code == 1 && err.contains("not ready") && err.contains("bootstrap"), "{code} {err}");
    // What listens everywhere is asked on loopback.
    let (code, _, err) = run(&["healthcheck", "--api", &at.replace("127.0.0.1", "0.0.0.0")]);
    assert!(code == 1 && err.contains("not ready"), "{code} {err}");
    let (code, _, err) = run(&["healthcheck", "--grape", &at]);
    assert!(code == 1 && err.contains("not like a grape"), "{code} {err}");
    node.stop();
    let (code, _, err) = run(&["healthcheck", "--api", &at]);
    assert!(code == 1 && err.contains("nothing answers"), "{code} {err}");
    assert_eq!(run(&["healthcheck", "--api", "nowhere"]).0, 2);
}

#[test]
fn a_port_is_published_without_a_token_in_containers_and_on_loopback_only() {
    let data = tempfile::tempdir().unwrap();
    let everywhere = |more: &[&str]| {
        let data = data.path().join("node").display().to_string();
        let args =
            ["node", "--api", "0.0.0.0:0", "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0", "--bootstrap", ""];
        run(&[&args[..], &["--data-dir", &data], more].concat())
    };
    let (code, _, err) =
        everywhere(&["--api-published", "10.0.0.1:4000", "--api-published-from", "10.0.0.1"]);
    assert!(code == 1 && err.contains("leave --api-published out"), "{code} {err}");
    if !Path::new("/.dockerenv").exists() && !Path::new("/run/.containerenv").exists() {
        let (code, _, err) = everywhere(&["--api-published", "127.0.0.1:4000"]);
        assert!(code == 1 && err.contains("--api-published-from"), "{code} {err}");
    }
}

#[test]
fn settings_come_from_flags_then_environment_then_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vintner.toml");
    fs::write(&file, "api = '127.0.0.1:4100'\nrpc = '127.0.0.1:4200'\nnetwork = 'file'\n").unwrap();
    let path = file.display().to_string();
    let mut command = vintner(&["node", "--print-config", "--config", &path, "--api", "127.0.0.1:4300"]);
    command
        .env("VINTNER_API", "127.0.0.1:1")
        .env("VINTNER_RPC", "127.0.0.1:4400")
        .env("VINTNER_BOOTSTRAP", "");
    let (code, out, err) = said(command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    for line in
        ["api = \"127.0.0.1:4300\"", "rpc = \"127.0.0.1:4400\"", "network = \"file\"", "bootstrap = []"]
    {
        assert!(out.lines().any(|found| found == line), "{line} in {out}");
    }
    fs::write(&file, "apii = '127.0.0.1:4100'\n").unwrap();
    let (code, _, err) = run(&["node", "--print-config", "--config", &path]);
    assert!(code == 2 && err.contains("apii"), "{err}");
    let (code, _, err) = run(&["node", "--config", "/nowhere/vintner.toml"]);
    assert!(code == 2 && err.contains("check --config"), "{err}");
}

#[test]
fn the_description_is_printed() {
    let (code, out, _) = run(&["openapi"]);
    let committed = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json")).unwrap();
    assert!(code == 0 && out == committed);
}

/// A process that may have few files open, by a limit that it cannot raise itself.
#[cfg(target_os = "linux")]
#[test]
fn too_many_open_files_are_warned_of_once_and_not_ten_times_a_second() {
    let data = tempfile::tempdir().unwrap();
    let line = format!(
        "ulimit -n 64; exec {VINTNER} node --until-stdin-ends --data-dir {} --bootstrap '' \
         --api 127.0.0.1:0 --rpc 127.0.0.1:0 --dht 127.0.0.1:0",
        data.path().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let api = lines.by_ref().find_map(|line| {
        let (_, url) = line.split_once("the API is at http://")?;
        Some(url.split('/').next()?.to_owned())
    });
    let api = api.unwrap();
    let connections: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&api).unwrap()).collect();
    assert!(lines.by_ref().any(|line| line.contains("could not be accepted")), "it says that it has no more");
    // It tries ten times a second; a second line would be there long before this.
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop((connections, child.stdin.take()));
    assert!(child.wait().unwrap().success());
    let more = lines.filter(|line| line.contains("could not be accepted")).count();
    assert_eq!(more, 0, "it was said again");
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_raises_the_limit_of_open_files_as_far_as_it_may() {
    let data = tempfile::tempdir().unwrap();
    let line = format!(
        "ulimit -Sn 100; exec {VINTNER} node --until-stdin-ends --data-dir {} --bootstrap '' \
         --api 127.0.0.1:0 --rpc 127.0.0.1:0 --dht 127.0.0.1:0",
        data.path().display()
    );
    let mut shell = Command::new("sh");
    let mut child = shell.args(["-c", &line]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("the API is at")));
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).collect();
    assert!(numbers[0].parse::<u64>().is_ok_and(|soft| soft > 100), "{files}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// As root a directory without write permission is written all the same, so the place of the directory is taken by a file.
#[test]
fn a_grape_whose_data_directory_cannot_be_used_runs_on_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("grape");
    fs::write(&place, "a file").unwrap();
    let args = [
        "grape",
        "--until-stdin-ends",
        "-b",
        "127.0.0.1",
        "--dp",
        "0",
        "--aph",
        "0",
        "--bn",
        "",
        "--data-dir",
    ];
    let mut command = vintner(&args);
    command.arg(&place).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("grape ready"), "{first}");
    drop(child.stdin.take());
    let (code, _, err) = said(child.wait_with_output().unwrap());
    assert!(code == 0 && err.contains("keeps nothing"), "{code} {err}");
}
