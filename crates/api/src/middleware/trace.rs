//! The span of a request in its caller's trace, where traces are on.
//!
//! A submit has one always, any other request where it comes with a trace: a poller's look every few seconds is worth none.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use overshot_common::trace::{self, TraceContext};
use overshot_traces::attribute;

const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
/// Where jobs are submitted.
const SUBMITS: [&str; 3] = ["/api/v1/jobs", "/api/v1/jobs/batch", "/api/v1/jobs/transcription"];

/// A request that is served, with its span open.
#[derive(Debug)]
pub(super) struct Serving(Context);

impl Serving {
    /// Begins the span. Without export it costs a look at a flag.
    pub(super) fn begin(request: &Request) -> Option<Self> {
        let tracer = overshot_traces::tracer()?;
        let route = request.extensions().get::<MatchedPath>()?.as_str();
        let method = request.method();
        let parent = given(request.headers()).map(|given| Context::new().with_remote_span_context(given.remote()));
        if parent.is_none() && !(*method == Method::POST && SUBMITS.contains(&route)) {
            return None;
        }
        let attributes = [
            KeyValue::new(attribute::HTTP_METHOD, method.to_string()),
            KeyValue::new(attribute::HTTP_ROUTE, route.to_owned()),
        ];
        let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
        let parent = parent.unwrap_or_default();
        let span = span.with_attributes(attributes).start_with_context(tracer, &parent);
        Some(Self(parent.with_span(span)))
    }

    /// What the request's work goes on from.
    pub(super) fn context(&self) -> Context {
        self.0.clone()
    }

    /// Ends the span with the answer's head; what streams behind it is not in it.
    pub(super) fn end(self, status: StatusCode) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new(attribute::HTTP_STATUS, i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// The caller's trace, where the headers hold a valid one.
pub(crate) fn given(headers: &HeaderMap) -> Option<TraceContext> {
    if !headers.contains_key(TRACEPARENT) {
        return None;
    }
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states = headers.get_all(trace::TRACESTATE).iter().filter_map(|state| state.to_str().ok());
    TraceContext::parse(parent.to_str().ok()?, &states.collect::<Vec<_>>().join(","))
}
