//! How a running command learns that it should stop.

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;

/// Ends when the process is asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    until_stdin_ends: bool,
}

impl Stop {
    pub(crate) fn new(until_stdin_ends: bool) -> Self {
        Self { until_stdin_ends }
    }

    /// Ends at Ctrl-C, at SIGTERM, and (for children of `devnet`) at the end of standard input.
    pub(crate) async fn asked(self) -> Result<()> {
        tokio::select! {
            signalled = signal() => signalled,
            () = stdin_ended(self.until_stdin_ends) => Ok(()),
        }
    }
}

/// Ends at the end of standard input; never when nobody watches it.
async fn stdin_ended(watched: bool) {
    if !watched {
        return std::future::pending().await;
    }
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

async fn signal() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended.context("cannot listen for Ctrl-C"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("cannot listen for Ctrl-C")
}
