//! What goes into the core and what comes out.

use super::{
    head::{SignedHead, UncheckedHead},
    talk::{Answer, Carried, Message, Question},
    version::{CopyHash, Stamp},
};
use crate::{
    bep44::Target,
    identity::{ClientId, KeyPair, Network},
    market::Via,
    time::UnixMillis,
};
use std::{net::SocketAddr, time::Duration};

/// How a core is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The market.
    pub network: Network,
    /// The node's client key: it signs the heads.
    pub key: KeyPair,
    /// Where the node's RPC is.
    pub addresses: Vec<SocketAddr>,
    /// Whether others may take something of what the node has made in earlier runs.
    pub has_open: bool,
}

/// The number of a question of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QuestionId(pub u64);

/// The driver's number of a question of somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AnswerTo(pub u64);

/// What checking a record showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is its maker's. The exchange core has it now, and what it makes of it follows as [`Input::Held`].
    Genuine {
        /// Whose.
        maker: ClientId,
        /// Which.
        stamp: Stamp,
        /// Until when it counts.
        dies_at: UnixMillis,
    },
    /// Whoever sent it cannot have checked it.
    Forged,
    /// It was not looked at.
    Busy,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The exchange core holds this version now, as the newest.
    Held {
        /// Whose.
        maker: ClientId,
        /// Which.
        stamp: Stamp,
        /// Until when it counts.
        dies_at: UnixMillis,
        /// Which way it came.
        via: Via,
    },
    /// The exchange core holds two values of one sequence.
    Fraud {
        /// Which record.
        target: Target,
        /// When the later of the two dies.
        dies_at: UnixMillis,
    },
    /// The store held this version when the node started.
    Restored {
        /// Whose.
        maker: ClientId,
        /// Which.
        stamp: Stamp,
        /// Until when it counts.
        dies_at: UnixMillis,
    },
    /// The store held this head when the node started.
    RestoredHead(SignedHead),
    /// A record was checked: [`Effect::Judge`].
    Judged {
        /// Which copy.
        copy: CopyHash,
        /// What it is.
        verdict: Verdict,
    },
    /// A head was checked: [`Effect::JudgeHead`].
    JudgedHead {
        /// Which copy.
        copy: CopyHash,
        /// The head, if the signature is good.
        head: Option<SignedHead>,
        /// Which way it came.
        via: Via,
    },
    /// A frame arrived; its sender signed it.
    Frame {
        /// Who.
        from: ClientId,
        /// What it says.
        messages: Vec<Message<Carried>>,
    },
    /// A frame, a question or an answer of this node cannot be read.
    Garbled(ClientId),
    /// A frame was taken (`Some`: whether the other side thinks of us as a neighbour) or not.
    Sent {
        /// By whom.
        to: ClientId,
        /// Whether.
        heard: Option<bool>,
    },
    /// Somebody asks; it signed its question.
    Asked {
        /// Who.
        from: ClientId,
        /// What.
        question: Question,
        /// The number of the answer.
        to: AnswerTo,
    },
    /// An answer of the one who was asked, or that there is none.
    Answered {
        /// To which question.
        id: QuestionId,
        /// The answer.
        answer: Option<Answer<Carried>>,
    },
    /// A node of this network has shown that it is there.
    Met {
        /// Who.
        client: ClientId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// This node is somewhere else from now on.
    Moved(Vec<SocketAddr>),
    /// Time passed.
    Tick,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send this to a neighbour, in one frame with what else is for it, and say what came of it. Of a record the newest version that
    /// is held then; of one that was signed twice, both.
    Send {
        /// To whom.
        to: ClientId,
        /// What.
        message: Message<Target>,
    },
    /// Ask somebody, and give the answer or say that there is none.
    Ask {
        /// Whom.
        to: ClientId,
        /// Where it may be.
        addresses: Vec<SocketAddr>,
        /// The number of the question.
        id: QuestionId,
        /// What.
        question: Question,
    },
    /// Answer somebody.
    Answer {
        /// Which question.
        to: AnswerTo,
        /// What.
        answer: Answer<Target>,
    },
    /// Check a record, and give it to the exchange core if it is genuine.
    Judge {
        /// Its number.
        copy: CopyHash,
        /// The record.
        record: Carried,
        /// Which way it came.
        via: Via,
    },
    /// Check a head's signature.
    JudgeHead {
        /// Its number.
        copy: CopyHash,
        /// The head.
        head: UncheckedHead,
        /// Which way it came.
        via: Via,
    },
    /// This maker has been silent for too long, or is no longer.
    Stale {
        /// Who.
        maker: ClientId,
        /// Whether.
        stale: bool,
    },
    /// Keep this head over a restart.
    KeepHead(SignedHead),
    /// Look for nodes of this network.
    Seek,
}

/// How often things happened; for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that neighbours sent.
    pub records_received: u64,
    /// Those of them that had been heard before.
    pub duplicates: u64,
    /// Heads that were news.
    pub heads: u64,
    /// Records that had to be asked for because only their names came.
    pub wanted: u64,
    /// Comparisons of a maker's records.
    pub jobs: u64,
    /// Comparisons that ended without showing all that the maker's head says.
    pub jobs_in_vain: u64,
    /// Neighbours that were lost.
    pub neighbours_lost: u64,
    /// Nodes that were left alone for a while because they sent what cannot be honest.
    pub punished: u64,
    /// Questions about other times.
    pub not_told: u64,
    /// Messages of nodes that are no neighbours.
    pub strangers: u64,
    /// Copies that were not checked: `JUDGED_AT_ONCE_MAX`, or the checkers were busy.
    pub over_judged: u64,
    /// Names of news that were not remembered: `MISSING_MAX`.
    pub over_missing: u64,
    /// Makers that were not compared: `JOBS_WAITING_MAX`, or `ROOT_PAGES_MAX`.
    pub over_jobs: u64,
    /// Heads of strangers that were refused: `MAKERS_MAX`.
    pub over_makers: u64,
}

/// How a core stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Those who pass records on to this node.
    pub neighbours: Vec<ClientId>,
    /// Makers whose heads are known.
    pub makers: usize,
    /// Makers that have been silent for too long.
    pub stale: usize,
    /// Makers of whom less is held than their heads say.
    pub behind: usize,
    /// For how long something of one of them has been lacking.
    pub behind_for: Duration,
    /// Makers that have fallen silent within [`super::limits::LATELY`], and were heard before.
    pub silent_lately: usize,
    /// Neighbours that this node would have as far as fresh heads name some: [`super::limits::NEIGHBOURS`] at most.
    pub neighbours_wanted: usize,
    /// Since it was last without neighbours, the heads of one of them have come, a comparison with one has ended, and all was held that
    /// either showed.
    pub caught_up: bool,
    /// Neighbours whose own head is refused because its time lies in the future.
    pub heads_future: usize,
    /// Neighbours that count as silent by the time of the head that they have just brought.
    pub heads_past: usize,
    /// Records that are held, and the dead that are still known.
    pub records: usize,
    /// Whether the network was asked what it knows of this node's own records, as far as somebody answers: with the store of an earlier
    /// day it would sell once more what it has sold.
    pub knows_own: bool,
}
