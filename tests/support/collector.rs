//! A collector of traces in the test's own process: takes OTLP over HTTP and keeps what it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use tokio::net::TcpListener;

/// The collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    status: u16,
    requests: usize,
    bodies: Vec<Bytes>,
    headers: Vec<HeaderMap>,
}

/// A span as it was sent.
#[derive(Debug, Clone)]
pub struct CollectedSpan {
    /// The process' `service.name`.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 3: client, 4: producer, 5: consumer.
    pub kind: i32,
    /// In hexadecimal.
    pub trace_id: String,
    /// In hexadecimal.
    pub span_id: String,
    /// In hexadecimal; empty: none.
    pub parent: String,
    /// The trace and the span that each link names.
    pub links: Vec<(String, String)>,
    /// As text, whatever their type.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub is_error: bool,
}

impl CollectedSpan {
    /// An attribute as text; empty without one.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared { status: 200, ..Shared::default() }));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` must be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on; with any but 200 it takes nothing.
    pub fn answer(&self, status: u16) {
        self.lock().status = status;
    }

    /// How many requests came, taken or not.
    pub fn requests(&self) -> usize {
        self.lock().requests
    }

    /// The headers of what it took.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.lock().headers.clone()
    }

    /// All that it took, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bodies.iter().flatten().copied().collect()
    }

    /// All spans that it took.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        let bodies = self.lock().bodies.clone();
        bodies.into_iter().flat_map(spans_of).collect()
    }

    /// The spans of that name, those of each request in the order of their beginning.
    pub fn named(&self, name: &str) -> Vec<CollectedSpan> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no holder of this lock can panic")
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut shared = shared.lock().expect("no holder of this lock can panic");
    shared.requests += 1;
    if shared.status == 200 {
        shared.bodies.push(body);
        shared.headers.push(headers);
    }
    StatusCode::from_u16(shared.status).expect("a test names a real status")
}

fn spans_of(body: Bytes) -> Vec<CollectedSpan> {
    let request = ExportTraceServiceRequest::decode(body).expect("what comes is OTLP");
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let own = resource.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push((span.start_time_unix_nano, own.get("service.name").cloned().unwrap_or_default(), span));
        }
    }
    spans.sort_by_key(|(start, ..)| *start);
    let read = spans.into_iter().map(|(_, service, span)| CollectedSpan {
        service,
        name: span.name,
        kind: span.kind,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: attributes(span.attributes),
        is_error: span.status.is_some_and(|status| status.code == 2),
    });
    read.collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => list.values.into_iter().map(text).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
