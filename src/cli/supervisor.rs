//! Children of `devnet`: started, watched, started again, stopped.
//!
//! A child holds the reading end of a pipe as its standard input and stops when that ends. So closing it is how it is asked to
//! stop, and nothing outlives a parent that was killed.

use anyhow::{Context, Result, bail};
use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
};

/// The pause before a child that died is started again; it doubles with each death.
const RESTART_AFTER_MIN: Duration = Duration::from_millis(500);
/// The longest such pause.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(10);
/// A child that lived so long had started well: its deaths are counted anew.
const LIVED_WELL: Duration = Duration::from_secs(30);
/// Deaths in a row after which there is no use in starting it again.
const DEATHS_MAX: u32 = 6;
/// How long a child may take to stop: a node takes two seconds, or a commit's patience with a busy disk.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What to run, and under which name its lines are shown.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Task {
    /// Keeps the child running until `stop` says so. An error means that it cannot be kept running.
    pub(crate) async fn keep_running(self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut deaths = 0;
        loop {
            let started = Instant::now();
            let (mut child, lifeline) = self.start()?;
            let status = tokio::select! {
                status = child.wait() => status.with_context(|| format!("{} cannot be watched", self.name))?,
                () = told(&mut stop) => return self.end(child, lifeline).await,
            };
            deaths = if started.elapsed() >= LIVED_WELL { 1 } else { deaths + 1 };
            if deaths >= DEATHS_MAX {
                bail!(
                    "{} ended {deaths} times in a row ({status}); its lines above say why, mend that and start again",
                    self.name
                );
            }
            let pause = RESTART_AFTER_MIN.saturating_mul(1 << (deaths - 1).min(8)).min(RESTART_AFTER_MAX);
            self.tell(&format!("ended ({status}); it is started again in {:.1} s", pause.as_secs_f32()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told(&mut stop) => return Ok(()),
            }
        }
    }

    fn tell(&self, line: &str) {
        super::output::print_if_possible(&format!("{:8} | {line}\n", self.name));
    }

    /// The child and its lifeline. The latter is taken out, because waiting for a child closes what it still holds.
    fn start(&self) -> Result<(Child, Option<ChildStdin>)> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).arg("--until-stdin-ends").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in the terminal is for the parent, which then stops its children in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(show(self.clone(), out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(show(self.clone(), err));
        }
        let lifeline = child.stdin.take();
        Ok((child, lifeline))
    }

    async fn end(&self, mut child: Child, lifeline: Option<ChildStdin>) -> Result<()> {
        drop(lifeline);
        let ended: Option<std::io::Result<ExitStatus>> =
            tokio::time::timeout(STOP_WITHIN, child.wait()).await.ok();
        match ended {
            Some(Ok(_)) => Ok(()),
            _ => {
                self.tell("does not stop; it is killed (what it acknowledged is on disk)");
                child.kill().await.with_context(|| format!("{} cannot be killed", self.name))
            }
        }
    }
}

/// Ends when the parent stops. An error means that it is gone, which is a stop too.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Shows each line under the child's name.
async fn show(task: Task, lines: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        task.tell(&line);
    }
}
