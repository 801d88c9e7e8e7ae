//! Single jobs, and the list of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use overshot_common::ids::JobId;
use overshot_common::job::{Job, Status};
use overshot_common::metrics::{self, Refusal};
use overshot_common::queue::{Annotated, Cancelled, Retried, Subscription};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::openapi::bodies::{self, JobPath, Trace, Wait};
use crate::params::{By, Content, Id, Pairs};
use crate::submit::trace::Sending;
use crate::submit::{self, Booked, Form, Prepared};
use crate::upload::{self, Received, Stored};
use crate::wire::filter::Listing;
use crate::wire::job::{KEY_BYTES_MAX, METADATA_PAIRS_MAX, changes, missing, too_many_pairs};
use crate::wire::{Fields, sized};
use crate::{audit, body, wait};

/// What an accepted job takes as JSON, about.
const JOB_BYTES: usize = 1024;

/// Submits a job.
///
/// Accepted is durable: nothing that was answered 202 is lost by a crash. With `wait` the call answers when the job ends,
/// or with 202 when the time is up first; the job goes on either way. With an idempotency key, the same key and body is
/// the same job.
#[utoipa::path(
    post,
    path = "/api/v1/jobs",
    tag = "jobs",
    params(
        Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "as `idempotency_key` in the body, kept 24 h",
            min_length = 1, max_length = 256),
        Trace,
    ),
    request_body = bodies::Submit,
    responses(
        (status = 200, description = "the ended job, or the job of that idempotency key", body = Job,
            headers(("Location" = String, description = "where the job is"))),
        (status = 202, description = "accepted", body = Job,
            headers(("Location" = String, description = "where the job is"))),
        (status = 404, description = "there is no such pool"),
        (status = 409, description = "another job holds the concurrency key, or the job of that idempotency key is gone"),
        (status = 422, description = "readable, but not what the API takes; `param` names the field"),
        (status = 429, description = "the pool holds as many waiting jobs or bytes as it may"),
    ),
)]
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    By(caller): By,
    query: Pairs,
    headers: HeaderMap,
    Content(content): Content,
) -> Result<Response, ApiError> {
    let time = query.wait()?;
    let key = idempotency_key(&headers)?;
    let document = body::document(&content)?;
    let mut prepared = submit::prepare(&app.config, &caller, document, key.as_deref(), Form::Json)?;
    drop(content);
    let sending = Sending::one(&headers, &mut prepared.job);
    submitted(&app, &caller, prepared, None, time, sending).await
}

/// Uploads audio and submits its transcription.
///
/// The form has OpenAI's fields of a transcription and those of a submit, in any order; `owner`, `metadata`, numbers and
/// booleans as JSON. Or `job`: the submit as JSON. The file goes to Redis as it comes.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/transcription",
    tag = "jobs",
    params(
        Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "as the field `idempotency_key`, kept 24 h",
            min_length = 1, max_length = 256),
        Trace,
    ),
    request_body(content = bodies::Upload, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "the ended job, or the job of that idempotency key", body = Job,
            headers(("Location" = String, description = "where the job is"))),
        (status = 202, description = "accepted", body = Job,
            headers(("Location" = String, description = "where the job is"))),
        (status = 404, description = "there is no such pool"),
        (status = 409, description = "another job holds the concurrency key, or the job of that idempotency key is gone"),
        (status = 422, description = "readable, but not what the API takes; `param` names the field"),
        (status = 429, description = "the pool holds as many waiting jobs or bytes as it may"),
    ),
)]
pub(crate) async fn submit_upload(
    State(app): State<Arc<App>>,
    By(caller): By,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let time = query.wait()?;
    let key = idempotency_key(&headers)?;
    let Received { submit, stored } = upload::receive(&app, &headers, body).await?;
    let mut prepared =
        submit::prepare(&app.config, &caller, submit.get(), key.as_deref(), Form::Upload(stored.bytes()))?;
    stored.name(&mut prepared);
    let sending = Sending::one(&headers, &mut prepared.job);
    submitted(&app, &caller, prepared, Some(stored), time, sending).await
}

/// Hands a submit to the queue and answers, at once or with the end of the job.
async fn submitted(
    app: &App,
    caller: &Caller,
    prepared: Prepared,
    stored: Option<Stored>,
    time: Option<Duration>,
    sending: Sending,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let shard = prepared.job.id.shard.clone();
    let accepted = accept(app, prepared, stored, time.is_some()).await;
    sending.end(accepted.as_ref().map(|(job, ..)| &job.id));
    let (job, news, known) = accepted.inspect_err(|error| {
        if error.cause().is_some() {
            metrics::submit_refused(&shard.pool, Refusal::Unavailable);
        }
    })?;
    audit::submitted(caller, std::iter::once(&job.id));
    let accepted = if known { StatusCode::OK } else { StatusCode::ACCEPTED };
    let (Some(time), Some(news), false) = (time, news, job.status.is_terminal()) else {
        return Ok(located(accepted, &job));
    };
    let id = job.id.clone();
    let job = match Box::pin(wait::for_the_end(app, &id, news, Some(job.clone()), began + time)).await {
        Ok(Some(job)) => job,
        // Accepted is accepted, whatever became of the wait.
        Ok(None) | Err(_) => job,
    };
    count_read(&job);
    Ok(located(if job.status.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED }, &job))
}

