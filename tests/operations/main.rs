//! What an operator does beside trading: watching, checking, copying, stopping. With real processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod addresses;
mod backup;
mod disk;
mod doctor;
mod heads;
mod packaging;
mod reach;
mod recover;
mod shutdown;
mod standing;
#[path = "../testnet/mod.rs"]
mod testnet;
mod watch;

use std::process::Output;

/// Exit code, standard output, standard error.
fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> (i32, String, String) {
    said(testnet::process::vintner(args).output().unwrap())
}
