//! The Postman collection is what Postman imports, and all that it says of the API holds, twice in a row.

use crate::{network, node, project};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

const COLLECTION: &str = "postman/vintner.postman_collection.json";
const ENVIRONMENT: &str = "postman/local.postman_environment.json";

/// The names of all requests of a collection's folders.
fn requests(items: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in items.as_array().unwrap() {
        match &item["item"] {
            Value::Null => _ = names.insert(item["name"].as_str().unwrap().to_owned()),
            inner => names.extend(requests(inner)),
        }
    }
    names
}

/// One run of the collection; returns what newman reports of it.
fn run(apis: &[String; 3], report: &Path) -> Value {
    let (collection, environment) = (project(COLLECTION), project(ENVIRONMENT));
    let variables: Vec<String> = apis.iter().zip(1..).map(|(api, n)| format!("node{n}={api}")).collect();
    let mut arguments =
        vec!["run", collection.to_str().unwrap(), "--environment", environment.to_str().unwrap()];
    for variable in &variables {
        arguments.extend(["--env-var", variable]);
    }
    arguments.extend(["--timeout-request", "20000", "--timeout-script", "20000", "--color", "off"]);
    arguments.extend(["--reporters", "cli,json", "--reporter-json-export", report.to_str().unwrap()]);
    node("node_modules/newman/bin/newman.js", &arguments);
    serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap()
}

#[test]
fn the_collection_and_the_description_keep_to_their_formats() {
    let files = [COLLECTION, ENVIRONMENT, "openapi/openapi.json"].map(project);
    node("schema.js", &files.each_ref().map(|file| file.to_str().unwrap()));
}

#[test]
fn all_that_the_collection_says_of_the_api_holds_twice_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let (_devnet, apis) = network(&dir.path().join("net"));
    let collection: Value = serde_json::from_str(&fs::read_to_string(project(COLLECTION)).unwrap()).unwrap();
    let all = requests(&collection["item"]);
    for round in 1..=2 {
        let report = run(&apis, &dir.path().join("report.json"));
        let (executions, stats) = (report["run"]["executions"].as_array().unwrap(), &report["run"]["stats"]);
        let sent: BTreeSet<String> = executions
            .iter()
            .map(|execution| execution["item"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(sent, all, "round {round}: requests that a run sends");
        let count = |what: &str, field: &str| stats[what][field].as_u64().unwrap();
        assert_eq!((count("requests", "failed"), count("assertions", "failed")), (0, 0), "round {round}");
        // The form of each answer, and at least one thing about it.
        assert!(count("assertions", "total") >= 2 * all.len() as u64, "round {round}: {stats}");
    }
}
