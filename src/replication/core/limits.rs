//! Every bound and every pace of replication, with its reason.

use std::time::Duration;

/// How often a maker says what it has.
pub const HEAD_EVERY: Duration = Duration::from_mins(1);
/// How soon after its last one a maker signs another head because others know a higher one of its own: two nodes that run with one
/// key would otherwise answer each other without end.
pub const HEAD_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long a maker may say nothing before its records leave the lists: three heads, and a moment for the third to come round.
pub const STALE_AFTER: Duration = Duration::from_secs(190);
/// How long a silent maker without records is remembered: it may be the way back to nodes that were lost.
pub const SILENT_KNOWN_FOR: Duration = Duration::from_hours(24);
/// How much a head's time may differ from ours before it says something about the maker's age.
pub const SKEW: Duration = Duration::from_mins(1);
/// How long it counts as lately that a maker fell silent: who falls silent together is noticed within a head's interval.
pub const LATELY: Duration = Duration::from_mins(10);
/// Nodes that are remembered because the time in their own head does not fit. Neighbours among them count, which are fewer; the others
/// may become neighbours a moment later.
pub const OFF_TIME_MAX: usize = 64;
/// How long: two heads.
pub const OFF_TIME_FOR: Duration = Duration::from_secs(130);
/// How far in the future a head's time may lie.
pub const FUTURE_MAX: Duration = Duration::from_mins(5);
/// How long a dead record's versions stay known: clocks differ, and others may still count it.
pub const DEAD_KEPT_FOR: Duration = Duration::from_mins(15);
/// How far back others may ask what was held: heads are a minute old at most where they still matter, and clocks differ.
pub const AS_OF_MAX: Duration = Duration::from_mins(15);

/// Addresses in a head.
pub const HEAD_ADDRESSES_MAX: usize = 4;
/// Addresses at which one node is tried: those of its head, and those at which it was met.
pub const ADDRESSES_KNOWN_MAX: usize = 2 * HEAD_ADDRESSES_MAX;
/// Makers whose heads are known: 20 MB at most. Beyond it, strangers are refused.
pub const MAKERS_MAX: usize = 100_000;
/// Addresses of nodes that are known from elsewhere, until their heads are heard.
pub const STRANGERS_MAX: usize = 1_000;

/// Neighbours that a node looks for: records travel to each. HyParView's active view of 5 keeps 10,000 nodes connected.
pub const NEIGHBOURS: usize = 5;
/// Neighbours that it has at most, others' wishes included.
pub const NEIGHBOURS_MAX: usize = 8;
/// Makers that are looked at, once a second, for how many of them could be neighbours: of so many that live five are found, and where
/// most are silent or in one place the count may be too small.
pub const COULD_BE_LOOKED_AT_MAX: usize = 1_000;
/// Neighbours in one network prefix, on the public network: one hosting company's customer must not be all that is heard.
pub const NEIGHBOURS_A_PREFIX_MAX: usize = 2;
/// Makers whose news a neighbour gets by name only: 2 MB a neighbour at most. What more it prunes it gets all the same.
pub const LAZY_MAX: usize = 40_000;
/// Questions to become a neighbour that wait for an answer.
pub const JOINS_MAX: usize = 4;
/// How long a neighbour may be silent before it is asked whether it is there.
pub const PING_AFTER: Duration = Duration::from_secs(10);
/// How long after a first failure a node is left alone; it doubles.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(2);
/// The longest.
pub const BACK_OFF_MAX: Duration = Duration::from_mins(10);
/// How long a node that sent what cannot be honest is left alone.
pub const BAN: Duration = Duration::from_mins(10);
/// What a lonely node does: look for others this often.
pub const SEEK_EVERY: Duration = Duration::from_secs(5);
/// What a node with neighbours does, so that two networks that lost each other become one.
pub const SEEK_AT_LEISURE_EVERY: Duration = Duration::from_mins(1);

/// How long news for lazy neighbours is collected.
pub const HAVE_AFTER: Duration = Duration::from_millis(5);
/// How far such collections are apart at least: on a busy node names cost a frame each otherwise, and all but the last of a record are
/// old when they leave.
pub const HAVE_EVERY: Duration = Duration::from_millis(100);
/// How long a version that others have is waited for before it is asked for: a few hops.
pub const WANT_AFTER: Duration = Duration::from_millis(250);
/// How long the next one is waited for: a round trip.
pub const WANT_AGAIN_AFTER: Duration = Duration::from_millis(150);
/// Versions that others have and that are waited for; beyond it they are left to the heads.
pub const MISSING_MAX: usize = 10_000;
/// Neighbours remembered that have one such version.
pub const SOURCES_MAX: usize = 4;
/// News in one message.
pub const NEWS_MAX: usize = 1_000;
/// Records and heads that are being checked; beyond it they are dropped, and asked for again.
pub const JUDGED_AT_ONCE_MAX: usize = 4_096;

/// Bytes of a frame, a question or an answer: with base64 and a signature it fits into a request between nodes.
pub const TALK_BYTES_MAX: usize = 88 * 1024;
/// Records that are asked for in one question: a page of answers.
pub const RECORDS_A_QUESTION_MAX: usize = 80;
/// Heads in one answer.
pub const HEADS_AN_ANSWER_MAX: usize = 300;
/// Roots in one answer.
pub const ROOTS_AN_ANSWER_MAX: usize = 1_000;
/// Versions in one answer. A bucket of 100,000 records has 390.
pub const STAMPS_AN_ANSWER_MAX: usize = 1_900;
/// Makers whose records are being compared.
pub const JOBS_MAX: usize = 16;
/// Makers whose records another node holds differently, and that wait for it; beyond it they wait for the next comparison.
pub const JOBS_WAITING_MAX: usize = 20_000;
/// Pages of roots that are taken from one node in one comparison: as many as there may be makers.
pub const ROOT_PAGES_MAX: usize = MAKERS_MAX / ROOTS_AN_ANSWER_MAX;
/// Questions of one such comparison that wait for an answer.
pub const QUESTIONS_A_JOB_MAX: usize = 4;
/// Records that are on their way in one such comparison.
pub const FETCHED_A_JOB_MAX: usize = QUESTIONS_A_JOB_MAX * RECORDS_A_QUESTION_MAX;
/// Nodes that are asked about a maker until one shows what its head says.
pub const SOURCES_A_JOB_MAX: usize = 5;
/// Records that one such comparison found and that are then named to the neighbours; others find the rest as this node did.
pub const NAMED_A_JOB_MAX: usize = 100;
/// How long gossip has to bring what a head names before it is asked for.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How long a comparison may make no progress.
pub const JOB_PATIENCE: Duration = Duration::from_secs(10);
/// How often everything is compared with one other node, whatever the heads say: of makers that are gone nobody else would.
pub const COMPARE_EVERY: Duration = Duration::from_mins(1);
/// How long a node that finds nobody waits before it counts as knowing its own records.
pub const ALONE_AFTER: Duration = Duration::from_secs(10);
/// How long it waits when it finds others, and they do not answer.
pub const KNOWS_OWN_AFTER: Duration = Duration::from_secs(30);
/// How long a new neighbour has to name an address, before it counts as one that cannot be called: a node that just started may not yet
/// know its own.
pub const ADDRESS_WITHIN: Duration = Duration::from_secs(10);
/// How old the state is that is then compared: younger records are on their way.
pub const COMPARE_AS_OF: Duration = Duration::from_secs(10);
