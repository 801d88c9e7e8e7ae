//! The events of one job.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use overshot_common::queue::ChunkId;

use crate::app::App;
use crate::error::ApiError;
use crate::openapi::bodies::JobPath;
use crate::params::{Id, Pairs};
use crate::sse::Stream;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follows a job: replays what was put out, then goes on to its end.
///
/// `text/event-stream`. Events: `status` (the job without its result), `chunk` (`{"seq","attempt","text","delta"}`),
/// `attempt` (output starts anew), `truncated` (early chunks are gone), `done` (the whole job; then the stream ends).
/// Ids grow over all attempts: a reader that comes back with the last one gets what it missed, in order, once.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/events",
    tag = "jobs",
    params(
        JobPath,
        ("Last-Event-ID" = Option<String>, Header, description = "goes on after this event", pattern = "^([0-9]+-[0-9]+)?$"),
        ("last_event_id" = Option<String>, Query, description = "the same, for who cannot set headers",
            pattern = "^([0-9]+-[0-9]+)?$"),
    ),
    responses(
        (status = 200, description = "the events", body = String, content_type = "text/event-stream"),
        (status = 404, description = "there is no such job, or its retention is over"),
        (status = 422, description = "the id is none of this stream's"),
    ),
)]
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    Id(id): Id,
    query: Pairs,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = last_event_id(&headers, &query)?;
    // Subscribed before anything is read: what happens in between is heard.
    let news = app.events.follow(&id).await;
    let job = app.job(&id, false).await?;
    let stream = Stream::new(app, job, news, last);
    let pieces = futures_util::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Where the reader was: of its header, else of its query. An empty one is none.
fn last_event_id(headers: &HeaderMap, query: &Pairs) -> Result<Option<ChunkId>, ApiError> {
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let text = match header {
        Some(text) => Some(text),
        None => query.one("last_event_id")?,
    };
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| ApiError::invalid("last_event_id", "is none of this stream's ids")))
        .transpose()
}
