//! Identifiers: what names a job, a pool, a worker and the right to run a job.
//!
//! A [`JobId`] tells pool and shard, so that every Redis key of a job is derived without a look-up.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
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
    /// The shards of the pool. One, until pools may have several.
    pub fn shards(&self) -> impl Iterator<Item = Shard> {
        std::iter::once(Shard { pool: self.clone(), number: 0 })
    }

    /// The shard in which a new job lives.
    pub fn place(&self) -> Shard {
        Shard { pool: self.clone(), number: 0 }
    }
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
        static GENERATOR: Mutex<Generator> = Mutex::new(Generator::new());
        let mut generator = GENERATOR.lock().expect("no holder of this lock can panic");
        // It fails only when 2^80 ids were made within a millisecond.
        let ulid = generator.generate().unwrap_or_default();
        let mut buffer = [0; 26];
        ulid.array_to_str(&mut buffer).make_ascii_lowercase();
        Self { shard, local: LocalId(buffer) }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}-{}-{}", self.shard.pool, self.shard.number, self.local)
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
        serializer.collect_str(self)
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
    fn worker_ids_are_unique_and_parse_back() {
        let (a, b) = (WorkerId::unique("Host_1"), WorkerId::unique("Host_1"));
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<WorkerId>().unwrap(), a);
    }
}
