//! The HTTP API: what it takes, what it refuses, what it answers.

mod access;
mod admission;
mod control;
mod events;
mod explain;
mod groups;
mod health_detail;
mod idempotency;
mod infra;
mod keys;
mod listing;
mod openapi;
mod order;
mod pools;
mod readme;
mod schemathesis;
pub(crate) mod shards;
mod startup;
mod stats;
mod tokens;
mod validation;
mod waiting;
