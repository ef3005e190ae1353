//! What the figures were measured on.

use super::{figures::median, processes::stock_dir};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Lines for people, in Markdown.
pub(super) fn description(dir: &Path, with_stock: bool) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut lines = vec![
        format!("- Processor: {}, {cores} cores", field("/proc/cpuinfo", "model name").unwrap_or_default()),
        format!("- Memory: {}", memory()),
        format!("- System: {}, kernel {}", system(), read("/proc/sys/kernel/osrelease")),
        format!("- Data on: {}", mount(dir).map_or_else(|| "unknown".into(), |(kind, _)| kind)),
        format!("- vintner {}", env!("CARGO_PKG_VERSION")),
    ];
    if let Ok(rust) = Command::new("rustc").arg("--version").output() {
        lines.push(format!("- Built with {}", String::from_utf8_lossy(&rust.stdout).trim()));
    }
    if with_stock {
        lines.push(format!("- Stock: {}", stock()));
    }
    lines
}

/// Refuses a file system in memory: there a commit costs nothing, and ours would look faster than it is.
pub(super) fn check_disk(dir: &Path) -> Result<()> {
    let kind = mount(dir).map(|(kind, _)| kind).unwrap_or_default();
    ensure!(
        !matches!(kind.as_str(), "tmpfs" | "ramfs"),
        "{} is in memory ({kind}), where nothing is durable; choose a directory on a disk with --dir",
        dir.display()
    );
    Ok(())
}

/// What a sync of four pages of a file takes that does not grow, in milliseconds: the median of 100, a pause before each, as between
/// the commits of a node that has little to do.
pub(super) fn sync_ms(dir: &Path) -> Result<f64> {
    let path = dir.join("sync");
    let pages = vec![7; 4 * 4096];
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    for n in 0..100 {
        file.write_all_at(&pages, n * pages.len() as u64)?;
    }
    file.sync_all()?;
    let mut took = Vec::new();
    for n in 0..100 {
        thread::sleep(Duration::from_millis(5));
        file.write_all_at(&pages, n * pages.len() as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(&path)?;
    Ok(median(&mut took).unwrap_or_default())
}

/// How much the machine has to do besides, over the last minute.
pub(super) fn load_average() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// In GB (10^9 bytes).
fn memory() -> String {
    let kib =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or_else(|| "unknown".into(), |kib| format!("{:.1} GB", kib * 1024.0 / 1e9))
}

fn system() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

/// The kind of file system that `dir` is on, and where that is mounted: the longest mount point that `dir` starts with.
fn mount(dir: &Path) -> Option<(String, String)> {
    let dir = fs::canonicalize(dir).ok()?;
    let mounts = read("/proc/mounts");
    let points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let (point, kind) =
        points.filter(|(point, _)| dir.starts_with(point)).max_by_key(|(point, _)| point.len())?;
    Some((kind.to_owned(), point.to_owned()))
}

fn stock() -> String {
    let node = Command::new("node").arg("--version").output();
    let node = node.map_or_else(|_| "?".into(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let package = fs::read_to_string(stock_dir().join("package.json")).unwrap_or_default();
    let package: Value = serde_json::from_str(&package).unwrap_or_default();
    let versions = package["dependencies"].as_object().into_iter().flatten();
    let versions: Vec<String> =
        versions.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?"))).collect();
    format!("Node.js {node}, {}", versions.join(", "))
}