/// Hands a submit to the queue. A caller that waits follows the job from before it can end.
async fn accept(
    app: &App,
    mut prepared: Prepared,
    mut stored: Option<Stored>,
    waits: bool,
) -> Result<(Job, Option<Subscription>, bool), ApiError> {
    // What most submits pass by is on the heap: axum moves a request's future several times.
    let booked = match prepared.has_to_book() {
        true => Box::pin(submit::book(app, &mut prepared)).await?,
        false => Booked::Ours,
    };
    let news = if waits { Some(Box::pin(app.events.follow(&prepared.job.id)).await) } else { None };
    let ours = match booked {
        Booked::Known(job) => return Ok((*job, news, true)),
        Booked::Ours => true,
        Booked::Unfinished => false,
    };
    if let Some(stored) = &mut stored {
        Box::pin(stored.follow(&prepared.job.id)).await?;
    }
    let (job, sent) = prepared.send(ours);
    let pool = app.config.pool(&sent.id.shard.pool).ok_or_else(ApiError::pool_not_found)?;
    let submitted = app.groups.enqueue(app.limits(pool), job).await?;
    let (job, known) = submit::conclude(app, &sent, submitted).await?;
    if let Some(stored) = stored {
        stored.keep();
    }
    Ok((job, news, known))
}

/// Shows a job.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(
        JobPath,
        Wait,
        ("include" = Option<String>, Query, description = "`input` adds the input", pattern = "^input$"),
    ),
    responses(
        (status = 200, description = "the job as it is now, or as it ended", body = Job),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 422, description = "a parameter is not what the API takes"),
    ),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, Id(id): Id, query: Pairs) -> Result<Json<Job>, ApiError> {
    let (time, with_input) = (query.wait()?, query.include_input()?);
    if let Some(time) = time {
        ended(&app, &id, time).await?.ok_or_else(ApiError::job_not_found).map(drop)?;
    }
    let job = app.job(&id, with_input).await?;
    count_read(&job);
    Ok(Json(job))
}

/// Counts an answer that bears a result, for whoever wants to know that results are fetched at all.
pub(crate) fn count_read(job: &Job) {
    if job.status == Status::Completed {
        metrics::result_read(&job.id.shard.pool);
    }
}

async fn ended(app: &App, id: &JobId, time: Duration) -> Result<Option<Job>, ApiError> {
    let deadline = Instant::now() + time;
    let news = app.events.follow(id).await;
    Ok(wait::for_the_end(app, id, news, None, deadline).await?)
}

/// A part of a listing, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Job>,
    has_more: bool,
    /// What `after` takes for the next page. With a rare match a page may be short and still not the last.
    next: Option<String>,
}

/// Lists jobs, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    params(bodies::ListQuery),
    responses(
        (status = 200, description = "the jobs that match", body = JobList),
        (status = 404, description = "there is no such pool"),
        (status = 422, description = "a parameter is not what the API takes"),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, By(caller): By, query: Pairs) -> Result<Json<JobList>, ApiError> {
    let Listing { mut wanted, limit, after } = Listing::read(&query)?;
    if !wanted.narrow(&caller) {
        return Ok(Json(JobList { object: "list", data: Vec::new(), has_more: false, next: None }));
    }
    let shards = app.shards(wanted.pool.as_deref()).await?;
    let page = app.queue.list(&shards, &wanted.filter, after, limit).await?;
    let next = page.next.map(|next| next.to_string());
    Ok(Json(JobList { object: "list", data: page.jobs, has_more: next.is_some(), next }))
}

/// Cancels a job.
///
/// A waiting one is cancelled at once (200). A running one is asked to stop (202) and ends within seconds.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(JobPath),
    responses(
        (status = 200, description = "cancelled, now or before", body = Job),
        (status = 202, description = "its worker is asked to stop", body = Job),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 409, description = "the job has ended otherwise"),
    ),
)]
pub(crate) async fn cancel(app: State<Arc<App>>, by: By, id: Id) -> Result<Response, ApiError> {
    stop(app, by, id).await
}

/// Cancels a job: the same as its `/cancel`.
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(JobPath),
    responses(
        (status = 200, description = "cancelled, now or before", body = Job),
        (status = 202, description = "its worker is asked to stop", body = Job),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 409, description = "the job has ended otherwise"),
    ),
)]
pub(crate) async fn delete(app: State<Arc<App>>, by: By, id: Id) -> Result<Response, ApiError> {
    stop(app, by, id).await
}

