//! Traces: from the caller's span by way of the submit to each attempt and each call of a model, and nothing secret on the way.

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use support::{Answer, CollectedSpan, Collector, Fleet, FleetOptions, OpenAiStub, PATIENCE, Reply, assert_eventually};

use crate::settings::{chat, chat_with, stubbed};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const PROMPT: &str = "planted-prompt-c0ffee";
const COMPLETION: &str = "planted-completion-beefed";
const PROVIDER_BODY: &str = "planted-provider-body-0dd5";
const KEY: &str = "planted-provider-key-55d1";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A fleet that exports to the collector, soon.
fn exporting(config: String, collector: &Collector) -> FleetOptions {
    let options = FleetOptions::new(config).env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    options.env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

async fn submit(fleet: &Fleet, job: &Value, headers: &[(&str, &str)]) -> String {
    let request = fleet.client.request(Method::POST, "/api/v1/jobs").json(job);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer: Answer = fleet.client.send(request).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.id()
}

/// Asks API and worker to end, and waits until they have.
async fn stop(fleet: &mut Fleet) {
    for worker in &mut fleet.workers {
        worker.term();
        assert!(worker.wait(PATIENCE).await.success());
    }
    fleet.api.term();
    assert!(fleet.api.wait(PATIENCE).await.success());
}

fn shape(span: &CollectedSpan) -> (&str, i32, &str, &str) {
    (&span.service, span.kind, &span.trace_id, &span.parent)
}

/// The one span of that name.
fn only(collector: &Collector, what: &str) -> CollectedSpan {
    let mut found = collector.named(what);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn told<'a>(span: &'a CollectedSpan, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    names.iter().map(|name| (*name, span.attribute(name))).collect()
}

#[tokio::test]
async fn a_callers_trace_goes_on_through_submit_attempts_and_calls() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let config = stubbed(&stub, "").replace("kind = \"openai\"", "kind = \"openai\"\napi_key_env = \"PLANTED_KEY\"");
    let fleet = exporting(config, &collector).env("PLANTED_KEY", KEY).env("OVERSHOT_LOG", "debug").start().await;
    let body = format!("{{\"error\": {{\"message\": \"{PROVIDER_BODY} {PROMPT}\"}}}}");
    stub.push(Reply::status(500, &[], &body));
    stub.push(Reply::texts(&[COMPLETION, " more"]).then_end("stop"));
    let job = chat_with(PROMPT, &json!({ "metadata": { "k": "planted-metadata" } }));
    let id = submit(&fleet, &job, &[("traceparent", &traceparent("01")), ("tracestate", "a=1,b=2")]).await;
    let done = fleet.client.wait_end(&id).await;
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(2)), "{done}");
    assert_eventually!(collector.spans().len() == 6);

    let request = only(&collector, "POST /api/v1/jobs");
    assert_eq!(shape(&request), ("overshot-api", 2, TRACE, CALLER));
    let send = &only(&collector, "send chat");
    assert_eq!(shape(send), ("overshot-api", 4, TRACE, &*request.span_id));
    let of_queue = [
        ("messaging.system", "redis"),
        ("messaging.destination.name", "chat"),
        ("messaging.destination.partition.id", "0"),
        ("messaging.message.id", &*id),
    ];
    assert_eq!(told(send, &of_queue.map(|(name, _)| name)), of_queue);
    assert_eq!((send.attribute("messaging.operation.type"), send.is_error), ("send", false));

    let runs = collector.named("process chat");
    assert_eq!(runs.len(), 2, "{runs:#?}");
    for (place, run) in runs.iter().enumerate() {
        assert_eq!(shape(run), ("overshot-worker", 5, TRACE, &*send.span_id));
        assert_eq!(run.links, [(TRACE.to_owned(), send.span_id.clone())]);
        assert_eq!(told(run, &of_queue.map(|(name, _)| name)), of_queue);
        assert_eq!(run.attribute("messaging.operation.type"), "process");
        assert_eq!(run.attribute("messaging.consumer.group.name"), "workers");
        assert_eq!(run.attribute("retry.count"), place.to_string());
    }
    let ends = runs.iter().map(|run| (run.attribute("overshot.outcome"), run.attribute("error.type"), run.is_error));
    assert_eq!(ends.collect::<Vec<_>>(), [("retry", "provider_error", true), ("completed", "", false)]);

    let calls = collector.named("chat small");
    assert_eq!(calls.len(), 2, "{calls:#?}");
    for ((call, run), seen) in calls.iter().zip(&runs).zip(stub.seen()) {
        assert_eq!(shape(call), ("overshot-worker", 3, TRACE, &*run.span_id));
        let port = stub.base_url().rsplit(':').next().unwrap().trim_end_matches("/v1").to_owned();
        let asked = [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "small"),
            ("gen_ai.request.stream", "true"),
            ("server.address", "127.0.0.1"),
            ("server.port", &*port),
            ("overshot.provider", "stub"),
        ];
        assert_eq!(told(call, &asked.map(|(name, _)| name)), asked);
        assert_eq!(seen.headers["traceparent"], format!("00-{TRACE}-{}-01", call.span_id));
        assert_eq!(seen.headers["tracestate"], "a=1,b=2");
    }
    assert_eq!((calls[0].attribute("error.type"), calls[0].is_error), ("provider_error", true));
    let answered = [
        ("gen_ai.response.model", "stub-model"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.usage.input_tokens", "3"),
        ("gen_ai.usage.output_tokens", "4"),
        ("error.type", ""),
    ];
    assert_eq!(told(&calls[1], &answered.map(|(name, _)| name)), answered);
    let first: f64 = calls[1].attribute("gen_ai.response.time_to_first_chunk").parse().unwrap();
    assert!((0.0..20.0).contains(&first), "{first}");

    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for planted in [PROMPT, COMPLETION, PROVIDER_BODY, KEY, "planted-metadata"] {
        assert!(!bytes.contains(planted), "{planted} is in a span");
    }
    let named = format!("trace_id=\"{TRACE}\"");
    assert!(fleet.api.has_logged(&named) && fleet.workers[0].has_logged(&named), "log lines name the trace");
}

