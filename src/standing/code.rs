//! The table of reasons: the code, how much it hinders, what it means, what to do, and how long it must last to be news.

use std::{fmt, time::Duration};

/// How much a reason hinders; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The node cannot trade: `/readyz` is 503.
    Fail,
    /// The node can trade, and its list may lack something: `/readyz?sync=true` is 503.
    Sync,
    /// Shown, and nothing else: nobody should restart a node for it.
    Warn,
}

impl Level {
    /// All of them, the gravest first.
    pub const ALL: [Self; 3] = [Self::Fail, Self::Sync, Self::Warn];

    /// The word in JSON, labels and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Sync => "sync",
            Self::Warn => "warn",
        }
    }

    /// The level with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal, $level:ident, after $begins:literal s, until $ends:literal s:
        $meaning:literal; $advice:literal;)*) => {
        /// Which reason; `as_str` never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $meaning] $name,)* }

        impl Code {
            /// All of them, by level, the gravest first.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it stands in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How much it hinders.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            /// What it means for the owner, in one sentence without an end.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do, in one sentence without an end.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }

            /// How long it must last before it is a reason. At the first look nothing is waited for.
            #[must_use]
            pub const fn begins_after(self) -> Duration {
                match self { $(Self::$name => Duration::from_secs($begins),)* }
            }

            /// How long it must be gone before it is none.
            #[must_use]
            pub const fn ends_after(self) -> Duration {
                match self { $(Self::$name => Duration::from_secs($ends),)* }
            }
        }
    };
}

codes! {
    CannotWrite = "cannot_write", Fail, after 0 s, until 0 s:
        "the store cannot be written, so that nothing can be offered, bid or answered";
        "free space on the disk of the data directory, or make it writable again; the node goes on by itself";
    StoreBehind = "store_behind", Fail, after 0 s, until 0 s:
        "the network knows newer versions of the node's own offers than its store, so that it might sell twice";
        "restore the newest data directory, or run `vintner recover`";
    NoDhtNode = "no_dht_node", Fail, after 5 s, until 0 s:
        "no DHT node answers, so that nothing new is published or found";
        "check that one of the bootstrap nodes runs, and that UDP may pass in both directions";
    NotYetSynced = "not_yet_synced", Sync, after 0 s, until 0 s:
        "the node is still learning what is on offer";
        "wait a moment; it goes on by itself";
    Behind = "behind", Sync, after 0 s, until 0 s:
        "others say that they offer more than is held here";
        "wait a moment, it fetches the rest; if it lasts, look at the connections to other nodes";
    NoneReachable = "none_reachable", Sync, after 0 s, until 10 s:
        "other nodes of the network are known, and none of them can be reached";
        "check that outgoing TCP to their RPC ports may pass; if there are no others any more, say so with \
         `vintner node confirm-alone`";
    PrivateAddresses = "private_addresses", Sync, after 0 s, until 0 s:
        "other nodes were found only at addresses that this node does not connect to, so that it cannot tell what it lacks";
        "give --allow-private if that network is yours; a node that listens on loopback only needs --rpc and --dht \
         on 0.0.0.0 as well; if there is nobody of it any more, say so with `vintner node confirm-alone`";
    HeadsRefused = "heads_refused", Sync, after 0 s, until 5 s:
        "what others say of their offers is refused, because its time does not fit this machine's clock";
        "set this machine's clock by the network's time: `timedatectl set-ntp true`";
    KeyFile = "key_file", Warn, after 0 s, until 0 s:
        "the key's file is not what it was when the node started: once the node stops, it cannot start again as the same";
        "put the key file back from its backup before the node is stopped";
    ClockAhead = "clock_ahead", Warn, after 3 s, until 10 s:
        "this machine's clock is ahead of most other nodes' clocks";
        "set it by the network's time: `timedatectl set-ntp true`";
    ClockBehind = "clock_behind", Warn, after 3 s, until 10 s:
        "this machine's clock is behind most other nodes' clocks";
        "set it by the network's time: `timedatectl set-ntp true`";
    Unreachable = "unreachable", Warn, after 0 s, until 0 s:
        "no other node reaches this one, so that bids on its offers stay in doubt";
        "let TCP to its RPC port pass, forward it where addresses are translated, and name the outside address with \
         --advertise ADDR:PORT";
    OtherNetwork = "other_network", Warn, after 0 s, until 0 s:
        "offers of another network are heard, and no node of this one is connected";
        "if that network was meant, start the node with its name: --network, and a data directory of its own";
    MakersSilent = "makers_silent", Warn, after 10 s, until 0 s:
        "most other makers have fallen silent at the same time, and their offers are off the list";
        "check this machine's connection to the network; if the others were stopped, nothing is wrong here";
    FewNeighbours = "few_neighbours", Warn, after 60 s, until 5 s:
        "fewer nodes pass records on to this one than it looks for, so that news may come late";
        "check that outgoing TCP to other nodes' RPC ports may pass";
    OutboxStuck = "outbox_stuck", Warn, after 0 s, until 0 s:
        "something that this node wants to tell others has not reached them for long";
        "look at `vintner status`: bids in doubt wait for their makers, unpublished offers for DHT nodes";
}

impl Code {
    /// The code with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
