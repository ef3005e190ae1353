//! What goes into the core and what comes out: inputs, effects, answers, refusals.

use super::limits::{self, DETAIL_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX};
use crate::{
    amount::{Price, Quantity},
    bep44::Target,
    identity::{ClientId, Network, Signed, SignedText, StatementError},
    market::{Bid, BidId, Currency, NewOffer, Offer, OfferId, RecordError, Side, Trade, TradeReceipt, Via},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// Whom a reply is for: a number that the driver gave out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyTo(pub u64);

/// How an owner names an offer: by its id, or by its DHT hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfferRef {
    /// By id.
    Id(OfferId),
    /// By DHT hash.
    Hash(Target),
}

/// A caller's own name for one request: repeated with the same content it does nothing new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyKey {
    /// The caller's text, at most [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// SHA-256 of what was asked for.
    pub request_sha256: [u8; 32],
}

/// What an owner bids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBid {
    /// On which offer.
    pub offer: OfferRef,
    /// The price for one bitcoin; the offer's own when not given.
    pub price: Option<Price>,
    /// What the owner saw of the offer.
    pub seen: Seen,
    /// How long the bid is firm.
    pub valid_for: Duration,
}

/// What an owner says that the offer was when it decided to bid. What is not said is not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The version.
    pub sequence: Option<u64>,
    /// What the maker does.
    pub side: Option<Side>,
    /// How much bitcoin.
    pub btc_quantity: Option<Quantity>,
    /// What is paid with.
    pub currency: Option<Currency>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The owner lists an offer.
    Create {
        /// What to list.
        new: NewOffer,
        /// The caller's name for the request.
        idempotency: Option<IdempotencyKey>,
        /// Who asks.
        reply: ReplyTo,
    },
    /// The owner takes an own offer off the market.
    Withdraw {
        /// Which one.
        offer: OfferRef,
        /// Only when the record still has this sequence (`If-Match`).
        if_sequence: Option<u64>,
        /// Who asks.
        reply: ReplyTo,
    },
    /// The owner bids on somebody's offer.
    PlaceBid {
        /// What.
        new: NewBid,
        /// How long the caller waits for the maker's answer, at most [`limits::BID_WAIT_MAX`].
        wait: Duration,
        /// The caller's name for the request.
        idempotency: Option<IdempotencyKey>,
        /// Who asks.
        reply: ReplyTo,
    },
    /// The owner no longer waits for a maker's answer.
    GiveUp {
        /// The own bid.
        bid: BidId,
        /// Who asks.
        reply: ReplyTo,
    },
    /// The owner takes over the versions of own records that the network has and this store lacks.
    Recover {
        /// Who asks.
        reply: ReplyTo,
    },
    /// Another node showed trades that it has with this one, each verified.
    TradesShown {
        /// The trades.
        receipts: Vec<Arc<TradeReceipt>>,
        /// Who asked for them.
        reply: ReplyTo,
    },
    /// A verified record came from the network.
    Record(Arc<Offer>, Via),
    /// A verified proof came from the network: two versions, or records, that contradict each other.
    Fraud([Arc<Offer>; 2], Via),
    /// A maker has been silent for too long, or is no longer.
    Stale {
        /// Who.
        maker: ClientId,
        /// Whether.
        stale: bool,
    },
    /// A verified bid came from its bidder.
    BidReceived {
        /// The bid.
        bid: Signed<Bid>,
        /// Who gets the answer.
        reply: ReplyTo,
    },
    /// A bid was asked, and this came back: a verified answer, or none.
    BidAnswered {
        /// The own bid.
        bid: BidId,
        /// What the maker said; `None` when no answer came that counts.
        heard: Option<Heard>,
    },
    /// A version of an own record reached the network.
    Published {
        /// Which offer.
        offer: OfferId,
        /// Which version.
        sequence: u64,
        /// DHT nodes that store it.
        stored_on: u32,
        /// DHT nodes that accepted the announcement.
        announced_to: u32,
    },
    /// Time passed.
    Tick,
}

