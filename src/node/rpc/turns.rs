//! Whose bid is put next.
//!
//! A maker that does not answer holds a turn for as long as a call may last, so turns are given by maker: a few to each, one to one that
//! did not answer last, and never all of them to those of whom nobody knows whether they answer. Among those that may have one, bids that
//! were just made go before those that are asked again, and makers take turns.

use crate::{
    exchange::Turn,
    identity::{ClientId, PublicKey},
};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Questions on their way at the same time; the others wait their turn.
const TURNS: usize = 64;
/// Of these to one maker. On a way of 100 ms it is sent forty bids a second.
const TURNS_A_MAKER: usize = 4;
/// Of these to makers that have not answered yet, or did not when they were asked last.
const TURNS_OF_UNPROVEN: usize = 48;
/// Of these to makers that did not answer when they were asked last. One for each such maker.
const TURNS_OF_SILENT: usize = 32;
/// Makers of whom it is remembered whether they answered, though no bid of theirs waits.
const REMEMBERED_MAX: usize = 10_000;

/// How a maker took the last question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Standing {
    Answers,
    #[default]
    Unknown,
    Silent,
}

#[derive(Debug)]
struct Maker<Q> {
    standing: Standing,
    first: VecDeque<Q>,
    again: VecDeque<Q>,
    in_flight: usize,
    /// As which it has its turns, by standing: what it holds is given back as what it was taken.
    held_as: [usize; 3],
    /// Which turn of all its last one was: who waits longest for one is next.
    last_turn: u64,
    /// Where it stands in line, if it does.
    place: Option<Place>,
}

/// First questions stand before repeated ones, those of makers that answer before others', and then by when the maker had its last turn.
type Place = (bool, Standing, u64);

/// The questions that wait, and how many are on their way.
#[derive(Debug)]
pub(super) struct Turns<Q> {
    makers: HashMap<ClientId, Maker<Q>>,
    line: BTreeSet<(Place, ClientId)>,
    in_flight: usize,
    in_flight_as: [usize; 3],
    given: u64,
}

impl<Q> Default for Turns<Q> {
    fn default() -> Self {
        Self { makers: HashMap::new(), line: BTreeSet::new(), in_flight: 0, in_flight_as: [0; 3], given: 0 }
    }
}

impl<Q> Maker<Q> {
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.first.is_empty() && self.again.is_empty()
    }

    fn turns_max(&self) -> usize {
        if cfg!(mutant = "fair_turns_for_whoever_asks_most") {
            return TURNS;
        }
        if self.standing == Standing::Silent { 1 } else { TURNS_A_MAKER }
    }
}

impl<Q> Turns<Q> {
    /// A question to `maker` waits from now on.
    pub(super) fn add(&mut self, maker: ClientId, turn: Turn, question: Q) {
        if self.makers.len() >= REMEMBERED_MAX && !self.makers.contains_key(&maker) {
            // What is forgotten is only how it answered.
            self.makers.retain(|_, maker| !maker.is_idle());
        }
        let given = self.given;
        let of = self.makers.entry(maker).or_insert_with(|| Maker {
            standing: Standing::default(),
            first: VecDeque::new(),
            again: VecDeque::new(),
            in_flight: 0,
            held_as: [0; 3],
            last_turn: given,
            place: None,
        });
        match turn {
            Turn::First => of.first.push_back(question),
            Turn::Again => of.again.push_back(question),
        }
        self.stand(maker);
    }

    /// The next question that may leave, and to whom. It is on its way from now on.
    pub(super) fn next(&mut self) -> Option<(ClientId, Q)> {
        if self.in_flight >= TURNS {
            return None;
        }
        // Makers of one standing have the same room, so of each at most one is looked at.
        let mut from = None;
        let (_, id) = loop {
            let (place, id) = *match from {
                None => self.line.first(),
                Some(from) => self.line.range(from..).next(),
            }?;
            let (is_again, standing, _) = place;
            if self.has_room_for(standing) {
                break (place, id);
            }
            let after = match standing {
                Standing::Answers => (is_again, Standing::Unknown, 0),
                Standing::Unknown => (is_again, Standing::Silent, 0),
                Standing::Silent if !is_again => (true, Standing::Answers, 0),
                Standing::Silent => return None,
            };
            from = Some((after, PublicKey([0; 32])));
        };
        let maker = self.makers.get_mut(&id)?;
        let question = maker.first.pop_front().or_else(|| maker.again.pop_front())?;
        maker.in_flight += 1;
        maker.held_as[maker.standing as usize] += 1;
        self.in_flight += 1;
        self.in_flight_as[maker.standing as usize] += 1;
        self.given += 1;
        maker.last_turn = self.given;
        self.stand(id);
        Some((id, question))
    }

    /// A question to `maker` came back, with or without an answer that counts.
    pub(super) fn ended(&mut self, id: ClientId, answered: bool) {
        let Some(maker) = self.makers.get_mut(&id) else { return };
        maker.in_flight = maker.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        let held = [Standing::Silent, Standing::Unknown, Standing::Answers].into_iter();
        if let Some(held) = held.map(|held| held as usize).find(|held| maker.held_as[*held] > 0) {
            maker.held_as[held] -= 1;
            self.in_flight_as[held] -= 1;
        }
        maker.standing = if answered { Standing::Answers } else { Standing::Silent };
        self.stand(id);
    }

