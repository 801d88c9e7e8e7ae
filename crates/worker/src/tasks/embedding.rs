//! The embedding task: vectors of many texts, batch by batch, as `ai.embedding_result.v1`.
//!
//! Each batch is stashed under what its texts are, so that no later attempt pays for it again, on whichever worker, nor a
//! retry whose input is the same in part. A large result is never put together here: it is left where its vectors are.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::{Phase, Progress};
use overshot_common::queue::{Form, StoredResult};
use overshot_common::task::embedding::{Encoding, Input, Key, Manifest, PAGE, Page, Vectors, page_name};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::{Attempt, Shelf, Stash, Surroundings};
use crate::outcome::Outcome;
use crate::providers::{EmbedRequest, EmbedUsage, Provider};

mod collection;
#[cfg(test)]
mod tests;

/// What progress counts.
const UNIT: &str = "texts";
/// The name under which is kept what the job's batches cost so far.
const USAGE: &[u8] = b"usage";
/// Names of one call that drops what is stale.
const NAMES_PER_CALL: usize = 1000;

pub(super) async fn run(attempt: &Attempt<'_>, provider: &Provider, sink: &mut impl Surroundings) -> Outcome {
    let input = match Input::parse(attempt.input) {
        Ok(input) => input,
        Err(mistake) => return Outcome::fail(ErrorCode::BadInput, mistake.to_string()),
    };
    let start = Instant::now();
    sink.phase(Phase::Working);
    let mut work = Work::new(&input, attempt, provider, sink.inline_max());
    let life = async {
        work.resume(sink).await?;
        match &input.collection {
            Some(name) => work.fill(name, provider, sink).await?,
            None => work.embed(provider, sink).await?,
        }
        work.finish(start.elapsed(), sink).await
    };
    life.await.map_or_else(|outcome| outcome, Outcome::Done)
}

/// The texts of one attempt and what has become of them.
struct Work<'a> {
    input: &'a Input<'a>,
    attempt: &'a Attempt<'a>,
    /// The key of each text.
    keys: Vec<Key>,
    /// The texts, each once: the same text twice is paid for once.
    distinct: Vec<(Key, &'a str)>,
    batch_size: usize,
    inline_max: usize,
    /// Which vectors are stashed.
    stashed: HashSet<Key>,
    /// Which are in the collection.
    shelved: HashSet<Key>,
    /// Vectors that may come to stand in the job; none, once the result is too large for that.
    held: HashMap<Key, Box<[u8]>>,
    /// Numbers per vector; 0 while there is none.
    dimensions: usize,
    model: Option<String>,
    usage: Option<EmbedUsage>,
    /// Whether this attempt has asked for a batch.
    asked: bool,
    /// What became of the collection.
    collection: Option<Box<RawValue>>,
}

impl<'a> Work<'a> {
    fn new(input: &'a Input<'a>, attempt: &'a Attempt<'a>, provider: &Provider, inline_max: usize) -> Self {
        let keys = input.keys(attempt.model);
        let mut seen = HashSet::with_capacity(keys.len());
        let texts = std::iter::zip(&keys, &input.items).filter(|(key, _)| seen.insert(**key));
        let distinct = texts.map(|(key, item)| (*key, &*item.text)).collect();
        Self {
            input,
            attempt,
            distinct,
            keys,
            batch_size: input.batch_size.unwrap_or(provider.batch_size()) as usize,
            inline_max,
            stashed: HashSet::new(),
            shelved: HashSet::new(),
            held: HashMap::new(),
            dimensions: 0,
            model: None,
            usage: None,
            asked: false,
            collection: None,
        }
    }

    /// Whether batches are stashed: of a single one the outcome itself is written next, unless it goes to a collection first.
    fn has_checkpoints(&self) -> bool {
        self.distinct.len() > self.batch_size || self.input.collection.is_some()
    }