/// A maker's answer to a bid, verified to be the maker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The signed trade.
    Accepted(Box<Signed<Trade>>),
    /// The signed refusal: final.
    Refused(Refusal),
}

/// A maker's answer to a bid, as it goes over the wire inside a signed reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum BidAnswer {
    /// Sold.
    Accepted {
        /// The signed trade.
        trade: SignedText,
    },
    /// Not sold, and this bid never will be.
    Refused(Refusal),
}

impl BidAnswer {
    /// Checks the signature on the trade, if there is one. That it is about the bid that was asked is checked by the core.
    pub fn verify(self, network: &Network) -> Result<Heard, StatementError> {
        Ok(match self {
            Self::Accepted { trade } => Heard::Accepted(Box::new(Signed::verify(trade, network)?)),
            Self::Refused(refusal) => Heard::Refused(refusal.bounded()),
        })
    }
}

/// A final no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub detail: String,
}

impl Refusal {
    /// With no more of what its maker wrote than [`DETAIL_BYTES_MAX`], cut between two characters.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let is_boundary = |at: &usize| self.detail.is_char_boundary(*at);
        if self.detail.len() > DETAIL_BYTES_MAX {
            let end = (0..=DETAIL_BYTES_MAX).rev().find(is_boundary).unwrap_or_default();
            self.detail.truncate(end);
            // What was allocated for all of it would be kept as long as the rest.
            self.detail.shrink_to_fit();
        }
        self
    }
}

/// Why a maker refused a bid for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Sold, withdrawn or expired.
    OfferNotAvailable,
    /// The maker has no such offer.
    OfferNotFound,
    /// Below the asking price.
    PriceBelowAsk,
    /// The maker buys, and the bid asks more than it offers.
    PriceAboveOffer,
    /// The bid is for other terms than the offer's.
    TermsMismatch,
    /// The bidder is the maker.
    OwnOffer,
    /// The bid came after its own deadline. The maker will not accept it any more.
    BidExpired,
    /// A time in the bid is out of range.
    InvalidBid,
    /// The bid's id was used for another bid.
    IdReuse,
    /// A reason that this program does not know.
    #[serde(other)]
    Refused,
}

impl RefusalCode {
    /// The code as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OfferNotAvailable => "offer_not_available",
            Self::OfferNotFound => "offer_not_found",
            Self::PriceBelowAsk => "price_below_ask",
            Self::PriceAboveOffer => "price_above_offer",
            Self::TermsMismatch => "terms_mismatch",
            Self::OwnOffer => "own_offer",
            Self::BidExpired => "bid_expired",
            Self::InvalidBid => "invalid_bid",
            Self::IdReuse => "id_reuse",
            Self::Refused => "refused",
        }
    }
}

/// The maker cannot decide now. Not an answer: the bidder asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The network knows newer versions of the maker's records than its store.
    #[error("this node's store is behind the network; its owner must recover it first")]
    StoreBehind,
    /// [`limits::TRADES_MAX`] trades are stored.
    #[error("this node holds {} trades and takes no more", limits::TRADES_MAX)]
    TradesFull,
    /// The disk refuses writes.
    #[error("this node cannot write to its disk")]
    StorageFull,
}

/// What happened to an owner's command.
pub type Reply = Result<Done, CommandError>;

/// An owner's command was carried out. The snapshot that readers see shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The offer is durable; `again` when an earlier request with this idempotency key made it.
    Created {
        /// The new offer.
        offer: OfferId,
        /// Whether an earlier request made it.
        again: bool,
    },
    /// The offer is closed.
    Withdrawn(OfferId),
    /// The bid is durable; its outcome is in the snapshot and may still be open.
    Bid {
        /// The bid.
        bid: BidId,
        /// Whether an earlier request made it.
        again: bool,
    },
    /// The bid is given up.
    GivenUp(BidId),
    /// So many own records were taken over from the network, all closed.
    Recovered(usize),
    /// Trades that another node showed were looked at.
    TradesTaken {
        /// Those that this node lacked and holds now.
        new: usize,
        /// Those that cannot stand beside what it holds, and were left.
        contradicting: usize,
    },
}

