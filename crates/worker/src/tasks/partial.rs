//! What a job that had streamed keeps when its attempt is cancelled, fails or runs out of time.

use std::time::Duration;

use serde_json::value::RawValue;

use super::chat::ChatResult;
use crate::providers::Answer;

/// The output of an attempt so far, built from what its sink was given.
///
/// Bounded: past 16 MiB the rest is left out.
#[derive(Debug, Default)]
pub struct Partial {
    answer: Answer,
    begun: bool,
    full: bool,
}

impl Partial {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece as [`super::Sink::chunk`] got it. Once a piece did not fit, or was malformed, none is taken any
    /// more, so that what is kept has no gap.
    pub fn push(&mut self, _text: &str, delta: &RawValue) {
        if !self.full {
            self.begun = true;
            self.full = self.answer.push(delta).is_err();
        }
    }

    /// The partial result; none when nothing had come.
    pub fn into_result(self, model: Option<&str>, duration: Duration) -> Option<Box<RawValue>> {
        self.begun.then(|| ChatResult::partial(&self.answer, model, duration).into_json())
    }
}
