//! The queue against a real redis-server: every move, every race that it guards against.

mod claims;
mod collections;
mod crowds;
mod deadlines;
mod endings;
mod forgotten;
mod histories;
mod keys;
mod leases;
mod mending;
mod providers;
pub(crate) mod shop;
mod stash;
mod submits;
mod tallies;
mod turns;
