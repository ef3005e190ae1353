//! Every bound of the exchange core, with its reason.

use std::time::Duration;

/// Records held, own and others', tombstones included: about 2 GB at most. Beyond it unknown records are refused.
pub const RECORDS_MAX: usize = 1_000_000;
/// From how many on newcomers have to share what is left.
pub const PRESSURE_FROM: usize = RECORDS_MAX / 2;
/// Records that one neighbour may bring from then on: an eighth of what is left, as many as there are neighbours at most.
pub const SHARE_MAX: usize = (RECORDS_MAX - PRESSURE_FROM) / 8;
/// From how many on records of makers that have none here yet are refused: the newest strangers first.
pub const STRANGERS_UP_TO: usize = RECORDS_MAX / 4 * 3;
/// Own offers that are not dead yet: each is announced again and again, so this bounds what a node asks of the network.
pub const OWN_OFFERS_MAX: usize = 100_000;
/// Own bids without an answer: each is asked again until it has one.
pub const BIDS_IN_DOUBT_MAX: usize = 10_000;
/// Of these one maker may have that part of what the others' leave: 1,250 when there are no others. However many makers hang, there is
/// room for one more.
pub const BIDS_IN_DOUBT_SHARE: usize = 8;
/// Own bids that their owner gave up. They are never forgotten, because their makers may have sold: beyond it none is given up.
pub const BIDS_GIVEN_UP_MAX: usize = 100_000;
/// The shortest time between two questions about a bid that was given up.
pub const GIVEN_UP_ASK_AGAIN_MIN: Duration = Duration::from_mins(10);
/// Own bids that were refused and are kept to look at; beyond it the oldest are forgotten.
pub const BIDS_OUT_REFUSED_MAX: usize = 100_000;
/// What is kept of the words of a refusal, in bytes of UTF-8: makers may write anything into it.
pub const DETAIL_BYTES_MAX: usize = 300;
/// How long an own refused bid is kept to look at.
pub const BID_OUT_KEPT_FOR: Duration = Duration::from_hours(7 * 24);
/// Refusals that are remembered so that a repeated bid gets the same answer; beyond it the first to end is forgotten. What
/// that costs: a repeated bid is judged once more, against an offer whose terms never change and which never opens again.
pub const BIDS_IN_REFUSED_MAX: usize = 100_000;
/// How long after its deadline a refused bid is remembered: longer than any clock is set back by accident.
pub const BID_IN_KEPT_FOR: Duration = Duration::from_hours(24);
/// Trades in memory, about 2 KB each. A node that has made so many takes no new offers and bids until its owner moves its
/// data directory to the archive and starts a new one.
pub const TRADES_MAX: usize = 500_000;
/// Idempotency keys that are remembered.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;
/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_KEPT_FOR: Duration = Duration::from_hours(24);
/// The longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How far in the future a record's sequence may lie before it is parked.
pub const FUTURE_MAX: Duration = Duration::from_mins(5);
/// How far the clock may go back and is read as standing still. Beyond it the time before was wrong, and is left.
pub const CLOCK_BACK_MAX: Duration = FUTURE_MAX;
/// From how long a timer must be overdue for the clock to have leapt: the driver looks at the time once a minute.
pub const LEAP_MIN: Duration = Duration::from_mins(10);
/// How long nothing of the node's own is forgotten after such a leap: until then somebody may have set a wrong clock right.
pub const KEPT_AFTER_LEAP: Duration = Duration::from_hours(1);
/// Records from the future that wait for their time.
pub const PARKED_MAX: usize = 1_000;
/// Own records that the network holds in a version newer than the store's, kept for recovery.
pub const AHEAD_MAX: usize = 10_000;
/// Proofs that makers contradict themselves, kept until both versions are dead: 30 MB at most. Beyond it a record is off the lists
/// all the same, without a proof for others.
pub const EQUIVOCATIONS_MAX: usize = 10_000;
/// Proofs against one maker: enough that nobody has as many by mistake, such as by a copied data directory. Whoever has is an outcast.
pub const PROOFS_A_MAKER_MAX: usize = 64;
/// How long after a change of its terms a record is not taken by a bid that does not say what its owner saw: whoever read it before
/// has decided by then, and a list that is kept up to date shows the change.
pub const CHANGE_IS_NEWS_FOR: Duration = Duration::from_secs(10);
/// Changes of terms that are remembered so long: 10 MB at most. Beyond it all bids must say what their owners saw.
pub const CHANGES_MAX: usize = 50_000;
/// Those of one maker; beyond it bids on all that it has must.
pub const CHANGES_A_MAKER_MAX: usize = 1_000;
/// How long a bid may be made from a clock that is ahead of the maker's.
pub const BID_FROM_FUTURE_MAX: Duration = Duration::from_mins(5);
/// The first pause before a bid without an answer is asked again; it doubles each time.
pub const ASK_AGAIN_MIN: Duration = Duration::from_millis(500);
/// The longest pause while the bid is firm.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);
/// The longest pause once it is not: only the maker's last word is missing.
pub const ASK_AGAIN_AFTER_DEADLINE_MAX: Duration = Duration::from_mins(10);
/// How long the caller of a bid may wait for the maker's answer before it is told `in_doubt`.
pub const BID_WAIT_MAX: Duration = Duration::from_secs(30);
/// Callers that wait for the answer to one bid.
pub const WAITERS_A_BID_MAX: usize = 64;
