//! One ring of twelve: four stock grapes (two of them verify signatures), four of ours, two libtorrent sessions and two mainline
//! servers. Everybody announces a name and puts a value and a signed value; everybody finds what each of the others did.
//!
//! What the protocols do not allow, and what the test expects there instead, is [`barrier`]. Two more things keep
//! nobody from anything, because what one node lacks another has:
//!
//! - A mainline server answers transaction ids of four bytes only, and grapes and libtorrent send two. So these store nothing on
//!   it and read nothing from it; ours does both. A stock grape waits two seconds for it at each new target.
//! - A stock grape without `verify` stores no signed value. It passes one on to the others all the same.

mod ways;

use self::ways::{
    Deadline, Took, http_does, http_finds, http_sees, libtorrent_does_all, libtorrent_finds, mainline_does,
    mainline_finds,
};
use crate::{
    peers::{Peer, mainline_server},
    support::{Grape, exchange, stock_grape, stock_grape_with, vintner_grape},
};
use mainline::Dht;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, block_in_place};
use vintner::{
    bep44::{Target, VerifiedItem, bencode_bytes},
    identity::KeyPair,
};

/// The longest that one of our grapes may take to look something up, whoever else is mute.
const LOOKUP_MAX: Duration = Duration::from_secs(1);
/// How long what one did may take to be seen by all: a stock grape waits two seconds for each mute node, libtorrent up to 15.
const PATIENCE: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ours,
    Verifying,
    Plain,
    Libtorrent,
    Mainline,
}

/// What a member did, or another looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// It announced a service under a name of twenty bytes.
    Announced,
    /// The same, under a shorter name.
    AnnouncedShort,
    Put,
    Signed,
}

const DEEDS: [Deed; 4] = [Deed::Announced, Deed::AnnouncedShort, Deed::Put, Deed::Signed];

/// What the protocols keep from a member, as maker or as reader.
fn barrier(deed: Deed, kind: Kind, reads: bool) -> Option<&'static str> {
    match (deed, kind) {
        (Deed::AnnouncedShort, Kind::Libtorrent | Kind::Mainline) => {
            Some("to BitTorrent an info hash has twenty bytes: there are no other names")
        }
        (Deed::Signed, Kind::Plain) if reads => Some("a stock grape without `verify` believes no signature"),
        _ => None,
    }
}

enum Access {
    Http(Grape),
    Lines(Peer),
    Crate(Dht),
}

struct Member {
    n: u8,
    kind: Kind,
    access: Access,
}

/// Member `n`, as the others speak of it.
#[derive(Clone, Copy, Debug)]
struct Maker {
    n: u8,
    kind: Kind,
}

impl Maker {
    fn name(self, deed: Deed) -> String {
        if deed == Deed::Announced {
            format!("ring:of:twelve:{:05}", self.n)
        } else {
            format!("short:{}", self.n)
        }
    }

    fn port(self) -> u16 {
        5000 + u16::from(self.n)
    }

    fn text(self, deed: Deed) -> String {
        format!("{deed:?} by {:?} {}", self.kind, self.n)
    }

    fn seed(self) -> [u8; 32] {
        [100 + self.n; 32]
    }

    fn item(self) -> VerifiedItem {
        let v = bencode_bytes(self.text(Deed::Signed).as_bytes());
        VerifiedItem::sign(&KeyPair::from_seed(&self.seed()), b"", 1, v).unwrap()
    }

    /// Where what it put lives.
    fn target(self, deed: Deed) -> Target {
        match deed {
            Deed::Signed => self.item().target(),
            _ => Target::of_value(&bencode_bytes(self.text(deed).as_bytes())),
        }
    }

    /// What another should see of it: an address, or a text.
    fn trace(self, deed: Deed) -> String {
        match deed {
            Deed::Announced | Deed::AnnouncedShort => format!("127.0.0.1:{}", self.port()),
            Deed::Put | Deed::Signed => self.text(deed),
        }
    }
}

impl Member {
    fn maker(&self) -> Maker {
        Maker { n: self.n, kind: self.kind }
    }

    /// Announces, puts and signs, each until somebody took it.
    async fn act(mut self) -> Self {
        let me = self.maker();
        let deeds = DEEDS.into_iter().filter(|&deed| barrier(deed, me.kind, false).is_none());
        match &mut self.access {
            Access::Http(grape) => {
                for deed in deeds {
                    http_does(grape.http, me, deed).await;
                }
            }
            Access::Lines(peer) => libtorrent_does_all(peer, me).await,
            Access::Crate(dht) => block_in_place(|| deeds.for_each(|deed| mainline_does(dht, me, deed))),
        }
        self
    }

