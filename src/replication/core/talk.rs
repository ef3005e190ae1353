//! What nodes say to each other: *frames* of messages that need no answer, and *questions* with an *answer* each.
//!
//! A tag (one byte) stands before everything that comes in kinds; lists and byte strings have a length (u16) before them. What a
//! record is depends on the direction: its target as the core says it, since whoever holds the bytes puts the newest ones in, and
//! the signed item as it arrives.

use super::{
    head::{Root, UncheckedHead},
    index::Summary,
    limits::{
        HEADS_AN_ANSWER_MAX, NEWS_MAX, RECORDS_A_QUESTION_MAX, ROOTS_AN_ANSWER_MAX, STAMPS_AN_ANSWER_MAX,
        TALK_BYTES_MAX,
    },
    version::{Stamp, ValueHash, Version},
    wire::{Malformed, Reader, Writer},
};
use crate::{
    bep44::{MutableItem, Target},
    identity::{ClientId, PublicKey},
    time::UnixMillis,
};
use std::sync::Arc;

/// The longest head: all its fields, four IPv6 addresses and the signature.
const HEAD_BYTES_MAX: usize = 32 + 8 + 8 + 4 + 32 + 1 + 4 * 19 + 64;

/// A record as it arrived, or the proof that its maker contradicts itself in it. Nothing about it is known to be true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// The record.
    pub item: MutableItem,
    /// What it contradicts: another version, or another record with the same id.
    pub twin: Option<MutableItem>,
}

impl Carried {
    fn len(&self) -> usize {
        let len = |item: &MutableItem| 32 + 8 + 64 + 2 + item.v.len();
        len(&self.item) + 1 + self.twin.as_ref().map_or(0, len)
    }

    fn write(&self, writer: &mut Writer) {
        writer.item(&self.item);
        writer.flag(self.twin.is_some());
        self.twin.iter().for_each(|twin| writer.item(twin));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let item = reader.item()?;
        let twin = if reader.flag()? { Some(reader.item()?) } else { None };
        match &twin {
            Some(twin) if (twin.k, &twin.v) == (item.k, &item.v) => {
                Err(Malformed("a proof of fraud that proves nothing"))
            }
            Some(twin) if twin.seq != item.seq && cfg!(mutant = "replica_proof_of_two_versions_refused") => {
                Err(Malformed("a proof of fraud of two versions"))
            }
            _ => Ok(Self { item, twin }),
        }
    }

    /// Which version of the record it says to be.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        let version = Version::of(&self.item)?;
        let version = if self.twin.is_some() { Version::FRAUD } else { version };
        Some(Stamp { target: self.item.target(), version })
    }
}

/// Something that a neighbour may not have yet, by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum News {
    /// A version of a record.
    Record(Stamp),
    /// A head.
    Head {
        /// Whose.
        maker: ClientId,
        /// Which.
        counter: u64,
    },
}

