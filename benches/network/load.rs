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

/// Longer than 64 requests wait for each other on the slowest side and a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole answer, nearly always.
const READ_BYTES: usize = 16 << 10;
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

/// One connection's requests. An answer that does not come counts as wrong, and its connection is replaced.
async fn connection<W: Work>(shared: Rc<Shared<W>>) -> Result<()> {
    let mut stream = connect(shared.address).await?;
    let (mut out, mut body, mut read) = (Vec::new(), String::new(), Vec::with_capacity(READ_BYTES));
    while shared.goes_on() {
        shared.left.set(shared.left.get() - 1);
        out.clear();
        body.clear();
        {
            let mut work = shared.work.borrow_mut();
            let path = work.next(&mut body);
            write_request(&mut out, "POST", shared.address, path, &body);
        }
        let sent = Instant::now();
        match exchange(&mut stream, &out, &mut read).await {
            Ok((status, text)) => shared.count(status, &text, sent.elapsed()),
            Err(error) => {
                shared.count_wrong(format!("{error:#}"));
                stream = connect(shared.address).await?;
            }
        }
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("{address} takes no connection"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, out: &[u8], read: &mut Vec<u8>) -> Result<(u16, String)> {
    stream.write_all(out).await.context("no request was taken")?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer(stream, read)).await;
    answer.with_context(|| format!("no answer for {ANSWER_TIMEOUT:?}"))?
}

async fn answer(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<(u16, String)> {
    read.clear();
    loop {
        if stream.read_buf(read).await.context("no answer")? == 0 {
            bail!("the connection was closed instead of an answer");
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
        if self.work.borrow_mut().is_right(status, body) {
            let mut load = self.load.borrow_mut();
            load.right += 1;
            load.latencies.add(took);
        } else {
            self.count_wrong(format!("{status} {body:.200}"));
        }
    }

    fn count_wrong(&self, sample: String) {
        let mut load = self.load.borrow_mut();
        load.wrong += 1;
        if load.samples.len() < WRONG_KEPT {
            load.samples.push(sample);
        }
    }
}
