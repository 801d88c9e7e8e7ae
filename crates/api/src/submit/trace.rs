//! A submit's part in its caller's trace: the context that goes with the jobs, and the span of handing them to the queue, within
//! the request's own (see [`crate::middleware::trace`]).

use axum::http::HeaderMap;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;
use overshot_common::ids::JobId;
use overshot_common::queue::NewJob;
use overshot_common::trace::TraceContext;
use overshot_traces::attribute;

use crate::error::ApiError;
use crate::middleware::trace;

/// Jobs on their way to the queue, in their caller's trace; where traces are on, in a span of our own. A request without a
/// trace pays for one look at its headers.
#[derive(Debug)]
pub(crate) struct Sending {
    /// What goes with the jobs.
    context: Option<Box<TraceContext>>,
    span: Option<Box<Span>>,
}

impl Sending {
    /// A single job, which takes the context along.
    pub(crate) fn one(headers: &HeaderMap, job: &mut NewJob) -> Self {
        let mut sending = Self::begin(headers, || {
            let pool = job.id.shard.pool.as_str();
            let attributes = vec![
                KeyValue::new(attribute::DESTINATION, pool.to_owned()),
                KeyValue::new(attribute::PARTITION, job.id.shard.number.to_string()),
                KeyValue::new(attribute::TASK, job.spec.task.clone()),
            ];
            (format!("send {pool}"), attributes)
        });
        job.spec.trace = sending.context.take();
        sending
    }

    /// So many jobs, which may go to several pools. Each is to be given the context.
    pub(crate) fn batch(headers: &HeaderMap, count: usize) -> Self {
        Self::begin(headers, || {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ("send".to_owned(), vec![KeyValue::new(attribute::BATCH_COUNT, count)])
        })
    }

    /// Gives a job the context.
    pub(crate) fn mark(&self, job: &mut NewJob) {
        job.spec.trace.clone_from(&self.context);
    }

    fn begin(headers: &HeaderMap, describe: impl FnOnce() -> (String, Vec<KeyValue>)) -> Self {
        let given = trace::given(headers);
        let sending = match overshot_traces::tracer() {
            None => Self { context: given.map(Box::new), span: None },
            Some(tracer) => {
                let (name, mut attributes) = describe();
                attributes.extend([
                    KeyValue::new(attribute::MESSAGING_SYSTEM, overshot_traces::SYSTEM),
                    KeyValue::new(attribute::OPERATION_TYPE, "send"),
                    KeyValue::new(attribute::OPERATION_NAME, "send"),
                ]);
                let span = tracer.span_builder(name).with_kind(SpanKind::Producer).with_attributes(attributes);
                let span = span.start_with_context(tracer, &Context::current());
                // What nobody asked for and nobody exports is not worth a byte of the record.
                let goes_on = given.is_some() || span.span_context().is_sampled();
                let context = TraceContext::of(span.span_context()).filter(|_| goes_on);
                Self { context: context.map(Box::new), span: Some(Box::new(span)) }
            }
        };
        if let Some(context) = &sending.context {
            tracing::Span::current().record("trace_id", context.trace_id());
        }
        sending
    }

    /// Ends the span, where there is one, with what the submit came to.
    pub(crate) fn end(self, outcome: Result<&JobId, &ApiError>) {
        let Some(mut span) = self.span else { return };
        match outcome {
            Ok(id) => span.set_attribute(KeyValue::new(attribute::MESSAGE_ID, id.to_string())),
            Err(error) => {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error.code()));
                span.set_status(Status::error(""));
            }
        }
        span.end();
    }
}