    /// Finds what earlier attempts left, and drops what of it this input has no use for.
    async fn resume(&mut self, stash: &mut impl Stash) -> Result<(), Outcome> {
        if !self.has_checkpoints() {
            return Ok(());
        }
        let wanted: HashSet<Key> = self.distinct.iter().map(|(key, _)| *key).collect();
        let mut stale = Vec::new();
        for name in stash.names().await? {
            match Key::try_from(name.as_slice()) {
                Ok(key) if wanted.contains(&key) => drop(self.stashed.insert(key)),
                _ if name == USAGE => {}
                _ => stale.push(name),
            }
        }
        for names in stale.chunks(NAMES_PER_CALL) {
            let drops: Vec<(&[u8], &[u8])> = names.iter().map(|name| (&**name, &[][..])).collect();
            stash.put(&drops, None).await?;
        }
        let Some(one) = self.stashed.iter().next() else { return Ok(()) };
        let [usage, vector] = <[_; 2]>::try_from(stash.get(&[USAGE, one]).await?).unwrap_or_default();
        self.usage = usage.and_then(|usage| serde_json::from_slice(&usage).ok());
        self.dimensions = vector.map_or(0, |vector| vector.len() / size_of::<f32>());
        Ok(())
    }

    async fn embed(&mut self, provider: &Provider, stash: &mut impl Stash) -> Result<(), Outcome> {
        let todo: Vec<_> = self.distinct.iter().copied().filter(|(key, _)| !self.stashed.contains(key)).collect();
        for batch in todo.chunks(self.batch_size) {
            self.batch(batch, provider, stash).await?;
        }
        Ok(())
    }

    /// Embeds one batch, and stashes it.
    async fn batch(
        &mut self,
        batch: &[(Key, &str)],
        provider: &Provider,
        stash: &mut impl Stash,
    ) -> Result<Vectors, Outcome> {
        let texts: Vec<&str> = batch.iter().map(|(_, text)| *text).collect();
        let request = EmbedRequest {
            model: self.attempt.model,
            texts: &texts,
            dimensions: self.input.dimensions,
            extra: &self.input.extra,
            seed: self.attempt.seed,
            meter: self.attempt.meter,
        };
        match std::mem::replace(&mut self.asked, true) {
            false => request.meter.first(request.tokens()).await?,
            true => request.meter.another(request.tokens()).await?,
        }
        let output = provider.embed(request).await?;
        self.check(&output.vectors)?;
        self.model = output.model.or(self.model.take());
        if let Some(usage) = output.usage {
            request.meter.used(usage.total_tokens.max(usage.prompt_tokens));
            let sum = self.usage.get_or_insert_default();
            sum.prompt_tokens += usage.prompt_tokens;
            sum.total_tokens += usage.total_tokens;
        }
        let vectors = || batch.iter().map(|(key, _)| key).zip(output.vectors.iter());
        if self.has_checkpoints() {
            self.stashed.extend(batch.iter().map(|(key, _)| *key));
            let usage = self.usage.as_ref().map(to_json);
            let mut values: Vec<(&[u8], &[u8])> = vectors().map(|(key, vector)| (&key[..], vector)).collect();
            values.extend(usage.as_deref().map(|usage| (USAGE, usage)));
            stash.put(&values, Some(self.progress())).await?;
        } else {
            // One that cannot be told is no reason to lose the vectors.
            let done = self.keys.len() as u64;
            let _ = stash.put(&[], Some(Progress { done, total: Some(done), unit: UNIT.to_owned() })).await;
        }
        if self.may_stand_in_the_job() || !self.has_checkpoints() {
            self.held.extend(vectors().map(|(key, vector)| (*key, vector.into())));
        } else {
            self.held.clear();
        }
        Ok(output.vectors)
    }

    /// A server that ignores the wish for shorter vectors, or changes its mind, would be believed by nobody who compares
    /// them.
    fn check(&mut self, vectors: &Vectors) -> Result<(), Outcome> {
        let found = vectors.dimensions();
        if let Some(wanted) = self.input.dimensions.filter(|wanted| *wanted as usize != found) {
            let message = format!("the provider's vectors have {found} dimensions, not {wanted}");
            return Err(Outcome::fail(ErrorCode::BadInput, message));
        }
        if self.dimensions != 0 && self.dimensions != found {
            let message = format!("the provider's vectors had {} dimensions and now have {found}", self.dimensions);
            return Err(Outcome::retry(ErrorCode::BadResponse, message));
        }
        self.dimensions = found;
        Ok(())
    }

