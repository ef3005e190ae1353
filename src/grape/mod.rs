//! What a grape knows, kept in a directory, so that it is useful at once when it is started again.
//!
//! A stock grape forgets everything. This one keeps, in its data directory, which one process holds at a time:
//!
//! | file | what |
//! |---|---|
//! | `node` | its DHT node id with the address that it belongs to, and the nodes that it knew: a few lines of text (`identity`) |
//! | `state-N.log` | stored items, announced peers, own announcements: frames with checksums (`frame`, `record`, `log`) |
//! | `lock` | held while it runs |
//!
//! **Why a log and not the database.** What a grape stores is replaced all the time, is gone within two hours, and is a copy of
//! what others hold as well: it needs no transactions, and no sync of the disk. A log costs one sequential write every two
//! seconds, no page cache, and a damaged page of it costs the records on that page, while one of a B-tree may cost all below it.
//! A process that is killed loses two seconds; one whose machine loses power loses what the system had not written yet.
//!
//! **Why signatures are not checked again.** Each was checked when the item was stored. The directory is its owner's only, the
//! checksums find what a disk does to it, and every reader of an item checks its signature anyway. So 100,000 items are
//! back for 0.3 s of one core, where checking them would take 4 s more.
//!
//! **How it stays small.** [`Keeper`] walks over what the DHT node stores, in the order in which it was put, and writes what
//! it meets ([`Dht::walk_stored`](crate::dht::Dht::walk_stored)). When the log has grown to a multiple of what lives, the walk
//! starts over into new files, and when it has come to the end the old ones are deleted. So nothing is held here but a position.
//!
//! Refused here: what a value means, HTTP, and refusing to start: what cannot be read is warned of and left out.

mod frame;
mod identity;
mod keeper;
mod log;
mod own;
mod record;

pub use self::{
    identity::{Shown, shown},
    keeper::{Keeper, KeeperMeter, Notes, State},
};

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by this machine's clock. Ages are kept as the time at which they began.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
