//! Spans, and their export to a collector, where one is configured.
//!
//! Owns OpenTelemetry's SDK. What is told of a job, a call or a provider, its users say; [`attribute`] has the names. A span
//! holds names, numbers and codes; never a prompt, a completion, audio, or what a provider wrote in an error.

pub mod attribute;
mod export;
mod queue;

pub use export::{Export, StartError, start, tracer};

/// What carries the jobs.
pub const SYSTEM: &str = "redis";
/// The consumer group that the workers are, as `queue/scripts/lib/record.lua` names it.
pub const GROUP: &str = "workers";
