//! The life of one chat job, over a provider that answers by script.

mod cancel;
mod chat;
mod drain;
mod failures;
mod limits;