/// A part of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<R> {
    /// A record.
    Record(R),
    /// A head.
    Head(Arc<[u8]>),
    /// What the sender has.
    Have(Vec<News>),
    /// What the sender wants, and that it wants what these makers make at once from now on.
    Want(Vec<News>),
    /// What these makers make comes to the sender sooner on other ways: names are enough from now on.
    Prune(Vec<ClientId>),
    /// What these makers make would come sooner from the receiver: it is wanted at once from now on.
    Graft(Vec<ClientId>),
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Be my neighbour?
    Join {
        /// The asker has no other.
        urgent: bool,
        /// The asker's own head.
        head: Arc<[u8]>,
    },
    /// We are neighbours no longer.
    Leave,
    /// The heads of the makers after this one.
    Heads(Option<ClientId>),
    /// One hash over everything that was held at that time.
    Overall(UnixMillis),
    /// The roots of the makers after this one.
    Roots(UnixMillis, Option<ClientId>),
    /// What was held of this maker.
    Maker(ClientId, UnixMillis),
    /// What was held of this maker in one bucket.
    Bucket(ClientId, UnixMillis, u8),
    /// The newest versions of these records.
    Records(Vec<Target>),
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer<R> {
    /// To [`Question::Join`]: whether we are neighbours now, and the answerer's own head.
    Joined {
        /// Whether.
        accepted: bool,
        /// Its head.
        head: Arc<[u8]>,
    },
    /// To [`Question::Leave`].
    Left,
    /// To [`Question::Heads`], and whether there are more.
    Heads(Vec<Arc<[u8]>>, bool),
    /// To [`Question::Overall`].
    Overall(Root),
    /// To [`Question::Roots`], and whether there are more.
    Roots(Vec<(ClientId, Root)>, bool),
    /// To [`Question::Maker`], when there are many records.
    Buckets(Vec<(u8, Summary)>),
    /// To [`Question::Maker`], when there are few, and to [`Question::Bucket`].
    Stamps(Vec<Stamp>),
    /// To [`Question::Records`]: those that are held and fit.
    Records(Vec<R>),
    /// That will not be told: of too long ago, or of the future.
    NotTold,
}

impl News {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Record(stamp) => {
                writer.u8(1);
                write_stamp(writer, stamp);
            }
            Self::Head { maker, counter } => {
                writer.u8(2);
                writer.bytes(&maker.0);
                writer.u64(*counter);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Record(read_stamp(reader)?)),
            2 => Ok(Self::Head { maker: read_maker(reader)?, counter: reader.u64()? }),
            _ => Err(Malformed("news of an unknown kind")),
        }
    }
}

impl<R> Message<R> {
    /// With the record that `find` gives for the one that is named, if there is one.
    pub fn carry<S>(&self, find: impl FnOnce(&R) -> Option<S>) -> Option<Message<S>> {
        Some(match self {
            Self::Record(record) => Message::Record(find(record)?),
            Self::Head(head) => Message::Head(head.clone()),
            Self::Have(news) => Message::Have(news.clone()),
            Self::Want(news) => Message::Want(news.clone()),
            Self::Prune(makers) => Message::Prune(makers.clone()),
            Self::Graft(makers) => Message::Graft(makers.clone()),
        })
    }
}

impl<R> Answer<R> {
    /// With the records that `find` gives for those that are named, as far as there are any.
    pub fn carry<S>(self, find: impl FnMut(R) -> Option<S>) -> Answer<S> {
        match self {
            Self::Joined { accepted, head } => Answer::Joined { accepted, head },
            Self::Left => Answer::Left,
            Self::Heads(heads, more) => Answer::Heads(heads, more),
            Self::Overall(root) => Answer::Overall(root),
            Self::Roots(roots, more) => Answer::Roots(roots, more),
            Self::Buckets(buckets) => Answer::Buckets(buckets),
            Self::Stamps(stamps) => Answer::Stamps(stamps),
            Self::Records(records) => Answer::Records(records.into_iter().filter_map(find).collect()),
            Self::NotTold => Answer::NotTold,
        }
    }
}

impl Message<Carried> {
    /// Writes one to the end of a frame.
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Record(record) => {
                writer.u8(1);
                record.write(writer);
            }
            Self::Head(head) => {
                writer.u8(2);
                writer.long(head);
            }
            Self::Have(news) => {
                writer.u8(3);
                writer.list(news, |writer, news| news.write(writer));
            }
            Self::Want(news) => {
                writer.u8(4);
                writer.list(news, |writer, news| news.write(writer));
            }
            Self::Prune(makers) => {
                writer.u8(5);
                writer.list(makers, |writer, maker| writer.bytes(&maker.0));
            }
            Self::Graft(makers) => {
                writer.u8(6);
                writer.list(makers, |writer, maker| writer.bytes(&maker.0));
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            1 => Self::Record(Carried::read(reader)?),
            2 => Self::Head(read_head(reader)?),
            3 => Self::Have(reader.list(NEWS_MAX, News::read)?),
            4 => Self::Want(reader.list(NEWS_MAX, News::read)?),
            5 => Self::Prune(reader.list(NEWS_MAX, read_maker)?),
            6 => Self::Graft(reader.list(NEWS_MAX, read_maker)?),
            _ => return Err(Malformed("a message of an unknown kind")),
        })
    }
}

