//! Rows: how values are written to columns, read back, and checked.

use super::StoreError;
use rusqlite::{
    Connection,
    types::{Value, ValueRef},
};
use std::{fmt::Display, path::Path, str::FromStr};

/// A table whose rows carry a checksum. The columns are in the order in which they are written and read; the key's come first.
pub(super) struct Table {
    pub name: &'static str,
    pub key_columns: usize,
    pub upsert: &'static str,
    pub select: &'static str,
}

/// Describes a table: its name, its key columns, its other columns without `crc`.
macro_rules! table {
    ($name:literal, [$($key:literal),+], [$($column:literal),+]) => {
        Table {
            name: $name,
            key_columns: [$($key),+].len(),
            upsert: concat!(
                "INSERT INTO ", $name, " (", $($key, ", ",)+ $($column, ", ",)+ "crc) VALUES (",
                $(":", $key, ", ",)+ $(":", $column, ", ",)+ ":crc) ON CONFLICT DO UPDATE SET ",
                $($column, " = excluded.", $column, ", ",)+ "crc = excluded.crc"
            ),
            select: concat!(
                "SELECT ", $($key, ", ",)+ $($column, ", ",)+ "crc, rowid FROM ", $name, " ORDER BY rowid"
            ),
        }
    };
}
pub(super) use table;

/// The values of one row, in the order of the table's columns.
#[derive(Default)]
pub(super) struct Row(Vec<Value>);

impl Row {
    pub(super) fn text(mut self, text: impl Display) -> Self {
        self.0.push(Value::Text(text.to_string()));
        self
    }

    pub(super) fn optional_text(mut self, text: Option<impl Display>) -> Self {
        self.0.push(text.map_or(Value::Null, |text| Value::Text(text.to_string())));
        self
    }

    /// Every number that is stored is below 2^63: sequences and times are below 2^53, counts below 2^32.
    pub(super) fn int(mut self, int: impl Into<u64>) -> Self {
        self.0.push(Value::Integer(int.into() as i64));
        self
    }

    pub(super) fn blob(mut self, bytes: &[u8]) -> Self {
        self.0.push(Value::Blob(bytes.to_vec()));
        self
    }

    /// Writes the row, in place of the one that has its key.
    pub(super) fn upsert(mut self, conn: &Connection, table: &Table) -> rusqlite::Result<()> {
        let crc = checksum(table, self.0.iter().map(ValueRef::from));
        self.0.push(Value::Integer(crc));
        conn.prepare_cached(table.upsert)?.execute(rusqlite::params_from_iter(self.0)).map(|_| ())
    }
}

/// CRC-32 over the table's name and the values with their types and lengths.
fn checksum<'v>(table: &Table, values: impl Iterator<Item = ValueRef<'v>>) -> i64 {
    let mut crc = flate2::Crc::new();
    crc.update(table.name.as_bytes());
    for value in values {
        let (kind, bytes) = match value {
            ValueRef::Null => (0, &[][..]),
            ValueRef::Integer(int) => {
                crc.update(&[1]);
                crc.update(&int.to_le_bytes());
                continue;
            }
            // No column is a float; one that became so is damaged, and its bytes are never equal.
            ValueRef::Real(_) => (2, &[][..]),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        crc.update(&[kind]);
        crc.update(&(bytes.len() as u64).to_le_bytes());
        crc.update(bytes);
    }
    i64::from(crc.sum())
}

/// The columns of a stored row, read one after the other. Errors are the end of a sentence.
pub(super) struct Columns<'r> {
    row: &'r rusqlite::Row<'r>,
    next: usize,
}

impl<'r> Columns<'r> {
    fn value(&mut self) -> Result<ValueRef<'r>, String> {
        let value = self.row.get_ref(self.next).map_err(|e| e.to_string())?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn optional_text(&mut self) -> Result<Option<&'r str>, String> {
        let at = self.next;
        self.value()?.as_str_or_null().map_err(|e| format!("column {at}: {e}"))
    }

    pub(super) fn text(&mut self) -> Result<&'r str, String> {
        let at = self.next;
        self.optional_text()?.ok_or_else(|| format!("column {at} is missing"))
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|e| format!("{text:?} {e}"))
    }

    pub(super) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, String> {
        let at = self.next;
        let int = self.value()?.as_i64().map_err(|e| format!("column {at}: {e}"))?;
        int.try_into().map_err(|_| format!("{int} is out of range"))
    }

    pub(super) fn blob(&mut self) -> Result<&'r [u8], String> {
        let at = self.next;
        self.value()?.as_blob().map_err(|e| format!("column {at}: {e}"))
    }
}

