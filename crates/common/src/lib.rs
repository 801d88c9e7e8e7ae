//! What the API and the workers must agree on.
//!
//! Owns: the job and its state machine ([`job`]), the queue ([`queue`], the only code that speaks
//! Redis), identifiers, error codes, configuration, metric names and telemetry.
//! Knows nothing of HTTP servers and of model providers.

pub mod code;
pub mod config;
pub mod ids;
pub mod job;
pub mod metrics;
pub mod provider;
pub mod queue;
pub mod task;
pub mod telemetry;
pub mod trace;
pub mod upkeep;
