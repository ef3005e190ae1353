//! The table: medians over the rounds, ratios, and what was promised.

use super::figures::{Figures, median};
use std::fmt::Write;

/// What a row should reach.
#[derive(Clone, Copy)]
enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// Times the stock figure of the same run.
    Times(f64),
}

struct Row {
    figure: &'static str,
    label: &'static str,
    unit: &'static str,
    /// Whether less is better.
    less: bool,
    goal: Goal,
}

const fn ms(figure: &'static str, label: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit: "ms", less: true, goal }
}

const fn rate(figure: &'static str, label: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit: "/s", less: false, goal }
}

const fn memory(figure: &'static str, label: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit: "MB", less: true, goal }
}

const fn cpu(figure: &'static str, label: &'static str) -> Row {
    Row { figure, label, unit: "µs", less: true, goal: Goal::None }
}

const fn share(figure: &'static str, label: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit: "%", less: true, goal }
}

const fn seconds(figure: &'static str, label: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit: "s", less: true, goal }
}

const fn number_to(figure: &'static str, label: &'static str, unit: &'static str, goal: Goal) -> Row {
    Row { figure, label, unit, less: true, goal }
}

const fn number_of(figure: &'static str, label: &'static str, unit: &'static str) -> Row {
    Row { figure, label, unit, less: true, goal: Goal::None }
}

/// In the order of `docs/benchmarks.md`, which explains each.
const ROWS: &[Row] = &[
    ms("create_p50_ms", "create, p50", Goal::AtMost(0.6)),
    ms("create_p99_ms", "create, p99", Goal::None),
    ms("visible_p50_ms", "visible on every other node, p50", Goal::AtMost(1.5)),
    ms("visible_p99_ms", "visible on every other node, p99", Goal::None),
    ms("bid_p50_ms", "bid from another node, p50", Goal::AtMost(1.5)),
    ms("bid_p99_ms", "bid from another node, p99", Goal::None),
    ms("gone_p50_ms", "gone everywhere, p50", Goal::None),
    ms("gone_p99_ms", "gone everywhere, p99", Goal::None),
    ms("sync_p50_ms", "the machine: one sync of its disk, p50", Goal::None),
    rate("creates_1_per_s", "creates, 1 connection", Goal::None),
    rate("creates_64_per_s", "creates, 64 connections", Goal::AtLeast(3500.0)),
    rate("creates_64_answered_per_s", "creates, 64 connections, listed or not", Goal::None),
    ms("creates_64_p99_ms", "a create among 64, p99", Goal::None),
    cpu("creates_64_servers_cpu_us", "processor time a create, all six processes"),
    memory("idle_mb", "memory, idle node", Goal::AtMost(20.0)),
    memory("full_maker_mb", "memory, maker of many offers", Goal::None),
    memory("full_reader_mb", "memory, reader of many offers", Goal::None),
    seconds("join_s", "a late joiner of 100,000 offers, from its start", Goal::AtMost(10.0)),
    seconds("join_fetch_s", "the same, from its first answer", Goal::None),
    cpu("join_own_cpu_us", "processor time a record, the joiner"),
    cpu("join_others_cpu_us", "processor time a record, all others"),
    number_to("join_record_kb", "memory a record of a replica", "kB", Goal::AtMost(2.0)),
    seconds("restart_s", "a restart with 100,000 records, until they are listed", Goal::AtMost(1.0)),
    rate("grape_get_1_per_s", "grape get, 1 connection", Goal::None),
    rate("grape_get_32_per_s", "grape get, 32 connections", Goal::Times(2.5)),
    rate("grape_lookup_1_per_s", "grape lookup, 1 connection", Goal::None),
    rate("grape_lookup_32_per_s", "grape lookup, 32 connections", Goal::Times(5.0)),
    rate("grape_put_1_per_s", "grape put, 1 connection", Goal::None),
    rate("grape_put_32_per_s", "grape put, 32 connections", Goal::Times(5.0)),
    rate("grape_announce_1_per_s", "grape announce, 1 connection", Goal::None),
    rate("grape_announce_32_per_s", "grape announce, 32 connections", Goal::Times(5.0)),
    cpu("grape_get_32_servers_cpu_us", "processor time a get, all six processes"),
    cpu("grape_lookup_32_servers_cpu_us", "processor time a lookup, all six processes"),
    cpu("grape_put_32_servers_cpu_us", "processor time a put, all six processes"),
    cpu("grape_announce_32_servers_cpu_us", "processor time an announce, all six processes"),
    rate("datagrams_ping_per_s", "one node, one core: pings", Goal::AtLeast(150_000.0)),
    rate(
        "datagrams_peers_of_nobody_per_s",
        "one node, one core: get_peers, nobody there",
        Goal::AtLeast(100_000.0),
    ),
    rate("datagrams_peers_per_s", "one node, one core: get_peers, ten peers", Goal::AtLeast(100_000.0)),
    rate("datagrams_get_per_s", "one node, one core: gets of an item", Goal::None),
    rate("datagrams_put_per_s", "one node, one core: verified puts", Goal::AtLeast(15_000.0)),
    cpu("datagrams_ping_cpu_us", "processor time a ping"),
    cpu("datagrams_peers_of_nobody_cpu_us", "processor time a get_peers, nobody there"),
    cpu("datagrams_peers_cpu_us", "processor time a get_peers, ten peers"),
    cpu("datagrams_get_cpu_us", "processor time a get datagram"),
    cpu("datagrams_put_cpu_us", "processor time a verified put"),
    ms("dead_node_lookup_p50_ms", "lookup with one of six nodes dead, p50", Goal::None),
    ms("dead_node_lookup_p99_ms", "lookup with one of six nodes dead, p99", Goal::AtMost(50.0)),
    memory("grape_idle_mb", "memory, idle grape", Goal::AtMost(10.0)),
    share("grape_idle_core_percent", "an idle grape's share of a core", Goal::AtMost(0.3)),
    memory("grape_full_mb", "memory, grape with 100,000 items", Goal::AtMost(200.0)),
    number_of("hundred_lookup_queries", "queries of a lookup among 100 nodes", ""),
    number_of("hundred_lookup_messages", "datagrams of a lookup among 100 nodes", ""),
    number_of("hundred_lookup_bytes", "bytes of a lookup among 100 nodes", "B"),
];

