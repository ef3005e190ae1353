//! Programs that others' generators make from the description do the README's tour against a real network.

use crate::{network, node, output, project, python, python_output};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The description, or what a test made of it, as a file.
fn description(dir: &Path, change: impl FnOnce(&mut Value)) -> String {
    let text = fs::read_to_string(project("openapi/openapi.json")).unwrap();
    let mut description: Value = serde_json::from_str(&text).unwrap();
    change(&mut description);
    let file = dir.join("openapi.json");
    fs::write(&file, description.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Has openapi-python-client make the package `made`.
fn make_python(dir: &Path, description: &str) -> String {
    let made = dir.join("made").to_str().unwrap().to_owned();
    python(
        "openapi-python-client",
        &["generate", "--path", description, "--meta", "none", "--output-path", &made],
    );
    made
}

/// Has openapi-typescript make types, and the compiler check and translate the tour that uses them. The compiler's complaints are an
/// error.
fn make_typescript(dir: &Path, description: &str) -> Result<String, String> {
    let schema = dir.join("schema.d.ts");
    node("node_modules/openapi-typescript/bin/cli.js", &[description, "--output", schema.to_str().unwrap()]);
    fs::copy(project("tests/faces/clients/tour.ts"), dir.join("tour.ts")).unwrap();
    fs::write(dir.join("package.json"), r#"{"type":"module"}"#).unwrap();
    std::os::unix::fs::symlink(project("tests/faces/node_modules"), dir.join("node_modules")).unwrap();
    let options = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"];
    let more = ["--lib", "es2022,dom,dom.iterable", "--skipLibCheck", "--pretty", "false", "tour.ts"];
    let mut compiler = Command::new("node");
    compiler.arg("node_modules/typescript/bin/tsc").args(options).args(more).current_dir(dir);
    let Output { status, stdout, .. } = output(&mut compiler);
    let said = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() { Ok(dir.join("tour.js").to_str().unwrap().to_owned()) } else { Err(said) }
}

#[test]
fn generated_clients_in_two_languages_do_the_tour() {
    let dir = tempfile::tempdir().unwrap();
    let (_devnet, [maker, other, taker]) = network(&dir.path().join("net"));
    let description = description(dir.path(), |_| {});
    let (made, tour) =
        (make_python(dir.path(), &description), make_typescript(dir.path(), &description).unwrap());
    let done = "the tour is done";
    let said = node(&tour, &[&maker, &other, &taker]);
    assert!(said.trim_end().ends_with(done), "{said}");
    let script = project("tests/faces/clients/tour.py");
    let said = python("python", &[script.to_str().unwrap(), &made, &maker, &other, &taker]);
    assert!(said.trim_end().ends_with(done), "{said}");
}

/// One error planted: the form of an amount that the API once described. Neither tour can be done then.
#[test]
fn clients_of_a_wrong_description_are_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let description = description(dir.path(), |description| {
        let text = serde_json::json!({"type": "object", "properties": {"Text": {"type": "string"}}, "required": ["Text"]});
        description["components"]["schemas"]["Amount"] = text;
    });
    let complaints = make_typescript(dir.path(), &description).unwrap_err();
    assert!(complaints.contains("tour.ts") && complaints.contains("Text"), "{complaints}");
    let made = make_python(dir.path(), &description);
    let body = format!(
        "import sys; sys.path.insert(0, {:?}); from made.models import NewOfferBody; NewOfferBody(\"0.5\", \"64000\").to_dict()",
        dir.path().to_str().unwrap()
    );
    assert!(Path::new(&made).join("models/new_offer_body.py").is_file());
    assert!(
        !python_output("python", &["-c", &body], &[]).status.success(),
        "an amount that is text becomes a body, though the description wants an object"
    );
}
