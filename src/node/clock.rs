//! The only place that asks the operating system what time it is.

use crate::time::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by this machine's clock. A clock set before 1970 reads as 1970.
#[must_use]
pub fn now() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)).min(crate::time::UNIX_MILLIS_MAX)
}
