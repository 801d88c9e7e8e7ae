//! What the sidecar beside the GPUs says.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::infra::InfraView;

/// Tells of GPUs, containers and vLLM, as the configured sidecar does.
#[utoipa::path(
    get,
    path = "/api/v1/infra/status",
    tag = "fleet",
    responses((status = 200, description = "what the sidecar said last, and whether it answers", body = InfraView)),
)]
pub(crate) async fn show(State(app): State<Arc<App>>) -> Json<InfraView> {
    Json(app.infra.look().await)
}
