//! The tables, column by column as the program writes and reads them. `migrations/` says what each means.

use super::row::{Table, table};

pub(super) static META: Table = table!("meta", ["name"], ["value"]);
pub(super) static OWN_OFFERS: Table =
    table!("own_offers", ["id"], ["target", "k", "seq", "v", "sig", "closed", "trade_id"]);
pub(super) static PUBLISHED: Table = table!("published", ["id"], ["seq", "stored_on", "announced_to", "at"]);
pub(super) static RECORDS: Table = table!("records", ["target"], ["k", "seq", "v", "sig"]);
pub(super) static EQUIVOCATIONS: Table =
    table!("equivocations", ["target"], ["k", "seq", "v", "sig", "other_v", "other_sig"]);
pub(super) static CONTRADICTIONS: Table = table!(
    "contradictions",
    ["target"],
    ["k", "seq", "v", "sig", "other_k", "other_seq", "other_v", "other_sig"]
);
pub(super) static UNLISTED: Table = table!("unlisted", ["target"], ["why", "until"]);
pub(super) static AHEAD: Table = table!("ahead", ["target"], ["k", "seq", "v", "sig"]);
pub(super) static TRADES: Table =
    table!("trades", ["id", "taker", "bid_id"], ["text", "sig", "bid_text", "bid_sig"]);
pub(super) static BIDS_OUT: Table = table!(
    "bids_out",
    ["id"],
    ["bidder", "text", "sig", "outcome", "trade_id", "refusal_code", "refusal_detail"]
);
pub(super) static BIDS_GIVEN_UP: Table = table!("bids_given_up", ["id"], ["at"]);
pub(super) static BIDS_IN: Table = table!(
    "bids_in",
    ["bidder", "id"],
    ["text", "sig", "answered_at", "outcome", "trade_id", "refusal_code", "refusal_detail"]
);
pub(super) static IDEMPOTENCY_KEYS: Table =
    table!("idempotency_keys", ["key"], ["request_sha256", "made", "made_id", "at"]);
pub(super) static HEADS: Table = table!("heads", ["maker"], ["at", "head"]);
