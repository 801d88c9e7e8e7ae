//! Audio that is stored and whose job is not accepted yet.

use std::sync::Arc;

use overshot_common::ids::JobId;

use crate::app::App;
use crate::error::ApiError;
use crate::submit::Prepared;

/// Pieces of audio under an id. Dropped before [`Stored::keep`], it takes them away again: at once, as far as Redis is
/// there, else they vanish by themselves. A job that was accepted meanwhile keeps its audio.
#[derive(Debug)]
pub(crate) struct Stored {
    app: Arc<App>,
    at: JobId,
    pieces: u32,
    bytes: u64,
    kept: bool,
}

impl Stored {
    pub(crate) fn new(app: Arc<App>, at: JobId) -> Self {
        Self { app, at, pieces: 0, bytes: 0, kept: false }
    }

    /// Under which id.
    pub(crate) fn at(&self) -> &JobId {
        &self.at
    }

    /// How much.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a piece.
    pub(crate) async fn add(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        self.app.queue.store_audio(&self.at, self.pieces, piece).await?;
        self.pieces += 1;
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Gives the job the id under which the audio is, where its place allows that.
    pub(crate) fn name(&self, prepared: &mut Prepared) {
        let job = &mut prepared.job;
        let keyed = job.concurrency_key.is_some();
        if self.at.shard == job.id.shard || (!keyed && self.at.shard.pool == job.id.shard.pool) {
            job.id = self.at.clone();
        }
    }

    /// Takes the audio to the id that the job has in the end.
    pub(crate) async fn follow(&mut self, id: &JobId) -> Result<(), ApiError> {
        if *id == self.at {
            return Ok(());
        }
        // What is copied is dropped with this, and what was there at once.
        let left = Self { app: self.app.clone(), at: std::mem::replace(&mut self.at, id.clone()), ..*self };
        if self.app.queue.copy_audio(&left.at, id, self.bytes).await? { Ok(()) } else { Err(ApiError::upload_lost()) }
    }

    /// Leaves the audio to its job.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if self.kept || self.pieces == 0 {
            return;
        }
        let (app, at) = (self.app.clone(), self.at.clone());
        tokio::spawn(async move {
            if let Err(error) = app.queue.discard_audio(&at).await {
                tracing::debug!(%error, "the audio of a job that was not accepted is left to its TTL");
            }
        });
    }
}
