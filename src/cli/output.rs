//! What commands print: tables for people, JSON for machines. Nothing else writes to standard output or standard error.

use crate::{
    identity::ClientId,
    shown::{harmless, harmless_json, harmless_lines},
};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{
    borrow::Cow,
    io::{ErrorKind, Write},
};

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

/// Prints JSON. Whoever reads it gets every character as it came; a terminal that shows it obeys none.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")?;
    print(&format!("{}\n", harmless_json(&text)))
}

/// Prints a line of a program that goes on in any case: its work is not to print.
pub(crate) fn print_if_possible(line: &str) {
    let _ = print(line);
}

/// Tells people a line, on standard error. Where that cannot be written there is nobody to tell: `eprintln!` would panic.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless_lines(line));
}

/// Asks people something, on standard error, and stays on the line.
pub(crate) fn ask(question: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{}", harmless(question)).and_then(|()| err.flush());
}

/// The heading of a column, and on which side its cells stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    heading: &'static str,
    right: bool,
}

/// A column of text.
pub(crate) const fn left(heading: &'static str) -> Column {
    Column { heading, right: false }
}

/// A column of numbers.
pub(crate) const fn right(heading: &'static str) -> Column {
    Column { heading, right: true }
}

/// Enough of a client id to tell it from those that somebody may make to look like it: 64 of its bits.
pub(crate) fn short(id: &ClientId) -> String {
    format!("{:.16}", id.to_string())
}

/// Rows under headings, each column as wide as its widest cell. Whatever is in a cell, it stays in it.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| harmless(cell)).collect()).collect();
    let mut widths: Vec<usize> = columns.iter().map(|column| column.heading.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).zip(columns).map(|((cell, &width), column)| {
            if column.right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(&mut columns.iter().map(|column| column.heading));
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(AsRef::as_ref)));
    }
    text
}

/// Names and values below each other; what has no value is left out. Whatever is in a value, it stays on its line.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let given = || facts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let width = given().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = given().map(|(name, value)| format!("{name:width$}  {}\n", harmless(value)));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::payloads::{PAYLOADS, assert_harmless};

    #[test]
    fn columns_line_up_and_facts_without_values_are_left_out() {
        let rows = [vec!["1".into(), "é".into()], vec!["22222".into(), String::new()]];
        assert_eq!(table(&[left("A"), left("BB")], &rows), "A      BB\n1      é\n22222\n");
        assert_eq!(table(&[right("A"), left("BB")], &rows), "    A  BB\n    1  é\n22222\n");
        assert_eq!(
            facts(&[("a", Some("1".into())), ("bcd", None), ("bc", Some("2".into()))]),
            "a   1\nbc  2\n"
        );
    }

    #[test]
    fn what_strangers_write_stays_in_its_cell_and_on_its_line() {
        for payload in PAYLOADS {
            let text = table(&[left("A"), right("B")], &[vec![(*payload).into(), "1".into()]]);
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let text = text + &facts(&[("memo", Some((*payload).into()))]);
            text.lines().for_each(assert_harmless);
            assert_eq!(text.matches('\n').count(), 3, "{text:?}");
        }
    }
}
