//! Chaos: a fleet at work, a nemesis that breaks it, and a checker that reads the log of both afterwards.
//!
//! The checker is pure: it sees nothing but the [`log`], so that a test can hand it a history of its own.

pub mod checker;
pub mod drain;
pub mod fleet;
pub mod forget;
pub mod log;
pub mod nemesis;
pub mod provider;
pub mod report;
pub mod run;
pub mod workload;
