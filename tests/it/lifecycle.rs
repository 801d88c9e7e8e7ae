//! The life of one chat job, over a provider that answers by script.

mod affinity;
mod cancel;
mod chat;
mod drain;
mod failover;
mod failures;
mod limits;
mod ollama;
mod own_tasks;
mod real_failures;
