//! The process itself, under the names that every Prometheus client gives it, from `/proc`. Elsewhere than on Linux these
//! metrics are missing rather than wrong.

use super::Page;
use std::fs;

/// `/proc` counts processor time in hundredths of a second on every machine that Linux runs on (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// Writes version and process.
pub fn write(page: &mut Page) {
    page.gauge("vintner_build_info", "The program's version; always 1")
        .at(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let status = read("/proc/self/status");
    let kilobytes = |name: &str| field(&status, name).and_then(|value| value.parse::<u64>().ok());
    if let Some(resident) = kilobytes("VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Memory that the process holds in RAM")
            .is(resident * 1024);
    }
    if let Some(size) = kilobytes("VmSize:") {
        page.gauge("process_virtual_memory_bytes", "Addresses that the process has reserved").is(size * 1024);
    }
    if let Some(threads) = kilobytes("Threads:") {
        page.gauge("process_threads", "Threads of the process").is(threads);
    }
    // After the name, which is in brackets and may hold anything: the fields from the third on.
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = |n: usize| fields.get(n - 3).and_then(|field| field.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
        page.counter("process_cpu_seconds_total", "Processor time that the process has used")
            .is((user + system) as f64 / TICKS_A_SECOND);
    }
    let booted = field(&read("/proc/stat"), "btime").and_then(|at| at.parse::<u64>().ok());
    if let (Some(booted), Some(started)) = (booted, ticks(22)) {
        page.gauge("process_start_time_seconds", "When the process started, since 1970")
            .is(booted as f64 + started as f64 / TICKS_A_SECOND);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        page.gauge("process_open_fds", "Open files and sockets").is(open.count().saturating_sub(1));
    }
    let limits = read("/proc/self/limits");
    let max = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if let Some(max) = max.and_then(|max| max.parse::<u64>().ok()) {
        page.gauge("process_max_fds", "Open files and sockets that the system allows").is(max);
    }
}

/// What is not there reads as nothing.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first word after `name` at the start of a line.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.finish();
        let value = |name: &str| field(&text, &format!("{name} ")).unwrap().parse::<f64>().unwrap();
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(value("process_cpu_seconds_total") < 86_400.0);
    }
}
