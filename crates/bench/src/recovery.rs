//! What becomes of running jobs: those of a killed worker run again, long ones of a live worker run once.

mod killed;
mod long;

use crate::report::{Mode, Row};
use crate::size::Size;

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<Vec<Row>> {
    let append_only = mode == Mode::AofEverysec;
    // Each waits most of its time, so that they may do it together.
    let (idle, busy, long) = tokio::try_join!(
        killed::run(append_only, size.kills, 0),
        killed::run(append_only, size.kills, killed::BACKLOG),
        long::run(append_only),
    )?;
    Ok(idle.into_iter().chain(busy).chain(long).collect())
}
