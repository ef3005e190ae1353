//! A linter of OpenAPI finds nothing in the description, by its own recommended rules.

use crate::{node_output, project};
use serde_json::Value;
use std::{fs, path::Path};

const REDOCLY: &str = "node_modules/@redocly/cli/bin/cli.js";

/// What it says of a file, and whether it found anything.
fn lint(file: &Path) -> (bool, Value) {
    let output = node_output(
        REDOCLY,
        &["lint", file.to_str().unwrap(), "--extends", "recommended", "--format", "json"],
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let totals = &report["totals"];
    let none = totals["errors"] == 0 && totals["warnings"] == 0 && totals["ignored"] == 0;
    (output.status.success() && none, report)
}

#[test]
fn the_linter_finds_nothing_in_the_description_and_finds_a_planted_error() {
    let (clean, report) = lint(&project("openapi/openapi.json"));
    assert!(clean, "{report:#}");

    let text = fs::read_to_string(project("openapi/openapi.json")).unwrap();
    let mut broken: Value = serde_json::from_str(&text).unwrap();
    broken.as_object_mut().unwrap().remove("servers");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    fs::write(&file, broken.to_string()).unwrap();
    let (clean, report) = lint(&file);
    assert!(!clean && report["problems"][0]["ruleId"] == "no-empty-servers", "{report:#}");
}
