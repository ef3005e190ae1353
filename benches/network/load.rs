//! Requests a second: one thread, many kept connections, the next request of each as soon as its answer is there.

use super::{
    figures::{Latencies, cpu_of_this_process},
    http::{frame, write_request},
};
use anyhow::{Context, Result, bail};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

/// After the load's end, for the answers that are on their way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// What is kept of wrong answers, for the report.
const WRONG_KEPT: usize = 3;

/// What to send, and what to think of the answer.
pub(super) trait Work {
    /// Path and body of the next request.
    fn next(&mut self, body: &mut String) -> &str;
    /// Whether the answer is right.
    fn is_right(&mut self, status: u16, body: &str) -> bool;
}

/// What a load found.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) right: u64,
    pub(super) wrong: u64,
    pub(super) samples: Vec<String>,
    pub(super) latencies: Latencies,
    pub(super) elapsed: Duration,
    /// Processor time that this client took.
    pub(super) client_cpu: Duration,
}

impl Load {
    pub(super) fn per_second(&self) -> f64 {
        self.right as f64 / self.elapsed.as_secs_f64()
    }
}

/// When a load stops: after a time, or after a number of requests.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    Elapsed(Duration),
    Requests(u64),
}

struct Shared<W> {
    work: RefCell<W>,
    load: RefCell<Load>,
    left: Cell<u64>,
    ends: Option<Instant>,
    address: SocketAddr,
}

/// Drives `work` against `address`; gives it back with what was found. What is under way when the time ends is waited for and
/// counts, and the time that counts is that until the last answer.
pub(super) fn drive<W: Work + 'static>(
    address: SocketAddr,
    connections: usize,
    until: Until,
    work: W,
) -> Result<(W, Load)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let (left, ends) = match until {
        Until::Elapsed(time) => (u64::MAX, Some(started + time)),
        Until::Requests(count) => (count, None),
    };
    let cpu = cpu_of_this_process()?;
    let shared = Rc::new(Shared {
        work: RefCell::new(work),
        load: RefCell::default(),
        left: Cell::new(left),
        ends,
        address,
    });
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..connections).map(|_| local.spawn_local(connection(Rc::clone(&shared)))).collect();
    runtime.block_on(local.run_until(async {
        for task in tasks {
            task.await.context("a connection's task failed")??;
        }
        anyhow::Ok(())
    }))?;
    drop(local);
    let shared = Rc::into_inner(shared).context("a connection is still in use")?;
    let mut load = shared.load.into_inner();
    load.elapsed = started.elapsed();
    load.client_cpu = cpu_of_this_process()?.saturating_sub(cpu);
    Ok((shared.work.into_inner(), load))
}

async fn connection<W: Work>(shared: Rc<Shared<W>>) -> Result<()> {
    let mut stream = TcpStream::connect(shared.address).await.context("a server takes no connection")?;
    stream.set_nodelay(true)?;
    let (mut out, mut body, mut read) = (Vec::new(), String::new(), Vec::with_capacity(16 << 10));
    while shared.goes_on() {
        shared.left.set(shared.left.get() - 1);
        out.clear();
        body.clear();
        {
            let mut work = shared.work.borrow_mut();
            // The path borrows the work, the body is the caller's.
            let path = work.next(&mut body).to_owned();
            write_request(&mut out, "POST", shared.address, &path, &body);
        }
        let sent = Instant::now();
        stream.write_all(&out).await.context("a server takes no request")?;
        let answer = tokio::time::timeout(DRAIN_TIMEOUT, answer(&mut stream, &mut read)).await;
        let (status, text) = answer.with_context(|| format!("no answer for {DRAIN_TIMEOUT:?}"))??;
        shared.count(status, &text, sent.elapsed());
    }
    Ok(())
}

async fn answer(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<(u16, String)> {
    read.clear();
    loop {
        if stream.read_buf(read).await.context("a server gave no answer")? == 0 {
            bail!("a server closed its connection instead of answering");
        }
        if let Some(frame) = frame(read)? {
            return Ok((frame.status, frame.text(read)?));
        }
    }
}

impl<W: Work> Shared<W> {
    fn goes_on(&self) -> bool {
        self.left.get() > 0 && self.ends.is_none_or(|ends| Instant::now() < ends)
    }

    fn count(&self, status: u16, body: &str, took: Duration) {
        let right = self.work.borrow_mut().is_right(status, body);
        let mut load = self.load.borrow_mut();
        if right {
            load.right += 1;
            load.latencies.add(took);
        } else {
            load.wrong += 1;
            if load.samples.len() < WRONG_KEPT {
                load.samples.push(format!("{status} {body:.200}"));
            }
        }
    }
}
