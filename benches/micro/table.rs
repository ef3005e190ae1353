//! The measured steps as a table, read back from what criterion writes.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Writes the medians of everything that was measured since `start` to `target/bench/steps.md`, and what was measured otherwise. A
/// run that measured nothing, such as one that only lists the steps, leaves the last table as it is.
pub(super) fn write(start: SystemTime, others: &[(String, String)]) -> std::io::Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let mut found = Vec::new();
    collect(&target.join("criterion"), start, &mut found);
    found.sort();
    if found.is_empty() && others.is_empty() {
        return Ok(());
    }
    let steps = found.into_iter().map(|(_, name, nanos)| (name, time(nanos as f64)));
    let lines: Vec<String> =
        steps.chain(others.iter().cloned()).map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    fs::create_dir_all(target.join("bench"))?;
    fs::write(target.join("bench/steps.md"), format!("| step | median |\n|---|--:|\n{}", lines.concat()))
}

/// When it was measured, its name, nanoseconds.
type Step = (SystemTime, String, u64);

fn collect(dir: &Path, start: SystemTime, found: &mut Vec<Step>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("new") {
            found.extend(step(&path).filter(|(at, ..)| *at >= start));
        } else if path.is_dir() {
            collect(&path, start, found);
        }
    }
}

fn step(dir: &Path) -> Option<Step> {
    let read = |name: &str| -> Option<(PathBuf, Value)> {
        let path = dir.join(name);
        let text = fs::read_to_string(&path).ok()?;
        Some((path, serde_json::from_str(&text).ok()?))
    };
    let (path, estimates) = read("estimates.json")?;
    let (_, benchmark) = read("benchmark.json")?;
    let nanos = estimates["median"]["point_estimate"].as_f64()?;
    let at = fs::metadata(path).and_then(|file| file.modified()).ok()?;
    Some((
        at,
        format!("{}: {}", benchmark["group_id"].as_str()?, benchmark["function_id"].as_str()?),
        nanos as u64,
    ))
}

/// Three digits and a unit.
pub(super) fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n => (n / 1e6, "ms"),
    };
    let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.places$} {unit}")
}
