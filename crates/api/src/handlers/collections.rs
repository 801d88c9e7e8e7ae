//! Collections of vectors that embedding jobs keep.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use overshot_common::task::embedding::{Encoding, is_collection_name};
use serde_json::{Value, json};

use crate::app::App;
use crate::audit;
use crate::error::ApiError;
use crate::openapi::bodies;
use crate::params::{By, Pairs, Segment};

/// The most of one page.
const LIMIT_MAX: usize = 200;
/// The page of who does not say.
const LIMIT_DEFAULT: usize = 50;

/// Lists the collections that the caller may know of, by name.
#[utoipa::path(
    get,
    path = "/api/v1/collections",
    tag = "collections",
    params(bodies::PageQuery),
    responses(
        (status = 200, description = "a page of them", body = bodies::CollectionList),
        (status = 422, description = "a parameter is not what the API takes"),
    ),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, By(caller): By, query: Pairs) -> Result<Json<Value>, ApiError> {
    let (limit, after) = page(&query, &["limit", "after"])?;
    let mut names = match caller.service() {
        Some(service) => app.queue.collection_names_of(service, &after, limit + 1).await?,
        None => app.queue.collection_names(&after, limit + 1).await?,
    };
    let more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| more).cloned();
    let read = names.iter().map(|name| app.queue.collection(name, "", 1));
    let data: Vec<_> = try_join_all(read).await?.into_iter().flatten().map(|page| page.collection).collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": more, "next": next })))
}

/// Shows a page of a collection's vectors, by id.
#[utoipa::path(
    get,
    path = "/api/v1/collections/{name}",
    tag = "collections",
    params(
        bodies::CollectionPath,
        bodies::PageQuery,
        ("encoding_format" = Option<String>, Query, description = "`float`, the default, or `base64`", pattern = "^(float|base64)$"),
    ),
    responses(
        (status = 200, description = "the page, and what the collection is", body = bodies::CollectionPage),
        (status = 404, description = "there is no such collection"),
        (status = 422, description = "a parameter is not what the API takes"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(name): Segment,
    query: Pairs,
) -> Result<Response, ApiError> {
    let (limit, after) = page(&query, &["limit", "after", "encoding_format"])?;
    let encoding = match query.one("encoding_format")? {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(ApiError::invalid("encoding_format", "must be float or base64")),
    };
    let may_be = is_collection_name(&name) && caller.sees_collection(&name);
    let found = if may_be { app.queue.collection(&name, &after, limit).await? } else { None };
    let page = found.ok_or_else(ApiError::collection_not_found)?;
    let next = page.vectors.last().filter(|_| page.more).map(|(id, _)| id);
    // By hand: the vectors are JSON already where they are written.
    let mut out = br#"{"object":"list","collection":"#.to_vec();
    write(&mut out, &page.collection);
    out.extend_from_slice(b",\"data\":[");
    for (place, (id, packed)) in page.vectors.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"" } else { b"," });
        out.extend_from_slice(b"{\"object\":\"embedding\",\"id\":");
        write(&mut out, id);
        out.extend_from_slice(b",\"embedding\":");
        encoding.write(packed, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"has_more\":");
    write(&mut out, &page.more);
    out.extend_from_slice(b",\"next\":");
    write(&mut out, &next);
    out.push(b'}');
    Ok(([(CONTENT_TYPE, "application/json")], out).into_response())
}

/// Forgets a collection.
#[utoipa::path(
    delete,
    path = "/api/v1/collections/{name}",
    tag = "collections",
    params(bodies::CollectionPath),
    responses(
        (status = 204, description = "forgotten"),
        (status = 404, description = "there is no such collection"),
    ),
)]
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    By(caller): By,
    Segment(name): Segment,
) -> Result<StatusCode, ApiError> {
    let may_be = is_collection_name(&name) && caller.sees_collection(&name);
    let dropped = may_be && app.queue.drop_collection(&name).await?;
    if !dropped {
        return Err(ApiError::collection_not_found());
    }
    audit::note(&caller, "forget", &name, 1);
    Ok(StatusCode::NO_CONTENT)
}

/// `limit` and `after` of a query that holds nothing but these names.
fn page(query: &Pairs, known: &[&str]) -> Result<(usize, String), ApiError> {
    if let Some((name, _)) = query.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(ApiError::unprocessable("unknown_parameter", name.clone(), "is no known parameter"));
    }
    let limit = match query.one("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| ApiError::invalid("limit", "must be a whole number from 1 to 200"))?
        }
    };
    Ok((limit, query.one("after")?.unwrap_or_default().to_owned()))
}

fn write(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("texts, numbers and times always serialize into memory");
}
