//! The spans that ended and wait for their export: at most so many, and what finds no room is counted.
//!
//! The SDK's own queue drops without a word that others could read. So this one stands before it, with the same room: a span
//! that it lets in always finds a place there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use overshot_common::metrics;

/// OpenTelemetry's variable, and its default.
const ROOM: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const ROOM_DEFAULT: usize = 2048;

/// How many spans may wait, as OpenTelemetry's variable says.
pub(crate) fn room() -> usize {
    std::env::var(ROOM).ok().and_then(|room| room.trim().parse().ok()).unwrap_or(ROOM_DEFAULT)
}

/// How many spans wait. Shared by who lets them in and who sends them.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    spans: AtomicUsize,
    /// Whether one was dropped since the queue was last empty.
    full: AtomicBool,
}

impl Waiting {
    /// Takes a place of `room`; whether there was one.
    fn enter(&self, room: usize) -> bool {
        let more = |waiting| (waiting < room).then_some(waiting + 1);
        self.spans.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives places back: their spans are on their way.
    pub(crate) fn leave(&self, spans: usize) {
        if self.spans.fetch_sub(spans, Ordering::AcqRel) == spans {
            self.full.store(false, Ordering::Relaxed);
        }
    }
}

/// Lets spans into the queue of `inner` while there is room, and counts the others as lost.
#[derive(Debug)]
pub(crate) struct Bounded<P> {
    pub(crate) inner: P,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) room: usize,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.enter(self.room) {
            self.inner.on_end(span);
            return;
        }
        metrics::spans_exported(false, 1);
        if !self.waiting.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(room = self.room, "spans dropped, the collector is too slow for them");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