/// Why an owner's command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The offer cannot be made so.
    #[error("{0}")]
    Offer(#[from] RecordError),
    /// This node knows no such offer.
    #[error("this node knows no offer {0}; it may be too new, or dead")]
    OfferNotFound(String),
    /// Somebody else's offer cannot be withdrawn.
    #[error("offer {0} belongs to another node; only its maker can withdraw it")]
    NotOwnOffer(OfferId),
    /// An own offer cannot be bid on.
    #[error("offer {0} is this node's own; a bid must come from another node")]
    OwnOffer(OfferId),
    /// Sold, withdrawn or expired.
    #[error("offer {offer} is {status} and cannot be taken")]
    OfferNotAvailable {
        /// The offer.
        offer: OfferId,
        /// What it is instead.
        status: &'static str,
    },
    /// The offer is another than the bid's owner saw, or may be.
    #[error(
        "the terms of offer {offer} changed: {why}; look at it again, and name its sequence {sequence} in the bid"
    )]
    TermsChanged {
        /// The offer.
        offer: OfferId,
        /// The version that there is.
        sequence: u64,
        /// What is other, as a clause.
        why: String,
    },
    /// An id names more than one record.
    #[error(
        "offer {id} is the id of more than one record, so its maker cheats; the hashes of two are {} and {}: name one by its hash",
        two_of_them[0], two_of_them[1]
    )]
    Ambiguous {
        /// The id.
        id: OfferId,
        /// Two of its records.
        two_of_them: [Target; 2],
    },
    /// An own offer is closed already.
    #[error("offer {offer} {why}; nobody can take it, so there is nothing to withdraw")]
    OfferClosed {
        /// The offer.
        offer: OfferId,
        /// What became of it, as the end of a sentence.
        why: String,
    },
    /// The bid is not this node's.
    #[error("this node has made no bid {0}; a bid is given up on the node that made it")]
    NotOwnBid(BidId),
    /// The maker has answered.
    #[error("bid {bid} was {answer} by its maker; an answered bid is not given up")]
    BidAnswered {
        /// The bid.
        bid: BidId,
        /// How it was answered.
        answer: &'static str,
    },
    /// The maker may still answer.
    #[error(
        "bid {bid} can be given up from {from} on; until then its maker may still have sold to this node"
    )]
    GiveUpTooEarly {
        /// The bid.
        bid: BidId,
        /// From when on.
        from: UnixMillis,
    },
    /// The bid is worse than the offer's price.
    #[error("a bid of {bid} is worse for the maker than the offer's price of {offer}")]
    Price {
        /// The offer's side: a seller wants more, a buyer less.
        side: Side,
        /// The offer's price.
        offer: Price,
        /// The bid's.
        bid: Price,
    },
    /// The owner's own limit.
    #[error(
        "{quantity} BTC at {price} {currency} are worth more than {most} {currency}, the most that this node's owner \
         allows; make it smaller, or start the node with a higher --max-notional"
    )]
    AboveMaxNotional {
        /// How much bitcoin.
        quantity: Quantity,
        /// The price for one.
        price: Price,
        /// What is paid with.
        currency: Currency,
        /// The most that it may be worth.
        most: Price,
    },
    /// The offer is sold in a way that this program does not know.
    #[error("offer {0} chooses its bids in a way that this version does not know; upgrade to bid on it")]
    AcceptanceUnknown(OfferId),
    /// `If-Match` names another version.
    #[error("the offer is at sequence {actual}, not {expected}; read it again and decide anew")]
    SequenceMismatch {
        /// The version that the caller saw.
        expected: u64,
        /// The version that there is.
        actual: u64,
    },
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request within 24 hours; choose a new one")]
    IdempotencyKeyReuse,
    /// The idempotency key is empty or too long.
    #[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes")]
    IdempotencyKeyLength,
    /// A bound was reached.
    #[error("this node holds {max} {what} already; {advice}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
        /// What to do.
        advice: &'static str,
    },
    /// Too many bids wait for one maker.
    #[error(
        "{held} bids wait for the answer of maker {maker}, and {max} are the most that may wait for one; bid on another \
         maker's offer, wait until this one answers, or give up those that are past their offers' deaths"
    )]
    MakerLimit {
        /// Whose answer they wait for.
        maker: ClientId,
        /// How many wait.
        held: usize,
        /// How many may.
        max: usize,
    },
    /// See [`NotNow::StoreBehind`].
    #[error(
        "the network knows newer versions of this node's records than its store does, so it neither offers nor bids: \
         restore the newest data directory, or close what the network knows with `vintner recover`"
    )]
    StoreBehind,
    /// The disk refuses writes.
    #[error("the disk of the data directory is full; nothing was changed, free some space and try again")]
    StorageFull,
    /// More commands wait than the node takes at a time.
    #[error("the node has more work than it takes at a time; nothing was changed, try again in a moment")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping; ask again when it is back, with the same idempotency key")]
    Stopping,
}

