//! Heads of makers over a restart: a cache, which the network tells again.

use super::{
    CommitError, Store, StoreError,
    row::{Columns, Row, read_cache},
    tables::HEADS,
};
use crate::{
    replication::core::{
        SignedHead, UncheckedHead,
        limits::{MAKERS_MAX, SILENT_KNOWN_FOR},
    },
    time::UnixMillis,
};
use rusqlite::Connection;

/// How many more than [`MAKERS_MAX`] are stored before the oldest are deleted: looking for them reads the whole table.
const HEADS_OVER_MAX: usize = MAKERS_MAX / 100;

impl Store {
    /// Stores heads, each in place of its maker's last one, in one transaction. Nothing waits for the disk: a power loss may take
    /// the last of them.
    ///
    /// There are as many at most as a node knows makers; beyond it the oldest are forgotten.
    pub fn keep_heads(&mut self, heads: &[SignedHead]) -> Result<(), CommitError> {
        if heads.is_empty() {
            return Ok(());
        }
        // Each of them may be of a new maker. Wrong by those that were not, which is put right when it seems to be too many.
        let mut stored = self.heads.map(|stored| stored + heads.len());
        self.unwaited(|conn| {
            for head in heads {
                Row::default().text(head.maker).int(head.at.0).blob(head.bytes()).upsert(conn, &HEADS)?;
            }
            if stored.is_none_or(|stored| stored > MAKERS_MAX + HEADS_OVER_MAX) {
                let count: i64 = conn.query_row("SELECT count(*) FROM heads", (), |row| row.get(0))?;
                let over = (count as usize).saturating_sub(MAKERS_MAX);
                let oldest =
                    "DELETE FROM heads WHERE rowid IN (SELECT rowid FROM heads ORDER BY at LIMIT ?1)";
                conn.execute(oldest, [over as i64])?;
                stored = Some(count as usize - over);
            }
            Ok(())
        })?;
        self.heads = stored;
        Ok(())
    }

    /// The heads that were stored, but for those of makers that had been silent for [`SILENT_KNOWN_FOR`] when the newest of all
    /// arrived. How long this node itself was away says nothing about them.
    ///
    /// # Errors
    /// When the database cannot be read. A damaged row is dropped with a warning.
    pub fn heads(&mut self) -> Result<Vec<SignedHead>, StoreError> {
        let mut heads: Vec<SignedHead> = Vec::new();
        let left_out = read_cache((&self.conn, &self.path), &HEADS, |row, _| {
            heads.push(head(row)?);
            Ok(())
        })?;
        self.leave_out(&left_out);
        let newest = heads.iter().map(|head| head.at).max().unwrap_or(UnixMillis(0));
        let known_from = newest.minus(SILENT_KNOWN_FOR);
        heads.retain(|head| head.at >= known_from);
        // When they cannot be deleted now, they are left out again by the next start.
        let silent = |conn: &Connection| {
            conn.execute("DELETE FROM heads WHERE at < ?1", [known_from.0 as i64]).map(|_| ())
        };
        if let Err(error) = self.unwaited(silent) {
            tracing::debug!(%error, "heads of makers that are gone could not be deleted");
        }
        Ok(heads)
    }
}

fn head(row: &mut Columns<'_>) -> Result<SignedHead, String> {
    let (_maker, _at) = (row.text()?, row.int::<u64>()?);
    UncheckedHead::read(row.blob()?).map(UncheckedHead::from_own_store).map_err(|e| e.to_string())
}