    /// Finds what all the others did, and not what it cannot see. Returns the slowest question of one of ours.
    async fn find_all(mut self, makers: Vec<Maker>) -> (Self, Took) {
        let me = self.kind;
        let others = makers.iter().filter(|maker| maker.n != self.n);
        let done = others.flat_map(|maker| DEEDS.map(|deed| (*maker, deed)));
        let done = done.filter(|(maker, deed)| barrier(*deed, maker.kind, false).is_none());
        let (visible, barred): (Vec<_>, Vec<_>) =
            done.partition(|(_, deed)| barrier(*deed, me, true).is_none());
        let mut slowest = Took::default();
        match &mut self.access {
            Access::Http(grape) => {
                let mut asking = JoinSet::new();
                for (maker, deed) in visible {
                    asking.spawn(http_finds(grape.http, me, maker, deed));
                    // A stock grape waits for the mute ones each time; it may do so for all of them at once.
                    if me == Kind::Ours {
                        slowest = slowest.max(asking.join_next().await.unwrap().unwrap());
                    }
                }
                asking.join_all().await;
                let blind: JoinSet<_> =
                    barred.into_iter().map(|(maker, deed)| http_sees(grape.http, me, maker, deed)).collect();
                assert!(blind.join_all().await.into_iter().all(|(seen, _)| seen.is_none()), "{me:?}");
            }
            Access::Lines(peer) => {
                for (maker, deed) in visible {
                    libtorrent_finds(peer, maker, deed).await;
                }
            }
            Access::Crate(dht) => block_in_place(|| {
                for (maker, deed) in visible {
                    mainline_finds(dht, maker, deed);
                }
            }),
        }
        (self, slowest)
    }
}

/// Starts the twelve; each of ours knows all the others when this returns.
async fn twelve() -> Vec<Member> {
    let loopback = ["-b", "127.0.0.1"];
    let first = vintner_grape(&[], &loopback).await;
    let second = vintner_grape(&[first.bootstrap()], &loopback).await;
    let known = [first.bootstrap(), second.bootstrap()];
    let mut all = vec![(Kind::Ours, Access::Http(first)), (Kind::Ours, Access::Http(second))];
    for _ in 0..2 {
        all.push((Kind::Ours, Access::Http(vintner_grape(&known, &loopback).await)));
        all.push((Kind::Verifying, Access::Http(stock_grape(&known).await)));
        all.push((Kind::Plain, Access::Http(stock_grape_with(&known, json!({})).await)));
        all.push((Kind::Libtorrent, Access::Lines(Peer::libtorrent(&known).await)));
        all.push((Kind::Mainline, Access::Crate(block_in_place(|| mainline_server(&known)))));
    }
    for (kind, access) in &all {
        let (Kind::Ours, Access::Http(grape)) = (kind, access) else { continue };
        let deadline = Deadline::start();
        loop {
            let page = exchange(grape.http, "GET /metrics HTTP/1.1", "").await.body;
            if page.contains("vintner_dht_nodes{state=\"good\"} 11\n") {
                break;
            }
            deadline.check(|| format!("one of ours knows everybody: {page}"));
            tokio::time::sleep(RETRY).await;
        }
    }
    all.into_iter().enumerate().map(|(n, (kind, access))| Member { n: n as u8, kind, access }).collect()
}

/// Statement 3, 12, 13, 14, 27, 37: in a ring of four stock grapes, four of ours, two libtorrent sessions and two mainline servers
/// everybody finds what each of the others announced, put and signed, as far as the protocols allow it, and no lookup of ours takes
/// a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_ring_of_twelve_everybody_finds_what_everybody_did() {
    let started = Instant::now();
    let members = twelve().await;
    let makers: Vec<Maker> = members.iter().map(Member::maker).collect();
    println!("{:?}: the ring is joined", started.elapsed());
    let acting: JoinSet<Member> = members.into_iter().map(Member::act).collect();
    let members = acting.join_all().await;
    println!("{:?}: all have announced and put", started.elapsed());
    let finding: JoinSet<_> = members.into_iter().map(|member| member.find_all(makers.clone())).collect();
    let (members, slowest): (Vec<Member>, Vec<Took>) = finding.join_all().await.into_iter().unzip();
    let (slowest, what) = slowest.into_iter().max().unwrap();
    println!(
        "{:?}: all have found all; the slowest lookup of ours took {slowest:?}: {what}",
        started.elapsed()
    );
    assert_eq!(members.len(), 12);
    assert!(slowest < LOOKUP_MAX, "a lookup of ours took {slowest:?}: {what}");
}