/// Whether somebody waits for what a question brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The bid was made a moment ago.
    First,
    /// It was asked before, and had no answer.
    Again,
}

/// What the drivers do once the events are durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer an owner's command.
    Reply {
        /// Whom.
        to: ReplyTo,
        /// What.
        reply: Reply,
    },
    /// Answer a bidder.
    Answer {
        /// Whom.
        to: ReplyTo,
        /// The final answer, or that there is none now.
        answer: Result<BidAnswer, NotNow>,
    },
    /// Send this bid to its maker and report [`Input::BidAnswered`].
    Ask(Signed<Bid>, Turn),
    /// Bring this version of an own record to the network, then report [`Input::Published`].
    Publish(Arc<Offer>),
    /// This version of another maker's record is held from now on.
    Held(Arc<Offer>, Via),
    /// Two that contradict each other are known of this record from now on: others must know.
    Fraud {
        /// Which record.
        target: Target,
        /// When the later of the two dies.
        dies_at: UnixMillis,
    },
    /// Nobody can take this own offer any more, because its time is over.
    Expired(Arc<Offer>),
    /// An own record is dead: stop renewing it.
    Unpublish(Target),
    /// A maker said that this record is not what we hold: read it again from the DHT.
    Fetch(Target),
}

/// When something ends, for [`Refusal`]s that people read.
pub(super) fn refused(code: RefusalCode, detail: impl Into<String>) -> Refusal {
    Refusal { code, detail: detail.into() }
}

/// Kept together with its time, so that both sides name the same instant.
pub(super) fn expired_detail(valid_until: UnixMillis, now: UnixMillis) -> String {
    format!(
        "the bid was firm until {valid_until} and arrived at {now}; it was not accepted and never will be"
    )
}

/// The reference for people.
impl std::fmt::Display for OfferRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Hash(hash) => hash.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_a_refusal_only_so_much_is_kept_and_no_character_is_cut(detail in ".{0,400}") {
            let refusal = Refusal { code: RefusalCode::Refused, detail: detail.clone() };
            let network = "test".parse().unwrap();
            let Heard::Refused(kept) = BidAnswer::Refused(refusal).verify(&network).unwrap() else { panic!() };
            prop_assert!(detail.starts_with(&kept.detail) && kept.detail.len() <= DETAIL_BYTES_MAX);
            prop_assert!(kept.detail.len() == detail.len() || kept.detail.len() > DETAIL_BYTES_MAX - 4);
        }
    }
}
