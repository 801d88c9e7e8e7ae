//! The publisher of one shard: sends what attempts put out, in order, as it comes.
//!
//! One call is in flight at a time, which keeps each attempt's order; what comes meanwhile goes with the next one.
//!
//! What was acknowledged is held for a while: a failover may forget it, and then it is sent again before what follows.

use std::sync::{Arc, Mutex, MutexGuard};

use overshot_common::job::{Phase, Progress};
use overshot_common::metrics;
use overshot_common::queue::{Error, Output, Published};
use tokio::sync::{Semaphore, mpsc};

use super::backoff::Backoff;
use super::registry::{Attempt, Stop};
use super::station::Station;

mod sent;
#[cfg(test)]
mod tests;

use sent::Sent;

/// Chunks of one attempt that may be under way; then its task waits.
const ROOM: u32 = 1024;
/// Most attempts, chunks and bytes of one call.
const ATTEMPTS_PER_CALL: usize = 64;
const CHUNKS_PER_CALL: usize = 256;
const BYTES_PER_CALL: usize = 1 << 20;

/// Where one attempt puts its output for the publisher.
#[derive(Debug)]
pub(crate) struct Outlet {
    attempt: Arc<Attempt>,
    /// A permit per chunk that may still be taken in; closed when nothing may any more.
    room: Semaphore,
    buffer: Mutex<Buffer>,
}

/// What was not yet sent.
#[derive(Debug, Default)]
struct Buffer {
    phase: Option<Phase>,
    /// Whose turn it is, where that changed: goes with what is told next.
    provider: Option<Arc<str>>,
    progress: Option<Progress>,
    /// The number of the first chunk in `chunks`.
    first: u64,
    chunks: Vec<String>,
    /// How many of them, the first ones, are sent again and have their permits back already.
    again: usize,
    sent: Sent,
    /// Whether readers were told what the attempt is at: a phase, or a chunk that says it.
    told: bool,
    /// Whether the publisher knows of it.
    announced: bool,
    /// Whether the attempt has come to its outcome: only the loss of its grant makes its chunks worthless now.
    finished: bool,
}

impl Outlet {
    pub(crate) fn new(attempt: Arc<Attempt>) -> Arc<Self> {
        Arc::new(Self { attempt, room: Semaphore::new(ROOM as usize), buffer: Mutex::default() })
    }

    /// Sends what comes after `last` once more, for an attempt that is over and its outlet closed.
    pub(crate) fn resend(&self, station: &Station, last: u64) -> Arc<Self> {
        let mut sent = std::mem::take(&mut self.lock().sent);
        let (first, chunks) = sent.take_back(last);
        let outlet = Self::new(self.attempt.clone());
        outlet.room.forget_permits(chunks.len());
        outlet.finish();
        outlet.fill(station, |buffer| (buffer.first, buffer.chunks, buffer.sent) = (first, chunks, sent));
        outlet
    }

    /// The number of the last chunk that was acknowledged, 0 none.
    pub(crate) fn last_acknowledged(&self) -> u64 {
        self.lock().sent.last
    }

    /// Takes a chunk, numbered without gaps from 1, and how far the attempt is; waits while the publisher is far behind.
    pub(crate) async fn chunk(
        self: &Arc<Self>,
        station: &Station,
        number: u64,
        data: String,
        progress: Option<Progress>,
    ) {
        let Ok(room) = self.room.acquire().await else { return };
        room.forget();
        self.fill(station, |buffer| {
            if buffer.chunks.is_empty() {
                buffer.first = number;
            }
            buffer.chunks.push(data);
            buffer.progress = progress.or(buffer.progress.take());
            buffer.told = true;
        });
    }

    /// Notes how far the attempt is.
    pub(crate) fn note_progress(self: &Arc<Self>, station: &Station, progress: Progress) {
        self.fill(station, |buffer| buffer.progress = Some(progress));
    }

    /// Notes what the attempt is at.
    pub(crate) fn note_phase(self: &Arc<Self>, station: &Station, phase: Phase) {
        self.fill(station, |buffer| (buffer.phase, buffer.told) = (Some(phase), true));
    }

