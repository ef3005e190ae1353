//! Real processes: a grape and nodes that can be killed as a power switch kills them.

#[path = "../support/rest.rs"]
pub mod rest;

use super::{free_port, until};
use reqwest::Response;
use rest::Rest;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const BINARY: &str = env!("CARGO_BIN_EXE_vintner");

/// A child that does not outlive the test.
pub struct Process(Child);

impl Process {
    pub fn spawn(args: &[String]) -> Self {
        Self::of(Command::new(BINARY).args(args))
    }

    /// As `spawn`, in a network namespace of Linux. `ip` becomes the program, so that signals reach it.
    pub fn spawn_within(namespace: &str, args: &[String]) -> Self {
        Self::of(Command::new("ip").args(["netns", "exec", namespace, BINARY]).args(args))
    }

    /// As `spawn`, and what it logs goes to `log`.
    pub fn spawn_logging(args: &[String], log: std::fs::File) -> Self {
        let mut command = Command::new(BINARY);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// As `spawn`, where nobody else sees it, with a disk of its own of `mib` mebibytes at `dir`. The program keeps the process's number.
    pub fn spawn_on_disk(args: &[String], dir: &Path, mib: u32) -> Self {
        let mount = format!("mount -t tmpfs -o size={mib}m,mode=700 tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args([Self::disk_flag(), "sh", "-c", &mount]).arg(dir).arg(BINARY).args(args);
        Self::of(&mut command)
    }

    /// What `unshare` is asked for such a disk.
    pub fn disk_flag() -> &'static str {
        if rustix::process::getuid().is_root() { "-m" } else { "-rm" }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn of(command: &mut Command) -> Self {
        let log =
            || if std::env::var_os("VINTNER_TEST_LOGS").is_some() { Stdio::inherit() } else { Stdio::null() };
        command.stdin(Stdio::null()).stdout(log()).stderr(log());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub fn terminate(&mut self) -> (std::process::ExitStatus, Duration) {
        let started = std::time::Instant::now();
        self.signal("TERM");
        (self.0.wait().unwrap(), started.elapsed())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command as a user types it. What the machine's owner has set does not reach it.
pub fn vintner<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VINTNER_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// A grape process; returns its bootstrap address.
pub fn grape() -> (Process, String) {
    let (dht, http) = (free_port(), free_port());
    let args = ["grape", "-b", "127.0.0.1", "--dp", &dht.to_string(), "--aph", &http.to_string(), "--bn", ""];
    (Process::spawn(&args.map(str::to_owned)), format!("127.0.0.1:{dht}"))
}

fn spawn(args: &[String], namespace: Option<&str>) -> Process {
    namespace.map_or_else(|| Process::spawn(args), |namespace| Process::spawn_within(namespace, args))
}

/// A node that keeps its ports and its data directory when it is started again.
pub struct NodeProcess {
    pub process: Process,
    pub api: String,
    args: Vec<String>,
    namespace: Option<String>,
    http: Rest,
}

impl NodeProcess {
    pub fn start(data_dir: &Path, bootstrap: &str) -> Self {
        let (args, api) = Self::arguments(data_dir, bootstrap);
        Self::start_with(args, &api, None)
    }

    /// Arguments for a node on free ports, and where its API will be.
    pub fn arguments(data_dir: &Path, bootstrap: &str) -> (Vec<String>, String) {
        let (api, rpc, dht) = (free_port(), free_port(), free_port());
        let local = |port: u16| format!("127.0.0.1:{port}");
        let args: Vec<String> = [
            "node",
            "--api",
            &local(api),
            "--rpc",
            &local(rpc),
            "--dht",
            &local(dht),
            "--bootstrap",
            bootstrap,
            "--data-dir",
            data_dir.to_str().unwrap(),
            "--network",
            "test",
        ]
        .map(str::to_owned)
        .to_vec();
        (args, local(api))
    }

    /// Starts `vintner` with these arguments, which say that its API is at `api`.
    pub fn start_with(args: Vec<String>, api: &str, namespace: Option<String>) -> Self {
        let process = spawn(&args, namespace.as_deref());
        Self::of(process, args, api, namespace)
    }

    /// A process that was started with these arguments.
    pub fn of(process: Process, args: Vec<String>, api: &str, namespace: Option<String>) -> Self {
        let http = Rest::within(Duration::from_secs(40));
        Self { process, api: format!("http://{api}/api/v1"), args, namespace, http }
    }

    /// The settings, as another command takes them.
    pub fn settings(&self) -> &[String] {
        &self.args[1..]
    }

    /// The address of the API, for `--api`.
    pub fn url(&self) -> &str {
        self.api.trim_end_matches("/api/v1")
    }

    pub fn restart(&mut self) {
        self.process = spawn(&self.args, self.namespace.as_deref());
    }

    pub async fn ready(&self) {
        let url = self.api.replace("/api/v1", "/readyz");
        until("the node to be ready", || async {
            self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        self.http.get(format!("{}{path}", self.api)).send().await.ok()?.json().await.ok()
    }

    /// `None` when no answer came, so nothing was acknowledged.
    pub async fn post(&self, path: &str, key: &str, body: Value) -> Option<(u16, Value)> {
        let request =
            self.http.post(format!("{}{path}", self.api)).header("Idempotency-Key", key).json(&body);
        let answer: Response = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// Takes an own offer back. As `post`.
    pub async fn withdraw(&self, offer: &str) -> Option<(u16, Value)> {
        let answer = self.http.delete(format!("{}/offers/{offer}", self.api)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// As `post`, while the test does something else.
    pub fn post_later(
        &self,
        path: &str,
        key: &'static str,
        body: Value,
    ) -> tokio::task::JoinHandle<Option<(u16, Value)>> {
        let (http, url) = (self.http.clone(), format!("{}{path}", self.api));
        tokio::spawn(async move {
            let request = http.post(url).header("Idempotency-Key", key).json(&body);
            let answer = request.timeout(Duration::from_mins(1)).send().await.ok()?;
            Some((answer.status().as_u16(), answer.json().await.ok()?))
        })
    }

    /// The value of a series of its metrics, written as on their page; 0 while there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let page =
            self.http.get(format!("{}/metrics", self.url())).send().await.unwrap().text().await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// All trades, by id.
    pub async fn trades(&self) -> Vec<Value> {
        let page = self.get("/trades?limit=1000").await.unwrap_or_default();
        page["items"].as_array().cloned().unwrap_or_default()
    }

    /// Everything that it holds, open or not, of silent makers too: each record's hash and sequence. `None` when it does not answer.
    pub async fn replica(&self) -> Option<BTreeMap<String, u64>> {
        let (mut held, mut after) = (BTreeMap::new(), String::new());
        loop {
            let page = self.get(&format!("/offers?availability=all&include=stale&limit=1000{after}")).await?;
            for offer in page["items"].as_array()? {
                held.insert(offer["hash"].as_str()?.to_owned(), offer["sequence"].as_u64()?);
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => after = format!("&cursor={cursor}"),
                None => return Some(held),
            }
        }
    }

    pub async fn lists(&self, offer: &str) -> bool {
        let page = self.get("/offers?limit=1000").await.unwrap_or_default();
        page["items"].as_array().is_some_and(|items| items.iter().any(|item| item["id"] == offer))
    }
}