#[tokio::test]
async fn a_trace_that_its_caller_does_not_sample_goes_on_unseen() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let mut fleet = exporting(stubbed(&stub, ""), &collector).start().await;
    let id = submit(&fleet, &chat("hello"), &[("traceparent", &traceparent("00"))]).await;
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    let sent = stub.wait_for(1).await.headers["traceparent"].to_str().unwrap().to_owned();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
    assert!(!sent.contains(CALLER), "{sent}");
    stop(&mut fleet).await;
    assert_eq!((collector.requests(), collector.spans().len()), (0, 0));
}

#[tokio::test]
async fn what_is_left_is_exported_before_the_processes_end() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let later = exporting(stubbed(&stub, ""), &collector).env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let mut fleet = later.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=planted").start().await;
    // Without a caller's trace one begins here.
    let id = submit(&fleet, &chat("hello"), &[]).await;
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    assert_eq!(collector.requests(), 0);
    stop(&mut fleet).await;
    let (sends, runs) = (collector.named("send chat"), collector.named("process chat"));
    assert_eq!((sends.len(), runs.len(), collector.named("chat small").len()), (1, 1, 1), "{:#?}", collector.spans());
    let request = only(&collector, "POST /api/v1/jobs");
    assert_eq!((&*request.parent, &request.span_id), ("", &sends[0].parent));
    assert_eq!((&request.trace_id, &sends[0].trace_id), (&runs[0].trace_id, &runs[0].trace_id));
    assert!(collector.headers().iter().all(|headers| headers["x-key"] == "planted"));
}

