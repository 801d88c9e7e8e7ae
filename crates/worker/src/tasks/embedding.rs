//! The embedding task: vectors of many texts, batch by batch, as `ai.embedding_result.v1`.

use std::collections::HashMap;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::Phase;
use overshot_common::task::embedding::{Input, Item, Key, Vectors};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Attempt, Sink};
use crate::outcome::Outcome;
use crate::providers::{EmbedRequest, EmbedUsage, Provider};

#[cfg(test)]
mod tests;

/// What progress counts.
const UNIT: &str = "texts";

pub(super) async fn run(attempt: &Attempt<'_>, provider: &Provider, sink: &mut impl Sink) -> Outcome {
    let input = match Input::parse(attempt.input) {
        Ok(input) => input,
        Err(mistake) => return Outcome::fail(ErrorCode::BadInput, mistake.to_string()),
    };
    let start = Instant::now();
    sink.phase(Phase::Working);
    let mut work = Work::new(&input, attempt);
    match work.embed(provider, sink).await {
        Ok(()) => Outcome::Done(work.result(start.elapsed())),
        Err(outcome) => outcome,
    }
}

/// The texts of one attempt and what has become of them.
struct Work<'a> {
    input: &'a Input<'a>,
    attempt: &'a Attempt<'a>,
    keys: Vec<Key>,
    vectors: Vectors,
    /// Where in `vectors` the one of a key stands.
    places: HashMap<Key, usize>,
    model: Option<String>,
    usage: Option<EmbedUsage>,
}

impl<'a> Work<'a> {
    fn new(input: &'a Input<'a>, attempt: &'a Attempt<'a>) -> Self {
        let keys = input.keys(attempt.model);
        Self { input, attempt, keys, vectors: Vectors::default(), places: HashMap::new(), model: None, usage: None }
    }

    async fn embed(&mut self, provider: &Provider, sink: &mut impl Sink) -> Result<(), Outcome> {
        let size = self.input.batch_size.unwrap_or(provider.batch_size()) as usize;
        // The same text twice is paid for once.
        let mut seen = std::collections::HashSet::new();
        let todo: Vec<(Key, &str)> = std::iter::zip(&self.keys, &self.input.items)
            .filter(|(key, _)| seen.insert(**key))
            .map(|(key, item)| (*key, &*item.text))
            .collect();
        for batch in todo.chunks(size) {
            let texts: Vec<&str> = batch.iter().map(|(_, text)| *text).collect();
            let request = EmbedRequest {
                model: self.attempt.model,
                texts: &texts,
                dimensions: self.input.dimensions,
                extra: &self.input.extra,
                seed: self.attempt.seed,
            };
            let output = provider.embed(request).await?;
            self.check(&output.vectors)?;
            for (vector, (key, _)) in output.vectors.iter().zip(batch) {
                self.places.insert(*key, self.vectors.len());
                self.vectors.push_packed(vector).map_err(bad_response)?;
            }
            self.model = output.model.or(self.model.take());
            if let Some(usage) = output.usage {
                let sum = self.usage.get_or_insert_default();
                sum.prompt_tokens += usage.prompt_tokens;
                sum.total_tokens += usage.total_tokens;
            }
            sink.progress(self.done(), Some(self.keys.len() as u64), UNIT);
        }
        Ok(())
    }

    /// A server that ignores the wish for shorter vectors would be believed by nobody who compares them.
    fn check(&self, vectors: &Vectors) -> Result<(), Outcome> {
        match self.input.dimensions {
            Some(wanted) if vectors.dimensions() != wanted as usize => {
                let message = format!("the provider's vectors have {} dimensions, not {wanted}", vectors.dimensions());
                Err(Outcome::fail(ErrorCode::BadInput, message))
            }
            _ => Ok(()),
        }
    }

    /// How many of the texts have their vector.
    fn done(&self) -> u64 {
        self.keys.iter().filter(|key| self.places.contains_key(*key)).count() as u64
    }

    /// `ai.embedding_result.v1`. Written by hand: its vectors are JSON already where they are written.
    fn result(&self, duration: Duration) -> Box<RawValue> {
        let packed: Vec<&[u8]> = self.vectors.iter().collect();
        let mut out = br#"{"schema_version":"ai.embedding_result.v1","model":"#.to_vec();
        write(&mut out, &self.model.as_deref().or(self.attempt.model));
        out.extend_from_slice(format!(",\"dimensions\":{},\"data\":[", self.vectors.dimensions()).as_bytes());
        for (index, (key, Item { id, .. })) in std::iter::zip(&self.keys, &self.input.items).enumerate() {
            out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            out.extend_from_slice(format!("\"object\":\"embedding\",\"index\":{index},").as_bytes());
            if let Some(id) = id {
                out.extend_from_slice(b"\"id\":");
                write(&mut out, id);
                out.push(b',');
            }
            out.extend_from_slice(b"\"embedding\":");
            self.input.encoding.write(packed[self.places[key]], &mut out);
            out.push(b'}');
        }
        out.push(b']');
        if let Some(usage) = self.usage {
            out.extend_from_slice(b",\"usage\":");
            write(&mut out, &usage);
        }
        out.extend_from_slice(format!(",\"duration_ms\":{}}}", duration.as_millis()).as_bytes());
        let json = String::from_utf8(out).expect("JSON is UTF-8");
        RawValue::from_string(json).expect("its parts are JSON")
    }
}

fn bad_response(message: &str) -> Outcome {
    Outcome::retry(ErrorCode::BadResponse, format!("the provider's answers cannot be used: {message}"))
}

fn write(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("texts and numbers always serialize into memory");
}
