//! Uploads of audio: a form is read as it comes, its file goes to Redis piece by piece, its other fields become the submit.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::BytesMut;
use multer::{Field, Multipart};
use overshot_common::ids::JobId;
use overshot_common::queue::{AUDIO_PIECE, keys};
use overshot_common::task::transcription::Upload;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::error::ApiError;
use crate::wire::job::missing;
use crate::{body, submit};

mod form;
mod stored;

use form::Form;
pub(crate) use stored::Stored;

/// What a form may hold beside its file: all fields together, and the lines around them.
const FIELDS_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a file that is kept, in bytes.
const FILENAME_BYTES_MAX: usize = 255;

/// A form that was read to its end.
#[derive(Debug)]
pub(crate) struct Received {
    /// The submit, as a caller would have written it as JSON, with the upload in `input.audio`.
    pub(crate) submit: Box<RawValue>,
    pub(crate) stored: Stored,
}

/// Reads a form. What it stored is dropped with the answer, unless a job takes it over.
pub(crate) async fn receive(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Received, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| ApiError::malformed("the body must be multipart/form-data with a boundary"))?;
    let limit = app.config.max_audio_bytes + FIELDS_BYTES_MAX;
    let mut parts = Multipart::new(body::limited(headers, body, limit)?, boundary);
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    // Held from here on: as many uploads at a time as Redis and this process have room for.
    let _turn = app.uploads.acquire().await.map_err(ApiError::internal)?;
    let (mut form, mut file) = (Form::default(), None);
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        if name != "file" {
            form.take(&name, &read_field(&name, part).await?)?;
            continue;
        }
        if file.is_some() {
            return Err(ApiError::invalid("file", "is given twice"));
        }
        let stored = Stored::new(app.clone(), place(app, &form)?);
        admit(app, stored.at(), declared).await?;
        file = Some(store(app, part, stored).await?);
    }
    let (upload, stored) = file.ok_or_else(|| missing("file"))?;
    Ok(Received { submit: form.into_submit(&upload)?, stored })
}

/// Where the job will be, as far as the fields that came before the file tell.
fn place(app: &App, form: &Form) -> Result<JobId, ApiError> {
    let task = submit::task(&app.config, form.text("task").unwrap_or("transcription"))?;
    let wanted = form.text("pool");
    let (pool, settings) = match submit::place(&app.config, wanted, &task) {
        Ok(place) => place,
        // The pool may follow the file.
        Err(_) if wanted.is_none() => app.config.pools.iter().next().ok_or_else(ApiError::pool_not_found)?,
        Err(error) => return Err(error),
    };
    Ok(JobId::in_pool(pool, settings.shards, form.text("concurrency_key")))
}

/// Refuses at once what the shard would refuse in the end.
async fn admit(app: &App, id: &JobId, bytes: u64) -> Result<(), ApiError> {
    let limits = app.limits_of(&id.shard.pool);
    let numbers = app.queue.numbers(&id.shard, limits.liveness).await?;
    let room = limits.max_queued_bytes.saturating_sub(numbers.queued_bytes);
    if bytes.saturating_sub(FIELDS_BYTES_MAX) > room { Err(ApiError::queue_full()) } else { Ok(()) }
}

async fn read_field(name: &str, mut field: Field<'_>) -> Result<String, ApiError> {
    let mut whole = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        whole.extend_from_slice(&bytes);
        if whole.len() as u64 > FIELDS_BYTES_MAX {
            return Err(ApiError::invalid(name, "is too long"));
        }
    }
    String::from_utf8(whole).map_err(|_| ApiError::invalid(name, "is not UTF-8"))
}

/// Stores the file; at most two pieces of it are in memory.
async fn store(app: &App, mut file: Field<'_>, stored: Stored) -> Result<(Upload, Stored), ApiError> {
    let filename = file.file_name().map(shortened).filter(|name| !name.is_empty());
    let (mut hash, mut bytes, mut stored) = (Sha256::new(), 0_u64, stored);
    let mut piece = BytesMut::with_capacity(AUDIO_PIECE);
    while let Some(mut chunk) = file.chunk().await.map_err(broken)? {
        bytes += chunk.len() as u64;
        if bytes > app.config.max_audio_bytes {
            return Err(ApiError::too_large(app.config.max_audio_bytes));
        }
        hash.update(&chunk);
        while !chunk.is_empty() {
            let room = AUDIO_PIECE - piece.len();
            piece.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
            if piece.len() == AUDIO_PIECE {
                stored.add(&piece).await?;
                piece.clear();
            }
        }
    }
    if bytes == 0 {
        return Err(ApiError::invalid("file", "is empty"));
    }
    if !piece.is_empty() {
        stored.add(&piece).await?;
    }
    let sha256 = keys::hex(&hash.finalize());
    Ok((Upload { sha256, bytes, filename }, stored))
}

/// The name without folders and control characters.
fn shortened(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut short = String::new();
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if short.len() + letter.len_utf8() > FILENAME_BYTES_MAX {
            break;
        }
        short.push(letter);
    }
    short
}

/// Why the form cannot be read; what the limit of the body says comes first.
fn broken(error: multer::Error) -> ApiError {
    if let multer::Error::StreamReadFailed(source) = error {
        return match source.downcast::<body::Refused>() {
            Ok(refused) => refused.0,
            Err(_) => ApiError::malformed("the body broke off"),
        };
    }
    ApiError::malformed("the body is no form that can be read")
}
