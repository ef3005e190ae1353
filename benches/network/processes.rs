//! The two networks: six processes each, on free ports of loopback, in a directory that goes with them. And grapes alone.

use super::http::Connection;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Grapes, and as many nodes.
const EACH: usize = 3;
/// A network that takes longer to start does not start.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const START_POLL: Duration = Duration::from_millis(50);
/// Stock nodes announce their ids a second after they listen, and say nothing when that is done.
const STOCK_SETTLES: Duration = Duration::from_secs(3);
/// The node that joins late.
const LATE: &str = "node-late";
/// Lines of a log that are shown when its process has ended.
const LOG_LINES_SHOWN: usize = 10;

/// Which network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// A copy of the program that Cargo built for this bench.
    Ours(PathBuf),
    /// A copy of another build of it.
    Other(PathBuf),
    /// Stock Grenache.
    Stock,
}

impl System {
    /// What Cargo built, in `dir`.
    pub(super) fn ours(dir: &Path) -> Result<Self> {
        copied(Path::new(env!("CARGO_BIN_EXE_vintner")), dir.join("vintner")).map(Self::Ours)
    }

    /// Another build, in `dir`.
    pub(super) fn other(program: &Path, dir: &Path) -> Result<Self> {
        copied(program, dir.join("vintner-other")).map(Self::Other)
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "vintner",
            Self::Stock => "stock",
            Self::Other(_) => "other",
        }
    }

    /// Where the API's paths begin.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Ours(_) | Self::Other(_) => "/api/v1",
            Self::Stock => "",
        }
    }
}

/// Every program that is measured is a copy, as an installed one is: as the linker wrote it the same build measured 3 to 8 % worse than
/// its copy, for a reason that was not found.
fn copied(program: &Path, to: PathBuf) -> Result<PathBuf> {
    // One that is still being executed cannot be written over, but replaced.
    let new = to.with_extension("new");
    fs::copy(program, &new).with_context(|| format!("{} cannot be copied", program.display()))?;
    fs::rename(&new, &to).with_context(|| format!("{} cannot be replaced", to.display()))?;
    Ok(to)
}

/// What must not outlive this program, also when it is interrupted: the one network that runs at a time.
struct Running {
    children: Vec<(String, Child)>,
    dir: Option<PathBuf>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { children: Vec::new(), dir: None });

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all children, waits for their end, and removes what they wrote.
pub(super) fn clean_up() {
    let mut running = running();
    for (_, child) in &mut running.children {
        // It may have ended by itself.
        let _ = child.kill();
    }
    for (_, mut child) in running.children.drain(..) {
        let _ = child.wait();
    }
    if let Some(dir) = running.dir.take() {
        // What is left of it is removed before the next network starts.
        let _ = fs::remove_dir_all(dir);
    }
}

/// A running network. It ends when it is dropped.
pub(super) struct Network {
    pub(super) system: System,
    /// The nodes' APIs.
    pub(super) apis: [SocketAddr; EACH],
    /// The grapes' HTTP APIs.
    pub(super) grapes: [SocketAddr; EACH],
    /// The nodes' processes.
    pub(super) node_processes: [u32; EACH],
    /// All six.
    pub(super) processes: Vec<u32>,
    bootstrap: [String; EACH],
    /// Ports of one more node, the same each time.
    spare: [u16; 3],
    dir: PathBuf,
}

/// One more node.
pub(super) struct Joined {
    /// Its API.
    pub(super) api: SocketAddr,
    pub(super) process: u32,
}

impl Joined {
    /// Stops it, as its owner would.
    pub(super) fn leave(self) -> Result<()> {
        let mut running = running();
        let at = running.children.iter().position(|(_, child)| child.id() == self.process);
        let (_, mut child) = running.children.remove(at.context("it has not joined")?);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        clean_up();
    }
}

/// Ports that nothing used a moment ago.
struct Ports {
    grape_dht: [u16; EACH],
    grape_http: [u16; EACH],
    dht: [u16; EACH],
    rpc: [u16; EACH],
    api: [u16; EACH],
    /// Stock nodes have a grape's HTTP API inside.
    http: [u16; EACH],
    /// DHT, RPC and API of one more node.
    spare: [u16; 3],
}

impl Ports {
    fn free() -> Result<Self> {
        let (udp, tcp) = (free_udp(2 * EACH + 1)?, free_tcp(4 * EACH + 2)?);
        let some =
            |ports: &[u16], n: usize| -> [u16; EACH] { std::array::from_fn(|at| ports[n * EACH + at]) };
        Ok(Self {
            grape_dht: some(&udp, 0),
            dht: some(&udp, 1),
            grape_http: some(&tcp, 0),
            rpc: some(&tcp, 1),
            api: some(&tcp, 2),
            http: some(&tcp, 3),
            spare: [udp[2 * EACH], tcp[4 * EACH], tcp[4 * EACH + 1]],
        })
    }
}

