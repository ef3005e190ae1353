//! A bounded pool of threads for signatures, so that neither the writer nor a socket task ever verifies one.
//!
//! A job is refused, not queued without end, when [`QUEUE_MAX`] others wait: the caller drops what it was about to check (a
//! hint that will come again) or answers that the node is busy.

use crate::metrics::Counter;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
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
}

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
        for n in 0..threads.max(1) {
            let (queue, load) = (Arc::clone(&queue), Arc::clone(&load));
            thread::Builder::new().name(format!("verify-{n}")).spawn(move || work(&queue, &load))?;
        }
        Ok(Self { jobs, load })
    }

    /// Hands a job over, or refuses it at once.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => {
                self.load.taken.inc();
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.load.refused.inc();
                Err(Busy)
            }
        }
    }

    /// How busy the pool is.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Runs `job` on the pool and waits for its result.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let (reply, result) = oneshot::channel();
        self.submit(move || {
            // The caller may have stopped waiting; then nobody needs the result.
            let _ = reply.send(job());
        })?;
        result.await.map_err(|_| Busy)
    }
}

fn work(queue: &Mutex<Receiver<Job>>, load: &Load) {
    loop {
        // One thread waits inside `recv` and the others for the lock; whoever has a job lets the next one wait.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        load.begun.inc();
        // A job that panics has said so on stderr, and its caller is told `Busy`. The thread lives on: without threads the node
        // would refuse everything and look alive.
        let _ = catch_unwind(AssertUnwindSafe(job));
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
