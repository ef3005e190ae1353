//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a node's own bounds add up to, twice: connections to its ports and from it, and the store.
const WANTED: u64 = 4096;

/// Raises the limit that programs are given at their start (often 1,024, for the sake of old ones) as far as the system allows
/// without asking anybody, up to what a node may need.
pub(super) fn allow() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_some_and(|current| current < allowed) {
        // Where it is refused, the node's bounds are reached later than the system's: it says so then.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    }
}
