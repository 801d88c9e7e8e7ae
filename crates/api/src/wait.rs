//! Waiting for a job's end: pub/sub wakes, the record tells.

use std::time::Duration;

use overshot_common::ids::JobId;
use overshot_common::job::Job;
use overshot_common::queue::{self, Event, EventKind, Subscription};
use tokio::time::Instant;

use crate::app::App;

/// How often the record is read when nothing wakes: what a missed wake-up costs.
pub(crate) const REREAD: Duration = Duration::from_secs(2);

/// How much longer than its time a wait may take for the last look.
const LAST_READ: Duration = Duration::from_millis(250);

/// Waits until the job ends, `deadline`, or the begin of the graceful stop. `known` is the job as last seen.
///
/// `None`: the job is gone. A Redis that is away is waited for like the job. Cancel safe; changes nothing.
pub(crate) async fn for_the_end(
    app: &App,
    id: &JobId,
    mut news: Subscription,
    known: Option<Job>,
    deadline: Instant,
) -> Result<Option<Job>, queue::Error> {
    let mut known = known;
    let mut last = false;
    loop {
        let away = || queue::Error::Unavailable("no answer within the wait".to_owned());
        let read = tokio::time::timeout_at(deadline + LAST_READ, app.queue.get(id, false)).await;
        match read.unwrap_or_else(|_| Err(away())) {
            Ok(None) => return Ok(None),
            Ok(Some(job)) if last || job.status.is_terminal() => return Ok(Some(job)),
            Ok(Some(job)) => known = Some(job),
            Err(error) if last || !error.is_transient() || Instant::now() >= deadline => {
                return known.map(Some).ok_or(error);
            }
            Err(_) => {}
        }
        let reread = tokio::time::sleep(REREAD);
        tokio::select! {
            () = app.stopping.cancelled() => last = true,
            () = tokio::time::sleep_until(deadline) => last = true,
            () = reread => {}
            () = change(&mut news) => {}
        }
    }
}

/// Returns at a message that is not a mere piece of output, or at a gap.
async fn change(news: &mut Subscription) {
    while let Some(message) = news.next().await {
        match serde_json::from_str::<Event>(&message).map(|event| event.event) {
            Ok(EventKind::Chunk | EventKind::Attempt | EventKind::Truncated) => {}
            Ok(EventKind::Status | EventKind::Done) | Err(_) => return,
        }
    }
}
