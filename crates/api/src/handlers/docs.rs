//! The API document, and a page on which people read it and try it out. Both are served from this process alone.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::app::App;
use crate::error::ApiError;
use crate::params::Segment;

/// The page's own files and nothing else; its styles and its icons are written into the page.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// What the page is told: where the document is.
static PAGE: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/openapi.json").try_it_out_enabled(true).persist_authorization(false);
    Arc::new(config.validator_url("none"))
});

/// The API document, in the form of `OpenAPI` 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "the document", body = Object)),
)]
pub(crate) async fn document(State(app): State<Arc<App>>) -> Response {
    let document = app.document.get().cloned().unwrap_or_else(Bytes::new);
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}

/// Leads to the page.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "health",
    responses((status = 303, description = "the page is at `/docs/`")),
)]
pub(crate) async fn docs() -> Redirect {
    Redirect::to("/docs/")
}

/// The document as a page to read and to try out.
#[utoipa::path(
    get,
    path = "/docs/",
    tag = "health",
    responses((status = 200, description = "the page", body = String, content_type = "text/html")),
)]
pub(crate) async fn page() -> Result<Response, ApiError> {
    serve("index.html")
}

/// A file of the page.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    tag = "health",
    params(("file" = String, Path, description = "the file's name", example = "swagger-ui.css")),
    responses(
        (status = 200, description = "the file", content_type = "*/*"),
        (status = 404, description = "there is no such file"),
    ),
)]
pub(crate) async fn file(Segment(name): Segment) -> Result<Response, ApiError> {
    serve(&name)
}

fn serve(name: &str) -> Result<Response, ApiError> {
    let file = utoipa_swagger_ui::serve(name, PAGE.clone()).map_err(|error| ApiError::internal(&*error))?;
    let file = file.ok_or_else(ApiError::nothing_here)?;
    let headers = [(CONTENT_TYPE, file.content_type.as_str()), (CONTENT_SECURITY_POLICY, POLICY)];
    Ok((headers, file.bytes.into_owned()).into_response())
}
