//! The span of an attempt at a job that came with a trace.
//!
//! Each attempt goes on from the span of the submit, as its child and with a link to it, so that a retry, or the run after a
//! reclaim, stands beside the first one. A job without a trace has no span: whether it is traced was decided when it came.

use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use overshot_common::code::ErrorCode;
use overshot_common::queue::{ClaimedJob, Verdict};
use overshot_traces::{self as traces, attribute};

use crate::runner::settler::Ending;
use crate::runner::station::Station;

/// The consumer's span, open. On the heap, as few attempts have one and each is moved.
#[derive(Debug)]
pub(crate) struct Run(Box<Context>);

impl Run {
    /// The span of an attempt, where the job has a trace and traces are on.
    pub(crate) fn begin(station: &Station, job: &ClaimedJob) -> Option<Self> {
        let tracer = traces::tracer()?;
        let before = job.spec.trace.as_deref()?.remote();
        if !before.is_valid() {
            return None;
        }
        let pool = station.pool.name.as_str();
        let attributes = [
            KeyValue::new(attribute::MESSAGING_SYSTEM, traces::SYSTEM),
            KeyValue::new(attribute::OPERATION_TYPE, "process"),
            KeyValue::new(attribute::OPERATION_NAME, "process"),
            KeyValue::new(attribute::DESTINATION, pool.to_owned()),
            KeyValue::new(attribute::PARTITION, station.shard.number.to_string()),
            KeyValue::new(attribute::CONSUMER_GROUP, traces::GROUP),
            KeyValue::new(attribute::CLIENT_ID, station.worker.to_string()),
            KeyValue::new(attribute::MESSAGE_ID, job.id.to_string()),
            KeyValue::new(attribute::RETRY_COUNT, i64::from(job.attempt.saturating_sub(1))),
            KeyValue::new(attribute::TASK, job.spec.task.clone()),
            KeyValue::new(attribute::WAITED, job.waited.as_secs_f64()),
        ];
        let span = tracer
            .span_builder(format!("process {pool}"))
            .with_kind(SpanKind::Consumer)
            .with_links(vec![Link::with_context(before.clone())])
            .with_attributes(attributes)
            .start_with_context(tracer, &Context::new().with_remote_span_context(before));
        Some(Self(Box::new(Context::new().with_span(span))))
    }

    /// What the attempt's calls go on from.
    pub(crate) fn context(&self) -> Context {
        Context::clone(&self.0)
    }

    /// Ends the span with what the attempt came to; `None`: its grant was lost.
    pub(crate) fn end(self, ending: Option<&Ending>, provider: Option<&str>) {
        let (outcome, code) = told(ending);
        let span = self.0.span();
        span.set_attribute(KeyValue::new(attribute::OUTCOME, outcome));
        if let Some(provider) = provider {
            span.set_attribute(KeyValue::new(attribute::PROVIDER, provider.to_owned()));
        }
        if let Some(code) = code {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, code.as_str()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

fn told(ending: Option<&Ending>) -> (&'static str, Option<ErrorCode>) {
    match ending {
        None => ("lost", None),
        Some(Ending::HandBack) => ("handed_back", None),
        Some(Ending::Snooze(_, error)) => ("snoozed", Some(error.code)),
        Some(Ending::Settle(settlement)) => match &settlement.verdict {
            Verdict::Completed(_) => ("completed", None),
            Verdict::Failed(error) => ("failed", Some(error.code)),
            // Whether attempts are left is for the queue to say.
            Verdict::Retry(error, _) => ("retry", Some(error.code)),
            Verdict::Cancelled(_) => ("cancelled", None),
        },
    }
}