/// All are held until the last one is found, so that none is found twice.
fn free_udp(count: usize) -> Result<Vec<u16>> {
    let sockets: Result<Vec<_>, _> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).collect();
    Ok(sockets?.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<std::io::Result<_>>()?)
}

fn free_tcp(count: usize) -> Result<Vec<u16>> {
    let listeners: Result<Vec<_>, _> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    Ok(listeners?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<_>>()?)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Network {
    /// Starts one in an empty directory and waits until every node knows every other.
    pub(super) fn start(system: &System, dir: &Path) -> Result<Self> {
        empty(dir)?;
        let ports = Ports::free().context("no free port is left")?;
        let bootstrap = ports.grape_dht.map(|port| local(port).to_string());
        let mut processes = Vec::new();
        for n in 0..EACH {
            let name = format!("grape-{}", n + 1);
            let data_dir = dir.join(&name);
            let ports = [ports.grape_dht[n], ports.grape_http[n]];
            processes.push(spawn(&name, grape(system, ports, &bootstrap, &data_dir, &[]), dir)?);
        }
        for n in 0..EACH {
            processes.push(spawn(&format!("node-{}", n + 1), node(system, &ports, n, &bootstrap, dir), dir)?);
        }
        let mut node_processes = [0; EACH];
        node_processes.copy_from_slice(&processes[EACH..]);
        let network = Self {
            system: system.clone(),
            apis: ports.api.map(local),
            grapes: ports.grape_http.map(local),
            node_processes,
            processes,
            bootstrap,
            spare: ports.spare,
            dir: dir.to_owned(),
        };
        network.wait_until_ready()?;
        Ok(network)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        for api in self.apis {
            while !self.is_ready(api) {
                self.check()?;
                ensure!(
                    started.elapsed() < START_TIMEOUT,
                    "the {} node at {api} is not ready after {START_TIMEOUT:?}; {} has its log",
                    self.system.name(),
                    self.dir.display()
                );
                std::thread::sleep(START_POLL);
            }
        }
        if self.system == System::Stock {
            std::thread::sleep(STOCK_SETTLES);
        }
        self.check()
    }

    fn is_ready(&self, api: SocketAddr) -> bool {
        let ask = |path: &str| Connection::open(api).and_then(|mut node| node.ask("GET", path, ""));
        match &self.system {
            System::Stock => ask("/offers").is_ok_and(|answer| answer.status == 200),
            System::Ours(_) | System::Other(_) => {
                let others = 2 * EACH as u64 - 1;
                let knows_all = |text: &str| {
                    let node: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                    node["dht"]["nodes"].as_u64().is_some_and(|nodes| nodes >= others)
                };
                ask("/readyz").is_ok_and(|answer| answer.status == 200)
                    && ask("/api/v1/node").is_ok_and(|answer| knows_all(&answer.body))
            }
        }
    }

    /// Starts one more node of ours, or the same once more.
    pub(super) fn join(&self) -> Result<Joined> {
        let [_, _, api] = self.spare;
        let command = vintner(&self.system).context("only our nodes join late")?;
        let data_dir = self.dir.join(LATE);
        let command = our_node(command, self.spare, &self.bootstrap, &data_dir);
        let process = spawn(LATE, command, &self.dir)?;
        Ok(Joined { api: local(api), process })
    }

    /// An error that says why, when a process has ended.
    pub(super) fn check(&self) -> Result<()> {
        check(&self.system, &self.dir)
    }
}

/// Grapes without nodes. They end when it is dropped.
pub(super) struct Ring {
    system: System,
    pub(super) dht: Vec<SocketAddrV4>,
    /// Their HTTP APIs.
    pub(super) http: Vec<SocketAddr>,
    pub(super) processes: Vec<u32>,
    dir: PathBuf,
}

impl Drop for Ring {
    fn drop(&mut self) {
        clean_up();
    }
}

impl Ring {
    /// Starts so many in an empty directory, and waits until each says that it is ready and all had time to meet. `more`: further
    /// flags for ours.
    pub(super) fn start(system: &System, grapes: usize, more: &[String], dir: &Path) -> Result<Self> {
        empty(dir)?;
        let (udp, tcp) = (free_udp(grapes)?, free_tcp(grapes)?);
        let bootstrap: Vec<String> = udp.iter().map(|port| local(*port).to_string()).collect();
        let mut ring = Self {
            system: system.clone(),
            dht: udp.iter().map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port)).collect(),
            http: tcp.iter().map(|port| local(*port)).collect(),
            processes: Vec::new(),
            dir: dir.to_owned(),
        };
        for (n, (udp, tcp)) in udp.iter().zip(&tcp).enumerate() {
            let data_dir = dir.join(format!("grape-{}", n + 1));
            let command = grape(system, [*udp, *tcp], &bootstrap, &data_dir, more);
            ring.processes.push(spawn(&format!("grape-{}", n + 1), command, dir)?);
        }
        let started = Instant::now();
        let ready = |n| {
            let log = fs::read_to_string(dir.join(format!("grape-{}.log", n + 1)));
            log.is_ok_and(|log| log.contains("ready"))
        };
        while !(0..grapes).all(ready) {
            ring.check()?;
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "the grapes are not ready; {} has their logs",
                dir.display()
            );
            std::thread::sleep(START_POLL);
        }
        std::thread::sleep(STOCK_SETTLES);
        ring.check()?;
        Ok(ring)
    }

    /// An error that says why, when a process has ended.
    pub(super) fn check(&self) -> Result<()> {
        check(&self.system, &self.dir)
    }

    /// Ends the last one as a power cut would: it says nothing to anybody.
    pub(super) fn kill_last(&mut self) -> Result<()> {
        let (_, mut child) = running().children.pop().context("no grape is left")?;
        child.kill()?;
        child.wait()?;
        self.dht.pop();
        self.http.pop();
        self.processes.pop();
        Ok(())
    }
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("{} cannot be emptied", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    running().dir = Some(dir.to_owned());
    Ok(())
}