async fn stop(State(app): State<Arc<App>>, By(caller): By, Id(id): Id) -> Result<Response, ApiError> {
    let answers = app.queue.cancel(&id.shard, &[id.local]).await?;
    let status = match answers.first() {
        None | Some(Cancelled::Unknown) => return Err(ApiError::job_not_found()),
        Some(Cancelled::Ended) => return Err(ApiError::conflict("job_already_ended", "the job has ended otherwise")),
        Some(Cancelled::Requested) => StatusCode::ACCEPTED,
        Some(Cancelled::Now | Cancelled::Before) => StatusCode::OK,
    };
    audit::note(&caller, "cancel", &id, 1);
    Ok((status, Json(app.job(&id, false).await?)).into_response())
}

/// Runs an ended job again, with a new budget of attempts and, where given, another input.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/retry",
    tag = "jobs",
    params(JobPath),
    request_body = Option<bodies::Retry>,
    responses(
        (status = 202, description = "queued again", body = Job,
            headers(("Location" = String, description = "where the job is"))),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 409, description = "the job has not ended, or another job holds its concurrency key"),
        (status = 422, description = "the new input is not what the task takes"),
        (status = 429, description = "the pool holds as many waiting jobs or bytes as it may"),
    ),
)]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    By(caller): By,
    Id(id): Id,
    Content(content): Content,
) -> Result<Response, ApiError> {
    let input = if content.trim_ascii().is_empty() {
        None
    } else {
        let mut from = Fields::of("", body::document(&content)?)?;
        let input = from.raw("input");
        from.finish()?;
        input
    };
    let input = match input {
        None => None,
        Some(new) => {
            let job = app.job(&id, true).await?;
            let task = submit::task(&app.config, &job.task)?;
            Some(submit::replaced_input(&task, &caller, new, job.input.as_deref().unwrap_or(new))?)
        }
    };
    let answers = app.queue.retry(&id.shard, app.limits_of(&id.shard.pool), input.as_deref(), &[id.local]).await?;
    match answers.into_iter().next() {
        None | Some(Retried::Unknown) => Err(ApiError::job_not_found()),
        Some(Retried::NotEnded) => Err(ApiError::conflict("job_not_ended", "the job has not ended yet")),
        Some(Retried::QueueFull) => Err(ApiError::queue_full()),
        Some(Retried::KeyHeld(holder)) => Err(ApiError::run_already_active(holder)),
        Some(Retried::Now(_)) => {
            audit::note(&caller, "retry", &id, 1);
            Ok(located(StatusCode::ACCEPTED, &app.job(&id, false).await?))
        }
    }
}

/// Merges pairs into a job's metadata, whatever its status.
#[utoipa::path(
    patch,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(JobPath),
    request_body = bodies::Annotate,
    responses(
        (status = 200, description = "the job with its new metadata", body = Job),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 422, description = "readable, but not what the API takes; `param` names the field"),
    ),
)]
pub(crate) async fn annotate(
    State(app): State<Arc<App>>,
    By(caller): By,
    Id(id): Id,
    Content(content): Content,
) -> Result<Json<Job>, ApiError> {
    let mut from = Fields::of("", body::document(&content)?)?;
    let metadata = from.raw("metadata");
    from.finish()?;
    let changes = changes(metadata.ok_or_else(|| missing("metadata"))?)?;
    match app.queue.annotate(&id, &changes, METADATA_PAIRS_MAX).await? {
        Annotated::Unknown => Err(ApiError::job_not_found()),
        Annotated::TooMany => Err(too_many_pairs()),
        Annotated::Now => {
            audit::note(&caller, "annotate", &id, 1);
            app.job(&id, false).await.map(Json)
        }
    }
}

/// A job and where to find it.
fn located(status: StatusCode, job: &Job) -> Response {
    let mut body = Vec::with_capacity(JOB_BYTES);
    serde_json::to_writer(&mut body, job).expect("texts, numbers and times always serialize");
    let location = format!("/api/v1/jobs/{}", job.id);
    (status, [(LOCATION, location), (CONTENT_TYPE, "application/json".to_owned())], body).into_response()
}

/// The header `Idempotency-Key`: a structured string or a bare token.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const NAME: &str = "Idempotency-Key";
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(NAME, "is given more than once"));
    }
    let text = value.to_str().map_err(|_| ApiError::invalid(NAME, "must be printable ASCII"))?.trim();
    let key = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    };
    sized(&key, KEY_BYTES_MAX).map_err(|problem| ApiError::invalid(NAME, problem))?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", value.parse().unwrap());
        idempotency_key(&headers)
    }

    #[test]
    fn an_idempotency_key_is_a_structured_string_or_bare() {
        assert_eq!(key("abc").unwrap().as_deref(), Some("abc"));
        assert_eq!(key("\"a b\\\"c\"").unwrap().as_deref(), Some("a b\"c"));
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn an_empty_or_endless_idempotency_key_is_refused() {
        for bad in ["", "\"\"", &"k".repeat(257)] {
            assert_eq!(key(bad).unwrap_err().status(), 422);
        }
    }
}
