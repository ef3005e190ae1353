//! Questions to other nodes: a few at a time to each.

use super::{ASK, limits::ASKS_A_PEER_MAX, line::Line, parcel};
use crate::{
    grenache::envelope::RpcRefusal,
    identity::ClientId,
    replication::core::{
        QuestionId,
        talk::{Answer, Carried, Question},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};
use tokio::task::JoinSet;

/// A question that waits or is on its way.
pub(super) struct Ask {
    pub id: QuestionId,
    pub addresses: Vec<SocketAddr>,
    pub question: Question,
}

/// What came of a question.
pub(super) struct Asked {
    pub id: QuestionId,
    pub to: ClientId,
    pub came: Came,
}

pub(super) enum Came {
    Nothing,
    Nonsense,
    Answer(Answer<Carried>),
}

#[derive(Default)]
struct Peer {
    in_flight: usize,
    waiting: VecDeque<Ask>,
}

/// All questions. How many there are is the core's business: it asks again only who has answered or is given up.
pub(super) struct Asks {
    line: Line,
    peers: HashMap<ClientId, Peer>,
    under_way: JoinSet<Asked>,
}

impl Asks {
    pub(super) fn new(line: Line) -> Self {
        Self { line, peers: HashMap::new(), under_way: JoinSet::new() }
    }

    pub(super) fn add(&mut self, to: ClientId, ask: Ask) {
        self.peers.entry(to).or_default().waiting.push_back(ask);
        self.ask_next(to);
    }

    /// The next question that was answered or given up. Pending while none is on its way.
    pub(super) async fn answered(&mut self) -> Asked {
        loop {
            match self.under_way.join_next().await {
                Some(Ok(asked)) => {
                    if let Some(peer) = self.peers.get_mut(&asked.to) {
                        peer.in_flight -= 1;
                    }
                    self.ask_next(asked.to);
                    return asked;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn ask_next(&mut self, to: ClientId) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        while peer.in_flight < ASKS_A_PEER_MAX
            && let Some(ask) = peer.waiting.pop_front()
        {
            peer.in_flight += 1;
            self.under_way.spawn(ask_one(self.line.clone(), to, ask));
        }
        if peer.in_flight == 0 {
            self.peers.remove(&to);
        }
    }
}

async fn ask_one(line: Line, to: ClientId, ask: Ask) -> Asked {
    let Ask { id, addresses, question } = ask;
    let body = parcel::wrap(&question.to_bytes());
    let came = match line.call(to, &addresses, ASK, &body).await {
        Some(Ok(body)) => read(&body),
        // It is there and has much to do: somebody else may tell.
        Some(Err(RpcRefusal { retryable: true, .. })) if is_about_records(&question) => {
            Came::Answer(Answer::NotTold)
        }
        Some(Err(_)) | None => Came::Nothing,
    };
    Asked { id, to, came }
}

fn is_about_records(question: &Question) -> bool {
    !matches!(question, Question::Join { .. } | Question::Leave | Question::Heads(_))
}

fn read(body: &str) -> Came {
    parcel::unwrap(body).and_then(|bytes| Answer::read(&bytes).ok()).map_or(Came::Nonsense, Came::Answer)
}
