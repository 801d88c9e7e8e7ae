//! Identifiers: what names a job, a pool, a worker and the right to run a job.
//!
//! A [`JobId`] tells pool and shard, so that every Redis key of a job is derived without a look-up.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ulid::{Generator, Ulid};

/// Why a text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub(crate) &'static str);

/// Makes a newtype over a shared string with `Display` and transparent serde.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// The name of a pool: 1 to 40 of `a-z`, `0-9` and `-`.
    ///
    /// Nothing else may pass: the name stands inside a Redis hash tag, which a brace would move.
    PoolName
}

impl PoolName {
    /// The shards of a pool that has `count` of them.
    pub fn shards(&self, count: u16) -> impl Iterator<Item = Shard> {
        let pool = self.clone();
        (0..count).map(move |number| Shard { pool: pool.clone(), number })
    }

    /// The first shard, which every pool has.
    pub fn place(&self) -> Shard {
        Shard { pool: self.clone(), number: 0 }
    }

    /// The one shard, of `count`, in which all jobs of a concurrency key live: they exclude each other, and only what
    /// shares a slot can.
    pub fn shard_of_key(&self, key: &str, count: u16) -> Shard {
        let hash = Sha256::digest(key.as_bytes());
        let start = hash.first_chunk().expect("a SHA-256 hash has 32 bytes");
        Shard { pool: self.clone(), number: spread(u128::from(u64::from_be_bytes(*start)), count) }
    }
}

/// One of `count` places. Never to be changed: where the jobs of a key live follows from it.
fn spread(number: u128, count: u16) -> u16 {
    u16::try_from(number % u128::from(count.max(1))).expect("less than a u16")
}

impl FromStr for PoolName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=40).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits && plain {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId("a pool name is 1 to 40 characters of a-z, 0-9 and '-'"))
        }
    }
}

text_id! {
    /// One worker process, unique per process start: host name and a random part.
    WorkerId
}

impl WorkerId {
    /// Makes a name that no earlier process bore; `host` is for people.
    pub fn unique(host: &str) -> Self {
        let host: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '-' })
            .take(60)
            .collect();
        let unique = Ulid::new().to_string().to_ascii_lowercase();
        Self(format!("{host}-{}", &unique[10..]).into())
    }
}

impl FromStr for WorkerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if (1..=128).contains(&text.len()) && plain {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId("a worker id is 1 to 128 letters, digits and '-'"))
        }
    }
}

text_id! {
    /// The right to run one attempt of one job: `<number>.<nonce>`.
    ///
    /// The number grows with every claim of a job and orders its chunks; the nonce, made by the caller, keeps a
    /// grant from being handed out twice when a failover forgets the last number. Compared as a whole.
    Grant
}

impl FromStr for Grant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let numbered = text.split_once('.').is_some_and(|(number, _)| number.parse::<u64>().is_ok());
        if numbered { Ok(Self(text.into())) } else { Err(InvalidId("a grant is <number>.<nonce>")) }
    }
}

impl Grant {
    /// The part that grows, which leads the ids of the attempt's chunks.
    pub fn number(&self) -> u64 {
        self.0.split_once('.').and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
    }
}

/// One slot of Redis Cluster that holds a part of a pool: everything of a job lives in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// The pool it belongs to.
    pub pool: PoolName,
    /// Its number within the pool, from 0.
    pub number: u16,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pool, self.number)
    }
}

/// A job: `job_<pool>-<shard>-<ulid>`, ordered by time within a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Where the job lives.
    pub shard: Shard,
    /// What names it there: 26 characters of Crockford's base 32, lower case.
    pub local: LocalId,
}

/// The part of a [`JobId`] that is unique within its shard; Redis keys and entries hold only this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalId([u8; 26]);

impl fmt::Debug for LocalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl LocalId {
    fn of(ulid: Ulid) -> Self {
        let mut buffer = [0; 26];
        ulid.array_to_str(&mut buffer).make_ascii_lowercase();
        Self(buffer)
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII only, see from_str")
    }
}

impl fmt::Display for LocalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LocalId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let lower = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        match (lower, <[u8; 26]>::try_from(text.as_bytes()), Ulid::from_string(text)) {
            (true, Ok(bytes), Ok(_)) => Ok(Self(bytes)),
            _ => Err(InvalidId("a job id ends in 26 characters of Crockford's base 32")),
        }
    }
}

impl JobId {
    /// Makes a new id in `shard`. The ids of one process grow, so that a listing keeps the order of its submits.
    pub fn new(shard: Shard) -> Self {
        Self { shard, local: LocalId::of(new_ulid()) }
    }

    /// Makes a new id in a pool of `shards` shards: in that of its concurrency key, where it has one, else in any.
    pub fn in_pool(pool: &PoolName, shards: u16, key: Option<&str>) -> Self {
        let ulid = new_ulid();
        let shard = match key {
            Some(key) => pool.shard_of_key(key, shards),
            // Random; within a millisecond it counts up, so that the shards take turns.
            None => Shard { pool: pool.clone(), number: spread(ulid.random(), shards) },
        };
        Self { shard, local: LocalId::of(ulid) }
    }
}

fn new_ulid() -> Ulid {
    static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());
    let mut generator = GENERATOR.lock().expect("no holder of this lock can panic");
    // It fails only when 2^80 ids were made within a millisecond.
    generator.generate().unwrap_or_default()
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}-{}-{}", self.shard.pool.as_str(), self.shard.number, self.local.as_str())
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bad = InvalidId("a job id is job_<pool>-<shard>-<ulid>");
        let rest = text.strip_prefix("job_").ok_or_else(|| bad.clone())?;
        let (rest, local) = rest.rsplit_once('-').ok_or_else(|| bad.clone())?;
        let (pool, number) = rest.rsplit_once('-').ok_or_else(|| bad.clone())?;
        let canonical = number == "0" || !number.starts_with(['0', '+']);
        let number = number.parse().ok().filter(|_| canonical).ok_or(bad)?;
        Ok(Self { shard: Shard { pool: pool.parse()?, number }, local: local.parse()? })
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_survives_text_even_with_dashes_in_the_pool() {
        let shard = Shard { pool: "chat-fast-2".parse().unwrap(), number: 7 };
        let id = JobId::new(shard);
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
    }

    #[test]
    fn ill_formed_job_ids_are_refused() {
        let good = JobId::new(Shard { pool: "chat".parse().unwrap(), number: 0 }).to_string();
        for bad in
            ["", "job_", "job_chat-0", &good.to_uppercase(), &good.replace("-0-", "-00-"), &good[..good.len() - 1]]
        {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pool_names_cannot_move_the_hash_tag() {
        for bad in ["", "a}b", "A", "a.b", &"x".repeat(41)] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_concurrency_key_stays_in_its_shard_for_ever() {
        let pool: PoolName = "chat".parse().unwrap();
        let numbers = ["a", "b", "c", "user-42"].map(|key| JobId::in_pool(&pool, 3, Some(key)).shard.number);
        // Other numbers would let two jobs of one key run at once after an upgrade.
        assert_eq!(numbers, [1, 1, 2, 2]);
    }

    #[test]
    fn jobs_without_a_key_spread_evenly_over_the_shards() {
        let pool: PoolName = "chat".parse().unwrap();
        let mut counts = [0_u32; 3];
        for _ in 0..3000 {
            counts[usize::from(JobId::in_pool(&pool, 3, None).shard.number)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn worker_ids_are_unique_and_parse_back() {
        let (a, b) = (WorkerId::unique("Host_1"), WorkerId::unique("Host_1"));
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<WorkerId>().unwrap(), a);
    }
}
