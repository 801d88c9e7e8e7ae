//! Every Redis key outside a shard's own, and the name that leads those.
//!
//! The keys of a shard are `overshot:{<pool>.<shard>}:<part>`; the parts are listed in `scripts/lib/record.lua`.

use sha2::{Digest, Sha256};

use crate::ids::{JobId, LocalId, Shard, WorkerId};

/// Which pools exist, and with how many shards each was first started.
pub(crate) const POOLS: &str = "overshot:pools";

/// The names of all collections, in order.
pub(crate) const COLLECTIONS: &str = "overshot:collections";

/// A collection, in a slot of its own.
pub(crate) fn collection(name: &str) -> String {
    format!("overshot:collection:{{{name}}}")
}

/// The leading part of all keys of a shard, with its hash tag.
pub(crate) fn base(shard: &Shard) -> String {
    format!("overshot:{{{shard}}}")
}

/// A key of a shard.
pub(crate) fn part(shard: &Shard, name: &str) -> String {
    format!("overshot:{{{shard}}}:{name}")
}

/// The leading part of all keys of a provider, with its hash tag.
pub(crate) fn provider(name: &str) -> String {
    format!("overshot:{{provider:{name}}}")
}

/// The channel over which workers learn that a provider has changed: its name.
pub(crate) const PROVIDERS_CHANNEL: &str = "overshot:providers";

/// The record of a job.
pub(crate) fn record(shard: &Shard, id: &LocalId) -> String {
    format!("overshot:{{{shard}}}:j:{id}")
}

/// The chunks of a job.
pub(crate) fn chunks(id: &JobId) -> String {
    format!("overshot:{{{}}}:c:{}", id.shard, id.local)
}

/// What a job left beside its record.
pub(crate) fn stash(id: &JobId) -> String {
    format!("overshot:{{{}}}:v:{}", id.shard, id.local)
}

/// The audio of a job's upload.
pub(crate) fn audio(id: &JobId) -> String {
    format!("overshot:{{{}}}:a:{}", id.shard, id.local)
}

/// The public channel of a job's events.
pub fn events_channel(id: &JobId) -> String {
    format!("overshot:{{{}}}:events:{id}", id.shard)
}

/// The channel over which a worker learns early what callers want of it.
pub(crate) fn worker_channel(worker: &WorkerId) -> String {
    format!("overshot:worker:{worker}")
}

/// The reservation of an idempotency key, in a slot of its own. The caller's text is hashed: it is no part of a key.
pub(crate) fn idempotency(key: &str) -> String {
    format!("overshot:idem:{{{}}}", hex(&Sha256::digest(key.as_bytes())[..16]))
}

/// What a submit may name that jobs are listed by: `listings` of `scripts/lib/record.lua`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    ConcurrencyKey,
    OwnerService,
    OwnerRef,
    OwnerAgent,
}

/// The part of a shard's keys that lists the jobs which name this.
pub(crate) fn listing(named: Named, text: &str) -> String {
    let letter = match named {
        Named::ConcurrencyKey => 'k',
        Named::OwnerService => 's',
        Named::OwnerRef => 'r',
        Named::OwnerAgent => 'a',
    };
    format!("t{letter}:{text}")
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