#[tokio::test]
async fn jobs_of_a_batch_go_on_in_one_trace() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let fleet = exporting(stubbed(&stub, ""), &collector).start().await;
    let batch = json!({ "jobs": [chat("one"), chat("two"), { "task": "unknown", "input": {} }] });
    let request = fleet.client.request(Method::POST, "/api/v1/jobs/batch").json(&batch);
    let answer = fleet.client.send(request.header("traceparent", traceparent("01"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eventually!(collector.spans().len() == 6);
    let request = only(&collector, "POST /api/v1/jobs/batch");
    assert_eq!((&*request.trace_id, &*request.parent), (TRACE, CALLER));
    let sends = collector.named("send");
    assert_eq!(shape(&sends[0]), ("overshot-api", 4, TRACE, &*request.span_id));
    assert_eq!(sends[0].attribute("messaging.batch.message_count"), "3");
    let runs = collector.named("process chat");
    let parents: Vec<_> = runs.iter().map(|run| (&*run.trace_id, &run.parent)).collect();
    assert_eq!(parents, [(TRACE, &sends[0].span_id); 2]);
}

#[tokio::test]
async fn without_export_a_trace_is_kept_with_its_job_and_no_other_job_pays() {
    let stub = OpenAiStub::start().await;
    let fleet = Fleet::start(stubbed(&stub, "")).await;
    let valid = traceparent("01");
    for (headers, kept) in [
        (vec![], None),
        (vec![("traceparent", "00-0-0-01")], None),
        (vec![("traceparent", &*valid), ("traceparent", &*valid)], None),
        (vec![("tracestate", "a=1")], None),
        (vec![("traceparent", &*valid)], Some(format!(",\"c\":{{\"p\":\"{valid}\"}}"))),
        (
            vec![("traceparent", &*valid), ("tracestate", "a=1"), ("tracestate", "b=2")],
            Some(format!(",\"c\":{{\"p\":\"{valid}\",\"s\":\"a=1,b=2\"}}")),
        ),
    ] {
        let id = submit(&fleet, &chat("hello"), &headers).await;
        let done = fleet.client.wait_end(&id).await;
        assert_eq!(done["status"], "completed", "{done}");
        let key = format!("overshot:{{chat.0}}:j:{}", id.rsplit('-').next().unwrap());
        let facts = fleet.redis.cli(&["HGET", &key, "f"]).await;
        let redis::Value::BulkString(facts) = facts else { panic!("{facts:?}") };
        let facts = String::from_utf8_lossy(&facts).into_owned();
        let spec = format!("{{\"t\":\"chat\",\"m\":\"small\",\"s\":true{}}}\0", kept.clone().unwrap_or_default());
        assert!(facts.contains(&spec), "{headers:?}: {facts:?}");
    }
    assert!(stub.seen().iter().all(|seen| !seen.headers.contains_key("traceparent")));
}

#[tokio::test]
async fn a_collector_that_refuses_or_hangs_costs_no_job_and_holds_up_no_end() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    collector.answer(400);
    let mut fleet = exporting(stubbed(&stub, ""), &collector).start().await;
    let id = submit(&fleet, &chat("hello"), &[]).await;
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    fleet.api.wait_for_line("traces not exported").await;
    let worker = support::Client::new(&fleet.workers[0].address().await, None);
    assert_eventually!(worker.get("/metrics").await.text.contains("overshot_spans_lost_total 2"));
    collector.answer(200);
    let id = submit(&fleet, &chat("hello"), &[]).await;
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    fleet.api.wait_for_line("traces are exported again").await;
    assert_eventually!(worker.get("/metrics").await.text.contains("overshot_spans_exported_total 2"));
    drop(fleet);

    // Takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let options = FleetOptions::new(stubbed(&stub, "")).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let mut fleet = options.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_BSP_MAX_QUEUE_SIZE", "4").start().await;
    for _ in 0..20 {
        let id = submit(&fleet, &chat("hello"), &[]).await;
        assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    }
    // The worker made 40: one batch is under way, four wait, the others found no room.
    let worker = support::Client::new(&fleet.workers[0].address().await, None);
    assert_eventually!(spans_lost(&worker.get("/metrics").await.text) >= 32);
    fleet.workers[0].wait_for_line("spans dropped, the collector is too slow for them").await;
    let begun = Instant::now();
    stop(&mut fleet).await;
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

fn spans_lost(page: &str) -> u64 {
    let count = page.lines().find_map(|line| line.strip_prefix("overshot_spans_lost_total "));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{page}"))
}

#[tokio::test]
async fn other_requests_have_a_span_where_they_come_with_a_trace() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let fleet = exporting(stubbed(&stub, ""), &collector).start().await;
    let get = |path: &str| fleet.client.request(Method::GET, path);
    assert_eq!(fleet.client.send(get("/api/v1/pools")).await.status, 200);
    let planted = "/api/v1/jobs/planted-id?planted=query";
    let answer = fleet.client.send(get(planted).header("traceparent", traceparent("01"))).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
    let wrong = fleet.client.request(Method::POST, "/api/v1/jobs").json(&json!({ "task": PROMPT }));
    assert_eq!(fleet.client.send(wrong).await.status, 422);
    assert_eventually!(collector.spans().len() == 2);
    let look = only(&collector, "GET /api/v1/jobs/{id}");
    assert_eq!(shape(&look), ("overshot-api", 2, TRACE, CALLER));
    let of_http =
        [("http.request.method", "GET"), ("http.route", "/api/v1/jobs/{id}"), ("http.response.status_code", "404")];
    assert_eq!(told(&look, &of_http.map(|(name, _)| name)), of_http);
    assert!(!look.is_error, "a caller's mistake is none of the server's");
    assert_eq!(only(&collector, "POST /api/v1/jobs").attribute("http.response.status_code"), "422");
    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    assert!(!bytes.contains("planted"), "{bytes}");
}

#[tokio::test]
async fn texts_and_audio_are_traced_without_what_is_in_them() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let config = stubbed(&stub, "").replace("[providers.stub]", "[providers.stub]\nbatch_size = 1");
    let fleet = exporting(config, &collector).start().await;
    let traced = |path: &str| fleet.client.request(Method::POST, path).header("traceparent", traceparent("01"));

    stub.always(Reply::vectors());
    let job = json!({ "task": "embedding", "input": { "texts": [PROMPT, "another"] } });
    let id = fleet.client.send(traced("/api/v1/jobs").json(&job)).await.id();
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    assert_eventually!(collector.spans().len() == 5);
    let (run, calls) = (&collector.named("process chat")[0], collector.named("embeddings small"));
    assert_eq!(calls.len(), 2, "one per batch: {calls:#?}");
    for (call, seen) in calls.iter().zip(stub.seen()) {
        assert_eq!(shape(call), ("overshot-worker", 3, TRACE, &*run.span_id));
        assert_eq!(call.attribute("gen_ai.operation.name"), "embeddings");
        assert_eq!(seen.headers["traceparent"], format!("00-{TRACE}-{}-01", call.span_id));
    }

    let said = json!({ "text": COMPLETION, "language": "english", "duration": 1.0,
        "segments": [{ "start": 0.0, "end": 1.0, "text": COMPLETION }] });
    stub.always(Reply::status(200, &[], &said.to_string()));
    let audio = Part::bytes(crate::transcription::silence(1, 7)).file_name("planted-name.wav");
    let form = Form::new().text("prompt", PROMPT).part("file", audio);
    let answer = fleet.client.send(traced("/api/v1/jobs/transcription").multipart(form)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    fleet.client.wait_end(&answer.id()).await;
    assert_eventually!(
        collector.named("process chat").iter().any(|run| run.attribute("overshot.task") == "transcription")
    );
    // The API exports on its own, maybe later than the worker.
    assert_eventually!(!collector.named("POST /api/v1/jobs/transcription").is_empty());
    let (sends, calls) = (collector.named("send chat"), collector.named("transcription small"));
    let upload = only(&collector, "POST /api/v1/jobs/transcription");
    assert_eq!(shape(&upload), ("overshot-api", 2, TRACE, CALLER));
    assert_eq!(shape(&sends[1]), ("overshot-api", 4, TRACE, &*upload.span_id));
    assert_eq!(sends[1].attribute("messaging.message.id"), answer.id());
    assert!(!calls.is_empty() && calls.iter().all(|call| call.trace_id == TRACE), "{calls:#?}");

    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for planted in [PROMPT, COMPLETION, "planted-name", "RIFF"] {
        assert!(!bytes.contains(planted), "{planted} is in a span");
    }
}

#[tokio::test]
async fn the_run_after_a_killed_worker_is_one_more_beside_the_first() {
    let (stub, collector) = (OpenAiStub::start().await, Collector::start().await);
    let mut fleet = exporting(stubbed(&stub, ""), &collector).start().await;
    stub.push(Reply::hang());
    let id = submit(&fleet, &chat("hello"), &[("traceparent", &traceparent("01"))]).await;
    stub.wait_for(1).await;
    // What it had not sent yet goes with it.
    fleet.workers[0].kill();
    fleet.add_worker();
    assert_eq!(fleet.client.wait_end(&id).await["status"], "completed");
    assert_eventually!(collector.spans().len() == 4);
    let (send, run) = (&collector.named("send chat")[0], &collector.named("process chat")[0]);
    assert_eq!((&*run.trace_id, &run.parent, run.attribute("retry.count")), (TRACE, &send.span_id, "1"));
    assert_eq!(run.links, [(TRACE.to_owned(), send.span_id.clone())]);
}
