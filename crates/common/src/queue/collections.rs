//! Collections: vectors that outlive the jobs that made them, by the callers' ids.
//!
//! A job makes a pass: it confirms what is there, puts what is new, and completes. Until then its batches stand beside what
//! was there; at completion, in one step, the collection is what this job said and nothing else. Of jobs that overlap the
//! last to complete wins, whole. Vectors of another model are built apart and take the place of the old ones at completion.

use jiff::Timestamp;
use redis::{FromRedisValue as _, Value};
use serde::Serialize;

use super::error::Error;
use super::scripts::Script;
use super::{Queue, keys, parts};
use crate::job::times;
use crate::task::embedding::Key;

/// Bytes of one call, and ids: a longer script would stall the server for others.
const BYTES_PER_CALL: usize = 1 << 20;
/// Ids of one call.
const IDS_PER_CALL: usize = 1000;

/// A job's right to write to a collection, until another job completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    epoch: String,
    generation: String,
    number: String,
}

/// A text's place in a collection.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// The caller's name for it.
    pub id: &'a str,
    /// What its vector is made of.
    pub key: &'a Key,
    /// The packed vector; none confirms that the one that is there is made of this.
    pub vector: Option<&'a [u8]>,
}

/// What a write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shelved {
    /// Written; the places of those to confirm that are not there, or made of something else.
    Done(Vec<usize>),
    /// The pass is over: another job completed, or the collection was dropped. Begin anew.
    Over,
    /// The collection's vectors have another length.
    OtherLength,
}

/// What a completion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// The collection is this pass; so many ids are gone.
    Removed(u64),
    /// The pass is over. Begin anew.
    Over,
    /// Another job wrote over some of it. Confirm again.
    Overwritten,
}

/// What a collection is.
#[derive(Debug, Clone, Serialize)]
pub struct Collection {
    /// Always `collection`.
    pub object: &'static str,
    /// Its name.
    pub name: String,
    /// The model of its vectors.
    pub model: Option<String>,
    /// Numbers per vector; none while there is no vector on the page that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<usize>,
    /// How many vectors it holds.
    pub count: u64,
    /// When a job last completed it.
    #[serde(serialize_with = "times::optional")]
    pub updated_at: Option<Timestamp>,
}

/// Some vectors of a collection, in the order of their ids.
#[derive(Debug)]
pub struct CollectionPage {
    /// The collection itself.
    pub collection: Collection,
    /// Ids and packed vectors.
    pub vectors: Vec<(String, Vec<u8>)>,
    /// Whether more follow.
    pub more: bool,
}

impl Queue {
    /// Opens a pass over a collection, which need not be there yet. `space` names what all of its vectors have in common.
    pub async fn begin_pass(&self, name: &str, space: &Key, model: Option<&str>) -> Result<Pass, Error> {
        let mut note = redis::cmd("ZADD");
        note.arg(keys::COLLECTIONS).arg(0).arg(name);
        self.inner.link.call(&note).await?;
        let script = &self.inner.scripts.collection_begin;
        let mut command = command(script, name);
        command.arg(space).arg(model.unwrap_or_default());
        let [epoch, generation, number] = parts(self.inner.link.eval(script, &command).await?)?;
        let text = String::from_redis_value;
        Ok(Pass { epoch: text(epoch)?, generation: text(generation)?, number: text(number)? })
    }

