//! The API document: what the routes say of themselves, and what holds for all of them.
//!
//! A handler documents its route with `#[utoipa::path]`, from which the router also takes method and path, so that no route
//! is undocumented. What every route shares (the errors of the guard, the form of errors, the token) is added here.

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

pub(crate) mod bodies;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Overshot",
        description = "A durable fleet of workers for AI-inference jobs: submit, wait, stream, cancel, retry; pools and workers.",
    ),
    components(schemas(bodies::Error, bodies::ErrorObject)),
    tags(
        (name = "jobs", description = "What is to be done, and what became of it"),
        (name = "fleet", description = "Pools and workers"),
        (name = "collections", description = "Vectors that outlive the jobs that made them"),
        (name = "health", description = "Open, without a token"),
    ),
)]
struct Base;

/// The document before any route.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The document of these routes, as JSON.
pub(crate) fn finish(routes: &utoipa::openapi::OpenApi) -> Bytes {
    let mut document = serde_json::to_value(routes).expect("a document always serializes");
    document["components"]["securitySchemes"] =
        json!({ "token": { "type": "http", "scheme": "bearer", "description": "one of the API's tokens" } });
    if let Some(paths) = document["paths"].as_object_mut() {
        // The router's mark of a segment that goes on to the end is no name of the document's.
        let named = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item));
        *paths = named.collect();
        for (path, item) in paths.iter_mut() {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                share(path, method, operation);
            }
        }
    }
    serde_json::to_vec(&document).expect("JSON always serializes").into()
}

/// Adds to one operation what it shares with others.
fn share(path: &str, method: &str, operation: &mut Value) {
    let guarded = path.starts_with("/api/") || path.starts_with("/v1/");
    let has_body = operation.get("requestBody").is_some();
    let mut shared = vec![];
    if guarded {
        operation["security"] = json!([{ "token": [] }]);
        shared.push((401, "a valid token is needed"));
        shared.push((403, "the token does not open this"));
        shared.push((429, "the token sends more requests than it may; `Retry-After` says when to come again"));
        shared.push((500, "a failure of ours; the log has the cause"));
        shared.push((
            503,
            "Redis cannot be reached or is full, or this process is stopping; `Retry-After` says when to come again",
        ));
    }
    if has_body || operation.get("parameters").is_some() {
        shared.push((400, "the request cannot be read"));
    }
    if has_body || method == "patch" {
        shared.push((408, "the body did not arrive in time"));
        shared.push((413, "the body is larger than `max_body_bytes`"));
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, description) in shared {
        responses.entry(status.to_string()).or_insert_with(|| json!({ "description": description }));
    }
    for response in responses.values_mut() {
        // A stream of events is no text as a whole, and the document has no form for its pieces.
        if let Some(events) = response.pointer_mut("/content/text~1event-stream").and_then(Value::as_object_mut) {
            events.remove("schema");
        }
    }
    let errors = responses
        .iter_mut()
        .filter(|(status, response)| *status >= &"400".to_owned() && response.get("content").is_none());
    errors.for_each(|(_, response)| response["content"] = error_content());
}

/// An error's body, in the two media types that it can have.
fn error_content() -> Value {
    let schema = json!({ "schema": { "$ref": "#/components/schemas/Error" } });
    let types = ["application/json", "application/problem+json"];
    Value::Object(types.into_iter().map(|name| (name.to_owned(), schema.clone())).collect::<Map<_, _>>())
}
