//! The task that owns the socket and the core. It moves datagrams, time, commands and signature checks; it decides nothing.
//!
//! Each time it wakes it takes what is there, up to a bound from each source, hands it all to the core, and then sends what came
//! of it. Between wake-ups it sleeps until the core's next timeout: there is no tick.

use super::{
    core::{
        ByFamily, Core, CoreConfig, DhtEvent, DhtStatus, Family, Found, GetMode, Input, Item, KEPT_MAX, Now,
        OpError, OpId, Outcome, Output, Put, PutOutcome, Request, Stored, Verdict, VerifyId, Walk,
    },
    handle::{DhtConfig, DhtError},
    names::{Names, Unresolved},
    socket::Socket,
};
use crate::{
    bep44::{MutableItem, Target},
    workers::Workers,
};
use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

/// Datagrams, commands or verdicts taken at one wake-up, so that no source starves the others.
const BATCH_MAX: usize = 256;
/// Verdicts that may wait. The core has no more checks out than this.
const VERDICTS_MAX: usize = 2048;
/// Signatures in one job of the pool: about 0.4 ms.
const CHECKED_AT_ONCE: usize = 8;
/// How long to sleep when the core waits for nothing.
const SLEEP_MAX: Duration = Duration::from_hours(1);

/// What the core's clock shows at the start: what an earlier run stored has its time before that.
const CLOCK_START: Duration = Duration::from_hours(24 * 365);

/// Where an operation's result goes.
type Reply<T> = oneshot::Sender<Result<T, DhtError>>;

/// A call of the handle.
pub(super) enum Command {
    Announce { name: Arc<[u8]>, port: u16, reply: Reply<usize> },
    Lookup { name: Arc<[u8]>, reply: Reply<Vec<SocketAddr>> },
    Put { put: Put, reply: Reply<PutOutcome> },
    Get { target: Target, salt: Arc<[u8]>, mode: GetMode, reply: Reply<Option<Found>> },
    Local { target: Target, reply: oneshot::Sender<Option<Item>> },
    KeepAnnounced { name: Arc<[u8]>, port: u16, reply: Reply<()> },
    ForgetAnnounced { name: Arc<[u8]>, reply: oneshot::Sender<()> },
    KeepItem { item: Item, reply: Reply<()> },
    ForgetItem { target: Target, reply: oneshot::Sender<()> },
    KnownNodes { reply: oneshot::Sender<Vec<SocketAddr>> },
    WalkFromNow { reply: oneshot::Sender<Walk> },
    WalkStored { walk: Walk, max: usize, reply: oneshot::Sender<(Vec<Stored>, Walk)> },
    RestoreStored { stored: Vec<Stored>, reply: oneshot::Sender<usize> },
    Shutdown { reply: oneshot::Sender<()> },
}

/// A caller that waits for an operation.
enum Caller {
    Announced(Reply<usize>),
    Peers(Reply<Vec<SocketAddr>>),
    Put(Reply<PutOutcome>),
    Item(Reply<Option<Found>>),
}

struct Driver {
    core: Core,
    sockets: ByFamily<Socket>,
    started: Instant,
    callers: HashMap<OpId, Caller>,
    ops: u64,
    events: broadcast::Sender<DhtEvent>,
    tells: fn(&DhtEvent) -> bool,
    status: watch::Sender<DhtStatus>,
    workers: Workers,
    verdicts: mpsc::Sender<Vec<(VerifyId, Verdict)>>,
    names: Arc<Names>,
    resolved: mpsc::Sender<Vec<SocketAddr>>,
}

