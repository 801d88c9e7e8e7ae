//! What a transcription needs beside its input: the audio, from beside the record or from where the caller says.

use overshot_common::code::ErrorCode;
use overshot_common::queue::ClaimedJob;
use overshot_common::task::transcription::{self, Transcription};
use serde_json::value::RawValue;

use super::INPUT_RETRY;
use crate::audio::Audio;
use crate::outcome::Outcome;
use crate::runner::station::Station;
use crate::tasks::Sink;

/// The audio of a job, and what earlier attempts at it left.
pub(super) struct Sound {
    pub(super) audio: Audio,
    pub(super) earlier: Option<Box<RawValue>>,
}

/// Gets it; each piece that arrives is progress.
pub(super) async fn of(
    station: &Station,
    job: &ClaimedJob,
    input: &RawValue,
    sink: &mut impl Sink,
) -> Result<Sound, Outcome> {
    let input =
        Transcription::parse(input).map_err(|mistake| Outcome::fail(ErrorCode::BadInput, mistake.to_string()))?;
    let audio = match input.audio {
        transcription::Audio::Upload(upload) => stored(station, job, &upload).await?,
        transcription::Audio::Url(url) => {
            let body = station.fetcher.get(&url, |bytes| sink.progress(bytes, None, "bytes")).await?;
            let path = url.split(['?', '#']).next().unwrap_or_default();
            Audio::new(body, path.rsplit('/').next())
        }
    };
    let earlier = if job.attempt > 1 { earlier(station, job).await } else { None };
    Ok(Sound { audio, earlier })
}

/// As long as Redis is away, again.
async fn stored(station: &Station, job: &ClaimedJob, upload: &transcription::Upload) -> Result<Audio, Outcome> {
    loop {
        match station.queue.audio(&job.id, upload.bytes).await {
            Ok(Some(bytes)) => return Ok(Audio::new(bytes, upload.filename.as_deref())),
            Ok(None) => return Err(Outcome::retry(ErrorCode::StorageError, "the job's audio is not in Redis")),
            Err(error) if error.is_transient() => tokio::time::sleep(INPUT_RETRY).await,
            Err(_) => return Err(Outcome::retry(ErrorCode::StorageError, "the job's audio cannot be read")),
        }
    }
}

/// The partial result of earlier attempts. Without it the result tells less, and is as good.
async fn earlier(station: &Station, job: &ClaimedJob) -> Option<Box<RawValue>> {
    station.queue.get(&job.id, false).await.ok().flatten()?.result
}
