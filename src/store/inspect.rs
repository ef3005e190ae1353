//! A look at a data directory that changes nothing in it, whether a node runs on it or not.

use super::{
    DATABASE_FILE, StoreError,
    backup::open_to_read,
    lock::{self, Holder},
    schema,
};
use std::path::Path;

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The process that has the directory, if one has.
    pub held_by: Option<Holder>,
    /// The database, if there is one.
    pub database: Option<InspectedDatabase>,
}

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedDatabase {
    /// The number of its schema.
    pub schema_version: i64,
    /// The newest that this program knows.
    pub schema_known: i64,
    /// The market that it is of.
    pub network: String,
    /// The client that it is of, 64 hex digits.
    pub client_id: String,
    /// What drivers noted in it: names and values.
    pub notes: Vec<(String, String)>,
}

/// Looks at the data directory `dir`.
///
/// # Errors
/// When it cannot be read, or holds a database that is not this program's or of a newer version of it.
pub fn inspect(dir: &Path) -> Result<Inspected, StoreError> {
    let held_by = lock::holder(dir)?;
    let path = dir.join(DATABASE_FILE);
    if !path.exists() {
        return Ok(Inspected { held_by, database: None });
    }
    let conn = open_to_read(&path)?;
    let schema_version = schema::recognise(&conn, &path)?;
    if schema_version == 0 {
        // A first start that was killed between making the file and filling it.
        return Ok(Inspected { held_by, database: None });
    }
    let failed = |source| StoreError::Sqlite { doing: "read", path: path.clone(), source };
    let (network, client_id) = conn
        .query_row("SELECT network, client_id FROM owner", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(failed)?;
    let mut statement = conn.prepare("SELECT name, value FROM meta").map_err(failed)?;
    let notes = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let database =
        InspectedDatabase { schema_version, schema_known: schema::SCHEMA, network, client_id, notes };
    Ok(Inspected { held_by, database: Some(database) })
}
