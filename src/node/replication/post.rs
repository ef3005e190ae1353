//! Frames to the neighbours: what is for one neighbour leaves together, and the more there is the less often.

use super::{
    GOSSIP, Gossiped, Hits,
    limits::{
        COLLECT_A_MESSAGE, COLLECT_A_WAY, COLLECT_AHEAD, COLLECT_MAX, COLLECT_MIN, FRAMES_IN_FLIGHT_MAX,
        QUEUE_MAX,
    },
    line::Line,
    parcel,
};
use crate::{
    bep44::Target,
    exchange::Market,
    grenache::envelope::RpcRefusal,
    identity::ClientId,
    node::Snapshot,
    replication::core::talk::{Carried, Frame, Message},
};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// What came of a frame: whether the other side thinks of this node as a neighbour, if it answered.
pub(super) struct Delivered {
    pub to: ClientId,
    pub heard: Option<bool>,
    /// From when it left.
    took: Duration,
}

#[derive(Debug)]
struct Queue {
    messages: VecDeque<Message<Target>>,
    in_flight: usize,
    /// How long the last frame and its answer were on their way.
    took: Duration,
    /// Each frame takes its time of those that follow.
    spent_until: Instant,
}

/// What waits for whom, and what is on its way.
pub(super) struct Post {
    line: Line,
    queues: HashMap<ClientId, Queue>,
    frames: JoinSet<Delivered>,
    hits: Arc<Hits>,
}

impl Post {
    pub(super) fn new(line: Line, hits: Arc<Hits>) -> Self {
        Self { line, queues: HashMap::new(), frames: JoinSet::new(), hits }
    }

    pub(super) fn add(&mut self, to: ClientId, message: Message<Target>) {
        let empty = || Queue {
            messages: VecDeque::new(),
            in_flight: 0,
            took: Duration::ZERO,
            spent_until: Instant::now(),
        };
        let queue = self.queues.entry(to).or_insert_with(empty);
        if queue.messages.len() >= QUEUE_MAX {
            queue.messages.pop_front();
            self.hits.queue.inc();
        }
        queue.messages.push_back(message);
    }

    /// When something is due that waits for nothing but time.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waiting = self.queues.values().filter(|queue| queue.is_waiting());
        waiting.map(Queue::due).min()
    }

    /// Sends what is due, each record in its newest version.
    pub(super) fn send_due(
        &mut self,
        snapshot: impl Fn() -> Arc<Snapshot>,
        addresses: impl Fn(&ClientId) -> Vec<SocketAddr>,
    ) {
        let now = Instant::now();
        let mut shown = None;
        for (to, queue) in &mut self.queues {
            while queue.is_waiting() && queue.due() <= now {
                let shown = shown.get_or_insert_with(&snapshot);
                let Some(frame) = queue.take_frame(&shown.state.market) else { break };
                queue.spent_until = queue.spent_until.max(now) + queue.time_of(&frame);
                queue.in_flight += 1;
                self.frames.spawn(deliver(self.line.clone(), *to, addresses(to), frame.into_bytes()));
            }
        }
        let is_needed =
            |queue: &Queue| queue.in_flight > 0 || !queue.messages.is_empty() || queue.spent_until > now;
        self.queues.retain(|_, queue| is_needed(queue));
    }

    /// The next frame that was answered or given up. Pending while none is on its way.
    pub(super) async fn delivered(&mut self) -> Delivered {
        loop {
            match self.frames.join_next().await {
                Some(Ok(delivered)) => {
                    if let Some(queue) = self.queues.get_mut(&delivered.to) {
                        queue.in_flight = queue.in_flight.saturating_sub(1);
                        queue.took = delivered.took;
                    }
                    return delivered;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl Queue {
    /// Until then messages are collected.
    fn due(&self) -> Instant {
        self.spent_until.checked_sub(COLLECT_AHEAD).unwrap_or(self.spent_until)
    }

    fn is_waiting(&self) -> bool {
        !self.messages.is_empty() && self.in_flight < FRAMES_IN_FLIGHT_MAX
    }

    /// How much of its time a frame takes.
    fn time_of(&self, frame: &Frame) -> Duration {
        let extra = u32::try_from(frame.messages() - 1).unwrap_or(u32::MAX);
        let takes = COLLECT_A_MESSAGE.saturating_mul(extra).max(COLLECT_A_WAY * self.took);
        takes.clamp(COLLECT_MIN, COLLECT_MAX)
    }

    /// As many messages as fit; a record that is no longer held is left out.
    fn take_frame(&mut self, market: &Market) -> Option<Frame> {
        let mut frame = Frame::default();
        while let Some(message) = self.messages.front() {
            match message.carry(|target| carried(market, target)) {
                Some(message) if !frame.add(&message) => break,
                _ => self.messages.pop_front(),
            };
        }
        (frame.messages() > 0).then_some(frame)
    }
}

/// The newest version of a record, or the proof that its maker contradicts itself.
pub(super) fn carried(market: &Market, target: &Target) -> Option<Carried> {
    if let Some((first, second)) = market.equivocated.get(target) {
        let [item, twin] = [first, second].map(|offer| offer.item().clone().into_inner());
        return Some(Carried { item, twin: Some(twin) });
    }
    let item = market.records.get(target)?.item().clone().into_inner();
    Some(Carried { item, twin: None })
}

async fn deliver(line: Line, to: ClientId, addresses: Vec<SocketAddr>, frame: Vec<u8>) -> Delivered {
    let left_at = Instant::now();
    let answer = line.call(to, &addresses, GOSSIP, &parcel::wrap(&frame)).await;
    let heard = match answer {
        Some(Ok(body)) => serde_json::from_str(&body).ok().map(|Gossiped { neighbour }| neighbour),
        // It is there and has much to do: heads will tell what it missed.
        Some(Err(RpcRefusal { retryable: true, .. })) => Some(true),
        Some(Err(_)) | None => None,
    };
    Delivered { to, heard, took: left_at.elapsed() }
}
