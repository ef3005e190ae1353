//! `vintner grape --status`: what a running grape counts, for people.
//!
//! It reads the page that the grape shows Prometheus, whatever stands on it: a figure that is new there is new here, without a
//! word of this file. Only how numbers are written depends on their names' ends.

use super::settings::Settings;
use crate::{
    cli::{
        Exit,
        healthcheck::{exchange, reachable},
        output::{self, facts},
    },
    grape::shown,
    time::UnixMillis,
};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Where a grape is asked when nothing says where it is: the first one of `vintner devnet`.
const USUAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 30_001);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    http: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    metrics: Vec<Sample>,
}

/// Asks and prints.
pub(super) async fn run(settings: &Settings, json: bool) -> Result<Exit> {
    let (given, dir) = settings.place();
    let kept = dir.and_then(shown);
    let http = match (given.or(kept.as_ref().and_then(|kept| kept.http)), dir) {
        (Some(http), _) => reachable(http),
        (None, Some(dir)) => bail!(
            "{} does not say where a grape's HTTP API is; start one with this --data-dir, or name it with --aph",
            dir.display()
        ),
        (None, None) => USUAL.into(),
    };
    let ask = exchange(http, format!("GET /metrics HTTP/1.1\r\nhost: {http}\r\n"), "");
    let answer = tokio::time::timeout(ANSWER_WITHIN, ask).await;
    let (status, page) = answer
        .with_context(|| {
            format!("{http} gave no answer within {} s; look at its log", ANSWER_WITHIN.as_secs())
        })?
        .with_context(|| {
            format!("no grape answers at {http}; start it, or name another with --aph or --data-dir")
        })?;
    let samples = read(&page);
    if status != 200 || samples.is_empty() {
        bail!("{http} answers {status} {page:.100}, not like a `vintner grape`; a stock grape has no status");
    }
    // The id in a directory is of the grape that was asked only if that is where it said it would be.
    let node_id = kept.filter(|kept| kept.http.map(reachable) == Some(http)).map(|kept| kept.id.to_string());
    if json {
        output::print_json(&Report { http, node_id, metrics: samples })?;
    } else {
        output::print(&human(http, node_id, &samples))?;
    }
    Ok(Exit::Done)
}

/// The samples of a page, in its order. What is no sample is passed over.
fn read(page: &str) -> Vec<Sample> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
    let labels = labels.strip_suffix('}')?.split("\",").filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, value })
}

/// Names and values below each other. What is 0 is only counted, and of histograms their number and mean are shown.
fn human(http: SocketAddr, node_id: Option<String>, samples: &[Sample]) -> String {
    let mut rows =
        vec![("grape".to_owned(), Some(format!("http://{http}"))), ("node id".to_owned(), node_id)];
    let spread: BTreeSet<&str> =
        samples.iter().filter_map(|sample| sample.name.strip_suffix("_bucket")).collect();
    let mut zeros = 0;
    for sample in samples {
        let of = |suffix| sample.name.strip_suffix(suffix).filter(|name| spread.contains(name));
        if of("_bucket").is_some() || of("_sum").is_some() {
            continue;
        }
        if sample.value == 0.0 {
            zeros += 1;
            continue;
        }
        let told = match of("_count") {
            None => (told_name(&sample.name, &sample.labels), told(&sample.name, sample)),
            Some(name) => {
                let is_sum = |other: &&Sample| {
                    other.name.strip_suffix("_sum") == Some(name) && other.labels == sample.labels
                };
                let sum = samples.iter().find(is_sum).map_or(0.0, |sum| sum.value);
                let mean = Duration::try_from_secs_f64(sum / sample.value).unwrap_or_default();
                (told_name(name, &sample.labels), format!("{} times, {mean:.1?} on average", sample.value))
            }
        };
        rows.push((told.0, Some(told.1)));
    }
    rows.push(("at 0".to_owned(), Some(format!("{zeros} more figures, see --json"))));
    let rows: Vec<(&str, Option<String>)> =
        rows.iter().map(|(name, value)| (&**name, value.clone())).collect();
    facts(&rows)
}

/// `vintner_dht_errors_sent_total{code="203"}` is `dht errors sent, code 203`.
fn told_name(name: &str, labels: &BTreeMap<String, String>) -> String {
    let name = name.trim_start_matches("vintner_");
    let units = ["_total", "_bytes", "_seconds"];
    let name = units.iter().fold(name, |name, unit| name.strip_suffix(unit).unwrap_or(name));
    let labels = labels.iter().map(|(label, value)| format!(", {} {value}", label.replace('_', " ")));
    name.replace('_', " ") + &labels.collect::<String>()
}

fn told(name: &str, sample: &Sample) -> String {
    let value = sample.value;
    let name = name.strip_suffix("_total").unwrap_or(name);
    if name.ends_with("_bytes") {
        return if value < 1024.0 * 1024.0 {
            format!("{:.1} KiB", value / 1024.0)
        } else {
            format!("{:.1} MiB", value / (1024.0 * 1024.0))
        };
    }
    if name.ends_with("_time_seconds") {
        return UnixMillis((value * 1000.0) as u64).to_string();
    }
    let unit = if name.ends_with("_seconds") { " s" } else { "" };
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Histogram, LATENCY, Page};
    use proptest::prelude::*;

    fn page() -> String {
        let mut page = Page::default();
        page.bound("things", 3);
        page.gauge("vintner_grape_state_bytes", "Things held").is(5 << 20);
        page.gauge("process_start_time_seconds", "Start").is(1_795_262_400.5);
        page.counter("vintner_none_total", "None").is(0);
        let errors = &[("code", "203"), ("to", "a b")];
        page.counter("vintner_dht_errors_sent_total", "Errors").at(errors, 2);
        let times = Histogram::new(&LATENCY);
        times.observe(2_000_000);
        times.observe(4_000_000);
        page.histogram("vintner_x_seconds", "X").spread(&[("operation", "get")], &times);
        page.finish()
    }

    #[test]
    fn whatever_stands_on_the_page_is_shown() {
        let http = "127.0.0.1:30001".parse().unwrap();
        let shown = human(http, Some("ab".into()), &read(&page()));
        let rows: Vec<String> =
            shown.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            rows,
            [
                "grape http://127.0.0.1:30001",
                "node id ab",
                "grape state 5.0 MiB",
                "process start time 2026-11-21T12:00:00.500Z",
                "dht errors sent, code 203, to a b 2",
                "x, operation get 2 times, 3.0ms on average",
                "bound hits, bound things 3",
                "at 0 1 more figures, see --json",
            ]
        );
    }

    #[test]
    fn a_sample_has_its_labels_and_what_is_none_is_passed_over() {
        let samples = read("# HELP x\nx 1\ny{a=\"b\",c=\"d\"} 2.5\nz{ 3\nw\n\"ERR_REQ_NOTFOUND\"");
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[1].labels["a"].as_str(), samples[1].labels["c"].as_str()), ("b", "d"));
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_a_panic(page: String) {
            let _ = human("127.0.0.1:1".parse().unwrap(), None, &read(&page));
        }
    }
}