/// Reads every row of `table`, checks it, and hands it to `take`. The first that is damaged is the error.
pub(super) fn read_all(
    (conn, path): (&Connection, &Path),
    table: &'static Table,
    mut take: impl FnMut(&mut Columns<'_>) -> Result<(), String>,
) -> Result<(), StoreError> {
    each_row((conn, path), table, |row, checked| {
        let taken = checked.and_then(|()| take(&mut Columns { row, next: 0 }));
        taken.map_err(|problem| StoreError::Damaged {
            path: path.to_owned(),
            table: table.name,
            row: key_of(table, row),
            problem,
        })
    })
}

/// The rows of a cache that were not taken.
pub(super) struct LeftOut {
    pub table: &'static Table,
    /// Their numbers.
    pub rows: Vec<i64>,
    /// How many of them are damaged.
    pub damaged: usize,
    /// Which of these was the first, and what is wrong with it.
    pub first_damaged: Option<(String, String)>,
}

/// Reads every row of a cache, checks it, and hands it to `take` with its number. Damaged ones are left out: the network tells again what was in
/// them, and that is no reason not to start.
pub(super) fn read_cache(
    (conn, path): (&Connection, &Path),
    table: &'static Table,
    mut take: impl FnMut(&mut Columns<'_>, i64) -> Result<(), String>,
) -> Result<LeftOut, StoreError> {
    let mut left_out = LeftOut { table, rows: Vec::new(), damaged: 0, first_damaged: None };
    each_row((conn, path), table, |row, checked| {
        let rowid = row.get(row.as_ref().column_count() - 1).map_err(|source| read_error(path, source))?;
        if let Err(problem) = checked.and_then(|()| take(&mut Columns { row, next: 0 }, rowid)) {
            left_out.add_damaged(rowid, || key_of(table, row), problem);
        }
        Ok(())
    })?;
    Ok(left_out)
}

impl LeftOut {
    pub(super) fn add_damaged(&mut self, row: i64, key: impl FnOnce() -> String, problem: String) {
        self.damaged += 1;
        self.first_damaged.get_or_insert_with(|| (key(), problem));
        self.rows.push(row);
    }

    /// Deletes them.
    pub(super) fn delete(&self, conn: &Connection) -> rusqlite::Result<()> {
        let mut delete = conn.prepare(&format!("DELETE FROM {} WHERE rowid = ?1", self.table.name))?;
        self.rows.iter().try_for_each(|row| delete.execute([row]).map(|_| ()))
    }
}

/// Hands every row to `take`, and whether its checksum is right.
fn each_row(
    (conn, path): (&Connection, &Path),
    table: &'static Table,
    mut take: impl FnMut(&rusqlite::Row<'_>, Result<(), String>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |source| read_error(path, source);
    let mut statement = conn.prepare(table.select).map_err(failed)?;
    // After it comes the row's number.
    let crc_column = statement.column_count() - 2;
    let mut rows = statement.query(()).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let values = (0..crc_column).map(|n| row.get_ref(n).unwrap_or(ValueRef::Null));
        let right = row.get_ref(crc_column).and_then(|crc| Ok(crc.as_i64()?)).ok();
        let is_right = right == Some(checksum(table, values));
        take(row, if is_right { Ok(()) } else { Err("its checksum is wrong".to_owned()) })?;
    }
    Ok(())
}

fn read_error(path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Sqlite { doing: "read", path: path.to_owned(), source }
}

/// The key for a message: also when it is itself damaged.
fn key_of(table: &Table, row: &rusqlite::Row<'_>) -> String {
    let part = |n| match row.get_ref(n) {
        Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    };
    (0..table.key_columns).map(part).collect::<Vec<_>>().join(" / ")
}
