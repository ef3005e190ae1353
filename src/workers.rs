//! A bounded pool of threads for signatures, so that the writer never verifies one, and a socket's task no more than one at a time.
//!
//! Waking a thread and being woken by it costs more than a signature. So a single job that finds the pool idle is done where it is
//! ([`Workers::idle`]); as soon as there is more to do, the threads do it.
//!
//! A job is refused, not queued without end, when [`QUEUE_MAX`] others wait: the caller drops what it was about to check (a
//! hint that will come again) or answers that the node is busy.

mod once;

pub use once::Once;

use crate::{
    identity::{PublicKey, Signature},
    metrics::Counter,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};
use tokio::sync::oneshot;

/// Jobs that may wait. At 40 µs a strict verification and two threads this is about 80 ms of work.
pub const QUEUE_MAX: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the pool; clones share it. The threads end when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Workers {
    jobs: SyncSender<Job>,
    load: Arc<Load>,
    /// Jobs that wait or are being done.
    under_way: Arc<AtomicUsize>,
    once: Option<Arc<Once>>,
}

/// The pool was idle: one job may be done here and now.
#[derive(Debug)]
pub struct Turn<'a>(&'a Workers);

/// How busy the pool is.
#[derive(Debug, Default)]
pub struct Load {
    /// Jobs that were taken on.
    pub taken: Counter,
    /// Of these, the ones that a thread has begun.
    pub begun: Counter,
    /// Jobs that were refused because the queue was full.
    pub refused: Counter,
}

/// The queue is full: the work was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{QUEUE_MAX} signature checks are waiting already; try again in a moment")]
pub struct Busy;

impl Workers {
    /// Starts `threads` threads (at least one).
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_MAX);
        let (queue, load) = (Arc::new(Mutex::new(queue)), Arc::<Load>::default());
        let under_way = Arc::<AtomicUsize>::default();
        for n in 0..threads.max(1) {
            let (queue, load, under_way) = (Arc::clone(&queue), Arc::clone(&load), Arc::clone(&under_way));
            thread::Builder::new()
                .name(format!("verify-{n}"))
                .spawn(move || work(&queue, &load, &under_way))?;
        }
        Ok(Self { jobs, load, under_way, once: None })
    }

    /// Has what is checked through [`Workers::check`] checked once, for whoever hears the same thing several ways.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.once = Some(Arc::default());
        self
    }

    /// What was checked a moment ago, if that is remembered.
    pub fn once(&self) -> Option<&Once> {
        self.once.as_deref()
    }

    /// Whether `signature` is `signer`'s on `message`. To be called where work is done, by a thread of the pool or in a [`Turn`].
    pub fn check(&self, signer: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let verify = || signer.verifies(message, signature);
        match &self.once {
            Some(once) => once.check([&signer.0, &signature.0, message], verify),
            None => verify(),
        }
    }

    /// Hands a job over, or refuses it at once.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => {
                self.load.taken.inc();
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.under_way.fetch_sub(1, Ordering::Relaxed);
                self.load.refused.inc();
                Err(Busy)
            }
        }
    }

    /// How busy the pool is.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Leave to do one job here, when nothing else is under way.
    pub fn idle(&self) -> Option<Turn<'_>> {
        let begun = self.under_way.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
        begun.is_ok().then(|| Turn(self))
    }

    /// Runs `job` here when the pool is idle, else on the pool, and gives its result.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        if let Some(turn) = self.idle() {
            return turn.run(job);
        }
        let (reply, result) = oneshot::channel();
        self.submit(move || {
            // The caller may have stopped waiting; then nobody needs the result.
            let _ = reply.send(job());
        })?;
        result.await.map_err(|_| Busy)
    }
}

impl Turn<'_> {
    /// Does it. A job that panics is told as [`Busy`], as on the pool.
    pub fn run<T>(self, job: impl FnOnce() -> T) -> Result<T, Busy> {
        self.0.load.taken.inc();
        self.0.load.begun.inc();
        catch_unwind(AssertUnwindSafe(job)).map_err(|_| Busy)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn work(queue: &Mutex<Receiver<Job>>, load: &Load, under_way: &AtomicUsize) {
    loop {
        // One thread waits inside `recv` and the others for the lock; whoever has a job lets the next one wait.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        load.begun.inc();
        // A job that panics has said so on stderr, and its caller is told `Busy`. The thread lives on: without threads the node
        // would refuse everything and look alive.
        let _ = catch_unwind(AssertUnwindSafe(job));
        under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let workers = Workers::start(1).unwrap();
        assert_eq!(workers.run(|| panic!("a defect")).await, Err::<(), _>(Busy));
        assert_eq!(workers.run(|| 6 * 7).await, Ok(42));
    }

    #[tokio::test]
    async fn one_job_is_done_at_once_and_a_second_beside_it_by_a_thread() {
        let workers = Workers::start(1).unwrap();
        let here = thread::current().id();
        assert_eq!(workers.run(|| thread::current().id()).await, Ok(here));
        let turn = workers.idle().unwrap();
        assert!(workers.idle().is_none());
        assert_ne!(workers.run(|| thread::current().id()).await, Ok(here));
        assert_eq!(turn.run(|| thread::current().id()), Ok(here));
        while workers.idle().is_none() {
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn results_come_back_and_a_full_queue_refuses() {
        let workers = Workers::start(1).unwrap();
        assert_eq!(workers.run(|| 6 * 7).await, Ok(42));

        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let wait = move || {
            begin.send(()).unwrap_or_default();
            gate.recv().unwrap_or_default();
        };
        workers.submit(wait).unwrap();
        begun.recv().unwrap();
        let refused = (0..=QUEUE_MAX + 1).find(|_| workers.submit(|| ()).is_err());
        assert_eq!(refused, Some(QUEUE_MAX));
        let load = workers.load();
        assert_eq!((load.begun.get(), load.refused.get()), (2, 1));
        drop(release);
    }
}
