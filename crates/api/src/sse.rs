//! The stream of a job's events, as `text/event-stream`: replay, then follow, each piece of output in order and once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use overshot_common::ids::JobId;
use overshot_common::job::{Job, Phase, Status};
use overshot_common::queue::{ChunkId, Event, EventKind, Subscription};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::app::App;
use crate::wait::REREAD;

mod follower;

use follower::{Follower, Live, Out};

/// How often a silent line bears a comment, so that nobody between closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pause after a call that failed, before the next.
const PAUSE: Duration = Duration::from_secs(1);

/// One reader's stream.
pub(crate) struct Stream {
    app: Arc<App>,
    id: JobId,
    news: Subscription,
    follower: Follower,
    /// What was read and not yet sent; the next page is read when it is empty.
    ready: VecDeque<Out>,
    step: Step,
    last_status: Option<StatusKey>,
    reread: Interval,
    /// Whether output came over pub/sub since the record was last read.
    heard_output: bool,
    quiet_since: Instant,
}

/// What to do once all that is ready was sent.
enum Step {
    /// Tell what the job is, then replay.
    Begin(Box<Job>),
    /// Read the next kept chunks; with the ended job, if it has ended.
    Replay(Option<Box<Job>>),
    Follow,
    End,
}

/// What makes a change of status worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StatusKey {
    status: Status,
    phase: Option<Phase>,
    attempts: u32,
    cancelling: bool,
}

impl StatusKey {
    fn of(job: &Job) -> Self {
        Self {
            status: job.status,
            phase: job.phase,
            attempts: job.attempts,
            cancelling: job.cancel_requested_at.is_some(),
        }
    }
}