/// A frame that is being written.
#[derive(Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    messages: usize,
}

impl Frame {
    /// Adds a message if it fits, the first in any case. Returns whether it did.
    #[must_use]
    pub fn add(&mut self, message: &Message<Carried>) -> bool {
        let mut writer = Writer::default();
        message.write(&mut writer);
        let bytes = writer.finish();
        let fits = self.messages == 0 || self.bytes.len() + bytes.len() <= TALK_BYTES_MAX;
        if fits {
            self.bytes.extend_from_slice(&bytes);
            self.messages += 1;
        }
        fits
    }

    /// How many messages it has.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Its bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Writes as many of the messages as fit into one frame. Returns how many.
#[must_use]
pub fn write_frame(messages: &[Message<Carried>]) -> (Vec<u8>, usize) {
    let mut frame = Frame::default();
    let written = messages.iter().take_while(|message| frame.add(message)).count();
    (frame.into_bytes(), written)
}

/// Reads a whole frame. An empty one asks whether somebody is there.
pub fn read_frame(bytes: &[u8]) -> Result<Vec<Message<Carried>>, Malformed> {
    check_length(bytes)?;
    let (mut reader, mut messages) = (Reader::new(bytes), Vec::new());
    while !reader.is_empty() {
        messages.push(Message::read(&mut reader)?);
    }
    Ok(messages)
}

impl Question {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Join { urgent, head } => {
                writer.u8(1);
                writer.flag(*urgent);
                writer.long(head);
            }
            Self::Leave => writer.u8(2),
            Self::Heads(after) => {
                writer.u8(3);
                write_after(&mut writer, *after);
            }
            Self::Overall(at) => {
                writer.u8(4);
                writer.u64(at.0);
            }
            Self::Roots(at, after) => {
                writer.u8(5);
                writer.u64(at.0);
                write_after(&mut writer, *after);
            }
            Self::Maker(maker, at) => {
                writer.u8(6);
                writer.bytes(&maker.0);
                writer.u64(at.0);
            }
            Self::Bucket(maker, at, bucket) => {
                writer.u8(7);
                writer.bytes(&maker.0);
                writer.u64(at.0);
                writer.u8(*bucket);
            }
            Self::Records(targets) => {
                writer.u8(8);
                writer.list(targets, |writer, target| writer.bytes(&target.0));
            }
        }
        writer.finish()
    }

    /// Reads one that fills `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        check_length(bytes)?;
        let mut reader = Reader::new(bytes);
        let question = match reader.u8()? {
            1 => Self::Join { urgent: reader.flag()?, head: read_head(&mut reader)? },
            2 => Self::Leave,
            3 => Self::Heads(read_after(&mut reader)?),
            4 => Self::Overall(reader.millis()?),
            5 => Self::Roots(reader.millis()?, read_after(&mut reader)?),
            6 => Self::Maker(read_maker(&mut reader)?, reader.millis()?),
            7 => Self::Bucket(read_maker(&mut reader)?, reader.millis()?, reader.u8()?),
            8 => Self::Records(reader.list(RECORDS_A_QUESTION_MAX, Reader::target)?),
            _ => return Err(Malformed("a question of an unknown kind")),
        };
        reader.end()?;
        Ok(question)
    }
}

