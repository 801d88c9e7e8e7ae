//! All routes. Methods and paths stand at the handlers, where `#[utoipa::path]` documents them.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::{self, ApiError};
use crate::handlers::{bulk, collections, docs, events, health, jobs, keys, pools, results, stats, workers};
use crate::middleware::{guard, observe};
use crate::openapi;

/// The service; it also gives `app` the document of its routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (router, documented) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::index))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(docs::document))
        .routes(routes!(docs::docs))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
        .routes(routes!(jobs::list, jobs::submit))
        .routes(routes!(bulk::submit))
        .routes(routes!(bulk::cancel))
        .routes(routes!(bulk::retry))
        .routes(routes!(jobs::show, jobs::annotate, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(events::follow))
        .routes(routes!(results::show))
        .routes(routes!(keys::show))
        .routes(routes!(pools::list))
        .routes(routes!(pools::show))
        .routes(routes!(pools::pause))
        .routes(routes!(pools::resume))
        .routes(routes!(pools::demand))
        .routes(routes!(workers::list))
        .routes(routes!(stats::show))
        .routes(routes!(collections::list))
        .routes(routes!(collections::show, collections::forget))
        .split_for_parts();
    app.document.get_or_init(|| openapi::finish(&documented));
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(CatchPanicLayer::custom(error::of_panic))
        .layer(from_fn(observe))
        .with_state(app)
}

async fn no_route(_: Uri) -> ApiError {
    ApiError::nothing_here()
}

async fn no_method(_: Method) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}
