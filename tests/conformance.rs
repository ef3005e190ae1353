//! docs/grape-compatibility.md and the tests say the same: each of its statements is proven by a test that says so, and each test
//! that its table names is there.
//!
//! A test says so in its doc comment, which begins `Statement 7: ...` or `Statement 7, 31: ...`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// How many statements there are.
const STATEMENTS: u32 = 51;

/// The numbers of a doc comment that begins `Statement 7, 31: ...`; none where it is another one.
fn numbers(line: &str) -> Option<Vec<u32>> {
    let (list, words) = line.trim().strip_prefix("/// Statement ")?.split_once(':')?;
    let numbers = list.split(',').map(|number| number.trim().parse().ok());
    numbers.collect::<Option<Vec<u32>>>().filter(|_| !words.trim().is_empty())
}

/// The tests of a source file that prove something, with what they prove. A doc comment that no test follows is an error.
fn proofs(text: &str) -> Result<Vec<(String, Vec<u32>)>, String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("/// Statement ") {
            continue;
        }
        let numbers = numbers(line).ok_or_else(|| format!("'{}' names no statement", line.trim()))?;
        let mut is_test = false;
        let function = lines.by_ref().map(str::trim).find(|line| {
            is_test |= *line == "#[test]" || line.starts_with("#[tokio::test");
            !line.starts_with("///") && !line.starts_with("#[")
        });
        let name = function.and_then(|line| {
            let (_, rest) = line.split_once("fn ")?;
            rest.split_once('(').map(|(name, _)| name.to_owned())
        });
        match name.filter(|_| is_test) {
            Some(name) => found.push((name, numbers)),
            None => return Err(format!("no test follows '{}'", line.trim())),
        }
    }
    Ok(found)
}

/// The table of the document: for each statement, the tests that it names.
fn table(text: &str) -> Vec<(u32, Vec<String>)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| Some((row.split_once(" |")?.0.parse().ok()?, row)));
    let named = |row: &str| {
        let tests = row.trim_end().trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        tests.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    rows.map(|(number, row)| (number, named(row))).collect()
}

/// What does not fit between the tests and the table.
fn contradictions(proofs: &[(String, Vec<u32>)], table: &[(u32, Vec<String>)]) -> Vec<String> {
    let mut proven: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for (name, numbers) in proofs {
        for number in numbers {
            proven.entry(*number).or_default().insert(name);
        }
    }
    let mut found = Vec::new();
    for number in proven.keys().filter(|number| !(1..=STATEMENTS).contains(*number)) {
        found.push(format!("there is no statement {number}"));
    }
    for number in 1..=STATEMENTS {
        let tests = proven.get(&number).cloned().unwrap_or_default();
        if tests.is_empty() {
            found.push(format!("no test proves statement {number}"));
        }
        match table.iter().filter(|(row, _)| *row == number).collect::<Vec<_>>()[..] {
            [(_, named)] => {
                if named.is_empty() {
                    found.push(format!("the row of statement {number} names no test"));
                }
                for test in named.iter().filter(|test| !tests.contains(&***test)) {
                    found.push(format!("no test '{test}' says that it proves statement {number}"));
                }
            }
            ref rows => found.push(format!("statement {number} has {} rows", rows.len())),
        }
    }
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_statement_about_grapes_has_its_test_and_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    files.retain(|path| !path.ends_with("tests/conformance.rs"));
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        proofs(&text).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
    };
    let proofs: Vec<_> = files.iter().flat_map(read).collect();
    assert!(proofs.len() > STATEMENTS as usize, "only {} tests prove something", proofs.len());
    let page = fs::read_to_string(root.join("docs/grape-compatibility.md")).unwrap();
    let found = contradictions(&proofs, &table(&page));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_contradiction_is_found() {
    let text = "/// Statement 1, 2: both.\n/// And more words.\n#[tokio::test(flavor = \"x\")]\nasync fn a_test() {}";
    assert_eq!(proofs(text), Ok(vec![("a_test".to_owned(), vec![1, 2])]));
    for wrong in [
        "/// Statement 1: a helper.\nfn helper() {}",
        "/// Statement one: words.\n#[test]\nfn a_test() {}",
        "/// Statement 1:\n#[test]\nfn a_test() {}",
        "/// Statement 1: at the end.",
    ] {
        assert!(proofs(wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        table("| # | words | tests |\n|---|---|---|\n| 7 | `words` of it | `a_test`, `another` |"),
        [(7, vec!["a_test".to_owned(), "another".to_owned()])]
    );

    let all: Vec<_> = (1..=STATEMENTS).collect();
    let proven = [("a_test".to_owned(), all.clone())];
    let rows: Vec<_> = all.iter().map(|number| (*number, vec!["a_test".to_owned()])).collect();
    assert_eq!(contradictions(&proven, &rows), Vec::<String>::new());
    assert_eq!(contradictions(&proven, &rows[1..]), ["statement 1 has 0 rows"]);
    let fewer = [("a_test".to_owned(), all[1..].to_vec())];
    assert_eq!(contradictions(&fewer, &rows).len(), 2, "no proof, and a row that claims one");
    let more = [("a_test".to_owned(), all), ("other".to_owned(), vec![STATEMENTS + 1])];
    assert_eq!(contradictions(&more, &rows), ["there is no statement 52"]);
}