    fn progress(&self) -> Progress {
        let has = |key: &&Key| self.stashed.contains(*key) || self.shelved.contains(*key);
        let done = self.keys.iter().filter(has).count() as u64;
        Progress { done, total: Some(self.keys.len() as u64), unit: UNIT.to_owned() }
    }

    /// Whether the result is small enough by the least that its numbers can take.
    fn may_stand_in_the_job(&self) -> bool {
        let least = match self.input.encoding {
            Encoding::Float => 2,
            Encoding::Base64 => 5,
        };
        self.keys.len() * self.dimensions * least <= self.inline_max
    }

    /// The result itself, or what stands for one that is too large for the job.
    async fn finish(&mut self, duration: Duration, stash: &mut (impl Stash + Shelf)) -> Result<Box<RawValue>, Outcome> {
        let usage = self.usage.as_ref().map(|usage| to_raw_value(usage).expect("numbers always serialize"));
        let manifest = Manifest {
            model: self.model.take().or(self.attempt.model.map(str::to_owned)),
            dimensions: self.dimensions,
            encoding: self.input.encoding,
            count: self.keys.len(),
            usage: usage.clone(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            collection: self.collection.take(),
            shelf: self.input.collection.as_deref().map(str::to_owned),
        };
        if self.may_stand_in_the_job() {
            self.recall(stash).await?;
            let result = self.result(&manifest);
            if result.len() <= self.inline_max {
                let result = String::from_utf8(result).expect("JSON is UTF-8");
                return Ok(RawValue::from_string(result).expect("its parts are JSON"));
            }
        }
        let values = self.leave(&manifest, stash).await?;
        Ok(to_raw_value(&StoredResult::new(Form::Vectors, values, usage)).expect("JSON always serializes"))
    }

    /// Reads back what earlier attempts stashed.
    async fn recall(&mut self, stash: &mut (impl Stash + Shelf)) -> Result<(), Outcome> {
        let missing: Vec<Key> = self.stashed.iter().filter(|key| !self.held.contains_key(*key)).copied().collect();
        for keys in missing.chunks(PAGE) {
            let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            for (key, vector) in keys.iter().zip(stash.get(&names).await?) {
                let gone = || Outcome::retry(ErrorCode::StorageError, "a checkpoint is gone");
                self.held.insert(*key, vector.ok_or_else(gone)?.into());
            }
        }
        let missing: Vec<Key> = self.shelved.iter().filter(|key| !self.held.contains_key(*key)).copied().collect();
        self.fetch_shelved(&missing, stash).await
    }

    fn result(&self, manifest: &Manifest) -> Vec<u8> {
        let mut out = Vec::new();
        manifest.begin(&mut out);
        for (index, (key, item)) in std::iter::zip(&self.keys, &self.input.items).enumerate() {
            manifest.vector(index, item.id.as_deref(), self.held.get(key).map(AsRef::as_ref), &mut out);
        }
        manifest.end(None, &mut out);
        out
    }

    /// Leaves all that the API needs to write the result; tells how many values stand there for it, at least.
    async fn leave(&self, manifest: &Manifest, stash: &mut impl Stash) -> Result<usize, Outcome> {
        let held = self.held.iter().filter(|(key, _)| !self.stashed.contains(*key));
        let vectors: Vec<(&[u8], &[u8])> = held.map(|(key, vector)| (&key[..], &vector[..])).collect();
        if !vectors.is_empty() {
            stash.put(&vectors, None).await?;
        }
        let pages = self.keys.chunks(PAGE).zip(self.input.items.chunks(PAGE)).enumerate();
        for (number, (keys, items)) in pages {
            stash.put(&[(page_name(number).as_bytes(), &Page::encode(keys, items))], None).await?;
        }
        stash.put(&[(Manifest::NAME.as_bytes(), &to_json(manifest))], None).await?;
        Ok(self.stashed.len() + vectors.len() + self.keys.len().div_ceil(PAGE) + 1)
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always serialize")
}
