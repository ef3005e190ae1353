//! Every bound and pace of the driver, with its reason.

use std::time::Duration;

pub(super) use crate::replication::core::limits::TALK_BYTES_MAX;

/// From how many bytes on a body is packed: pages of a comparison. Frames are mostly shorter, and packing takes longer than their way.
pub(super) const PACK_FROM: usize = 32 * 1024;
/// Frames and questions of others that wait for the core; beyond it they are told to come again.
pub(super) const INBOX_MAX: usize = 1_024;
/// Inputs that are taken before effects are looked at: what belongs together leaves in one frame.
pub(super) const TAKEN_AT_ONCE: usize = 256;
/// How long a node may take to answer.
pub(in crate::node) const TALK_TIMEOUT: Duration = Duration::from_secs(5);
/// Records and heads that are checked in one job of a worker: less than a millisecond.
pub(super) const JUDGED_AT_ONCE: usize = 8;

/// Frames to one neighbour that wait for its word, each on a connection: on a link of 100 ms one leaves every 25 ms.
pub(super) const FRAMES_IN_FLIGHT_MAX: usize = 4;
/// Questions to one node that wait for its answer, each on a connection.
pub(super) const ASKS_A_PEER_MAX: usize = 6;
/// Connections from one address: that of a whole test network, or of an office.
pub(in crate::node) const CONNECTIONS_PER_IP_MAX: usize = 192;
/// How far frames to one neighbour are apart when one follows the other: a frame has four signatures, made and checked, and takes as
/// long as the check of several records. At 3 ms 170 offers a second that are taken at once, two frames each, waited for it.
pub(super) const COLLECT_MIN: Duration = Duration::from_millis(2);
/// The same, in times that the last frame and its answer were on their way: the busier the machines are the longer that is, and the
/// more fewer frames help.
pub(super) const COLLECT_A_WAY: u32 = 3;
/// The same for each message of a frame beyond the first: who has much to say says it in few frames.
pub(super) const COLLECT_A_MESSAGE: Duration = Duration::from_millis(8);
/// The longest. Ten hops of it are less than the third of a second that news may take.
pub(super) const COLLECT_MAX: Duration = Duration::from_millis(10);
/// How far frames may be ahead of that pace: who has little to say says it at once.
pub(super) const COLLECT_AHEAD: Duration = Duration::from_millis(6);
/// Messages that wait for a neighbour; beyond it the oldest are dropped, and heads will tell of them.
pub(super) const QUEUE_MAX: usize = 10_000;

/// Bytes a second that one node may send in frames or ask for: a hundred megabits, ten times what a busy market needs.
pub(super) const BYTES_A_SECOND_MAX: u64 = 12_500_000;
/// Bytes at once after a pause: the records of a late joiner's first second.
pub(super) const BYTES_BURST: u64 = 4 * BYTES_A_SECOND_MAX;
/// Nodes of which that is remembered.
pub(super) const BUDGETS_MAX: usize = 1_024;

/// Addresses greeted in one round, of the at most 100 that a lookup gives in random order.
pub(super) const GREETED_AT_ONCE: usize = 8;
/// The pauses before the rounds of one search: at a start the others may be about to join the DHT too.
pub(super) const SEEK_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1_200),
];
/// How long the news waits that an own offer is closed: until the next tick of the runtime's clock, half a millisecond on average. Whoever
/// took it waits for the trade, and on a machine that runs both nodes this would come in between: bids took 3.5 ms instead of 2.5.
pub(super) const CLOSED_AFTER: Duration = Duration::from_micros(1);
/// How often heads and anchors are given to the store.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(5);
/// How soon something that found the writer busy is tried again.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(5);
