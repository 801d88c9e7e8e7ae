//! Extractors of paths, queries and bodies whose refusals wear the API's envelope.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use overshot_common::ids::JobId;

use crate::access::Caller;
use crate::app::App;
use crate::error::ApiError;
use crate::wire;

/// The only variable part of a path, decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segment = Path::<String>::from_request_parts(parts, state).await;
        segment.map(|Path(text)| Self(text)).map_err(|_| ApiError::malformed("the path is not UTF-8"))
    }
}

/// Who sent the request, as the guard found.
pub(crate) struct By(pub(crate) Arc<Caller>);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Arc<Caller>>().cloned();
        caller.map(Self).ok_or_else(|| ApiError::internal("a route that is not guarded asks who calls"))
    }
}

/// The id of a job in a path; an ill-formed one names no job, and neither does one that the caller may not see.
pub(crate) struct Id(pub(crate) JobId);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Segment(text) = Segment::from_request_parts(parts, app).await?;
        let By(caller) = By::from_request_parts(parts, app).await?;
        let id: JobId = text.parse().map_err(|_| ApiError::job_not_found())?;
        if caller.service().is_some() && !caller.sees_job(&app.job(&id, false).await?) {
            return Err(ApiError::job_not_found());
        }
        Ok(Self(id))
    }
}

/// The query, pair by pair.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        pairs.map(|Query(pairs)| Self(pairs)).map_err(|_| ApiError::malformed("the query cannot be read"))
    }
}

impl Pairs {
    /// The value of a name that may come once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(ApiError::invalid(name, "is given more than once")),
        }
    }

    /// `wait`: how long to wait for the end.
    pub(crate) fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let longest = Duration::from_secs(600);
        self.one("wait")?.map(|text| wire::duration("wait", text, &(wire::SHORTEST..=longest))).transpose()
    }

    /// `include`: whether the input is wanted.
    pub(crate) fn include_input(&self) -> Result<bool, ApiError> {
        match self.one("include")? {
            None => Ok(false),
            Some("input") => Ok(true),
            Some(_) => Err(ApiError::invalid("include", "can only be `input`")),
        }
    }
}

/// The whole body, within the configured limit.
pub(crate) struct Content(pub(crate) Bytes);

impl FromRequest<Arc<App>> for Content {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        crate::body::read(&parts.headers, body, app.config.max_body_bytes).await.map(Self)
    }
}
