//! What commands print: tables for people, JSON for machines. Nothing else writes to standard output or standard error.

use anyhow::{Context, Result};
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Prints text as it stands, on standard output.
///
/// # Errors
/// When it cannot be written, such as to a full disk. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(not_written(error)),
        _ => Ok(()),
    }
}

/// The failure of whoever printed to standard output.
pub(crate) fn not_written(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(
        "standard output cannot be written; free some space where it goes, or send it elsewhere, and look before \
         you repeat what changes something",
    )
}

/// Prints JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")?;
    print(&format!("{text}\n"))
}

/// Prints a line of a program that goes on in any case: its work is not to print.
pub(crate) fn print_if_possible(line: &str) {
    let _ = print(line);
}

/// Tells people a line, on standard error. Where that cannot be written there is nobody to tell: `eprintln!` would panic.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Names and values below each other; what has no value is left out.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): &(&str, Option<String>)| Some(format!("{name:width$}  {}\n", value.as_ref()?));
    facts.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_facts_without_values_are_left_out() {
        let rows = [vec!["1".into(), "é".into()], vec!["22222".into(), String::new()]];
        assert_eq!(table(&["A", "BB"], &rows), "A      BB\n1      é\n22222\n");
        assert_eq!(
            facts(&[("a", Some("1".into())), ("bcd", None), ("bc", Some("2".into()))]),
            "a    1\nbc   2\n"
        );
    }
}
