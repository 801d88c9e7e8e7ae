//! One file per resource: each handler extracts, judges, calls the queue and maps the answer.

pub(crate) mod bulk;
pub(crate) mod collections;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod health_detail;
pub(crate) mod infra;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod pools;
pub(crate) mod providers;
pub(crate) mod results;
pub(crate) mod stats;
pub(crate) mod workers;
