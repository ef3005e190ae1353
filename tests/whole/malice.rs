//! Those who cheat. They run the same cores, and on top of that forge, replay, equivocate, withhold, flood, and answer with what belongs
//! to others.

use super::{
    people::{Trick, Twist, stranger_bid},
    plan::Mischief,
    trade::stamp,
    world::{What, World},
};
use rand::{Rng, RngExt, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use vintner::{
    bep44::Target,
    exchange::{BidAnswer, Refusal, RefusalCode},
    identity::{ClientId, PublicKey, Signature, Signed},
    market::{Bid, Offer},
    replication::core::{
        AnswerTo, CopyHash, Input, Root, Stamp, ValueHash, Version, Via,
        talk::{Answer, Carried, Message, News, Question},
    },
};

/// Questions and names in one flood.
const FLOOD: usize = 60;

impl World {
    /// Of what should go on, those who cheat keep a third to themselves.
    pub(crate) fn withholds(&mut self, n: usize, message: &Message<Carried>) -> bool {
        self.is_evil(n)
            && matches!(message, Message::Record(_) | Message::Head(_) | Message::Have(_))
            && self.rng.random_bool(0.3)
    }

    /// What somebody who cheats answers: nothing, less, something else, or what it would have answered.
    pub(crate) fn lie(&mut self, n: usize, answer: Answer<Carried>) -> Answer<Carried> {
        let made_up = Stamp {
            target: Target(self.rng.random()),
            version: Version { sequence: self.clock(n).0 - 60_000, value: ValueHash(self.rng.random()) },
        };
        match (answer, self.rng.random_range(0..5)) {
            (Answer::Records(mut records), 0) => {
                records.truncate(records.len() / 2);
                Answer::Records(records)
            }
            (Answer::Records(mut records), 1) => {
                for record in &mut records {
                    record.item.sig = Signature(self.rng.random());
                }
                Answer::Records(records)
            }
            (Answer::Records(_), 2) => Answer::Records(self.somebody_elses(n, 3)),
            (Answer::Stamps(_), 0) => Answer::Stamps(Vec::new()),
            (Answer::Stamps(mut stamps), 1) => {
                stamps.reverse();
                Answer::Stamps(stamps)
            }
            (Answer::Stamps(_), 2) => {
                let others = self.somebody_elses(n, 20);
                Answer::Stamps(others.iter().filter_map(Carried::stamp).collect())
            }
            (Answer::Stamps(mut stamps), 3) => {
                stamps.push(made_up);
                stamps.sort();
                Answer::Stamps(stamps)
            }
            (Answer::Overall(_), 0..3) => Answer::Overall(Root(self.rng.random())),
            (Answer::Roots(mut roots, more), 0..3) => {
                for (_, root) in &mut roots {
                    *root = Root(self.rng.random());
                }
                Answer::Roots(roots, more)
            }
            (Answer::Heads(mut heads, more), 0..2) => {
                heads.truncate(1);
                Answer::Heads(heads, more)
            }
            (Answer::Heads(heads, _), 2) => Answer::Heads(heads, true),
            (answer, _) => answer,
        }
    }

    /// Records that nobody asked for.
    fn somebody_elses(&mut self, n: usize, count: usize) -> Vec<Carried> {
        let Some(core) = self.nodes[n].core.as_ref() else { return Vec::new() };
        let skip = self.rng.random_range(0..4);
        let records = core.state().market.records.values().skip(skip).take(count);
        records.map(|offer| carried(offer)).collect()
    }

    pub(crate) fn cheat(&mut self, n: usize, mischief: Mischief, dice: &mut StdRng) {
        if !self.is_up(n) {
            return;
        }
        match mischief {
            Mischief::Forge => self.forge(n, dice),
            Mischief::Replay => self.replay(n, dice),
            Mischief::Equivocate => self.equivocate(n, dice),
            Mischief::BreakWord => self.break_word(n, dice),
            Mischief::Future => self.future(n, dice),
            Mischief::Flood => self.flood(n, dice),
            Mischief::StrangeBids => self.strange_bids(n, dice),
        }
    }

    fn neighbours(&self, n: usize) -> Vec<ClientId> {
        self.peers[n].core.as_ref().map(|core| core.status().neighbours).unwrap_or_default()
    }

    fn forge(&mut self, n: usize, dice: &mut StdRng) {
        let heads: Vec<Arc<[u8]>> = self.peers[n].heads.values().map(|head| head.bytes().clone()).collect();
        for to in self.neighbours(n) {
            let mut messages = Vec::new();
            for mut record in self.somebody_elses(n, 4) {
                match dice.random_range(0..3) {
                    0 => record.item.seq += 1_000,
                    1 => record.item.sig = Signature([0; 64]),
                    _ => record.item.v = vintner::bep44::bencode_bytes(b"{}"),
                }
                messages.push(Message::Record(record));
            }
            for head in heads.iter().take(2) {
                // The highest byte but one of the counter: who believes it believes its maker never again.
                let mut bytes = head.to_vec();
                bytes[33] ^= 0x40;
                messages.push(Message::Head(bytes.into()));
            }
            messages.push(Message::Prune(self.nodes.iter().map(|node| node.id).collect()));
            self.send(n, to, &messages);
        }
    }

    fn replay(&mut self, n: usize, dice: &mut StdRng) {
        if self.history.is_empty() {
            return;
        }
        for to in self.neighbours(n) {
            let old = (0..6).map(|_| Arc::clone(&self.history[dice.random_range(0..self.history.len())]));
            let messages: Vec<_> = old.map(|offer| Message::Record(carried(&offer))).collect();
            self.send(n, to, &messages);
        }
        for _ in 0..6 {
            let offer = Arc::clone(&self.history[dice.random_range(0..self.history.len())]);
            let to = dice.random_range(0..self.nodes.len());
            if to != n {
                self.carry(n, to, &What::Found(offer));
            }
        }
    }

    /// Makes a record that its other self signed known to the replication, so that its heads name it.
    fn adopt(&mut self, n: usize, offer: &Arc<Offer>) {
        self.signed.insert(CopyHash::of_items([&**offer.item()]));
        let (maker, dies_at) = (offer.client_id, offer.dies_at);
        self.give(n, Input::Held { maker, stamp: stamp(offer), dies_at, via: Via::Own });
    }

    fn equivocate(&mut self, n: usize, dice: &mut StdRng) {
        let at = self.clock(n);
        let hours = if dice.random_bool(0.3) { 1 } else { 24 };
        let Some(crook) = &mut self.peers[n].crook else { return };
        let mut faces = crook.two_faced(at);
        if hours == 1 {
            faces = crook.one_face_dies_sooner(at, Duration::from_secs(40));
        }
        self.tell_some(n, &faces, dice);
    }

    fn break_word(&mut self, n: usize, dice: &mut StdRng) {
        let at = self.clock(n);
        let trick = Trick::ALL[dice.random_range(0..Trick::ALL.len())];
        let Some(crook) = &mut self.peers[n].crook else { return };
        let offers = crook.breaks_its_word(trick, at);
        self.tell(|| format!("node {n} breaks its word: {trick:?} of {}", offers[0].target()));
        self.tell_some(n, &offers, dice);
    }

    /// Each of these is known to its maker, and one of them to each of some others.
    fn tell_some(&mut self, n: usize, faces: &[Arc<Offer>], dice: &mut StdRng) {
        for face in faces {
            self.adopt(n, face);
            self.history.push(Arc::clone(face));
        }
        for to in 0..self.nodes.len() {
            let face = Arc::clone(&faces[dice.random_range(0..faces.len())]);
            if to == n {
                continue;
            }
            match dice.random_range(0..4) {
                0 => _ = self.carry(n, to, &What::Found(face)),
                1 => {
                    let message = Message::Record(carried(&face));
                    self.send(n, self.nodes[to].id, &[message]);
                }
                _ => {}
            }
        }
    }

    fn future(&mut self, n: usize, dice: &mut StdRng) {
        let at = self.clock(n);
        let Some(offer) = self.peers[n].crook.as_mut().map(|crook| crook.future_offer(at)) else { return };
        self.adopt(n, &offer);
        for _ in 0..3 {
            let to = dice.random_range(0..self.nodes.len());
            if to != n {
                self.carry(n, to, &What::Found(Arc::clone(&offer)));
            }
        }
    }

    fn flood(&mut self, n: usize, dice: &mut StdRng) {
        for to in self.neighbours(n) {
            let names = (0..FLOOD).map(|_| News::Head { maker: PublicKey(dice.random()), counter: u64::MAX });
            self.send(n, to, &[Message::Have(names.collect())]);
            let noise: Vec<u8> = (0..dice.random_range(1..200)).map(|_| dice.random()).collect();
            if dice.random_bool(0.3) {
                self.send_bytes(n, to, noise.into());
            }
        }
        let to = dice.random_range(0..self.nodes.len());
        if to == n {
            return;
        }
        for _ in 0..FLOOD {
            let at = self.clock(n);
            let question = match dice.random_range(0..4) {
                0 => Question::Overall(at),
                1 => Question::Roots(at, None),
                2 => Question::Maker(self.nodes[dice.random_range(0..self.nodes.len())].id, at),
                _ => Question::Records((0..20).map(|_| Target(dice.random())).collect()),
            };
            // Nobody waits for the answers.
            let (to_number, bytes) = (AnswerTo(self.number()), question.to_bytes().into());
            self.carry(n, to, &What::Asked { from: n, to: to_number, bytes });
        }
    }

    fn strange_bids(&mut self, n: usize, dice: &mut StdRng) {
        let Some(offer) = self.some_offer(dice) else { return };
        let key = self.nodes[n].key.clone();
        for twist in [Twist::Fair, Twist::TooCheap, Twist::TooLate, Twist::OtherTerms] {
            let (id, at) = (u128::from(dice.next_u64() % 16), self.clock(n));
            let bid = stranger_bid(&key, &offer, twist, id, at);
            for _ in 0..dice.random_range(1..3) {
                self.ask(n, bid.clone());
            }
        }
    }

    /// A good signature on a trade about something else, or a no.
    pub(crate) fn answer_badly(&mut self, n: usize, number: u64, bid: &Signed<Bid>) {
        let answer = match &self.peers[n].crook {
            Some(crook) if !self.healed => crook.wrong_trade(bid, u128::from(number)),
            _ => BidAnswer::Refused(Refusal { code: RefusalCode::OfferNotAvailable, detail: "gone".into() }),
        };
        self.send_reply(n, number, Ok(answer));
    }
}

fn carried(offer: &Offer) -> Carried {
    Carried { item: (**offer.item()).clone(), twin: None }
}
