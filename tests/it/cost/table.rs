//! The numbers: how often each command may be called. A test that fails prints the line as it would be now.
//!
//! Lower a line whenever the code allows it; raise one only for a reason that the commit tells.

/// Calls by command.
pub(super) type Table = &'static [(&'static str, u64)];

/// Enqueue of 100 plain jobs, with one call.
pub(super) const ENQUEUE_100: Table =
    &[("evalsha", 1), ("exists", 1), ("hmget", 1), ("hset", 101), ("llen", 1), ("time", 1), ("xadd", 100), ("zadd", 1)];
/// Claim of 100 plain jobs, with one call.
pub(super) const CLAIM_100: Table = &[
    ("evalsha", 1),
    ("hget", 1),
    ("hincrby", 2),
    ("hmget", 101),
    ("hset", 102),
    ("pubsub|numsub", 1),
    ("time", 1),
    ("xreadgroup", 5),
    ("zadd", 1),
];
/// Settle of 100 plain jobs that completed, with one call.
pub(super) const SETTLE_100: Table = &[
    ("evalsha", 1),
    ("hget", 100),
    ("hincrby", 1),
    ("hset", 100),
    ("pexpire", 100),
    ("pubsub|numsub", 1),
    ("rpush", 1),
    ("time", 1),
    ("xack", 1),
    ("xpending", 1),
    ("xtrim", 1),
    ("zadd", 2),
    ("zrem", 2),
];

/// Enqueue of one plain job into an empty queue.
pub(super) const ENQUEUE_1: Table = &[
    ("evalsha", 1),
    ("exists", 1),
    ("hmget", 1),
    ("hset", 2),
    ("llen", 1),
    ("rpush", 1),
    ("time", 1),
    ("xadd", 1),
    ("zadd", 1),
];
/// Claim of one plain job, the last one.
pub(super) const CLAIM_1: Table = &[
    ("evalsha", 1),
    ("hget", 1),
    ("hincrby", 2),
    ("hmget", 2),
    ("hset", 3),
    ("pubsub|numsub", 1),
    ("time", 1),
    ("xreadgroup", 3),
    ("zadd", 1),
];
/// Settle of one plain job.
pub(super) const SETTLE_1: Table = &[
    ("evalsha", 1),
    ("hget", 1),
    ("hincrby", 1),
    ("hset", 1),
    ("pexpire", 1),
    ("pubsub|numsub", 1),
    ("rpush", 1),
    ("time", 1),
    ("xack", 1),
    ("xdel", 1),
    ("zadd", 2),
    ("zrem", 2),
];

/// What 100 jobs call beyond plain ones, from the enqueue to the end, where all have the same owner.
pub(super) const BEYOND_PLAIN_OWNER_SHARED: Table = &[("zadd", 2)];
/// The same, with an owner's reference for each.
pub(super) const BEYOND_PLAIN_OWNER_EACH: Table = &[("zadd", 101)];
/// The same, with a concurrency key for each. The script for jobs that are not plain is loaded; one plain job among them is filed
/// in its own way.
pub(super) const BEYOND_PLAIN_KEY_EACH: Table = &[
    ("del", 99),
    ("eval", 1),
    ("get", 299),
    ("hget", 99),
    ("set", 100),
    ("xack", 1),
    ("xdel", 2),
    ("zadd", 101),
    ("zpopmin", 99),
    ("zrem", 2),
];
/// The same, with a deadline of their own.
pub(super) const BEYOND_PLAIN_DEADLINE: Table = &[("eval", 1), ("zadd", 100), ("zrem", 99)];

/// Settle of three plain jobs, of which one is watched.
pub(super) const SETTLE_3_WATCHED_1: Table = &[
    ("evalsha", 1),
    ("hget", 3),
    ("hincrby", 1),
    ("hmget", 1),
    ("hset", 3),
    ("pexpire", 3),
    ("publish", 1),
    ("pubsub|numsub", 1),
    ("rpush", 1),
    ("time", 1),
    ("xack", 1),
    ("xdel", 1),
    ("zadd", 2),
    ("zrem", 2),
];

/// Calls that clients send for a lone job: enqueue, claim, settle, and the wait for the next ring.
pub(super) const CALLS_OF_A_LONE_JOB: f64 = 4.0;
/// Calls that a worker sends per job while many wait. Some 0.02 now, but how many jobs end together is a matter of time.
pub(super) const WORKER_CALLS_PER_JOB_UNDER_LOAD: f64 = 0.1;

/// All that is in the shard after plain jobs ended, `j:` being their records.
pub(super) const KEYS_OF_PLAIN_JOBS: &[&str] = &[
    "j:",
    "q:high",
    "q:normal",
    "q:low",
    "q:front",
    "open",
    "completed",
    "keep:",
    "h:",
    "keeps",
    "leases",
    "claims",
    "ctl",
    "n",
    "bell",
];
