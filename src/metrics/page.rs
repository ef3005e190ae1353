//! The Prometheus text format, version 0.0.4.

use super::{Counter, Histogram};
use std::{
    fmt::{Display, Write},
    sync::atomic::Ordering::Relaxed,
};

/// What a page's content type is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The one family that many parts write to.
const BOUND_HITS: &str = "vintner_bound_hits_total";

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    /// Kept back until [`Self::finish`], since the lines of one family must stand together.
    bounds: Vec<(&'static str, u64)>,
}

impl Page {
    /// Starts a family of counters; its name must end in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// Starts a family of numbers that go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Starts a family of histograms.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        debug_assert!(!help.contains(['\\', '\n']), "{name}");
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, name }
    }

    /// Says how often a named limit refused or dropped something.
    pub fn bound(&mut self, bound: &'static str, hits: u64) {
        self.bounds.push((bound, hits));
    }

    /// The whole page.
    #[must_use]
    pub fn finish(mut self) -> String {
        let bounds = std::mem::take(&mut self.bounds);
        if !bounds.is_empty() {
            let mut family =
                self.counter(BOUND_HITS, "How often a named limit refused, dropped or pushed something out");
            for (bound, hits) in bounds {
                family.at(&[("bound", bound)], hits);
            }
        }
        self.text
    }
}

/// One metric: its lines differ in their labels.
#[derive(Debug)]
pub struct Family<'p> {
    text: &'p mut String,
    name: &'static str,
}

impl Family<'_> {
    /// The only line of a metric without labels.
    pub fn is(&mut self, value: impl Display) {
        self.at(&[], value);
    }

    /// One line. Values of labels are words of this program, which need no escapes.
    pub fn at(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// One line for a counter.
    pub fn count(&mut self, labels: &[(&str, &str)], counter: &Counter) {
        self.at(labels, counter.get());
    }

    /// All lines of one histogram.
    pub fn spread(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (per_unit, bounds) = (histogram.buckets.per_unit, histogram.buckets.bounds);
        let mut so_far = 0;
        for (n, count) in histogram.counts.iter().enumerate() {
            so_far += count.load(Relaxed);
            let bound = bounds.get(n).map_or("+Inf".to_owned(), |bound| in_units(*bound, per_unit));
            self.line("_bucket", labels, Some(&bound), so_far);
        }
        self.line("_sum", labels, None, in_units(histogram.sum.load(Relaxed), per_unit));
        // The last bucket's number, so that the two agree whatever is counted meanwhile.
        self.line("_count", labels, None, so_far);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        let Self { text, name } = self;
        let _ = write!(text, "{name}{suffix}");
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (label, value) in labels {
            debug_assert!(!value.contains(['\\', '"', '\n']), "{name} {label} {value:?}");
            let _ = write!(text, "{before}{label}=\"{value}\"");
            before = ',';
        }
        let _ = writeln!(text, "{} {value}", if before == '{' { "" } else { "}" });
    }
}

/// A whole number in a larger unit.
fn in_units(value: u64, per_unit: u64) -> String {
    (value as f64 / per_unit as f64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{LATENCY, SIZE};

    #[test]
    fn a_page_is_the_text_that_prometheus_reads() {
        let mut page = Page::default();
        page.bound("things", 3);
        page.gauge("vintner_things", "Things held").is(5);
        let requests = Counter::default();
        requests.add(2);
        page.counter("vintner_requests_total", "Requests")
            .count(&[("route", "/a/{id}"), ("to", "b")], &requests);
        let expected = "# HELP vintner_things Things held\n# TYPE vintner_things gauge\nvintner_things 5\n\
             # HELP vintner_requests_total Requests\n# TYPE vintner_requests_total counter\n\
             vintner_requests_total{route=\"/a/{id}\",to=\"b\"} 2\n\
             # HELP vintner_bound_hits_total How often a named limit refused, dropped or pushed something out\n\
             # TYPE vintner_bound_hits_total counter\nvintner_bound_hits_total{bound=\"things\"} 3\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn buckets_add_up_and_times_are_in_seconds() {
        let times = Histogram::new(&LATENCY);
        times.observe(60_000);
        times.observe(250_000);
        times.observe(11_000_000_000);
        let mut page = Page::default();
        page.histogram("vintner_x_seconds", "X").spread(&[("a", "b")], &times);
        let text = page.finish();
        for line in [
            "vintner_x_seconds_bucket{a=\"b\",le=\"0.00005\"} 0",
            "vintner_x_seconds_bucket{a=\"b\",le=\"0.0001\"} 1",
            "vintner_x_seconds_bucket{a=\"b\",le=\"0.00025\"} 2",
            "vintner_x_seconds_bucket{a=\"b\",le=\"10\"} 2",
            "vintner_x_seconds_bucket{a=\"b\",le=\"+Inf\"} 3",
            "vintner_x_seconds_sum{a=\"b\"} 11.00031",
            "vintner_x_seconds_count{a=\"b\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let mut page = Page::default();
        page.histogram("vintner_y", "Y").spread(&[], &Histogram::new(&SIZE));
        assert!(page.finish().contains("vintner_y_bucket{le=\"1\"} 0\nvintner_y_bucket{le=\"2\"} 0\n"));
    }
}
