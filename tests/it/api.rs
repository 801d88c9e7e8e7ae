//! The HTTP API: what it takes, what it refuses, what it answers.

mod access;
mod admission;
mod control;
mod events;
mod groups;
mod idempotency;
mod keys;
mod listing;
mod openapi;
mod order;
mod pools;
mod schemathesis;
pub(crate) mod shards;
mod startup;
mod stats;
mod tokens;
mod validation;
mod waiting;
