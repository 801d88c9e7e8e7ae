//! The moves' Lua scripts, put together from the files beside this one.
//!
//! A script is its header line, the clock, the way of pub/sub, the record's layout, the fragments it needs, and its own file.

use sha2::{Digest as _, Sha256};

use crate::ids::Shard;

#[cfg(feature = "sabotage")]
mod sabotage;

#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;

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
}

const RECORD: &str = include_str!("scripts/lib/record.lua");
const ENTER: &str = include_str!("scripts/lib/enter.lua");
const END: &str = include_str!("scripts/lib/end.lua");
const KEY: &str = include_str!("scripts/lib/key.lua");
const LIMITS: &str = include_str!("scripts/lib/limits.lua");
const ERRORS: &str = include_str!("scripts/lib/errors.lua");

/// Makes the set of all scripts: name, whether it may run out of memory, fragments.
macro_rules! scripts {
    ($($name:ident: $flags:literal, [$($fragment:ident),*];)*) => {
        /// Every script.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)*
        }

        impl Scripts {
            /// Puts the scripts together, for one server or for a cluster.
            pub(crate) fn new(clock: Clock, sharded_pubsub: bool) -> Self {
                Self {
                    $($name: Script::new(
                        stringify!($name), $flags, clock, sharded_pubsub, &[$($fragment,)*],
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
    enqueue: "", [RECORD, ENTER, END, KEY, LIMITS];
    reserve: "", [];
    unreserve: "allow-oom", [];
    claim: "allow-oom", [RECORD, ENTER, END, ERRORS];
    renew: "allow-oom", [RECORD];
    publish: "", [RECORD, END_TOUCHED];
    settle: "allow-oom", [RECORD, ENTER, END];
    hand_back: "allow-oom", [RECORD, ENTER, END];
    snooze: "allow-oom", [RECORD, ENTER, END];
    promote: "allow-oom", [RECORD, ENTER, END, KEY, ERRORS];
    reclaim: "allow-oom", [RECORD, ENTER, END];
    expire: "allow-oom", [RECORD, ENTER, END, ERRORS];
    cancel: "allow-oom", [RECORD, ENTER, END, KEY];
    retry: "", [RECORD, ENTER, END, KEY, LIMITS];
    prune: "allow-oom", [RECORD];
    keep: "allow-oom", [RECORD];
    audit: "allow-oom", [RECORD, ENTER];
    leave: "allow-oom", [RECORD];
    pause: "allow-oom", [RECORD];
    annotate: "", [RECORD];
    stats: "allow-oom", [RECORD];
}

/// What `publish` needs of the end: the list of jobs to announce.
const END_TOUCHED: &str = "local touched = {}\n";

impl Script {
    fn new(name: &'static str, flags: &str, clock: Clock, sharded: bool, fragments: &[&str], body: &str) -> Self {
        let lines = match clock {
            Clock::Redis => include_str!("scripts/lib/clock.lua"),
            #[cfg(feature = "test-clock")]
            Clock::Test => include_str!("scripts/lib/test_clock.lua"),
            #[cfg(feature = "sabotage")]
            Clock::Sabotaged(_) => include_str!("scripts/lib/test_clock.lua"),
        };
        // The key reservations live outside the shards and need neither clock nor layout.
        let pubsub = match sharded {
            true => include_str!("scripts/lib/sharded_pubsub.lua"),
            false => include_str!("scripts/lib/pubsub.lua"),
        };
        let (lines, pubsub) = if fragments.is_empty() { ("", "") } else { (lines, pubsub) };
        let source = format!("#!lua flags={flags}\n{lines}{pubsub}{}{body}", fragments.concat());
        #[cfg(feature = "sabotage")]
        let source = if let Clock::Sabotaged(sabotage) = clock { sabotage.apply(name, source) } else { source };
        let sha = sha1_hex(&source);
        Self { name, source, sha }
    }
}

impl Script {
    /// A call of the script on a shard, without arguments yet.
    pub(crate) fn command(&self, shard: &Shard) -> redis::Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha).arg(1).arg(super::keys::base(shard));
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
