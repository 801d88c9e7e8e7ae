//! All routes. Methods and paths stand at the handlers, where `#[utoipa::path]` documents them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::{self, ApiError};
use crate::handlers::{
    bulk, collections, docs, events, explain, health, health_detail, infra, jobs, keys, pools, providers, results,
    stats, workers,
};
use crate::middleware::{guard, observe};
use crate::openapi;

/// The service; it also gives `app` the document of its routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (router, documented) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::index))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health_detail::show))
        .routes(routes!(docs::document))
        .routes(routes!(docs::docs))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
        .routes(routes!(jobs::list, jobs::submit))
        .routes(routes!(jobs::submit_upload))
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
        .routes(routes!(providers::status))
        .routes(routes!(collections::list))
        .routes(routes!(collections::show, collections::forget))
        .routes(routes!(workers::drain))
        .routes(routes!(infra::show))
        .routes(routes!(explain::show))
        .split_for_parts();
    app.document.get_or_init(|| openapi::finish(&documented));
    let cross_origin = cross_origin(&app.config.cors_origins);
    let router = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(CatchPanicLayer::custom(error::of_panic))
        .layer(from_fn(observe))
        .with_state(app);
    match cross_origin {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

/// Lets scripts of other pages call the API; `None` where no page is named.
fn cross_origin(origins: &[String]) -> Option<CorsLayer> {
    let from = match origins {
        [] => return None,
        [any] if any == "*" => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok())),
    };
    let headers =
        ["idempotency-key", "last-event-id", "traceparent", "tracestate", "x-request-id"].map(HeaderName::from_static);
    let layer = CorsLayer::new()
        .allow_origin(from)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([ACCEPT, AUTHORIZATION, CONTENT_TYPE].into_iter().chain(headers).collect::<Vec<_>>())
        .expose_headers([LOCATION, RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_secs(600));
    Some(layer)
}

async fn no_route(_: Uri) -> ApiError {
    ApiError::nothing_here()
}

async fn no_method(_: Method) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}
