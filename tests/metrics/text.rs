//! Reads a page as strictly as promtool lints it, and a little more: what Prometheus would accept but nobody should write is an
//! error here.

use std::collections::{BTreeMap, BTreeSet};

/// A page that was read: its families with their types, and the value of every series.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) series: BTreeMap<(String, Vec<(String, String)>), f64>,
}

impl Text {
    /// Reads `text`, or says what is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        let mut family: Option<(String, String)> = None;
        let mut helped: Option<String> = None;
        if !text.ends_with('\n') {
            return Err("the last line does not end".into());
        }
        for line in text.lines() {
            let fail = |what: &str| format!("{what}: {line}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| fail("no help"))?;
                if !is_name(name, ':') || help.trim() != help || help.is_empty() {
                    return Err(fail("a bad name or help"));
                }
                if helped.replace(name.to_owned()).is_some() || page.types.contains_key(name) {
                    return Err(fail("a second help"));
                }
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| fail("no type"))?;
                if helped.take().as_deref() != Some(name) {
                    return Err(fail("a type without its help before it"));
                }
                check_name(name, kind).map_err(|what| fail(&what))?;
                page.types.insert(name.to_owned(), kind.to_owned());
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| fail("no sample"))?;
                let (of, kind) = family.as_ref().ok_or_else(|| fail("a sample without a type"))?;
                let suffix = name.strip_prefix(of.as_str()).ok_or_else(|| fail("in another family"))?;
                let has_le = labels.iter().any(|(label, _)| label == "le");
                let fits = match (kind.as_str(), suffix) {
                    ("histogram", "_bucket") => has_le,
                    ("histogram", "_sum" | "_count") | ("counter" | "gauge", "") => !has_le,
                    _ => false,
                };
                if !fits || helped.is_some() {
                    return Err(fail("no sample of its family"));
                }
                if !value.is_finite() || value < 0.0 {
                    return Err(fail("not a count, a size or an age"));
                }
                if page.series.insert((name, labels), value).is_some() {
                    return Err(fail("a series twice"));
                }
            }
        }
        page.check_families()?;
        Ok(page)
    }

    /// The value of one series; it must be there.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect();
        let found = self.series.get(&(name.to_owned(), labels.clone()));
        *found.unwrap_or_else(|| panic!("there is no {name} {labels:?}"))
    }

    /// The names of all series.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.series.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// The names of labels of a family.
    pub(crate) fn labels(&self, family: &str) -> BTreeSet<&str> {
        let of_family = |name: &str| {
            let suffix = name.strip_prefix(family);
            suffix.is_some_and(|suffix| matches!(suffix, "" | "_bucket" | "_sum" | "_count"))
        };
        let labels = self.series.keys().filter(|(name, _)| of_family(name)).flat_map(|(_, labels)| labels);
        labels.map(|(label, _)| label.as_str()).filter(|label| *label != "le").collect()
    }

    /// Every family has samples, all with the same labels; histograms add up.
    fn check_families(&self) -> Result<(), String> {
        for (family, kind) in &self.types {
            let of = |suffix: &str| {
                let name = format!("{family}{suffix}");
                self.series.iter().filter(move |((found, _), _)| *found == name)
            };
            let first = if kind == "histogram" { of("_count").next() } else { of("").next() };
            let Some(((_, labels), _)) = first else { return Err(format!("{family} has no samples")) };
            let names = |labels: &[(String, String)]| -> Vec<String> {
                labels.iter().map(|(label, _)| label.clone()).filter(|label| label != "le").collect()
            };
            let all = of("").chain(of("_count")).chain(of("_sum")).chain(of("_bucket"));
            if all.map(|((_, found), _)| names(found)).any(|found| found != names(labels)) {
                return Err(format!("{family} has lines with different labels"));
            }
            for ((_, labels), count) in of("_count") {
                let mut buckets: Vec<(f64, f64)> = of("_bucket")
                    .filter(|((_, found), _)| found[..found.len() - 1] == labels[..])
                    .map(|((_, found), count)| (bound(&found[found.len() - 1].1), *count))
                    .collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                let ascends = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
                let last = buckets.last().copied();
                if !ascends || last != Some((f64::INFINITY, *count)) || buckets.len() < 3 {
                    return Err(format!("the buckets of {family} {labels:?} do not add up: {buckets:?}"));
                }
                let sum = self.series.get(&(format!("{family}_sum"), labels.clone()));
                if sum.is_none() || (*count == 0.0 && sum != Some(&0.0)) {
                    return Err(format!("{family} {labels:?} has no sum that fits: {sum:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Names as the conventions want them: prefix, base units, `_total` for counters only.
fn check_name(name: &str, kind: &str) -> Result<(), String> {
    let words: Vec<&str> = name.split('_').collect();
    let known = matches!(kind, "counter" | "gauge" | "histogram");
    let prefixed = matches!(words[0], "vintner" | "process");
    let reserved = matches!(words[words.len() - 1], "total" | "sum" | "count" | "bucket" | "info");
    let suffixed = match kind {
        "counter" => name.ends_with("_total"),
        "gauge" => !reserved || name.ends_with("_info"),
        _ => !reserved,
    };
    let not_base =
        ["ms", "milliseconds", "millis", "us", "ns", "minutes", "hours", "kb", "mb", "kilobytes", "percent"];
    let base = !words.iter().any(|word| not_base.contains(word));
    let lower = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if known && prefixed && suffixed && base && lower {
        Ok(())
    } else {
        Err(format!("{name} is no name for a {kind}"))
    }
}

fn is_name(name: &str, also: char) -> bool {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_' || c == also;
    name.starts_with(start) && name.chars().all(|c| start(c) || c.is_ascii_digit())
}

fn bound(text: &str) -> f64 {
    if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap_or(f64::NAN) }
}

type Sample = (String, Vec<(String, String)>, f64);

/// `name{label="value",...} value`, with one space, and nothing else.
fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        None => (head, Vec::new()),
        Some((name, rest)) => (name, read_labels(rest.strip_suffix('}')?)?),
    };
    let distinct: BTreeSet<&String> = labels.iter().map(|(label, _)| label).collect();
    let plain = value.chars().all(|c| c.is_ascii_digit() || c == '.');
    (is_name(name, ':') && distinct.len() == labels.len() && plain).then_some((
        name.to_owned(),
        labels,
        value.parse().ok()?,
    ))
}

/// Values are words of the program: nothing in them needs an escape, so none is read.
fn read_labels(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    loop {
        let (label, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        let word = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '\\');
        if !is_name(label, '_') || label.starts_with("__") || !word {
            return None;
        }
        labels.push((label.to_owned(), value.to_owned()));
        match after {
            "" => return Some(labels),
            _ => rest = after.strip_prefix(',')?,
        }
    }
}

#[test]
fn the_reader_finds_what_is_wrong() {
    let good = "# HELP vintner_a_total A thing\n# TYPE vintner_a_total counter\nvintner_a_total{b=\"c\"} 1\n";
    assert_eq!(Text::read(good).unwrap().value("vintner_a_total", &[("b", "c")]), 1.0);
    let histogram = "# HELP vintner_h_seconds H\n# TYPE vintner_h_seconds histogram\n\
         vintner_h_seconds_bucket{le=\"1\"} 1\nvintner_h_seconds_bucket{le=\"2\"} 1\n\
         vintner_h_seconds_bucket{le=\"+Inf\"} 2\nvintner_h_seconds_sum 9.5\nvintner_h_seconds_count 2\n";
    assert!(Text::read(histogram).is_ok());
    for (wrong, to) in [
        ("# HELP vintner_a_total A thing\n", ""),
        ("# TYPE vintner_a_total counter\n", ""),
        ("counter", "gauge"),
        ("counter", "histogram"),
        ("counter", "counters"),
        ("} 1", "} NaN"),
        ("} 1", "} -1"),
        ("} 1", "}  1"),
        ("} 1", "} 1 17000"),
        ("{b=\"c\"}", "{b=\"\"}"),
        ("{b=\"c\"}", "{b=\"c\",}"),
        ("{b=\"c\"}", "{b=\"c\",b=\"d\"}"),
        ("{b=\"c\"}", "{1b=\"c\"}"),
        ("{b=\"c\"}", "{b=\"c\\n\"}"),
        ("_total{", "_sum{"),
        ("} 1\n", "} 1"),
        ("} 1\n", "} 1\nvintner_a_total{b=\"c\"} 1\n"),
        ("} 1\n", "} 1\nvintner_a_total{d=\"c\"} 1\n"),
        ("vintner_a_total{b=\"c\"} 1\n", ""),
    ] {
        assert!(good.contains(wrong));
        assert!(Text::read(&good.replacen(wrong, to, 1)).is_err(), "{wrong:?} as {to:?}");
    }
    for (wrong, to) in [
        ("+Inf\"} 2", "+Inf\"} 3"),
        ("\"1\"} 1", "\"1\"} 2"),
        ("vintner_h_seconds_sum 9.5\n", ""),
        ("vintner_h_seconds_bucket{le=\"+Inf\"} 2\n", ""),
        ("vintner_h_seconds_count 2\n", ""),
        ("le=\"2\"", "le=\"two\""),
    ] {
        assert!(histogram.contains(wrong));
        assert!(Text::read(&histogram.replacen(wrong, to, 1)).is_err(), "{wrong:?} as {to:?}");
    }
    assert!(Text::read(&histogram.replace("_seconds", "_ms")).is_err());
}