/// The DHT as a library, against the mainline crate.
const LIBRARY_ROWS: &[Row] = &[
    ms("library_announce_1_p50_ms", "announce, p50", Goal::None),
    ms("library_lookup_1_p50_ms", "lookup, p50", Goal::None),
    ms("library_put_1_p50_ms", "put, p50", Goal::None),
    ms("library_get_1_p50_ms", "get, p50", Goal::None),
    rate("library_announce_32_per_s", "announce, 32 at once", Goal::None),
    rate("library_lookup_32_per_s", "lookup, 32 at once", Goal::None),
    rate("library_put_32_per_s", "put, 32 at once", Goal::None),
    rate("library_get_32_per_s", "get, 32 at once", Goal::None),
];

/// The sum over all figures of this kind shows whether anything was answered wrongly.
const ERRORS: &str = "_errors";

fn of(rounds: &[Figures], figure: &str) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().filter_map(|round| round.get(figure).copied()).collect();
    median(&mut values)
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => {
            let digits = format!("{v:.0}");
            let (thousands, rest) = digits.split_at(digits.len() - 3);
            format!("{thousands},{rest}")
        }
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

impl Row {
    fn line(&self, ours: f64, stock: Option<f64>) -> String {
        let unit = self.unit;
        let show = |value: f64| format!("{} {unit}", number(value));
        let ratio =
            stock.filter(|_| ours > 0.0).map(|stock| if self.less { stock / ours } else { ours / stock });
        let (goal, reached) = match self.goal {
            Goal::AtMost(most) => (format!("≤ {}", show(most)), Some(most / ours)),
            Goal::AtLeast(least) => (format!("≥ {}", show(least)), Some(ours / least)),
            Goal::Times(times) => (format!("≥ {times}×"), ratio.map(|ratio| ratio / times)),
            Goal::None => (String::new(), None),
        };
        let verdict = match reached {
            None => String::new(),
            Some(reached) if reached >= 1.0 => "met".into(),
            Some(reached) => format!("{:.0} %", (reached * 100.0).floor()),
        };
        format!(
            "| {} | {} | {} | {} | {goal} | {verdict} |",
            self.label,
            show(ours),
            stock.map(show).unwrap_or_default(),
            ratio.map(|ratio| format!("{}×", number(ratio))).unwrap_or_default(),
        )
    }
}

/// The tables in Markdown: against the other system, and of the library, if it was measured.
pub(super) fn tables(ours: &[Figures], theirs: &[Figures], name: &str) -> String {
    let library = table(LIBRARY_ROWS, ours, theirs, "mainline crate");
    let mut text = table(ROWS, ours, theirs, name);
    if library.lines().count() > HEAD_LINES {
        text += "\nThe DHT called as a library, in a ring of six of its own kind in one process:\n\n";
        text += &library;
    }
    text
}

/// Lines of a table without rows.
const HEAD_LINES: usize = 2;

fn table(rows: &[Row], ours: &[Figures], theirs: &[Figures], name: &str) -> String {
    let mut text = format!("| what | vintner | {name} | better by | goal | |\n|---|--:|--:|--:|--:|--:|\n");
    for row in rows {
        if let Some(value) = of(ours, row.figure) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", row.line(value, of(theirs, row.figure)));
        }
    }
    text
}

/// How many answers of these rounds were wrong or missing.
pub(super) fn errors(rounds: &[Figures]) -> f64 {
    let each = |round: &Figures| -> f64 {
        round.iter().filter(|(name, _)| name.ends_with(ERRORS)).map(|(_, count)| count).sum()
    };
    rounds.iter().map(each).sum()
}
