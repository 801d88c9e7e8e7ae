//! What a queue costs by what it holds: memory per job, Redis' time by depth, and many jobs due at once.

mod depth;
mod due;
mod memory;

use crate::report::{Curve, Mode, Row};
use crate::size::Size;

pub(crate) async fn run(mode: Mode, size: &Size) -> anyhow::Result<(Vec<Row>, Vec<Curve>)> {
    let append_only = mode == Mode::AofEverysec;
    let mut rows = memory::run(append_only, size.index_jobs).await?;
    let (by_depth, curves) = depth::run(append_only, size.deepest).await?;
    rows.extend(by_depth);
    rows.extend(due::run(append_only).await?);
    Ok((rows, curves))
}
