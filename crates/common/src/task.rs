//! The built-in kinds of task: what their inputs must look like, and what of an input a provider gets to see.
//!
//! Pure: the API judges a submit with it, the worker builds the provider's request with it, so both agree.

pub mod chat;
mod defaults;
pub mod embedding;
mod schema;
pub mod transcription;

pub use defaults::{Defaults, with_defaults};
pub use schema::AnswerSchema;

/// An input that its task cannot take.
///
/// Names the place and the rule, never the value: an input may be a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {message}")]
pub struct InvalidInput {
    /// The place, as a caller writes it: `input.messages[0].role`.
    pub param: String,
    /// What the place must hold.
    pub message: String,
}

impl InvalidInput {
    /// The mistake at `param`.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into() }
    }
}