/// Binds the socket and starts the task.
pub(super) fn start(
    config: DhtConfig,
    workers: Workers,
    inbox: mpsc::Receiver<Command>,
    events: broadcast::Sender<DhtEvent>,
    unresolved: Unresolved,
) -> Result<watch::Receiver<DhtStatus>, DhtError> {
    let names = Arc::new(Names::new(&config.bootstrap, config.ipv6.is_some(), unresolved)?);
    let (udp, local_addr) = bind(config.listen)?;
    // The same port on both, so that one number stands for the node in configurations and firewalls.
    let wanted6 = config.ipv6.map(|ip| SocketAddrV6::new(ip, local_addr.port(), 0, 0));
    let udp6 = wanted6.map(bind6).transpose()?;
    let runtime = config.own_thread.then(|| Builder::new_current_thread().enable_all().build());
    let runtime = runtime.transpose().map_err(DhtError::Thread)?;
    let sockets = {
        let _inside = runtime.as_ref().map(Runtime::enter);
        let socket = |udp, addr| Socket::new(udp).map_err(|source| DhtError::Bind { addr, source });
        let v4 = socket(udp, local_addr.into())?;
        let v6 = udp6.zip(wanted6).map(|(udp, addr)| socket(udp, addr.into())).transpose()?;
        ByFamily::from_parts(v4, v6)
    };
    let started = Instant::now();
    let core_config = CoreConfig {
        node_id: config.node_id,
        local_addr,
        local_addr6: wanted6,
        mainline: config.mainline,
        host: config.host,
        has_bootstrap: !config.bootstrap.is_empty(),
        known_nodes: config.known_nodes,
        limit_private: config.limit_private,
        items_max: config.items_max,
        peers_max: config.peers_max,
        peer_max_age: config.peer_max_age,
        node_liveness: config.node_liveness,
    };
    let core = Core::new(core_config, config.seed, Now::from_start(CLOCK_START));
    let (status, status_reader) = watch::channel(core.status());
    let (verdicts, verdict_inbox) = mpsc::channel(VERDICTS_MAX);
    let (resolved, resolved_inbox) = mpsc::channel(1);
    let driver = Driver {
        core,
        sockets,
        started,
        callers: HashMap::new(),
        ops: 0,
        events,
        tells: config.tells,
        status,
        workers,
        verdicts,
        names,
        resolved,
    };
    let run = run(driver, inbox, verdict_inbox, resolved_inbox);
    match runtime {
        None => drop(tokio::spawn(run)),
        Some(runtime) => {
            let work = move || {
                runtime.block_on(run);
                // A name that takes long to be resolved must not hold the thread.
                runtime.shutdown_background();
            };
            thread::Builder::new().name("dht".to_owned()).spawn(work).map_err(DhtError::Thread)?;
        }
    }
    Ok(status_reader)
}

fn bind(addr: SocketAddrV4) -> Result<(UdpSocket, SocketAddrV4), DhtError> {
    let bind_error = |source| DhtError::Bind { addr: addr.into(), source };
    let udp = UdpSocket::bind(addr).map_err(bind_error)?;
    let local = udp.local_addr().map_err(bind_error)?;
    Ok((udp, SocketAddrV4::new(*addr.ip(), local.port())))
}

/// For IPv6 alone: the other socket has the same port.
fn bind6(addr: SocketAddrV6) -> Result<UdpSocket, DhtError> {
    let bound = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
        socket.set_only_v6(true)?;
        socket.bind(&SocketAddr::from(addr).into())?;
        Ok(UdpSocket::from(socket))
    };
    bound().map_err(|source| DhtError::Bind { addr: addr.into(), source })
}

/// Runs until a shutdown, or until nobody holds a handle any more.
async fn run(
    mut driver: Driver,
    mut inbox: mpsc::Receiver<Command>,
    mut verdicts: mpsc::Receiver<Vec<(VerifyId, Verdict)>>,
    mut resolved: mpsc::Receiver<Vec<SocketAddr>>,
) {
    let mut sleep = pin!(sleep_until(driver.started));
    let stopped = 'awake: loop {
        let wake_at = driver.wake_at();
        if sleep.deadline() != wake_at {
            sleep.as_mut().reset(wake_at);
        }
        tokio::select! {
            command = inbox.recv() => {
                let mut next = command;
                for _ in 0..BATCH_MAX {
                    match next {
                        None => break 'awake None,
                        Some(Command::Shutdown { reply }) => break 'awake Some(reply),
                        Some(command) => driver.command(command),
                    }
                    match inbox.try_recv() {
                        Ok(command) => next = Some(command),
                        Err(_) => break,
                    }
                }
            }
            family = driver.readable() => driver.receive(family),
            Some(checked) = verdicts.recv() => {
                driver.checked(checked);
                for _ in 1..BATCH_MAX / CHECKED_AT_ONCE {
                    let Ok(checked) = verdicts.try_recv() else { break };
                    driver.checked(checked);
                }
            }
            Some(addrs) = resolved.recv() => driver.handle(Input::Bootstrap(addrs)),
            () = &mut sleep => driver.handle(Input::Timeout),
        }
        driver.work_off();
        driver.send().await;
        driver.status.send_replace(driver.core.status());
    };
    drop(driver);
    if let Some(reply) = stopped {
        // Whoever asked may be gone.
        let _ = reply.send(());
    }
}

