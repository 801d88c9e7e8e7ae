//! What a transcription needs beside its input: the audio, from beside the record or from where the caller says.

use bytes::{Bytes, BytesMut};
use overshot_common::code::ErrorCode;
use overshot_common::queue::{AUDIO_PIECE, ClaimedJob};
use overshot_common::task::transcription::{self, Transcription};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::INPUT_RETRY;
use crate::audio::Audio;
use crate::outcome::Outcome;
use crate::runner::station::Station;
use crate::tasks::{Sink, Stash};

/// The name under which an attempt leaves what it has fetched; its pieces follow with their numbers.
const FETCHED: &str = "audio";
/// Pieces that one call reads.
const PIECES_PER_CALL: usize = 16;

/// The audio of a job, and what earlier attempts at it left.
pub(super) struct Sound {
    pub(super) audio: Audio,
    pub(super) earlier: Option<Box<RawValue>>,
    /// From where this attempt has fetched it.
    fetched: Option<String>,
}

/// Audio that an attempt has left.
#[derive(Serialize, Deserialize)]
struct Fetched {
    url: String,
    bytes: usize,
}

/// Gets it; each piece that arrives is progress.
pub(super) async fn of(
    station: &Station,
    job: &ClaimedJob,
    input: &RawValue,
    sink: &mut (impl Sink + Stash),
) -> Result<Sound, Outcome> {
    let input =
        Transcription::parse(input).map_err(|mistake| Outcome::fail(ErrorCode::BadInput, mistake.to_string()))?;
    let (audio, fetched) = match input.audio {
        transcription::Audio::Upload(upload) => (stored(station, job, &upload).await?, None),
        transcription::Audio::Url(url) => {
            let kept = kept(&url, sink).await;
            let is_new = kept.is_none();
            let body = match kept {
                Some(body) => body,
                None => station.fetcher.get(&url, |bytes| sink.progress(bytes, None, "bytes")).await?,
            };
            let path = url.split(['?', '#']).next().unwrap_or_default();
            (Audio::new(body, path.rsplit('/').next()), is_new.then_some(url))
        }
    };
    let earlier = if job.attempt > 1 { earlier(station, job).await } else { None };
    Ok(Sound { audio, earlier, fetched })
}

impl Sound {
    /// Leaves what was fetched to the next attempt: its URL may be over by then. Where that fails, it is fetched again.
    pub(super) async fn keep(&self, stash: &mut impl Stash) {
        let Some(url) = self.fetched.clone() else { return };
        let bytes = self.audio.bytes();
        let about = serde_json::to_vec(&Fetched { url, bytes: bytes.len() }).expect("a text and a number serialize");
        let pieces = bytes.chunks(AUDIO_PIECE).enumerate().map(|(number, piece)| (name(number), piece));
        let pieces: Vec<(String, &[u8])> = pieces.collect();
        let mut values: Vec<(&[u8], &[u8])> = pieces.iter().map(|(name, piece)| (name.as_bytes(), *piece)).collect();
        // Last: where it stands, all of it does.
        values.push((FETCHED.as_bytes(), &about));
        let _ = stash.put(&values, None).await;
    }
}

fn name(piece: usize) -> String {
    format!("{FETCHED}{piece}")
}

/// What an earlier attempt has fetched from there; `None` where there is nothing, or not all of it.
async fn kept(url: &str, stash: &mut impl Stash) -> Option<Bytes> {
    let about = stash.get(&[FETCHED.as_bytes()]).await.ok()?.pop()??;
    let about: Fetched = serde_json::from_slice(&about).ok().filter(|about: &Fetched| about.url == url)?;
    let mut whole = BytesMut::new();
    let names: Vec<String> = (0..about.bytes.div_ceil(AUDIO_PIECE)).map(name).collect();
    for names in names.chunks(PIECES_PER_CALL) {
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        for piece in stash.get(&names).await.ok()? {
            whole.extend_from_slice(&piece?);
        }
    }
    (whole.len() == about.bytes).then(|| whole.freeze())
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
