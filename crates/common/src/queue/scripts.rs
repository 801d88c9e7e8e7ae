//! The moves' Lua scripts, put together from the files beside this one.
//!
//! A script is its header line, what it uses of the fragments in `scripts/lib`, and its own file: see [`assemble`].

use sha2::{Digest as _, Sha256};

use crate::ids::Shard;

mod assemble;
#[cfg(feature = "sabotage")]
mod sabotage;

#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;

use assemble::Library;

/// One script: its source, and the name under which Redis keeps it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) source: String,
    pub(crate) sha: String,
}

/// Whose clock the scripts read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Redis' own `TIME`: the only one in production.
    Redis,
    /// The key `<shard>:test-clock`, in ms, so that a test owns the time.
    #[cfg(feature = "test-clock")]
    Test,
    /// As `Test`, and a guard is missing.
    #[cfg(feature = "sabotage")]
    Sabotaged(Sabotage),
    /// As `Redis`, and a guard is missing.
    #[cfg(feature = "sabotage")]
    RedisSabotaged(Sabotage),
}

impl Clock {
    /// The clock of a program that is not a test: Redis' own.
    pub(super) fn of_program() -> Self {
        #[cfg(feature = "sabotage")]
        if let Some(sabotage) = Sabotage::of_program() {
            return Self::RedisSabotaged(sabotage);
        }
        Self::Redis
    }

    #[cfg(feature = "sabotage")]
    fn sabotage(self) -> Option<Sabotage> {
        match self {
            Self::Sabotaged(sabotage) | Self::RedisSabotaged(sabotage) => Some(sabotage),
            Self::Redis | Self::Test => None,
        }
    }
}

/// The fragments behind the clock and the way of pub/sub, each below what it uses.
const LIBRARY: [&str; 9] = [
    include_str!("scripts/lib/record.lua"),
    include_str!("scripts/lib/log.lua"),
    include_str!("scripts/lib/enter.lua"),
    include_str!("scripts/lib/end.lua"),
    include_str!("scripts/lib/key.lua"),
    include_str!("scripts/lib/limits.lua"),
    include_str!("scripts/lib/errors.lua"),
    include_str!("scripts/lib/collection.lua"),
    include_str!("scripts/lib/provider.lua"),
];

/// Makes the set of all scripts: name, whether it may run out of memory.
macro_rules! scripts {
    ($($name:ident: $flags:literal;)*) => {
        /// The name of every script.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name),)*];

        /// Every script.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)*
        }

        impl Scripts {
            /// Puts the scripts together, for one server or for a cluster.
            pub(crate) fn new(clock: Clock, sharded_pubsub: bool) -> Self {
                let library = library(clock, sharded_pubsub);
                Self {
                    $($name: Script::new(
                        stringify!($name), $flags, clock, &library,
                        include_str!(concat!("scripts/", stringify!($name), ".lua")),
                    ),)*
                }
            }

            /// All of them, for loading and for the tests of their form.
            pub(crate) fn all(&self) -> Vec<&Script> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

// `allow-oom`: what frees memory or ends running work goes on when Redis is full; what accepts new work does not.
scripts! {
    enqueue: "";
    enqueue_plain: "";
    reserve: "";
    unreserve: "allow-oom";
    store: "";
    discard: "allow-oom";
    claim: "allow-oom";
    renew: "allow-oom";
    publish: "";
    stash: "";
    settle: "allow-oom";
    hand_back: "allow-oom";
    snooze: "allow-oom";
    promote: "allow-oom";
    reclaim: "allow-oom";
    expire: "allow-oom";
    cancel: "allow-oom";
    retry: "";
    prune: "allow-oom";
    keep: "allow-oom";
    audit: "allow-oom";
    leave: "allow-oom";
    pause: "allow-oom";
    annotate: "";
    stats: "allow-oom";
    fold: "allow-oom";
    tallies: "allow-oom";
    collection_begin: "";
    collection_put: "";
    collection_complete: "allow-oom";
    collection_read: "allow-oom";
    collection_look: "allow-oom";
    collection_drop: "allow-oom";
    provider_report: "allow-oom";
    provider_try: "allow-oom";
    provider_take: "allow-oom";
    provider_turn: "allow-oom";
    provider_status: "allow-oom";
    place: "allow-oom";
    turns: "allow-oom";
}

/// All fragments.
fn library(clock: Clock, sharded_pubsub: bool) -> Library {
    let time = match clock {
        Clock::Redis => include_str!("scripts/lib/clock.lua"),
        #[cfg(feature = "test-clock")]
        Clock::Test => include_str!("scripts/lib/test_clock.lua"),
        #[cfg(feature = "sabotage")]
        Clock::Sabotaged(_) => include_str!("scripts/lib/test_clock.lua"),
        #[cfg(feature = "sabotage")]
        Clock::RedisSabotaged(_) => include_str!("scripts/lib/clock.lua"),
    };
    let pubsub = match sharded_pubsub {
        true => include_str!("scripts/lib/sharded_pubsub.lua"),
        false => include_str!("scripts/lib/pubsub.lua"),
    };
    let source = [&[time, pubsub], LIBRARY.as_slice()].concat().concat();
    #[cfg(feature = "sabotage")]
    let source = if let Some(sabotage) = clock.sabotage() { sabotage.apply("*", source) } else { source };
    Library::new(&source)
}

impl Script {
    #[cfg_attr(not(feature = "sabotage"), expect(unused_variables, reason = "the clock tells which guard is missing"))]
    fn new(name: &'static str, flags: &str, clock: Clock, library: &Library, body: &str) -> Self {
        #[cfg(feature = "sabotage")]
        let body = &clock.sabotage().map_or_else(|| body.to_owned(), |sabotage| sabotage.apply(name, body.to_owned()));
        let source = format!("#!lua flags={flags}\n{}", library.assemble(body));
        let sha = sha1_hex(&source);
        Self { name, source, sha }
    }
}

impl Script {
    /// A call of the script on a shard, without arguments yet.
    pub(crate) fn command(&self, shard: &Shard) -> redis::Cmd {
        self.command_at(&super::keys::base(shard))
    }

    /// A call of the script on what this key leads, without arguments yet.
    pub(crate) fn command_at(&self, base: &str) -> redis::Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha).arg(1).arg(base);
        command
    }
}

/// The name that Redis gives a script.
fn sha1_hex(source: &str) -> String {
    redis::Script::new(source).get_hash().to_owned()
}

/// A fingerprint of all scripts, for the log line at start.
pub(crate) fn fingerprint(scripts: &Scripts) -> String {
    let mut hash = Sha256::new();
    for script in scripts.all() {
        hash.update(script.sha.as_bytes());
    }
    super::keys::hex(&hash.finalize()[..4])
}