impl Driver {
    fn now(&self) -> Now {
        Now::from_start(CLOCK_START + self.started.elapsed())
    }

    fn wake_at(&self) -> Instant {
        let next = self.core.next_timeout();
        let next = next.map(|at| self.started + at.since_start().saturating_sub(CLOCK_START));
        next.unwrap_or_else(|| Instant::now() + SLEEP_MAX)
    }

    fn handle(&mut self, input: Input<'_>) {
        self.core.handle(self.now(), input);
    }

    /// Waits until something may have arrived, and says on which socket.
    async fn readable(&self) -> Family {
        let readable = async |family| match self.sockets.get(family).map(Socket::readable) {
            Some(ready) => ready.await.is_ok(),
            None => std::future::pending().await,
        };
        loop {
            let (family, ready) = tokio::select! {
                ready = readable(Family::V4) => (Family::V4, ready),
                ready = readable(Family::V6) => (Family::V6, ready),
            };
            if ready {
                return family;
            }
        }
    }

    fn receive(&mut self, family: Family) {
        let mut taken = 0;
        while taken < BATCH_MAX {
            let (now, core) = (self.now(), &mut self.core);
            let take = |from, bytes: &[u8]| core.handle(now, Input::Datagram { from, bytes });
            let Some(socket) = self.sockets.get_mut(family) else { return };
            match socket.try_receive(take) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Such as an ICMP message about an earlier datagram on some systems: the next one may be fine.
                Err(error) => {
                    taken += 1;
                    tracing::debug!(%error, "a datagram could not be received");
                }
            }
        }
    }

    async fn send(&mut self) {
        for family in [Family::V4, Family::V6] {
            if let Some(socket) = self.sockets.get_mut(family) {
                socket.send(self.core.datagrams().filter(|(to, _)| Family::of(to) == family)).await;
            }
        }
        self.core.clear_datagrams();
    }

    /// Takes every output of the core.
    fn work_off(&mut self) {
        loop {
            let mut checks = Vec::new();
            self.work_off_but(&mut checks);
            match &checks[..] {
                [] => return,
                [(id, item)] => {
                    let workers = &self.workers;
                    let done_here = workers
                        .idle()
                        .map(|turn| turn.run(|| verdict(item, workers)).unwrap_or(Verdict::Busy));
                    match done_here {
                        Some(verdict) => self.handle(Input::Verified { id: *id, verdict }),
                        None => self.verify(checks),
                    }
                }
                _ => checks.chunks(CHECKED_AT_ONCE).for_each(|some| self.verify(some.to_vec())),
            }
        }
    }

    /// Takes every output; signatures to check are only collected.
    fn work_off_but(&mut self, checks: &mut Vec<(VerifyId, MutableItem)>) {
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Event(event) => self.tell(event),
                Output::Done(op, outcome) => self.done(op, outcome),
                Output::Verify { id, item } => checks.push((id, item)),
                Output::Resolve => self.resolve(),
            }
        }
    }

    fn tell(&self, event: DhtEvent) {
        if let DhtEvent::Warning(text) = &event {
            tracing::warn!("{text}");
        }
        if (self.tells)(&event) {
            // Nobody listening is fine.
            let _ = self.events.send(event);
        }
    }

    fn checked(&mut self, checked: Vec<(VerifyId, Verdict)>) {
        for (id, verdict) in checked {
            self.handle(Input::Verified { id, verdict });
        }
    }

    fn verify(&mut self, checks: Vec<(VerifyId, MutableItem)>) {
        let (verdicts, workers) = (self.verdicts.clone(), self.workers.clone());
        let ids: Vec<VerifyId> = checks.iter().map(|(id, _)| *id).collect();
        let check = move || {
            let checked = checks.into_iter().map(|(id, item)| (id, verdict(&item, &workers))).collect();
            // The channel has room for every check that is out; the driver may have stopped.
            let _ = verdicts.try_send(checked);
        };
        if self.workers.submit(check).is_err() {
            for id in ids {
                self.handle(Input::Verified { id, verdict: Verdict::Busy });
            }
        }
    }

    /// Resolves the bootstrap names. Addresses are their own names and need no waiting.
    fn resolve(&mut self) {
        if let Some(addrs) = self.names.literal() {
            return self.handle(Input::Bootstrap(addrs));
        }
        let (names, resolved) = (Arc::clone(&self.names), self.resolved.clone());
        tokio::spawn(async move {
            let addrs = names.resolve().await;
            // The driver may have stopped meanwhile.
            let _ = resolved.send(addrs).await;
        });
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Announce { name, port, reply } => {
                self.start(Request::Announce { name, port }, Caller::Announced(reply));
            }
            Command::Lookup { name, reply } => self.start(Request::Lookup { name }, Caller::Peers(reply)),
            Command::Put { put, reply } => self.start(Request::Put(put), Caller::Put(reply)),
            Command::Get { target, salt, mode, reply } => {
                self.start(Request::Get { target, salt, mode }, Caller::Item(reply));
            }
            Command::Local { target, reply } => answer(reply, self.core.local(&target)),
            Command::KeepAnnounced { name, port, reply } => {
                let kept = self.core.keep_announced(now, name, port);
                answer(reply, kept.map_err(|_| DhtError::KeptFull { max: KEPT_MAX }));
            }
            Command::ForgetAnnounced { name, reply } => {
                self.core.forget_announced(&name);
                answer(reply, ());
            }
            Command::KeepItem { item, reply } => {
                let kept = self.core.keep_item(now, item);
                answer(reply, kept.map_err(|_| DhtError::KeptFull { max: KEPT_MAX }));
            }
            Command::ForgetItem { target, reply } => {
                self.core.forget_item(&target);
                answer(reply, ());
            }
            Command::KnownNodes { reply } => answer(reply, self.core.known_nodes()),
            Command::WalkFromNow { reply } => answer(reply, self.core.walk_from(now)),
            Command::WalkStored { mut walk, max, reply } => {
                let stored = self.core.walk_stored(now, &mut walk, max);
                answer(reply, (stored, walk));
            }
            Command::RestoreStored { stored, reply } => answer(reply, self.core.restore_stored(now, stored)),
            // Taken by the loop before it gets here.
            Command::Shutdown { reply } => answer(reply, ()),
        }
    }

    fn start(&mut self, request: Request, caller: Caller) {
        self.ops += 1;
        let op = OpId(self.ops);
        self.callers.insert(op, caller);
        self.handle(Input::Start { op, request });
    }

    fn done(&mut self, op: OpId, outcome: Outcome) {
        match (self.callers.remove(&op), outcome) {
            (Some(Caller::Announced(reply)), Outcome::Announced(result)) => {
                answer(reply, result.map_err(error));
            }
            (Some(Caller::Peers(reply)), Outcome::Peers(result)) => answer(reply, result.map_err(error)),
            (Some(Caller::Put(reply)), Outcome::Put(result)) => answer(reply, result.map_err(error)),
            (Some(Caller::Item(reply)), Outcome::Item(result)) => answer(reply, result.map_err(error)),
            (_, outcome) => debug_assert!(false, "operation {op:?} ended as {outcome:?}"),
        }
    }
}

fn verdict(item: &MutableItem, workers: &Workers) -> Verdict {
    let check = |k: &_, bytes: &_, sig: &_| workers.check(k, bytes, sig);
    item.clone().verify_by(check).map_or(Verdict::Bad, Verdict::Good)
}

/// Answers a caller, who may have stopped waiting.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _ = reply.send(value);
}

fn error(error: OpError) -> DhtError {
    match error {
        OpError::NoNodes => DhtError::NoNodes,
        OpError::AllFailed { asked } => DhtError::AllFailed { asked },
        OpError::Refused(refusal) => DhtError::Refused(refusal),
        OpError::Busy => DhtError::Busy,
    }
}
