//! What a job costs, in commands: counts, which no noise can change, so that a slower path shows at once.
//!
//! The numbers are in `cost/table.rs` and nowhere else: a test names every command above its line there.

mod commands;
mod features;
mod fleet;
mod table;
