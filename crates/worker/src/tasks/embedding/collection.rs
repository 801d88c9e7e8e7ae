//! An embedding job whose vectors outlive it: only what is new or changed is embedded, and the collection is at the end what
//! the job said.

use std::borrow::Cow;
use std::collections::HashMap;

use overshot_common::code::ErrorCode;
use overshot_common::queue::{Completed, Pass, Put, Shelved};
use overshot_common::task::embedding::{Key, PAGE};
use serde_json::json;
use serde_json::value::to_raw_value;

use super::{Shelf, Stash, Work};
use crate::outcome::Outcome;
use crate::providers::Provider;

/// How often a job begins anew because others completed or wrote over it.
const ROUNDS: usize = 20;

impl<'a> Work<'a> {
    /// Brings the collection to what the input says.
    pub(super) async fn fill(
        &mut self,
        name: &str,
        provider: &Provider,
        sink: &mut (impl Stash + Shelf),
    ) -> Result<(), Outcome> {
        let (space, model) = (self.input.space(self.attempt.model), self.attempt.model);
        let mut pass = sink.begin(name, &space, model).await?;
        for _ in 0..ROUNDS {
            match self.round(name, &pass, provider, sink).await? {
                Completed::Removed(removed) => return self.filled(name, removed, sink).await,
                Completed::Overwritten => {}
                Completed::Over => {
                    // Whoever lost the job meanwhile must not begin anew: this write asks.
                    sink.put(&[], None).await?;
                    pass = sink.begin(name, &space, model).await?;
                }
            }
        }
        Err(Outcome::retry(ErrorCode::StorageError, "other jobs keep on writing to the collection"))
    }

    /// Confirms what is there, puts what is known, embeds and puts the rest, batch by batch, and completes.
    async fn round(
        &mut self,
        name: &str,
        pass: &Pass,
        provider: &Provider,
        sink: &mut (impl Stash + Shelf),
    ) -> Result<Completed, Outcome> {
        let all: Vec<usize> = (0..self.keys.len()).collect();
        let Some(missing) = shelve(sink, name, pass, &self.puts(&all, None)).await? else { return Ok(Completed::Over) };
        let mut places: HashMap<Key, Vec<usize>> = HashMap::new();
        missing.iter().for_each(|place| places.entry(self.keys[*place]).or_default().push(*place));
        self.shelved = self.keys.iter().filter(|key| !places.contains_key(*key)).copied().collect();
        let wanted: Vec<_> = self.distinct.iter().copied().filter(|(key, _)| places.contains_key(key)).collect();
        let (known, new): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(key, _)| self.stashed.contains(key));
        for page in known.chunks(PAGE) {
            let names: Vec<&[u8]> = page.iter().map(|(key, _)| &key[..]).collect();
            let gone = || Outcome::retry(ErrorCode::StorageError, "a checkpoint is gone");
            let vectors = sink.get(&names).await?.into_iter().collect::<Option<Vec<_>>>().ok_or_else(gone)?;
            let puts = page.iter().zip(&vectors).flat_map(|((key, _), vector)| self.puts(&places[key], Some(vector)));
            if shelve(sink, name, pass, &puts.collect::<Vec<_>>()).await?.is_none() {
                return Ok(Completed::Over);
            }
        }
        for batch in new.chunks(self.batch_size) {
            let vectors = self.batch(batch, provider, sink).await?;
            let puts: Vec<Put<'_>> = batch
                .iter()
                .zip(vectors.iter())
                .flat_map(|((key, _), vector)| self.puts(&places[key], Some(vector)))
                .collect();
            if shelve(sink, name, pass, &puts).await?.is_none() {
                return Ok(Completed::Over);
            }
        }
        let model = self.model.as_deref().or(self.attempt.model);
        sink.complete(name, pass, self.keys.len(), model).await
    }

    /// The texts at these places, to be confirmed or put.
    fn puts<'b>(&'b self, places: &[usize], vector: Option<&'b [u8]>) -> Vec<Put<'b>> {
        let put = |place: &usize| Put { id: self.id(*place), key: &self.keys[*place], vector };
        places.iter().map(put).collect()
    }

    /// A collection's texts all have one.
    fn id(&self, place: usize) -> &str {
        self.input.items[place].id.as_deref().unwrap_or_default()
    }

    async fn filled(&mut self, name: &str, removed: u64, sink: &mut (impl Stash + Shelf)) -> Result<(), Outcome> {
        let embedded = self.keys.iter().filter(|key| self.stashed.contains(*key)).count();
        let summary =
            json!({ "name": name, "embedded": embedded, "unchanged": self.keys.len() - embedded, "removed": removed });
        self.collection = Some(to_raw_value(&summary).expect("texts and numbers always serialize"));
        self.shelved = self.keys.iter().copied().collect();
        sink.put(&[], Some(self.progress())).await?;
        if self.dimensions == 0 {
            let one = sink.look(name, &[(self.id(0), &self.keys[0])]).await?.pop().flatten();
            self.dimensions = one.map_or(0, |vector| vector.len() / size_of::<f32>());
        }
        Ok(())
    }

    /// Reads vectors that this job did not make, for a result that stands in it.
    pub(super) async fn fetch_shelved(&mut self, keys: &[Key], sink: &mut impl Shelf) -> Result<(), Outcome> {
        let Some(name) = self.input.collection.clone() else { return Ok(()) };
        let mut ids = HashMap::new();
        for (place, key) in self.keys.iter().enumerate() {
            ids.entry(*key).or_insert(place);
        }
        for keys in keys.chunks(PAGE) {
            let items: Vec<(&str, &Key)> = keys.iter().map(|key| (self.id(ids[key]), key)).collect();
            let vectors = sink.look(&Cow::clone(&name), &items).await?;
            for (key, vector) in keys.iter().zip(vectors) {
                self.held.extend(vector.map(|vector| (*key, vector.into())));
            }
        }
        Ok(())
    }
}

/// Puts or confirms; none: the pass is over.
async fn shelve(
    sink: &mut impl Shelf,
    name: &str,
    pass: &Pass,
    puts: &[Put<'_>],
) -> Result<Option<Vec<usize>>, Outcome> {
    match sink.shelve(name, pass, puts).await? {
        Shelved::Done(missing) => Ok(Some(missing)),
        Shelved::Over => Ok(None),
        Shelved::OtherLength => {
            let message = "the provider's vectors differ in length from those of the collection";
            Err(Outcome::retry(ErrorCode::BadResponse, message))
        }
    }
}
