//! The audio of uploaded jobs: kept in pieces beside the record, gone with it.
//!
//! It is stored before its job is accepted, under a TTL that `enqueue` lifts: neither a crash nor a refusal leaves anything
//! behind, and an accepted job has its audio.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis::{FromRedisValue as _, Value};

use super::error::Error;
use super::{Queue, keys, ms};
use crate::ids::JobId;

/// Bytes of a piece; the last one of an upload may be smaller. Small enough that none delays other calls.
pub const AUDIO_PIECE: usize = 256 << 10;
/// How long a stored piece waits for the rest of the upload and for its job.
const KEPT: Duration = Duration::from_secs(600);
/// Pieces that one call reads.
const PIECES_PER_CALL: u32 = 16;

/// How many pieces that many bytes are.
pub(super) fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(AUDIO_PIECE as u64)).unwrap_or(u32::MAX)
}

impl Queue {
    /// Stores one piece, numbered from 0, of the audio of a job that is yet to be accepted. Sent again, or with the job
    /// accepted meanwhile, it changes nothing.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Unavailable`]: it may or may not be stored; what is there vanishes by itself.
    pub async fn store_audio(&self, id: &JobId, number: u32, piece: &[u8]) -> Result<(), Error> {
        let reply = self.run(&self.inner.scripts.store, &id.shard, |command| {
            command.arg(id.local.as_str()).arg(number).arg(piece).arg(ms(KEPT));
        });
        reply.await.map(drop)
    }

    /// Reads the audio of a job; `None` when it is not there, or not whole.
    pub async fn audio(&self, id: &JobId, bytes: u64) -> Result<Option<Bytes>, Error> {
        let mut whole = BytesMut::with_capacity(usize::try_from(bytes).map_err(Error::corrupt)?);
        let (mut next, end) = (0, pieces(bytes));
        while next < end {
            let last = end.min(next + PIECES_PER_CALL);
            for piece in self.audio_pieces(id, next..last).await? {
                let Some(piece) = piece else { return Ok(None) };
                whole.extend_from_slice(&piece);
            }
            next = last;
        }
        Ok((whole.len() as u64 == bytes).then(|| whole.freeze()))
    }

    /// Copies the audio of a job that is yet to be accepted to another id, which may be in another shard.
    ///
    /// `false`: it is not there any more.
    pub async fn copy_audio(&self, from: &JobId, to: &JobId, bytes: u64) -> Result<bool, Error> {
        for number in 0..pieces(bytes) {
            let found = self.audio_pieces(from, number..number + 1).await?.pop().flatten();
            let Some(piece) = found else { return Ok(false) };
            self.store_audio(to, number, &piece).await?;
        }
        Ok(true)
    }

    /// Drops the audio of a job that was not accepted.
    pub async fn discard_audio(&self, id: &JobId) -> Result<(), Error> {
        let reply = self.run(&self.inner.scripts.discard, &id.shard, |command| {
            command.arg(id.local.as_str());
        });
        reply.await.map(drop)
    }

    async fn audio_pieces(&self, id: &JobId, numbers: std::ops::Range<u32>) -> Result<Vec<Option<Bytes>>, Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(keys::audio(id)).arg(numbers.collect::<Vec<_>>());
        let reply = self.inner.link.bulk(&id.shard, &pipe).await?.pop().unwrap_or(Value::Nil);
        Vec::<Option<Bytes>>::from_redis_value(reply).map_err(Error::from)
    }
}
