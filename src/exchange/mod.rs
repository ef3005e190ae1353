//! The protocol core of the exchange: who may do what, when something is sold, what must be durable before anybody hears of it.
//!
//! Pure: no clock, no sockets, no disk. [`Core::handle`] takes the time and one [`Input`] and says which [`Event`]s make it
//! true and which [`Effect`]s follow. [`run_batch`] is the one rule of the house: *events are committed before effects are
//! released*. So whoever got an answer can rely on it, and a crash at any point loses only what nobody was told.
//!
//! - [`State`] is what the events add up to. It is rebuilt from them at start, and cheap to clone: a clone is the snapshot
//!   that readers see.
//! - `own` creates and withdraws own offers; `maker` answers bids on them; `taker` bids on others' and asks until it knows,
//!   or its owner gives up (`give_up`); `recovery` takes back what was lost with a store; `guard` refuses what is worth too much;
//!   `replica` judges records that arrive from the network, `pressure` whether there is room for them, `distrust` whether their maker
//!   keeps its word, `changes` whose terms changed a moment ago; `timers` is all that time alone does; `lists` are the orders in
//!   which all this is shown.
//! - What is not here: signatures are verified before something becomes an input; addresses, retries of single datagrams and
//!   the DHT are the drivers' business.

mod batch;
mod changes;
mod core;
mod distrust;
mod give_up;
mod guard;
pub mod limits;
mod lists;
mod maker;
mod message;
mod own;
mod pressure;
mod recovery;
mod replica;
mod state;
mod taker;
#[cfg(test)]
mod testing;
mod timers;

pub use batch::{BatchError, rebuild, run_batch, take_due};
pub use core::{Core, Counters, Output, OverLimit};
pub use distrust::Unlisted;
pub use guard::{MaxNotional, MaxNotionalEntry};
pub use lists::{BidInPlace, BidState, Lists, Span, TradesWanted};
pub use message::{
    BidAnswer, CommandError, Done, Effect, Heard, IdempotencyKey, Input, NewBid, NotNow, OfferRef, Refusal,
    RefusalCode, Reply, ReplyTo, Seen, Turn,
};
pub use state::{
    BidIn, BidOut, BidOutcome, Closed, Event, Idempotent, Made, Market, OfferStatus, OwnOffer, PricePlace,
    Published, State,
};
