//! The driver of replication: one task owns the core, and moves things between it, the exchange core and other nodes.
//!
//! ```text
//!  exchange core ──► news ──► ┌──────┐ ──► post ──► frames to the neighbours
//!  other nodes' RPC ► inbox ► │ core │ ──► line ──► questions to anybody
//!  workers ───► verdicts ───► └──────┘ ──► judge ─► workers ─► exchange core
//! ```
//!
//! Two commands carry it, both signed like every other: `gossip` is a frame, answered by whether its sender is a neighbour; `ask` is a
//! question, answered by an answer. Their bodies are [`parcel`]s of the bytes that [`crate::replication::core::talk`] describes.

mod asks;
mod budget;
mod judge;
mod limits;
mod line;
mod parcel;
mod post;
mod seek;
mod task;

pub(super) use limits::{CONNECTIONS_PER_IP_MAX, TALK_TIMEOUT};
pub(super) use task::{Setup, Task};

use crate::{
    grenache::envelope::{Outcome, RpcRefusal, VerifiedRequest},
    identity::ClientId,
    metrics::Counter,
    node::status::ReplicaView,
    replication::core::talk::{Carried, Message as Talk, Question, read_frame},
};
use arc_swap::ArcSwap;
use budget::Budgets;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{mpsc, oneshot};

/// The command that carries a frame.
pub(super) const GOSSIP: &str = "gossip";
/// The command that carries a question.
pub(super) const ASK: &str = "ask";

/// The answer to a frame.
#[derive(Debug, Serialize, Deserialize)]
struct Gossiped {
    /// Whether the sender is a neighbour.
    neighbour: bool,
}

/// What the task is told by others than the exchange core.
#[derive(Debug)]
enum Message {
    Frame {
        from: ClientId,
        messages: Vec<Talk<Carried>>,
    },
    Asked {
        from: ClientId,
        question: Question,
        reply: oneshot::Sender<Vec<u8>>,
    },
    Garbled(ClientId),
    /// A node is there.
    Met {
        client: ClientId,
        addresses: Vec<SocketAddr>,
    },
    /// This node is somewhere else from now on.
    Moved(Vec<SocketAddr>),
}

/// What others' requests are given to. Clones share it.
#[derive(Clone)]
pub(super) struct Replication {
    inbox: mpsc::Sender<Message>,
    budgets: Arc<Mutex<Budgets>>,
    started: Instant,
    hits: Arc<Hits>,
    view: Arc<ArcSwap<ReplicaView>>,
}

/// How often bounds were reached.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// Frames and questions that found the inbox full.
    pub inbox: Counter,
    /// Frames and questions of nodes that had spent their bytes.
    pub bytes: Counter,
    /// Messages to neighbours that were dropped because too many waited.
    pub queue: Counter,
}

/// The other end of [`Replication`], for the task.
pub(super) struct Inbox {
    sender: mpsc::Sender<Message>,
    queue: mpsc::Receiver<Message>,
    hits: Arc<Hits>,
}

impl Replication {
    /// `view` is what the task shows.
    pub(super) fn new(view: Arc<ArcSwap<ReplicaView>>) -> (Self, Inbox) {
        let (sender, queue) = mpsc::channel(limits::INBOX_MAX);
        let hits = Arc::<Hits>::default();
        let inbox = Inbox { sender: sender.clone(), queue, hits: Arc::clone(&hits) };
        let replication =
            Self { inbox: sender, budgets: Arc::default(), started: Instant::now(), hits, view };
        (replication, inbox)
    }

    pub(super) fn hits(&self) -> &Hits {
        &self.hits
    }

    /// Whether the network was asked what it knows of this node's own offers: with the store of an earlier day one of them would be sold
    /// once more.
    pub(super) fn knows_own(&self) -> bool {
        self.view.load().status.knows_own
    }

    /// This node is somewhere else from now on; whoever is met after this is told so.
    pub(super) async fn moved(&self, addresses: Vec<SocketAddr>) {
        // The task ends with the node.
        _ = self.inbox.send(Message::Moved(addresses)).await;
    }

    /// A neighbour sent a frame. It is answered before it is worked off.
    pub(super) fn gossip(&self, request: VerifiedRequest) -> Outcome {
        let from = request.from();
        self.spend(from, request.body().len())?;
        let Some(messages) = parcel::unwrap(request.body()).and_then(|bytes| read_frame(&bytes).ok()) else {
            return Err(self.garbled(from));
        };
        self.tell(Message::Frame { from, messages })?;
        let neighbour = self.view.load().status.neighbours.contains(&from);
        serde_json::to_string(&Gossiped { neighbour })
            .map_err(|error| RpcRefusal::new("internal", error.to_string(), true))
    }

    /// Somebody asks.
    pub(super) async fn ask(&self, request: VerifiedRequest) -> Outcome {
        let from = request.from();
        self.spend(from, request.body().len())?;
        let question = parcel::unwrap(request.body()).and_then(|bytes| Question::read(&bytes).ok());
        let Some(question) = question else { return Err(self.garbled(from)) };
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Asked { from, question, reply })?;
        let body = parcel::wrap(&answer.await.map_err(|_| stopping())?);
        self.owe(from, body.len());
        Ok(body)
    }

    fn garbled(&self, from: ClientId) -> RpcRefusal {
        // With the inbox full, others are worse.
        _ = self.inbox.try_send(Message::Garbled(from));
        RpcRefusal::new("malformed", "the body cannot be read; is this node's program older?", false)
    }

    fn tell(&self, message: Message) -> Result<(), RpcRefusal> {
        self.inbox.try_send(message).map_err(|_| {
            self.hits.inbox.inc();
            RpcRefusal::new("busy", "this node has more to do than it takes at a time; try again later", true)
        })
    }

    /// Charges a node for what it sends; refuses when it has nothing left to spend.
    pub(super) fn spend(&self, peer: ClientId, bytes: usize) -> Result<(), RpcRefusal> {
        if self.owe(peer, bytes) {
            return Ok(());
        }
        self.hits.bytes.inc();
        let detail = format!(
            "a node may send and ask for {} bytes a second here; go on more slowly",
            limits::BYTES_A_SECOND_MAX
        );
        Err(RpcRefusal::new("slow_down", detail, true))
    }

    /// Charges a node for what it is sent, without asking whether it has that much left.
    pub(super) fn owe(&self, peer: ClientId, bytes: usize) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.spend(peer, bytes, self.started.elapsed())
    }
}

fn stopping() -> RpcRefusal {
    RpcRefusal::new("stopping", "this node is stopping; ask another one", true)
}