    fn has_room_for(&self, standing: Standing) -> bool {
        let [_, unknown, silent] = self.in_flight_as;
        match standing {
            Standing::Answers => true,
            Standing::Unknown => unknown + silent < TURNS_OF_UNPROVEN,
            Standing::Silent => silent < TURNS_OF_SILENT && unknown + silent < TURNS_OF_UNPROVEN,
        }
    }

    /// Puts a maker where it belongs in line; out of it when it has its share, or nothing waits.
    fn stand(&mut self, id: ClientId) {
        let Some(maker) = self.makers.get_mut(&id) else { return };
        let waits = !(maker.first.is_empty() && maker.again.is_empty());
        let is_again = maker.first.is_empty() && !cfg!(mutant = "fair_repeated_before_first");
        let may = waits && maker.in_flight < maker.turns_max();
        let place = may.then_some((is_again, maker.standing, maker.last_turn));
        let before = std::mem::replace(&mut maker.place, place);
        if before != place {
            if let Some(before) = before {
                self.line.remove(&(before, id));
            }
            if let Some(place) = place {
                self.line.insert((place, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Turn::{Again, First};

    fn maker(n: u8) -> ClientId {
        PublicKey([n; 32])
    }

    /// Everybody to whom a question leaves now.
    fn leave(turns: &mut Turns<u32>) -> Vec<ClientId> {
        std::iter::from_fn(|| turns.next()).map(|(to, _)| to).collect()
    }

    #[test]
    fn one_maker_has_four_turns_and_one_once_it_was_silent() {
        let mut turns = Turns::default();
        (0..10_000).for_each(|n| turns.add(maker(1), First, n));
        assert_eq!(leave(&mut turns), [maker(1); TURNS_A_MAKER]);
        turns.add(maker(2), First, 0);
        assert_eq!(leave(&mut turns), [maker(2)], "another one does not wait");
        (0..TURNS_A_MAKER).for_each(|_| turns.ended(maker(1), false));
        assert_eq!(leave(&mut turns), [maker(1)], "it is asked whether it is there");
        turns.ended(maker(1), true);
        assert_eq!(leave(&mut turns), [maker(1); TURNS_A_MAKER], "and then everything else");
    }

    #[test]
    fn makers_that_hang_leave_room_for_those_that_answer_and_for_those_that_are_new() {
        let mut turns = Turns::default();
        turns.add(maker(200), First, 0);
        leave(&mut turns);
        turns.ended(maker(200), true);
        (1..=100).for_each(|n| (0..99).for_each(|_| turns.add(maker(n), First, 0)));
        assert_eq!(leave(&mut turns).len(), TURNS_OF_UNPROVEN);
        turns.add(maker(200), First, 0);
        assert_eq!(leave(&mut turns), [maker(200)], "it answered before");
        turns.ended(maker(200), true);
        // All that ever left came to nothing, again and again.
        for _ in 0..100 {
            let held: Vec<(ClientId, usize)> =
                turns.makers.iter().map(|(id, maker)| (*id, maker.in_flight)).collect();
            for (id, count) in held {
                (0..count).for_each(|_| turns.ended(id, false));
            }
            leave(&mut turns);
        }
        assert_eq!(turns.in_flight, TURNS_OF_SILENT);
        turns.add(maker(201), First, 0);
        turns.add(maker(200), First, 0);
        assert_eq!(leave(&mut turns), [maker(200), maker(201)]);
    }

    #[test]
    fn a_bid_that_was_just_made_goes_before_those_that_are_asked_again_and_makers_take_turns() {
        let mut turns = Turns::default();
        (1..=40).for_each(|n| (0..2).for_each(|_| turns.add(maker(n), Again, 0)));
        turns.add(maker(50), First, 0);
        let left = leave(&mut turns);
        assert_eq!(left[0], maker(50));
        assert_eq!(left.len(), TURNS_OF_UNPROVEN);
        let once: std::collections::HashSet<_> = left.iter().collect();
        assert_eq!(once.len(), 41, "everybody once before anybody twice");
        let of_one: Vec<u32> = {
            let mut turns = Turns::default();
            turns.add(maker(1), Again, 1);
            turns.add(maker(1), First, 2);
            std::iter::from_fn(|| turns.next()).map(|(_, question)| question).collect()
        };
        assert_eq!(of_one, [2, 1]);
    }

    #[test]
    fn every_question_leaves_in_the_end_and_all_turns_come_back() {
        let (mut turns, mut left) = (Turns::default(), 0);
        (0..3_000_u32)
            .for_each(|n| turns.add(maker((n % 7) as u8), if n % 3 == 0 { Again } else { First }, n));
        let mut under_way = VecDeque::new();
        for n in 0.. {
            while let Some((to, _)) = turns.next() {
                under_way.push_back(to);
                left += 1;
            }
            let Some(to) = under_way.pop_front() else { break };
            turns.ended(to, n % 5 != 0);
        }
        assert_eq!((left, turns.in_flight, turns.in_flight_as), (3_000, 0, [0; 3]));
        assert!(turns.line.is_empty());
    }

    #[test]
    fn makers_of_whom_nothing_waits_are_forgotten_before_there_are_too_many() {
        let mut turns = Turns::default();
        for n in 0..2 * REMEMBERED_MAX as u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            turns.add(PublicKey(key), First, n);
            while let Some((to, _)) = turns.next() {
                turns.ended(to, false);
            }
        }
        assert!(turns.makers.len() <= REMEMBERED_MAX);
    }
}
