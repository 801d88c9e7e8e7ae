//! What breaks, and what must hold all the same: nothing accepted is lost, and there is one result.

mod api_process;
mod cancel_race;
mod cluster;
mod connections;
mod durability;
pub(crate) mod load;
mod providers;
mod redis_process;
mod rolling_deploy;
mod rolling_restart;
mod sentinel;
mod starved_worker;
mod worker_process;