impl Stream {
    /// A stream of `job`'s events after `last`; `news` was subscribed before `job` was read.
    pub(crate) fn new(app: Arc<App>, job: Job, news: Subscription, last: Option<ChunkId>) -> Self {
        let mut reread = tokio::time::interval_at(Instant::now() + REREAD, REREAD);
        reread.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            app,
            id: job.id.clone(),
            news,
            follower: Follower::new(last),
            ready: VecDeque::new(),
            step: Step::Begin(Box::new(job)),
            last_status: None,
            reread,
            heard_output: false,
            quiet_since: Instant::now(),
        }
    }

    /// The next piece of the body; `None` ends it.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let piece = self.advance().await;
        self.quiet_since = Instant::now();
        piece
    }

    async fn advance(&mut self) -> Option<Bytes> {
        loop {
            if let Some(out) = self.ready.pop_front() {
                return Some(frame(out.event, out.id, &out.data));
            }
            match std::mem::replace(&mut self.step, Step::End) {
                Step::Begin(job) => {
                    let status = self.status(&job);
                    self.step = Step::Replay(Some(job).filter(|job| job.status.is_terminal()));
                    return Some(status);
                }
                Step::Replay(ended) => {
                    if let Some(piece) = self.replay(ended).await {
                        return Some(piece);
                    }
                }
                Step::Follow => {
                    self.step = Step::Follow;
                    if let Some(piece) = self.follow().await {
                        return Some(piece);
                    }
                }
                Step::End => return None,
            }
            if self.app.stopping.is_cancelled() {
                return None;
            }
        }
    }

    /// Reads a page of kept chunks; after the last one, goes on to follow or to the end.
    async fn replay(&mut self, ended: Option<Box<Job>>) -> Option<Bytes> {
        match self.app.queue.chunks(&self.id, self.follower.last()).await {
            Ok(page) if page.is_empty() => match ended {
                Some(job) => {
                    let event = Event::of_job(&job);
                    return Some(frame(EventKind::Done, None, event.data.get()));
                }
                None => self.step = Step::Follow,
            },
            Ok(page) => {
                for chunk in page {
                    self.follower.replayed(chunk, &mut self.ready);
                }
                self.step = Step::Replay(ended);
            }
            Err(error) => {
                tracing::debug!(%error, "chunks not read");
                self.step = Step::Replay(ended);
                return self.pause().await;
            }
        }
        None
    }

    /// Waits for the next thing to happen.
    async fn follow(&mut self) -> Option<Bytes> {
        tokio::select! {
            () = self.app.stopping.cancelled() => {
                self.step = Step::End;
                None
            }
            message = self.news.next() => match message {
                Some(message) => self.heard(&message).await,
                None => {
                    self.step = Step::Replay(None);
                    self.look(false).await
                }
            },
            _ = self.reread.tick() => {
                // While output comes, nothing was missed; in silence, something may have been.
                if !std::mem::take(&mut self.heard_output) && self.streaming() {
                    self.step = Step::Replay(None);
                }
                self.look(false).await
            }
            () = tokio::time::sleep_until(self.quiet_since + KEEP_ALIVE) => Some(ping()),
        }
    }

    async fn heard(&mut self, message: &str) -> Option<Bytes> {
        let event = serde_json::from_str::<Event>(message).ok();
        match event {
            Some(Event { event: EventKind::Chunk | EventKind::Attempt, id, data }) => {
                match self.follower.live(id.parse().ok(), data.get()) {
                    Live::Next(out) => {
                        self.heard_output = true;
                        return Some(frame(out.event, out.id, &out.data));
                    }
                    Live::Known => {}
                    Live::Gap => self.step = Step::Replay(None),
                }
                None
            }
            Some(Event { event: EventKind::Truncated, .. }) => {
                self.step = Step::Replay(None);
                None
            }
            // Announcements of two changes may overtake each other: the record tells which is the newer.
            Some(Event { event: EventKind::Status | EventKind::Done, .. }) | None => self.look(true).await,
        }
    }

    /// Reads the record. `told`: somebody said that it changed, if only in its metadata.
    async fn look(&mut self, told: bool) -> Option<Bytes> {
        match self.app.queue.get(&self.id, false).await {
            Ok(Some(job)) if job.status.is_terminal() => {
                self.step = Step::Replay(Some(Box::new(job)));
                None
            }
            Ok(Some(job)) if told || self.last_status != Some(StatusKey::of(&job)) => Some(self.status(&job)),
            Ok(Some(_)) => None,
            Ok(None) => {
                self.step = Step::End;
                None
            }
            Err(error) => {
                tracing::debug!(%error, "job not read");
                self.pause().await
            }
        }
    }

    fn streaming(&self) -> bool {
        self.last_status.as_ref().is_some_and(|last| last.phase == Some(Phase::Streaming))
    }

    fn status(&mut self, job: &Job) -> Bytes {
        self.last_status = Some(StatusKey::of(job));
        let bare = Job { result: None, usage: None, input: None, ..job.clone() };
        let data = serde_json::to_string(&bare).expect("a job always serializes");
        frame(EventKind::Status, None, &data)
    }

    /// Waits a little; a line that is silent for long gets its comment here too.
    async fn pause(&mut self) -> Option<Bytes> {
        tokio::select! {
            () = self.app.stopping.cancelled() => self.step = Step::End,
            () = tokio::time::sleep(PAUSE) => {}
        }
        (self.quiet_since.elapsed() >= KEEP_ALIVE).then(ping)
    }
}

fn ping() -> Bytes {
    Bytes::from_static(b": ping\n\n")
}

/// Writes one event. In JSON a line break can only stand between tokens, where a space does as well.
fn frame(event: EventKind, id: Option<ChunkId>, data: &str) -> Bytes {
    let name = match event {
        EventKind::Status => "status",
        EventKind::Chunk => "chunk",
        EventKind::Attempt => "attempt",
        EventKind::Truncated => "truncated",
        EventKind::Done => "done",
    };
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data =
        if data.contains(['\n', '\r']) { data.replace(['\n', '\r'], " ").into() } else { std::borrow::Cow::from(data) };
    Bytes::from(format!("{id}event: {name}\ndata: {data}\n\n"))
}
