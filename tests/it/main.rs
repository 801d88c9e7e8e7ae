//! End-to-end tests.
//!
//! Every test owns its Redis and its processes, and all run at once.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod api;
mod cli;
mod cost;
mod embedding;
mod examples;
mod fault;
mod harness;
mod lifecycle;
mod metrics;
mod queue;
mod security;
mod settings;
mod tidy;
mod traces;
mod transcription;
