//! The trace that a job goes on in, as W3C Trace Context: <https://www.w3.org/TR/trace-context/>.

use std::str::FromStr as _;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The header that names a trace and the span in it that comes before.
pub const TRACEPARENT: &str = "traceparent";
/// The header of what tracing systems say beside it.
pub const TRACESTATE: &str = "tracestate";

/// Longest `tracestate` that is kept, in bytes: as much as everybody must be able to pass on.
const STATE_BYTES_MAX: usize = 512;
/// Bytes of a `traceparent` of version 00: `00-<trace id>-<span id>-<flags>`.
const PARENT_BYTES: usize = 55;

/// Where a job's trace goes on. Kept with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    #[serde(rename = "p")]
    parent: String,
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    state: String,
}

impl TraceContext {
    /// Reads the headers; `None` where there is no trace to go on with: the `traceparent` is not what it must be.
    ///
    /// Of a version to come the known fields count. A `tracestate` that is too long or cannot be read is left out.
    pub fn parse(parent: &str, state: &str) -> Option<Self> {
        let bytes = parent.as_bytes();
        let (known, more) = bytes.split_at_checked(PARENT_BYTES)?;
        let dashes = [2, 35, 52];
        let shaped = known.iter().enumerate().all(|(place, byte)| match dashes.contains(&place) {
            true => *byte == b'-',
            false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
        let ended = match &known[..2] {
            b"ff" => false,
            b"00" => more.is_empty(),
            _ => more.first().is_none_or(|byte| *byte == b'-'),
        };
        if !shaped || !ended {
            return None;
        }
        let flags = u8::from_str_radix(parent.get(53..PARENT_BYTES)?, 16).ok()?;
        let sampled = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        let (trace, span) = (parent.get(3..35)?, parent.get(36..52)?);
        let read = Self {
            parent: format!("00-{trace}-{span}-{sampled:02x}"),
            state: if is_state(state) { state.to_owned() } else { String::new() },
        };
        read.remote().is_valid().then_some(read)
    }

    /// What goes on from a span of ours; `None` where there is none.
    pub fn of(span: &SpanContext) -> Option<Self> {
        let flags = span.trace_flags() & TraceFlags::SAMPLED;
        let parent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
        span.is_valid().then(|| Self { parent, state: span.trace_state().header() })
    }

    /// The span that comes before, for one of ours to go on from; not a valid one where it was kept wrong.
    pub fn remote(&self) -> SpanContext {
        let part = |from, to| self.parent.get(from..to).unwrap_or_default();
        let trace = TraceId::from_hex(part(3, 35)).unwrap_or(TraceId::INVALID);
        let span = SpanId::from_hex(part(36, 52)).unwrap_or(SpanId::INVALID);
        let flags = if self.parent.ends_with("-01") { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let state = TraceState::from_str(&self.state).unwrap_or_default();
        SpanContext::new(trace, span, flags, true, state)
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// The header `tracestate`; empty: there is none.
    pub fn tracestate(&self) -> &str {
        &self.state
    }

    /// The trace's id, in hexadecimal.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }
}

fn is_state(text: &str) -> bool {
    text.len() <= STATE_BYTES_MAX && TraceState::from_str(text).is_ok()
}