    /// Notes whose turn it is: news by itself only to those who were told of another.
    pub(crate) fn note_provider(self: &Arc<Self>, station: &Station, name: &Arc<str>) {
        if self.told() {
            self.fill(station, |buffer| buffer.provider = Some(name.clone()));
        } else {
            self.lock().provider = Some(name.clone());
        }
    }

    /// Whether readers know what the attempt is at.
    pub(crate) fn told(&self) -> bool {
        self.lock().told
    }

    /// One whose chunks were all acknowledged.
    #[cfg(test)]
    pub(crate) fn of_acknowledged(attempt: &Arc<Attempt>, chunks: &[&str]) -> Arc<Self> {
        let outlet = Self::new(attempt.clone());
        outlet.lock().sent.hold(1, chunks.iter().map(|chunk| (*chunk).to_owned()).collect());
        outlet
    }

    /// The phase that is noted and not yet sent.
    #[cfg(test)]
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.lock().phase
    }

    /// Notes that the attempt has come to its outcome.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
    }

    /// Whether nobody needs what the attempt put out any more.
    fn is_moot(&self) -> bool {
        let why = self.attempt.asked_to_stop();
        self.is_cut() || why == Some(Stop::Lost) || (why.is_some() && !self.lock().finished)
    }

    /// Whether nothing more is let out.
    pub(crate) fn is_cut(&self) -> bool {
        self.room.is_closed()
    }

    /// Waits until all chunks were acknowledged or dropped. Cancel safe.
    pub(crate) async fn flushed(&self) {
        // Closed is as good: then none is under way that counts.
        let _ = self.room.acquire_many(ROOM).await;
    }

    /// Lets nothing more in or out; tells how many chunks that drops.
    pub(crate) fn close(&self) -> u64 {
        self.room.close();
        std::mem::take(&mut self.lock().chunks).len() as u64
    }

    fn fill(self: &Arc<Self>, station: &Station, add: impl FnOnce(&mut Buffer)) {
        let mut buffer = self.lock();
        add(&mut buffer);
        if !std::mem::replace(&mut buffer.announced, true) {
            // The publisher is gone only with the process.
            let _ = station.outlets.send(self.clone());
        }
    }

    /// Takes out what one call may carry; `true`: there is more.
    fn take(&self, most_chunks: usize, most_bytes: usize) -> (Output, bool) {
        let mut buffer = self.lock();
        let mut bytes = 0;
        let fitting = buffer.chunks.iter().take(most_chunks).take_while(|chunk| {
            bytes += chunk.len();
            bytes <= most_bytes
        });
        // One that is larger than a call by itself goes alone.
        let count = fitting.count().max(1).min(buffer.chunks.len());
        let rest = buffer.chunks.split_off(count);
        let chunks = std::mem::replace(&mut buffer.chunks, rest);
        let first = buffer.first;
        buffer.first += count as u64;
        buffer.announced = !buffer.chunks.is_empty();
        let (phase, provider, progress) = (buffer.phase.take(), buffer.provider.take(), buffer.progress.take());
        let held = self.attempt.held.clone();
        (Output { held, phase, provider, progress, acknowledged: buffer.sent.last, first, chunks }, buffer.announced)
    }

    /// Holds what was acknowledged, and makes room for as much.
    fn acknowledged(&self, output: Output) {
        let chunks = output.chunks.len();
        if chunks > 0 {
            // Before there is room: who waits for the flush asks for the last one next.
            self.lock().sent.hold(output.first, output.chunks);
        }
        self.make_room(chunks);
    }

    /// Makes room for as many chunks as were sent or dropped.
    fn make_room(&self, chunks: usize) {
        let again = {
            let mut buffer = self.lock();
            let again = buffer.again.min(chunks);
            buffer.again -= again;
            again
        };
        self.room.add_permits(chunks - again);
    }

    /// Puts back what was not published because Redis forgot what comes after `last`, and that before it.
    fn rewind(self: &Arc<Self>, station: &Station, output: Output, last: u64) {
        self.fill(station, |buffer| {
            // Under the lock: once it is cut, nothing is taken away again.
            if self.is_cut() {
                return;
            }
            let (first, mut chunks) = buffer.sent.take_back(last);
            if first + chunks.len() as u64 != output.first {
                // Those between were dropped, and numbers in the buffer have no gap.
                chunks.clear();
            }
            buffer.again += chunks.len();
            // Behind what came back of the same call already: an attempt may stand in it twice.
            let place = usize::try_from(output.first.saturating_sub(buffer.first)).unwrap_or(usize::MAX);
            buffer.first = buffer.first.min(output.first - chunks.len() as u64);
            chunks.extend(output.chunks);
            let place = place.min(buffer.chunks.len());
            buffer.chunks.splice(place..place, chunks);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().expect("no holder of this lock can panic")
    }
}

/// Sends until all who may put something out are gone.
pub(crate) async fn run(station: Arc<Station>, mut inbox: mpsc::UnboundedReceiver<Arc<Outlet>>) {
    while let Some(outlet) = inbox.recv().await {
        let mut call = Call::default();
        call.add(outlet, &station);
        while call.has_room() {
            let Ok(outlet) = inbox.try_recv() else { break };
            call.add(outlet, &station);
        }
        call.send(&station).await;
    }
}

/// What one call carries; outlets and outputs stand in the same order.
#[derive(Debug, Default)]
struct Call {
    outlets: Vec<Arc<Outlet>>,
    outputs: Vec<Output>,
    chunks: usize,
    bytes: usize,
}

impl Call {
    fn has_room(&self) -> bool {
        self.outlets.len() < ATTEMPTS_PER_CALL && self.chunks < CHUNKS_PER_CALL && self.bytes < BYTES_PER_CALL
    }

    fn add(&mut self, outlet: Arc<Outlet>, station: &Station) {
        let (output, more) = outlet.take(CHUNKS_PER_CALL - self.chunks, BYTES_PER_CALL - self.bytes);
        self.chunks += output.chunks.len();
        self.bytes += output.chunks.iter().map(String::len).sum::<usize>();
        if more {
            let _ = station.outlets.send(outlet.clone());
        }
        self.outlets.push(outlet);
        self.outputs.push(output);
    }

    /// Sends, again until it is acknowledged or nobody needs it any more: a chunk's id keeps it from counting twice.
    async fn send(mut self, station: &Station) {
        let mut backoff = Backoff::new();
        let max_chunks = u64::from(station.pool.settings.max_chunks);
        while !self.outputs.is_empty() {
            match station.queue.publish(&station.shard, max_chunks, &self.outputs).await {
                Ok(published) => return self.acknowledged(station, &published),
                Err(Error::Unavailable(_)) => {
                    backoff.wait().await;
                    self.keep_only_running();
                }
                Err(error) => {
                    tracing::debug!(%error, shard = %station.shard, "chunks dropped");
                    return self.dropped(station);
                }
            }
        }
    }

    fn acknowledged(self, station: &Station, published: &[Published]) {
        let mut chunks = 0;
        for ((outlet, output), published) in self.outlets.into_iter().zip(self.outputs).zip(published) {
            match published {
                Published::Kept => {
                    chunks += output.chunks.len() as u64;
                    outlet.acknowledged(output);
                }
                Published::Behind(last) => outlet.rewind(station, output, *last),
                Published::Lost => {
                    outlet.attempt.stop(Stop::Lost);
                    outlet.close();
                }
            }
        }
        if chunks > 0 {
            metrics::chunks_published(&station.pool.name, chunks);
        }
    }

    fn dropped(self, station: &Station) {
        for (outlet, output) in self.outlets.iter().zip(&self.outputs) {
            outlet.make_room(output.chunks.len());
        }
        metrics::chunks_dropped(&station.pool.name, self.chunks as u64);
    }

    /// Leaves out attempts that stopped before their end or closed their outlet meanwhile. Nothing may follow what is left out.
    fn keep_only_running(&mut self) {
        let both = self.outlets.drain(..).zip(self.outputs.drain(..));
        let (moot, running): (Vec<_>, Vec<_>) = both.partition(|(outlet, _)| outlet.is_moot());
        for (outlet, _) in moot {
            outlet.close();
        }
        (self.outlets, self.outputs) = running.into_iter().unzip();
    }
}
