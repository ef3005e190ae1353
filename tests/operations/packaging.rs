//! The systemd unit starts what it says, and the scripts that the program prints are taken by a shell.

use super::run;
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

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
