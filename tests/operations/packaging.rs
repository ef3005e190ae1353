//! The systemd unit starts what it says, and the scripts that the program prints are taken by a shell.

use super::run;
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};
use vintner::store::DirLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_unit_and_its_settings_are_what_the_program_takes() {
    let unit = std::fs::read_to_string(Path::new(ROOT).join("packaging/systemd/vintner.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/vintner ")).unwrap();
    let settings = format!("{ROOT}/packaging/systemd/vintner.toml");
    let line = start.replace("/etc/vintner/vintner.toml", &settings);
    let args: Vec<&str> = line.split(' ').chain(["--print-config"]).collect();
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("data_dir = \"/var/lib/vintner\"") && out.contains("0.0.0.0:1337"), "{out}");
}

#[test]
fn the_unit_of_a_grape_and_its_settings_are_what_the_program_takes() {
    let unit =
        std::fs::read_to_string(Path::new(ROOT).join("packaging/systemd/vintner-grape.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/vintner ")).unwrap();
    let line = start.replace("/etc/vintner/grape.toml", &format!("{ROOT}/packaging/systemd/grape.toml"));
    let args: Vec<&str> = line.split(' ').chain(["--print-config"]).collect();
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("data_dir = \"/var/lib/vintner-grape\"") && out.contains("grape.example:20001"),
        "{out}"
    );
    assert!(unit.contains("StateDirectory=vintner-grape\n"));
}

/// A supervisor that tries again for ever helps against a port that may be free the next time, and against nothing else.
#[test]
fn a_unit_does_not_start_again_what_would_end_so_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let ended = |args: &[&str]| {
        let (code, _, err) = run(args);
        assert!(err.contains("\nnext: "), "{err}");
        code
    };
    let node =
        ["node", "--bootstrap", "", "--api", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--dht", "127.0.0.1:0"];
    let held = DirLock::take(dir.path()).unwrap();
    let in_use = ended(&[&node[..], &["--data-dir", data]].concat());
    assert_eq!(ended(&["grape", "--dp", "0", "--aph", "0", "--bn", "", "--data-dir", data]), in_use);
    drop(held);
    std::fs::write(dir.path().join("vintner.db"), "something else").unwrap();
    let unusable = ended(&[&node[..], &["--data-dir", data]].concat());
    let usage = ended(&["node", "--config", "/nonexistent"]);
    assert_eq!(ended(&["grape", "--dp", "1"]), usage);
    for unit in ["vintner", "vintner-grape"] {
        let unit = std::fs::read_to_string(format!("{ROOT}/packaging/systemd/{unit}.service")).unwrap();
        let line = format!("RestartPreventExitStatus={usage} {in_use} {unusable}");
        assert!(unit.lines().any(|found| found == line), "{line} is not in {unit}");
    }
}

#[test]
fn bash_takes_the_completions() {
    let (code, script, _) = run(&["completions", "bash"]);
    assert!(code == 0 && script.contains("offers"));
    let mut bash =
        Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(run(&["completions", "tcsh"]).0, 2);
}

#[test]
fn manual_pages_are_written_or_the_main_one_printed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("man1");
    let (code, out, _) = run(&["man", at.to_str().unwrap()]);
    assert!(code == 0 && out.contains("pages written"), "{out}");
    assert!(at.join("vintner-offers-list.1").exists());
    let (code, page, _) = run(&["man"]);
    assert!(code == 0 && page.contains(".TH vintner 1"), "{page}");
    let (code, _, err) = run(&["man", "/dev/null/x"]);
    assert!(code == 1 && err.contains("\nnext: choose a directory"), "{err}");
}