    /// Puts and confirms.
    pub async fn put(&self, name: &str, pass: &Pass, items: &[Put<'_>]) -> Result<Shelved, Error> {
        let script = &self.inner.scripts.collection_put;
        let (mut missing, mut start) = (Vec::new(), 0);
        while start < items.len() {
            let mut bytes = 0;
            let fits = items[start..].iter().take(IDS_PER_CALL).take_while(|item| {
                bytes += item.id.len() + item.vector.map_or(0, <[u8]>::len);
                bytes <= BYTES_PER_CALL
            });
            let end = start + fits.count().max(1);
            let mut command = command(script, name);
            command.arg(&pass.epoch).arg(&pass.generation).arg(&pass.number);
            for item in &items[start..end] {
                command.arg(item.id).arg(item.key).arg(item.vector.unwrap_or_default());
            }
            let [answer, places] = parts(self.inner.link.eval(script, &command).await?)?;
            match u8::from_redis_value(answer)? {
                1 => missing.extend(Vec::<usize>::from_redis_value(places)?.into_iter().map(|place| start + place)),
                2 => return Ok(Shelved::OtherLength),
                _ => return Ok(Shelved::Over),
            }
            start = end;
        }
        Ok(Shelved::Done(missing))
    }

    /// Makes the collection what the pass has put and confirmed: `count` ids in all.
    pub async fn complete_pass(
        &self,
        name: &str,
        pass: &Pass,
        count: usize,
        model: Option<&str>,
    ) -> Result<Completed, Error> {
        let script = &self.inner.scripts.collection_complete;
        let mut command = command(script, name);
        command.arg(&pass.epoch).arg(&pass.generation).arg(&pass.number).arg(count).arg(model.unwrap_or_default());
        let [answer, removed] = parts(self.inner.link.eval(script, &command).await?)?;
        Ok(match u8::from_redis_value(answer)? {
            1 => Completed::Removed(u64::from_redis_value(removed)?),
            2 => Completed::Overwritten,
            _ => Completed::Over,
        })
    }

    /// The vectors of these ids, where they are still made of what their keys name.
    pub async fn look(&self, name: &str, items: &[(&str, &Key)]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let script = &self.inner.scripts.collection_look;
        let mut vectors = Vec::with_capacity(items.len());
        for items in items.chunks(IDS_PER_CALL) {
            let mut command = command(script, name);
            for (id, key) in items {
                command.arg(id).arg(key);
            }
            vectors.extend(Vec::<Option<Vec<u8>>>::from_redis_value(self.inner.link.eval(script, &command).await?)?);
        }
        Ok(vectors)
    }

    /// A page of a collection, behind the id `after`; `None`: there is no such collection.
    pub async fn collection(&self, name: &str, after: &str, limit: usize) -> Result<Option<CollectionPage>, Error> {
        let script = &self.inner.scripts.collection_read;
        let mut command = command(script, name);
        command.arg(after).arg(limit);
        let reply = Vec::<Value>::from_redis_value(self.inner.link.eval(script, &command).await?)?;
        if reply.is_empty() {
            return Ok(None);
        }
        let [model, updated, count, ids, vectors, more] = parts(Value::Array(reply))?;
        let ids = Vec::<String>::from_redis_value(ids)?;
        let vectors = Vec::<Vec<u8>>::from_redis_value(vectors)?;
        let updated_at = String::from_redis_value(updated)?.parse().ok().and_then(times::from_ms);
        let collection = Collection {
            object: "collection",
            name: name.to_owned(),
            model: Some(String::from_redis_value(model)?).filter(|model| !model.is_empty()),
            dimensions: vectors.first().map(|vector| vector.len() / size_of::<f32>()),
            count: u64::from_redis_value(count)?,
            updated_at,
        };
        let vectors = ids.into_iter().zip(vectors).collect();
        Ok(Some(CollectionPage { collection, vectors, more: bool::from_redis_value(more)? }))
    }

    /// Names of collections behind `after`, in order, at most `limit`.
    pub async fn collection_names(&self, after: &str, limit: usize) -> Result<Vec<String>, Error> {
        let from = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
        self.names_between(&from, "+", limit).await
    }

    /// The same of those that are named for a service: its name, or that, a dot and more.
    pub async fn collection_names_of(&self, service: &str, after: &str, limit: usize) -> Result<Vec<String>, Error> {
        let (below, end) = (format!("{service}."), format!("({service}/"));
        let mut names = Vec::new();
        if after < service {
            let itself = format!("[{service}");
            names = self.names_between(&itself, &itself, limit).await?;
        }
        let from = if after < below.as_str() { format!("[{below}") } else { format!("({after}") };
        // A slash follows the dot.
        names.extend(self.names_between(&from, &end, limit - names.len()).await?);
        Ok(names)
    }

    async fn names_between(&self, from: &str, to: &str, limit: usize) -> Result<Vec<String>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(keys::COLLECTIONS).arg(from).arg(to).arg("BYLEX").arg("LIMIT").arg(0).arg(limit);
        Ok(Vec::from_redis_value(self.inner.link.call(&range).await?)?)
    }

    /// Forgets a collection; `false`: there was none.
    pub async fn drop_collection(&self, name: &str) -> Result<bool, Error> {
        let mut note = redis::cmd("ZREM");
        note.arg(keys::COLLECTIONS).arg(name);
        self.inner.link.call(&note).await?;
        let script = &self.inner.scripts.collection_drop;
        Ok(bool::from_redis_value(self.inner.link.eval(script, &command(script, name)).await?)?)
    }
}

fn command(script: &Script, name: &str) -> redis::Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&script.sha).arg(1).arg(keys::collection(name));
    command
}