impl Answer<Carried> {
    /// Its bytes; of records only as many as fit.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Joined { accepted, head } => {
                writer.u8(1);
                writer.flag(*accepted);
                writer.long(head);
            }
            Self::Left => writer.u8(2),
            Self::Heads(heads, more) => {
                writer.u8(3);
                writer.list(heads, |writer, head| writer.long(head));
                writer.flag(*more);
            }
            Self::Overall(root) => {
                writer.u8(4);
                writer.bytes(&root.0);
            }
            Self::Roots(roots, more) => {
                writer.u8(5);
                writer.list(roots, |writer, (maker, root)| {
                    writer.bytes(&maker.0);
                    writer.bytes(&root.0);
                });
                writer.flag(*more);
            }
            Self::Buckets(buckets) => {
                writer.u8(6);
                writer.list(buckets, |writer, (bucket, summary)| {
                    writer.u8(*bucket);
                    writer.bytes(&summary.root.0);
                    writer.u32(summary.records);
                });
            }
            Self::Stamps(stamps) => {
                writer.u8(7);
                writer.list(stamps, write_stamp);
            }
            Self::Records(records) => {
                writer.u8(8);
                let mut room = TALK_BYTES_MAX - 3;
                let fit = records.iter().take_while(|record| {
                    let fits = record.len() <= room;
                    room = room.saturating_sub(record.len());
                    fits
                });
                let fit = fit.count();
                writer.list(&records[..fit], |writer, record| record.write(writer));
            }
            Self::NotTold => writer.u8(9),
        }
        writer.finish()
    }

    /// Reads one that fills `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        check_length(bytes)?;
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            1 => Self::Joined { accepted: reader.flag()?, head: read_head(&mut reader)? },
            2 => Self::Left,
            3 => Self::Heads(reader.list(HEADS_AN_ANSWER_MAX, read_head)?, reader.flag()?),
            4 => Self::Overall(Root(reader.array()?)),
            5 => {
                let one = |reader: &mut Reader<'_>| Ok((read_maker(reader)?, Root(reader.array()?)));
                Self::Roots(reader.list(ROOTS_AN_ANSWER_MAX, one)?, reader.flag()?)
            }
            6 => Self::Buckets(reader.list(256, |reader| {
                let bucket = reader.u8()?;
                Ok((bucket, Summary { root: Root(reader.array()?), records: reader.u32()? }))
            })?),
            7 => Self::Stamps(reader.list(STAMPS_AN_ANSWER_MAX, read_stamp)?),
            8 => Self::Records(reader.list(RECORDS_A_QUESTION_MAX, Carried::read)?),
            9 => Self::NotTold,
            _ => return Err(Malformed("an answer of an unknown kind")),
        };
        reader.end()?;
        Ok(answer)
    }
}

fn check_length(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() > TALK_BYTES_MAX {
        Err(Malformed("more bytes than a node may send at once"))
    } else {
        Ok(())
    }
}

fn write_stamp(writer: &mut Writer, stamp: &Stamp) {
    writer.bytes(&stamp.target.0);
    writer.u64(stamp.version.sequence);
    writer.bytes(&stamp.version.value.0);
}

fn read_stamp(reader: &mut Reader<'_>) -> Result<Stamp, Malformed> {
    let target = reader.target()?;
    let version = Version { sequence: reader.u64()?, value: ValueHash(reader.array()?) };
    Ok(Stamp { target, version })
}

fn write_after(writer: &mut Writer, after: Option<ClientId>) {
    writer.flag(after.is_some());
    if let Some(maker) = after {
        writer.bytes(&maker.0);
    }
}

fn read_after(reader: &mut Reader<'_>) -> Result<Option<ClientId>, Malformed> {
    Ok(if reader.flag()? { Some(read_maker(reader)?) } else { None })
}

fn read_maker(reader: &mut Reader<'_>) -> Result<ClientId, Malformed> {
    reader.array().map(PublicKey)
}

fn read_head(reader: &mut Reader<'_>) -> Result<Arc<[u8]>, Malformed> {
    Ok(UncheckedHead::read(reader.long(HEAD_BYTES_MAX)?)?.bytes().clone())
}

#[cfg(test)]
mod tests;