fn check(system: &System, dir: &Path) -> Result<()> {
    for (name, child) in &mut running().children {
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            bail!("{name} of {} ended by itself ({status}); the end of its log:\n{last}", system.name());
        }
    }
    Ok(())
}

/// The command line that one would type, and that `vintner devnet` uses.
fn grape(
    system: &System,
    [dht, http]: [u16; 2],
    bootstrap: &[String],
    data_dir: &Path,
    more: &[String],
) -> Command {
    let own = local(dht).to_string();
    let others: Vec<&str> = bootstrap.iter().filter(|other| **other != own).map(String::as_str).collect();
    let Some(mut command) = vintner(system) else {
        let options = serde_json::json!({"dht": dht, "http": http, "bootstrap": others});
        return stock("grape.js", &options);
    };
    command.args(["grape", "--dp", &dht.to_string(), "--aph", &http.to_string()]);
    command.args(["--bn", &others.join(","), "-b", "127.0.0.1", "--data-dir"]).arg(data_dir).args(more);
    command
}

fn node(system: &System, ports: &Ports, n: usize, bootstrap: &[String; EACH], dir: &Path) -> Command {
    let Some(command) = vintner(system) else {
        let options = serde_json::json!({
            "dht": ports.dht[n], "http": ports.http[n], "rpc": ports.rpc[n], "api": ports.api[n], "bootstrap": bootstrap,
        });
        return stock("node.js", &options);
    };
    let ports = [ports.dht[n], ports.rpc[n], ports.api[n]];
    our_node(command, ports, bootstrap, &dir.join(format!("node-{}", n + 1)))
}

fn our_node(mut command: Command, ports: [u16; 3], bootstrap: &[String; EACH], data_dir: &Path) -> Command {
    let [dht, rpc, api] = ports.map(|port| local(port).to_string());
    command.args(["node", "--network", "bench", "--bootstrap", &bootstrap.join(",")]);
    command.args(["--api", &api, "--rpc", &rpc, "--dht", &dht, "--data-dir"]).arg(data_dir);
    command
}

/// Our program, or nothing for a stock network.
fn vintner(system: &System) -> Option<Command> {
    let mut command = match system {
        System::Ours(program) | System::Other(program) => Command::new(program),
        System::Stock => return None,
    };
    // Settings of the person who measures are not those of the networks.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VINTNER_") {
            command.env_remove(name);
        }
    }
    Some(command)
}

/// The directory of the stock side.
pub(super) fn stock_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/stock")
}

fn stock(script: &str, options: &serde_json::Value) -> Command {
    let mut command = Command::new("node");
    command.arg(stock_dir().join(script)).arg(options.to_string());
    command
}

fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<u32> {
    let log = File::create(dir.join(format!("{name}.log"))).context("a log cannot be written")?;
    // The lock is held over the start: an interrupt finds the child, or comes before it.
    let mut running = running();
    let child = command
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    let id = child.id();
    running.children.push((name.to_owned(), child));
    Ok(id)
}
