//! Spans on their way to a collector, as OTLP over HTTP.
//!
//! A span that ends goes into a bounded [queue](crate::queue), or nowhere where that is full; a thread of the SDK's own sends
//! what is there, in batches. So no job waits for a collector, and none fails with it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use overshot_common::config::TracesConfig;
use overshot_common::metrics;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::queue::{self, Bounded, Waiting};

/// How long one request to the collector may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a process waits for its last spans.
const FLUSH: Duration = Duration::from_secs(3);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Makes spans, where they are exported. Without a collector this is all that a trace costs.
pub fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No client can be made.
    #[error("traces: no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    /// A variable of OpenTelemetry's is not what it must be.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Begins the export for the whole process, under the name `service` where no variable gives another.
///
/// Does nothing where no collector is configured, and at a second call. Needs a runtime, on which the requests then run.
///
/// # Errors
/// What is wrong with the variables.
pub fn start(config: &TracesConfig, service: &'static str) -> Result<Export, StartError> {
    let (Some(endpoint), None) = (&config.endpoint, tracer()) else { return Ok(Export(None)) };
    let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none());
    let http = http.build().map_err(StartError::Client)?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client { http, runtime: Handle::current() })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    let mut builder =
        SdkTracerProvider::builder().with_span_processor(bounded(exporter)).with_resource(resource(service));
    if let Some(ratio) = config.sample_ratio {
        builder = builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
    }
    let provider = builder.build();
    let _ = TRACER.set(provider.tracer("overshot"));
    Ok(Export(Some(provider)))
}

/// Sends what ends from a queue of its own.
fn bounded(exporter: opentelemetry_otlp::SpanExporter) -> Bounded<BatchSpanProcessor> {
    let (room, waiting) = (queue::room(), Arc::<Waiting>::default());
    let watched = Watched { exporter, failing: AtomicBool::new(false), waiting: Arc::clone(&waiting) };
    let config = BatchConfigBuilder::default().with_max_queue_size(room).build();
    Bounded { inner: BatchSpanProcessor::builder(watched).with_batch_config(config).build(), waiting, room }
}

/// Who exports: as the variables name it, else `service`.
fn resource(service: &'static str) -> Resource {
    let named = Resource::builder().build().get(&Key::new("service.name"));
    let named = named.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder.build() } else { builder.with_service_name(service).build() }
}

/// The export of this process.
#[derive(Debug)]
#[must_use = "what is not stopped loses its last spans"]
pub struct Export(Option<SdkTracerProvider>);

impl Export {
    /// Sends what is left, for at most 3 s; spans that end later are lost.
    ///
    /// # Cancel safety
    /// A dropped future waits no longer.
    pub async fn stop(self) {
        let Some(provider) = self.0 else { return };
        let (done, ended) = oneshot::channel();
        // The SDK blocks. A thread of its own, since a runtime would wait for one of its own.
        std::thread::spawn(move || {
            let _ = done.send(provider.shutdown_with_timeout(FLUSH));
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("last traces not exported");
        }
    }
}

/// Sends from the SDK's thread, which has no runtime, on the one of the process.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        self.runtime.spawn(async move { http.send_bytes(request).await }).await?
    }
}

/// An exporter whose failures show: counted, and told once.
struct Watched<E> {
    exporter: E,
    failing: AtomicBool,
    waiting: Arc<Waiting>,
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("failing", &self.failing).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.leave(spans);
        let exported = self.exporter.export(batch).await;
        metrics::spans_exported(exported.is_ok(), spans);
        if self.failing.swap(exported.is_err(), Ordering::Relaxed) != exported.is_err() {
            match &exported {
                Ok(()) => tracing::info!("traces are exported again"),
                // A status or "network error"; never what the collector wrote.
                Err(error) => tracing::warn!(%error, "traces not exported"),
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
