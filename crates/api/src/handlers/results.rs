//! A job's result by itself: whole from its record, or piece by piece where it is too large for that.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use overshot_common::ids::JobId;
use overshot_common::queue::{self, Form, StoredResult};
use overshot_common::task::embedding::{Manifest, PAGE, Page, page_name};

use crate::app::App;
use crate::error::ApiError;
use crate::openapi::bodies::JobPath;
use crate::params::Id;

/// Shows a job's result by itself, however large it is.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/result",
    tag = "jobs",
    params(JobPath),
    responses(
        (status = 200, description = "the result, as its task's `schema_version` says", body = Object),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 409, description = "the job has no result, or none yet"),
    ),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, Id(id): Id) -> Result<Response, ApiError> {
    let json = [(CONTENT_TYPE, "application/json")];
    let job = app.job(&id, false).await?;
    if let Some(result) = job.result {
        return Ok((json, Box::<str>::from(result).into_string()).into_response());
    }
    let Some(stored) = app.queue.stored_result(&id).await? else {
        return Err(ApiError::conflict("no_result", "the job has no result, or none yet"));
    };
    let pieces = Pieces::begin(app, id, stored).await?;
    // The head is there before the status is sent: a result that is gone is an error, not a body that breaks off.
    let pieces = stream::try_unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(piece.map(|piece| (piece, pieces)))
    });
    Ok((json, Body::from_stream(pieces)).into_response())
}

/// A large result on its way, at most one page of it in memory.
struct Pieces {
    app: Arc<App>,
    id: JobId,
    stored: StoredResult,
    manifest: Option<Manifest>,
    ready: VecDeque<Bytes>,
    /// The next page or part.
    number: usize,
    ended: bool,
}

impl Pieces {
    async fn begin(app: Arc<App>, id: JobId, stored: StoredResult) -> Result<Self, ApiError> {
        let (mut manifest, mut ready) = (None, VecDeque::new());
        let first = match stored.form() {
            Form::Vectors => Manifest::NAME.to_owned(),
            Form::Json(_) => StoredResult::part(0),
        };
        let read = read(&app, &id, &[first.as_bytes()]).await?.pop().flatten();
        let read = read.ok_or_else(ApiError::job_not_found)?;
        match stored.form() {
            Form::Vectors => {
                let found: Manifest = serde_json::from_slice(&read).map_err(ApiError::internal)?;
                let mut out = Vec::new();
                found.begin(&mut out);
                ready.push_back(out.into());
                manifest = Some(found);
            }
            Form::Json(_) => ready.push_back(read.into()),
        }
        let number = usize::from(manifest.is_none());
        Ok(Self { app, id, stored, manifest, ready, number, ended: false })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, queue::Error> {
        if let Some(piece) = self.ready.pop_front() {
            return Ok(Some(piece));
        }
        if self.ended {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        match (&self.manifest, self.stored.form()) {
            (Some(manifest), _) if number < manifest.pages() => self.page(manifest, number).await.map(Some),
            (Some(manifest), _) => {
                let mut out = Vec::new();
                manifest.end(self.stored.attempts.as_deref(), &mut out);
                self.ended = true;
                Ok(Some(out.into()))
            }
            (None, Form::Json(parts)) if number < parts => {
                let part = read(&self.app, &self.id, &[StoredResult::part(number).as_bytes()]).await?.pop().flatten();
                part.map(|part| Some(part.into())).ok_or_else(gone)
            }
            (None, _) => Ok(None),
        }
    }

    async fn page(&self, manifest: &Manifest, number: usize) -> Result<Bytes, queue::Error> {
        let count = (manifest.count - number * PAGE).min(PAGE);
        let page = read(&self.app, &self.id, &[page_name(number).as_bytes()]).await?.pop().flatten();
        let page = page.and_then(|page| Page::decode(&page, count)).ok_or_else(gone)?;
        let names: Vec<&[u8]> = page.keys.iter().map(|key| &key[..]).collect();
        let mut vectors = read(&self.app, &self.id, &names).await?;
        self.fetch_shelved(manifest, &page, &mut vectors).await?;
        let mut out = Vec::new();
        for (place, vector) in vectors.into_iter().enumerate() {
            let id = page.ids.get(place).map(String::as_str);
            manifest.vector(number * PAGE + place, id, vector.as_deref(), &mut out);
        }
        Ok(out.into())
    }

    /// Of what the job did not embed itself the vectors are in the collection, unless another job has changed them since.
    async fn fetch_shelved(
        &self,
        manifest: &Manifest,
        page: &Page,
        vectors: &mut [Option<Vec<u8>>],
    ) -> Result<(), queue::Error> {
        let missing: Vec<usize> = (0..vectors.len()).filter(|place| vectors[*place].is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let shelf = manifest.shelf.as_deref().filter(|_| page.ids.len() == page.keys.len()).ok_or_else(gone)?;
        let items: Vec<_> = missing.iter().map(|place| (page.ids[*place].as_str(), &page.keys[*place])).collect();
        for (place, vector) in missing.iter().zip(self.app.queue.look(shelf, &items).await?) {
            vectors[*place] = vector;
        }
        Ok(())
    }
}

async fn read(app: &App, id: &JobId, names: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, queue::Error> {
    app.queue.stashed(id, names).await
}

/// Run again by hand, or forgotten, while it was read.
fn gone() -> queue::Error {
    queue::Error::Corrupt("a part of a result is gone".to_owned())
}
