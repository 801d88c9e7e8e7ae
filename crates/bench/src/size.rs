//! How much is measured: a full form, and a fast one for every day.

/// The counts of one run; every part has its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Pairs of which a ratio is the median.
    pub(crate) pairs: usize,

    // The engine and what it costs.
    /// Jobs of one drain.
    pub(crate) jobs: usize,
    /// Jobs of one round of single enqueues.
    pub(crate) singles: usize,
    /// Lone jobs whose calls are counted.
    pub(crate) lone_jobs: usize,
    /// How long an idle fleet is watched, in seconds.
    pub(crate) idle_s: u64,

    // HTTP.
    /// Single POSTs of one round.
    pub(crate) posts: usize,
    /// Jobs of one round of bulk POSTs.
    pub(crate) bulk_posts: usize,
    /// Sequential POST → result round trips.
    pub(crate) round_trips: usize,

    // The relay.
    /// Rounds of which a delay is the median.
    pub(crate) relay_rounds: usize,
    /// How long the tokens of one round come, in seconds.
    pub(crate) relay_s: u32,

    // Depth and recovery.
    /// Jobs by which an index's memory is measured.
    pub(crate) index_jobs: usize,
    /// Jobs of the longest queue.
    pub(crate) deepest: usize,
    /// Workers killed over a queue.
    pub(crate) kills: usize,

    // Beyond one Redis.
    /// How many primaries and shards are held against one of each.
    pub(crate) layouts: &'static [(usize, u16)],
    /// Jobs of one drain over shards.
    pub(crate) shard_jobs: usize,
    /// Rounds over all layouts.
    pub(crate) shard_rounds: usize,
    /// How long simulated idle workers are watched, in seconds.
    pub(crate) idlers_s: u64,
}

impl Size {
    pub(crate) fn full() -> Self {
        Self {
            pairs: 5,
            jobs: 50_000,
            singles: 50_000,
            lone_jobs: 200,
            idle_s: 20,
            posts: 40_000,
            bulk_posts: 50_000,
            round_trips: 2_000,
            relay_rounds: 5,
            relay_s: 5,
            index_jobs: 20_000,
            deepest: 1_000_000,
            kills: 12,
            layouts: &[(1, 2), (1, 3), (1, 6), (2, 1), (2, 2), (2, 3), (2, 6), (3, 1), (3, 2), (3, 3), (3, 6)],
            shard_jobs: 20_000,
            shard_rounds: 3,
            idlers_s: 20,
        }
    }

    pub(crate) fn fast() -> Self {
        Self {
            pairs: 3,
            jobs: 10_000,
            singles: 10_000,
            lone_jobs: 50,
            idle_s: 6,
            posts: 8_000,
            bulk_posts: 10_000,
            round_trips: 500,
            relay_rounds: 3,
            relay_s: 1,
            index_jobs: 5_000,
            deepest: 100_000,
            kills: 3,
            layouts: &[(3, 3)],
            shard_jobs: 5_000,
            shard_rounds: 2,
            idlers_s: 3,
        }
    }
}
