//! What one Redis cannot show: a pool's jobs spread over shards and primaries, and a fleet of a thousand idle workers.
//!
//! Servers share this machine's cores, so that the figure is the CPU that they use, not how quickly they are done.

mod cluster;
mod idlers;
mod shards;

use std::time::Duration;

use crate::report::{Curve, Mode, Row};
use crate::size::Size;

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<(Vec<Row>, Vec<Curve>)> {
    let append_only = mode == Mode::AofEverysec;
    let (mut rows, curve) = shards::run(append_only, size).await?;
    rows.extend(idlers::run(append_only, Duration::from_secs(size.idlers_s)).await?);
    Ok((rows, vec![curve]))
}
