//! Documentation and dashboard against what is exported.

use crate::{
    Api,
    support::{exchange, vintner_grape},
    testnet::Net,
    text::Text,
};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a node and a grape export.
async fn exported() -> [Text; 2] {
    let net = Net::start(0, 1).await;
    let node = Api::of(&net.nodes[0], None).await.metrics().await;
    net.stop().await;
    let grape = vintner_grape(&[], &[]).await;
    let grape = exchange(grape.http, "GET /metrics HTTP/1.1", "").await.body;
    [node, Text::read(&grape).unwrap()]
}

/// Every word in `text` that has the form of a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("vintner_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// The expressions of all panels, variables and annotations.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr" | "query" | "definition", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_names_every_metric_its_type_and_its_labels() {
    let [node, grape] = exported().await;
    let text = file("docs/metrics.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        // A metric stands alone in its cell; what to alert on first is a condition.
        .filter(|cells: &Vec<&str>| metrics_in(cells[0]).contains(cells[0].trim_matches('`')))
        .collect();
    let mut documented = BTreeSet::new();
    for cells in &rows {
        assert_eq!(cells.len(), 5, "{cells:?}");
        let name = cells[0].trim_matches('`');
        assert!(documented.insert(name), "{name} is there twice");
        let page = if node.types.contains_key(name) { &node } else { &grape };
        assert_eq!(page.types.get(name).map(String::as_str), Some(cells[1]), "{name}");
        let labels: BTreeSet<&str> = cells[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`'))
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(page.labels(name), labels, "{name}");
    }
    for name in node.types.keys().chain(grape.types.keys()) {
        assert!(documented.contains(name.as_str()), "docs/metrics.md does not explain {name}");
    }
    // What alerts and prose speak of is there too.
    let known: BTreeSet<&str> = documented.iter().copied().chain(["process_"]).collect();
    for name in metrics_in(&text) {
        assert!(known.contains(name.as_str()), "docs/metrics.md speaks of {name}, which nobody exports");
    }
    // Words of the labels stand in the text, in code.
    for ((name, labels), _) in node.series.iter().chain(&grape.series) {
        for (label, value) in labels.iter().filter(|(label, _)| *label == "bound") {
            assert!(
                text.contains(&format!("`{value}`")),
                "docs/metrics.md does not explain {name} {label}={value}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_only_what_is_exported() {
    let [node, grape] = exported().await;
    let known: BTreeSet<&str> = node.names().into_iter().chain(grape.names()).collect();
    let dashboard: Value = serde_json::from_str(&file("docs/grafana/vintner.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let named: BTreeSet<String> = found.iter().flat_map(|text| metrics_in(text)).collect();
    assert!(named.len() > 30, "only {named:?}");
    for name in &named {
        assert!(known.contains(name.as_str()), "the dashboard asks for {name}, which nobody exports");
    }
    // What selects a label must name one that the metric has, with a value that it can have.
    for text in &found {
        for (name, label, value) in selectors(text) {
            let of = |page: &Text| {
                page.series.keys().any(|(found, labels)| {
                    *found == name && labels.iter().any(|(l, v)| *l == label && *v == value)
                })
            };
            assert!(of(&node) || of(&grape), "{text} selects {name} {label}={value}, which does not exist");
        }
    }
}

/// `name{label="value"}` in an expression; variables and patterns are Grafana's business.
fn selectors(expression: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices('{') {
        let name: String =
            expression[..at].chars().rev().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let name: String = name.chars().rev().collect();
        let inside = expression[at + 1..].split('}').next().unwrap();
        for part in inside.split(',') {
            let exact =
                part.split_once("=\"").map(|(label, value)| (label.trim(), value.trim_end_matches('"')));
            if let Some((label, value)) =
                exact.filter(|(label, v)| !v.contains('$') && !matches!(*label, "job" | "instance"))
            {
                found.push((name.clone(), label.to_owned(), value.to_owned()));
            }
        }
    }
    found
}

#[test]
fn selectors_are_found() {
    let found = selectors(r#"sum(rate(vintner_a{bound="x",job="$job"}[5m])) / vintner_b{c=~"d.*"}"#);
    assert_eq!(found, [("vintner_a".to_owned(), "bound".to_owned(), "x".to_owned())]);
}
