//! The worker.

pub mod outcome;
pub mod providers;
pub mod tasks;
