//! The stream of a job's events, as `text/event-stream`: replay, then follow, each piece of output in order and once.
//!
//! A stream mostly waits, and there are many: what it does rarely has its future on the heap, so that all of them do not
//! hold the room for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use overshot_common::ids::JobId;
use overshot_common::job::{Job, Phase};
use overshot_common::queue::{ChunkId, Event, EventKind, Queue, Subscription};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::app::App;
use crate::handlers::jobs::count_read;
use crate::wait::REREAD;

mod follower;
mod heard;

use follower::{Follower, Live, Out};
use heard::{Heard, StatusKey};

/// How long a line is silent at most before it bears a comment, so that nobody between closes it.
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
    /// When output came over pub/sub, or the record was read because none did.
    fresh_at: Instant,
    quiet_since: Instant,
    /// These two wait as long as the stream does: made anew for each piece, they would cost more than it.
    alarm: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What to do once all that is ready was sent.
enum Step {
    /// Tell what the job is, then replay.
    Begin(Box<Job>),
    /// Read the next kept chunks; with the ended job, if it has ended.
    Replay(Option<Box<Job>>),
    Follow,
    /// Tell that the job has ended.
    Done(Box<Job>),
    End,
}

impl Stream {
    /// A stream of `job`'s events after `last`; `news` was subscribed before `job` was read.
    pub(crate) fn new(app: Arc<App>, job: Job, news: Subscription, last: Option<ChunkId>) -> Self {
        let now = Instant::now();
        let stopping = Box::pin(app.stopping.clone().cancelled_owned());
        Self {
            app,
            id: job.id.clone(),
            news,
            follower: Follower::new(last),
            ready: VecDeque::new(),
            step: Step::Begin(Box::new(job)),
            last_status: None,
            fresh_at: now,
            quiet_since: now,
            alarm: Box::pin(sleep_until(now + REREAD)),
            stopping,
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
                return Some(frame(out.event, &out.id_text(), &out.data));
            }
            match std::mem::replace(&mut self.step, Step::End) {
                Step::Begin(job) => {
                    let status = self.status(&job);
                    self.step = Step::Replay(Some(job).filter(|job| job.status.is_terminal()));
                    return Some(status);
                }
                Step::Replay(ended) => {
                    if let Some(piece) = Box::pin(self.replay(ended)).await {
                        return Some(piece);
                    }
                }
                Step::Follow => {
                    self.step = Step::Follow;
                    if let Some(piece) = self.follow().await {
                        return Some(piece);
                    }
                }
                Step::Done(job) => {
                    count_read(&job);
                    return Some(frame(EventKind::Done, "", Event::of_job(&job).data.get()));
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
            Ok(page) => {
                // What came after the last page was read is heard.
                let last = page.len() < Queue::CHUNK_PAGE;
                for chunk in page {
                    self.follower.replayed(chunk, &mut self.ready);
                }
                self.step = match ended {
                    ended if !last => Step::Replay(ended),
                    Some(job) => Step::Done(job),
                    None => Step::Follow,
                };
                None
            }
            Err(error) => {
                tracing::debug!(%error, "chunks not read");
                self.step = Step::Replay(ended);
                self.pause().await
            }
        }
    }

    /// Waits for the next thing to happen.
    async fn follow(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            () = &mut self.stopping => {
                self.step = Step::End;
                None
            }
            message = self.news.next() => match message {
                Some(message) => self.heard(&message).await,
                None => {
                    self.step = Step::Replay(None);
                    Box::pin(self.look(false)).await
                }
            },
            () = &mut self.alarm => self.check().await,
        }
    }

    /// Reads again what may have been missed, after a silence; keeps the line open.
    async fn check(&mut self) -> Option<Bytes> {
        let now = Instant::now();
        // While output comes, nothing was missed; the alarm stays where it is until it goes off.
        let due = self.fresh_at + REREAD;
        if now < due {
            self.alarm.as_mut().reset(due);
            return None;
        }
        self.fresh_at = now;
        self.alarm.as_mut().reset(now + REREAD);
        if self.streaming() {
            self.step = Step::Replay(None);
        }
        let news = Box::pin(self.look(false)).await;
        news.or_else(|| (self.quiet_since.elapsed() + REREAD > KEEP_ALIVE).then(ping))
    }

    async fn heard(&mut self, message: &str) -> Option<Bytes> {
        let Ok(heard) = serde_json::from_str::<Heard<'_>>(message) else { return Box::pin(self.look(true)).await };
        match heard.event {
            EventKind::Chunk | EventKind::Attempt => match self.follower.live(heard.id.parse().ok()) {
                Live::Next => {
                    self.fresh_at = Instant::now();
                    Some(frame(heard.event, &heard.id, heard.data.get()))
                }
                Live::Known => None,
                Live::Gap => {
                    self.step = Step::Replay(None);
                    None
                }
            },
            EventKind::Truncated => {
                self.step = Step::Replay(None);
                None
            }
            EventKind::Status => match heard.status().filter(|told| told.is_newer_than(self.last_status.as_ref())) {
                Some(told) => {
                    self.last_status = Some(told);
                    Some(frame(EventKind::Status, "", heard.data.get()))
                }
                // Announcements of two changes may overtake each other: the record tells which is the newer.
                None => Box::pin(self.look(true)).await,
            },
            EventKind::Done => Box::pin(self.look(true)).await,
        }
    }

    /// Reads the record. `told`: somebody said that it changed, if only in its metadata.
    async fn look(&mut self, told: bool) -> Option<Bytes> {
        match self.app.queue.get(&self.id, false).await {
            Ok(Some(job)) if job.status.is_terminal() => {
                self.step = Step::Replay(Some(Box::new(job)));
                None
            }
            Ok(Some(job)) if told || self.is_news(&job) => Some(self.status(&job)),
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

    fn is_news(&self, job: &Job) -> bool {
        self.last_status.as_ref().is_none_or(|last| last.differs_from(&StatusKey::of(job)))
    }

    fn status(&mut self, job: &Job) -> Bytes {
        self.last_status = Some(StatusKey::of(job));
        frame(EventKind::Status, "", Event::of_job(job).data.get())
    }

    /// Waits a little; a line that is silent for long gets its comment here too.
    async fn pause(&mut self) -> Option<Bytes> {
        tokio::select! {
            () = &mut self.stopping => self.step = Step::End,
            () = tokio::time::sleep(PAUSE) => {}
        }
        (self.quiet_since.elapsed() >= KEEP_ALIVE).then(ping)
    }
}

fn ping() -> Bytes {
    Bytes::from_static(b": ping\n\n")
}

/// Writes one event; an empty `id` is none. In JSON a line break can only stand between tokens, where a space does as
/// well.
fn frame(event: EventKind, id: &str, data: &str) -> Bytes {
    let name = match event {
        EventKind::Status => "status",
        EventKind::Chunk => "chunk",
        EventKind::Attempt => "attempt",
        EventKind::Truncated => "truncated",
        EventKind::Done => "done",
    };
    let mut frame = String::with_capacity(id.len() + name.len() + data.len() + "id: \nevent: \ndata: \n\n".len());
    if !id.is_empty() {
        frame.extend(["id: ", id, "\n"]);
    }
    frame.extend(["event: ", name, "\ndata: "]);
    if data.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        frame.push_str(&data.replace(['\n', '\r'], " "));
    } else {
        frame.push_str(data);
    }
    frame.push_str("\n\n");
    Bytes::from(frame)
}
